//! CONNECT, DISCONNECT and the life of a session.

use std::collections::HashMap;
use std::sync::Arc;

use sealcast_mqtt::{Connect, Property, Text, Version, reason};

use super::connection::{ALIAS_MAX, ConnId, Connection, Held};
use super::effects::{JournalRecord, Output};
use super::publishing::Offer;
use super::session::{Due, Session, SessionKey};
use super::{Core, NewMessage};
use crate::cause::Cause;
use crate::certificate::PeerCertificate;
use crate::fault;
use crate::packets::{ConnAckProperties, Outgoing};
use crate::policy::{Attempt, Credential, Peer};
use crate::router::SessionId;
use crate::topic;

/// A client that understands less than this is not told why a message of its was refused.
const EXPLAINED_BYTES: usize = 4096;

/// Who may connect.
struct Admitted {
    peer: Peer,
    client_id: Arc<str>,
    /// In a place for control connections.
    reserved: bool,
}

impl Core {
    /// The first packet of a connection.
    pub fn handle_connect(
        &mut self,
        conn: ConnId,
        certificate: Option<&PeerCertificate>,
        connect: Connect,
        now_ms: u64,
    ) {
        self.members.refresh();
        let Admitted { peer, client_id, reserved } = match self.admit(certificate, &connect, now_ms) {
            Ok(admitted) => admitted,
            Err(code) => {
                self.fx.send(conn, Outgoing::ConnAck { session_present: false, code, properties: None });
                self.fx.outputs.push(Output::Close(conn));
                return;
            }
        };
        let assigned = connect.client_id.as_str().is_empty().then(|| Text::lossy(&client_id, client_id.len()));
        let key = SessionKey { device: peer.device.clone(), client_id };
        let present = self.take_over(&key, connect.clean_start, now_ms);
        let cap = u32::try_from(self.limits.max_session_expiry.as_secs()).unwrap_or(u32::MAX);
        let wanted_expiry_s = wanted_expiry_s(&connect);
        let expiry_s = match wanted_expiry_s {
            Some(wanted) => wanted.min(cap),
            None if connect.clean_start => 0,
            None => cap,
        };
        let id = match present {
            Some(id) => id,
            None => self.new_session(key.clone(), reserved),
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            if expiry_s > 0 || session.stored {
                session.stored = true;
                self.fx.record(JournalRecord::Session { id, key, expiry_s });
            }
            session.conn = Some(conn);
            session.window = usize::from(connect.properties.receive_maximum().min(self.limits.max_inflight)).max(1);
            session.expiry_s = expiry_s;
            session.credential = peer.credential;
            session.will = connect.will;
            session.will_due_ms = None;
        }
        let max_packet_bytes = connect.properties.maximum_packet_size().map(|max| max as usize);
        self.connections.insert(
            conn,
            Connection {
                session: id,
                peer,
                version: connect.version,
                aliases: HashMap::new(),
                max_packet_bytes,
                explain: connect.version == Version::V5
                    && connect.properties.request_problem_info() != 0
                    && max_packet_bytes.is_none_or(|max| max >= EXPLAINED_BYTES),
                pressure: Held::default(),
                bridge: connect.bridge,
            },
        );
        let properties = (connect.version == Version::V5).then(|| ConnAckProperties {
            session_expiry_s: (wanted_expiry_s != Some(expiry_s)).then_some(expiry_s),
            receive_max: self.limits.max_inflight.max(1),
            max_packet_bytes: u32::try_from(self.limits.max_packet_bytes).unwrap_or(u32::MAX),
            assigned_client_id: assigned,
            alias_max: ALIAS_MAX,
        });
        self.await_timer(id);
        self.move_in_shares(id);
        let session_present = present.is_some();
        self.fx.send(conn, Outgoing::ConnAck { session_present, code: 0, properties });
        self.resume(id, now_ms);
    }

