//! MQTT 5's reason codes (§2.4), as far as the core and its connections give them. `wire` turns them into what MQTT 3
//! knows.

pub(crate) const DISCONNECT_WITH_WILL: u8 = 0x04;
pub(crate) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
/// The codes from here on say that something failed.
pub(crate) const UNSPECIFIED_ERROR: u8 = 0x80;
pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
pub(crate) const CLIENT_ID_NOT_VALID: u8 = 0x85;
pub(crate) const BAD_CREDENTIALS: u8 = 0x86;
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
pub(crate) const SERVER_UNAVAILABLE: u8 = 0x88;
pub(crate) const BANNED: u8 = 0x8A;
pub(crate) const SHUTTING_DOWN: u8 = 0x8B;
pub(crate) const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
pub(crate) const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
pub(crate) const SESSION_TAKEN_OVER: u8 = 0x8E;
pub(crate) const FILTER_INVALID: u8 = 0x8F;
pub(crate) const TOPIC_NAME_INVALID: u8 = 0x90;
pub(crate) const PACKET_ID_NOT_FOUND: u8 = 0x92;
pub(crate) const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
pub(crate) const TOPIC_ALIAS_INVALID: u8 = 0x94;
pub(crate) const QUOTA_EXCEEDED: u8 = 0x97;
pub(crate) const ADMINISTRATIVE_ACTION: u8 = 0x98;

/// What a client did for which its connection is closed, for the log.
pub(crate) fn fault(code: u8) -> &'static str {
    match code {
        0x81 => "it sent a malformed packet",
        PROTOCOL_ERROR => "it broke the protocol",
        NOT_AUTHORIZED => "it published where its device may not, which MQTT 3 has no other answer to",
        KEEP_ALIVE_TIMEOUT => "it sent nothing for one and a half times its keep-alive",
        TOPIC_NAME_INVALID => "it published to a topic that is not valid",
        RECEIVE_MAXIMUM_EXCEEDED => "it sent more QoS 2 messages at once than the broker's Receive Maximum allows",
        TOPIC_ALIAS_INVALID => "it used a topic alias that is not valid",
        0x95 => "it sent a packet that is larger than max_packet_bytes",
        QUOTA_EXCEEDED => "it published more than its limits allow, which MQTT 3 has no other answer to",
        _ => "it sent something that the broker does not accept",
    }
}
