//! A Python with the packages from PyPI that tests talk to.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::harness::{output, succeed};

const PACKAGES: [&str; 3] = ["pymodbus==3.16.1", "paho-mqtt==2.1.0", "cryptography==50.0.2"];

/// `SEALCAST_TEST_PYTHON`, which has them, or one in a virtual environment that is made here.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        if let Some(python) = std::env::var_os("SEALCAST_TEST_PYTHON") {
            return python.into();
        }
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        let python = dir.join("bin/python");
        let has = |python: &Path| {
            let imports = "import pymodbus.simulator, paho.mqtt.client, cryptography";
            python.exists() && output(Command::new(python).args(["-c", imports])).status.success()
        };
        // Another run of the tests may make it at this moment. The lock ends with the file, also when this run is killed.
        std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
        let lock = std::fs::File::create(dir.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !has(&python) {
            succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
            succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES));
        }
        python
    })
}
