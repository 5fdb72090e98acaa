//! The 252 stories of http2jp/hpack-test-case: header blocks of eleven encoders, decoded, and encoded again by ours; and
//! the seeds of the fuzz target.

use std::path::PathBuf;

use millrace_http::fuzz::hpack::fuzz_hpack;
use millrace_http::h2::hpack::{Decoder, Encoder, Name};
use serde_json::Value;

/// Stories of the corpus, raw data (which has no blocks) included.
const STORIES: usize = 252;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A header block, the table size that was agreed on just before, and what it stands for.
struct Case {
    table_size: Option<u32>,
    block: Option<Vec<u8>>,
    fields: Fields,
}

/// The corpora are a sibling of the repository and not part of it: without them the test says that it skips, and
/// fails where `CI=true`. `MILLRACE_CORPORA` names another place.
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

fn stories() -> Vec<(String, Vec<Case>)> {
    let mut stories = Vec::new();
    let Some(corpus) = corpus("hpack") else { return stories };
    for folder in std::fs::read_dir(corpus).expect("a folder") {
        let folder = folder.expect("an entry").path();
        for file in std::fs::read_dir(&folder).into_iter().flatten() {
            let file = file.expect("an entry").path();
            let text = std::fs::read_to_string(&file).expect("text");
            let story: Value = serde_json::from_str(&text).expect("JSON");
            let cases = story["cases"].as_array().expect("cases").iter().map(case).collect();
            stories.push((file.display().to_string(), cases));
        }
    }
    assert_eq!(stories.len(), STORIES, "the corpus is whole");
    stories.sort_by(|(one, _), (other, _)| one.cmp(other));
    stories
}

fn case(case: &Value) -> Case {
    let field = |field: &Value| {
        let (name, value) = field.as_object().and_then(|map| map.iter().next()).expect("one field");
        (name.as_bytes().to_vec(), value.as_str().expect("a string").as_bytes().to_vec())
    };
    Case {
        table_size: case["header_table_size"].as_u64().map(|size| size as u32),
        block: case["wire"].as_str().map(octets),
        fields: case["headers"].as_array().expect("fields").iter().map(field).collect(),
    }
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Fields {
    let mut fields = Fields::new();
    decoder
        .decode(block, &mut |field| {
            assert_eq!(field.id, Name::of(field.name));
            fields.push((field.name.to_vec(), field.value.to_vec()));
            true
        })
        .expect("a header block");
    fields
}

fn encode(encoder: &mut Encoder, fields: &Fields) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value) in fields {
        encoder.field(name, value, Name::of(name), &mut block);
    }
    block
}

#[test]
fn every_story_is_decoded() {
    let (mut blocks, mut raw) = (0, 0);
    for (name, cases) in stories() {
        let mut decoder = Decoder::new(4096);
        for case in &cases {
            if let Some(size) = case.table_size {
                decoder.set_table_size(size);
            }
            match &case.block {
                Some(block) => assert_eq!(decode(&mut decoder, block), case.fields, "{name}, {blocks}"),
                None => raw += 1,
            }
            blocks += 1;
        }
    }
    println!("hpack: {blocks} blocks, {raw} of them raw");
}

#[test]
fn every_story_survives_our_encoder() {
    let (mut ours, mut theirs, mut plain) = (0, 0, 0);
    for (name, cases) in stories() {
        let (mut encoder, mut decoder) = (Encoder::new(4096), Decoder::new(4096));
        for case in &cases {
            if let Some(size) = case.table_size {
                encoder.set_peer_table_size(size);
                decoder.set_table_size(size);
            }
            let block = encode(&mut encoder, &case.fields);
            assert_eq!(decode(&mut decoder, &block), case.fields, "{name}");
            assert_eq!(encoder.table_size(), decoder.table_size(), "{name}");
            if let Some(wire) = &case.block {
                (ours, theirs) = (ours + block.len(), theirs + wire.len());
                plain += case.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            }
        }
    }
    println!("hpack: {ours} octets, {theirs} by the stories' encoders, {plain} plain");
}

/// The files of a folder.
fn files(folder: PathBuf) -> Vec<Vec<u8>> {
    let paths = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.is_file()).map(|path| std::fs::read(path).expect("a file")).collect()
}

#[test]
fn seeds_keep_every_property() {
    let own = files(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/seeds/hpack"));
    assert!(own.len() >= 5, "too few seeds");
    own.iter().for_each(|seed| fuzz_hpack(seed));
    let mut count = own.len();
    for name in ["h2-raw/trafficserver-hpack", "h2-raw/h2o"] {
        let Some(folder) = corpus(name) else { continue };
        for seed in files(folder) {
            // As a connection, and as its first block.
            fuzz_hpack(&seed);
            for block in seed.chunks(255) {
                fuzz_hpack(&[&[0x2d, 0, block.len() as u8], block].concat());
            }
            count += 1;
        }
    }
    println!("seeds: {count}");
}
