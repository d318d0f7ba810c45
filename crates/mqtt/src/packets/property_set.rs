//! Which property lists there are, and how long one may be.

/// Most properties in one list of those that may stand more than once. A list takes about fifteen times its bytes in memory
/// at worst, hence a bound.
pub const MAX_PROPERTIES: usize = 1024;

/// Which packet a list stands in, and with it which properties it may hold (MQTT 5 table 2-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertySet {
    /// CONNECT.
    Connect,
    /// The will in CONNECT.
    Will,
    /// CONNACK.
    Connack,
    /// PUBLISH.
    Publish,
    /// What travels inside a seal: payload format, content type, response topic, correlation data and user properties.
    Sealed,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    Ack,
    /// SUBSCRIBE.
    Subscribe,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// DISCONNECT.
    Disconnect,
    /// AUTH.
    Auth,
}
