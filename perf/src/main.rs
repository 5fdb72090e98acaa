//! Whole-proxy scenarios: every peer in its turn, A B A B, on core 0; client and origin on core 1.
//! `perf help` says how to call it; `docs/performance.md` says how to read what it prints.

mod client;
mod host;
mod load;
mod origin;
mod peer;
mod process;
mod report;
mod result;
mod scenario;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use host::Host;
use load::{Origin, Sample};
use peer::Peer;
use scenario::Scenario;
use table::{Report, Series};

/// `perf report`, until all verbs are clap's.
#[derive(Parser)]
#[command(name = "perf report")]
struct ReportCli {
    #[command(flatten)]
    options: report::Options,
}

const HELP: &str = "\
perf list                        scenarios and peers, and which peers are installed
perf quick [scenario...]         2 rounds of 2 s of the quick scenarios, under 5 minutes
perf run [options] [scenario...] 5 rounds of 5 s of all or the named scenarios
  --rounds N  --seconds S        other figures
  --peers a,b                    only these peers
  --no-save                      do not write perf/results/
perf report [options]            HTML page, plots and Markdown from perf/results/; see perf report --help
Binaries: MILLRACE_BIN, MILLRACE_RELAY and ENVOY_BIN name others than the release build's and pip's.";

struct Plan {
    rounds: usize,
    seconds: f64,
    peers: Option<Vec<String>>,
    scenarios: Vec<String>,
    quick: bool,
    save: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = match words[..] {
        ["origin", role, body] => serve_origin(role, body),
        ["client", port, connections, size, seconds] => run_client([port, connections, size, seconds]),
        ["report", ..] => {
            report::run(folder, &ReportCli::parse_from(arguments.iter().map(String::as_str)).options)
        }
        ["list"] => list(folder),
        ["quick", ref rest @ ..] => plan(rest, true).and_then(|plan| run(folder, &plan)),
        ["run", ref rest @ ..] => plan(rest, false).and_then(|plan| run(folder, &plan)),
        _ => {
            println!("{HELP}");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("perf: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text:?}"))
}

fn serve_origin(role: &str, body: &str) -> Result<(), String> {
    let role = match role {
        "http" => origin::Role::Http,
        "echo" => origin::Role::Echo,
        "stream" => origin::Role::Stream,
        other => return Err(format!("unknown origin {other:?}")),
    };
    origin::serve(role, number(body)?)
}

fn run_client([port, connections, size, seconds]: [&str; 4]) -> Result<(), String> {
    let tally = client::run(number(port)?, number(connections)?, number(size)?, number(seconds)?)?;
    println!("{} {}", tally.done, tally.errors);
    Ok(())
}

fn plan(words: &[&str], quick: bool) -> Result<Plan, String> {
    let (rounds, seconds) = if quick { (2, 2.0) } else { (5, 5.0) };
    let mut plan = Plan { rounds, seconds, peers: None, scenarios: Vec::new(), quick, save: true };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().ok_or_else(|| format!("{word} needs a value"));
        match *word {
            "--rounds" => plan.rounds = number(value()?)?,
            "--seconds" => plan.seconds = number(value()?)?,
            "--peers" => plan.peers = Some(value()?.split(',').map(str::to_owned).collect()),
            "--no-save" => plan.save = false,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            name => plan.scenarios.push(name.to_owned()),
        }
    }
    Ok(plan)
}

/// The files of a folder with this extension, as (name without it, text), by name.
fn files(folder: &Path, extension: &str) -> Result<Vec<(String, String)>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut out = Vec::new();
    for path in entries.filter_map(|e| e.ok().map(|e| e.path())) {
        if path.extension().is_some_and(|e| e == extension)
            && let Some(name) = path.file_stem()
        {
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            out.push((name.to_string_lossy().into_owned(), text));
        }
    }
    out.sort();
    Ok(out)
}

fn list(folder: &Path) -> Result<(), String> {
    for scenario in scenario::load_all(folder)? {
        println!("{:<14}{}", scenario.name, scenario.title);
    }
    for peer in peer::load_all(folder)? {
        match peer.locate() {
            Some(binary) => println!("{:<16}{} ({})", peer.name, peer.version(&binary), binary.display()),
            None => println!("{:<16}not installed", peer.name),
        }
    }
    Ok(())
}

fn run(folder: &Path, plan: &Plan) -> Result<(), String> {
    let host = Host::read();
    println!("{} x{}, Linux {}, commit {}, {}", host.cpu, host.cores, host.kernel, host.commit, host.date);
    println!("load average before: {}; {}", host.load_average, host.wrk);
    if host.cores < 2 {
        return Err("needs two cores: one for the proxy, one for client and origin".into());
    }
    let peers = installed(folder, plan)?;
    let all = scenario::load_all(folder)?;
    if let Some(name) = plan.scenarios.iter().find(|n| all.iter().all(|s| s.name != **n)) {
        return Err(format!("no scenario {name:?}"));
    }
    for scenario in &all {
        let named = plan.scenarios.contains(&scenario.name);
        if named || (plan.scenarios.is_empty() && (scenario.quick || !plan.quick)) {
            measure(folder, plan, &host, scenario, &peers)?;
        }
    }
    Ok(())
}

fn installed(folder: &Path, plan: &Plan) -> Result<Vec<(Peer, PathBuf)>, String> {
    let mut out = Vec::new();
    for peer in peer::load_all(folder)? {
        if plan.peers.as_ref().is_some_and(|names| !names.contains(&peer.name)) {
            continue;
        }
        match peer.locate() {
            Some(binary) => out.push((peer, binary)),
            None => println!("{}: not installed, left out", peer.name),
        }
    }
    if out.is_empty() { Err("no peer to measure".into()) } else { Ok(out) }
}

fn measure(
    folder: &Path,
    plan: &Plan,
    host: &Host,
    scenario: &Scenario,
    peers: &[(Peer, PathBuf)],
) -> Result<(), String> {
    let peers: Vec<_> = peers.iter().filter(|(peer, _)| !scenario.skip.contains(&peer.name)).collect();
    let mut report = Report {
        scenario: &scenario.name,
        title: &scenario.title,
        host,
        rounds: plan.rounds,
        seconds: plan.seconds,
        peers: peers.iter().map(|(peer, binary)| Series::new(&peer.name, peer.version(binary))).collect(),
        warnings: Vec::new(),
    };
    for _ in 0..plan.rounds {
        for ((peer, binary), series) in peers.iter().zip(&mut report.peers) {
            match turn(folder, plan, scenario, peer, binary) {
                Ok(sample) => series.samples.push(sample),
                Err(reason) => report.warnings.push(format!("{}: {reason}", peer.name)),
            }
        }
    }
    report.peers.retain(|series| !series.samples.is_empty());
    report.close(scenario);
    report.print(scenario);
    if plan.save {
        println!("  saved {}", report.save(folder)?.display());
    }
    Ok(())
}

/// One peer's turn: fresh origin, fresh proxy, a short warm-up, the measurement.
fn turn(
    folder: &Path,
    plan: &Plan,
    scenario: &Scenario,
    peer: &Peer,
    binary: &Path,
) -> Result<Sample, String> {
    let origin = Origin::start(scenario)?;
    let proxy = peer.start(binary, folder, scenario, origin.port)?;
    if scenario.kind != scenario::Kind::Idle {
        load::measure(scenario, proxy.pid(), proxy.listen, 1.0)?;
    }
    load::measure(scenario, proxy.pid(), proxy.listen, plan.seconds)
}
