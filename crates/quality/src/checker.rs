//! The rules, run over readings as they come.

use std::{collections::VecDeque, fmt, sync::Arc};

use sealcast_reading::{Decimal, Expected, Reading, Special, Value};

use crate::{
    codec::{Reader, StateError, Writer},
    cycle::Cycle,
    level::{Level, Point, within},
    order::{Follows, Order},
    rules::{RuleSet, TopicRules},
    series::{MAX_SERIES, Row, SeriesMap, Stored, name_of, topic_of},
    verdict::{Action, Check, Reason, Span, Verdict},
};

/// Most events that wait for [`Checker::poll_event`]; beyond it the oldest is lost.
pub const MAX_EVENTS: usize = 2 * MAX_SERIES;

/// One reading to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// MQTT topic.
    pub topic: &'a str,
    /// Name within the message, empty if it holds one value. Each name has its own past.
    pub name: &'a str,
    /// The reading.
    pub reading: &'a Reading,
    /// The whole message if it is JSON: needed where [`TopicRules::wants_document`] says so.
    pub document: Option<&'a serde_json::Value>,
    /// What the message's format names beside the value: to be judged by `missing` where the reading does not have it.
    pub expected: Expected,
}

impl<'a> Input<'a> {
    /// A reading of which only the value is expected, in a message that is no document.
    pub fn new(topic: &'a str, name: &'a str, reading: &'a Reading) -> Self {
        Self { topic, name, reading, document: None, expected: Expected::default() }
    }
}

/// What happens without a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SilenceEvent {
    /// No reading has come for too long. Raised once, until [`SilenceEvent::Heard`].
    Silent {
        /// Topic.
        topic: String,
        /// Name within its messages.
        name: String,
        /// When the last one came, or when this checker was started.
        since_ms: u64,
        /// How long it may be.
        limit_ms: u64,
    },
    /// The silence is over.
    Heard {
        /// Topic.
        topic: String,
        /// Name within its messages.
        name: String,
        /// How long it was silent; 0 if not known.
        after_ms: u64,
    },
}

impl fmt::Display for SilenceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent { topic, limit_ms, .. } => write!(f, "silent: nothing on {topic} for {}", Span(*limit_ms)),
            Self::Heard { topic, after_ms, .. } => write!(f, "heard: {topic} again after {}", Span(*after_ms)),
        }
    }
}

/// Judges readings by the rules of their topics. State is small and can be stored after each reading
/// ([`Checker::changes`]), so that a killed agent goes on where it was.
#[derive(Debug)]
pub struct Checker {
    rules: Arc<RuleSet>,
    series: SeriesMap<State>,
    events: VecDeque<SilenceEvent>,
    started_ms: u64,
    /// Not later than the earliest deadline.
    wake_ms: Option<u64>,
    scratch: Vec<f64>,
}

#[derive(Debug, Clone, Default)]
struct State {
    rule: Option<usize>,
    cycle: Cycle,
    silent: bool,
    time: Order,
    sequence: Order,
    run: Option<Run>,
    level: Level,
}

/// Equal values in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    value: Decimal,
    readings: u32,
    since_ms: u64,
}

impl Checker {
    /// Without a past. Topics that a rule names without wildcards are waited for from now on.
    pub fn new(rules: Arc<RuleSet>, now_ms: u64) -> Self {
        Self::with(rules, SeriesMap::new(), now_ms)
    }

    /// With the past that [`Checker::export`] wrote. Rules may have changed since. Time without this checker running is
    /// not silence.
    ///
    /// # Errors
    /// [`StateError`] if the bytes are damaged.
    pub fn import(rules: Arc<RuleSet>, bytes: &[u8], now_ms: u64) -> Result<Self, StateError> {
        Ok(Self::with(rules, SeriesMap::import(bytes)?, now_ms))
    }

