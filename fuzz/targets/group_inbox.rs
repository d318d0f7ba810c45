#![no_main]

#[path = "../bodies/group_inbox.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
