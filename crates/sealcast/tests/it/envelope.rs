//! The sealed message as docs/envelope.md describes it, read by another implementation.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::{harness::output, python::python};

#[test]
fn a_short_python_program_opens_the_test_vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = folder.join("../../docs/envelope-vectors.json");
    let read = output(Command::new(python()).arg(folder.join("tests/python/open_sealed.py")).arg(&file));
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let opened: Vec<Value> =
        String::from_utf8(read.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut expected = vectors["messages"].as_array().unwrap().clone();
    for message in &mut expected {
        let message = message.as_object_mut().unwrap();
        message.remove("frame");
        message.insert("agrees".to_owned(), true.into());
    }
    assert_eq!(opened, expected);
    for mode in ["group", "alone", "batch"] {
        assert!(opened.iter().any(|message| message["mode"] == mode), "no vector is {mode}");
    }
}