    /// As [`Checker::import`], from stored rows in any order.
    ///
    /// # Errors
    /// [`StateError`] if a row is damaged.
    pub fn restore<'a>(
        rules: Arc<RuleSet>,
        rows: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        now_ms: u64,
    ) -> Result<Self, StateError> {
        let series = SeriesMap::from_rows(rows)?;
        Ok(Self::with(rules, series, now_ms))
    }

    fn with(rules: Arc<RuleSet>, mut series: SeriesMap<State>, now_ms: u64) -> Self {
        for rule in rules.iter().filter(|rule| rule.silent.is_some()) {
            let filter = rule.filter.as_str();
            if !filter.contains(['+', '#']) {
                series.touch(filter, "", State::default);
            }
        }
        series.sweep(|key, state| {
            state.rule = rules.index(topic_of(key));
            false
        });
        let mut checker =
            Self { rules, series, events: VecDeque::new(), started_ms: now_ms, wake_ms: None, scratch: Vec::new() };
        checker.wake_ms = checker.earliest();
        checker
    }

    /// Judges one reading that came at `now_ms`. A topic without rules gets [`Verdict::UNCHECKED`] and no state. An empty
    /// one ([`Reading::is_empty`]) is no reading: silence goes on, and nothing but `missing`, `null`, the schema and the
    /// count is judged.
    pub fn handle_reading(&mut self, input: &Input<'_>, now_ms: u64) -> Verdict {
        if input.reading.is_empty() {
            return self.handle_empty(input);
        }
        let Self { rules, series, events, started_ms, wake_ms, scratch } = self;
        let known = series.peek(input.topic, input.name).and_then(|state| state.rule);
        let Some(index) = known.or_else(|| rules.index(input.topic)) else { return Verdict::UNCHECKED };
        let Some(rule) = rules.at(index).filter(|rule| rule.has_checks()) else { return Verdict::UNCHECKED };
        let state = series.touch(input.topic, input.name, State::default);
        state.rule = Some(index);

        // The gap is judged by the period before this reading.
        let max_gap_ms = rule.time.as_ref().and_then(|time| {
            let learnt = time.gap_periods.and_then(|periods| state.cycle.periods_ms(periods));
            learnt.into_iter().chain(time.gap_ms).min()
        });
        if std::mem::take(&mut state.silent) {
            let after_ms = state.cycle.last_ms().map_or(0, |last| now_ms.saturating_sub(last));
            push(events, SilenceEvent::Heard { topic: input.topic.to_owned(), name: input.name.to_owned(), after_ms });
        }
        state.cycle.observe(now_ms);
        if let Some((deadline, _)) = state.deadline(rule, *started_ms) {
            *wake_ms = Some(wake_ms.map_or(deadline, |wake| wake.min(deadline)));
        }

        let mut verdict = Verdict::checked();
        judge_document(rule, input, &mut verdict);
        state.judge_order(rule, input.reading, max_gap_ms, now_ms, &mut verdict);
        state.judge_value(rule, input.reading, now_ms, &mut verdict, scratch);
        judge_expected(rule, input, &mut verdict);
        verdict.worst_first();
        verdict
    }

    fn handle_empty(&mut self, input: &Input<'_>) -> Verdict {
        let Self { rules, series, .. } = self;
        let Some(index) = rules.index(input.topic) else { return Verdict::UNCHECKED };
        let Some(rule) = rules.at(index).filter(|rule| rule.has_checks()) else { return Verdict::UNCHECKED };
        let mut verdict = Verdict::checked();
        judge_document(rule, input, &mut verdict);
        if matches!(input.reading.value, Value::Special(Special::Null)) {
            let (check, action) = rule.null();
            verdict.add(check, action, Reason::Null);
        } else {
            verdict.add(Check::Missing, rule.missing(), Reason::Lacks { member: "value" });
        }
        // A device counts its messages, with a value or without. The stamps are its readings': a message beside one may well
        // have the same.
        if rule.sequence.is_some() && input.reading.sequence.is_some() {
            let state = series.touch(input.topic, input.name, State::default);
            state.rule = Some(index);
            state.judge_sequence(rule, input.reading, &mut verdict);
        }
        judge_expected(rule, input, &mut verdict);
        verdict.worst_first();
        verdict
    }

    /// When [`Checker::handle_timeout`] wants to be called, Unix ms. May be earlier than needed.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.wake_ms
    }

    /// Looks for topics that have been silent for too long.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if self.wake_ms.is_none_or(|wake| now_ms < wake) {
            return;
        }
        let Self { rules, series, events, started_ms, .. } = self;
        series.sweep(|key, state| {
            let Some(rule) = state.rule.and_then(|rule| rules.at(rule)) else { return false };
            let Some((deadline, limit_ms)) = state.deadline(rule, *started_ms) else { return false };
            if now_ms < deadline {
                return false;
            }
            state.silent = true;
            let since_ms = deadline.saturating_sub(limit_ms);
            let (topic, name) = (topic_of(key).to_owned(), name_of(key).to_owned());
            push(events, SilenceEvent::Silent { topic, name, since_ms, limit_ms });
            true
        });
        self.wake_ms = self.earliest();
    }

    /// The cycle in which readings come, blocked ones too, for each topic and name.
    pub fn cycles(&self) -> impl Iterator<Item = (&str, &str, &Cycle)> {
        self.series.iter().map(|(key, state)| (topic_of(key), name_of(key), &state.cycle))
    }

    /// The next event, in the order in which they happened.
    pub fn poll_event(&mut self) -> Option<SilenceEvent> {
        self.events.pop_front()
    }

    /// The cycle in which readings of a topic come.
    pub fn cycle(&self, topic: &str, name: &str) -> Option<&Cycle> {
        self.series.peek(topic, name).map(|state| &state.cycle)
    }

    /// What to store since the last call. Store it before a verdict has consequences.
    pub fn changes(&mut self) -> Vec<Row> {
        self.series.changes()
    }

    /// All state as one piece.
    pub fn export(&self) -> Vec<u8> {
        self.series.export()
    }

    fn earliest(&self) -> Option<u64> {
        let deadline = |state: &State| Some(state.deadline(self.rules.at(state.rule?)?, self.started_ms)?.0);
        self.series.iter().filter_map(|(_, state)| deadline(state)).min()
    }
}

