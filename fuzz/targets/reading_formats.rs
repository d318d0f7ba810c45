#![no_main]

#[path = "../bodies/reading_formats.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
