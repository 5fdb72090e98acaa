//! Every end-to-end test, in one binary.

mod forwarding;
mod headers;
mod limits;
mod routes;
mod tcp;
mod upgrades;
mod upstreams;

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_e2e::run(&[
        ("forwarding", forwarding::CASES),
        ("headers", headers::CASES),
        ("limits", limits::CASES),
        ("routes", routes::CASES),
        ("tcp", tcp::CASES),
        ("upgrades", upgrades::CASES),
        ("upstreams", upstreams::CASES),
    ])
    .exit_code()
}