fn judge_document(rule: &TopicRules, input: &Input<'_>, verdict: &mut Verdict) {
    let Some((schema, action)) = &rule.schema else { return };
    match input.document {
        None => verdict.add(Check::Schema, *action, Reason::NotJson),
        Some(document) => {
            if let Some((at, problem)) = schema.check(document) {
                verdict.add(Check::Schema, *action, Reason::Schema { at, problem });
            }
        }
    }
}

fn judge_expected(rule: &TopicRules, input: &Input<'_>, verdict: &mut Verdict) {
    if input.expected.time && input.reading.time_ms.is_none() {
        verdict.add(Check::Missing, rule.missing(), Reason::Lacks { member: "time" });
    }
    if input.expected.sequence && input.reading.sequence.is_none() {
        verdict.add(Check::Missing, rule.missing(), Reason::Lacks { member: "sequence" });
    }
}

fn push(events: &mut VecDeque<SilenceEvent>, event: SilenceEvent) {
    if events.len() >= MAX_EVENTS {
        events.pop_front();
    }
    events.push_back(event);
}

impl State {
    /// When it counts as silent, and how long it may be; `None` if it never does or does already.
    fn deadline(&self, rule: &TopicRules, started_ms: u64) -> Option<(u64, u64)> {
        let silent = rule.silent.as_ref().filter(|_| !self.silent)?;
        let learnt = silent.periods.and_then(|periods| self.cycle.periods_ms(periods));
        let limit_ms = learnt.into_iter().chain(silent.after_ms).min()?;
        let since_ms = self.cycle.last_ms().map_or(started_ms, |last| last.max(started_ms));
        Some((since_ms.saturating_add(limit_ms), limit_ms))
    }

    fn judge_order(
        &mut self,
        rule: &TopicRules,
        reading: &Reading,
        max_gap_ms: Option<u64>,
        now_ms: u64,
        verdict: &mut Verdict,
    ) {
        if let Some((time, time_ms)) = rule.time.as_ref().zip(reading.time_ms) {
            let by_ms = time_ms.saturating_sub(now_ms);
            if time.ahead_ms.is_some_and(|ahead| by_ms > ahead) {
                // Not remembered: or the next good stamp would go back.
                verdict.add(Check::Time, time.action, Reason::Ahead { time_ms, by_ms });
            } else {
                match self.time.follow(time_ms, None, time.action == Action::Block, rule.accept_after) {
                    Follows::Same => verdict.add(Check::Time, time.action, Reason::SameTime { time_ms }),
                    Follows::Back { by, .. } => {
                        verdict.add(Check::Time, time.action, Reason::ClockBack { time_ms, by_ms: by });
                    }
                    Follows::Believed { readings } => {
                        verdict.add(Check::Time, Action::Flag, Reason::NewClock { time_ms, readings });
                    }
                    Follows::Forward(gap_ms) => {
                        if let Some(max_ms) = max_gap_ms.filter(|max| gap_ms > *max) {
                            verdict.add(Check::Time, Action::Flag, Reason::TimeGap { gap_ms, max_ms });
                        }
                    }
                    Follows::First => {}
                }
            }
        }
        self.judge_sequence(rule, reading, verdict);
    }

