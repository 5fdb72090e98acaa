//! Every test of the real binary against control planes, in one binary.

mod churn;
mod faults;
mod isolation;
mod loads;
mod planes;
mod reconnect;
mod removal;
mod sources;
mod startup;
mod updates;
mod warming;

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_e2e::run(&[
        ("churn", churn::CASES),
        ("faults", faults::CASES),
        ("isolation", isolation::CASES),
        ("loads", loads::CASES),
        ("planes", planes::CASES),
        ("reconnect", reconnect::CASES),
        ("removal", removal::CASES),
        ("sources", sources::CASES),
        ("startup", startup::CASES),
        ("updates", updates::CASES),
        ("warming", warming::CASES),
    ])
    .exit_code()
}
