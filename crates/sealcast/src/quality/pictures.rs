//! The pictures of `docs/quality.md`: the real rules on small made series. The test holds those in `docs/img` against what
//! the rules do now; `SEALCAST_BLESS=1 cargo test -p sealcast --bin sealcast pictures` writes them anew.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use sealcast_lab::plot::{Ink, Join, Line, Mark, Marks, Plot, Span};
use sealcast_quality::{
    Action, Checker, Decision, FailSafe, FailSafeOutput, Input, Recorded, Recording, Reported, Reporter, Restorer,
    Sample, SwingingDoor, TopicRules, Trial, Tried,
};
use sealcast_reading::{Decimal, Reading, Special, Value};

use super::{plot::float, *};

/// 2026-01-05 08:00:00 UTC.
const START_MS: u64 = 1_767_600_000_000;
const PERIOD_MS: u64 = 10_000;
const FILTER: &str = "plant/+/temperature";
const TOPIC: &str = "plant/7/temperature";
const UNIT: &str = "temperature, °C";

/// Made readings: no randomness, no floats, the same on every machine.
#[derive(Clone)]
struct Series(Vec<Recorded>);

impl Series {
    /// One every ten seconds; values in hundredths.
    fn new(count: i64, hundredths: impl Fn(i64) -> i64) -> Self {
        let reading =
            |at: i64| Recorded { time_ms: START_MS + PERIOD_MS * at.unsigned_abs(), value: number(hundredths(at)) };
        Self((0..count).map(reading).collect())
    }

    fn set(mut self, at: usize, value: Value) -> Self {
        self.0[at].value = value;
        self
    }

    fn without(mut self, from: usize, to: usize) -> Self {
        self.0.drain(from..to);
        self
    }
}

fn number(hundredths: i64) -> Value {
    Value::Number(Decimal::new(hundredths.into(), 2))
}

/// Within plus or minus `size`.
fn noise(at: i64, size: i64) -> i64 {
    (at * 7_919 + at * at * 31) % (2 * size + 1) - size
}

/// A smooth wave.
fn wave(at: i64, period: i64, size: i64) -> i64 {
    let half = period / 2;
    let x = at % half;
    let arc = 4 * size * x * (half - x) / (half * half);
    if at / half % 2 == 0 { arc } else { -arc }
}

fn rules(keys: &str) -> (Vec<TopicSpec>, Arc<RuleSet>) {
    parse_rules(&format!("[[quality]]\nfilter = \"{FILTER}\"\n{keys}\n"), std::path::Path::new(".")).unwrap()
}

/// As `quality try` does it.
fn tried(title: &str, keys: &str, series: &Series) -> (Trial, Plot) {
    let (specs, rules) = rules(keys);
    let trial = try_rules(&rules, TOPIC, &Recording { readings: series.0.clone() });
    let plot = picture(title.to_owned(), UNIT, specs.first(), &trial, &[]);
    (trial, plot)
}

/// With what a recording does not have: a count or a document for each reading.
fn judged(
    title: &str,
    keys: &str,
    series: &Series,
    more: impl Fn(usize) -> (Option<u64>, serde_json::Value),
) -> (Trial, Plot) {
    let (specs, rules) = rules(keys);
    let mut checker = Checker::new(rules, START_MS);
    let mut trial = Trial::default();
    for (at, Recorded { time_ms, value }) in series.0.iter().cloned().enumerate() {
        let (sequence, document) = more(at);
        let reading = Reading { value, unit: None, time_ms: Some(time_ms), sequence };
        let input = Input { document: Some(&document), ..Input::new(TOPIC, "", &reading) };
        let verdict = checker.handle_reading(&input, time_ms);
        let sent = verdict.action() != Action::Block;
        let decision = None;
        trial.readings.push(Tried { time_ms, arrival_ms: time_ms, value: reading.value, verdict, decision, sent });
    }
    let plot = picture(title.to_owned(), UNIT, specs.first(), &trial, &[]);
    (trial, plot)
}

fn measured(series: &Series) -> Line {
    let points = series.0.iter().map(|reading| (reading.time_ms, float(&reading.value))).collect();
    Line { name: "measured".into(), ink: Ink::Value, join: Join::Straight, points }
}

fn marks(name: &str, ink: Ink, points: &[(u64, f64)]) -> Marks {
    let points: Vec<Mark> =
        points.iter().map(|&(time_ms, value)| Mark { time_ms, value, text: String::new() }).collect();
    Marks { name: format!("{name} ({})", points.len()), ink, points }
}

fn blank(title: &str, note: String) -> Plot {
    Plot { title: title.into(), note, values: UNIT.into(), ..Plot::default() }
}

