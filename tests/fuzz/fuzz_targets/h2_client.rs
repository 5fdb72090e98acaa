//! The `h2_client` properties of `millrace_http::fuzz` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_http::fuzz::fuzz_h2_client(data));
