//! Path normalisation against the URL standard's test data and fuzzing seeds.
//!
//! The standard's parser and Envoy's agree on dot segments and on which bytes are escaped, with exceptions that the
//! verdict table explains case by case.

use std::collections::BTreeSet;

use millrace_conformance::corpus;
use millrace_conformance::table::{Case, check};
use millrace_http::RequestHead;
use millrace_http::path::{EscapedSlashes, PathOptions, apply, merge_slashes, normalize, unescape_slashes};
use serde_json::Value;

/// The path of an absolute http(s) URL or of an absolute path, raw; `None` for what cannot come as a request target.
fn raw_path(input: &str) -> Option<&str> {
    let rest = match input.strip_prefix("http://").or_else(|| input.strip_prefix("https://")) {
        Some(rest) => &rest[rest.find('/')?..],
        // A reference that starts like this has an authority.
        None if input.starts_with("//") || input.starts_with("/\\") => return None,
        None => input,
    };
    let path = rest.split(['?', '#']).next().unwrap_or(rest);
    let printable = input.bytes().all(|b| b.is_ascii_graphic());
    (printable && path.starts_with('/')).then_some(path)
}

#[test]
fn web_platform_paths() {
    let Some(file) = corpus("url/urltestdata.json") else { return };
    let text = std::fs::read_to_string(file).expect("text");
    let data: Value = serde_json::from_str(&text).expect("JSON");
    let (mut seen, mut cases) = (BTreeSet::new(), Vec::new());
    for case in data.as_array().expect("a list") {
        let http = matches!(case["protocol"].as_str(), Some("http:" | "https:"));
        let (Some(input), Some(wanted), true) = (case["input"].as_str(), case["pathname"].as_str(), http)
        else {
            continue;
        };
        let Some(raw) = raw_path(input) else { continue };
        if !seen.insert(raw.to_owned()) {
            continue;
        }
        let mut path = raw.as_bytes().to_vec();
        let ok = normalize(&mut path);
        let ours = if ok { String::from_utf8_lossy(&path).into_owned() } else { "400".into() };
        cases.push(Case::exact(raw, ours, wanted));
    }
    println!("url: {} paths", check("url", &cases));
}

#[test]
fn seeds_keep_the_properties_of_every_policy() {
    let Some(folder) = corpus("url/h2o") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let seed = std::fs::read(entry.expect("an entry").path()).expect("a file");
        count += 1;
        let mut rooted = b"/".to_vec();
        rooted.extend_from_slice(&seed);
        for path in [seed, rooted] {
            policies(&path);
            steps(&path);
        }
    }
    println!("url seeds: {count}");
}

/// Every combination of options gives a path that a request line can carry, and applying it again changes nothing.
fn policies(path: &[u8]) {
    let actions = [
        EscapedSlashes::KeepUnchanged,
        EscapedSlashes::RejectRequest,
        EscapedSlashes::UnescapeAndRedirect,
        EscapedSlashes::UnescapeAndForward,
    ];
    for bits in 0..64usize {
        let opts = PathOptions {
            normalize: bits & 1 != 0,
            merge_slashes: bits & 2 != 0,
            escaped_slashes: actions[bits >> 2 & 3],
            reject_fragment: bits & 16 != 0,
            reject_invalid_escapes: bits & 32 != 0,
        };
        let mut head = RequestHead::new();
        head.set_method(b"GET");
        head.set_path(path);
        let before = head.path().to_vec();
        let action = apply(&mut head, &opts, &mut Vec::new());
        assert!(head.path().iter().all(u8::is_ascii_graphic));
        if bits & 15 == 0 && !before.contains(&b'#') {
            assert_eq!(head.path(), before, "nothing was asked for");
        }
        if opts.normalize && opts.escaped_slashes == EscapedSlashes::KeepUnchanged {
            let once = (action, head.path().to_vec());
            assert_eq!((apply(&mut head, &opts, &mut Vec::new()), head.path().to_vec()), once);
        }
    }
}

fn steps(path: &[u8]) {
    let mut normal = path.to_vec();
    if normalize(&mut normal) {
        assert!(normal.starts_with(b"/") && !normal.windows(3).any(|w| w == b"/./"));
        assert!(!normal.windows(4).any(|w| w == b"/../") && !normal.ends_with(b"/.."));
        merge_slashes(&mut normal);
        assert!(!normal.windows(2).any(|w| w == b"//"));
    }
    let mut slashes = path.to_vec();
    unescape_slashes(&mut slashes);
    assert!(slashes.len() <= path.len());
}
