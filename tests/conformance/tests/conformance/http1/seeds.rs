//! Seeds without an expectation: no panic, and every property of the fuzz targets holds.

use std::path::PathBuf;

use millrace_conformance::corpus;
use millrace_http::fuzz::{fuzz_chunked, fuzz_request, fuzz_response};

fn files(folder: PathBuf) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().filter(|p| p.is_file()).map(|p| std::fs::read(p).expect("a file")).collect()
}

fn replay(seed: &[u8]) {
    fuzz_request(seed);
    fuzz_response(seed);
    for flags in 0..8u8 {
        let mut response = vec![flags];
        response.extend_from_slice(seed);
        fuzz_response(&response);
    }
    fuzz_chunked(seed);
    // What follows the head is a body in most seeds.
    if let Some(at) = seed.windows(4).position(|w| w == b"\r\n\r\n") {
        fuzz_chunked(&seed[at + 4..]);
    }
}

#[test]
fn h2o_and_trafficserver_seeds() {
    let mut count = 0;
    for name in ["http1/h2o", "http1/trafficserver/fuzz_http"] {
        let Some(folder) = corpus(name) else { continue };
        for seed in files(folder) {
            replay(&seed);
            count += 1;
        }
    }
    println!("seeds: {count}");
}

#[test]
fn our_own_seeds() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    for (target, run) in
        [("request", fuzz_request as fn(&[u8])), ("response", fuzz_response), ("chunked", fuzz_chunked)]
    {
        let seeds = files(folder.join(target));
        assert!(seeds.len() >= 5, "{target} has too few seeds");
        seeds.iter().for_each(|seed| run(seed));
    }
}
