//! The topics that Sealcast uses itself: key packages, Welcomes, calls to the relay and the ledger's records.

use std::fmt;

use crate::first_level;

/// First level of Sealcast's own topics. No group covers them, and no wildcard reaches them at the hub's broker.
pub const CONTROL_LEVEL: &str = "sealcast";
/// What they begin with in this version.
const PREFIX: &str = "sealcast/v1/";

/// Whether a topic or a filter is one of Sealcast's own, of whatever version.
#[must_use]
pub fn is_control(topic: &str) -> bool {
    first_level(topic) == CONTROL_LEVEL
}

/// One of Sealcast's own topics; with `+` in the place of a name, a filter over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlTopic<'a> {
    /// `sealcast/v1/ledger`: the hub pushes the ledger's records.
    Ledger,
    /// `sealcast/v1/head`: how far the ledger is, signed by its operator, retained.
    Head,
    /// `sealcast/v1/keys/<device>`: the device's key package, retained.
    Keys {
        /// Whose it is.
        device: &'a str,
    },
    /// `sealcast/v1/checkpoint/<device>`: how far the device's folder has come, signed by the device, retained.
    Checkpoint {
        /// Whose it is.
        device: &'a str,
    },
    /// `sealcast/v1/inbox/<device>/<group>/<committer>`: the Welcome for a new member, retained until that member clears it.
    Inbox {
        /// The new member.
        device: &'a str,
        /// The group's number.
        group: &'a str,
        /// The member that made the commit, and alone writes here.
        committer: &'a str,
    },
    /// `sealcast/v1/rpc/<node>/request`: a node calls the hub's relay.
    Request {
        /// Who calls.
        node: &'a str,
    },
    /// `sealcast/v1/rpc/<node>/response`: the relay answers that node.
    Response {
        /// Who called.
        node: &'a str,
    },
}

impl<'a> ControlTopic<'a> {
    /// Reads a topic or a filter. `None` for every other text, also one below [`CONTROL_LEVEL`].
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut rest = text.strip_prefix(PREFIX)?.split('/');
        let levels = [rest.next(), rest.next(), rest.next(), rest.next(), rest.next()];
        if levels.contains(&Some("")) {
            return None;
        }
        match levels {
            [Some("ledger"), None, ..] => Some(Self::Ledger),
            [Some("head"), None, ..] => Some(Self::Head),
            [Some("keys"), Some(device), None, ..] => Some(Self::Keys { device }),
            [Some("checkpoint"), Some(device), None, ..] => Some(Self::Checkpoint { device }),
            [Some("inbox"), Some(device), Some(group), Some(committer), None] => {
                Some(Self::Inbox { device, group, committer })
            }
            [Some("rpc"), Some(node), Some("request"), None, ..] => Some(Self::Request { node }),
            [Some("rpc"), Some(node), Some("response"), None, ..] => Some(Self::Response { node }),
            _ => None,
        }
    }
}

impl fmt::Display for ControlTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        match self {
            Self::Ledger => f.write_str("ledger"),
            Self::Head => f.write_str("head"),
            Self::Keys { device } => write!(f, "keys/{device}"),
            Self::Checkpoint { device } => write!(f, "checkpoint/{device}"),
            Self::Inbox { device, group, committer } => write!(f, "inbox/{device}/{group}/{committer}"),
            Self::Request { node } => write!(f, "rpc/{node}/request"),
            Self::Response { node } => write!(f, "rpc/{node}/response"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_texts_stay_as_they_are() {
        for (topic, text) in [
            (ControlTopic::Ledger, "sealcast/v1/ledger"),
            (ControlTopic::Head, "sealcast/v1/head"),
            (ControlTopic::Keys { device: "1111" }, "sealcast/v1/keys/1111"),
            (ControlTopic::Keys { device: "+" }, "sealcast/v1/keys/+"),
            (ControlTopic::Checkpoint { device: "1111" }, "sealcast/v1/checkpoint/1111"),
            (ControlTopic::Inbox { device: "1111", group: "7", committer: "2222" }, "sealcast/v1/inbox/1111/7/2222"),
            (ControlTopic::Inbox { device: "1111", group: "+", committer: "+" }, "sealcast/v1/inbox/1111/+/+"),
            (ControlTopic::Request { node: "1111" }, "sealcast/v1/rpc/1111/request"),
            (ControlTopic::Response { node: "1111" }, "sealcast/v1/rpc/1111/response"),
        ] {
            assert_eq!(topic.to_string(), text);
            assert_eq!(ControlTopic::parse(text), Some(topic));
            assert!(is_control(text));
        }
    }

    #[test]
    fn nothing_else_is_one() {
        for text in [
            "sealcast",
            "sealcast/",
            "sealcast/v1",
            "sealcast/v1/",
            "sealcast/v2/ledger",
            "sealcast/#",
            "sealcast/v1/#",
            "sealcast/+/ledger",
            "sealcast/v1/ledger/",
            "sealcast/v1/ledger/x",
            "sealcast/v1/ledger//x",
            "sealcast/v1/keys",
            "sealcast/v1/keys/",
            "sealcast/v1/keys//x",
            "sealcast/v1/keys/1111/",
            "sealcast/v1/keys/1111/x",
            "sealcast/v1/checkpoint",
            "sealcast/v1/checkpoint/1111/x",
            "sealcast/v1/inbox/1111",
            "sealcast/v1/inbox/1111/7",
            "sealcast/v1/inbox//7/2222",
            "sealcast/v1/inbox/1111/7/",
            "sealcast/v1/inbox/1111/7/2222/x",
            "sealcast/v1/rpc/1111",
            "sealcast/v1/rpc/1111/answer",
            "sealcast/v1/rpc/1111/request/",
        ] {
            assert_eq!(ControlTopic::parse(text), None, "{text}");
            assert!(is_control(text), "{text}");
        }
        for text in
            ["", "/sealcast", "sealcasts/v1/ledger", "Sealcast/v1/ledger", "a/sealcast/v1/ledger", "#", "+/v1/ledger"]
        {
            assert_eq!(ControlTopic::parse(text), None, "{text}");
            assert!(!is_control(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_alike(text in "sealcast/v1/(ledger|head|keys|checkpoint|inbox|rpc)(/(1111|\\+|request|response|)){0,5}") {
            if let Some(topic) = ControlTopic::parse(&text) {
                prop_assert_eq!(topic.to_string(), text);
            }
        }
    }
}
