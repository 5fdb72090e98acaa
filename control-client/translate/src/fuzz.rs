//! The entry points of the fuzzers of bootstraps and resources.

use millrace_observe::stats::Registry;
use millrace_proto::{Format, LoadOptions, bootstrap_from_text, message_to_json};

use crate::context::{Context, Overrides};
use crate::resource;

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

/// Reads the bytes behind the first one as a resource of the type that the first one chooses. Must never panic, and a
/// resource that was accepted is accepted again, in place of itself.
pub fn fuzz_resource(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let mut cx = Context::new(Registry::new(), Overrides::default());
    match kind % 5 {
        0 => {
            if let Ok(first) = resource::cluster(bytes, None, &mut cx) {
                assert!(resource::cluster(bytes, Some(&first.value), &mut cx).is_ok(), "accepted once");
                // Either verdict is fine; only a panic is a finding.
                let _verdict = resource::load_assignment(bytes, &first.value, &mut cx);
            }
        }
        1 => {
            if let Ok(first) = resource::listener(bytes, None, &mut cx) {
                assert!(resource::listener(bytes, Some(&first.value), &mut cx).is_ok(), "accepted once");
            }
        }
        2 => {
            let _verdict = resource::route_configuration(bytes, &mut cx);
        }
        3 => {
            let _verdict = resource::runtime(bytes, &mut cx);
        }
        _ => {
            let eds = b"\x0a\x01c\x10\x03\x1a\x04\x0a\x02\x1a\x00";
            if let Ok(cluster) = resource::cluster(eds, None, &mut cx) {
                let _verdict = resource::load_assignment(bytes, &cluster.value, &mut cx);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_base::Rng;

    /// Mutations of a small valid resource of every kind; libFuzzer goes further (`tests/fuzz`).
    #[test]
    fn no_bytes_make_a_resource_panic() {
        let eds = b"\x0a\x01c\x10\x03\x1a\x04\x0a\x02\x1a\x00".to_vec();
        let cluster =
            crate::resource::cluster(&eds, None, &mut Context::new(Registry::new(), Overrides::default()));
        assert!(cluster.is_ok(), "the seed is an EDS cluster: {cluster:?}");
        let seeds: [&[u8]; 3] =
            [&eds, b"\x0a\x01r\x12\x09\x0a\x01v\x12\x01*\x1a\x01\x0a", b"\x0a\x01c\x12\x02\x12\x00"];
        let mut rng = Rng::new(7);
        let mut tried = 0;
        for seed in seeds {
            for kind in 0..5 {
                for _ in 0..2_000 {
                    let mut data = vec![kind];
                    data.extend_from_slice(seed);
                    for _ in 0..1 + rng.next_u64() % 4 {
                        let at = 1 + (rng.next_u64() as usize) % (data.len() - 1);
                        match rng.next_u64() % 3 {
                            0 => data[at] = rng.next_u64() as u8,
                            1 => data.insert(at, rng.next_u64() as u8),
                            _ => data.truncate(at.max(2)),
                        }
                    }
                    fuzz_resource(&data);
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 30_000);
    }
}
