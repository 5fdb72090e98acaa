//! `millrace_translate::fuzz_bootstrap` under libFuzzer: no text or bytes may panic the reader of bootstraps.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_translate::fuzz_bootstrap(data));
