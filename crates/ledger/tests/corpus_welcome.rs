//! Replays the corpus of fuzz target `signed_welcome`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/signed_welcome.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/signed_welcome.rs"]
mod seeds;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("signed_welcome", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/fixtures: docs/fuzzing.md"]
fn make_fixtures() -> Outcome {
    seeds::write_fixture()
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("signed_welcome", seeds::seeds()?)?)
}
