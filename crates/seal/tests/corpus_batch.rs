//! Replays the corpus of fuzz target `sealed_batch`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/sealed_batch.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/sealed_batch.rs"]
mod seeds;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("sealed_batch", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("sealed_batch", seeds::seeds()?)?)
}
