//! How fast one device may fill the ledger: what is on it stays for ever, and every member reads all of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use sealcast_ledger::Number;

/// Entries that a device may put on the ledger at once.
pub(crate) const BURST: u64 = 64;
/// After them, one in so many milliseconds.
pub(crate) const INTERVAL_MS: u64 = 500;
/// Devices that are counted. Only those that wrote within the last 32 seconds need be; beyond this the one with the
/// least to wait is forgotten.
const MAX_COUNTED: usize = 4_096;

/// A token bucket for each device (as GCRA: one time for each).
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// When the device's bucket will be full again, in milliseconds.
    full_at_ms: Mutex<BTreeMap<Number, u64>>,
}

impl Rates {
    /// Whether the device may put an entry on the ledger now; else after how many milliseconds.
    ///
    /// Asking costs nothing: anybody can send an entry in another's name, and whose it is shows when the contract takes
    /// it. Entries that are under way at the same time may therefore exceed the burst; [`charge`](Self::charge) then
    /// makes the device wait the longer.
    pub(crate) fn check(&self, device: Number, now_ms: u64) -> Result<(), u64> {
        let full_at_ms = self.full_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let debt_ms = full_at_ms.get(&device).map_or(0, |full_at_ms| full_at_ms.saturating_sub(now_ms));
        match debt_ms.saturating_sub((BURST - 1) * INTERVAL_MS) {
            0 => Ok(()),
            wait_ms => Err(wait_ms),
        }
    }

    /// The ledger took a new entry of the device.
    pub(crate) fn charge(&self, device: Number, now_ms: u64) {
        let mut full_at_ms = self.full_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at_ms.len() >= MAX_COUNTED && !full_at_ms.contains_key(&device) {
            full_at_ms.retain(|_, full_at_ms| *full_at_ms > now_ms);
            if full_at_ms.len() >= MAX_COUNTED
                && let Some(least) =
                    full_at_ms.iter().min_by_key(|(_, full_at_ms)| **full_at_ms).map(|(least, _)| *least)
            {
                full_at_ms.remove(&least);
            }
        }
        let known = full_at_ms.entry(device).or_insert(now_ms);
        *known = (*known).max(now_ms).saturating_add(INTERVAL_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u32) -> Number {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Number::from(bytes)
    }

    #[test]
    fn a_burst_then_two_a_second_for_each() {
        let rates = Rates::default();
        for _ in 0..BURST {
            assert_eq!(rates.check(device(1), 1_000), Ok(()));
            rates.charge(device(1), 1_000);
        }
        assert_eq!(rates.check(device(1), 1_000), Err(500));
        assert_eq!(rates.check(device(1), 1_499), Err(1));
        assert_eq!(rates.check(device(2), 1_000), Ok(()), "each has its own");
        let mut taken = 0;
        for now_ms in 1_000..11_000 {
            if rates.check(device(1), now_ms).is_ok() {
                rates.charge(device(1), now_ms);
                taken += 1;
            }
        }
        assert_eq!(taken, 19, "in just under ten seconds");
        assert_eq!(rates.check(device(1), 100_000), Ok(()));
        // What is under way together is paid for afterwards.
        (0..BURST + 10).for_each(|_| rates.charge(device(3), 0));
        assert_eq!(rates.check(device(3), 0), Err(11 * INTERVAL_MS));
    }

    #[test]
    fn only_so_many_are_counted() {
        let rates = Rates::default();
        (0..5_000).for_each(|number| rates.charge(device(number), u64::from(number) / 1_000));
        assert!(rates.full_at_ms.lock().unwrap().len() <= MAX_COUNTED);
    }
}
