//! `mosquitto_sub`, and what it prints.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use super::{PATIENCE, Process};

/// A `mosquitto_sub` that has its subscription. Lines are `topic payload`, the payload as text.
pub fn mosquitto_sub(port: &str, topic: &str, extra: &[&str]) -> Process {
    mosquitto_sub_at(&["-h", "127.0.0.1", "-p", port], topic, extra)
}

/// The same, where `broker` are the options that say where its broker is.
///
/// It ends when all its filters are refused. A broker that cannot do it in time refuses what it takes a moment later: NATS
/// does after a node has died. So it is started again until its filters are granted.
pub fn mosquitto_sub_at(broker: &[&str], topic: &str, extra: &[&str]) -> Process {
    let deadline = Instant::now() + PATIENCE;
    let mut earlier = Vec::new();
    loop {
        // Its output is not a terminal: without stdbuf it comes in blocks.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub"]).args(broker);
        command.args(["-t", topic, "-q", "1", "-d", "-F", "%t %p"]).args(extra);
        let mut process = Process::start(&mut command);
        let is_granted = process.is_granted(deadline);
        // A session's messages came to the one that was refused.
        earlier.extend(process.pending());
        if is_granted {
            earlier.into_iter().for_each(|line| process.put_back(line));
            return process;
        }
        assert!(Instant::now() < deadline, "the subscription of {topic} was refused for {PATIENCE:?}");
    }
}

impl Process {
    /// Whether a [`mosquitto_sub`] gets all its filters, once it has its SUBACK.
    fn is_granted(&mut self, deadline: Instant) -> bool {
        loop {
            let line = self.line_within(deadline.saturating_duration_since(Instant::now())).expect("a SUBACK in time");
            if let Some(codes) = line.strip_prefix("Subscribed (mid:").and_then(|rest| rest.split_once("): ")) {
                return codes.1.split(", ").all(|code| matches!(code, "0" | "1" | "2"));
            }
            // What a session kept comes before the acknowledgement of its subscription.
            self.put_back(line);
        }
    }

    /// The next message that a [`mosquitto_sub`] printed, past its debug lines. Not for showing that nothing comes: see
    /// [`Agent::before_marker`].
    pub fn message(&mut self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            let line = self.next_within(deadline.saturating_duration_since(Instant::now()))?;
            if !line.starts_with("Client ") && !line.starts_with("Subscribed") {
                return Some(line);
            }
        }
    }

    /// The messages that come before the first one that contains `part`, which has to come.
    pub fn before(&mut self, part: &str) -> Vec<String> {
        let mut others = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.message(deadline.saturating_duration_since(Instant::now())) {
                Some(line) if line.contains(part) => return others,
                Some(line) => others.push(line),
                None => panic!("no message with {part:?} within {PATIENCE:?}, but {others:?}"),
            }
        }
    }
}
