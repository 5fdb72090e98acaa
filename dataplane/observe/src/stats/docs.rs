//! `docs/metrics.md`, made from the tables.

use std::fmt::Write;

use super::metric::{Group, Spread, ValueType};
use super::scope::ScopeKind;

/// The whole page.
fn page() -> String {
    let mut out = String::from(
        "# Metrics\n\nGenerated from `dataplane/observe/src/stats/tables`; a test fails when this page differs \
         (run it with `MILLRACE_BLESS=1` to write the page). Names are Envoy's. Besides these rows, clusters, \
         routes and virtual clusters count responses as `upstream_rq_<code>`, `upstream_rq_<n>xx` and \
         `upstream_rq_completed`, clusters also under `canary.`, `external.`, `internal.`, `retry.` \
         and `zone.<from>.<to>.`.\n",
    );
    for kind in ScopeKind::ALL {
        let prefix = prefix_of(*kind);
        let _ = write!(
            out,
            "\n## {kind:?}: `{}`\n\n| name | type | when | counts |\n|---|---|---|---|\n",
            prefix.trim()
        );
        for row in kind.table().values {
            let ty = if row.ty == ValueType::Counter { "counter" } else { "gauge" };
            let threads = match row.spread {
                Spread::Sum => "",
                Spread::SumAndThreads => " Also of every thread.",
                Spread::Threads => " Of every thread.",
            };
            let _ = writeln!(out, "| `{}` | {ty} | {} | {}{threads} |", row.name, when(row.group), row.help);
        }
        for row in kind.table().histograms {
            let _ = writeln!(out, "| `{}` | histogram | {} | {} |", row.name, when(row.group), row.help);
        }
    }
    out
}

/// What stands in front of the names of a kind of scope.
fn prefix_of(kind: ScopeKind) -> String {
    match (kind.prefix(), kind) {
        ("", ScopeKind::Host) => {
            "(in /clusters; with per_endpoint_stats cluster.<name>.endpoint.<address>.)".to_owned()
        }
        ("", ScopeKind::HttpLocalRateLimit) => "<stat_prefix>.http_local_rate_limit.".to_owned(),
        ("", ScopeKind::CustomResponse) => "[http.<stat_prefix>.]".to_owned(),
        ("", ScopeKind::HttpBandwidthLimit) => "<stat_prefix>.http_bandwidth_limit.".to_owned(),
        ("", _) => "(no prefix)".to_owned(),
        (prefix, ScopeKind::HttpFault) => format!("{prefix}.<stat_prefix>.fault."),
        (prefix, ScopeKind::HttpCors) => format!("{prefix}.<stat_prefix>.cors."),
        (prefix, ScopeKind::HttpCsrf) => format!("{prefix}.<stat_prefix>.csrf."),
        (prefix, ScopeKind::HttpHealthCheck) => format!("{prefix}.<stat_prefix>.health_check."),
        (prefix, ScopeKind::HttpStatefulSession) => {
            format!("{prefix}.<stat_prefix>.stateful_session.<stat_prefix>.")
        }
        (prefix, ScopeKind::HttpCompressor) => {
            format!("{prefix}.<stat_prefix>.compressor.<name>.<library>.")
        }
        (prefix, ScopeKind::HttpCompressorDirection) => {
            format!("{prefix}.<stat_prefix>.compressor.<name>.<library>.[request.|response.]")
        }
        (prefix, ScopeKind::HttpDecompressor) => {
            format!("{prefix}.<stat_prefix>.decompressor.<name>.<library>.{{request,response}}.")
        }
        (prefix, ScopeKind::HttpDecompressorLibrary) => {
            format!("{prefix}.<stat_prefix>.decompressor.<name>.<library>.decompressor_library.")
        }
        (prefix, ScopeKind::HttpAdmissionControl) => format!("{prefix}.<stat_prefix>.admission_control."),
        (prefix, ScopeKind::HttpGradientController) => {
            format!("{prefix}.<stat_prefix>.adaptive_concurrency.gradient_controller.")
        }
        (prefix, ScopeKind::LocalRateLimit | ScopeKind::ConnectionLimit | ScopeKind::HeaderToMetadata) => {
            format!("{prefix}.<stat_prefix>.")
        }
        (prefix, ScopeKind::JsonToMetadata) => format!("{prefix}.{{rq,resp}}."),
        (prefix, ScopeKind::HttpListener) => format!("{prefix}.<address>.http.<stat_prefix>."),
        (
            prefix,
            ScopeKind::Listener
            | ScopeKind::Http
            | ScopeKind::Tcp
            | ScopeKind::Cluster
            | ScopeKind::Sds
            | ScopeKind::DnsCache,
        ) => {
            format!("{prefix}.<name>.")
        }
        (prefix, ScopeKind::Grpc) => format!("{prefix}.<name>.{{grpc,grpc-web}}[.<service>.<method>]."),
        (prefix, ScopeKind::ListenerSsl) => format!("{prefix}.<address>.ssl."),
        (prefix, ScopeKind::ListenerSecrets) => format!("{prefix}.<address>.server_ssl_socket_factory."),
        (prefix, ScopeKind::ClusterSsl) => format!("{prefix}.<name>.ssl."),
        (prefix, ScopeKind::ClusterSecrets) => format!("{prefix}.<name>.client_ssl_socket_factory."),
        (prefix, ScopeKind::ClusterBudgets | ScopeKind::ClusterSizes) => format!("{prefix}.<name>."),
        (prefix, ScopeKind::ClusterZone) => format!("{prefix}.<name>.zone.<from>.<to>."),
        (prefix, ScopeKind::ProxyProto) => format!("{prefix}.[<stat_prefix>.]"),
        (prefix, ScopeKind::OverloadMonitor) => format!("{prefix}.<resource monitor>."),
        (prefix, ScopeKind::OverloadAction) => format!("{prefix}.<action>."),
        (prefix, ScopeKind::LoadShedPoint) => format!("{prefix}.<load shed point>."),
        (prefix, ScopeKind::Rds) => format!("{prefix}.<stat_prefix>.rds.<name>."),
        (prefix, ScopeKind::Vhds) => format!("{prefix}.<stat_prefix>.rds.vhds.<name>."),
        (prefix, ScopeKind::ScopedRds) => format!("{prefix}.<stat_prefix>.scoped_rds.<name>."),
        (prefix, ScopeKind::Route) => format!("{prefix}.<name>.{{route,vcluster}}.<name>."),
        (prefix, _) => format!("{prefix}."),
    }
}