fn restored() -> Plot {
    let keys =
        "report = { dead_band = 0.5, heartbeat_ms = 180_000 }\nrestore = { cycle_ms = 10_000, heartbeat_ms = 180_000 }";
    let (_, rules) = rules(keys);
    let (mut reporter, mut restorer) = (Reporter::new(rules.clone()), Restorer::new(rules));
    let series = Series::new(61, |at| 2_100 + wave(at, 80, 200) + noise(at, 12));
    let (mut sent, mut repeated, mut held) = (Vec::new(), Vec::new(), 0.0);
    for Recorded { time_ms, value } in &series.0 {
        while let Some(repeat) = restorer.poll_repeat(*time_ms) {
            repeated.push((repeat.time_ms, held));
        }
        let reported = Reported { topic: TOPIC, name: "", value, time_ms: Some(*time_ms), marks: Default::default() };
        if matches!(reporter.handle_reading(&reported, *time_ms), Decision::Send(_)) {
            restorer.handle_message(TOPIC, *time_ms, true, *time_ms);
            held = float(value);
            sent.push((*time_ms, held));
        }
    }
    let note =
        format!("{} readings: {} sent, {} repeated by the receiving agent", series.0.len(), sent.len(), repeated.len());
    let mut plot = blank("restore: the fixed cycle again, at the receiver", note);
    plot.lines.push(measured(&series));
    plot.marks = vec![marks("sent", Ink::Sent, &sent), marks("repeated, and marked so", Ink::Local, &repeated)];
    plot
}

fn fail_safe() -> Plot {
    let keys = "fail_safe = { on_silence = { after_ms = 60_000, publish = \"25.00\" } }";
    let (_, rules) = rules(keys);
    let rule = rules.find(TOPIC).and_then(TopicRules::fail_safe).cloned().unwrap();
    let series = Series::new(61, |at| 2_100 + wave(at, 80, 150) + noise(at, 12)).without(22, 40);
    let mut safe = FailSafe::new(rule, START_MS);
    let (mut published, mut spans) = (Vec::new(), Vec::new());
    for Recorded { time_ms, .. } in &series.0 {
        if let Some(due) = safe.poll_timeout().filter(|due| due < time_ms)
            && let Some(FailSafeOutput::Publish { fallback, .. }) = safe.handle_timeout(due)
        {
            published.push((due, fallback.publish.parse().unwrap()));
        }
        if let Some(FailSafeOutput::Ended { active_ms, .. }) = safe.handle_good(*time_ms) {
            let from_ms = time_ms - active_ms;
            spans.push(Span { from_ms, to_ms: *time_ms, name: "fail-safe value stands".into(), ink: Ink::Local });
        }
    }
    let mut plot =
        blank("fail_safe: what the valve is told when nobody speaks", "no reading from 08:03:40 to 08:06:40".into());
    let mut line = measured(&series);
    line.points.insert(22, (START_MS + 22 * PERIOD_MS, f64::NAN));
    plot.lines.push(line);
    let good: Vec<(u64, f64)> = series.0.iter().map(|reading| (reading.time_ms, float(&reading.value))).collect();
    plot.marks =
        vec![marks("good values", Ink::Sent, &good), marks("published by the receiving agent", Ink::Local, &published)];
    plot.spans = spans;
    plot
}

fn archive() -> Plot {
    let (_, rules) = rules("archive = { deviation = 0.3, max_delay_ms = 300_000 }");
    let rule = *rules.find(TOPIC).and_then(TopicRules::archive).unwrap();
    let mut door = SwingingDoor::new(rule);
    let series = Series::new(91, |at| 2_100 + wave(at, 80, 200) + noise(at, 12));
    let mut kept = Vec::new();
    for Recorded { time_ms, value } in &series.0 {
        let sample = Sample { time_ms: *time_ms, value: float(value), item: () };
        kept.extend(door.handle_reading(sample, *time_ms).into_iter().flatten());
        kept.extend(door.poll_timeout().filter(|due| due <= time_ms).and_then(|due| door.handle_timeout(due)));
    }
    kept.extend(door.flush());
    let kept: Vec<(u64, f64)> = kept.iter().map(|sample| (sample.time_ms, sample.value)).collect();
    let note = format!("{} readings, {} of them archived", series.0.len(), kept.len());
    let mut plot = blank("archive: swinging door", note);
    plot.lines.push(measured(&series));
    let points = kept.clone();
    plot.lines.push(Line { name: "as the archive has it".into(), ink: Ink::Held, join: Join::Straight, points });
    plot.marks = vec![marks("archived", Ink::Local, &kept)];
    plot
}

