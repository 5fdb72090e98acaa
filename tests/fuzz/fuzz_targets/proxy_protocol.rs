//! The `proxy_protocol` properties of `millrace_inspect::fuzz` under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_inspect::fuzz::fuzz_proxy_protocol(data));
