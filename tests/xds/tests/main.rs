//! Every test of the real binary against control planes, in one binary.

mod isolation;
mod startup;
mod updates;
mod warming;

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_e2e::run(&[
        ("isolation", isolation::CASES),
        ("startup", startup::CASES),
        ("updates", updates::CASES),
        ("warming", warming::CASES),
    ])
    .exit_code()
}
