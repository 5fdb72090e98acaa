//! The performance lab: whole-proxy scenarios, every peer in its turn, A B A B, on core 0; client and origin on
//! core 1. `perf --help` says how to call it; `docs/performance.md` says how to read what it prints.

mod ab;
mod credentials;
mod host;
mod load;
mod origin;
mod peer;
mod process;
mod report;
mod result;
mod run;
mod scenario;
mod table;
mod template;
mod validity;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use peer::Binary;
use run::Plan;
use scenario::Kind;

/// Measures Millrace beside Envoy, linkerd2-proxy, HAProxy, nginx and others on this machine.
#[derive(Parser)]
#[command(name = "perf", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Scenarios and peers, and which peers are installed
    List,
    /// 2 rounds of 2 s of the quick scenarios: under 7 minutes
    Quick(Choice),
    /// All or the named scenarios, with the rounds and seconds each asks for: under an hour
    Run(Choice),
    /// Two Millrace binaries in one run: `perf ab target/base/millrace target/release/millrace http1-small`
    Ab {
        base: PathBuf,
        change: PathBuf,
        /// Peer file whose executable the two replace
        #[arg(long, default_value = "millrace-uring")]
        peer: String,
        #[command(flatten)]
        choice: Choice,
    },
    /// Page, plots and Markdown from the saved results of a host
    Report(report::Options),
    #[command(hide = true)]
    Turn(TurnArgs),
    #[command(hide = true)]
    Origin(origin::Options),
    #[command(hide = true)]
    Client { address: SocketAddr, connections: usize, size: usize, seconds: f64 },
    #[command(hide = true)]
    TlsClient(load::TlsOptions),
    #[command(hide = true)]
    OpenLoop { address: SocketAddr, connections: usize, rate: f64, seconds: f64 },
}

#[derive(Args)]
struct Choice {
    /// Scenarios; without any, all (`quick`: the quick ones)
    scenarios: Vec<String>,
    /// Turns of each peer
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of load in each turn
    #[arg(long)]
    seconds: Option<f64>,
    /// Only these peers
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Do not write perf/results/
    #[arg(long)]
    no_save: bool,
}

/// One turn of one peer, for the runner itself.
#[derive(Args)]
struct TurnArgs {
    #[arg(long)]
    scenario: String,
    #[arg(long)]
    point: usize,
    #[arg(long)]
    peer: String,
    #[arg(long)]
    seconds: f64,
    #[arg(long)]
    rate: f64,
    #[arg(long)]
    calibrate: bool,
    #[arg(long)]
    binary: Option<PathBuf>,
}

impl Choice {
    fn plan(self, quick: bool) -> Result<Plan, String> {
        if self.rounds == Some(0) || self.seconds.is_some_and(|s| !(0.5..=600.0).contains(&s)) {
            return Err("at least one round, and 0.5 to 600 seconds".into());
        }
        Ok(Plan {
            rounds: self.rounds,
            seconds: self.seconds,
            peers: self.peers,
            scenarios: self.scenarios,
            quick,
            save: !self.no_save,
        })
    }
}

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = match Cli::parse().command {
        Verb::List => list(folder),
        Verb::Quick(choice) => choice.plan(true).and_then(|plan| run::run(folder, &plan)),
        Verb::Run(choice) => choice.plan(false).and_then(|plan| run::run(folder, &plan)),
        Verb::Ab { base, change, peer, choice } => {
            choice.plan(false).and_then(|plan| ab::run(folder, &plan, &ab::Comparison { base, change, peer }))
        }
        Verb::Report(options) => report::run(folder, &options),
        Verb::Turn(arguments) => turn(folder, &arguments),
        Verb::Origin(options) => origin::serve(&options),
        Verb::Client { address, connections, size, seconds } => {
            load::run_tcp(address, connections, size, seconds)
        }
        Verb::TlsClient(options) => load::run_tls(&options),
        Verb::OpenLoop { address, connections, rate, seconds } => {
            load::run_open_loop(address, connections, rate, seconds)
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

fn turn(folder: &Path, arguments: &TurnArgs) -> Result<(), String> {
    let scenarios = scenario::load_all(folder)?;
    let scenario = scenarios.iter().find(|s| s.name == arguments.scenario).ok_or("no such scenario")?;
    let mut load = scenario.loads.get(arguments.point).ok_or("no such point")?.clone();
    if arguments.calibrate {
        load.kind = Kind::Http;
    }
    let peers = peer::load_all(folder)?;
    let mut peer = peers.into_iter().find(|p| p.name == arguments.peer).ok_or("no such peer")?;
    if let Some(path) = &arguments.binary {
        peer.binary = Some(Binary::at(path));
    }
    let turn =
        load::Turn { folder, peer: &peer, load: &load, seconds: arguments.seconds, rate: arguments.rate };
    let sample = turn.run()?;
    println!("{}", serde_json::to_string(&sample).map_err(|e| e.to_string())?);
    Ok(())
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
        let quick = if scenario.quick { "quick" } else { "" };
        println!("{:<20}{quick:<7}{}", scenario.name, scenario.title);
    }
    println!();
    for peer in peer::load_all(folder)? {
        match peer.locate() {
            Ok(path) => println!("{:<20}{} {}", peer.name, peer.version(&path), path.display()),
            Err(reason) => println!("{:<20}{reason}", peer.name),
        }
    }
    Ok(())
}
