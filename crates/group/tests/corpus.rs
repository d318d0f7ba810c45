//! Replays the corpus of fuzz target `group_inbox`, so that what fuzzing found stays found on stable.

#[path = "../../../fuzz/bodies/group_inbox.rs"]
mod body;
#[path = "../../../fuzz/bodies/replay.rs"]
mod replay;
#[path = "../../../fuzz/seeds/group_inbox.rs"]
mod seeds;
#[path = "it/world.rs"]
#[allow(clippy::unwrap_used)]
mod world;
#[path = "../../../fuzz/seeds/write.rs"]
mod write;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[test]
fn the_corpus_replays_without_a_panic() -> Outcome {
    Ok(replay::replay("group_inbox", body::run)?)
}

#[test]
#[ignore = "writes into fuzz/fixtures: docs/fuzzing.md"]
fn make_fixtures() -> Outcome {
    seeds::write_fixture()
}

#[test]
#[ignore = "writes into fuzz/corpus: docs/fuzzing.md"]
fn make_seeds() -> Outcome {
    Ok(write::write_seeds("group_inbox", seeds::seeds()?)?)
}
