//! How an agent connects to the broker for itself, and what comes over that connection.

use anyhow::{Context as _, anyhow};
use sealcast_agent_core::{
    Now, SyncId,
    control::{Input, Question},
};
use sealcast_identity::CLIENT_ID_PREFIX;
use sealcast_ledger::Hash;
use sealcast_mqtt::{
    Connect, Publish, Qos, Text, Version,
    client::{self, Outcome, Output},
};
use sealcast_topic::{ControlTopic, is_control};

use super::{
    Agent, Around, Process, Stop,
    link::{AGAIN_MS, CONFIG, Call, Owner, failed},
};
use crate::{
    hub::{Answer, Request, read_named},
    net::End,
};

impl Process {
    /// Asks the ledger.
    pub(super) fn ask(&mut self, around: &mut Around<'_>, sync: SyncId, from: u64, most: usize) {
        self.request(around, Request::Ask { from, most }, Call::Ask(sync), Call::Ask(sync));
    }

    /// Asks the hub for what it keeps.
    pub(super) fn ask_kept(&mut self, around: &mut Around<'_>, question: Question, have: Vec<(String, Hash)>) {
        self.request(around, Request::Kept { have }, Call::Kept(question), Call::Kept(question));
    }

    /// Submits to the ledger.
    pub(super) fn submit(&mut self, around: &mut Around<'_>, entry: Box<sealcast_ledger::SignedEntry>) {
        self.request(around, Request::Submit(entry), Call::Submit, Call::Submit);
    }

    fn request(&mut self, around: &mut Around<'_>, request: Request, call: Call, otherwise: Call) {
        let place = around.hub.requests.len();
        around.hub.requests.push(request);
        let node = self.keyring.device().as_str().to_owned();
        if let Err(reason) = self.link.call(&node, place, call, around.now) {
            self.control.handle(failed(otherwise, &reason));
        }
    }

    fn take_call(&mut self, id: u64) -> Option<Call> {
        self.link.calls.remove(&id).map(|(call, _)| call)
    }

    fn take_message(&mut self, around: &Around<'_>, publish: Publish) {
        let Some(topic) = publish.topic else { return };
        if !is_control(&topic) {
            return;
        }
        if !matches!(ControlTopic::parse(&topic), Some(ControlTopic::Response { .. })) {
            let input = Input::Message { topic: topic.as_str().to_owned(), payload: publish.payload };
            return self.control.handle(input);
        }
        let Some((id, place)) = read_named(&publish.payload) else { return };
        let (Some(call), Some(answer)) = (self.take_call(id), around.hub.answers.get(place).cloned()) else { return };
        match (call, answer) {
            (Call::Ask(sync), Answer::Records(records)) => {
                self.control.handle(Input::Records { sync, answer: Ok(records) });
            }
            (Call::Kept(question), Answer::Kept(kept)) => {
                self.control.handle(Input::Kept { question, answer: Ok(kept) });
            }
            (Call::Submit, Answer::Submitted(submitted)) => self.control.handle(Input::Submitted(submitted)),
            (call, _) => self.control.handle(failed(call, "an answer to something else")),
        }
    }

    fn link_closed(&mut self, now: Now) {
        self.link.connection = None;
        self.link.again_ms = now.run_ms + AGAIN_MS;
        if std::mem::take(&mut self.link.up) {
            self.control.handle(Input::Down);
        }
        for (_, (call, _)) in std::mem::take(&mut self.link.calls) {
            self.control.handle(failed(call, "the link is down"));
        }
    }
}

impl Agent {
    /// Its own connection breaks.
    pub fn cut_link(&mut self, around: &mut Around<'_>) {
        let Some(process) = &mut self.process else { return };
        if let Some((conn, _)) = &process.link.connection {
            around.net.cut(*conn);
            process.link_closed(around.now);
        }
    }

    /// The next frame of the broker for the agent itself, or the end of its connection. `false` if there is neither.
    pub fn take_down(&mut self, around: &mut Around<'_>) -> bool {
        let Some(process) = &mut self.process else { return false };
        let now = process.link.instant(around.now);
        let Some((conn, client)) = &mut process.link.connection else { return false };
        let wire = around.net.wires.get_mut(conn);
        let ended = wire.as_ref().is_none_or(|wire| wire.down_ended);
        match wire.and_then(|wire| wire.down.pop_front()) {
            Some(bytes) => client.handle_input(&bytes, now),
            None if ended => {
                around.net.end_up(*conn);
                process.link_closed(around.now);
            }
            None => return false,
        }
        true
    }

