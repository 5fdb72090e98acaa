//! Every test of the real binary against control planes, in one binary.

mod isolation;
mod startup;

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_e2e::run(&[("isolation", isolation::CASES), ("startup", startup::CASES)]).exit_code()
}
