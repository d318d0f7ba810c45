//! `sealcast quality`: try rules on a recording before they are switched on, and have rules proposed from one.

mod data;
#[cfg(test)]
mod pictures;
mod window;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use sealcast_lab::plot::{Ink, Join, Lane, Limit, Line, Mark, Marks, Plot, Span};
use sealcast_node::{config, files, output};
use sealcast_quality::{
    Action, Counts, Finding, Imported, Reason, Recording, RuleSet, SilenceEvent, Span as Time, TopicRules, TopicSpec,
    Trial, Tried, Understood, learn, try_rules,
};
use sealcast_reading::{Value, utc};
use serde::Serialize;

use self::{data::DataOptions, window::Window};

/// Up to so many readings, each is drawn; beyond, those that were found and how much was sent.
const DRAWN_ONE_BY_ONE: usize = 400;
/// Most labelled windows.
const MAX_WINDOWS: usize = 1_000;

/// `sealcast quality`.
#[derive(Subcommand)]
pub enum Command {
    /// Try rules on a recording: show what they would have blocked, flagged and sent, and why.
    Try(TryOptions),
    /// Learn rules from a recording of normal operation: print them as TOML, with the numbers behind them.
    Learn(LearnOptions),
}

/// `sealcast quality try`.
#[derive(clap::Args)]
pub struct TryOptions {
    /// TOML file with `[[quality]]` tables. It can be an agent's configuration.
    rules: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// The recording's topic [default: a topic that the rules' only filter matches].
    #[arg(long)]
    topic: Option<String>,
    /// Count a time window separately, and shade it in the picture: `2024-05-01 06:00:00/2024-05-01 08:00:00`.
    /// Can be repeated.
    #[arg(long, value_name = "FROM/TO")]
    window: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write a picture of the values and the verdicts, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Label of the values in the picture, with their unit.
    #[arg(long, default_value = "value", value_name = "TEXT")]
    unit: String,
}

/// `sealcast quality learn`.
#[derive(clap::Args)]
pub struct LearnOptions {
    #[command(flatten)]
    data: DataOptions,
    /// Learn only from the first part of the recording: the part before anything went wrong.
    #[arg(long, default_value_t = 100.0, value_name = "PERCENT", value_parser = percent)]
    first: f64,
    /// The topic filter of the proposed rules [default: "#", every topic].
    #[arg(long)]
    filter: Option<String>,
}

fn percent(text: &str) -> Result<f64, String> {
    let value: f64 =
        text.trim_end_matches('%').parse().map_err(|_| "give a number above 0 and at most 100".to_owned())?;
    if value > 0.0 && value <= 100.0 { Ok(value) } else { Err("give a number above 0 and at most 100".to_owned()) }
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Try(options) => run_try(&options),
        Command::Learn(options) => {
            let Imported { recording, understood } = options.data.read()?;
            let recording = recording.first(options.first / 100.0);
            let filter = options.filter.as_deref().unwrap_or("#");
            let proposal = learn(filter, &recording)
                .with_context(|| format!("cannot learn rules from {}", options.data.path.display()))?;
            // A filter that no agent would take is better said now.
            let toml = proposal.to_toml();
            parse_rules(&toml, Path::new(".")).with_context(|| format!("--filter {filter}"))?;
            // As comments: the output stays TOML, and the file that it goes to says what it was learnt from.
            output::line(&printable(&format!("# Read from {}", file_name(&options.data.path))))?;
            for line in understood.lines() {
                output::line(&printable(&format!("#   {line}")))?;
            }
            output::line("")?;
            if options.filter.is_none() {
                output::line(
                    "# The filter \"#\" is for every topic. Before an agent uses these rules, put the topic of the",
                )?;
                output::line(
                    "# recording in its place, for example \"plant/1/temperature\" (or learn with --filter).",
                )?;
            }
            output::line(toml.trim_end())
        }
    }
}

