//! A simple model of range, step, stuck and sentinels against random sequences: the checker says the same, and nothing that
//! is accepted is what a `block` rule names.

use proptest::prelude::*;
use sealcast_quality::{Action, Check, Checker};

use super::{check_one, hundredths, rules, stamped};

#[derive(Debug, Clone)]
struct Config {
    min: i64,
    max: i64,
    step: i64,
    step_action: Action,
    stuck: u32,
    stuck_action: Action,
    accept_after: u32,
}

impl Config {
    fn toml(&self) -> String {
        let decimal = |value: i64| sealcast_reading::Decimal::new(value.into(), 2);
        format!(
            "accept_after = {}\nrange = {{ min = {}, max = {} }}\nstep = {{ max = {}, action = \"{}\" }}\n\
             stuck = {{ readings = {}, action = \"{}\" }}\nsentinels = {{ values = [7], near = 0 }}",
            self.accept_after,
            decimal(self.min),
            decimal(self.max),
            decimal(self.step),
            self.step_action,
            self.stuck,
            self.stuck_action
        )
    }
}

/// The rules, written down as plainly as they can be, in hundredths.
#[derive(Default)]
struct Model {
    accepted: Option<i64>,
    /// The last reading that went against `accepted`, and how many that agree.
    rival: Option<(i64, u32)>,
    run: Option<(i64, u32)>,
}

impl Model {
    fn judge(&mut self, config: &Config, value: i64) -> Vec<(Check, Action)> {
        if value == 700 {
            return vec![(Check::Sentinel, Action::Block)];
        }
        let mut found = Vec::new();
        if value < config.min || value > config.max {
            found.push((Check::Range, Action::Block));
        }
        let refused = !found.is_empty();
        let readings = self.run.filter(|(same, _)| *same == value).map_or(1, |(_, readings)| readings + 1);
        self.run = Some((value, readings));
        let stuck = readings >= config.stuck;
        if stuck {
            found.push((Check::Stuck, config.stuck_action));
        }
        if refused {
            return found;
        }
        let held = stuck && config.stuck_action == Action::Block;
        let far = self.accepted.is_some_and(|accepted| (value - accepted).abs() > config.step);
        if far && config.step_action == Action::Block {
            let agree = self.rival.filter(|(last, _)| (value - last).abs() <= config.step).map_or(1, |(_, n)| n + 1);
            self.rival = Some((value, agree));
            if agree >= config.accept_after && !held {
                found.push((Check::Level, Action::Flag));
                self.accepted = Some(value);
                self.rival = None;
            } else {
                found.push((Check::Step, Action::Block));
            }
        } else {
            if far {
                found.push((Check::Step, Action::Flag));
            }
            if !held {
                self.accepted = Some(value);
                self.rival = None;
            }
        }
        found
    }
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Flag), Just(Action::Block)]
}

fn configs() -> impl Strategy<Value = Config> {
    (-900_i64..0, 0_i64..1500, 1_i64..400, actions(), 2_u32..5, actions(), 2_u32..6).prop_map(
        |(min, max, step, step_action, stuck, stuck_action, accept_after)| Config {
            min,
            max,
            step,
            step_action,
            stuck,
            stuck_action,
            accept_after,
        },
    )
}

