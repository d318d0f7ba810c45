//! What tests take from npm: mqtt.js, Node-RED, and a node of an EVM network.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::harness::{output, succeed};

const MQTT_JS: &str = "mqtt@5.16.0";
const VIEM: &str = "viem@2.57.20";
const NODE_RED: &str = "node-red@4.1.8";
const ANVIL: &str = "@foundry-rs/anvil@1.7.1";
const CAST: &str = "@foundry-rs/cast@1.7.1";

/// The folder from which Node finds mqtt.js: `SEALCAST_TEST_NODE`, or one that is made here.
pub fn modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| match std::env::var_os("SEALCAST_TEST_NODE") {
        Some(dir) => dir.into(),
        None => installed(MQTT_JS, "node"),
    })
}

/// A folder from which Node finds viem.
pub fn viem() -> PathBuf {
    installed(VIEM, "viem")
}

/// The script that starts Node-RED.
pub fn node_red() -> PathBuf {
    installed(NODE_RED, "node-red").join("node_modules/node-red/red.js")
}

pub fn anvil() -> PathBuf {
    foundry(ANVIL, "anvil")
}

pub fn cast() -> PathBuf {
    foundry(CAST, "cast")
}

/// The program itself, past the script that starts it: what is ended is then what runs.
fn foundry(package: &str, name: &str) -> PathBuf {
    let packages = installed(package, name).join("node_modules/@foundry-rs");
    let mut all = std::fs::read_dir(packages).unwrap().map(|entry| entry.unwrap().path().join("bin").join(name));
    all.find(|program| program.is_file()).expect("the program for this kind of machine")
}

/// The folder `name`, with a package in it.
fn installed(package: &str, name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    // Another run of the tests may make it at this moment. The lock ends with the file, also when this run is killed.
    let lock = std::fs::File::create(dir.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !output(Command::new("npm").args(["ls", package]).current_dir(&dir)).status.success() {
        let install = ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", package];
        succeed(Command::new("npm").args(install).current_dir(&dir));
    }
    dir
}
