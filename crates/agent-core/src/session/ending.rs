//! How a connection ends, and what it leaves behind: why it ended, its will, and what is remembered of the client.

use sealcast_mqtt::{CloseReason, ParseError, Version, WillRequest, reason};
use tracing::warn;
use zeroize::Zeroizing;

use super::{
    Effect, Refused, Session, Shared, Write,
    state::{Draining, State, Unsaved},
};
use crate::{Cause, Now, Retained, Step, Why};

/// How long the rest of the bytes may take to go out once the connection is over.
pub const DRAIN_MS: u64 = 2_000;
/// How long a connection that another one takes over may take until what its client has sent has gone out.
pub const TAKE_OVER_MS: u64 = 10_000;

impl Session {
    /// The agent is about to end. Call it once what the client has sent so far was taken in: that goes out first.
    pub fn handle_shutdown(&mut self, now: Now) {
        self.drain(reason::SERVER_SHUTTING_DOWN, "the agent is shutting down", DRAIN_MS, now);
    }

    /// Another connection of the same client waits for this one to end. Call it as [`Self::handle_shutdown`].
    pub fn handle_take_over(&mut self, now: Now) {
        let reason = "another connection of this client took over";
        self.drain(reason::SESSION_TAKEN_OVER, reason, TAKE_OVER_MS, now);
    }

    fn drain(&mut self, code: u8, reason: &'static str, within_ms: u64, now: Now) {
        self.proxy.close_when_drained(code, reason);
        self.draining = Some(Draining { code, reason, until_ms: now.run_ms.saturating_add(within_ms) });
    }

    pub(super) fn handle_closed(&mut self, reason: &CloseReason) {
        self.clean = matches!(reason, CloseReason::ClientDisconnect);
        if let Some((cause, text)) = self.complaint(reason) {
            self.tell(Refused::Connection, "", Why::new(cause, text));
        }
        self.give_up(&reason.to_string());
    }

    /// The last step.
    pub(super) fn close(&mut self, shared: &mut Shared<'_>, reason: String, now: Now) -> Step<Write, Effect> {
        self.state = State::Closed;
        self.waiting.clear();
        self.batch = None;
        if !self.clean {
            shared.values.cut(self.settings.connection);
        }
        if let Some(memory) = &mut self.memory {
            memory.mqtt = self.proxy.session().clone();
        }
        if self.unsaved != Unsaved::No || self.keep_session {
            self.save(now);
        }
        self.keep_will(shared);
        self.effects.push(Effect::Close { reason });
        self.take_step()
    }

    /// Why the connection ended, where somebody has to do something about it: what it is called, and in words.
    fn complaint(&self, reason: &CloseReason) -> Option<(Cause, String)> {
        Some(match reason {
            CloseReason::ClientMalformed(ParseError::TooLarge { size, max }) => (
                Cause::TooLargeForAgent,
                format!(
                    "the client sent a packet of {size} bytes, and at most {max} are taken: raise max_packet_bytes in \
                     agent.toml, and in hub.toml if it is smaller there"
                ),
            ),
            CloseReason::BrokerMalformed(ParseError::TooLarge { size, max }) => (
                Cause::TooLargeForAgent,
                format!(
                    "the broker sent a packet of {size} bytes, and at most {max} are taken: raise max_packet_bytes in \
                     agent.toml"
                ),
            ),
            CloseReason::ClientMalformed(error) => (Cause::ClientMalformed, format!("the client broke MQTT's rules: {error}")),
            CloseReason::BrokerMalformed(error) => (Cause::BrokerMalformed, format!("the broker broke MQTT's rules: {error}")),
            CloseReason::BrokerDisconnect { code } if *code >= reason::FIRST_FAILURE => {
                (Cause::BrokerClosed, format!("the broker sent DISCONNECT with reason code {code:#04x}"))
            }
            CloseReason::BrokerEof if self.version == Version::V311 => (
                Cause::BrokerClosed,
                "the broker closed it without a word: it is away, or it does not take what the client sent; its own log \
                 may say why"
                    .to_owned(),
            ),
            CloseReason::BrokerEof => (Cause::BrokerClosed, "the broker closed it: it is away".to_owned()),
            CloseReason::ConnectRefused { reason } => (Cause::ClientRefused, format!("refused: {reason}")),
            // Each was said where it happened, or is nobody's fault.
            CloseReason::ClientDisconnect
            | CloseReason::ClientEof
            | CloseReason::BrokerDisconnect { .. }
            | CloseReason::BrokerRefused { .. }
            | CloseReason::PublishRefused { .. }
            | CloseReason::Agent(_) => return None,
        })
    }

    /// Notes what the broker will keep if it publishes the will when the connection ends. What a delayed will comes to, the
    /// agent does not know.
    pub(super) fn note_will(&mut self, will: &WillRequest, payload: &[u8], props: &[u8], now: Now) {
        self.will = (will.delay_s == 0).then(|| Retained {
            topic: will.topic.as_str().to_owned(),
            time_ms: now.unix_ms,
            props: props.to_vec(),
            payload: Zeroizing::new(payload.to_vec()),
        });
    }

    /// The broker publishes the will now, if it has taken it. At the next epoch the agent seals again what it knows to be
    /// retained: that is the will, or nothing after an empty one, and no longer what it replaced.
    fn keep_will(&mut self, shared: &mut Shared<'_>) {
        let Some(will) = self.will.take() else { return };
        if !self.accepted || (self.clean && self.proxy.forgoes_will()) {
            return;
        }
        match shared.retained.keep(&will) {
            Ok(()) => self.writes.push(Write::Retained(will)),
            Err(error) => {
                warn!(code = %Cause::RetainedFull, client = self.label, topic = will.topic, "the will is not kept to be sealed again: {error}");
            }
        }
    }
}
