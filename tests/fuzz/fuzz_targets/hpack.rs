//! The `hpack` properties of `millrace_http::fuzz` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_http::fuzz::hpack::fuzz_hpack(data));
