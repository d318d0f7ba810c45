//! Whether this machine's clock and the dates of certificates go together.

use sealcast_identity::Certificate;

use super::Report;

/// What differs by more keeps messages from being handed on, by the default of `freshness.max_age_ms`.
const FAR_MS: u64 = 30_000;
const DAY_S: u64 = 86_400;
const SET_CLOCK: &str = "set this machine's clock and let it follow a time server: timedatectl set-ntp true, or chrony. \
                         If this clock is right, the other one is wrong";

/// Something that was written by somebody else's clock.
pub struct Later {
    /// What it is.
    pub what: &'static str,
    /// When, Unix ms.
    pub time_ms: u64,
    /// When it came, by this machine's clock in Unix ms, if it was the time then. `None` for a date of the past.
    pub came_ms: Option<u64>,
}

/// Compares this machine's clock, which says `now_ms`, with `others`. They may be `tolerance_ms` apart.
pub fn check_clock(report: &mut Report, now_ms: u64, tolerance_ms: u64, others: &[Later]) {
    let mut apart = Vec::new();
    let mut most = 0;
    for Later { what, time_ms, came_ms } in others {
        // Other checks may have taken seconds since it came.
        let here_ms = came_ms.unwrap_or(now_ms);
        let (ahead, behind) = (time_ms.saturating_sub(here_ms), here_ms.saturating_sub(*time_ms));
        // A date on the way has whole seconds.
        let by = if came_ms.is_some() { ahead.max(behind.saturating_sub(1_000)) } else { ahead };
        if by > tolerance_ms {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            apart.push(format!("{what} is {} {way} this clock", span(by)));
            most = most.max(by);
        }
    }
    let shown = crate::output::utc(now_ms / 1000);
    let names: Vec<&str> = others.iter().map(|other| other.what).collect();
    match most {
        0 if names.is_empty() => report.ok("clock", format!("{shown}, with nothing to compare it with")),
        0 => report.ok("clock", format!("{shown}, which fits {}", names.join(", "))),
        _ if most > FAR_MS => report.fail("clock", format!("{shown}, but {}", apart.join("; ")), SET_CLOCK),
        _ => report.warn("clock", format!("{shown}, but {}", apart.join("; ")), SET_CLOCK),
    }
}

/// When a certificate ends. `renewal` says who renews it and what to do if it has ended; `warn_part` of its lifetime before its
/// end, in percent, somebody should look.
pub fn check_certificate(
    report: &mut Report,
    check: &'static str,
    certificate: &Certificate,
    now_ms: u64,
    warn_part: u64,
    renewal: &str,
) {
    let (from_s, to_s, now_s) = (certificate.not_before_s(), certificate.not_after_s(), now_ms / 1000);
    let (name, end) = (certificate.common_name(), crate::output::utc(to_s));
    if now_s < from_s {
        let from = crate::output::utc(from_s);
        report.fail(check, format!("that of {name} is valid from {from} on, which is not yet"), SET_CLOCK);
    } else if now_s > to_s {
        report.fail(check, format!("that of {name} has expired: it ended {end}"), renewal);
    } else {
        let found = format!("that of {name} ends {end}, in {}", span((to_s - now_s) * 1000));
        if (to_s - now_s) * 100 < to_s.saturating_sub(from_s) * warn_part {
            report.warn(check, found, renewal);
        } else {
            report.ok(check, found);
        }
    }
}

/// In the unit that a person would use.
fn span(ms: u64) -> String {
    let (count, unit) = match ms / 1000 {
        s @ 0..=119 => (s, "s"),
        s @ 120..=7_199 => (s / 60, "min"),
        s if s < 2 * DAY_S => (s / 3_600, "h"),
        s => (s / DAY_S, "days"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use sealcast_identity::Root;

    use super::*;
    use crate::doctor::CheckVerdict::{self, Failure, Ok as Fine, Warning};

    const NOW_MS: u64 = 1_795_365_913_000;

    fn verdict(check: impl FnOnce(&mut Report)) -> (CheckVerdict, String) {
        let mut report = Report::new("agent", Path::new("."));
        check(&mut report);
        let [check] = report.checks() else { panic!("{:?}", report.checks()) };
        (check.verdict, check.found.clone())
    }

    #[test]
    fn a_clock_is_compared_with_what_others_wrote() {
        for (offset_ms, is_of_now, expected) in [
            (0, true, Fine),
            (2_000, true, Fine),
            // A date of the past may be as old as it likes.
            (-900_000, false, Fine),
            (-2_900, true, Fine),
            (-3_100, true, Warning),
            (2_001, false, Warning),
            (30_001, true, Failure),
            (-31_001, true, Failure),
        ] {
            let time_ms = NOW_MS.saturating_add_signed(offset_ms);
            let others = [Later { what: "the hub", time_ms, came_ms: is_of_now.then_some(NOW_MS) }];
            let (found, text) = verdict(|report| check_clock(report, NOW_MS, 2_000, &others));
            assert_eq!(found, expected, "{offset_ms} {is_of_now}: {text}");
        }
        // However long other checks take after it has come.
        let others = [Later { what: "the hub", time_ms: NOW_MS - 60_000, came_ms: Some(NOW_MS - 60_000) }];
        assert_eq!(verdict(|report| check_clock(report, NOW_MS, 2_000, &others)).0, Fine);
        let (found, text) = verdict(|report| check_clock(report, NOW_MS, 2_000, &[]));
        assert_eq!((found, text.as_str()), (Fine, "2026-11-22 16:45:13Z, with nothing to compare it with"));
    }

    #[test]
    fn a_certificate_is_told_before_it_ends() {
        const DAY_MS: u64 = 86_400_000;
        let root = Root::create("Test", NOW_MS, Duration::from_secs(400 * DAY_S)).unwrap();
        let certificate = root.certificate();
        let age = |days: i64| {
            let now_ms = NOW_MS.saturating_add_signed(days * DAY_MS as i64);
            verdict(|report| check_certificate(report, "certificate", certificate, now_ms, 25, "renew it"))
        };
        assert_eq!(age(1).0, Fine);
        assert_eq!(age(299).0, Fine);
        let (found, text) = age(301);
        assert_eq!(found, Warning, "{text}");
        assert!(text.contains("in 98 days") || text.contains("in 99 days"), "{text}");
        assert_eq!(age(401).0, Failure);
        let (found, text) = age(-2);
        assert_eq!(found, Failure);
        assert!(text.contains("not yet"), "{text}");
    }

    #[test]
    fn spans_are_in_the_unit_of_a_person() {
        for (ms, text) in [(1_999, "1 s"), (120_000, "2 min"), (7_200_000, "2 h"), (172_800_000, "2 days")] {
            assert_eq!(span(ms), text);
        }
    }
}
