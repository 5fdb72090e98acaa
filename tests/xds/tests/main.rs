//! Every test of the real binary against control planes, in one binary.

mod aggregate;
mod chains;
mod churn;
mod contradictions;
mod corpora;
mod dumps;
mod endurance;
mod failover;
mod faults;
mod health_checks;
mod health_discovery;
mod isolation;
mod loads;
mod meshes;
mod planes;
mod reconnect;
mod removal;
mod scopes;
mod secrets;
mod sources;
mod startup;
mod updates;
mod virtual_hosts;
mod warming;

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_e2e::run(&[
        ("aggregate", aggregate::CASES),
        ("chains", chains::CASES),
        ("churn", churn::CASES),
        ("contradictions", contradictions::CASES),
        ("corpora", corpora::CASES),
        ("dumps", dumps::CASES),
        ("endurance", endurance::CASES),
        ("failover", failover::CASES),
        ("faults", faults::CASES),
        ("health_checks", health_checks::CASES),
        ("health_discovery", health_discovery::CASES),
        ("isolation", isolation::CASES),
        ("loads", loads::CASES),
        ("meshes", meshes::CASES),
        ("planes", planes::CASES),
        ("reconnect", reconnect::CASES),
        ("removal", removal::CASES),
        ("scopes", scopes::CASES),
        ("secrets", secrets::CASES),
        ("sources", sources::CASES),
        ("startup", startup::CASES),
        ("updates", updates::CASES),
        ("virtual_hosts", virtual_hosts::CASES),
        ("warming", warming::CASES),
    ])
    .exit_code()
}
