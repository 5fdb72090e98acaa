//! Filters that delay, refuse, pace and rewrite.

use super::{Does, Endpoint, Feature, OK, PLAIN, Traffic, does, requests};

const SHAPING: Feature = Feature { area: "filters", endpoints: &[OK], traffic: requests(10), ..PLAIN };

pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "fault: abort",
        filters: &[("fault.v3.HTTPFault", "abort: {http_status: 418, percentage: {numerator: 100}}")],
        ..SHAPING
    },
    Feature {
        name: "fault: abort of gRPC",
        filters: &[("fault.v3.HTTPFault", "abort: {grpc_status: 14, percentage: {numerator: 100}}")],
        traffic: Traffic {
            fields: &[("content-type", "application/grpc"), ("te", "trailers")],
            ..requests(10)
        },
        ..SHAPING
    },
    Feature {
        name: "fault: delay",
        filters: &[("fault.v3.HTTPFault", "delay: {fixed_delay: 0.05s, percentage: {numerator: 100}}")],
        ..SHAPING
    },
    Feature {
        name: "fault: abort of 30 %",
        filters: &[("fault.v3.HTTPFault", "abort: {http_status: 503, percentage: {numerator: 30}}")],
        traffic: requests(600),
        chance: 0.12,
        by_chance: &["statuses", "response flags", "details", "http.main.*", "cluster.up.*"],
        ..SHAPING
    },
    Feature {
        name: "health_check: answers of its own",
        filters: &[(
            "health_check.v3.HealthCheck",
            "pass_through_mode: false, headers: [{name: \":method\", string_match: {exact: POST}}], cluster_min_healthy_percentages: {up: {value: 50}}",
        )],
        traffic: Traffic { body: "hello", ..requests(3) },
        ..SHAPING
    },
    Feature {
        name: "local_ratelimit: 4 tokens",
        filters: &[(
            "local_ratelimit.v3.LocalRateLimit",
            "stat_prefix: rl, token_bucket: {max_tokens: 4, fill_interval: 600s}, filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}",
        )],
        prefixes: &["rl."],
        ..SHAPING
    },
    Feature {
        name: "local_ratelimit: a bucket for each value",
        filters: &[(
            "local_ratelimit.v3.LocalRateLimit",
            "stat_prefix: rl, token_bucket: {max_tokens: 1000, fill_interval: 600s}, filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}, descriptors: [{entries: [{key: remote_address}], token_bucket: {max_tokens: 3, fill_interval: 600s}}], rate_limits: [{actions: [{remote_address: {}}]}]",
        )],
        prefixes: &["rl."],
        ..SHAPING
    },
    Feature {
        name: "local_ratelimit: tokens given back",
        filters: &[(
            "local_ratelimit.v3.LocalRateLimit",
            "stat_prefix: rl, token_bucket: {max_tokens: 1000, fill_interval: 600s}, filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}, descriptors: [{entries: [{key: generic_key, value: g}], token_bucket: {max_tokens: 1, fill_interval: 600s}}], rate_limits: [{actions: [{generic_key: {descriptor_value: g}}]}, {hits_addend: {number: 1, is_negative_hits: true}, actions: [{generic_key: {descriptor_value: g}}]}]",
        )],
        prefixes: &["rl."],
        ..SHAPING
    },
    Feature {
        name: "local_ratelimit: not enforced",
        filters: &[(
            "local_ratelimit.v3.LocalRateLimit",
            "stat_prefix: rl, token_bucket: {max_tokens: 4, fill_interval: 600s}, filter_enabled: {default_value: {numerator: 100}}",
        )],
        prefixes: &["rl."],
        ..SHAPING
    },
    Feature {
        name: "cors: an origin that is allowed",
        filters: &[("cors.v3.Cors", "")],
        around: "typed_per_filter_config: {cors: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy, allow_origin_string_match: [{exact: \"http://a\"}]}}",
        traffic: Traffic { fields: &[("origin", "http://a")], ..requests(3) },
        ..SHAPING
    },
    Feature {
        name: "cors: an origin that is not",
        filters: &[("cors.v3.Cors", "")],
        around: "typed_per_filter_config: {cors: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy, allow_origin_string_match: [{exact: \"http://a\"}]}}",
        traffic: Traffic { fields: &[("origin", "http://b")], ..requests(3) },
        ..SHAPING
    },
    Feature {
        name: "csrf: another origin",
        filters: &[("csrf.v3.CsrfPolicy", "filter_enabled: {default_value: {numerator: 100}}")],
        traffic: Traffic { fields: &[("origin", "http://evil")], body: "x", ..requests(3) },
        differs: &[
            (
                "http.main.downstream_cx_destroy_local",
                "our FIN leaves with the answer, Envoy's after the client's",
            ),
            (
                "http.main.downstream_cx_destroy_remote",
                "our FIN leaves with the answer, Envoy's after the client's",
            ),
        ],
        ..SHAPING
    },
    Feature {
        name: "buffer: too large",
        filters: &[("buffer.v3.Buffer", "max_request_bytes: 4")],
        traffic: Traffic { body: "more than four", ..requests(2) },
        differs: &[
            (
                "http.main.downstream_cx_destroy_local",
                "our FIN leaves with the answer, Envoy's after the client's",
            ),
            (
                "http.main.downstream_cx_destroy_remote",
                "our FIN leaves with the answer, Envoy's after the client's",
            ),
        ],
        ..SHAPING
    },
    Feature {
        name: "header_mutation",
        filters: &[(
            "header_mutation.v3.HeaderMutation",
            "mutations: {request_mutations: [{append: {header: {key: x-a, value: b}}}]}",
        )],
        endpoints: &[does(Does::Say(200, &[("x-own", "1")], "body"))],
        traffic: requests(2),
        ..SHAPING
    },
    Feature {
        name: "header_to_metadata: chooses a subset",
        cluster: "lb_subset_config: {fallback_policy: ANY_ENDPOINT, subset_selectors: [{keys: [stage]}]}",
        endpoints: &[
            Endpoint { fields: ", metadata: {filter_metadata: {envoy.lb: {stage: prod}}}", ..OK },
            Endpoint { fields: ", metadata: {filter_metadata: {envoy.lb: {stage: test}}}", ..OK },
        ],
        filters: &[(
            "header_to_metadata.v3.Config",
            "stat_prefix: h2m, request_rules: [{header: x-stage, on_header_present: {metadata_namespace: envoy.lb, key: stage}, remove: true}]",
        )],
        traffic: Traffic { fields: &[("x-stage", "test")], ..requests(8) },
        prefixes: &["http_filter_name."],
        differs: &[
            ("cluster.up.lb_subsets_active", "Envoy counts its main thread, too"),
            ("cluster.up.lb_subsets_created", "Envoy counts its main thread, too"),
        ],
        ..SHAPING
    },
    Feature {
        name: "json_to_metadata: a value in a response header",
        filters: &[(
            "json_to_metadata.v3.JsonToMetadata",
            "request_rules: {rules: [{selectors: [{key: m}], on_present: {metadata_namespace: ns, key: m}, on_error: {metadata_namespace: ns, key: m, value: none}}]}, response_rules: {allow_content_types: [text/x], rules: [{selectors: [{key: m}], on_missing: {key: m, value: none}}]}",
        )],
        around: "response_headers_to_add: [{header: {key: x-seen, value: \"%DYNAMIC_METADATA(ns:m)%\"}}]",
        traffic: Traffic {
            fields: &[("content-type", "application/json")],
            body: "{\"m\": \"large\"}",
            ..requests(3)
        },
        prefixes: &["json_to_metadata."],
        ..SHAPING
    },
    Feature {
        name: "local_reply_config: another status",
        manager: "local_reply_config: {mappers: [{filter: {status_code_filter: {comparison: {op: EQ, value: {default_value: 503, runtime_key: x.y}}}}, status_code: 429, body: {inline_string: mapped}}]}",
        filters: &[("fault.v3.HTTPFault", "abort: {http_status: 503, percentage: {numerator: 100}}")],
        traffic: requests(3),
        ..SHAPING
    },
    Feature {
        name: "set_filter_state: another route",
        filters: &[(
            "set_filter_state.v3.Config",
            "clear_route_cache: true, on_request_headers: [{object_key: k, factory_key: envoy.string, format_string: {text_format_source: {inline_string: \"%REQ(x-k)%\"}}}]",
        )],
        around: "response_headers_to_add: [{header: {key: x-seen, value: \"%FILTER_STATE(k:PLAIN)%\"}}]",
        traffic: Traffic { fields: &[("x-k", "v@N@")], ..requests(4) },
        ..SHAPING
    },
    Feature {
        name: "compressor: gzip and brotli",
        filters: &[
            (
                "compressor.v3.Compressor",
                "compressor_library: {name: lib, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip}}",
            ),
            (
                "compressor.v3.Compressor",
                "response_direction_config: {}, compressor_library: {name: lib, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.compression.brotli.compressor.v3.Brotli}}",
            ),
        ],
        endpoints: &[does(Does::Say(200, &[("content-type", "text/plain")], LONG))],
        traffic: Traffic { fields: &[("accept-encoding", "gzip, br;q=0.5")], ..requests(4) },
        prefixes: &["http.main.compressor."],
        ..SHAPING
    },
    Feature {
        name: "compressor: short responses",
        filters: &[(
            "compressor.v3.Compressor",
            "compressor_library: {name: lib, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip}}",
        )],
        endpoints: &[does(Does::Say(200, &[("content-type", "text/plain")], "short"))],
        traffic: Traffic { fields: &[("accept-encoding", "gzip")], ..requests(4) },
        prefixes: &["http.main.compressor."],
        ..SHAPING
    },
    Feature {
        name: "compressor: behind a filter that answers",
        filters: &[
            ("fault.v3.HTTPFault", "abort: {http_status: 418, percentage: {numerator: 100}}"),
            (
                "compressor.v3.Compressor",
                "response_direction_config: {common_config: {min_content_length: 1}}, compressor_library: {name: lib, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip}}",
            ),
        ],
        traffic: Traffic { fields: &[("accept-encoding", "gzip")], ..requests(2) },
        prefixes: &["http.main.compressor."],
        ..SHAPING
    },
    Feature {
        name: "decompressor: nothing to do",
        filters: &[(
            "decompressor.v3.Decompressor",
            "decompressor_library: {name: lib, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.compression.gzip.decompressor.v3.Gzip}}",
        )],
        endpoints: &[does(Does::Say(200, &[("content-type", "text/plain")], "short"))],
        traffic: requests(4),
        prefixes: &["http.main.decompressor."],
        ..SHAPING
    },
    Feature {
        name: "bandwidth_limit: within the limit",
        filters: &[(
            "bandwidth_limit.v3.BandwidthLimit",
            "stat_prefix: bw, enable_mode: REQUEST_AND_RESPONSE, limit_kbps: 10000",
        )],
        endpoints: &[does(Does::Say(200, &[], LONG))],
        traffic: Traffic { body: "a body", ..requests(4) },
        prefixes: &["bw."],
        differs: &[
            ("bw.http_bandwidth_limit.request_incoming_size", "the end is no piece of its own"),
            ("bw.http_bandwidth_limit.response_incoming_size", "the end is no piece of its own"),
        ],
        ..SHAPING
    },
    Feature {
        name: "admission_control: failures",
        filters: &[("admission_control.v3.AdmissionControl", "success_criteria: {}")],
        endpoints: &[does(Does::Answer(500))],
        traffic: requests(400),
        prefixes: &["http.main.admission_control."],
        chance: 0.12,
        by_chance: &["statuses", "response flags", "details", "http.main.*", "cluster.up.*"],
        ..SHAPING
    },
    Feature {
        name: "adaptive_concurrency: within the limit",
        filters: &[(
            "adaptive_concurrency.v3.AdaptiveConcurrency",
            "gradient_controller_config: {concurrency_limit_params: {concurrency_update_interval: 0.1s}, min_rtt_calc_params: {interval: 600s}}",
        )],
        traffic: requests(10),
        prefixes: &["http.main.adaptive_concurrency."],
        ..SHAPING
    },
    Feature {
        name: "custom_response: a reply instead of a 503",
        filters: &[(
            "custom_response.v3.CustomResponse",
            "custom_response_matcher: {matcher_list: {matchers: [{predicate: {single_predicate: {input: {name: i, typed_config: {\"@type\": type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput}}, value_match: {exact: 5xx}}}, on_match: {action: {name: a, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy, status_code: 480, body: {inline_string: sorry}}}}}]}}",
        )],
        endpoints: &[does(Does::Recover(3, 503))],
        traffic: requests(4),
        ..SHAPING
    },
    Feature {
        name: "custom_response: another request instead of a 404",
        filters: &[(
            "custom_response.v3.CustomResponse",
            "custom_response_matcher: {matcher_list: {matchers: [{predicate: {single_predicate: {input: {name: i, typed_config: {\"@type\": type.googleapis.com/envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput}}, value_match: {exact: \"404\"}}}, on_match: {action: {name: a, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.http.custom_response.redirect_policy.v3.RedirectPolicy, status_code: 203, uri: \"http://a/sorry\"}}}}]}}",
        )],
        endpoints: &[does(Does::Recover(1, 404))],
        traffic: requests(3),
        differs: &[
            ("cluster.up.upstream_cx_active", REUSED),
            ("cluster.up.upstream_cx_http1_total", REUSED),
            ("cluster.up.upstream_cx_total", REUSED),
            ("cluster.up.upstream_rq_pending_total", REUSED),
        ],
        ..SHAPING
    },
];

/// Why fewer connections are opened.
const REUSED: &str = "the connection of the answer that is replaced serves the next request";

/// Longer than what is not worth to be compressed.
const LONG: &str = "a text that is long enough, a text that is long enough, a text that is long enough";
