//! What leaves an agent for a topic of the group, and what must hold of it.

use sealcast_agent_core::{Keyring, Now};
use sealcast_ledger::Hash;
use sealcast_seal::Header;

use super::{Ghost, number};
use crate::{
    cast::{Cast, WORD_MAX_AGE_S},
    spy::Inside,
};

/// See [`WORD_MAX_AGE_S`].
const WORD_MAX_AGE_MS: u64 = 1_000 * WORD_MAX_AGE_S as u64;

/// A sealed message.
struct Leaving<'a> {
    device: usize,
    topic: &'a str,
    payload: &'a [u8],
    inside: Inside,
    now: Now,
}

impl Ghost {
    /// Something leaves an agent for a topic of the group.
    pub fn leaves(&mut self, cast: &Cast, device: usize, keyring: &Keyring, topic: &str, payload: &[u8], now: Now) {
        if payload.is_empty() {
            if !self.announced.remove(&(device, topic.to_owned())) {
                self.violated("what deletes is announced", format!("device {device} on {topic}"));
            }
            return;
        }
        let Ok(header) = Header::parse(payload) else {
            return self.violated("nothing leaves unsealed", format!("device {device} on {topic}"));
        };
        let Some(inside) = self.spies[device].open(topic, payload, now.unix_ms) else {
            return self.violated("what is sealed opens", format!("device {device} on {topic}: {header:?}"));
        };
        if self.past.get(&device).is_some_and(|past| inside.epoch <= *past) {
            let what = format!("device {device} on {topic} under {}", inside.epoch);
            self.violated("nothing is sealed under the keys of a copy", what);
        }
        self.sealed += 1;
        if inside.deletes {
            self.announced.insert((device, topic.to_owned()));
        }
        let hash = Hash::of(payload);
        let nonce = (inside.epoch, header.key_id.bits(), header.ctr());
        if *self.nonces.entry(nonce).or_insert(hash) != hash {
            self.violated("no nonce is used twice", format!("device {device}: {nonce:?}"));
        }
        let leaving = Leaving { device, topic, payload, inside, now };
        self.check_word(keyring, &leaving);
        self.check_readers(cast, keyring, &leaving);
        // What is sealed again is nothing new to anybody who was there.
        let inside = leaving.inside;
        if let Some(number) = number(&inside.payload).filter(|_| !inside.is_again)
            && self.numbers.insert(hash, number).is_none()
        {
            self.sealed_message(cast, device, keyring, number, inside.sealed_ms);
        }
    }

    /// Whoever seals has heard the operator not long before.
    fn check_word(&mut self, keyring: &Keyring, leaving: &Leaving<'_>) {
        let Leaving { device, topic, inside, .. } = leaving;
        let (height, sealed_ms) = (keyring.replica().height(), inside.sealed_ms);
        let word = self.words.iter().rev().find(|word| word.height <= height);
        if word.is_none_or(|word| word.time_ms + WORD_MAX_AGE_MS < sealed_ms) {
            let what = format!("device {device} on {topic} at {sealed_ms}, with {height} records and {word:?}");
            self.violated("nothing is sealed without the operator's word", what);
        }
    }

    /// Whoever is not granted reads nothing that is sealed by those who know, or who should.
    fn check_readers(&mut self, cast: &Cast, keyring: &Keyring, leaving: &Leaving<'_>) {
        let Leaving { device, topic, payload, inside, now } = leaving;
        for (place, other) in cast.devices.iter().enumerate() {
            let is_known = !keyring.replica().is_granted(cast.group, other.number);
            let is_late = self.revoked_ms[place].is_some_and(|since_ms| since_ms + WORD_MAX_AGE_MS < inside.sealed_ms);
            if !is_known && !is_late || self.spies[place].open(topic, payload, now.unix_ms).is_none() {
                continue;
            }
            let what = format!(
                "device {place} can open what device {device} sealed on {topic} under {}, and {place} is not granted",
                inside.epoch
            );
            if is_known {
                self.violated("whoever is not granted opens nothing that is sealed afterwards", what);
            } else {
                self.violated("a revocation is withheld for no longer than the group's policy lets it", what);
            }
        }
    }
}
