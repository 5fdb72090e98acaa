//! The `h2_server` properties of `millrace_http::fuzz` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_http::fuzz::fuzz_h2_server(data));