fn run_try(options: &TryOptions) -> Result<()> {
    ensure!(options.window.len() <= MAX_WINDOWS, "--window: give it at most {MAX_WINDOWS} times");
    let text = files::read(&options.rules)?;
    let (specs, rules) = parse_rules(&text, config::folder_of(&options.rules))
        .map_err(|error| config::Source::new(&options.rules, text).locate(error, &[]))?;
    let topic = match &options.topic {
        Some(topic) => topic.clone(),
        None => only_topic(&specs)?,
    };
    let rule = rules.find(&topic).with_context(|| {
        format!("{}: no [[quality]] table has a filter that matches topic {topic}", options.rules.display())
    })?;
    let Imported { recording, understood } = options.data.read()?;
    let windows = options.window.iter().map(|window| options.data.window(window)).collect::<Result<Vec<Window>>>()?;
    let trial = try_rules(&rules, &topic, &recording);
    let summary = Summary::new(&topic, rule, &recording, understood, &trial, &windows);
    if let Some(path) = &options.plot {
        let spec = specs.iter().find(|spec| spec.filter == rule.filter().as_str());
        let title = format!("{} by the rules of {}", file_name(&options.data.path), rule.filter().as_str());
        let plot = picture(title, &options.unit, spec, &trial, &windows);
        files::write(path, plot.to_svg().as_bytes(), files::Mode::Public)?;
    }
    if options.json { output::json(&summary) } else { summary.tell() }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What stands in a file may hold what a terminal would act on, and TOML's comments cannot hold.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Rules from a file of `[[quality]]` tables in `dir`, or from an agent's configuration that holds some.
fn parse_rules(text: &str, dir: &Path) -> Result<(Vec<TopicSpec>, Arc<RuleSet>)> {
    let mut file: toml::Table = toml::from_str(text).context("it is not a TOML file")?;
    let tables = file.remove("quality").context("it has no [[quality]] table")?;
    // Whatever else stands there must at least be what an agent takes: a slip of the pen is no rule that is left out.
    file.try_into::<sealcast_agent::AgentFile>()
        .context("beside [[quality]], it can have the keys of an agent's configuration only")?;
    let mut specs: Vec<TopicSpec> = tables.try_into().context("[[quality]]")?;
    sealcast_agent::read_schemas(&mut specs, dir)?;
    ensure!(!specs.is_empty(), "it has no [[quality]] table");
    let rules = RuleSet::new(specs.iter().cloned())?;
    Ok((specs, Arc::new(rules)))
}

/// A topic for the only rule there is.
fn only_topic(specs: &[TopicSpec]) -> Result<String> {
    let [spec] = specs else {
        let filters: Vec<&str> = specs.iter().map(|spec| spec.filter.as_str()).collect();
        bail!(
            "several rules could apply: name the recorded topic with --topic; there are rules for {}",
            filters.join(", ")
        );
    };
    let levels: Vec<&str> =
        spec.filter.split('/').map(|level| if matches!(level, "+" | "#") { "x" } else { level }).collect();
    Ok(levels.join("/"))
}

/// What a trial amounts to.
#[derive(Debug, Serialize)]
struct Summary {
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
    fn new(
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

    fn tell(&self) -> Result<()> {
        for line in self.read.lines() {
            output::line(&printable(&line))?;
        }
        output::line("")?;
        let period = self.period_ms.map(|ms| format!(", one in {}", Time(ms))).unwrap_or_default();
        output::line(&format!(
            "topic {} by the rules of {}\n{} readings from {} to {}{period}",
            self.topic, self.filter, self.all.readings, self.from, self.to
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
            output::table(["CHECK", "VERDICT", "READINGS", "FIRST", "WHY, THE FIRST TIME"], &rows)?;
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

fn float(value: &Value) -> f64 {
    match value {
        Value::Number(number) => number.to_f64(),
        _ => f64::NAN,
    }
}

/// A trial as a picture. Times are those of arrival, since those never go back.
fn picture(title: String, unit: &str, spec: Option<&TopicSpec>, trial: &Trial, windows: &[Window]) -> Plot {
    let counts = trial.counts();
    let one_by_one = counts.readings <= DRAWN_ONE_BY_ONE;
    let reports = spec.is_some_and(|spec| spec.report.is_some());
    let all = || trial.readings.iter();
    let values = |wanted: fn(&Tried) -> bool| {
        all().filter(move |tried| wanted(tried)).map(|tried| (tried.arrival_ms, float(&tried.value))).collect()
    };
    let mut plot = Plot {
        title,
        note: Noted { counts: &counts, reports }.to_string(),
        values: unit.to_owned(),
        lines: vec![Line {
            name: "measured".to_owned(),
            ink: Ink::Value,
            join: Join::Straight,
            points: unbroken(trial),
        }],
        limits: limits(spec),
        ..Plot::default()
    };
    for (at, window) in windows.iter().enumerate() {
        let mut inside = all().filter(|tried| window.holds(tried)).map(|tried| tried.arrival_ms);
        if let Some(from_ms) = inside.next() {
            let to_ms = inside.next_back().unwrap_or(from_ms);
            plot.spans.push(Span { from_ms, to_ms, name: (at + 1).to_string(), ink: Ink::Local });
        }
    }
    plot.spans.extend(silences(trial));
    if one_by_one && reports {
        let points = values(|tried| tried.sent);
        plot.lines.push(Line { name: "as the receiver has it".into(), ink: Ink::Held, join: Join::Steps, points });
    }
    let mut mark = |name: &str, ink, wanted: &dyn Fn(&Tried) -> bool| {
        let points: Vec<Mark> = all().filter(|tried| wanted(tried)).map(marked).collect();
        plot.marks.push(Marks { name: format!("{name} ({})", points.len()), ink, points });
    };
    if one_by_one {
        let passed = |tried: &Tried| tried.verdict.action() == Action::Pass;
        let name = if reports { "sent" } else { "passed" };
        mark(name, Ink::Sent, &|tried| passed(tried) && tried.sent);
        mark("not sent, within the band", Ink::Skipped, &|tried| passed(tried) && !tried.sent);
    }
    mark("flagged", Ink::Flagged, &|tried| tried.verdict.action() == Action::Flag);
    mark("blocked", Ink::Blocked, &|tried| tried.verdict.action() == Action::Block);
    if !one_by_one {
        let mut lane = |name: &str, ink, happened: fn(&Tried) -> bool| {
            let points = all().map(|tried| (tried.arrival_ms, happened(tried))).collect();
            plot.lanes.push(Lane { name: name.to_owned(), legend: String::new(), ink, points });
        };
        lane("flagged", Ink::Flagged, |tried| tried.verdict.action() == Action::Flag);
        lane("blocked", Ink::Blocked, |tried| tried.verdict.action() == Action::Block);
        lane("sent", Ink::Sent, |tried| tried.sent);
    }
    plot
}

/// What was measured, interrupted where a reading was blocked and where several are missing.
fn unbroken(trial: &Trial) -> Vec<(u64, f64)> {
    let neighbours = || trial.readings.iter().zip(trial.readings.iter().skip(1));
    let mut gaps: Vec<u64> = neighbours().map(|(a, b)| b.arrival_ms.saturating_sub(a.arrival_ms)).collect();
    gaps.sort_unstable();
    let longest = gaps.get(gaps.len() / 2).map_or(u64::MAX, |median| median.saturating_mul(3));
    let mut points: Vec<(u64, f64)> = Vec::new();
    for tried in &trial.readings {
        if let Some((last, _)) = points.last().filter(|(last, _)| tried.arrival_ms.saturating_sub(*last) > longest) {
            points.push((*last, f64::NAN));
        }
        let blocked = tried.verdict.action() == Action::Block;
        points.push((tried.arrival_ms, if blocked { f64::NAN } else { float(&tried.value) }));
    }
    points
}

fn marked(tried: &Tried) -> Mark {
    Mark { time_ms: tried.arrival_ms, value: float(&tried.value), text: tried.verdict.to_string() }
}

fn limits(spec: Option<&TopicSpec>) -> Vec<Limit> {
    let range = spec.and_then(|spec| spec.range.as_ref());
    let limit = |name: &str, value: Option<_>| {
        value.map(|value: sealcast_reading::Decimal| Limit { value: value.to_f64(), name: format!("{name} {value}") })
    };
    let both = range.map(|range| [limit("range.max", range.max), limit("range.min", range.min)]);
    both.into_iter().flatten().flatten().collect()
}

/// From when each silence was noticed to its end.
fn silences(trial: &Trial) -> Vec<Span> {
    let last = trial.readings.last().map_or(0, |tried| tried.arrival_ms);
    let mut spans: Vec<Span> = Vec::new();
    for (time_ms, event) in &trial.events {
        match event {
            SilenceEvent::Silent { .. } => {
                spans.push(Span { from_ms: *time_ms, to_ms: last, name: "silent".into(), ink: Ink::Flagged });
            }
            SilenceEvent::Heard { .. } => {
                if let Some(span) = spans.last_mut() {
                    span.to_ms = *time_ms;
                }
            }
        }
    }
    spans
}

struct Noted<'a> {
    counts: &'a Counts,
    reports: bool,
}

impl fmt::Display for Noted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { readings, passed, flagged, blocked, sent, .. } = self.counts;
        write!(f, "{readings} readings: {passed} passed, {flagged} flagged, {blocked} blocked")?;
        if self.reports {
            let percent = if *readings == 0 { 0.0 } else { *sent as f64 * 100.0 / *readings as f64 };
            write!(f, "; {sent} sent ({percent:.1} %)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_alone_or_in_an_agents_configuration() -> Result<()> {
        let rule = "[[quality]]\nfilter = 'a/+/#'\nrange = { max = 5 }\n";
        for text in [rule.to_owned(), format!("clear = ['open/#']\n{rule}")] {
            let (specs, rules) = parse_rules(&text, Path::new("."))?;
            assert_eq!(only_topic(&specs)?, "a/x/x");
            assert!(rules.find("a/x/x").is_some());
        }
        for (text, said) in [
            ("", "no [[quality]] table"),
            ("[[qality]]\nfilter = 'a'", "no [[quality]] table"),
            ("[[quality]]\nfilter = 'a'\n[[qality]]\nfilter = 'b'", "unknown field `qality`"),
            ("[[quality]]\nfilter = 'a'\nrnage = {}", "unknown field `rnage`"),
            ("[[quality]]\nfilter = 'a'\nrange = {}", "range: give min, max or both"),
        ] {
            let error = parse_rules(text, Path::new(".")).map_or_else(|error| format!("{error:#}"), |_| "taken".into());
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let (specs, _) = parse_rules("[[quality]]\nfilter = 'a'\n[[quality]]\nfilter = 'b'", Path::new("."))?;
        let error = only_topic(&specs).unwrap_or_else(|error| error.to_string());
        assert!(error.contains("--topic") && error.contains("a, b"), "{error}");
        Ok(())
    }
}
