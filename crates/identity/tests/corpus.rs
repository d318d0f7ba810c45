//! Replays the corpus of fuzz target `est_request`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/est_request.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/est_request.rs"]
mod seeds;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("est_request", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/fixtures: docs/fuzzing.md"]
fn make_fixtures() -> Outcome {
    seeds::write_fixtures()
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("est_request", seeds::seeds()?)?)
}
