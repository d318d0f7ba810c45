//! mqtt.js from npm, which tests talk to.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::harness::{output, succeed};

const PACKAGE: &str = "mqtt@5.16.0";

/// The folder from which Node finds mqtt.js: `SEALCAST_TEST_NODE`, or one that is made here.
pub fn modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        if let Some(dir) = std::env::var_os("SEALCAST_TEST_NODE") {
            return dir.into();
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node");
        std::fs::create_dir_all(&dir).unwrap();
        // Another run of the tests may make it at this moment. The lock ends with the file, also when this run is killed.
        let lock = std::fs::File::create(dir.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !output(Command::new("npm").args(["ls", PACKAGE]).current_dir(&dir)).status.success() {
            let install = ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", PACKAGE];
            succeed(Command::new("npm").args(install).current_dir(&dir));
        }
        dir
    })
}
