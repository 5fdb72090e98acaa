//! Endpoints that fail: timeouts, retries, circuit breakers, outlier detection.

use super::{Does, Endpoint, Feature, OK, PLAIN, Traffic, burst, does, requests};

const ILL: Endpoint = Endpoint { fields: ", health_status: UNHEALTHY", ..OK };

const BREAKERS: Feature = Feature { area: "circuit breakers", endpoints: &[does(Does::Late(500))], ..PLAIN };
const ENDPOINTS: Feature = Feature { area: "bad endpoints", traffic: requests(3), ..PLAIN };
const DROPS: Feature =
    Feature { area: "dropped requests", traffic: requests(3), differs: OWN_COUNTER, ..PLAIN };
const OWN_COUNTER: &[(&str, &str)] =
    &[("cluster.up.upstream_rq_drop_overload", "Envoy shows it in load reports alone")];
/// Whatever counts requests by how they end.
const DROPPED: &[&str] =
    &["cluster.up.*", "http.main.*", "statuses", "response flags", "details", "listener.*"];
const OUTLIERS: Feature = Feature { area: "outlier detection", ..PLAIN };
const CHECKS: Feature = Feature { area: "health checks", traffic: requests(6), ..PLAIN };
const RETRIES: Feature = Feature { area: "retries", ..PLAIN };
const TIMEOUTS: Feature = Feature { area: "timeouts", endpoints: &[does(Does::Hang)], ..PLAIN };

const OF_STREAMS: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, common_http_protocol_options: {max_stream_duration: 0.2s}, explicit_http_config: {http_protocol_options: {}}}}";
const OWN_RETRIES: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, retry_policy: {retry_on: 5xx, num_retries: 2, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}, explicit_http_config: {http_protocol_options: {}}}}";

pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "all requests are dropped",
        assignment: ", policy: {drop_overloads: [{category: a, drop_percentage: {numerator: 100}}]}",
        route: ", retry_policy: {retry_on: 5xx, num_retries: 2}",
        ..DROPS
    },
    Feature {
        name: "half of the requests are dropped",
        assignment: ", policy: {drop_overloads: [{category: a, drop_percentage: {numerator: 5000, denominator: TEN_THOUSAND}}]}",
        traffic: requests(300),
        chance: 0.15,
        by_chance: DROPPED,
        ..DROPS
    },
    Feature { name: "an endpoint that refuses", endpoints: &[does(Does::Refuse)], ..ENDPOINTS },
    Feature { name: "an endpoint that resets", endpoints: &[does(Does::Reset)], ..ENDPOINTS },
    Feature { name: "an endpoint that closes", endpoints: &[does(Does::Close)], ..ENDPOINTS },
    Feature {
        name: "an endpoint that sends less than it said",
        endpoints: &[does(Does::CutShort)],
        differs: &[(
            "http.main.downstream_cx_delayed_close_timeout",
            "a response that is cut short closes the connection at once",
        )],
        ..ENDPOINTS
    },
    Feature {
        name: "an endpoint that ends behind an interim response",
        endpoints: &[does(Does::Write("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"))],
        route: ", retry_policy: {retry_on: reset, num_retries: 2}",
        ..ENDPOINTS
    },
    Feature {
        name: "an endpoint that says more than it announced",
        endpoints: &[does(Does::Write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nmore"))],
        ..ENDPOINTS
    },
    Feature { name: "a response head of 79 KiB", endpoints: &[does(Does::Head(79 * 1024))], ..ENDPOINTS },
    Feature { name: "a response head of 81 KiB", endpoints: &[does(Does::Head(81 * 1024))], ..ENDPOINTS },
    Feature {
        name: "an endpoint that says it is a canary",
        endpoints: &[does(Does::Say(200, &[("x-envoy-upstream-canary", "true")], "ok"))],
        ..ENDPOINTS
    },
    Feature {
        name: "an endpoint whose metadata say it is a canary",
        endpoints: &[Endpoint { fields: ", metadata: {filter_metadata: {envoy.lb: {canary: true}}}", ..OK }],
        ..ENDPOINTS
    },
    Feature {
        name: "an endpoint that closes, over HTTP/1.1 with the end of its answer",
        endpoints: &[does(Does::UntilClose)],
        ..ENDPOINTS
    },
    Feature {
        name: "all endpoints are ill, without panic",
        endpoints: &[ILL, ILL],
        cluster: "common_lb_config: {healthy_panic_threshold: {value: 0}}",
        ..ENDPOINTS
    },
    Feature { name: "no endpoint", endpoints: &[], ..ENDPOINTS },
    Feature { name: "priority 5 alone", localities: &["priority: 5,"], ..ENDPOINTS },
    Feature {
        name: "priorities 1 and 4",
        endpoints: &[OK, Endpoint { locality: 1, ..OK }],
        localities: &["priority: 4,", "priority: 1,"],
        ..ENDPOINTS
    },
    Feature {
        name: "HTTP: one of three fails",
        endpoints: &[OK, does(Does::Answer(503)), OK],
        cluster: "health_checks: [{timeout: 1s, interval: 60s, no_traffic_interval: 60s, unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: /}}]",
        ..CHECKS
    },
    Feature {
        name: "HTTP: all fail, and nobody panics",
        endpoints: &[does(Does::Answer(503)), does(Does::Close)],
        cluster: "common_lb_config: {healthy_panic_threshold: {value: 0}}\nhealth_checks: [{timeout: 1s, interval: 60s, no_traffic_interval: 60s, unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: /}}]",
        ..CHECKS
    },
    Feature {
        name: "TCP: one of two refuses",
        endpoints: &[OK, does(Does::Refuse)],
        cluster: "health_checks: [{timeout: 1s, interval: 60s, no_traffic_interval: 60s, unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {}}]",
        ..CHECKS
    },
    Feature { name: "route timeout", route: ", timeout: 0.1s", ..TIMEOUTS },
    Feature {
        name: "route timeout of a body that waits for its connection",
        endpoints: &[does(Does::Swallow)],
        route: ", timeout: 0.2s",
        traffic: Traffic { body: "hello", ..requests(1) },
        ..TIMEOUTS
    },
    Feature {
        name: "route timeout of a client's header",
        traffic: Traffic { fields: &[("x-envoy-upstream-rq-timeout-ms", "100")], ..requests(1) },
        ..TIMEOUTS
    },
    Feature { name: "max_stream_duration of the cluster", cluster: OF_STREAMS, ..TIMEOUTS },
    Feature {
        name: "max_stream_duration of the cluster, with a retry",
        cluster: OF_STREAMS,
        route: ", retry_policy: {retry_on: reset, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        ..TIMEOUTS
    },
    Feature {
        name: "per-try timeout",
        route: ", retry_policy: {retry_on: reset, num_retries: 0, per_try_timeout: 0.1s}",
        ..TIMEOUTS
    },
    Feature {
        name: "per-try timeout with retries",
        route: ", retry_policy: {retry_on: 5xx, num_retries: 2, per_try_timeout: 0.1s, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        ..TIMEOUTS
    },
    Feature {
        name: "per-try idle timeout",
        route: ", retry_policy: {retry_on: reset, num_retries: 0, per_try_idle_timeout: 0.1s}",
        ..TIMEOUTS
    },
    Feature { name: "stream idle timeout", manager: "stream_idle_timeout: 0.1s", ..TIMEOUTS },
    Feature {
        name: "a flush timeout is not for who waits for an endpoint",
        manager: "stream_idle_timeout: 0.2s",
        route: ", flush_timeout: 0.05s",
        ..TIMEOUTS
    },
    Feature {
        name: "idle timeout of the route, over several tries",
        route: ", idle_timeout: 0.5s, retry_policy: {retry_on: 5xx, num_retries: 5, per_try_timeout: 0.3s, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        ..TIMEOUTS
    },
    Feature { name: "idle timeout of the route", route: ", idle_timeout: 0.1s", ..TIMEOUTS },
    Feature {
        name: "max_stream_duration",
        manager: "common_http_protocol_options: {max_stream_duration: 0.1s}",
        ..TIMEOUTS
    },
    Feature {
        name: "max_stream_duration of the route",
        route: ", max_stream_duration: {max_stream_duration: 0.1s}",
        ..TIMEOUTS
    },
    Feature {
        name: "grpc-timeout under grpc_timeout_header_max",
        route: ", max_stream_duration: {grpc_timeout_header_max: 10s}",
        traffic: Traffic {
            fields: &[("content-type", "application/grpc"), ("grpc-timeout", "100m"), ("te", "trailers")],
            ..requests(1)
        },
        ..TIMEOUTS
    },
    Feature {
        name: "retry_on 5xx",
        endpoints: &[does(Does::Recover(2, 503))],
        route: ", retry_policy: {retry_on: 5xx, num_retries: 3, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: requests(3),
        ..RETRIES
    },
    Feature {
        name: "retry_on gateway-error",
        endpoints: &[does(Does::Recover(1, 504))],
        route: ", retry_policy: {retry_on: gateway-error}",
        traffic: requests(2),
        ..RETRIES
    },
    Feature {
        name: "retry_on gateway-error leaves 500 alone",
        endpoints: &[does(Does::Recover(1, 500))],
        route: ", retry_policy: {retry_on: gateway-error}",
        traffic: requests(2),
        ..RETRIES
    },
    Feature {
        name: "retry_on retriable-4xx",
        endpoints: &[does(Does::Recover(1, 409))],
        route: ", retry_policy: {retry_on: retriable-4xx}",
        traffic: requests(2),
        ..RETRIES
    },
    Feature {
        name: "retry_on retriable-status-codes",
        endpoints: &[does(Does::Recover(1, 418))],
        route: ", retry_policy: {retry_on: retriable-status-codes, retriable_status_codes: [418]}",
        traffic: requests(2),
        ..RETRIES
    },
    Feature {
        name: "retry_on connect-failure",
        endpoints: &[does(Does::Refuse), OK],
        route: ", retry_policy: {retry_on: connect-failure, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: requests(8),
        chance: 0.2,
        by_chance: &["cluster.up.upstream_*", "cluster.up.retry.*"],
        ..RETRIES
    },
    Feature {
        name: "retry_on reset",
        endpoints: &[does(Does::Reset), OK],
        route: ", retry_policy: {retry_on: reset, num_retries: 3, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: requests(8),
        chance: 0.2,
        by_chance: &["cluster.up.upstream_*", "cluster.up.retry.*"],
        ..RETRIES
    },
    Feature {
        name: "retries run out",
        endpoints: &[does(Does::Answer(503))],
        route: ", retry_policy: {retry_on: 5xx, num_retries: 2, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: requests(3),
        ..RETRIES
    },
    Feature {
        name: "retries keep a body",
        endpoints: &[does(Does::Recover(2, 503))],
        route: ", retry_policy: {retry_on: 5xx, num_retries: 3, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: Traffic { body: "some bytes", ..requests(2) },
        ..RETRIES
    },
    Feature {
        name: "max_retries 0",
        endpoints: &[does(Does::Answer(503))],
        cluster: "circuit_breakers: {thresholds: [{max_retries: 0}]}",
        route: ", retry_policy: {retry_on: 5xx}",
        traffic: requests(3),
        ..RETRIES
    },
    Feature {
        name: "retry budget of 20 %, minimum 1",
        endpoints: &[does(Does::Answer(503))],
        cluster: "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 20}, min_retry_concurrency: 1}}]}",
        route: ", retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: requests(5),
        ..RETRIES
    },
    Feature {
        name: "previous_hosts",
        endpoints: &[does(Does::Answer(503)), OK],
        route: ", retry_policy: {retry_on: 5xx, retry_host_predicate: [{name: p, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], host_selection_retry_max_attempts: 5, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: requests(10),
        chance: 0.2,
        by_chance: &["cluster.up.upstream_*", "cluster.up.retry.*"],
        ..RETRIES
    },
    Feature {
        name: "refresh_cluster_on_retry, of a route to one cluster",
        endpoints: &[does(Does::Answer(503))],
        route: ", retry_policy: {retry_on: 5xx, num_retries: 3, refresh_cluster_on_retry: true, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: requests(2),
        ..RETRIES
    },
    Feature {
        name: "track_cluster_stats",
        endpoints: &[does(Does::Answer(503))],
        cluster: "track_cluster_stats: {timeout_budgets: true, request_response_sizes: true}",
        route: ", retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 0.001s, max_interval: 0.002s}}",
        traffic: requests(2),
        ..RETRIES
    },
    Feature {
        name: "retry_policy of the cluster",
        endpoints: &[does(Does::Answer(503))],
        cluster: OWN_RETRIES,
        route: ", retry_policy: {retry_on: 5xx, num_retries: 7}",
        around: "stat_prefix: r",
        prefixes: &["vhost."],
        traffic: requests(2),
        ..RETRIES
    },
    Feature {
        name: "connection_pool_per_downstream_connection, max_connections: 1",
        cluster: "connection_pool_per_downstream_connection: true\ncircuit_breakers: {thresholds: [{max_connections: 1}]}",
        traffic: burst(3),
        ..BREAKERS
    },
    Feature {
        name: "max_requests 2, 6 at once",
        cluster: "circuit_breakers: {thresholds: [{max_requests: 2}]}",
        traffic: burst(6),
        // A request that comes when two are under way needs no connection.
        chance: 0.7,
        by_chance: &["cluster.up.upstream_cx*", "cluster.up.upstream_rq_pending_total"],
        ..BREAKERS
    },
    Feature {
        name: "max_connections 1, max_pending_requests 2, 6 at once",
        cluster: "circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 2}]}",
        traffic: burst(6),
        // Whether the connection is there before the last one comes: then one is on it and two wait.
        chance: 0.4,
        by_chance: &[
            "cluster.up.external.*",
            "cluster.up.upstream_*",
            "http.main.downstream_rq_*",
            "details",
            "response flags",
            "statuses",
        ],
        ..BREAKERS
    },
    Feature {
        name: "max_pending_requests 0",
        cluster: "circuit_breakers: {thresholds: [{max_pending_requests: 0}]}",
        endpoints: &[OK],
        traffic: requests(2),
        ..BREAKERS
    },
    Feature {
        name: "track_remaining",
        cluster: "circuit_breakers: {thresholds: [{track_remaining: true, max_connections: 7, max_pending_requests: 6, max_requests: 5, max_retries: 4, max_connection_pools: 3}, {priority: HIGH, track_remaining: true, max_connection_pools: 9}]}",
        endpoints: &[OK],
        traffic: requests(2),
        ..BREAKERS
    },
    Feature {
        name: "max_connection_pools 1 of two endpoints",
        cluster: "circuit_breakers: {thresholds: [{max_connection_pools: 1, track_remaining: true}]}",
        endpoints: &[OK, OK],
        traffic: requests(4),
        chance: 1.0,
        ..BREAKERS
    },
    Feature {
        name: "predictive_preconnect_ratio",
        cluster: "preconnect_policy: {predictive_preconnect_ratio: 2.0}",
        endpoints: &[OK, OK, OK],
        traffic: requests(3),
        ..BREAKERS
    },
    Feature {
        name: "both preconnect ratios",
        cluster: "preconnect_policy: {predictive_preconnect_ratio: 3.0, per_upstream_preconnect_ratio: 1.5}",
        endpoints: &[OK, OK, OK, OK, OK, OK],
        traffic: requests(6),
        ..BREAKERS
    },
    Feature {
        name: "retry_budget with budget_interval",
        endpoints: &[does(Does::Answer(503))],
        cluster: "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 20}, min_retry_concurrency: 0, budget_interval: 600s}}]}",
        route: ", retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 0.001s}}",
        traffic: requests(20),
        ..BREAKERS
    },
    Feature {
        name: "max_requests_per_connection 2",
        endpoints: &[OK],
        cluster: HTTP_PROTOCOL,
        traffic: requests(6),
        ..BREAKERS
    },
    Feature {
        name: "five 500 in a row",
        endpoints: &[does(Does::Answer(500)), OK, OK, OK, OK, OK, OK, OK, OK, OK],
        cluster: "outlier_detection: {}",
        traffic: requests(50),
        chance: 0.05,
        ..OUTLIERS
    },
    Feature {
        name: "five gateway failures in a row, enforced",
        endpoints: &[does(Does::Answer(503)), OK, OK, OK, OK, OK, OK, OK, OK, OK],
        cluster: "outlier_detection: {consecutive_5xx: 100, enforcing_consecutive_gateway_failure: 100}",
        traffic: requests(50),
        chance: 0.05,
        ..OUTLIERS
    },
    Feature {
        name: "404 is an error of the error_matcher",
        endpoints: &[does(Does::Answer(404)), OK, OK, OK, OK, OK, OK, OK, OK, OK],
        cluster: NOT_FOUND_IS_AN_ERROR,
        traffic: requests(60),
        chance: 0.05,
        ..OUTLIERS
    },
    Feature {
        name: "ten of ten fail",
        endpoints: &[does(Does::Answer(500)); 10],
        cluster: "outlier_detection: {consecutive_5xx: 2}",
        traffic: requests(20),
        chance: 0.05,
        // After each ejection the order begins anew.
        by_chance: &["cluster.up.outlier_detection.ejections_*"],
        ..OUTLIERS
    },
];

const HTTP_PROTOCOL: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, common_http_protocol_options: {max_requests_per_connection: 2}, explicit_http_config: {http_protocol_options: {}}}}";
const NOT_FOUND_IS_AN_ERROR: &str = "outlier_detection: {consecutive_5xx: 3}\ntyped_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http_protocol_options: {}}, outlier_detection: {error_matcher: {http_response_headers_match: {headers: [{name: \":status\", string_match: {exact: \"404\"}}]}}}}}";