#[test]
fn pictures_show_what_the_rules_do() -> Result<()> {
    let quiet = |at: i64| 2_100 + wave(at, 60, 60) + noise(at, 12);
    let mut plots: BTreeMap<&str, Plot> = BTreeMap::new();
    let mut wrong: Vec<String> = Vec::new();
    let manual = std::fs::read_to_string(docs().join("quality.md"))?;
    // Its rule, and how many are flagged and blocked.
    let mut check = |name: &'static str, keys: &str, (trial, plot): (Trial, Plot), found: (usize, usize)| {
        let counts = trial.counts();
        if (counts.flagged, counts.blocked) != found {
            wrong.push(format!("{name}: {} flagged, {} blocked, not {found:?}", counts.flagged, counts.blocked));
        }
        assert!(manual.contains(keys), "docs/quality.md does not show {keys}");
        plots.insert(name, plot);
    };

    let keys = "range = { min = -20, max = 60 }";
    let series = Series::new(91, |at| 5_000 + wave(at, 180, 1_300) + noise(at, 20));
    check("range", keys, tried("range: smallest and largest value", keys, &series), (0, 43));

    let keys = "step = { max = 2, action = \"block\" }";
    let series = Series::new(91, |at| quiet(at) + if at >= 50 { 600 } else { 0 }).set(20, number(2_900));
    check("step", keys, tried("step: one jump, and a new level", keys, &series), (1, 5));

    let keys = "rate = { max_per_s = 0.05 }";
    let climb = |at: i64| 2_000 + at.min(45) * 20 + (at - 45).clamp(0, 12) * 90 + noise(at, 5);
    check("rate", keys, tried("rate: a slow climb and a fast one", keys, &Series::new(91, climb)), (12, 0));

    let keys = "stuck = { readings = 12 }";
    let series = Series::new(91, |at| quiet(if (35..65).contains(&at) { 35 } else { at }));
    check("stuck", keys, tried("stuck: thirty times the same", keys, &series), (19, 0));

    let keys = "silent = { periods = 5 }";
    let (trial, plot) = tried("silent: nothing for five periods", keys, &Series::new(91, quiet).without(40, 58));
    if trial.events.len() != 2 {
        panic!("silent: {:?}", trial.events);
    }
    check("silent", keys, (trial, plot), (0, 0));

    let keys = "spike = { window = 11, sigmas = 4, floor = 0.5 }";
    let series = Series::new(91, |at| 2_100 + wave(at, 90, 60) + noise(at, 12))
        .set(17, number(2_550))
        .set(48, number(1_500))
        .set(70, number(2_300));
    check("spike", keys, tried("spike: far from the median of its neighbours", keys, &series), (3, 0));

    let keys = "time = { gap_periods = 3 }";
    let mut series = Series::new(91, quiet).without(60, 66);
    series.0[30..].iter_mut().for_each(|reading| reading.time_ms -= 300_000);
    check("time", keys, tried("time: a clock that goes back, and a gap", keys, &series), (2, 0));

    let keys = "sentinels = { values = [65535, -32768, 85.0], near = 5 }";
    let climb = Series::new(91, |at| 2_100 + (at - 30).clamp(0, 50) * 130 + noise(at, 12));
    let series = climb
        .set(10, number(8_500))
        .set(15, Value::Special(Special::Nan))
        .set(22, number(6_553_500))
        .set(79, number(8_500));
    check("sentinels", keys, tried("sentinels: 85 that is none, and 85 that is", keys, &series), (0, 3));

    let keys = "report = { dead_band = 0.5, heartbeat_ms = 180_000 }";
    let series = Series::new(91, |at| 2_100 + wave(at, 80, 200) + noise(at, 12) * i64::from(at < 60));
    let series = Series(series.0.into_iter().take(80).collect());
    check("report", keys, tried("report: only what has changed", keys, &series), (0, 0));

    let keys = "sequence = {}";
    let series = Series::new(61, quiet);
    let count = |at: usize| match at {
        0..20 => 500 + at,
        20..40 => 504 + at,
        // Sent twice.
        40 => 543,
        // The device has restarted.
        _ => at - 41,
    };
    let trial = judged("sequence: four missing, one twice, a restart", keys, &series, |at| {
        (Some(count(at) as u64), serde_json::Value::Null)
    });
    check("sequence", keys, trial, (3, 0));

    let keys = r#"schema = { json = '{ "type": "object", "required": ["t", "unit"] }' }"#;
    let trial = judged("schema: messages without their unit", keys, &Series::new(61, quiet), |at| {
        let whole = serde_json::json!({ "t": 21, "unit": "C" });
        (None, if (25..29).contains(&at) { serde_json::json!({ "t": 21 }) } else { whole })
    });
    check("schema", keys, trial, (0, 4));

    assert!(wrong.is_empty(), "{wrong:#?}");
    plots.insert("restore", restored());
    plots.insert("fail_safe", fail_safe());
    plots.insert("archive", archive());
    let bless = std::env::var_os("SEALCAST_BLESS").is_some();
    for (name, plot) in plots {
        assert!(
            manual.contains(&format!("(img/quality-{name}.svg)")),
            "docs/quality.md does not show the picture of {name}"
        );
        let path = docs().join(format!("img/quality-{name}.svg"));
        let svg = plot.to_svg();
        if bless {
            std::fs::create_dir_all(docs().join("img"))?;
            std::fs::write(&path, svg)?;
        } else {
            let same = std::fs::read_to_string(&path).is_ok_and(|committed| committed == svg);
            assert!(same, "{} is not what the rules do now: see the head of this file", path.display());
        }
    }
    Ok(())
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}
