//! What processes say, kept for the case that the test fails.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::process::PATIENCE;

/// The newest lines are kept.
const MAX_LINES: usize = 4_000;

/// What a process said on both its outputs, also over several starts. Printed when its owner is dropped by a test that
/// fails; a test that passes prints nothing.
pub struct Log(Shared);

/// A hand on a [`Log`] that somebody else owns.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    title: String,
    begun: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    left_out: usize,
    /// Readers that have not come to the end of their pipe.
    readers: usize,
}

impl Log {
    pub fn new(title: String) -> Self {
        let inner = Inner { title, begun: Instant::now(), state: Mutex::default(), changed: Condvar::new() };
        Self(Shared(Arc::new(inner)))
    }

    pub fn share(&self) -> Shared {
        self.0.clone()
    }
}

impl std::ops::Deref for Log {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.print();
        }
    }
}

impl Shared {
    /// Notes something that happens to the process.
    pub fn note(&self, text: &str) {
        self.push("---", text);
    }

    /// Reads `pipe` to its end on a thread of its own; `each` line is handed on.
    pub fn read(
        &self,
        name: &'static str,
        pipe: impl Read + Send + 'static,
        mut each: impl FnMut(String) + Send + 'static,
    ) {
        self.state().readers += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let Ok(line) = line else { break };
                let line = String::from_utf8_lossy(&line).into_owned();
                log.push(name, &line);
                each(line);
            }
            log.state().readers -= 1;
            log.0.changed.notify_all();
        });
    }

    /// Waits until all readers are at the end of their pipes; a grandchild may hold one open for longer.
    pub fn wait_for_end(&self, patience: Duration) {
        self.wait(patience, |state| (state.readers == 0).then_some(()));
    }

    /// Waits until there is a line with all these parts, and gives it. What was said before counts too.
    #[track_caller]
    pub fn until(&self, parts: &[&str]) -> String {
        let found = self.wait(PATIENCE, |state| state.lines.iter().find(|line| has(line, parts)).cloned());
        found.unwrap_or_else(|| panic!("{} did not say {parts:?} within {PATIENCE:?}", self.0.title))
    }

    /// The lines so far with all these parts, each after the second at which it came and the output that it came on.
    pub fn lines(&self, parts: &[&str]) -> Vec<String> {
        self.state().lines.iter().filter(|line| has(line, parts)).cloned().collect()
    }

    /// How many lines so far contain `part`.
    pub fn count(&self, part: &str) -> usize {
        self.lines(&[part]).len()
    }

    /// All that was said so far.
    pub fn text(&self) -> String {
        self.lines(&[]).join("\n")
    }

    fn wait<T>(&self, patience: Duration, mut found: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if let Some(found) = found(&state) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn push(&self, name: &str, line: &str) {
        let at = self.0.begun.elapsed().as_secs_f64();
        let mut state = self.state();
        state.lines.push_back(format!("{at:9.3} {name} {line}"));
        if state.lines.len() > MAX_LINES {
            state.lines.pop_front();
            state.left_out += 1;
        }
        drop(state);
        self.0.changed.notify_all();
    }

    fn print(&self) {
        let state = self.state();
        let mut text = format!("======== {} said, seconds after its first start:\n", self.0.title);
        if state.left_out > 0 {
            text += &format!("          ({} older lines are left out)\n", state.left_out);
        }
        for line in &state.lines {
            text += line;
            text.push('\n');
        }
        eprintln!("{text}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has(line: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| line.contains(part))
}
