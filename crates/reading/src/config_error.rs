//! Why a declared format is refused, for reading and for writing.

use crate::unit::UnitError;

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a JSONPath.
    #[error("`{key}` is not a JSONPath (RFC 9535): `{path}`: {what}")]
    Path {
        /// The key of the configuration.
        key: &'static str,
        /// The path.
        path: String,
        /// What the parser says.
        what: String,
    },
    /// Not a layout.
    #[error("field `{field}` of the layout: {what}")]
    Layout {
        /// The field's name; empty for the layout itself.
        field: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A zone that would never count.
    #[error("`time_zone`: {0}")]
    Zone(&'static str),
    /// Units that never convert.
    #[error("`convert_to`: {0}")]
    Unit(UnitError),
    /// A name that SenML does not allow (RFC 8428 §4.5.1).
    #[error("`{key}`: `{name}`: {what}")]
    Name {
        /// The key of the configuration.
        key: &'static str,
        /// The name.
        name: String,
        /// What is wrong.
        what: String,
    },
}

// Not its source, since the key's message has it: it would be told twice.
impl From<UnitError> for ConfigError {
    fn from(error: UnitError) -> Self {
        Self::Unit(error)
    }
}
