#![no_main]

#[allow(dead_code, reason = "one oracle of several")]
#[path = "../../tests/support/oracles.rs"]
mod oracles;

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::retry_after(input));
