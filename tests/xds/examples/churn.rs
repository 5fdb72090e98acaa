//! The long churn run: latency with and without changes, for every subject that `MILLRACE_E2E_SUBJECT` names.
//!
//! `cargo run --release -p millrace-xds-tests --example churn -- [updates] [seconds] [requests a second]`

use std::process::ExitCode;
use std::time::Duration;

use millrace_support::subject::Subject;
use millrace_support::xds::yaml::Flavor;
use millrace_xds_tests::churn::{Plan, Report, run};

fn number(position: usize, default: usize) -> usize {
    std::env::args().nth(position).and_then(|a| a.parse().ok()).unwrap_or(default)
}

fn show(subject: &Subject, what: &str, report: &Report) {
    let books = &report.books;
    println!(
        "{:<6} {what:<9} requests {:>7}  not answered {:>3}  p50 {:>9.3?}  p99 {:>9.3?}  p99.9 {:>9.3?}  last update {:.3?}",
        subject.kind.to_string(),
        books.entries.len(),
        books.entries.len() - books.answered(),
        books.per_mille(500),
        books.per_mille(990),
        books.per_mille(999),
        report.last_update,
    );
}

fn main() -> ExitCode {
    let subjects = match Subject::from_env() {
        Ok(subjects) => subjects,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    let plan = Plan {
        updates: number(1, 1000),
        time: Duration::from_secs(u64::try_from(number(2, 60)).unwrap_or(60)),
        rate: number(3, 2000),
        connections: 20,
        max_body: 1000,
        flavor: Flavor::AdsDelta,
    };
    println!(
        "{} updates in {:?}, {} requests/s over {} connections",
        plan.updates, plan.time, plan.rate, plan.connections
    );
    for subject in &subjects {
        let quiet = Plan { updates: 0, ..plan.clone() };
        show(subject, "quiet", &run(subject, &quiet, &["--concurrency", "1"]));
        let report = run(subject, &plan, &["--concurrency", "1"]);
        show(subject, "churning", &report);
        report.assert_undisturbed();
    }
    ExitCode::SUCCESS
}