/// Walks, jumps, rests and sentinels: what makes the rules meet.
fn values() -> impl Strategy<Value = Vec<i64>> {
    let moves = prop_oneof![
        4 => (-150_i64..150).prop_map(|by| (0_u8, by)),
        2 => Just((0_u8, 0_i64)),
        2 => (-1500_i64..2000).prop_map(|to| (1, to)),
        1 => Just((2, 0)),
    ];
    prop::collection::vec(moves, 1..150).prop_map(|moves| {
        let mut now = 0;
        let each = moves.into_iter().map(|(kind, by)| match kind {
            0 => {
                now += by;
                now
            }
            1 => {
                now = by;
                now
            }
            _ => 700,
        });
        each.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_checker_says_what_the_model_says(config in configs(), values in values()) {
        let mut checker = Checker::new(rules(&config.toml()), 0);
        let mut model = Model::default();
        for (at, value) in values.iter().enumerate() {
            let now_ms = 1000 * at as u64;
            let verdict = check_one(&mut checker, &stamped(hundredths(*value), now_ms), now_ms);
            let mut expected = model.judge(&config, *value);
            expected.sort();
            let mut found: Vec<(Check, Action)> =
                verdict.findings().iter().map(|finding| (finding.check, finding.action)).collect();
            found.sort();
            prop_assert_eq!(&found, &expected, "reading {} is {}: {}", at, value, &verdict);
        }
    }

    /// Said without the model: what is accepted is in the range, no sentinel, and not farther from what was accepted
    /// before than a step, unless it says that it is a new level.
    #[test]
    fn nothing_accepted_that_a_block_rule_names(config in configs(), values in values()) {
        let config = Config { step_action: Action::Block, ..config };
        let mut checker = Checker::new(rules(&config.toml()), 0);
        let mut accepted: Option<i64> = None;
        for (at, value) in values.iter().enumerate() {
            let now_ms = 1000 * at as u64;
            let verdict = check_one(&mut checker, &stamped(hundredths(*value), now_ms), now_ms);
            if verdict.action() == Action::Block {
                prop_assert!(!verdict.to_string().is_empty());
                continue;
            }
            prop_assert!(*value != 700 && (config.min..=config.max).contains(value));
            let near = accepted.is_none_or(|last| (value - last).abs() <= config.step);
            prop_assert!(near || verdict.marks().contains(Check::Level));
            accepted = Some(*value);
        }
    }

    /// Whatever was before: a sensor that measures well again is accepted after `accept_after` readings.
    #[test]
    fn nobody_is_locked_out(config in configs(), values in values(), level in 0_i64..600) {
        let config = Config { min: -2000, max: 2000, ..config };
        let mut checker = Checker::new(rules(&config.toml()), 0);
        for (at, value) in values.iter().enumerate() {
            check_one(&mut checker, &stamped(hundredths(*value), at as u64), at as u64);
        }
        let mut last = Action::Block;
        // It alternates, so that it is not stuck.
        for at in 0..=u64::from(config.accept_after) {
            let now_ms = 100_000 + at;
            let value = hundredths(level + (at % 2) as i64);
            last = check_one(&mut checker, &stamped(value, now_ms), now_ms).action();
        }
        prop_assert_ne!(last, Action::Block);
    }
}

/// All rules that can block, blocking.
const ALL_BLOCK: &str = r#"
accept_after = 4
range = { min = -50, max = 50 }
step = { max = 3, action = "block" }
rate = { max_per_s = 2, action = "block" }
stuck = { readings = 4, action = "block" }
spike = { window = 7, sigmas = 3, floor = 0.5, action = "block" }
time = { action = "block" }
sequence = { action = "block" }
sentinels = { values = [7], near = 0 }
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// With all rules blocking: what is accepted breaks none of them, and after any past a sensor that measures well again
    /// (at another level, with a clock and a count that went back) is accepted within the readings that it takes to believe
    /// its clock, and then its level.
    #[test]
    fn all_rules_together(
        past in prop::collection::vec((values(), 1_u64..3000, 0_u64..100_000, 0_u64..1000), 1..4),
        level in -4900_i64..4800,
    ) {
        let mut checker = Checker::new(rules(ALL_BLOCK), 0);
        let mut now_ms = 1_000_000;
        let mut accepted: Option<(i64, u64, u64)> = None;
        // A stamp or count is believed by itself, also that of a reading whose value is blocked.
        let (mut believed_ms, mut believed_count) = (0, 0);
        let mut judge = |value: i64, gap_ms: u64, back_ms: u64, sequence: u64| {
            now_ms += gap_ms;
            let time_ms = now_ms - back_ms;
            let reading = sealcast_reading::Reading { sequence: Some(sequence), ..stamped(hundredths(value), time_ms) };
            let verdict = check_one(&mut checker, &reading, now_ms);
            let marks = verdict.marks();
            let blocks = |check: Check| {
                verdict.findings().iter().any(|found| found.check == check && found.action == Action::Block)
            };
            if !blocks(Check::Time) {
                prop_assert!(time_ms > believed_ms || marks.contains(Check::Time));
                believed_ms = time_ms;
            }
            if !blocks(Check::Sequence) {
                prop_assert!(sequence + 1 > believed_count || marks.contains(Check::Sequence));
                believed_count = sequence + 1;
            }
            if verdict.action() == Action::Block {
                return Ok(Action::Block);
            }
            prop_assert!(value != 700 && (-5000..=5000).contains(&value));
            if let Some((last, last_ms, last_time_ms)) = accepted {
                let new_level = marks.contains(Check::Level);
                prop_assert!(new_level || (value - last).abs() <= 300);
                let over_ms = if time_ms > last_time_ms { time_ms - last_time_ms } else { now_ms - last_ms };
                prop_assert!(new_level || (value - last).abs() * 1000 <= 200 * over_ms as i64, "{}", verdict);
            }
            accepted = Some((value, now_ms, time_ms));
            Ok(verdict.action())
        };
        for (values, gap_ms, back_ms, sequence) in past {
            for (at, value) in values.into_iter().enumerate() {
                judge(value, gap_ms, back_ms, sequence + at as u64)?;
            }
        }
        let mut first = None;
        for at in 0..30_u64 {
            let value = if level == 700 { 701 } else { level } + [0, 10, 20][at as usize % 3];
            let value = if value == 700 { 705 } else { value };
            if judge(value, 1000, 200_000, at)? != Action::Block {
                first.get_or_insert(at);
            } else {
// At the edge of the old window one or the other may still be a spike.
                prop_assert!(at < 16, "blocked again at {}", at);
            }
        }
        prop_assert!(first.is_some_and(|first| first < 4 + 4 + 1), "{:?}", first);
    }
}
