//! Writes seeds into `fuzz/corpus/<target>`, named after what they are.

use std::{fs, io, path::PathBuf};

/// A file or folder below `fuzz/`.
pub fn fuzz_path(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz")).join(path)
}

/// Writes each seed that is not there yet.
pub fn write_seeds(target: &str, seeds: impl IntoIterator<Item = (String, Vec<u8>)>) -> io::Result<()> {
    let folder = fuzz_path("corpus").join(target);
    fs::create_dir_all(&folder)?;
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
