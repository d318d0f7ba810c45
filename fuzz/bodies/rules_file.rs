//! Rules of quality as they stand in a file, run over readings of any kind; stored state; recordings.
//!
//! Input: 0, TOML up to a NUL, and readings; 1, a choice, and bytes that are read as stored state; 2 and a CSV; 3, a choice of
//! options, and a CSV.

use std::{collections::BTreeMap, sync::Arc};

use sealcast_quality::{
    Action, Archiver, Checker, CsvOptions, DeadBand, Decision, FailSafe, FailSafeOutput, Imported, Input, Recording,
    Reported, Reporter, Restorer, RuleSet, Sample, SwingingDoor, TopicSpec, learn, try_rules,
};
use sealcast_reading::{Decimal, Reading, Special, Value};
use serde::Deserialize;

const NOW_MS: u64 = 1_700_000_000_000;
const MAX_READINGS: usize = 200;
/// A cycle of 1 ms and a pause of an hour make many repeats; that they end is seen from fewer.
const MAX_REPEATS: usize = 64;
const TOPIC: &str = "a/b";

/// All rules at once, for state and recordings.
const RULES: &str = r#"
[[quality]]
filter = "a/#"
accept_after = 3
range = { min = -40, max = 1e3 }
step = { max = 5.5, action = "block" }
rate = { max_per_s = 2.5 }
stuck = { readings = 4, for_ms = 9000 }
silent = { after_ms = 60000, periods = 3.0 }
spike = { window = 5, floor = 0.1, action = "block" }
time = { gap_ms = 5000, gap_periods = 2.0, ahead_ms = 1000, action = "block" }
sequence = { wrap = 16, action = "block" }
sentinels = {}
report = { dead_band = 0.5, heartbeat_ms = 10000, min_interval_ms = 100 }
restore = { cycle_ms = 1000, heartbeat_ms = 10000 }
fail_safe = { on_silence = { after_ms = 5000, publish = "1" }, on_blocked = { after_ms = 0, publish = "1" } }
archive = { deviation = 0.5, max_delay_ms = 60000 }
"#;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    quality: Vec<TopicSpec>,
}

pub fn run(data: &[u8]) {
    match data {
        [0, rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let (text, readings) = rest.split_at(end);
            let Some((specs, rules)) = std::str::from_utf8(text).ok().and_then(parse) else { return };
            let mut world = World::new(specs, rules);
            let mut bytes = Bytes(readings.get(1..).unwrap_or_default());
            for _ in 0..MAX_READINGS {
                if bytes.0.is_empty() {
                    break;
                }
                world.step(&mut bytes);
            }
        }
        [1, choice, stored @ ..] => state(*choice, stored),
        [2, csv @ ..] => recording(csv, &CsvOptions::default()),
        [3, choice, csv @ ..] => recording(csv, &options(*choice)),
        _ => {}
    }
}

fn parse(text: &str) -> Option<(Vec<TopicSpec>, Arc<RuleSet>)> {
    let specs = toml::from_str::<File>(text).ok()?.quality;
    let rules = RuleSet::new(specs.iter().cloned()).ok()?;
    Some((specs, Arc::new(rules)))
}

fn all_rules() -> (Vec<TopicSpec>, Arc<RuleSet>) {
    parse(RULES).expect("the rules of this target")
}

/// Numbers taken off the front; 0 when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn value(&mut self) -> Value {
        let what = self.u8();
        match what {
            0..=199 => Value::Number(Decimal::new(i128::from(self.u16().cast_signed()), what % 4)),
            200..=219 => {
                let digits = (0..16).fold(0, |digits, _| digits << 8 | i128::from(self.u8()));
                Value::Number(Decimal::new(digits, self.u8()))
            }
            220..=229 => Value::Number([65_535_i64, -32_768, 85][usize::from(what % 3)].into()),
            230 => Value::Special(Special::Nan),
            231 => Value::Special(Special::PositiveInfinity),
            232 => Value::Special(Special::NegativeInfinity),
            233 => Value::Special(Special::Null),
            234 => Value::Special(Special::Absent),
            235..=240 => Value::Text("warm".to_owned()),
            241..=247 => Value::Bool(what & 1 == 1),
            _ => Value::Data(vec![what]),
        }
    }
}

