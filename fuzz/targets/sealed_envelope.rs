#![no_main]

#[path = "../bodies/sealed_envelope.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
