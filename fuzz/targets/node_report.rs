#![no_main]

#[path = "../bodies/node_report.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
