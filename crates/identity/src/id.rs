use std::{fmt, str::FromStr};

/// The name of a node: 1 to 64 characters of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
///
/// It stands in the certificate's common name, in MQTT topics (`sealcast/v1/keys/<device>`) and on the ledger, so it
/// can hold neither `/` nor an MQTT wildcard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(String);

/// Why a text is not a [`DeviceId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceIdError {
    /// Empty, or more than 64 bytes.
    #[error("a device id has 1 to 64 characters, this one has {0}")]
    Length(usize),
    /// A character that may not stand where it does.
    #[error("a device id may not have {0:?} at position {1}: use letters, digits, '.', '_' and '-', no leading '.'")]
    Character(char, usize),
    /// One of the names that the ledger keeps for its own originators.
    #[error("{0:?} is a reserved name: choose another device id")]
    Reserved(String),
}

impl DeviceId {
    /// Names of the ledger's built-in originators, which no device may have.
    pub const RESERVED: [&'static str; 4] = ["root", "ca", "operator", "hub"];
    /// Longest id, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceId {
    type Err = DeviceIdError;

    fn from_str(text: &str) -> Result<Self, DeviceIdError> {
        if text.is_empty() || text.len() > Self::MAX_BYTES {
            return Err(DeviceIdError::Length(text.len()));
        }
        let allowed = |(position, c): &(usize, char)| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (*c == '.' && *position > 0)
        };
        if let Some((position, c)) = text.char_indices().find(|found| !allowed(found)) {
            return Err(DeviceIdError::Character(c, position));
        }
        if Self::RESERVED.contains(&text) {
            return Err(DeviceIdError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_names_and_refuses_what_mqtt_or_a_path_would_misread() {
        for good in ["1111", "valve-3.north_a", "A"] {
            assert_eq!(good.parse::<DeviceId>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        assert_eq!("".parse::<DeviceId>(), Err(DeviceIdError::Length(0)));
        assert_eq!("x".repeat(65).parse::<DeviceId>(), Err(DeviceIdError::Length(65)));
        for (bad, at) in [("a/b", 1), ("+", 0), ("a#", 1), ("..", 0), ("a b", 1), ("é", 0), ("a\0", 1)] {
            assert!(
                matches!(bad.parse::<DeviceId>(), Err(DeviceIdError::Character(_, position)) if position == at),
                "{bad:?}"
            );
        }
        assert_eq!("ca".parse::<DeviceId>(), Err(DeviceIdError::Reserved("ca".into())));
    }
}
