//! Proofs of what a device has sent, from whoever wants to be believed, and copies of a ledger. `fuzz/fixtures/proof.bin` holds a
//! genuine one, whose keys are gone.

#[path = "genuine.rs"]
mod genuine;

use std::sync::OnceLock;

use sealcast_audit::{Proof, verify};
use sealcast_identity::TrustAnchor;
use sealcast_ledger::Record;

use self::genuine::{changed, parts};

/// Parts, each behind its length as u32: the root certificate (DER), the ledger, the proof.
const FIXTURE: &[u8] = include_bytes!("../fixtures/proof.bin");

struct World {
    root: TrustAnchor,
    records: Vec<Record>,
    proof: &'static [u8],
    ledger: &'static [u8],
}

/// `what u8 | bytes`.
pub fn run(data: &[u8]) {
    let Some((what, part)) = data.split_first() else { return };
    let world = world();
    match what & 3 {
        0 => check_proof(world, part),
        1 => check_proof(world, &changed(world.proof, part)),
        2 => check_ledger(part),
        _ => check_ledger(&changed(world.ledger, part)),
    }
}

/// Nobody has the keys: what holds is the genuine one.
fn check_proof(world: &World, bytes: &[u8]) {
    match Proof::decode(bytes) {
        Ok(proof) => {
            assert_eq!(proof.encode(), bytes, "one proof has one form");
            let holds = verify(&proof, &world.root, &world.records).is_ok();
            assert_eq!(holds, bytes == world.proof, "what nobody has anchored is not proven");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check_ledger(bytes: &[u8]) {
    match Record::decode_all(bytes) {
        Ok(records) => assert_eq!(Record::encode_all(&records), bytes, "one ledger has one form"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut parts = parts(FIXTURE);
        let mut next = || parts.next().expect("a part");
        let root = TrustAnchor::from_der(next()).expect("a root");
        let ledger = next();
        let records = Record::decode_all(ledger).expect("a ledger");
        World { root, records, proof: next(), ledger }
    })
}
