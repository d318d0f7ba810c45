//! What to offer for a transaction (EIP-1559), from what other transactions paid lately.

/// How many blocks the estimate looks back.
pub(crate) const BLOCKS: u64 = 10;
/// Which percentile of each block's priority fees is asked for: low, as a ledger's entry is in no hurry.
pub(crate) const PERCENTILE: f64 = 20.0;
/// How far the base fee may rise before the transaction is in a block.
const BASE_FEE_FACTOR: u128 = 2;
/// Least priority fee, in wei per gas: some nodes drop what offers none.
const MIN_PRIORITY_FEE: u128 = 1;

/// Fees to offer, (most, priority) in wei per gas, from the newest base fee and the `reward` of `eth_feeHistory`.
///
/// The estimate is that of alloy's provider, which takes long to build. A test compares the two.
pub(crate) fn estimate(base_fee: u128, rewards: &[Vec<u128>]) -> (u128, u128) {
    // An empty block reports zero, which says nothing.
    let mut paid: Vec<u128> =
        rewards.iter().filter_map(|block| block.first().copied()).filter(|fee| *fee > 0).collect();
    paid.sort_unstable();
    let median = match (paid.get(paid.len().saturating_sub(1) / 2), paid.get(paid.len() / 2)) {
        (Some(low), Some(high)) => low.midpoint(*high),
        _ => 0,
    };
    let priority = median.max(MIN_PRIORITY_FEE);
    (base_fee.saturating_mul(BASE_FEE_FACTOR).saturating_add(priority), priority)
}

#[cfg(test)]
mod tests {
    use alloy::providers::utils::{
        EIP1559_FEE_ESTIMATION_PAST_BLOCKS, EIP1559_FEE_ESTIMATION_REWARD_PERCENTILE, eip1559_default_estimator,
    };
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn asks_for_what_alloy_asks_for() {
        assert_eq!(BLOCKS, EIP1559_FEE_ESTIMATION_PAST_BLOCKS);
        assert_eq!(PERCENTILE, EIP1559_FEE_ESTIMATION_REWARD_PERCENTILE);
    }

    #[test]
    fn survives_any_answer() {
        assert_eq!(estimate(u128::MAX, &[vec![u128::MAX], vec![u128::MAX]]), (u128::MAX, u128::MAX));
        assert_eq!(estimate(0, &[vec![], vec![0]]), (1, 1));
    }

    proptest! {
        #[test]
        fn estimates_like_alloy(
            base_fee in 0..1u128 << 100,
            rewards in prop::collection::vec(prop::collection::vec(0..5_000_000_000u128, 0..3), 0..12),
        ) {
            let alloy = eip1559_default_estimator(base_fee, &rewards);
            let expected = (alloy.max_fee_per_gas, alloy.max_priority_fee_per_gas);
            prop_assert_eq!(estimate(base_fee, &rewards), expected);
        }
    }
}
