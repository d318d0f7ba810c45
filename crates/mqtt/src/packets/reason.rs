//! Reason codes (MQTT 5 2.4), and the return codes that MQTT 3.1.1 has in CONNACK (3.2.2.3).

use super::version::Version;

macro_rules! reasons {
    ($($code:literal $constant:ident = $name:literal;)*) => {
        $(#[doc = concat!("`", stringify!($code), "`: ", $name, ".")] pub const $constant: u8 = $code;)*

        /// The standard's name of a code.
        pub fn name(code: u8) -> Option<&'static str> {
            Some(match code {
                $($code => $name,)*
                _ => return None,
            })
        }
    };
}

reasons! {
    0x00 SUCCESS = "success";
    0x01 GRANTED_QOS_1 = "granted QoS 1";
    0x02 GRANTED_QOS_2 = "granted QoS 2";
    0x04 DISCONNECT_WITH_WILL = "disconnect with will message";
    0x10 NO_MATCHING_SUBSCRIBERS = "no matching subscribers";
    0x11 NO_SUBSCRIPTION_EXISTED = "no subscription existed";
    0x18 CONTINUE_AUTHENTICATION = "continue authentication";
    0x19 REAUTHENTICATE = "re-authenticate";
    0x80 UNSPECIFIED = "unspecified error";
    0x81 MALFORMED_PACKET = "malformed packet";
    0x82 PROTOCOL_ERROR = "protocol error";
    0x83 IMPLEMENTATION_SPECIFIC = "implementation specific error";
    0x84 UNSUPPORTED_VERSION = "unsupported protocol version";
    0x85 CLIENT_IDENTIFIER_NOT_VALID = "client identifier not valid";
    0x86 BAD_USER_NAME_OR_PASSWORD = "bad user name or password";
    0x87 NOT_AUTHORIZED = "not authorized";
    0x88 SERVER_UNAVAILABLE = "server unavailable";
    0x89 SERVER_BUSY = "server busy";
    0x8A BANNED = "banned";
    0x8B SERVER_SHUTTING_DOWN = "server shutting down";
    0x8C BAD_AUTHENTICATION_METHOD = "bad authentication method";
    0x8D KEEP_ALIVE_TIMEOUT = "keep alive timeout";
    0x8E SESSION_TAKEN_OVER = "session taken over";
    0x8F TOPIC_FILTER_INVALID = "topic filter invalid";
    0x90 TOPIC_NAME_INVALID = "topic name invalid";
    0x91 PACKET_IDENTIFIER_IN_USE = "packet identifier in use";
    0x92 PACKET_IDENTIFIER_NOT_FOUND = "packet identifier not found";
    0x93 RECEIVE_MAXIMUM_EXCEEDED = "receive maximum exceeded";
    0x94 TOPIC_ALIAS_INVALID = "topic alias invalid";
    0x95 PACKET_TOO_LARGE = "packet too large";
    0x96 MESSAGE_RATE_TOO_HIGH = "message rate too high";
    0x97 QUOTA_EXCEEDED = "quota exceeded";
    0x98 ADMINISTRATIVE_ACTION = "administrative action";
    0x99 PAYLOAD_FORMAT_INVALID = "payload format invalid";
    0x9A RETAIN_NOT_SUPPORTED = "retain not supported";
    0x9B QOS_NOT_SUPPORTED = "QoS not supported";
    0x9C USE_ANOTHER_SERVER = "use another server";
    0x9D SERVER_MOVED = "server moved";
    0x9E SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = "shared subscriptions not supported";
    0x9F CONNECTION_RATE_EXCEEDED = "connection rate exceeded";
    0xA0 MAXIMUM_CONNECT_TIME = "maximum connect time";
    0xA1 SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = "subscription identifiers not supported";
    0xA2 WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = "wildcard subscriptions not supported";
}

/// From here on a code means that something failed.
pub const FIRST_FAILURE: u8 = 0x80;

/// The return code of MQTT 3.1.1 that comes nearest to a CONNACK's reason code.
pub fn connack_v311(code: u8) -> u8 {
    match code {
        SUCCESS => 0,
        UNSUPPORTED_VERSION => 1,
        CLIENT_IDENTIFIER_NOT_VALID => 2,
        BAD_USER_NAME_OR_PASSWORD => 4,
        NOT_AUTHORIZED | BANNED | BAD_AUTHENTICATION_METHOD | TOPIC_NAME_INVALID => 5,
        _ => 3,
    }
}

/// The reason code for a CONNACK's return code of MQTT 3.1.1; others stay as they are.
pub fn from_connack_v311(code: u8) -> u8 {
    match code {
        1 => UNSUPPORTED_VERSION,
        2 => CLIENT_IDENTIFIER_NOT_VALID,
        3 => SERVER_UNAVAILABLE,
        4 => BAD_USER_NAME_OR_PASSWORD,
        5 => NOT_AUTHORIZED,
        other => other,
    }
}

/// The code in a SUBACK of `version`. MQTT 3.1.1 has one for all failures. MQTT 3.1 has none, and wants a refused filter
/// granted (3.8).
pub fn suback(code: u8, version: Version) -> u8 {
    match version {
        Version::V5 => code,
        Version::V311 if code >= FIRST_FAILURE => UNSPECIFIED,
        Version::V31 if code >= FIRST_FAILURE => SUCCESS,
        Version::V31 | Version::V311 => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_code_stays_the_same_there_and_back() {
        for code in 0..=5 {
            assert_eq!(connack_v311(from_connack_v311(code)), code);
        }
    }

    #[test]
    fn every_failure_has_a_return_code_that_fails() {
        for code in FIRST_FAILURE..=0xA2 {
            assert!(name(code).is_some(), "{code:#04x}");
            assert!((1..=5).contains(&connack_v311(code)), "{code:#04x}");
            let told = [Version::V31, Version::V311, Version::V5].map(|version| suback(code, version));
            assert_eq!(told, [0, UNSPECIFIED, code]);
        }
        assert_eq!([suback(0, Version::V311), suback(2, Version::V31), connack_v311(0)], [0, 2, 0]);
    }
}
