//! Replays the corpus of fuzz target `mqtt_frame`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/mqtt_frame.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/mqtt_frame.rs"]
mod seeds;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("mqtt_frame", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("mqtt_frame", seeds::seeds()?)?)
}
