//! The experiment on the hub's page, while it runs: `sealcast demo --serve`.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sealcast_console::{Console, Demo, DemoState, Step, Valve, ValveState};
use sealcast_node::now_ms;

/// `--serve` and what goes with it.
#[derive(clap::Args)]
pub struct ServeArgs {
    /// Show the experiment step by step on a page at this address, and go on serving it until Ctrl-C.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:8088", conflicts_with = "json")]
    pub serve: Option<SocketAddr>,
    /// With `--serve`: seconds for each step, so that somebody can follow.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds, requires = "serve")]
    pace: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=60.0).contains(&seconds) { Ok(seconds) } else { Err("it is not from 0 to 60".to_owned()) }
}

/// Within this time the console has heard of a message that was delivered.
const HEARD: Duration = Duration::from_millis(150);
/// Pictures of the machine a second.
const FRAMES: u64 = 4;
/// So long a time is drawn.
const DRAWN_S: u64 = 60;
const MAX_POINTS: usize = (FRAMES * DRAWN_S) as usize;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Show {
    console: Arc<Console>,
    /// How long a step is looked at.
    pace: Duration,
    demo: Arc<Mutex<Demo>>,
}

impl Show {
    /// A show of `total` steps on the hub's console.
    pub fn new(console: Arc<Console>, args: &ServeArgs, total: usize) -> Self {
        let demo = Demo { total, ..Demo::default() };
        console.set_demo(demo.clone());
        Self { console, pace: Duration::from_secs_f64(args.pace), demo: Arc::new(Mutex::new(demo)) }
    }

    /// Returns once somebody looks on.
    pub async fn wait_for_visitor(&self) {
        while !self.console.is_watched() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Gives time to look at the steps of the chapter that is over. Then the next one is at work.
    pub async fn begin(&self, figure: &str, title: &str) {
        self.end_chapter();
        let steps = {
            let demo = self.demo();
            let last = demo.steps.last().map(|step| step.chapter.clone());
            demo.steps.iter().rev().take_while(|step| last.as_ref() == Some(&step.chapter)).count()
        };
        tokio::time::sleep(self.pace * u32::try_from(steps).unwrap_or(u32::MAX)).await;
        self.change(|demo| push_running(demo, format!("{figure}: {title}")));
    }

    /// What happens in the step that is at work.
    pub fn tell(&self, text: &str) {
        self.change(|demo| {
            let Some(step) = demo.steps.last_mut().filter(|step| step.state == DemoState::Running) else { return };
            if !step.text.is_empty() {
                step.text.push('\n');
            }
            step.text.push_str(text);
        });
    }

    /// The step that was at work is decided, and the next one of its chapter begins.
    pub fn decide(&self, name: &str, held: bool, expected: &serde_json::Value, seen: &serde_json::Value) {
        self.change(|demo| {
            let Some(step) = demo.steps.last_mut() else { return };
            step.title = name.to_owned();
            step.state = if held { DemoState::Held } else { DemoState::Failed };
            (step.expected, step.seen) = (Some(words(expected)), Some(words(seen)));
            step.at = Some(now_ms());
            let chapter = step.chapter.clone();
            push_running(demo, chapter);
        });
    }

    /// The chapter has no more steps.
    fn end_chapter(&self) {
        self.change(|demo| demo.steps.retain(|step| step.state != DemoState::Running));
    }

    /// All is over.
    pub fn end(&self) {
        self.end_chapter();
        self.change(|demo| {
            demo.done = true;
            demo.total = demo.steps.len();
        });
    }

    /// What a node's application has got of the newest message on `topic`; `None`: nothing that it could read.
    pub fn note_read(&self, topic: &str, node: &str, text: Option<String>) {
        let (console, topic, node) = (self.console.clone(), topic.to_owned(), node.to_owned());
        tokio::spawn(async move {
            // The hub hears of a message beside its delivery.
            tokio::time::sleep(HEARD).await;
            console.set_read(&topic, &node, text);
        });
    }

    /// How the machine is now, and what its controller was told last.
    pub fn machine(&self, temperature: f64, shown: f64, is_open: bool, damaged: bool) {
        self.change(|demo| {
            let mut history = demo.valve.take().map(|valve| valve.history).unwrap_or_default();
            history.push((now_ms(), temperature, shown));
            let excess = history.len().saturating_sub(MAX_POINTS);
            history.drain(..excess);
            let valve = if is_open { ValveState::Open } else { ValveState::Shut };
            demo.valve = Some(Valve { temperature, shown, valve, damaged, history });
        });
    }

    /// How often [`Self::machine`] is called.
    pub fn frame() -> Duration {
        Duration::from_millis(1_000 / FRAMES)
    }

    fn change(&self, change: impl FnOnce(&mut Demo)) {
        let mut demo = self.demo();
        change(&mut demo);
        self.console.set_demo(demo.clone());
    }

    fn demo(&self) -> MutexGuard<'_, Demo> {
        self.demo.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push_running(demo: &mut Demo, chapter: String) {
    let n = demo.steps.len() + 1;
    let (title, text) = ("In progress".to_owned(), String::new());
    demo.steps.push(Step { n, title, text, state: DemoState::Running, expected: None, seen: None, chapter, at: None });
}

/// As a person reads it.
fn words(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Bool(true) => "yes".to_owned(),
        serde_json::Value::Bool(false) => "no".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(bytes) if !bytes.is_empty() => text_of(bytes).unwrap_or_else(|| value.to_string()),
        other => other.to_string(),
    }
}

/// Bytes that are a text.
fn text_of(bytes: &[serde_json::Value]) -> Option<String> {
    let bytes: Option<Vec<u8>> =
        bytes.iter().map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
    String::from_utf8(bytes?).ok().filter(|text| text.chars().all(|letter| !letter.is_control()))
}