    /// Who it is, or the reason code of the refusal.
    fn admit(&mut self, certificate: Option<&PeerCertificate>, connect: &Connect, now_ms: u64) -> Result<Admitted, u8> {
        if connect.properties.auth_method().is_some() {
            return Err(reason::BAD_AUTHENTICATION_METHOD);
        }
        let username = connect.username.as_ref().map(Text::as_str);
        let attempt = Attempt { certificate, client_id: connect.client_id.as_str(), username };
        let peer = self.policy.connect(&attempt).map_err(|refusal| {
            let code = refusal.cause();
            self.causes.add(code);
            let name = certificate.and_then(PeerCertificate::common_name).unwrap_or("without certificate");
            let client_id = connect.client_id.as_str();
            if let Some(unlogged) = self.told.due("connection refused", name, &refusal.to_string(), now_ms) {
                tracing::warn!(%code, certificate = name, client_id, unlogged, "connection refused: {refusal}");
            }
            refusal.code()
        })?;
        let device = peer.device.clone();
        if connect.will.as_ref().is_some_and(|will| topic::check_levels(&will.topic).is_err()) {
            let code = Cause::WillTopic;
            self.causes.add(code);
            tracing::info!(%code, %device, "connection refused: the topic of the will has too many levels");
            return Err(reason::TOPIC_NAME_INVALID);
        }
        if let Some(will) = &connect.will
            && !self.policy.may_publish(&peer, &will.topic)
        {
            let code = Cause::Will;
            self.causes.add(code);
            if let Some(unlogged) = self.told.due("will refused", &device, &will.topic, now_ms) {
                let reason = self.policy.why_not_publish(&peer, &will.topic);
                tracing::info!(%code, %device, topic = %will.topic, unlogged, "connection refused, because of its will: {reason}");
            }
            return Err(reason::NOT_AUTHORIZED);
        }
        let client_id: Arc<str> = if connect.client_id.as_str().is_empty() {
            format!("auto-{}-{now_ms:x}", self.next_session).into()
        } else {
            connect.client_id.as_str().into()
        };
        let key = SessionKey { device: device.clone(), client_id: client_id.clone() };
        let old = self.by_key.get(&key).and_then(|id| self.sessions.get(id));
        let (limits, usage) = (&self.limits, self.usages.of(&device));
        let had_place = old.is_some_and(|session| session.reserved);
        // A session that outlives its connection would keep the place from the next control connection.
        let ends = connect.clean_start && wanted_expiry_s(connect).unwrap_or(0) == 0;
        let reserved = ends
            && self.policy.is_control(&device, &client_id)
            && (had_place || usage.control_sessions < limits.max_device_control_sessions);
        if !reserved && (old.is_none() || had_place) {
            if usage.sessions >= limits.max_device_sessions {
                let (code, limit) = (Cause::DeviceSessions, limits.max_device_sessions);
                self.causes.add(code);
                tracing::warn!(%code, %device, %client_id, limit, "connection refused: the device has as many sessions, online \
                    and offline, as one device may (limits.max_device_sessions)");
                return Err(reason::QUOTA_EXCEEDED);
            }
            if self.sessions.len().saturating_sub(self.reserved_sessions) >= limits.max_sessions {
                let (code, limit) = (Cause::Sessions, limits.max_sessions);
                self.causes.add(code);
                tracing::warn!(%code, %device, %client_id, limit, "connection refused: the broker has as many sessions, online \
                    and offline, as it may (limits.max_sessions)");
                return Err(reason::QUOTA_EXCEEDED);
            }
        }
        Ok(Admitted { peer, client_id, reserved })
    }

    /// Ends another connection of the same session, and the session itself unless it goes on.
    fn take_over(&mut self, key: &SessionKey, clean_start: bool, now_ms: u64) -> Option<SessionId> {
        let id = self.by_key.get(key).copied()?;
        let session = self.sessions.get_mut(&id)?;
        if let Some(old) = session.conn {
            self.fx.send(old, Outgoing::Disconnect { code: reason::SESSION_TAKEN_OVER });
            self.fx.outputs.push(Output::Close(old));
            self.detach(old, true, now_ms);
        }
        // Detaching ended it if its expiry is 0.
        let session = self.sessions.get(&id)?;
        let expired = session.expires_at().is_some_and(|at| at <= now_ms);
        if clean_start || expired {
            self.end_session(id);
            return None;
        }
        Some(id)
    }

