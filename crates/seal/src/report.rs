//! What a message says of its sender's ledger: how far it had been read, and which ledger it was. Whoever is behind, or is
//! shown another ledger, learns it from what the others send.
//!
//! Three bytes have to do. The height is told as a distance from the commit that began the epoch, which both sides know, and
//! of the head the message carries a piece. Which piece changes with each message, so that a ledger made to agree in one
//! place of the head is found out by the next message.

use crate::header::Start;

/// Bytes of a report: a distance of 12 bits and a piece of 12.
pub(crate) const REPORT_BYTES: usize = 3;
/// Pieces of a head of 32 bytes, of which 4 bits are left over.
const PIECES: u32 = 256 / PIECE_BITS;
const PIECE_BITS: u32 = 12;

/// How far a height is from the epoch's commit, as 12 bits: exactly up to 2,047 entries, above that in 16 octaves of 128
/// steps, so that it is told at most one part in 128 too low.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Distance(u16);

impl Distance {
    /// The sender does not say.
    const UNSAID: u16 = 0xFFF;
    const EXACT: u64 = 1 << 11;
    const STEPS: u64 = 1 << 7;

    /// The greatest distance that can be told and is not above `entries`.
    pub(crate) fn up_to(entries: u64) -> Self {
        if entries < Self::EXACT {
            return Self(entries as u16);
        }
        let octave = u64::from(entries.ilog2() - Self::EXACT.ilog2());
        let step = (entries >> (4 + octave)) - Self::STEPS;
        Self((Self::EXACT + octave * Self::STEPS + step).min(u64::from(Self::UNSAID) - 1) as u16)
    }

    /// In entries.
    pub(crate) fn entries(self) -> u64 {
        let Some(beyond) = u64::from(self.0).checked_sub(Self::EXACT) else { return self.0.into() };
        (Self::STEPS + beyond % Self::STEPS) << (4 + beyond / Self::STEPS)
    }
}

/// The three bytes as they stand in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawReport(pub(crate) [u8; REPORT_BYTES]);

impl RawReport {
    pub(crate) const UNSAID: Self = Self([0xFF, 0xF0, 0x00]);

    pub(crate) fn new(distance: Distance, piece: Piece) -> Self {
        let [_, bytes @ ..] = (u32::from(distance.0) << PIECE_BITS | u32::from(piece.bits)).to_be_bytes();
        Self(bytes)
    }

    /// What it says to whoever knows that the ledger had `base` entries after the epoch's commit. `None` if nothing.
    pub(crate) fn read(self, base: u64, place: Place) -> Option<LedgerReport> {
        let [a, b, c] = self.0;
        let bits = u32::from_be_bytes([0, a, b, c]);
        let distance = Distance((bits >> PIECE_BITS) as u16);
        let piece = Piece { place, bits: (bits & 0xFFF) as u16 };
        let height = base.checked_add(distance.entries())?;
        (distance.0 != Distance::UNSAID).then_some(LedgerReport { height, piece })
    }

    /// A report that says nothing has one form.
    pub(crate) fn is_malformed(self) -> bool {
        let [a, b, _] = self.0;
        a == 0xFF && b >= 0xF0 && self != Self::UNSAID
    }
}

/// Which piece of the head a message carries. It begins anywhere, so that nobody can prepare for the first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    #[inline]
    pub(crate) fn of(start: Start, counter: u32) -> Self {
        Self((start.bits() + counter) % PIECES)
    }
}

/// 12 bits of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    place: Place,
    bits: u16,
}

impl Piece {
    #[inline]
    pub(crate) fn of(head: &[u8; 32], place: Place) -> Self {
        let first = (place.0 * PIECE_BITS) as usize;
        // Two bytes hold it, wherever it begins: 12 bits from the first or the fifth.
        let byte = |at: usize| u16::from(head.get(at).copied().unwrap_or(0));
        let two = byte(first / 8) << 8 | byte(first / 8 + 1);
        Self { place, bits: if first.is_multiple_of(8) { two >> 4 } else { two & 0xFFF } }
    }
}

/// What a message says of its sender's ledger. Authenticated as the message is: see [`Message::is_signed`].
///
/// [`Message::is_signed`]: crate::Message::is_signed
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerReport {
    height: u64,
    piece: Piece,
}

impl LedgerReport {
    /// How many entries its sender had read, at least. Whoever has fewer is behind.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Whether the head after [`Self::height`] entries may be this one. Of two different heads one in 4,096 does not show
    /// in one message; the next message compares another piece.
    pub fn agrees_with(&self, head: &[u8; 32]) -> bool {
        Piece::of(head, self.piece.place) == self.piece
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_distance_is_told_exactly_or_a_little_too_low(entries in prop_oneof![0..5000u64, 0..1u64 << 28, any::<u64>()]) {
            let told = Distance::up_to(entries).entries();
            prop_assert!(told <= entries);
            if entries < 2048 {
                prop_assert_eq!(told, entries);
            } else if entries < 254 << 19 {
                prop_assert!(entries - told <= entries / 128, "{} as {}", entries, told);
            }
            prop_assert_eq!(Distance::up_to(told).entries(), told);
        }

        #[test]
        fn a_report_is_read_as_it_was_written(base in 0..1u64 << 60, entries in 0..1u64 << 27, head: [u8; 32],
                                              start in 0..=Start::MAX, counter in 0..1u32 << 24, other: [u8; 32]) {
            let place = Place::of(Start::new(start).expect("24 bits"), counter);
            let distance = Distance::up_to(entries);
            let raw = RawReport::new(distance, Piece::of(&head, place));
            prop_assert!(!raw.is_malformed());
            let read = raw.read(base, place).expect("said");
            prop_assert_eq!(read.height(), base + distance.entries());
            prop_assert!(read.agrees_with(&head));
            prop_assert_eq!(read.agrees_with(&other), Piece::of(&other, place) == Piece::of(&head, place));
        }

        /// Whichever bit of a head differs, one of so many messages in a row says so.
        #[test]
        fn every_bit_of_a_head_but_the_last_four_is_compared(head: [u8; 32], bit in 0..252usize, start in 0..=Start::MAX) {
            let mut other = head;
            other[bit / 8] ^= 0x80 >> (bit % 8);
            let places = (0..PIECES).map(|counter| Place::of(Start::new(start).expect("24 bits"), counter));
            let differ = places.filter(|place| Piece::of(&head, *place) != Piece::of(&other, *place));
            prop_assert_eq!(differ.count(), 1);
        }
    }

    #[test]
    fn all_distances_are_different_and_grow() {
        let told: Vec<u64> = (0..Distance::UNSAID).map(|code| Distance(code).entries()).collect();
        assert!(told.is_sorted_by(|a, b| a < b));
        assert_eq!(told.last(), Some(&(254 << 19)));
        assert_eq!(Distance::up_to(u64::MAX).entries(), 254 << 19);
    }

    #[test]
    fn what_is_not_said_has_one_form() {
        let place = Place::of(Start::new(5).unwrap(), 0);
        assert_eq!(RawReport::UNSAID.read(0, place), None);
        assert!(!RawReport::UNSAID.is_malformed());
        assert!(RawReport([0xFF, 0xF0, 1]).is_malformed() && RawReport([0xFF, 0xF1, 0]).is_malformed());
        assert!(!RawReport([0xFF, 0xEF, 0xFF]).is_malformed());
    }
}
