//! How often a sign-in may fail.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sealcast_broker::host;

/// Failures of one host within [`WINDOW`].
const MAX_FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Hosts that are remembered. While there are as many, no other one may try.
const MAX_HOSTS: usize = 4096;

/// Failed sign-ins, by host.
#[derive(Default)]
pub struct Attempts(Mutex<BTreeMap<IpAddr, (u32, Instant)>>);

impl Attempts {
    /// Whether this host may try.
    pub fn may_try(&self, peer: IpAddr, now: Instant) -> bool {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        match failed.get(&host(peer)) {
            Some((failures, _)) => *failures < MAX_FAILURES,
            None => failed.len() < MAX_HOSTS,
        }
    }

    /// It has failed.
    pub fn fail(&self, peer: IpAddr, now: Instant) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.entry(host(peer)).or_insert((0, now)).0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(at: usize) -> IpAddr {
        IpAddr::from(((at as u128) << 64).to_be_bytes())
    }

    #[test]
    fn a_host_may_fail_a_few_times_a_minute() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        for _ in 0..MAX_FAILURES {
            assert!(attempts.may_try(one, now));
            attempts.fail(one, now);
        }
        assert!(!attempts.may_try(one, now) && attempts.may_try(other, now));
        assert!(attempts.may_try(one, now + WINDOW));
        for at in 0..u128::from(MAX_FAILURES) {
            attempts.fail(IpAddr::from((1 << 125 | at).to_be_bytes()), now);
        }
        assert!(!attempts.may_try(IpAddr::from((1_u128 << 125 | 1 << 40).to_be_bytes()), now), "the same /64");
    }

    #[test]
    fn hosts_are_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for at in 0..MAX_HOSTS {
            attempts.fail(network(at), now);
        }
        assert!(!attempts.may_try(IpAddr::from([10, 0, 0, 1]), now));
        assert!(attempts.may_try(network(0), now));
    }
}