fn when(group: Group) -> &'static str {
    match group {
        Group::Always => "always",
        Group::OnUse => "once used",
        Group::HealthCheck => "with health checks",
        Group::OutlierDetection => "with outlier detection",
        Group::Router => "with a router",
        Group::Tracing => "not for the admin",
        Group::Extensions => "not for the admin listener",
        Group::Http2 => "of HTTP/2 clusters",
        Group::LoadReports => "with `enable_oob_load_report`",
    }
}

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = page();
    if std::env::var_os("MILLRACE_BLESS").is_some() {
        std::fs::write(path, &page).expect("docs/metrics.md is writable");
    }
    let stored = std::fs::read_to_string(path).expect("docs/metrics.md exists");
    assert!(stored == page, "docs/metrics.md differs: run this test with MILLRACE_BLESS=1");
}

#[test]
fn rows_are_sorted_unique_and_explained() {
    for kind in ScopeKind::ALL {
        let table = kind.table();
        assert!(table.values.windows(2).all(|w| w[0].name < w[1].name), "{kind:?}");
        assert!(table.histograms.windows(2).all(|w| w[0].name < w[1].name), "{kind:?}");
        assert!(table.values.iter().all(|row| row.help.ends_with('.')), "{kind:?}");
        assert!(table.histograms.iter().all(|row| row.help.ends_with('.')), "{kind:?}");
    }
}

#[test]
fn every_name_of_an_idle_envoy_exists() {
    use super::{Registry, Selection, render_text};
    let corpora = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpora");
    let Ok(idle) = std::fs::read_to_string(format!("{corpora}/envoy/reference/envoy-1.40.0-stats-idle.txt"))
    else {
        assert!(std::env::var_os("CI").is_none(), "the corpora must be there in CI");
        println!("0 names compared: no corpora");
        return;
    };
    let registry = Registry::new();
    for kind in
        ScopeKind::ALL.iter().filter(|kind| kind.prefix().is_empty() || !matches!(kind, ScopeKind::Host))
    {
        let name = match kind {
            ScopeKind::Listener | ScopeKind::Http => "admin",
            ScopeKind::HttpListener => "admin.http.admin",
            ScopeKind::Tcp | ScopeKind::Cluster | ScopeKind::Route | ScopeKind::Dns => continue,
            ScopeKind::Cds
            | ScopeKind::Lds
            | ScopeKind::Rds
            | ScopeKind::Vhds
            | ScopeKind::ScopedRds
            | ScopeKind::Sds
            | ScopeKind::ControlPlane
            | ScopeKind::Http2
            | ScopeKind::ListenerSsl
            | ScopeKind::ListenerSecrets
            | ScopeKind::ClusterSsl
            | ScopeKind::ClusterSecrets
            | ScopeKind::ClusterBudgets
            | ScopeKind::ClusterSizes
            | ScopeKind::ClusterZone
            | ScopeKind::TlsInspector
            | ScopeKind::HttpInspector
            | ScopeKind::ProxyProto
            | ScopeKind::HttpFault
            | ScopeKind::HttpCors
            | ScopeKind::HttpCsrf
            | ScopeKind::HttpHealthCheck
            | ScopeKind::CustomResponse
            | ScopeKind::HttpStatefulSession
            | ScopeKind::HttpLocalRateLimit
            | ScopeKind::HttpCompressor
            | ScopeKind::HttpCompressorDirection
            | ScopeKind::HttpDecompressor
            | ScopeKind::HttpDecompressorLibrary
            | ScopeKind::HttpBandwidthLimit
            | ScopeKind::HttpAdmissionControl
            | ScopeKind::HttpGradientController
            | ScopeKind::HeaderToMetadata
            | ScopeKind::JsonToMetadata
            | ScopeKind::LocalRateLimit
            | ScopeKind::ConnectionLimit
            | ScopeKind::DnsCache
            | ScopeKind::OverloadMonitor
            | ScopeKind::OverloadAction
            | ScopeKind::LoadShedPoint
            | ScopeKind::LoadReporter
            | ScopeKind::HdsDelegate => {
                continue;
            }
            _ => "",
        };
        registry.scope(*kind, name);
    }
    registry.scope(ScopeKind::Http, "async-client");
    let _threads = (registry.attach_shard("main_thread"), registry.attach_shard("worker_0"));
    let mut out = String::new();
    assert!(render_text(&registry, &Selection::ALL, &mut out));
    let names = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.split_once(": ")?.0.to_owned())).collect()
    };
    let ours = names(&out);
    let envoys = names(&idle);
    println!("{} names compared", envoys.len());
    assert_eq!(ours, envoys);
}
