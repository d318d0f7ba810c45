//! Replays the corpus of fuzz target `audit_proof`, so that what fuzzing found stays found on stable.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../../fuzz/bodies/audit_proof.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/audit_proof.rs"]
mod seeds;
#[path = "it/world.rs"]
#[allow(dead_code, reason = "the fixture needs a part of it")]
mod world;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("audit_proof", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/fixtures: docs/fuzzing.md"]
fn make_fixtures() -> Outcome {
    seeds::write_fixture()
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("audit_proof", seeds::seeds()?)?)
}
