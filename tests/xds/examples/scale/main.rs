//! How live configuration scales: start, memory, single changes, everything sent again, and traffic meanwhile, for
//! every subject that `MILLRACE_E2E_SUBJECT` names, in turns.
//!
//! `cargo run --release -p millrace-xds-tests --example scale -- [services,…] [rounds] [sotw,delta]`

mod clients;
mod measure;
mod mesh;

use std::process::ExitCode;
use std::time::Duration;

use measure::{Background, Figures, Stage};
use mesh::{Mesh, Origin};
use millrace_support::subject::Subject;
use millrace_support::xds::yaml::Flavor;

/// How many services the mesh grows to while traffic flows, and the routes of each.
const GROWN: (usize, usize) = (5_000, 4);

fn argument(position: usize, default: &str) -> String {
    std::env::args().nth(position).unwrap_or_else(|| default.to_owned())
}

fn numbers(list: &str) -> Vec<usize> {
    list.split(',').filter_map(|number| number.parse().ok()).collect()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle one of the rounds.
fn median(rounds: &[Figures], figure: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn show(services: usize, flavor: Flavor, subject: &Subject, rounds: &[Figures]) {
    let time = |figure: fn(&Figures) -> Duration| median(rounds, |f| ms(figure(f)));
    let mib = |figure: fn(&Figures) -> u64| median(rounds, |f| figure(f) as f64 / 1024.0);
    println!(
        "| {services} | {flavor:?} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.0} + {:.0} | {:.0} | {} |",
        subject.kind,
        time(|f| f.from_exec),
        time(|f| f.from_first),
        time(|f| f.from_last),
        time(|f| f.cpu),
        mib(|f| f.ready.now),
        mib(|f| f.ready.peak),
        mib(|f| f.settled.now),
        mib(|f| f.settled.anonymous),
        time(|f| f.served.0),
        time(|f| f.served.1),
        time(|f| f.acknowledged),
        time(|f| f.change_cpu.0) * 1e3,
        time(|f| f.change_cpu.1) * 1e3,
        time(|f| f.resend_cpu),
        rounds.iter().map(|f| f.resend_changed).max().unwrap_or(0),
    );
}

fn show_background(flavor: Flavor, subject: &Subject, result: &Background) {
    println!(
        "| {flavor:?} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.0} | {} |",
        subject.kind,
        ms(result.quiet.0),
        ms(result.quiet.1),
        ms(result.busy.0),
        ms(result.busy.1),
        ms(result.worst),
        ms(result.took),
        result.failed,
    );
}

fn about(subjects: &[Subject]) {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores{model}; Linux {}; load {}", kernel.trim(), load.trim());
    for subject in subjects {
        let version = subject.command().arg("--version").output().map(|o| o.stdout).unwrap_or_default();
        println!("{}: {}", subject.kind, String::from_utf8_lossy(&version).trim());
    }
}

fn main() -> ExitCode {
    let subjects = match Subject::from_env() {
        Ok(subjects) => subjects,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let sizes = numbers(&argument(1, "100,1000,5000,20000"));
    let rounds = numbers(&argument(2, "3")).first().copied().unwrap_or(3);
    let wanted = argument(3, "sotw,delta");
    let flavors: Vec<Flavor> = [("sotw", Flavor::AdsSotw), ("delta", Flavor::AdsDelta)]
        .into_iter()
        .filter_map(|(name, flavor)| wanted.contains(name).then_some(flavor))
        .collect();
    about(&subjects);
    let stage = Stage { one: Origin::start("one").port, two: Origin::start("two").port };
    println!(
        "| services | | | exec to ready, ms | first response to ready | last response to ready | CPU until then, ms \
         | RSS, MiB | peak | RSS after 10 s | of that anonymous | change to served p50, ms | p99 | to ACK p50 \
         | CPU a change, control + others, us | CPU all sent again, ms | changed by that |"
    );
    for services in sizes {
        for flavor in &flavors {
            let mesh = Mesh::new(services, 1, *flavor, stage.one);
            let mut all: Vec<Vec<Figures>> = vec![Vec::new(); subjects.len()];
            for _ in 0..rounds {
                for (subject, figures) in subjects.iter().zip(&mut all) {
                    figures.push(measure::run(subject, *flavor, &mesh, &stage));
                }
            }
            for (subject, figures) in subjects.iter().zip(&all) {
                show(services, *flavor, subject, figures);
            }
        }
    }
    println!(
        "\n{} clusters and {} routes while 1,000 requests/s flow\n| | | quiet p50, ms | p99 | meanwhile p50 | p99 \
         | worst | until the last ACK, ms | failed |",
        GROWN.0,
        GROWN.0 * GROWN.1
    );
    for flavor in &flavors {
        let (small, large) =
            (Mesh::new(100, 1, *flavor, stage.one), Mesh::new(GROWN.0, GROWN.1, *flavor, stage.one));
        for subject in &subjects {
            show_background(*flavor, subject, &measure::background(subject, *flavor, &small, &large));
        }
    }
    ExitCode::SUCCESS
}