    fn judge_sequence(&mut self, rule: &TopicRules, reading: &Reading, verdict: &mut Verdict) {
        if let Some((rules, sequence)) = rule.sequence.as_ref().zip(reading.sequence) {
            match self.sequence.follow(sequence, rules.wrap, rules.action == Action::Block, rule.accept_after) {
                Follows::Same => verdict.add(Check::Sequence, rules.action, Reason::SameSequence { sequence }),
                Follows::Back { last, .. } => {
                    verdict.add(Check::Sequence, rules.action, Reason::SequenceBack { sequence, last });
                }
                Follows::Believed { readings } => {
                    verdict.add(Check::Sequence, Action::Flag, Reason::NewSequence { sequence, readings });
                }
                Follows::Forward(by) if by > 1 => {
                    verdict.add(Check::Sequence, Action::Flag, Reason::SequenceGap { sequence, missing: by - 1 });
                }
                Follows::Forward(_) | Follows::First => {}
            }
        }
    }

    fn judge_value(
        &mut self,
        rule: &TopicRules,
        reading: &Reading,
        now_ms: u64,
        verdict: &mut Verdict,
        scratch: &mut Vec<f64>,
    ) {
        let Value::Number(value) = reading.value else {
            if rule.wants_numbers() {
                let (check, action) = match (&rule.sentinels, &rule.range) {
                    (Some(sentinels), _) => (Check::Sentinel, sentinels.action),
                    (None, Some(range)) => (Check::Number, range.action),
                    (None, None) => (Check::Number, Action::Flag),
                };
                verdict.add(check, action, Reason::NotNumber { found: describe(&reading.value) });
            }
            return;
        };
        if let Some(sentinels) = &rule.sentinels
            && sentinels.values.contains(&value)
        {
            let plausible = !sentinels.near.is_zero()
                && self.level.accepted().is_some_and(|last| within(value, last, sentinels.near));
            if !plausible {
                verdict.add(Check::Sentinel, sentinels.action, Reason::Sentinel { value });
                // It says "no value": the other rules have nothing to judge.
                return;
            }
        }
        if let Some(range) = &rule.range {
            if let Some(min) = range.min.filter(|min| value < *min) {
                verdict.add(Check::Range, range.action, Reason::Below { value, min });
            } else if let Some(max) = range.max.filter(|max| value > *max) {
                verdict.add(Check::Range, range.action, Reason::Above { value, max });
            }
        }
        // Blocked for what it is, whatever was before: such a reading is nobody's last value and no new level.
        let refused = verdict.action() == Action::Block;
        let mut held = false;
        if let Some(stuck) = &rule.stuck {
            let run = match self.run {
                Some(run) if run.value == value => Run { readings: run.readings.saturating_add(1), ..run },
                _ => Run { value, readings: 1, since_ms: now_ms },
            };
            self.run = Some(run);
            let for_ms = now_ms.saturating_sub(run.since_ms);
            let many = stuck.readings.is_some_and(|readings| run.readings >= readings);
            let long = run.readings > 1 && stuck.for_ms.is_some_and(|limit| for_ms >= limit);
            if many || long {
                verdict.add(Check::Stuck, stuck.action, Reason::Stuck { value, readings: run.readings, for_ms });
                held = stuck.action == Action::Block;
            }
        }
        if !refused {
            let point = Point { value, stamp_ms: reading.time_ms, arrival_ms: now_ms };
            self.level.judge(rule, point, held, verdict, scratch);
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Special(special) => special.to_string(),
        Value::Text(_) => "a text".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Data(_) => "binary data".to_owned(),
    }
}

impl Stored for State {
    fn write(&self, out: &mut Writer) {
        self.cycle.write(out);
        out.u8(self.silent.into());
        self.time.write(out);
        self.sequence.write(out);
        out.option(self.run, |out, run| {
            out.decimal(run.value);
            out.varint(run.readings.into());
            out.varint(run.since_ms);
        });
        self.level.write(out);
    }

    fn read(bytes: &mut Reader<'_>) -> Result<Self, StateError> {
        Ok(Self {
            rule: None,
            cycle: Cycle::read(bytes)?,
            silent: bytes.bool()?,
            time: Order::read(bytes)?,
            sequence: Order::read(bytes)?,
            run: bytes.option(|bytes| {
                Ok(Run { value: bytes.decimal()?, readings: bytes.u32()?, since_ms: bytes.varint()? })
            })?,
            level: Level::read(bytes)?,
        })
    }
}