/// What was last sent of a topic and name, and what is kept back.
#[derive(Default)]
struct Sent {
    last: Option<Option<Decimal>>,
    kept: Option<Option<Decimal>>,
}

/// An agent's use of the rules.
struct World {
    specs: Vec<TopicSpec>,
    rules: Arc<RuleSet>,
    topics: Vec<String>,
    checker: Checker,
    reporter: Reporter,
    restorer: Restorer,
    fail_safe: BTreeMap<String, FailSafe>,
    archives: BTreeMap<String, SwingingDoor<()>>,
    sent: BTreeMap<(String, String), Sent>,
    /// What the store holds: rows of the checker, and of the reporter.
    stored: [BTreeMap<Box<str>, Vec<u8>>; 2],
    now_ms: u64,
}

impl World {
    fn new(specs: Vec<TopicSpec>, rules: Arc<RuleSet>) -> Self {
        let mut topics: Vec<String> = rules.iter().map(|rule| topic(rule.filter().as_str())).collect();
        topics.truncate(8);
        topics.push(TOPIC.to_owned());
        Self {
            specs,
            topics,
            checker: Checker::new(rules.clone(), NOW_MS),
            reporter: Reporter::new(rules.clone()),
            restorer: Restorer::new(rules.clone()),
            rules,
            fail_safe: BTreeMap::new(),
            archives: BTreeMap::new(),
            sent: BTreeMap::new(),
            stored: [BTreeMap::new(), BTreeMap::new()],
            now_ms: NOW_MS,
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        let what = bytes.u8();
        let pass = u64::from(bytes.u16());
        self.now_ms = match what >> 6 {
            0 => self.now_ms + pass,
            1 => self.now_ms + 1000,
            2 => self.now_ms + pass * 1000,
            _ => self.now_ms.saturating_sub(pass),
        };
        let stamps = bytes.u8();
        if stamps == 0xff {
            self.restart();
        }
        self.time_passes();
        let topic = self.topics[usize::from(what & 0x1f) % self.topics.len()].clone();
        let name = if what & 0x20 == 0 { "" } else { "x" };
        let time_ms = match stamps & 3 {
            0 => None,
            1 => Some(self.now_ms),
            2 => Some(self.now_ms + 100 * u64::from(stamps >> 4)),
            _ => Some(self.now_ms.saturating_sub(100 * u64::from(stamps >> 4))),
        };
        let sequence = (stamps & 4 != 0).then(|| u64::from(bytes.u8()));
        let value = bytes.value();
        self.reading(&topic, name, Reading { value, unit: None, time_ms, sequence });
    }

    fn reading(&mut self, topic: &str, name: &str, reading: Reading) {
        let rules = self.rules.clone();
        let rule = rules.find(topic);
        let document = match &reading.value {
            Value::Number(number) => serde_json::from_str(&number.to_string()).ok(),
            Value::Text(text) => Some(serde_json::json!({ "v": text })),
            _ => None,
        };
        let input = Input { document: document.as_ref(), ..Input::new(topic, name, &reading) };
        let verdict = self.checker.handle_reading(&input, self.now_ms);
        self.store();
        assert_eq!(verdict.is_checked(), rule.is_some_and(|rule| rule.has_checks()));
        let worst = verdict.findings().iter().map(|finding| finding.action).max();
        assert_eq!(worst.unwrap_or(Action::Pass), verdict.action());
        for finding in verdict.findings() {
            assert!(!finding.to_string().is_empty());
        }
        let filter = rule.map_or("", |rule| rule.filter().as_str());
        let spec = self.specs.iter().find(|spec| spec.filter == filter);
        if let (Some(range), Value::Number(value)) = (spec.and_then(|spec| spec.range.as_ref()), &reading.value) {
            let outside = range.min.is_some_and(|min| *value < min) || range.max.is_some_and(|max| *value > max);
            let blocks = range.action.unwrap_or(Action::Block) == Action::Block;
            // A sentinel says that it is no value, by an action of its own.
            let sentinel = spec.is_some_and(|spec| spec.sentinels.is_some());
            assert!(!(outside && blocks) || verdict.action() == Action::Block || sentinel, "{value} passed");
        }

        if reading.is_empty() {
            return;
        }
        let now_ms = self.now_ms;
        let fail_safe = rule.and_then(|rule| rule.fail_safe()).map(|rules| {
            self.fail_safe.entry(topic.to_owned()).or_insert_with(|| FailSafe::new(rules.clone(), now_ms))
        });
        if verdict.action() == Action::Block {
            if let Some(state) = fail_safe {
                state.handle_blocked(now_ms);
            }
            self.restorer.stop(topic);
            return;
        }
        if let Some(state) = fail_safe {
            state.handle_good(now_ms);
            assert!(state.active().is_none(), "a good value ends it");
        }
        self.report(topic, name, &reading, verdict.marks());
        self.restorer.handle_message(topic, reading.time_ms.unwrap_or(now_ms), true, now_ms);
        if let (Some(archive), Value::Number(value)) = (rule.and_then(|rule| rule.archive()), &reading.value) {
            let door = self.archives.entry(topic.to_owned()).or_insert_with(|| SwingingDoor::new(*archive));
            let time_ms = reading.time_ms.unwrap_or(now_ms);
            door.handle_reading(Sample { time_ms, value: value.to_f64(), item: () }, now_ms);
        }
    }

    /// Whoever holds what was last sent is never off by more than the band.
    fn report(&mut self, topic: &str, name: &str, reading: &Reading, marks: sealcast_quality::Marks) {
        let reported = Reported { topic, name, value: &reading.value, time_ms: reading.time_ms, marks };
        let decision = self.reporter.handle_reading(&reported, self.now_ms);
        self.store();
        let Some(rule) = self.rules.find(topic).and_then(|rule| rule.report()) else {
            assert!(matches!(decision, Decision::Send(_)));
            return;
        };
        let sent = self.sent.entry((topic.to_owned(), name.to_owned())).or_default();
        let number = reading.number();
        match decision {
            Decision::Send(_) => *sent = Sent { last: Some(number), kept: None },
            Decision::Keep { until_ms } => {
                assert!(until_ms > self.now_ms && until_ms - self.now_ms <= rule.min_interval_ms);
                sent.kept = Some(number);
            }
            Decision::Skip => {
                sent.kept = None;
                match (sent.last.expect("a first reading is sent"), number) {
                    (Some(last), Some(value)) => match &rule.band {
                        DeadBand::Absolute(band) => {
                            if let Some(change) = value.checked_sub(last) {
                                assert!(change.abs() <= *band, "{value} is {band} away from {last}");
                            }
                        }
                        DeadBand::Percent(percent) => {
                            let (change, limit) = (value.to_f64() - last.to_f64(), last.to_f64() * percent.to_f64());
                            assert!(change.abs() * 100.0 <= limit.abs() * (1.0 + 1e-9) + f64::MIN_POSITIVE);
                        }
                    },
                    (last, number) => assert_eq!(last, number),
                }
            }
        }
    }

    /// What is due is done; afterwards nothing is due any more.
    fn time_passes(&mut self) {
        let now_ms = self.now_ms;
        self.checker.handle_timeout(now_ms);
        while let Some(event) = self.checker.poll_event() {
            assert!(!event.to_string().is_empty());
        }
        assert!(self.checker.poll_timeout().is_none_or(|wake| wake > now_ms));
        while let Some(key) = self.reporter.poll_kept(now_ms) {
            let sent = self.sent.get_mut(&key).expect("it was kept");
            sent.last = Some(sent.kept.take().expect("it was kept"));
        }
        assert!(self.reporter.poll_timeout().is_none_or(|wake| wake > now_ms));
        let repeats = (0..MAX_REPEATS).take_while(|_| self.restorer.poll_repeat(now_ms).is_some()).count();
        assert!(repeats == MAX_REPEATS || self.restorer.poll_timeout().is_none_or(|wake| wake > now_ms));
        for state in self.fail_safe.values_mut() {
            let was = state.active().is_some();
            if let Some(FailSafeOutput::Publish { fallback, .. }) = state.handle_timeout(now_ms) {
                assert!(!was && state.active() == Some(&fallback), "it is published once");
            }
            assert!(state.poll_timeout().is_none_or(|due| due > now_ms));
        }
        for door in self.archives.values_mut() {
            door.handle_timeout(now_ms);
            assert!(door.poll_timeout().is_none_or(|due| due > now_ms));
        }
        self.store();
    }

    fn store(&mut self) {
        for (stored, rows) in self.stored.iter_mut().zip([self.checker.changes(), self.reporter.changes()]) {
            for row in rows {
                match row.value {
                    Some(value) => stored.insert(row.key, value),
                    None => stored.remove(&row.key),
                };
            }
        }
    }

    /// The rows that were stored and the state as one piece say the same.
    fn restart(&mut self) {
        let (checker, reporter) = (self.checker.export(), self.reporter.export());
        let [checks, reports] = &self.stored;
        fn rows(stored: &BTreeMap<Box<str>, Vec<u8>>) -> impl Iterator<Item = (&str, &[u8])> {
            stored.iter().map(|(key, value)| (&**key, value.as_slice()))
        }
        self.checker = Checker::restore(self.rules.clone(), rows(checks), self.now_ms).expect("what was stored");
        self.reporter = Reporter::restore(self.rules.clone(), rows(reports)).expect("what was stored");
        assert_eq!(self.checker.export(), checker);
        assert_eq!(self.reporter.export(), reporter);
        let again = Checker::import(self.rules.clone(), &checker, self.now_ms).expect("what was exported");
        assert_eq!(again.export(), checker);
        let again = Reporter::import(self.rules.clone(), &reporter).expect("what was exported");
        assert_eq!(again.export(), reporter);
        for state in self.fail_safe.values_mut() {
            let rules = self.rules.iter().find_map(|rule| rule.fail_safe()).expect("one of them has one");
            let again = FailSafe::import(rules.clone(), &state.export()).expect("what was exported");
            assert!(again.active().is_none() || state.active().is_some());
        }
        for sent in self.sent.values_mut() {
            sent.kept = None;
        }
    }
}

/// A topic that the filter matches.
fn topic(filter: &str) -> String {
    filter.replace('+', "a").replace('#', "b/c")
}

/// Whatever is stored, it is refused or the engines run on from it.
fn state(choice: u8, stored: &[u8]) {
    let (specs, rules) = all_rules();
    let mut world = World::new(specs, rules.clone());
    match choice & 3 {
        0 => {
            let Ok(checker) = Checker::import(rules.clone(), stored, NOW_MS) else { return };
            let again = Checker::import(rules, &checker.export(), NOW_MS).expect("what was exported");
            assert_eq!(again.export(), checker.export());
            world.checker = checker;
        }
        1 => {
            let Ok(reporter) = Reporter::import(rules.clone(), stored) else { return };
            let again = Reporter::import(rules, &reporter.export()).expect("what was exported");
            assert_eq!(again.export(), reporter.export());
            world.reporter = reporter;
            // The past is none that this target knows: what is kept or within the band of it cannot be said.
            for at in 0..20u16 {
                let value = Value::Number(i64::from(at % 4).into());
                let reported =
                    Reported { topic: TOPIC, name: "", value: &value, time_ms: None, marks: Default::default() };
                world.reporter.handle_reading(&reported, NOW_MS + u64::from(at) * 50);
            }
            while world.reporter.poll_kept(NOW_MS + 60_000).is_some() {}
            return;
        }
        2 => return archive(rules, stored),
        _ => {
            let fail_safe = rules.iter().find_map(|rule| rule.fail_safe()).expect("the rules of this target");
            let Ok(state) = FailSafe::import(fail_safe.clone(), stored) else { return };
            assert_eq!(FailSafe::import(fail_safe.clone(), &state.export()).as_ref(), Ok(&state));
            world.fail_safe.insert(TOPIC.to_owned(), state);
        }
    }
    let readings: Vec<u8> = (0..200u8).map(|at| at.wrapping_mul(37) ^ choice).collect();
    let mut bytes = Bytes(&readings);
    while !bytes.0.is_empty() {
        // Restarts would store what is not known.
        world.time_passes();
        let sequence = Some(u64::from(bytes.u8()));
        let value = bytes.value();
        world.now_ms += u64::from(bytes.u8()) * 10;
        world.reading(TOPIC, "", Reading { value, unit: None, time_ms: Some(world.now_ms), sequence });
    }
}

/// A row of an archive, and what comes of it.
fn archive(rules: Arc<RuleSet>, row: &[u8]) {
    let Ok(mut archiver) = Archiver::restore(rules.clone(), [(TOPIC, row)]) else { return };
    let mut now_ms = NOW_MS;
    for at in 0..40u64 {
        now_ms += at * 400;
        archiver.handle_timeout(now_ms);
        assert!(archiver.poll_timeout().is_none_or(|wake| wake > now_ms));
        let value = Value::Number(Decimal::new(i128::from(at % 7), 1));
        let reading = Reading { value, unit: None, time_ms: (at % 3 > 0).then_some(now_ms), sequence: None };
        archiver.handle_reading(TOPIC, "", &reading, Default::default(), now_ms);
        while let Some(archived) = archiver.poll_archived() {
            assert_eq!(archived.topic, TOPIC);
        }
        for row in archiver.changes() {
            if let Some(value) = row.value {
                let again = Archiver::restore(rules.clone(), [(&*row.key, value.as_slice())]);
                assert!(again.is_ok(), "what was stored");
            }
        }
    }
}

/// Some of the options of a recording.
fn options(choice: u8) -> CsvOptions {
    let bit = |bit: u8| choice & (1 << bit) != 0;
    let mut options = CsvOptions::default();
    if bit(0) {
        options.decimal = "comma".parse().ok();
    }
    if bit(1) {
        options.thousands = if bit(0) { "point" } else { "comma" }.parse().ok();
    }
    if bit(2) {
        options.time_zone = "Europe/Berlin".parse().unwrap_or_default();
    }
    if bit(3) {
        options.time_format = "dmy".parse().unwrap_or_default();
    }
    if bit(4) {
        options.time_format = "%Y%m%d%H%M%S".parse().unwrap_or_default();
    }
    if bit(5) {
        options.order = if bit(0) { "time" } else { "file" }.parse().unwrap_or_default();
    }
    if bit(6) {
        options.conditions.extend("1=a".parse().ok());
    }
    if bit(7) {
        options.value_column = "2".parse().ok();
    }
    options
}

fn recording(csv: &[u8], options: &CsvOptions) {
    let Ok(Imported { recording, understood }) = Recording::import(csv, options) else { return };
    assert_eq!(understood.rows, recording.readings.len());
    assert!(understood.not_numbers <= understood.rows);
    assert!(!understood.lines().is_empty());
    // What was detected gives the same when it is named.
    let named = CsvOptions {
        encoding: understood.encoding.parse().ok(),
        delimiter: understood.delimiter.parse().ok(),
        decimal: understood.decimal.parse().ok(),
        ..options.clone()
    };
    assert_eq!(Recording::import(csv, &named).map(|again| again.recording).as_ref(), Ok(&recording));
    let count = recording.readings.len();
    let arrivals = recording.arrivals_ms();
    assert_eq!(arrivals.len(), count);
    assert!(arrivals.is_sorted());
    assert!(recording.first(0.05).readings.len() <= count);
    let (_, rules) = all_rules();
    let mut sets = vec![rules];
    if let Ok(proposal) = learn("a/#", &recording) {
        let toml = proposal.to_toml();
        sets.push(parse(&toml).unwrap_or_else(|| panic!("a proposal reads back:\n{toml}")).1);
    }
    for rules in sets {
        let trial = try_rules(&rules, TOPIC, &recording);
        let counts = trial.counts();
        assert_eq!(counts.readings, count);
        assert_eq!(counts.passed + counts.flagged + counts.blocked, count);
        assert!(counts.sent <= count - counts.blocked);
    }
}
