//! The corpora: PROXY protocol vectors with their verdicts, and hostile bytes of others, which must not panic.

use std::path::{Path, PathBuf};

use millrace_base::Rng;
use millrace_inspect::fuzz::{fuzz_client_hello, fuzz_http_version, fuzz_proxy_protocol};
use millrace_inspect::proxy_protocol::{Rules, Step, parse, tlvs};
use millrace_inspect::{ClientHello, HelloError, HttpSniff, client_hello, http_version};
use serde_json::Value;

/// The corpora are a sibling of the repository and not part of it: without them a test says that it skips, and fails
/// where `CI=true`. `MILLRACE_CORPORA` names another place.
fn corpus(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let path = std::env::var_os("MILLRACE_CORPORA").map_or_else(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    let in_ci = std::env::var_os("CI").is_some_and(|v| v == "true");
    assert!(!in_ci, "the corpus must exist in CI: {}", path.display());
    println!("skipped: 0 cases of corpus {name}, {} is absent", path.display());
    None
}

/// Every file of a folder, in order of their names.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = entries.filter(|path| path.is_file()).collect();
    paths.sort();
    let named = |path: PathBuf| {
        (
            path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            std::fs::read(&path).expect("bytes"),
        )
    };
    paths.into_iter().map(named).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

/// The bytes of all `data: "..."` lines of an Envoy corpus file (protobuf's text form).
fn text_data(file: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(file);
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("data: \"")?.strip_suffix('"'));
    lines.flat_map(|line| unescape(line.as_bytes())).collect()
}

fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        text = rest;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let Some((kind, rest)) = text.split_first() else { break };
        let (digits, radix, most, from) = match kind {
            b'x' => (rest, 16, 2, rest),
            b'0'..=b'7' => (text, 8, 3, text),
            other => {
                out.push(match other {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    plain => *plain,
                });
                text = rest;
                continue;
            }
        };
        let count = digits.iter().take(most).take_while(|c| char::from(**c).is_digit(radix)).count();
        let digits = std::str::from_utf8(&digits[..count]).expect("digits");
        out.push(u8::from_str_radix(digits, radix).unwrap_or_default());
        text = &from[count..];
    }
    out
}

/// Calls the target with the seed and with changes of it: octets set, pieces taken out, doubled or cut off.
fn mutate(seed: &[u8], rng: &mut Rng, times: usize, target: fn(&[u8])) {
    target(seed);
    for _ in 0..times {
        let mut data = seed.to_vec();
        for _ in 0..=rng.below(3) {
            let at = rng.below(data.len() as u64 + 1) as usize;
            let until = (at + rng.below(8) as usize).min(data.len());
            match rng.below(5) {
                0 => data.truncate(at),
                1 => _ = data.drain(at..until),
                2 => data.extend_from_within(at..until),
                3 => data.insert(at, rng.below(256) as u8),
                _ => data[at..until].iter_mut().for_each(|octet| *octet ^= rng.below(256) as u8),
            }
        }
        target(&data);
    }
}

