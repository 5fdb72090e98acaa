//! What reading a bootstrap costs and what stays: time, and resident memory before, after and once dropped.
//!
//! `cargo run --release -p millrace-translate --example bootstrap-footprint -- envoy.yaml`

use std::time::Instant;

use millrace_observe::stats::Registry;
use millrace_proto::{Format, LoadOptions, bootstrap_from_text, message_to_json};
use millrace_translate::{Context, Overrides, bootstrap};

/// `(all, file-backed)` resident kilobytes of this process.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    (field("VmRSS:"), field("RssFile:"))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("the path of a bootstrap is missing")?;
    let text = std::fs::read(&file)?;
    println!("start: rss {:?} kB (all, file-backed)", resident());
    let began = Instant::now();
    let format = Format::of_path(&file).ok_or("not JSON, YAML or wire format")?;
    let parsed = bootstrap_from_text(format, &text, &LoadOptions::default())?;
    println!("read: {:?}, rss {:?} kB", began.elapsed(), resident());
    let began = Instant::now();
    let compiled = bootstrap(&parsed.bytes, &mut Context::new(Registry::new(), Overrides::default()))?;
    println!("translated: {:?}, rss {:?} kB", began.elapsed(), resident());
    let began = Instant::now();
    let printed = message_to_json(millrace_proto::BOOTSTRAP, &compiled.bootstrap)?.to_string().len();
    println!("printed {printed} bytes: {:?}, rss {:?} kB", began.elapsed(), resident());
    drop((parsed, text));
    println!("kept {} clusters: rss {:?} kB", compiled.static_clusters.len(), resident());
    Ok(())
}
