//! What `sealcast quality try` says of a trial.

use anyhow::Result;
use sealcast_node::output::{self, Column};
use sealcast_quality::{Counts, Finding, Reason, Recording, SilenceEvent, Span as Time, TopicRules, Trial, Understood};
use sealcast_reading::utc;
use serde::Serialize;

use super::window::Window;

/// What a trial amounts to.
#[derive(Debug, Serialize)]
pub struct Summary {
    topic: String,
    filter: String,
    from: String,
    to: String,
    period_ms: Option<u64>,
    /// How the recording was read.
    read: Understood,
    #[serde(flatten)]
    all: Figures,
    reasons: Vec<Why>,
    events: Vec<Said>,
    windows: Vec<WindowFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outside: Option<Figures>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    schema_left_out: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    readings: usize,
    passed: usize,
    flagged: usize,
    blocked: usize,
    found_percent: f64,
    sent: usize,
    sent_percent: f64,
}

impl From<Counts> for Figures {
    fn from(counts: Counts) -> Self {
        let percent = |part: f64| (part * 1e5).round() / 1e3;
        Self {
            readings: counts.readings,
            passed: counts.passed,
            flagged: counts.flagged,
            blocked: counts.blocked,
            found_percent: percent(counts.found_part()),
            sent: counts.sent,
            sent_percent: percent(if counts.readings == 0 { 0.0 } else { counts.sent as f64 / counts.readings as f64 }),
        }
    }
}

impl Figures {
    fn cells(&self, name: &str) -> [String; 7] {
        [
            name.to_owned(),
            self.readings.to_string(),
            self.passed.to_string(),
            self.flagged.to_string(),
            self.blocked.to_string(),
            format!("{} %", self.found_percent),
            format!("{} ({} %)", self.sent, self.sent_percent),
        ]
    }
}

/// One kind of reason.
#[derive(Debug, Serialize)]
struct Why {
    check: &'static str,
    action: &'static str,
    readings: usize,
    first: String,
    first_ms: u64,
    /// The first one, in words.
    reason: String,
}

#[derive(Debug, Serialize)]
struct Said {
    time: String,
    time_ms: u64,
    what: String,
}

#[derive(Debug, Serialize)]
struct WindowFigures {
    from: String,
    to: String,
    #[serde(flatten)]
    figures: Figures,
}

impl Summary {
    /// Of a recording by one rule, with the windows that count apart.
    pub fn new(
        topic: &str,
        rule: &TopicRules,
        recording: &Recording,
        read: Understood,
        trial: &Trial,
        windows: &[Window],
    ) -> Self {
        let stamps = || trial.readings.iter().map(|tried| tried.time_ms);
        let in_window = |window: &Window| WindowFigures {
            from: utc(window.from_ms),
            to: utc(window.to_ms),
            figures: trial.counts_where(|tried| window.holds(tried)).into(),
        };
        let outside = || trial.counts_where(|tried| !windows.iter().any(|window| window.holds(tried))).into();
        Self {
            topic: topic.to_owned(),
            filter: rule.filter().as_str().to_owned(),
            from: utc(stamps().next().unwrap_or(0)),
            to: utc(stamps().next_back().unwrap_or(0)),
            period_ms: recording.period_ms(),
            read,
            all: trial.counts().into(),
            reasons: reasons(trial),
            events: trial.events.iter().map(Said::new).collect(),
            windows: windows.iter().map(in_window).collect(),
            outside: (!windows.is_empty()).then(outside),
            schema_left_out: rule.wants_document(),
        }
    }

    /// In words and tables.
    pub fn tell(&self) -> Result<()> {
        for line in self.read.lines() {
            output::line(&printable(&line))?;
        }
        output::line("")?;
        let period = self.period_ms.map(|ms| format!(", one in {}", Time(ms))).unwrap_or_default();
        output::line(&format!(
            "topic {} by the rules of {}\n{} reading{} from {} to {}{period}",
            self.topic,
            self.filter,
            self.all.readings,
            if self.all.readings == 1 { "" } else { "s" },
            self.from,
            self.to
        ))?;
        if self.schema_left_out {
            output::line("its schema was not tried: a recording holds values, not messages")?;
        }
        output::line("")?;
        let mut rows = vec![self.all.cells("all")];
        for window in &self.windows {
            rows.push(window.figures.cells(&format!("{} to {}", window.from, window.to)));
        }
        rows.extend(self.outside.as_ref().map(|figures| figures.cells("outside of these")));
        output::table(["", "READINGS", "PASSED", "FLAGGED", "BLOCKED", "FOUND", "SENT"], &rows)?;
        output::line("")?;
        if self.reasons.is_empty() {
            output::line("the checks found nothing")?;
        } else {
            let rows: Vec<[String; 5]> = self.reasons.iter().map(Why::cells).collect();
            let header = [
                "CHECK".into(),
                "VERDICT".into(),
                "READINGS".into(),
                "FIRST".into(),
                Column::below("WHY, THE FIRST TIME"),
            ];
            output::table(header, &rows)?;
        }
        for said in &self.events {
            output::line(&format!("{}  {}", said.time, said.what))?;
        }
        Ok(())
    }
}

impl Why {
    fn cells(&self) -> [String; 5] {
        [
            self.check.to_owned(),
            self.action.to_owned(),
            self.readings.to_string(),
            self.first.clone(),
            self.reason.clone(),
        ]
    }
}

impl Said {
    fn new((time_ms, event): &(u64, SilenceEvent)) -> Self {
        Self { time: utc(*time_ms), time_ms: *time_ms, what: event.to_string() }
    }
}

/// Each kind of reason once, in the order in which they came up.
fn reasons(trial: &Trial) -> Vec<Why> {
    let kind = |finding: &Finding| (finding.check, finding.action, std::mem::discriminant::<Reason>(&finding.reason));
    let mut kinds = Vec::new();
    let mut reasons: Vec<Why> = Vec::new();
    for tried in &trial.readings {
        for finding in tried.verdict.findings() {
            let at = kinds.iter().position(|known| *known == kind(finding));
            if let Some(why) = at.and_then(|at| reasons.get_mut(at)) {
                why.readings += 1;
                continue;
            }
            kinds.push(kind(finding));
            reasons.push(Why {
                check: finding.check.as_str(),
                action: finding.action.as_str(),
                readings: 1,
                first: utc(tried.time_ms),
                first_ms: tried.time_ms,
                reason: finding.reason.to_string(),
            });
        }
    }
    reasons
}

/// What stands in a file may hold what a terminal would act on, and TOML's comments cannot hold.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
