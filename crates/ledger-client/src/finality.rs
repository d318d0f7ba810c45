//! When a block counts as one that stays.

use std::{fmt, str::FromStr, time::Duration};

/// A block counts as final when no reorganisation is expected to take it back. The network says so, or so many blocks on top
/// of it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finality {
    /// At once: for networks whose blocks are final when they are made (BFT), and for a node of one's own.
    Latest,
    /// When the network calls it `safe`.
    Safe,
    /// When the network calls it `finalized`.
    Finalized,
    /// When so many blocks are on top of it.
    Blocks(u64),
}

/// Not a [`Finality`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither latest, safe nor finalized, nor a number of blocks from 1 to {MAX_BLOCKS}")]
pub struct FinalityError(String);

/// More blocks on top of one than any network asks for. A node keeps the state of so few blocks only.
const MAX_BLOCKS: u64 = 100;

impl Finality {
    /// The newest final block, as a parameter of Ethereum's JSON-RPC, if `latest` is the newest one.
    pub(crate) fn block(self, latest: u64) -> String {
        match self {
            Self::Latest => "latest".to_owned(),
            Self::Safe => "safe".to_owned(),
            Self::Finalized => "finalized".to_owned(),
            Self::Blocks(blocks) => quantity(latest.saturating_sub(blocks)),
        }
    }

    /// How long a transaction may take until it is in a final block.
    pub fn patience(self) -> Duration {
        match self {
            Self::Latest => Duration::from_secs(60),
            // Ethereum's blocks take 12 s, its epochs 6.4 min. A block is safe after one, final after two or three.
            Self::Safe => Duration::from_secs(15 * 60),
            Self::Finalized => Duration::from_secs(30 * 60),
            Self::Blocks(blocks) => Duration::from_secs(60 + 15 * blocks),
        }
    }

    /// How much later than somebody else's node another one may call a block final, ms, apart from the time that it takes to hear
    /// of it.
    pub fn apart_ms(self) -> u64 {
        match self {
            Self::Latest => 0,
            other => u64::try_from(other.patience().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl FromStr for Finality {
    type Err = FinalityError;

    fn from_str(text: &str) -> Result<Self, FinalityError> {
        Ok(match text {
            "latest" => Self::Latest,
            "safe" => Self::Safe,
            "finalized" => Self::Finalized,
            number => match number.parse() {
                Ok(blocks) if (1..=MAX_BLOCKS).contains(&blocks) => Self::Blocks(blocks),
                _ => return Err(FinalityError(text.to_owned())),
            },
        })
    }
}

impl fmt::Display for Finality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Safe => f.write_str("safe"),
            Self::Finalized => f.write_str("finalized"),
            Self::Blocks(blocks) => write!(f, "{blocks} blocks"),
        }
    }
}

/// A number as Ethereum's JSON-RPC writes it.
pub(crate) fn quantity(number: u64) -> String {
    format!("{number:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tags_and_numbers() -> Result<(), FinalityError> {
        for (text, finality) in [
            ("latest", Finality::Latest),
            ("safe", Finality::Safe),
            ("finalized", Finality::Finalized),
            ("1", Finality::Blocks(1)),
            ("100", Finality::Blocks(100)),
        ] {
            assert_eq!(text.parse::<Finality>()?, finality);
        }
        for text in ["", "0", "101", "-1", "Latest", "pending"] {
            assert!(text.parse::<Finality>().is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn counts_back_from_the_newest_block() {
        assert_eq!(Finality::Blocks(3).block(19), "0x10");
        assert_eq!(Finality::Blocks(3).block(1), "0x0");
    }
}
