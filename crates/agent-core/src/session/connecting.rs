//! How a client connects: its memory, its will, its own connection to the broker, and what the broker says to it.

use bytes::Bytes;
use sealcast_mqtt::{ConnectCode, ConnectRequest, Connected, Credentials, SessionState, WillAnswer, WillRequest};
use sealcast_seal::{Content, Purpose};

use super::{
    DISK_FAILS, Effect, Memory, Session, Shared, Write, class,
    publishing::CONTROL_TOPIC,
    state::{State, Unsaved, Until, Waiting},
};
use crate::{Away, Cause, Denied, Keyring, Now, Route, Why};

/// What the driver has opened.
#[derive(Debug)]
pub struct Opened {
    /// What is remembered of the client.
    pub memory: Memory,
    /// The largest packet that the broker takes, where it is known before the broker says so.
    pub max_packet_bytes: Option<usize>,
    /// What the broker gets in the place of the client's own, if anything.
    pub credentials: Option<Credentials>,
}

/// Why there is nothing to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOpened {
    /// The client's memory cannot be had.
    Memory(String),
    /// The broker cannot be reached.
    BrokerAway,
    /// Nothing can be written.
    Disk,
}

impl Session {
    pub(super) fn begin_connect(&mut self, request: &ConnectRequest) {
        self.name = request.client_id.as_str().to_owned();
        if !self.name.is_empty() {
            self.label.clone_from(&self.name);
        }
        self.version = request.version;
        self.keep_session = request.session_expiry_s > 0;
    }

    /// Nothing is done for a client before it is let in: its will would be sealed, and so signed.
    pub(super) fn ask_for_login(&mut self, request: Box<ConnectRequest>) {
        self.proxy.set_credentials(Credentials::default());
        self.effects.push(Effect::CheckLogin { credentials: request.credentials.clone() });
        self.state = State::Login { request };
    }

    /// What [`Effect::CheckLogin`] asked for.
    pub fn login_checked(&mut self, is_right: bool, now: Now) {
        let request = match &mut self.state {
            State::Login { request } => request.clone(),
            _ => return,
        };
        if is_right {
            self.state = State::New;
            let deadline_ms = now.run_ms.saturating_add(self.settings.key_wait_ms);
            self.waiting.push_back((Waiting::Connect(request), Until { deadline_ms, news: None }));
        } else {
            self.state = State::Open;
            let reason = format!("bad user name or password, from {}", self.settings.address);
            self.refuse_connect(ConnectCode::BadUserNameOrPassword, &reason);
        }
    }

    pub(super) fn attend_connect(
        &mut self,
        shared: &mut Shared<'_>,
        request: Box<ConnectRequest>,
        until: &mut Until,
        now: Now,
    ) -> Option<Waiting> {
        let will = match request.will.as_ref().map(|will| self.seal_will(shared, will, now)) {
            None => WillAnswer::AsIs,
            Some(Ok(answer)) => answer,
            Some(Err(denied)) if self.may_wait(shared.keyring, &denied, until, now) => {
                return Some(Waiting::Connect(request));
            }
            Some(Err(denied)) => {
                self.refuse_connect(ConnectCode::NotAuthorized, &format!("the will cannot be sealed: {denied}"));
                return None;
            }
        };
        self.state = State::Opening { will, clean_start: request.clean_start };
        self.effects.push(Effect::Open { id: self.name.clone() });
        None
    }

    /// What [`Effect::Open`] asked for.
    pub fn opened(&mut self, opened: Opened, keyring: &Keyring) {
        let Opened { mut memory, max_packet_bytes, credentials } = opened;
        keyring.forget_old_epochs(&mut memory.opener);
        let State::Opening { will, clean_start } = &self.state else {
            self.memory = Some(memory);
            return;
        };
        let (will, clean_start) = (will.clone(), *clean_start);
        self.state = State::Open;
        let mqtt = if clean_start {
            SessionState::default()
        } else {
            self.seen_ms = memory.seen_ms;
            memory.mqtt.clone()
        };
        self.memory = Some(memory);
        if let Some(max) = max_packet_bytes {
            self.proxy.set_broker_max_bytes(max);
        }
        if let Some(credentials) = credentials {
            self.proxy.set_credentials(credentials);
        }
        if let Err(error) = self.proxy.accept(will, mqtt) {
            self.refuse_connect(ConnectCode::Unspecified, &error.to_string());
        }
    }

