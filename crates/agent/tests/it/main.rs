//! The binary `sealcast-agent`. What its roles do with a hub is tested with the binary `sealcast`, which has the same ones.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// The exit code, and what stands on standard error.
fn agent(arguments: &[&str], dir: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealcast-agent"));
    let output = command.args(arguments).args(["--dir", dir]).env("SEALCAST_LOG", "error").output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn each_role_reaches_its_own_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    for (arguments, said) in [
        (&["run", "--check"][..], "does not hold an enrolled device"),
        (&["agent", "--check"], "does not hold an enrolled device"),
        (&["topics"], "cannot show what the agent measured"),
        (&["enroll", "--hub", "https://localhost:1", "--token-file", "/dev/null"], "neither a regular file nor a pipe"),
    ] {
        let (code, error) = agent(arguments, path);
        assert_eq!(code, Some(1), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

#[test]
fn roles_of_others_are_not_in_it() {
    for role in ["up", "device", "ledger", "demo"] {
        let (code, error) = agent(&[role], ".");
        assert_eq!(code, Some(2), "{role}: {error}");
    }
}