    fn new_session(&mut self, key: SessionKey, reserved: bool) -> SessionId {
        let id = self.next_session;
        self.next_session += 1;
        self.by_key.insert(key.clone(), id);
        self.usages.session(&key.device, reserved);
        self.reserved_sessions += usize::from(reserved);
        self.sessions.insert(id, Session { reserved, ..Session::new(key) });
        id
    }

    /// The network connection is gone without DISCONNECT.
    pub fn handle_closed(&mut self, conn: ConnId, now_ms: u64) {
        self.detach(conn, true, now_ms);
    }

    /// Device and client identifier of a connection.
    pub fn who(&self, conn: ConnId) -> Option<(&str, &str)> {
        let session = self.sessions.get(&self.connections.get(&conn)?.session)?;
        Some((&session.key.device, &session.key.client_id))
    }

    /// The devices that are connected, each as often as it has connections, in no order.
    pub fn connected(&self) -> impl Iterator<Item = &str> {
        self.connections.values().map(|connection| &*connection.peer.device)
    }

    /// The client did what closes its connection; `code` tells an MQTT 5 client why.
    pub fn handle_failed(&mut self, conn: ConnId, code: u8, now_ms: u64) {
        let cause = fault::cause(code);
        // A publication that was refused was counted there.
        if matches!(cause, Cause::Protocol | Cause::KeepAlive) {
            self.causes.add(cause);
        }
        if let Some((device, client_id)) = self.who(conn).map(|(device, id)| (device.to_owned(), id.to_owned()))
            && let Some(unlogged) = self.told.due("connection closed", &device, fault::fault(code), now_ms)
        {
            let what = fault::fault(code);
            tracing::info!(code = %cause, device, client_id, mqtt_code = code, unlogged, "connection closed: {what}");
        }
        self.close(conn, code, now_ms);
    }

    /// Takes a connection from a session that its caller ends; `code` tells an MQTT 5 client why.
    pub(super) fn cut(&mut self, conn: ConnId, code: u8) {
        self.fx.send(conn, Outgoing::Disconnect { code });
        self.fx.outputs.push(Output::Close(conn));
        if let Some(connection) = self.connections.remove(&conn) {
            self.stop_waiting(conn, &connection);
        }
    }

    /// Ends a connection; `code` tells an MQTT 5 client why.
    pub(super) fn close(&mut self, conn: ConnId, code: u8, now_ms: u64) {
        self.fx.send(conn, Outgoing::Disconnect { code });
        self.fx.outputs.push(Output::Close(conn));
        self.detach(conn, true, now_ms);
    }

    pub(super) fn handle_disconnect(&mut self, conn: ConnId, code: u8, expiry_s: Option<u32>, now_ms: u64) {
        let Some(id) = self.connections.get(&conn).map(|connection| connection.session) else { return };
        if let (Some(expiry_s), Some(session)) = (expiry_s, self.sessions.get_mut(&id)) {
            // MQTT 5, §3.14.2.2.2: a session that was to end cannot be kept after all.
            if session.expiry_s == 0 && expiry_s > 0 {
                self.handle_failed(conn, reason::PROTOCOL_ERROR, now_ms);
                return;
            }
            let cap = u32::try_from(self.limits.max_session_expiry.as_secs()).unwrap_or(u32::MAX);
            session.expiry_s = expiry_s.min(cap);
        }
        self.fx.outputs.push(Output::Close(conn));
        self.detach(conn, code == reason::DISCONNECT_WITH_WILL, now_ms);
    }

    /// Parts a connection from its session.
    fn detach(&mut self, conn: ConnId, with_will: bool, now_ms: u64) {
        let Some(connection) = self.connections.remove(&conn) else { return };
        self.stop_waiting(conn, &connection);
        let id = connection.session;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.conn = None;
        session.disconnected_ms = now_ms;
        if !with_will {
            session.will = None;
        }
        if session.expiry_s == 0 {
            self.end_session(id);
            return;
        }
        self.fx.record(JournalRecord::Disconnected { id, at_ms: now_ms, expiry_s: session.expiry_s });
        let delay_ms = session.will.as_ref().map(|will| u64::from(will.properties.will_delay_s()) * 1000);
        match delay_ms {
            None => {}
            Some(0) => {
                let peer = session.peer();
                self.wills.extend(session.will.take().map(|will| Due { session: id, peer, will }));
            }
            Some(delay_ms) => {
                session.will_due_ms = Some(now_ms.saturating_add(delay_ms));
            }
        }
        self.await_timer(id);
        self.move_in_shares(id);
    }

