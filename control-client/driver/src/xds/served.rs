//! The extensions that this build serves, named as Envoy 1.40 names them in its node.

use super::node::ServedExtension;

const fn one(
    category: &'static str,
    name: &'static str,
    type_urls: &'static [&'static str],
) -> ServedExtension {
    ServedExtension { name, category, type_urls }
}

/// What `translate` accepts; kept in the order of the categories.
pub const SERVED: &[ServedExtension] = &[
    one(
        "envoy.access_loggers",
        "envoy.access_loggers.file",
        &["envoy.extensions.access_loggers.file.v3.FileAccessLog"],
    ),
    one(
        "envoy.access_loggers",
        "envoy.access_loggers.stderr",
        &["envoy.extensions.access_loggers.stream.v3.StderrAccessLog"],
    ),
    one(
        "envoy.access_loggers",
        "envoy.access_loggers.stdout",
        &["envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"],
    ),
    one("envoy.clusters", "envoy.cluster.eds", &[]),
    one("envoy.clusters", "envoy.cluster.logical_dns", &[]),
    one("envoy.clusters", "envoy.cluster.static", &[]),
    one("envoy.clusters", "envoy.cluster.strict_dns", &[]),
    one(
        "envoy.filters.http",
        "envoy.filters.http.router",
        &["envoy.extensions.filters.http.router.v3.Router"],
    ),
    one(
        "envoy.filters.listener",
        "envoy.filters.listener.http_inspector",
        &["envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"],
    ),
    one(
        "envoy.filters.listener",
        "envoy.filters.listener.original_dst",
        &["envoy.extensions.filters.listener.original_dst.v3.OriginalDst"],
    ),
    one(
        "envoy.filters.listener",
        "envoy.filters.listener.proxy_protocol",
        &["envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"],
    ),
    one(
        "envoy.filters.listener",
        "envoy.filters.listener.tls_inspector",
        &["envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"],
    ),
    one(
        "envoy.filters.network",
        "envoy.filters.network.http_connection_manager",
        &["envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"],
    ),
    one(
        "envoy.filters.network",
        "envoy.filters.network.tcp_proxy",
        &["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"],
    ),
    one(
        "envoy.http.stateful_header_formatters",
        "envoy.http.stateful_header_formatters.preserve_case",
        &["envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"],
    ),
    one(
        "envoy.load_balancing_policies",
        "envoy.load_balancing_policies.least_request",
        &["envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"],
    ),
    one(
        "envoy.load_balancing_policies",
        "envoy.load_balancing_policies.random",
        &["envoy.extensions.load_balancing_policies.random.v3.Random"],
    ),
    one(
        "envoy.load_balancing_policies",
        "envoy.load_balancing_policies.round_robin",
        &["envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"],
    ),
    one(
        "envoy.retry_host_predicates",
        "envoy.retry_host_predicates.previous_hosts",
        &["envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"],
    ),
    one("envoy.tls.cert_validator", "envoy.tls.cert_validator.default", &[]),
    one(
        "envoy.tls.cert_validator",
        "envoy.tls.cert_validator.spiffe",
        &["envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"],
    ),
    one(
        "envoy.transport_sockets.downstream",
        "envoy.transport_sockets.raw_buffer",
        &["envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"],
    ),
    one(
        "envoy.transport_sockets.downstream",
        "envoy.transport_sockets.tls",
        &["envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"],
    ),
    one(
        "envoy.transport_sockets.upstream",
        "envoy.transport_sockets.raw_buffer",
        &["envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"],
    ),
    one(
        "envoy.transport_sockets.upstream",
        "envoy.transport_sockets.tls",
        &["envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"],
    ),
    one(
        "envoy.transport_sockets.upstream",
        "envoy.transport_sockets.upstream_proxy_protocol",
        &["envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"],
    ),
    one(
        "envoy.upstream_options",
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        &["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"],
    ),
];
