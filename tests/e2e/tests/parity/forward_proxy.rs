//! The dynamic forward proxy. Hosts are addresses and names that no name server is asked for.

use super::{Feature, OK, PLAIN, Traffic, requests};

/// Settings of the cache: filter and cluster must have the same.
macro_rules! cache {
    ($fields:literal) => {
        concat!("dns_cache_config: {name: c, dns_lookup_family: V4_ONLY, dns_refresh_rate: 600s, dns_min_refresh_rate: 600s", $fields, "}")
    };
}

macro_rules! forward_proxy {
    ($name:literal, $fields:literal) => {
        Feature {
            area: "dynamic forward proxy",
            name: $name,
            endpoints: &[OK],
            cluster: concat!(
                "lb_policy: CLUSTER_PROVIDED\ncluster_type: {name: envoy.clusters.dynamic_forward_proxy, typed_config: ",
                "{\"@type\": type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig, ",
                cache!($fields),
                "}}"
            ),
            around: concat!(
                "typed_per_filter_config: {dynamic_forward_proxy: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.",
                "dynamic_forward_proxy.v3.PerRouteConfig, host_rewrite_header: x-host}}"
            ),
            filters: &[("dynamic_forward_proxy.v3.FilterConfig", cache!($fields))],
            prefixes: &["dns_cache."],
            ..PLAIN
        }
    };
}

const fn to(host: &'static [(&'static str, &'static str)], count: u32) -> Traffic {
    Traffic { fields: host, ..requests(count) }
}

/// The host and its port are objects of filter state.
const BY_STATE: (&str, &str) = (
    "set_filter_state.v3.Config",
    "on_request_headers: [{object_key: envoy.upstream.dynamic_host, format_string: {text_format_source: {inline_string: \"127.0.0.1\"}}}, {object_key: envoy.upstream.dynamic_port, format_string: {text_format_source: {inline_string: \"%REQ(x-port)%\"}}}]",
);

pub(super) const FEATURES: &[Feature] = &[
    Feature {
        filters: &[
            BY_STATE,
            (
                "dynamic_forward_proxy.v3.FilterConfig",
                concat!("allow_dynamic_host_from_filter_state: true, ", cache!("")),
            ),
        ],
        traffic: to(&[("x-port", "@PORT@")], 3),
        ..forward_proxy!("a host of filter state", "")
    },
    Feature { traffic: to(&[("x-host", "127.0.0.1:@PORT@")], 5), ..forward_proxy!("one host", "") },
    Feature {
        traffic: to(&[("x-host", "127.0.1.@N@:@PORT@")], 3),
        ..forward_proxy!("hosts that nobody listens at", "")
    },
    Feature { traffic: to(&[("x-host", "a..@N@:80")], 3), ..forward_proxy!("names that are none", "") },
    Feature {
        traffic: to(&[("x-host", "a..b:80")], 3),
        ..forward_proxy!(
            "a name that is none, asked for by each request",
            ", disable_dns_refresh_on_failure: true"
        )
    },
    Feature {
        traffic: to(&[("x-host", "127.0.1.@N@:@PORT@")], 4),
        ..forward_proxy!("max_hosts", ", max_hosts: 2")
    },
    Feature {
        traffic: to(&[("x-host", "127.0.0.1:@PORT@")], 2),
        ..forward_proxy!("no request may wait", ", dns_cache_circuit_breaker: {max_pending_requests: 0}")
    },
    Feature {
        traffic: to(&[("x-host", "127.0.0.1:@PORT@")], 2),
        ..forward_proxy!(
            "resolved_address_filter",
            ", resolved_address_filter: {ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]}"
        )
    },
    Feature {
        traffic: to(&[("x-host", "127.0.0.1:@PORT@")], 3),
        route: ", host_rewrite_literal: a..b",
        ..forward_proxy!("a router that writes another host", "")
    },
];