    /// [`Effect::Open`] came to nothing.
    pub fn not_opened(&mut self, why: NotOpened) {
        if !matches!(self.state, State::Opening { .. }) {
            return;
        }
        match why {
            NotOpened::Memory(reason) => {
                self.state = State::Open;
                self.refuse_connect(ConnectCode::ServerUnavailable, &reason);
            }
            // As if the broker itself were away: a client that is told "refused" may give up for good.
            NotOpened::BrokerAway => self.give_up("the broker is away"),
            NotOpened::Disk => self.give_up(DISK_FAILS),
        }
    }

    fn refuse_connect(&mut self, code: ConnectCode, reason: &str) {
        self.answered(|proxy| proxy.refuse_connect(code, reason));
    }

    fn seal_will(&mut self, shared: &mut Shared<'_>, will: &WillRequest, now: Now) -> Result<WillAnswer, Denied> {
        let topic = will.topic.as_str();
        match shared.keyring.route(topic) {
            Route::Clear => Ok(WillAnswer::AsIs),
            Route::Control => Err(Denied::Refused(Why::new(Cause::ControlTopic, CONTROL_TOPIC))),
            Route::Brokers => {
                let text = "its will is dropped: topics that begin with $ are the broker's own";
                self.publish_refused(topic, Why::new(Cause::BrokersTopic, text));
                Ok(WillAnswer::Dropped)
            }
            Route::Behind(why) => Err(Denied::Behind(why)),
            Route::Refused(why) => Err(Denied::Refused(why)),
            // It deletes what the broker keeps. Sealed, it would be kept itself.
            Route::Group(_) if will.retain && will.payload.is_empty() => {
                self.note_will(will, &Bytes::new(), &[], now);
                Ok(WillAnswer::Sealed(Bytes::new()))
            }
            Route::Group(group) => {
                let judged = shared
                    .values
                    .will(will, now.unix_ms)
                    .map_err(|blocked| Denied::Refused(Why::new(blocked.cause, blocked.reason)))?;
                let content = Content {
                    purpose: Purpose::Will,
                    class: class(will.qos),
                    retain: will.retain,
                    props: &judged.props,
                    payload: &judged.payload,
                };
                let frame = shared.keyring.seal(group, topic, &content, now.unix_ms)?;
                self.writes.extend(Write::sent(shared.keyring, group, topic, &content, now.unix_ms));
                if will.retain {
                    self.note_will(will, &judged.payload, &judged.props, now);
                }
                Ok(WillAnswer::Sealed(frame.into()))
            }
        }
    }

    pub(super) fn handle_connected(&mut self, connected: &Connected, now: Now) {
        if let Some(assigned) = &connected.assigned_client_id {
            self.label = format!("{} (given by the broker)", assigned.as_str());
        }
        if connected.code != 0 {
            self.effects.push(Effect::Refused { code: connected.code });
            return;
        }
        self.accepted = true;
        if let Some(expiry_s) = connected.session_expiry_s {
            self.keep_session = expiry_s > 0;
        }
        // That the broker has kept the session is its word alone; since when the client was away is this agent's.
        let since_ms = self.seen_ms.filter(|_| connected.session_present);
        self.away = since_ms.map(|since_ms| Away { since_ms, until_ms: now.unix_ms });
        if let Some(memory) = &mut self.memory
            && !connected.session_present
        {
            self.resubscribed = memory.mqtt.subscriptions.granted().next().is_some();
            memory.receipts.clear();
            memory.copies.forget();
        }
        if self.keep_session {
            self.unsaved = Unsaved::Now;
        }
        self.greet = connected.session_present;
        self.effects.push(Effect::Connected { resumed: connected.session_present });
    }
}