    pub(super) fn run_link(&mut self, around: &mut Around<'_>) -> Result<bool, Stop> {
        let device = self.device;
        let Some(process) = &mut self.process else { return Ok(false) };
        let mut any = process.connect_link(around, device)?;
        while let Some(output) = process.link.connection.as_mut().and_then(|(_, client)| client.poll_output()) {
            any = true;
            process.link_output(around, output)?;
        }
        let now = process.link.instant(around.now);
        while let Some((conn, bytes)) =
            process.link.connection.as_mut().and_then(|(conn, client)| Some((*conn, client.poll_transmit(now)?)))
        {
            any = true;
            for (version, frame) in around.net.send_up(conn, &bytes)? {
                if let Ok(publish) = Publish::parse(&frame, version)
                    && let Some(topic) = publish.topic.as_deref().filter(|topic| !is_control(topic))
                {
                    let (cast, now) = (around.cast, around.now);
                    around.ghost.leaves(cast, device, &process.keyring, topic, &publish.payload, now);
                }
            }
        }
        let late: Vec<u64> = process
            .link
            .calls
            .iter()
            .filter(|(_, (_, until))| *until <= around.now.run_ms)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            any = true;
            if let Some(call) = process.take_call(id) {
                process.control.handle(failed(call, "no answer in time"));
            }
        }
        Ok(any)
    }
}

impl Process {
    fn connect_link(&mut self, around: &mut Around<'_>, device: usize) -> Result<bool, Stop> {
        if self.link.connection.is_some() || around.now.run_ms < self.link.again_ms {
            return Ok(false);
        }
        let conn = around.net.open(End::Control { device });
        let connect = Connect::new(
            Version::V5,
            Text::new(&format!("{CLIENT_ID_PREFIX}{}-{conn}", self.keyring.device()))
                .map_err(|error| anyhow!("{error}"))?,
        );
        let client = client::Client::new(connect, CONFIG, self.link.instant(around.now)).context("CONNECT")?;
        self.link.connection = Some((conn, client));
        Ok(true)
    }

    fn link_output(&mut self, around: &mut Around<'_>, output: Output<Owner, ()>) -> Result<(), Stop> {
        match output {
            Output::Connected(_) => {
                let device = self.keyring.device().as_str();
                let topics = [
                    ControlTopic::Checkpoint { device },
                    ControlTopic::Ledger,
                    ControlTopic::Head,
                    ControlTopic::Keys { device: "+" },
                    ControlTopic::Inbox { device, group: "+", committer: "+" },
                    ControlTopic::Response { node: device },
                ];
                let filters = topics.map(|topic| topic.to_string());
                let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), Qos::AtLeastOnce)).collect();
                if let Some((_, client)) = &mut self.link.connection {
                    client.subscribe(&filters, ()).map_err(|rejected| anyhow!("{}", rejected.error))?;
                }
            }
            Output::Subscribed((), _) => {
                self.link.up = true;
                self.control.handle(Input::Up);
                self.values.link_up();
            }
            Output::Message(publish, receipt) => {
                self.take_message(around, publish);
                if let (Some(receipt), Some((_, client))) = (receipt, &mut self.link.connection) {
                    client.acknowledge(receipt);
                }
            }
            Output::Published(Owner::Message(topic), Outcome::Taken) if is_control(&topic) => {
                self.control.handle(Input::Taken { topic });
            }
            Output::Published(Owner::Message(topic), Outcome::Refused(reason)) if is_control(&topic) => {
                self.control.handle(Input::Refused { topic, reason: reason.to_string() });
            }
            Output::Published(Owner::Message(_), Outcome::Refused(_)) => self.values.link_refused(),
            Output::Published(Owner::Call(id), Outcome::Refused(reason)) => {
                if let Some(call) = self.take_call(id) {
                    self.control.handle(failed(call, &reason.to_string()));
                }
            }
            Output::Closed(_) => {
                if let Some((conn, _)) = &self.link.connection {
                    around.net.end_up(*conn);
                }
                self.link_closed(around.now);
            }
            Output::Published(..) | Output::Unsubscribed(..) | Output::Pong(()) => {}
        }
        Ok(())
    }
}
