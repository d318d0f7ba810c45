#![no_main]

#[path = "../bodies/audit_proof.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
