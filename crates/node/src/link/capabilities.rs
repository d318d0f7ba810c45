//! What a broker says that it can do, in its CONNACK.

use std::fmt;

use sealcast_mqtt::{Qos, Version, client::ServerLimits};
use sealcast_parts::HEADER_BYTES;

/// Smallest packet with which the control plane works: a message of ten of these has a header that does not count.
const MIN_PACKET_BYTES: u32 = 4096;
/// What a PUBLISH of QoS 1 has beside topic and payload, at most: its fixed header, two lengths and the packet identifier.
const PUBLISH_OVERHEAD_BYTES: usize = 5 + 2 + 2 + 1;

/// See the module. In MQTT 3.1.1 a broker says nothing, and the limits are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) version: Version,
    pub(super) limits: ServerLimits,
}

impl Capabilities {
    /// Why the control plane cannot work through this broker.
    pub(super) fn unusable(&self) -> Option<String> {
        let ServerLimits { max_qos, wildcards, max_packet_bytes, .. } = self.limits;
        if max_qos == Qos::AtMostOnce {
            return Some("it carries no messages of QoS 1, and Sealcast's keys and records need that".into());
        }
        if !wildcards {
            return Some(
                "it takes no subscriptions with wildcards, and agents need those for each other's keys".into(),
            );
        }
        let max = max_packet_bytes.filter(|max| *max < MIN_PACKET_BYTES)?;
        Some(format!("it takes packets of {max} bytes at most, and Sealcast needs {MIN_PACKET_BYTES}"))
    }

    /// The longest payload that is published in one piece on a topic of so many bytes. `part_bytes`: how long one may be
    /// where the broker does not say. What the broker is to keep goes in one piece if it can, because a part that is kept
    /// alone would be of no use.
    pub(super) fn max_payload_bytes(&self, topic_bytes: usize, retain: bool, part_bytes: usize) -> usize {
        let said = self.limits.max_packet_bytes.map(|max| max as usize);
        let cut_at = match (self.version, retain && self.limits.retain) {
            (Version::V5, true) => said.unwrap_or(usize::MAX),
            _ => said.map_or(part_bytes, |max| max.min(part_bytes)),
        };
        cut_at.saturating_sub(PUBLISH_OVERHEAD_BYTES + topic_bytes).max(HEADER_BYTES + 1)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServerLimits { max_packet_bytes, max_qos, retain, .. } = self.limits;
        if self.version != Version::V5 {
            return f.write_str("it speaks MQTT 3.1.1, and does not say what its limits are");
        }
        f.write_str("it speaks MQTT 5, takes ")?;
        match max_packet_bytes {
            Some(max) => write!(f, "packets of at most {max} bytes, ")?,
            None => f.write_str("packets of any size, ")?,
        }
        write!(f, "QoS up to {}, and keeps {}retained messages", max_qos as u8, if retain { "" } else { "no " })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut ServerLimits)) -> Capabilities {
        let mut limits = ServerLimits::default();
        change(&mut limits);
        Capabilities { version: Version::V5, limits }
    }

    #[test]
    fn a_broker_with_which_nothing_can_work_is_named() {
        for (capabilities, part) in [
            (said(|limits| limits.max_qos = Qos::AtMostOnce), "QoS 1"),
            (said(|limits| limits.wildcards = false), "wildcards"),
            (said(|limits| limits.max_packet_bytes = Some(4095)), "4095"),
        ] {
            let why = capabilities.unusable();
            assert!(why.as_ref().is_some_and(|why| why.contains(part)), "{why:?}");
        }
        assert_eq!(said(|limits| limits.max_packet_bytes = Some(4096)).unusable(), None);
        assert_eq!(said(|limits| limits.retain = false).unusable(), None);
    }

    #[test]
    fn it_is_said_in_words() {
        let words = said(|limits| (limits.max_packet_bytes, limits.retain) = (Some(5000), false)).to_string();
        assert_eq!(
            words,
            "it speaks MQTT 5, takes packets of at most 5000 bytes, QoS up to 2, and keeps no retained messages"
        );
    }

    #[test]
    fn a_payload_is_cut_at_what_the_broker_says_or_else_at_the_usual_length() {
        let silent = said(|_| ());
        let old = Capabilities { version: Version::V311, ..silent };
        let small = said(|limits| limits.max_packet_bytes = Some(5000));
        let keeps_nothing = said(|limits| limits.retain = false);
        for (capabilities, retain, want) in [
            (silent, false, 65_536),
            (silent, true, usize::MAX),
            (old, true, 65_536),
            (small, false, 5000),
            (small, true, 5000),
            (keeps_nothing, true, 65_536),
        ] {
            let bytes = capabilities.max_payload_bytes(20, retain, 65_536);
            assert_eq!(bytes, want - 30, "{capabilities:?} {retain}");
        }
    }
}
