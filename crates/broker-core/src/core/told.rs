//! What the log was told a moment ago. A client that is refused tries again, each second if it likes: it is logged once a
//! minute, with how often it has tried meanwhile.

use std::collections::BTreeMap;

/// The same is logged at most this often.
const QUIET_MS: u64 = 60_000;
/// Lines that are remembered. While all of them are younger than [`QUIET_MS`], no other is logged: a device could fill the
/// log with topics of its own making.
const MAX_LINES: usize = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Told(BTreeMap<Line, Logged>);

/// What is the same: what happened, to whom, and about what.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Line(&'static str, String, String);

struct Logged {
    at_ms: u64,
    /// How often it was not logged since.
    unlogged: u64,
}

impl Told {
    /// Whether to log that `what` happened to `device` about `about`, and how often it was not logged since the last time.
    pub fn due(&mut self, what: &'static str, device: &str, about: &str, now_ms: u64) -> Option<u64> {
        let is_quiet = |logged: &Logged| now_ms.saturating_sub(logged.at_ms) < QUIET_MS;
        let line = Line(what, device.to_owned(), about.to_owned());
        match self.0.get_mut(&line) {
            Some(logged) if is_quiet(logged) => {
                logged.unlogged += 1;
                None
            }
            Some(logged) => {
                logged.at_ms = now_ms;
                Some(std::mem::take(&mut logged.unlogged))
            }
            None => {
                if self.0.len() >= MAX_LINES {
                    self.0.retain(|_, logged| is_quiet(logged));
                }
                (self.0.len() < MAX_LINES).then(|| {
                    self.0.insert(line, Logged { at_ms: now_ms, unlogged: 0 });
                    0
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_once_a_minute() {
        let mut told = Told::default();
        let seconds: Vec<(u64, u64)> =
            (0..130).filter_map(|second| Some((second, told.due("refused", "a", "t", second * 1_000)?))).collect();
        assert_eq!(seconds, [(0, 0), (60, 59), (120, 59)]);
        assert_eq!(told.due("refused", "a", "u", 130_000), Some(0));
        assert_eq!(told.due("refused", "b", "t", 130_000), Some(0));
        assert_eq!(told.due("closed", "a", "t", 130_000), Some(0));
    }

    #[test]
    fn a_device_cannot_fill_the_log() {
        let mut told = Told::default();
        let flood = |told: &mut Told, now_ms| {
            (0..2 * MAX_LINES).filter(|at| told.due("refused", "a", &at.to_string(), now_ms).is_some()).count()
        };
        assert_eq!(flood(&mut told, 0), MAX_LINES);
        assert_eq!(told.0.len(), MAX_LINES);
        assert_eq!(flood(&mut told, QUIET_MS), MAX_LINES);
    }
}
