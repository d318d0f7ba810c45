//! Replays the corpus of fuzz target `message_parts`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/message_parts.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/message_parts.rs"]
mod seeds;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("message_parts", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("message_parts", seeds::seeds()?)?)
}
