//! Replays the corpus of fuzz target `ledger_entry`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/ledger_entry.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/ledger_entry.rs"]
mod seeds;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("ledger_entry", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("ledger_entry", seeds::seeds()?)?)
}
