//! Every end-to-end test, in one binary.

mod forwarding;
mod headers;
mod limits;
mod upstreams;

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_e2e::run(&[
        ("forwarding", forwarding::CASES),
        ("headers", headers::CASES),
        ("limits", limits::CASES),
        ("upstreams", upstreams::CASES),
    ])
    .exit_code()
}
