#![no_main]

#[path = "../bodies/mqtt_frame.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
