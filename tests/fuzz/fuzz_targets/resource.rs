//! `millrace_translate::fuzz_resource` under libFuzzer: no text or bytes may panic the reader of resources.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| millrace_translate::fuzz_resource(data));
