//! Replays the corpus of fuzz target `sealed_envelope`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/sealed_envelope.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/sealed_envelope.rs"]
mod seeds;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("sealed_envelope", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/fixtures: docs/fuzzing.md"]
fn make_fixtures() -> Outcome {
    seeds::write_fixture()
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("sealed_envelope", seeds::seeds()?)?)
}
