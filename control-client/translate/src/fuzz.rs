//! The entry point of the bootstrap fuzzer.

use millrace_observe::stats::Registry;
use millrace_proto::{Format, LoadOptions, bootstrap_from_text, message_to_json};

use crate::context::{Context, Overrides};

/// Reads `data` as YAML, JSON and wire bytes, and translates what parses. Must never panic.
pub fn fuzz_bootstrap(data: &[u8]) {
    for format in [Format::Yaml, Format::Json, Format::Binary] {
        for allow_unknown in [false, true] {
            let Ok(parsed) = bootstrap_from_text(format, data, &LoadOptions { allow_unknown }) else {
                continue;
            };
            let printed = message_to_json(millrace_proto::BOOTSTRAP, &parsed.bytes);
            assert!(printed.is_ok() || format == Format::Binary, "what was read can be printed");
            let mut cx = Context::new(Registry::new(), Overrides::default());
            // Either verdict is fine; only a panic is a finding.
            let _verdict = crate::bootstrap(&parsed.bytes, &mut cx);
        }
    }
}
