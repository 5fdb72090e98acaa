//! TLS on either side of the proxy, in a binary of its own.

mod certificates;
mod common;
mod dynamic_forward_proxy;
mod facts;
mod handshakes;
mod hellos;
mod hostile;
mod identity;
mod inspection;
mod interop;
mod origination;
mod proxy_protocol;
mod records;
mod rotation;
mod secret_files;
mod termination;
mod tickets;
mod truncation;

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_e2e::run(&[
        ("certificates", certificates::CASES),
        ("dynamic_forward_proxy", dynamic_forward_proxy::CASES),
        ("facts", facts::CASES),
        ("handshakes", handshakes::CASES),
        ("hellos", hellos::CASES),
        ("hostile", hostile::CASES),
        ("identity", identity::CASES),
        ("inspection", inspection::CASES),
        ("interop", interop::CASES),
        ("origination", origination::CASES),
        ("proxy_protocol", proxy_protocol::CASES),
        ("records", records::CASES),
        ("rotation", rotation::CASES),
        ("secret_files", secret_files::CASES),
        ("termination", termination::CASES),
        ("tickets", tickets::CASES),
        ("truncation", truncation::CASES),
    ])
    .exit_code()
}