    /// Forgets a session. Its will, if one waits, is due, and so is what it was to get by shared subscriptions.
    pub(super) fn end_session(&mut self, id: SessionId) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let peer = session.peer();
        self.wills.extend(session.will.take().map(|will| Due { session: id, peer, will }));
        self.by_key.remove(&session.key);
        self.usages.session_end(&session.key.device, session.reserved);
        self.reserved_sessions -= usize::from(session.reserved);
        self.full.remove(&id);
        self.release(session.full.take().into_iter().flat_map(|full| full.waiting));
        if let Some(at) = session.next_expiry_ms {
            self.expiries.remove(&(at, id));
        }
        if let Some(at) = session.next_timer_ms {
            self.timers.remove(&(at, id));
        }
        for filter in session.subscriptions.keys() {
            if let Ok((share, filter)) = topic::parse_filter(filter) {
                self.router.remove(&session.subscriber(id), share, filter);
            }
        }
        if session.stored {
            self.fx.record(JournalRecord::SessionEnd { id });
        }
        self.leave_behind(&mut session);
        self.device_drained(&session.key.device);
    }

    /// Sends the wills that are due, and those that become due by that: there are no more of them than sessions.
    pub(super) fn publish_wills(&mut self, now_ms: u64) {
        while let Some(Due { session, peer, mut will }) = self.wills.pop_front() {
            // Rights may have gone since CONNECT.
            if !self.policy.may_publish(&peer, &will.topic) || !self.may_announce(&peer, &will.topic, now_ms) {
                continue;
            }
            will.properties.retain(Property::is_forwarded);
            let new = NewMessage {
                topic: will.topic,
                payload: will.payload,
                qos: will.qos,
                retain: will.retain,
                properties: will.properties,
                sender: Some(peer),
            };
            // Nobody is there to be told that a session has no room for it.
            let _ = self.publish(new, Some(session), true, Offer::Final, now_ms);
        }
    }

    /// Ends every connection and session of a device; waiting wills are not sent. Returns how many were online.
    pub fn handle_disconnect_device(&mut self, device: &str) -> usize {
        self.end_sessions(|peer| &*peer.device == device)
    }

    fn end_sessions(&mut self, of: impl Fn(&Peer) -> bool) -> usize {
        let sessions = self.sessions.iter().filter(|(_, session)| of(&session.peer()));
        let ids: Vec<SessionId> = sessions.map(|(id, _)| *id).collect();
        self.wills.retain(|due| !of(&due.peer));
        let mut online = 0;
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.will = None;
            if let Some(conn) = session.conn {
                online += 1;
                self.cut(conn, reason::ADMINISTRATIVE_ACTION);
            }
            self.end_session(id);
        }
        online
    }

    /// Ends every connection and session of a device that is not by this credential, its present one; their wills are not
    /// sent. Whoever made them would still fill the device's places and queues. Returns how many were online.
    pub fn handle_new_credential(&mut self, device: &str, credential: Credential) -> usize {
        self.end_sessions(|peer| &*peer.device == device && peer.credential != Some(credential))
    }

    /// The broker stops: clients are told, sessions stay.
    pub fn handle_shutdown(&mut self, now_ms: u64) {
        let conns: Vec<ConnId> = self.connections.keys().copied().collect();
        for conn in conns {
            self.fx.send(conn, Outgoing::Disconnect { code: reason::SERVER_SHUTTING_DOWN });
            self.fx.outputs.push(Output::Close(conn));
            self.detach(conn, false, now_ms);
        }
    }
}

/// How long the client wants its session to be kept, in seconds; `None` for MQTT 3, which cannot say.
fn wanted_expiry_s(connect: &Connect) -> Option<u32> {
    (connect.version == Version::V5).then(|| connect.properties.session_expiry_s().unwrap_or(0))
}
