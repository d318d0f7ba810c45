//! What to offer for a transaction (EIP-1559), from what other transactions paid lately.

/// In wei.
pub(crate) const GWEI: u128 = 1_000_000_000;
/// How many blocks the estimate looks back.
pub(crate) const BLOCKS: u64 = 10;
/// Which percentile of each block's priority fees is asked for: low, as a ledger's entry is in no hurry.
pub(crate) const PERCENTILE: f64 = 20.0;
/// How far the base fee may rise before the transaction is in a block.
const BASE_FEE_FACTOR: u128 = 2;
/// Least priority fee, in wei per gas: some nodes drop what offers none.
const MIN_PRIORITY_FEE: u128 = 1;

/// What is offered for a transaction, in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fees {
    /// EIP-1559.
    Dynamic {
        /// At most so much.
        max: u128,
        /// Of it so much for whoever makes the block.
        priority: u128,
    },
    /// A network from before EIP-1559.
    Legacy(u128),
}

impl Fees {
    /// Where transactions cost nothing.
    pub(crate) const NONE: Self = Self::Dynamic { max: 0, priority: 0 };

    /// The most that is paid.
    pub(crate) fn max(self) -> u128 {
        match self {
            Self::Dynamic { max, .. } | Self::Legacy(max) => max,
        }
    }

    /// At least what a node wants for a transaction in the place of one that waits, which is a tenth more of both; and what
    /// `now` would be offered for a new one.
    pub(crate) fn to_replace(self, now: Self) -> Self {
        let raised = |fee: u128| fee.saturating_add(fee / 4).saturating_add(1);
        match (self, now) {
            (Self::Dynamic { max, priority }, Self::Dynamic { max: new_max, priority: new_priority }) => {
                let (max, priority) = (raised(max).max(new_max), raised(priority).max(new_priority));
                Self::Dynamic { max: max.max(priority), priority }
            }
            (before, now) => Self::Legacy(raised(before.max()).max(now.max())),
        }
    }
}

/// Fees to offer, from the newest base fee and the `reward` of `eth_feeHistory`.
///
/// The estimate is that of alloy's provider, which takes long to build. A test compares the two.
pub(crate) fn estimate(base_fee: u128, rewards: &[Vec<u128>]) -> Fees {
    // An empty block reports zero, which says nothing.
    let mut paid: Vec<u128> =
        rewards.iter().filter_map(|block| block.first().copied()).filter(|fee| *fee > 0).collect();
    paid.sort_unstable();
    let median = match (paid.get(paid.len().saturating_sub(1) / 2), paid.get(paid.len() / 2)) {
        (Some(low), Some(high)) => low.midpoint(*high),
        _ => 0,
    };
    let priority = median.max(MIN_PRIORITY_FEE);
    Fees::Dynamic { max: base_fee.saturating_mul(BASE_FEE_FACTOR).saturating_add(priority), priority }
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
        let most = Fees::Dynamic { max: u128::MAX, priority: u128::MAX };
        assert_eq!(estimate(u128::MAX, &[vec![u128::MAX], vec![u128::MAX]]), most);
        assert_eq!(most.to_replace(most), most);
        assert_eq!(estimate(0, &[vec![], vec![0]]), Fees::Dynamic { max: 1, priority: 1 });
    }

    proptest! {
        /// Nodes want a tenth more of both; and what waits must not be below what a new one is offered.
        #[test]
        fn what_replaces_offers_enough(fee in 1..1u128 << 100, tip in 1..1u128 << 90, now in 0..1u128 << 100) {
            let before = Fees::Dynamic { max: fee.max(tip), priority: tip };
            let now = Fees::Dynamic { max: now, priority: now / 2 };
            let Fees::Dynamic { max, priority } = before.to_replace(now) else { unreachable!() };
            prop_assert!(max * 10 >= before.max() * 11 && priority * 10 >= tip * 11 && max >= priority && max >= now.max());
            prop_assert!(Fees::Legacy(fee).to_replace(Fees::Legacy(tip)).max() * 10 >= fee * 11);
        }

        #[test]
        fn estimates_like_alloy(
            base_fee in 0..1u128 << 100,
            rewards in prop::collection::vec(prop::collection::vec(0..5_000_000_000u128, 0..3), 0..12),
        ) {
            let alloy = eip1559_default_estimator(base_fee, &rewards);
            let expected = Fees::Dynamic { max: alloy.max_fee_per_gas, priority: alloy.max_priority_fee_per_gas };
            prop_assert_eq!(estimate(base_fee, &rewards), expected);
        }
    }
}
