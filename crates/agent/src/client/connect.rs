//! How a client connects: its session, its will, its own connection to the broker, and what the broker says to it.

use bytes::Bytes;
use sealcast_agent_core::{Away, Denied, Route};
use sealcast_mqtt::{ConnectCode, ConnectRequest, SessionState, WillAnswer, WillRequest};
use sealcast_node::now_ms;
use sealcast_seal::{Content, Purpose};
use tracing::{debug, info, warn};

use super::{CONTROL_TOPIC, Client, Dirty, Until, Waiting, class};
use crate::{refusals, store::DiskFails};

impl Client {
    pub(super) async fn attend_connect(&mut self, request: Box<ConnectRequest>, until: &mut Until) -> Option<Waiting> {
        self.name = request.client_id.as_str().to_owned();
        if !self.name.is_empty() {
            self.label.clone_from(&self.name);
        }
        self.version = request.version;
        self.keep_session = request.session_expiry_s > 0;
        if !self.shared.store.probe() {
            self.give_up = Some(DiskFails.to_string());
            return None;
        }
        let will = match request.will.as_ref().map(|will| self.seal_will(will)) {
            None => WillAnswer::AsIs,
            Some(Ok(answer)) => answer,
            Some(Err(denied)) if self.may_wait(&denied, until) => return Some(Waiting::Connect(request)),
            Some(Err(denied)) => {
                let reason = format!("the will cannot be sealed: {denied}");
                self.refuse_connect(ConnectCode::NotAuthorized, &reason);
                return None;
            }
        };
        let shared = self.shared.clone();
        let session = match shared.sessions.open(&self.name, &shared.store, &shared.data).await {
            Ok(session) => session,
            Err(error) => {
                self.refuse_connect(ConnectCode::ServerUnavailable, &format!("{error:#}"));
                return None;
            }
        };
        match self.shared.upstream.connect().await {
            Ok(stream) => {
                self.shared.events.broker_back();
                self.broker = Some(stream);
                let mqtt = if request.clean_start {
                    SessionState::default()
                } else {
                    let state = session.state();
                    self.seen_ms = state.seen_ms;
                    state.mqtt.clone()
                };
                self.taken_over = session.ended.clone();
                self.session = Some(session);
                if let Some(max) = self.shared.upstream.max_packet_bytes() {
                    self.proxy.set_broker_max_bytes(max);
                }
                if let Err(error) = self.proxy.accept(will, mqtt) {
                    self.refuse_connect(ConnectCode::Unspecified, &error.to_string());
                }
            }
            // As if the broker itself were away: a client that is told "refused" may give up for good.
            Err(error) => {
                self.shared.events.broker_away(&self.label, &format!("{error:#}"));
                self.give_up = Some("the broker is away".to_owned());
            }
        }
        None
    }

    fn refuse_connect(&mut self, code: ConnectCode, reason: &str) {
        if let Err(error) = self.proxy.refuse_connect(code, reason) {
            debug!(%error);
        }
    }

    fn seal_will(&mut self, will: &WillRequest) -> Result<WillAnswer, Denied> {
        let topic = will.topic.as_str();
        match self.shared.data.route(topic) {
            Route::Clear => Ok(WillAnswer::AsIs),
            Route::Control => Err(Denied::Refused(CONTROL_TOPIC.into())),
            Route::Brokers => {
                let what = "its will is dropped: topics that begin with $ are the broker's own";
                self.shared.events.note(self.who(), topic, what);
                Ok(WillAnswer::Dropped)
            }
            Route::Behind(reason) => Err(Denied::Behind(reason)),
            Route::Refused(reason) => Err(Denied::Refused(reason)),
            // It deletes what the broker keeps. Sealed, it would be kept itself.
            Route::Group(_) if will.retain && will.payload.is_empty() => {
                self.note_will(will, Bytes::new(), &Bytes::new(), now_ms());
                Ok(WillAnswer::Sealed(Bytes::new()))
            }
            Route::Group(group) => {
                let now = now_ms();
                let judged = self.shared.values.will(will, now).map_err(|blocked| Denied::Refused(blocked.reason))?;
                let content = Content {
                    purpose: Purpose::Will,
                    class: class(will.qos),
                    retain: will.retain,
                    props: &judged.props,
                    payload: &judged.payload,
                };
                let frame = self.shared.data.seal(group, topic, &content, now)?;
                if will.retain {
                    self.note_will(will, judged.payload, &judged.props, now);
                }
                Ok(WillAnswer::Sealed(frame.into()))
            }
        }
    }

    pub(super) fn handle_connected(&mut self, connected: &sealcast_mqtt::Connected) {
        if let Some(assigned) = &connected.assigned_client_id {
            self.label = format!("{} (given by the broker)", assigned.as_str());
        }
        let news = self.shared.refusals.is_news(&self.name, connected.code);
        if connected.code != 0 {
            let (code, reason) = (format!("{:#04x}", connected.code), refusals::reason(self.version, connected.code));
            if news {
                warn!(client = self.label, code, reason, "the broker refused the client's connection");
            } else {
                debug!(client = self.label, code, reason, "the broker refused the client's connection again");
            }
            return;
        }
        self.accepted = true;
        if let Some(expiry_s) = connected.session_expiry_s {
            self.keep_session = expiry_s > 0;
        }
        // That the broker has kept the session is its word alone; since when the client was away is this agent's.
        let since_ms = self.seen_ms.filter(|_| connected.session_present);
        self.away = since_ms.map(|since_ms| Away { since_ms, until_ms: now_ms() });
        if let Some(session) = &self.session
            && !connected.session_present
        {
            session.state().receipts.clear();
        }
        if self.keep_session {
            self.dirty = Dirty::Now;
        }
        self.greet = connected.session_present;
        info!(client = self.label, version = ?self.version, resumed = connected.session_present, "client connected");
    }
}
