//! What an MQTT 5 client is told of the messages that it gets, in user properties of the agent's own.

use serde::Deserialize;

use crate::values::is_notable;

/// Of which messages a client is told more than was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Annotate {
    /// Of none. It is treated as a client of MQTT 3.1.1, which could not see that a value is flagged.
    None,
    /// Of those of which there is more to say than who sent them, how old they are and that no check found anything.
    #[default]
    Flagged,
    /// Of all.
    All,
}

impl Annotate {
    /// The properties for a message of which `said` can be said.
    pub(super) fn of<'a>(self, said: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
        let tells = match self {
            Self::None => false,
            Self::Flagged => is_notable(said),
            Self::All => true,
        };
        said.iter().filter(|_| tells).map(|(name, value)| (*name, value.as_str())).collect()
    }
}
