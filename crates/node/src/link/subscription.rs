//! What a link subscribes to, and why.

/// What a SUBSCRIBE asks for.
pub(super) struct Subscription {
    pub(super) filters: Vec<String>,
    pub(super) why: Why,
}

/// Why it does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is the first of its connection, for all filters.
    First,
    /// The broker refused these.
    Refused,
    /// No answers come: a broker may say that it grants what it does not.
    NoAnswers,
}
