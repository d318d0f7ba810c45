//! Replays the corpus of fuzz target `signed_answer`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/signed_answer.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/signed_answer.rs"]
mod seeds;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("signed_answer", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/fixtures: docs/fuzzing.md"]
fn make_fixtures() -> Outcome {
    seeds::write_fixture()
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("signed_answer", seeds::seeds()?)?)
}