#[test]
fn proxy_protocol_vectors() {
    let Some(path) = corpus("proxy-protocol/vectors.json") else { return };
    let cases: Value = serde_json::from_slice(&std::fs::read(path).expect("bytes")).expect("JSON");
    let (mut rng, mut seen) = (Rng::new(1), 0);
    for case in cases.as_array().expect("a list") {
        let (id, bytes) = (case["id"].as_str().expect("a name"), hex(case["hex"].as_str().expect("bytes")));
        mutate(&bytes, &mut rng, 300, fuzz_proxy_protocol);
        let verdict = parse(&bytes, &Rules::default());
        seen += 1;
        let header = match (case["expect"].as_str(), verdict) {
            (Some("reject"), Err(_)) | (Some("incomplete"), Ok(Step::NeedMore)) => continue,
            (Some("accept" | "accept-local"), Ok(Step::Header(header))) => header,
            (expected, verdict) => unreachable!("{id}: {verdict:?} instead of {expected:?}"),
        };
        assert_eq!(header.consumed, bytes.len(), "{id}");
        let told = header.addresses.map(|a| (a.source.to_string(), a.destination.to_string()));
        let text = |field: &str| case[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(told.is_some(), case["expect"] == "accept", "{id}");
        if let (Some(told), true) = (told, case["src"].is_string()) {
            assert_eq!(told, (text("src"), text("dst")), "{id}");
        }
        for (kind, value) in case["tlv"].as_object().into_iter().flatten() {
            let kind = hex(kind)[0];
            let found = tlvs(&bytes[header.tlvs.clone()]).find(|tlv| tlv.kind == kind);
            assert_eq!(found.map(|tlv| tlv.value.to_vec()), value.as_str().map(hex), "{id}");
        }
    }
    println!("{seen} vectors");
    assert!(seen >= 35, "the corpus is whole");
}

#[test]
fn proxy_protocol_seeds() {
    let mut rng = Rng::new(2);
    let Some(folder) = corpus("proxy-protocol/trafficserver") else { return };
    let raw = files(&folder);
    let Some(folder) = corpus("proxy-protocol/envoy") else { return };
    let envoy = files(&folder);
    for (_, bytes) in &raw {
        mutate(bytes, &mut rng, 100, fuzz_proxy_protocol);
    }
    for (name, file) in &envoy {
        let bytes = text_data(file);
        mutate(&bytes, &mut rng, 500, fuzz_proxy_protocol);
        let verdict = parse(&bytes, &Rules::default());
        // The TLVs of the others are broken.
        if name.starts_with("v1_") || name.starts_with("v2_basic") {
            assert!(matches!(verdict, Ok(Step::Header(_) | Step::NeedMore)), "{name}: {verdict:?}");
        }
    }
    assert!(raw.len() + envoy.len() >= 20, "the corpus is whole");
}

#[test]
fn http_inspector_seeds() {
    let Some(folder) =
        corpus("envoy-fuzz/test/extensions/filters/listener/http_inspector/http_inspector_corpus")
    else {
        return;
    };
    let mut rng = Rng::new(3);
    for (name, file) in files(&folder) {
        let bytes = text_data(&file);
        let sniff = http_version(&bytes);
        match name.as_str() {
            "valid_http11" => assert_eq!(sniff, HttpSniff::Http11),
            "valid_http10" => assert_eq!(sniff, HttpSniff::Http10),
            "valid_http2" => assert_eq!(sniff, HttpSniff::Http2),
            "multiple_http10" | "multiple_incomplete" | "incomplete_header" | "invalid_method" => {
                assert_eq!(sniff, HttpSniff::NeedMore, "{name}");
            }
            "invalid_request" => assert_eq!(sniff, HttpSniff::Http11, "any token is a method"),
            _ => {}
        }
        mutate(&bytes, &mut rng, 1000, fuzz_http_version);
    }
}

#[test]
fn tls_inspector_seeds() {
    let Some(folder) =
        corpus("envoy-fuzz/test/extensions/filters/listener/tls_inspector/tls_inspector_corpus")
    else {
        return;
    };
    let mut rng = Rng::new(4);
    for (name, file) in files(&folder) {
        let bytes = text_data(&file);
        let verdict = client_hello(&bytes);
        let of = |take: fn(ClientHello) -> bool| verdict.clone().ok().flatten().is_some_and(take);
        match name.as_str() {
            "valid_sni" => assert!(of(|hello| hello.server_name.is_some()), "{verdict:?}"),
            "valid_alpn" => assert!(of(|hello| hello.alpn().next() == Some(b"h2")), "{verdict:?}"),
            "not_ssl" => assert_eq!(verdict, Err(HelloError::NotTls)),
            _ => {}
        }
        mutate(&bytes, &mut rng, 1000, fuzz_client_hello);
    }
}

/// Messages without their records, and records of anything.
#[test]
fn hostile_client_hellos() {
    let Some(folder) = corpus("tls/boringssl-clienthello") else { return };
    let mut rng = Rng::new(5);
    let mut whole = 0;
    for (_, bytes) in files(&folder) {
        mutate(&bytes, &mut rng, 20, fuzz_client_hello);
        let message = [&[1][..], &(bytes.len() as u32).to_be_bytes()[1..], &bytes].concat();
        for most in [1 << 14, 50] {
            let records = message
                .chunks(most)
                .flat_map(|part| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat());
            let records: Vec<u8> = records.collect();
            whole += usize::from(matches!(client_hello(&records), Ok(Some(_))));
            mutate(&records, &mut rng, 20, fuzz_client_hello);
        }
    }
    let Some(folder) = corpus("tls/rustls-fuzz") else { return };
    println!("{whole} of the inner ClientHellos are whole");
    walk(&folder, &mut rng);
}

fn walk(folder: &Path, rng: &mut Rng) {
    files(folder).iter().for_each(|(_, bytes)| mutate(bytes, rng, 5, fuzz_client_hello));
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            walk(&entry, rng);
        }
    }
}

#[test]
fn our_own_seeds() {
    let seeds = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds");
    let mut rng = Rng::new(6);
    let targets = [
        ("client_hello", fuzz_client_hello as fn(&[u8])),
        ("http_version", fuzz_http_version),
        ("proxy_protocol", fuzz_proxy_protocol),
    ];
    for (name, target) in targets {
        let seeds = files(&seeds.join(name));
        assert!(seeds.len() >= 5, "{name}");
        seeds.iter().for_each(|(_, bytes)| mutate(bytes, &mut rng, 2000, target));
    }
}
