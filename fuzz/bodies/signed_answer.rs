//! Answers to a node's calls, from whoever carries them. `fuzz/fixtures/answers.bin` holds genuine ones, whose keys are gone.

#[path = "genuine.rs"]
mod genuine;

use std::sync::OnceLock;

use sealcast_identity::TrustAnchor;
use sealcast_ledger::LedgerId;
use sealcast_ledger_client::AnswerVerifier;

use self::genuine::{changed, parts};

/// When the fixtures were made, Unix ms.
pub const NOW_MS: u64 = 1_767_225_600_000;
/// How long the certificates in them are good.
pub const LIFE_MS: u64 = 10 * 365 * 86_400_000;
pub const LEDGER: LedgerId = LedgerId { chain_id: 5318, address: [7; 20] };
/// Whose calls are answered.
pub const NODE: &str = "1111";
/// What the hub has answered it.
pub const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":"7","result":{"records":[]}}"#;

/// Parts, each behind its length as u32: the root; then signed answers, of the hub to [`NODE`], of the hub to another node, of a
/// device to [`NODE`], and of a hub of another root to [`NODE`].
const FIXTURE: &[u8] = include_bytes!("../fixtures/answers.bin");

const MAX_OPERATIONS: usize = 16;
/// A verified chain is not looked at again for so long.
const KNOWN_MS: u64 = 60_000;
const SIGNATURE_BYTES: usize = 64;

struct World {
    anchor: TrustAnchor,
    answers: [&'static [u8]; 4],
}

/// `what u8 | length u16 | bytes`, again and again, with one verifier.
pub fn run(data: &[u8]) {
    let world = world();
    let verifier = AnswerVerifier::new(LEDGER, NODE, world.anchor.clone());
    let mut now_ms = NOW_MS;
    let mut bytes = data;
    for _ in 0..MAX_OPERATIONS {
        let Some(([what, high, low], rest)) = bytes.split_first_chunk::<3>() else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (part, rest) = rest.split_at(rest.len().min(length));
        bytes = rest;
        let [first, second] = [what >> 3, what >> 5].map(|which| world.answers[usize::from(which & 3)]);
        match what & 7 {
            0 => check(&verifier, part, now_ms),
            1 => check(&verifier, &changed(first, part), now_ms),
            2 => check(&verifier, &put_together(first, second, part), now_ms),
            3 => check(&verifier, &put_together(first, second, pieces(second)[2]), now_ms),
            4 => now_ms = part.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)),
            5 => now_ms = now_ms.saturating_add(part.iter().map(|byte| 1_000 * u64::from(*byte)).sum()),
            _ => check(&verifier, first, now_ms),
        }
    }
    assert_eq!(verifier.verify(world.answers[0], NOW_MS), Ok(ANSWER), "nothing spoils the genuine answer");
}

/// Nobody has the keys: what is taken is what the hub has answered this node, while its certificate was good.
fn check(verifier: &AnswerVerifier, bytes: &[u8], now_ms: u64) {
    match verifier.verify(bytes, now_ms) {
        Ok(answer) => {
            assert_eq!(answer, ANSWER, "an answer that the hub never gave");
            assert!(now_ms < NOW_MS + LIFE_MS + KNOWN_MS, "its certificate has ended");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The chain of one answer, the signature of another, and any answer.
fn put_together(first: &[u8], second: &[u8], answer: &[u8]) -> Vec<u8> {
    [pieces(first)[0], pieces(second)[1], answer].concat()
}

/// All before the signature, the signature, the answer.
fn pieces(signed: &[u8]) -> [&[u8]; 3] {
    let chain = usize::from(u16::from_be_bytes([signed[1], signed[2]]));
    let (head, rest) = signed.split_at(3 + chain);
    let (signature, answer) = rest.split_at(SIGNATURE_BYTES);
    [head, signature, answer]
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut parts = parts(FIXTURE);
        let mut next = || parts.next().expect("a part");
        let anchor = TrustAnchor::from_der(next()).expect("a root");
        World { anchor, answers: [next(), next(), next(), next()] }
    })
}
