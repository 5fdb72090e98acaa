//! Every end-to-end test, in one binary.

mod access_logs;
mod admin;
mod aggregate;
mod bad_upstreams;
mod balancing;
mod clusters;
mod config;
mod dns;
mod filters;
mod forwarding;
mod headers;
mod http2;
mod lifecycle;
mod limits;
mod original_dst;
mod outliers;
mod overload;
mod parity;
mod probes;
mod routes;
mod tcp;
mod traffic;
mod upgrades;
mod upstreams;

use std::process::ExitCode;

fn main() -> ExitCode {
    let modules: &[(&str, &[millrace_e2e::Case])] = &[
        ("access_logs", access_logs::CASES),
        ("admin", admin::CASES),
        ("aggregate", aggregate::CASES),
        ("bad_upstreams", bad_upstreams::CASES),
        ("balancing", balancing::CASES),
        ("balancing_hashing", balancing::hashing::CASES),
        ("balancing_loads", balancing::loads::CASES),
        ("balancing_localities", balancing::localities::CASES),
        ("balancing_subsets", balancing::subsets::CASES),
        ("balancing_vectors", balancing::vectors::CASES),
        ("clusters", clusters::CASES),
        ("config", config::CASES),
        ("dns", dns::CASES),
        ("filters_buffer", filters::buffer::CASES),
        ("filters_compression", filters::compression::CASES),
        ("filters_connections", filters::connections::CASES),
        ("filters_decompression", filters::decompression::CASES),
        ("filters_fault", filters::fault::CASES),
        ("filters_origins", filters::origins::CASES),
        ("filters_rate_limit", filters::rate_limit::CASES),
        ("filters_rewrite", filters::rewrite::CASES),
        ("filters_sessions", filters::sessions::CASES),
        ("forwarding", forwarding::CASES),
        ("headers", headers::CASES),
        ("http2_bad", http2::bad::CASES),
        ("http2_errors", http2::errors::CASES),
        ("http2_floods", http2::floods::CASES),
        ("http2_grpc", http2::grpc::CASES),
        ("http2_grpc_rules", http2::grpc_rules::CASES),
        ("http2_interop", http2::interop::CASES),
        ("http2_lifecycle", http2::lifecycle::CASES),
        ("http2_observe", http2::observe::CASES),
        ("http2_pairs", http2::pairs::CASES),
        ("http2_spec", http2::spec::CASES),
        ("http2_streams", http2::streams::CASES),
        ("http2_upgrades", http2::upgrades::CASES),
        ("http2_upstreams", http2::upstreams::CASES),
        ("lifecycle", lifecycle::CASES),
        ("limits", limits::CASES),
        ("original_dst", original_dst::CASES),
        ("outliers", outliers::CASES),
        ("overload_actions", overload::actions::CASES),
        ("overload_connections", overload::connections::CASES),
        ("overload_memory", overload::memory::CASES),
        ("overload_points", overload::points::CASES),
        ("probes", probes::CASES),
        ("routes", routes::CASES),
        ("tcp", tcp::CASES),
        ("traffic_mirror", traffic::mirror::CASES),
        ("traffic_redirects", traffic::redirects::CASES),
        ("upgrades", upgrades::CASES),
        ("upstreams", upstreams::CASES),
    ];
    millrace_e2e::run_with(modules, &parity::rows()).exit_code()
}
