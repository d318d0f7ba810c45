//! Runs a fuzz target over its committed inputs: `fuzz/corpus/<target>` and `fuzz/regressions/<target>`.

use std::{fs, io, panic, path::Path};

/// Fails if the corpus is missing or empty, or if an input makes `run` panic.
pub fn replay(target: &str, run: fn(&[u8])) -> io::Result<()> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let corpus = replay_folder(&fuzz.join("corpus").join(target), run)?;
    assert!(corpus > 0, "fuzz/corpus/{target} is empty: docs/fuzzing.md says how to make it");
    let regressions = fuzz.join("regressions").join(target);
    if regressions.exists() {
        replay_folder(&regressions, run)?;
    }
    Ok(())
}

fn replay_folder(folder: &Path, run: fn(&[u8])) -> io::Result<usize> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
    let mut count = 0;
    for file in fs::read_dir(folder).map_err(named)? {
        let path = file?.path();
        let data = fs::read(&path)?;
        let outcome = panic::catch_unwind(|| run(&data));
        assert!(outcome.is_ok(), "{} makes the target panic", path.display());
        count += 1;
    }
    Ok(count)
}
