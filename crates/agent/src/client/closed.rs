//! What a connection leaves behind: why it ended, and its will.

use bytes::Bytes;
use sealcast_mqtt::{CloseReason, ParseError, WillRequest, reason};
use tracing::warn;
use zeroize::Zeroizing;

use super::Client;
use crate::store::Retained;

impl Client {
    /// Says at `warn` why the connection ended, where somebody has to do something about it.
    pub(super) fn say_why(&self, reason: &CloseReason) {
        let (kind, text) = match reason {
            CloseReason::ClientMalformed(ParseError::TooLarge { size, max }) => (
                "large",
                format!(
                    "the client sent a packet of {size} bytes, and at most {max} are taken: raise max_packet_bytes in \
                     agent.toml, and in hub.toml if it is smaller there"
                ),
            ),
            CloseReason::BrokerMalformed(ParseError::TooLarge { size, max }) => (
                "large delivery",
                format!(
                    "the broker sent a packet of {size} bytes, and at most {max} are taken: raise max_packet_bytes in \
                     agent.toml"
                ),
            ),
            CloseReason::ClientMalformed(error) => ("malformed", format!("the client broke MQTT's rules: {error}")),
            CloseReason::BrokerMalformed(error) => ("broker", format!("the broker broke MQTT's rules: {error}")),
            CloseReason::BrokerDisconnect { code } if *code >= reason::FIRST_FAILURE => {
                ("disconnect", format!("the broker sent DISCONNECT with reason code {code:#04x}"))
            }
            CloseReason::BrokerEof if self.version == sealcast_mqtt::Version::V311 => (
                "eof",
                "the broker closed it without a word: it is away, or it does not take what the client sent; its own log \
                 may say why"
                    .to_owned(),
            ),
            CloseReason::BrokerEof => ("eof", "the broker closed it: it is away".to_owned()),
            // Each was said where it happened, or is nobody's fault.
            CloseReason::ClientDisconnect
            | CloseReason::ClientEof
            | CloseReason::BrokerDisconnect { .. }
            | CloseReason::BrokerRefused { .. }
            | CloseReason::PublishRefused { .. }
            | CloseReason::Agent(_) => return,
            CloseReason::ConnectRefused { reason } => ("refused", format!("refused: {reason}")),
        };
        self.shared.events.connection_closed(self.who(), kind, &text);
    }

    /// Notes what the broker will keep if it publishes the will when the connection ends. What a delayed will comes to, the
    /// agent does not know.
    pub(super) fn note_will(&mut self, will: &WillRequest, payload: Bytes, props: &[u8], time_ms: u64) {
        self.will = (will.delay_s == 0).then(|| Retained {
            topic: will.topic.as_str().to_owned(),
            time_ms,
            props: props.to_vec(),
            payload: Zeroizing::new(payload.to_vec()),
        });
    }

    /// The broker publishes the will now, if it has taken it. At the next epoch the agent seals again what it knows to be
    /// retained: that is the will, or nothing after an empty one, and no longer what it replaced.
    pub(super) fn keep_will(&mut self) {
        let Some(will) = self.will.take() else { return };
        if !self.accepted || (self.clean && self.proxy.forgoes_will()) {
            return;
        }
        match self.shared.store.keep_retained(&will) {
            Ok(true) => {}
            Ok(false) => {
                warn!(
                    client = self.label,
                    topic = will.topic,
                    "the will is not kept to be sealed again, because too many retained messages are kept"
                )
            }
            Err(error) => {
                warn!(client = self.label, topic = will.topic, "the will is not kept to be sealed again: {error:#}")
            }
        }
    }
}
