//! Which version of MQTT a broker is spoken to in: MQTT 5 where it can, else 3.1.1.

use sealcast_mqtt::Version;

/// How a broker took a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// It accepted it, or refused it for another reason than its version.
    Answered,
    /// It does not take this version.
    RefusedVersion,
    /// The connection ended without an answer. Some brokers do that when they do not know the version.
    Closed,
}

/// What is known of a broker. A connection is tried with [`Self::first`], and then perhaps with the other version.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    #[default]
    Nothing,
    SpeaksV5,
    RefusesV5,
}

impl Known {
    /// The version to begin with.
    pub(super) fn first(&self) -> Version {
        if *self == Self::RefusesV5 { Version::V311 } else { Version::V5 }
    }

    /// Notes how a CONNECT was taken. Gives the version with which it is to be tried at once again.
    pub(super) fn note(&mut self, version: Version, greeting: Greeting) -> Option<Version> {
        let (known, next) = match (version, greeting) {
            (Version::V5, Greeting::Answered) => (Self::SpeaksV5, None),
            (Version::V5, Greeting::RefusedVersion) => (Self::RefusesV5, Some(Version::V311)),
            // Perhaps it was starting, or stopping.
            (Version::V5, Greeting::Closed) if *self == Self::SpeaksV5 => (Self::Nothing, None),
            (Version::V5, Greeting::Closed) => (Self::Nothing, Some(Version::V311)),
            (_, Greeting::Answered) => return None,
            // Another broker may be there by now.
            (_, Greeting::RefusedVersion | Greeting::Closed) => (Self::Nothing, None),
        };
        *self = known;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::{Greeting::*, *};

    /// Connects once; gives the versions that were tried.
    fn connect(known: &mut Known, broker: impl Fn(Version) -> Greeting) -> Vec<Version> {
        let mut tried = Vec::new();
        let mut next = Some(known.first());
        while let Some(version) = next {
            tried.push(version);
            next = known.note(version, broker(version));
        }
        tried
    }

    const V5: Version = Version::V5;
    const V311: Version = Version::V311;

    #[test]
    fn what_a_broker_speaks_is_remembered() {
        let known = &mut Known::default();
        let only_v311 = |version| if version == V5 { RefusedVersion } else { Answered };
        assert_eq!(connect(known, only_v311), [V5, V311]);
        assert_eq!(connect(known, only_v311), [V311]);
        // It was updated.
        assert_eq!(connect(known, |_| Closed), [V311]);
        assert_eq!(connect(known, |_| Answered), [V5]);
    }

    #[test]
    fn a_broker_that_closes_is_asked_in_both_each_time() {
        let known = &mut Known::default();
        let closes_v5 = |version| if version == V5 { Closed } else { Answered };
        assert_eq!(connect(known, closes_v5), [V5, V311]);
        assert_eq!(connect(known, closes_v5), [V5, V311]);
    }

    #[test]
    fn a_broker_that_has_spoken_mqtt_5_is_not_doubted_for_one_cut() {
        let known = &mut Known::default();
        assert_eq!(connect(known, |_| Answered), [V5]);
        assert_eq!(connect(known, |_| Closed), [V5]);
        assert_eq!(connect(known, |_| Answered), [V5]);
        assert_eq!(connect(known, |_| Closed), [V5]);
        assert_eq!(connect(known, |_| Closed), [V5, V311]);
    }

    #[test]
    fn a_broker_that_takes_no_version_is_not_tried_for_ever() {
        let known = &mut Known::default();
        assert_eq!(connect(known, |_| RefusedVersion), [V5, V311]);
        assert_eq!(connect(known, |_| RefusedVersion), [V5, V311]);
    }
}
