//! The `http_version` properties of `millrace_inspect::fuzz` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_inspect::fuzz::fuzz_http_version(data));
