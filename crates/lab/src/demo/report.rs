//! The experiment's report: each step with what was expected and what was seen, told to a person or given as JSON.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use sealcast_node::output;
use sealcast_operator::progress::Bar;
use serde::Serialize;
use serde_json::Value;

use super::show::Show;

/// One checked claim of the experiment.
#[derive(Serialize)]
pub struct Step {
    /// The paper's figure, or `beyond the paper`.
    pub figure: String,
    /// The claim.
    pub name: String,
    /// Whether what was seen is what was expected.
    pub held: bool,
    /// What had to be seen.
    pub expected: Value,
    /// What was seen.
    pub seen: Value,
}

/// Everything the experiment found.
#[derive(Serialize, Default)]
pub struct Report {
    /// In the order in which they were run.
    pub steps: Vec<Step>,
    /// How long the key exchanges took, in ms.
    pub times_ms: BTreeMap<&'static str, f64>,
    /// What sealing adds to a payload, in bytes.
    pub overhead_bytes: BTreeMap<&'static str, u64>,
    /// The ledger at the end.
    pub ledger: Option<LedgerEnd>,
    #[serde(skip)]
    narrate: bool,
    /// The page that shows it, too.
    #[serde(skip)]
    show: Option<Show>,
    /// Shown while the next line is awaited.
    #[serde(skip)]
    wait: Mutex<Option<Bar>>,
}

/// The ledger when the experiment ended.
#[derive(Serialize)]
pub struct LedgerEnd {
    /// Number of entries.
    pub height: u64,
    /// Head of the hash chain, hex.
    pub head: String,
    /// Whether each entry's signature, rule and place in the chain was checked anew from the first on.
    pub verified: bool,
}

impl Report {
    /// An empty report; `narrate` prints each step as it is checked.
    pub fn new(narrate: bool) -> Self {
        Self { narrate, ..Self::default() }
    }

    /// Shows the steps on a page, too.
    pub fn show_on(&mut self, show: Show) {
        self.show = Some(show);
    }

    /// The page that shows the steps.
    pub fn show(&self) -> Option<&Show> {
        self.show.as_ref()
    }

    /// A headline of the story. On a page there is time to look at the chapter before.
    pub async fn chapter(&self, figure: &str, title: &str) -> Result<()> {
        if let Some(show) = &self.show {
            show.begin(figure, title).await;
        }
        self.say(&format!("\n{figure}: {title}"))
    }

    /// A line of the story.
    pub fn tell(&self, text: &str) -> Result<()> {
        if let Some(show) = &self.show {
            show.tell(text);
        }
        text.lines().try_for_each(|line| self.say(&format!("    {line}")))
    }

    /// A line for whoever reads, above the bar.
    fn say(&self, line: &str) -> Result<()> {
        if !self.narrate {
            return Ok(());
        }
        let mut wait = self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        wait.get_or_insert_with(|| Bar::waiting("the experiment goes on")).suspend(|| output::line(line))
    }

    /// Before something else is printed.
    pub fn end_wait(&self) {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Checks that what was `seen` is what was `expected`.
    pub fn check<T: Serialize + PartialEq>(&mut self, figure: &str, name: &str, expected: T, seen: T) -> Result<()> {
        let held = expected == seen;
        let step = Step {
            figure: figure.to_owned(),
            name: name.to_owned(),
            held,
            expected: serde_json::to_value(expected)?,
            seen: serde_json::to_value(seen)?,
        };
        self.say(&format!("  {} {name}", if held { "[held]" } else { "[DIFFERS]" }))?;
        if !held {
            self.say(&format!("         expected {}\n         seen     {}", step.expected, step.seen))?;
        }
        if let Some(show) = &self.show {
            show.decide(name, held, &step.expected, &step.seen);
        }
        self.steps.push(step);
        Ok(())
    }

    /// Whether the story is told.
    pub fn narrates(&self) -> bool {
        self.narrate
    }

    /// What is about to be seen.
    pub fn tell_title(&self) -> Result<()> {
        if !self.narrate {
            return Ok(());
        }
        output::line("Sealcast: the experiment of Appl. Sci. 2024, 14(7), 2975, and beyond.")?;
        output::line(
            "One hub (CA, broker, ledger, relay), six agents (four nodes' and the valve's two) and their MQTT clients, \
             over TCP and TLS on loopback.",
        )
    }

    /// The figures, and whether all held.
    pub fn tell_end(&self) -> Result<()> {
        self.end_wait();
        output::line("")?;
        for (what, took) in &self.times_ms {
            output::line(&format!("  {:<22} {took:>8.1} ms", what.replace('_', " ")))?;
        }
        for (mode, bytes) in &self.overhead_bytes {
            output::line(&format!("  {:<22} {bytes:>8}", format!("bytes added ({mode})")))?;
        }
        let held = self.steps.iter().filter(|step| step.held).count();
        output::line(&format!("\n{held} of {} steps held", self.steps.len()))
    }

    /// Whether every step held.
    pub fn held(&self) -> bool {
        self.steps.iter().all(|step| step.held)
    }
}
