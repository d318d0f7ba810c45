//! What happened to the machine, for a picture.

use std::sync::{Arc, Mutex, PoisonError};

use sealcast_agent::{ClientEvent, Refused};
use sealcast_node::now_ms;
use tokio::sync::broadcast;

use super::{
    controller::OPENS_AT,
    machine::{Machine, OVERHEATS_AT},
};
use crate::{
    demo::hostile::FORGED,
    plot::{Ink, Join, Lane, Limit, Line, Mark, Marks, Plot, Span},
};

/// What a thermometer says above this, °C, is not drawn: it would stand at the picture's edge as if it were there.
const TOP: f64 = 40.0;

/// See the module.
#[derive(Default)]
pub struct Trace {
    told: Vec<(u64, f64)>,
    acts: Vec<Span>,
    blocked: Arc<Mutex<Vec<Mark>>>,
    refused: Arc<Mutex<Vec<Mark>>>,
}

impl Trace {
    /// Marks what the thermometer's agent does not publish on `topic`. Ends with the agent.
    pub fn watch_thermometer(
        &self,
        mut events: broadcast::Receiver<ClientEvent>,
        topic: &'static str,
        machine: Arc<Machine>,
    ) {
        let marks = self.blocked.clone();
        tokio::spawn(async move {
            while let Some(event) = next(&mut events).await {
                if let ClientEvent { what: Refused::Publish, topic: of, why, .. } = event
                    && of == topic
                {
                    put(&marks, machine.now().said, why.text);
                }
            }
        });
    }

    /// Marks what the valve's agent does not hand on from `topic`. Ends with the agent.
    pub fn watch_valve(&self, mut events: broadcast::Receiver<ClientEvent>, topic: &'static str) {
        let marks = self.refused.clone();
        // Changed bits have no value: they stand where the attacker wanted to have it.
        let value = FORGED.parse().unwrap_or_default();
        tokio::spawn(async move {
            while let Some(event) = next(&mut events).await {
                if let ClientEvent { what: Refused::Delivery { .. }, topic: of, why, .. } = event
                    && of == topic
                {
                    put(&marks, value, why.text);
                }
            }
        });
    }

    /// An act has ended in which the controller was told this.
    pub fn act(&mut self, name: &str, since_ms: u64, told: Vec<(u64, f64)>) {
        self.told.extend(told);
        // What was believed before says nothing of the next act.
        self.told.push((now_ms(), f64::NAN));
        self.acts.push(Span { from_ms: since_ms, to_ms: now_ms(), name: name.to_owned(), ink: Ink::Skipped });
    }

    /// The picture of all acts.
    pub fn picture(self, machine: &Machine) -> Plot {
        let start_ms = self.acts.first().map_or(0, |act| act.from_ms);
        let samples = machine.samples(start_ms);
        let take = |marks: &Mutex<Vec<Mark>>| {
            let mut marks = std::mem::take(&mut *marks.lock().unwrap_or_else(PoisonError::into_inner));
            marks.retain(|mark| mark.value <= TOP);
            marks
        };
        Plot {
            title: "A machine, its cooling valve, and who says how warm it is".into(),
            note:
                "act 1: plain MQTT, the broker takes 5 degrees off; 2: sealed; 3: the sensor breaks; 4: on the ledger"
                    .into(),
            values: "temperature, °C".into(),
            lines: vec![
                Line {
                    name: "machine".into(),
                    ink: Ink::Value,
                    join: Join::Straight,
                    points: samples.iter().map(|sample| (sample.time_ms, sample.temperature)).collect(),
                },
                Line {
                    name: "what the controller is told".into(),
                    ink: Ink::Held,
                    join: Join::Steps,
                    points: self.told,
                },
            ],
            marks: vec![
                Marks { name: "blocked at the thermometer".into(), ink: Ink::Blocked, points: take(&self.blocked) },
                Marks { name: "forged, refused at the valve".into(), ink: Ink::Flagged, points: take(&self.refused) },
            ],
            spans: self.acts,
            limits: vec![
                Limit { value: OPENS_AT, name: "opens".into() },
                Limit { value: OVERHEATS_AT, name: "overheats".into() },
            ],
            lanes: vec![Lane {
                name: "valve".into(),
                legend: "valve open".into(),
                ink: Ink::Local,
                points: samples.iter().map(|sample| (sample.time_ms, sample.open)).collect(),
            }],
        }
    }
}

async fn next(events: &mut broadcast::Receiver<ClientEvent>) -> Option<ClientEvent> {
    loop {
        match events.recv().await {
            Ok(event) => return Some(event),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

fn put(marks: &Mutex<Vec<Mark>>, value: f64, text: String) {
    marks.lock().unwrap_or_else(PoisonError::into_inner).push(Mark { time_ms: now_ms(), value, text });
}
