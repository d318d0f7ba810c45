//! Connections that nobody has vouched for yet, counted by where they come from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use sealcast_broker_core::Cause;

/// How many connections of one address a [`Strangers`] lets in.
#[derive(Clone, Copy, Debug)]
pub struct MaxStrangers {
    /// Of one host: an IPv4 address, or a /64 of IPv6.
    pub host: usize,
    /// Of a loopback address.
    pub loopback: usize,
}

/// Connections of a server that nobody has vouched for, by peer. Bounded by the number of connections.
pub struct Strangers {
    peers: Mutex<HashMap<IpAddr, Peer>>,
    max: MaxStrangers,
    refusal: &'static str,
}

#[derive(Default)]
struct Peer {
    connections: usize,
    /// It has been said that this peer is over its limit; once is enough.
    told: bool,
}

/// The place of one such connection, until it is dropped.
pub struct Stranger {
    strangers: Arc<Strangers>,
    peer: IpAddr,
}

impl Strangers {
    /// Lets in so many. `refusal` is for the log: which connection is refused, and why.
    pub fn new(max: MaxStrangers, refusal: &'static str) -> Arc<Self> {
        Arc::new(Self { peers: Mutex::default(), max, refusal })
    }

    /// A place for one more, or `None` if its peer has all that it may.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Stranger> {
        let peer = host(peer);
        let max = if peer.is_loopback() { self.max.loopback } else { self.max.host };
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = peers.entry(peer).or_default();
        if found.connections < max {
            found.connections += 1;
            return Some(Stranger { strangers: self.clone(), peer });
        }
        let (code, text) = (Cause::Strangers, self.refusal);
        if std::mem::replace(&mut found.told, true) {
            tracing::debug!(%code, %peer, limit = max, "{text}");
        } else {
            tracing::warn!(%code, %peer, limit = max, "{text}");
        }
        None
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut peers = self.strangers.peers.lock().unwrap_or_else(PoisonError::into_inner);
        match peers.get_mut(&self.peer) {
            Some(peer) if peer.connections > 1 => peer.connections -= 1,
            _ => drop(peers.remove(&self.peer)),
        }
    }
}

/// What one host may be taken to have: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
pub fn host(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_cannot_hold_all() {
        let strangers = Strangers::new(MaxStrangers { host: 2, loopback: 3 }, "connection refused");
        let admit = |peer: &str| strangers.admit(peer.parse().unwrap());
        let held = [admit("192.0.2.1"), admit("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && admit("192.0.2.1").is_none());
        assert!(admit("192.0.2.2").is_some(), "others still come in");
        drop(held);
        assert!(admit("192.0.2.1").is_some());
        // One IPv6 host has a whole /64.
        let held = [admit("2001:db8::1"), admit("2001:db8::2")];
        assert!(held.iter().all(Option::is_some) && admit("2001:db8::3").is_none());
        assert!(admit("2001:db8:0:1::1").is_some());
        drop(held);
        let held = [admit("127.0.0.1"), admit("127.0.0.1"), admit("127.0.0.1")];
        assert!(held.iter().all(Option::is_some) && admit("127.0.0.1").is_none() && admit("::1").is_some());
        drop(held);
        assert!(strangers.peers.lock().unwrap().is_empty());
    }
}
