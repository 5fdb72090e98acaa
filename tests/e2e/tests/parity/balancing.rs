//! Which endpoint gets a request.

use super::{Does, Endpoint, Feature, OK, PLAIN, Traffic, does, requests};

const AREA: &str = "balancing";
const HASHED: Traffic = Traffic { fields: &[("x-key", "key-@N@")], ..requests(300) };
const BY_HEADER: &str = ", hash_policy: [{header: {header_name: x-key}}]";

const fn weighted(fields: &'static str) -> Endpoint {
    Endpoint { fields, ..OK }
}

const fn in_locality(locality: usize, fields: &'static str) -> Endpoint {
    Endpoint { locality, fields, ..OK }
}

const WEIGHTS: &[Endpoint] = &[
    weighted(", load_balancing_weight: 1"),
    weighted(", load_balancing_weight: 2"),
    weighted(", load_balancing_weight: 5"),
];
/// Keys of their own, so that rings and tables are the same from run to run.
const KEYED: &[Endpoint] = &[
    weighted(", load_balancing_weight: 1, metadata: {filter_metadata: {envoy.lb: {hash_key: first}}}"),
    weighted(", load_balancing_weight: 2, metadata: {filter_metadata: {envoy.lb: {hash_key: second}}}"),
    weighted(", load_balancing_weight: 5, metadata: {filter_metadata: {envoy.lb: {hash_key: third}}}"),
];
/// The same, without weights.
const EVEN: &[Endpoint] = &[
    weighted(", metadata: {filter_metadata: {envoy.lb: {hash_key: first}}}"),
    weighted(", metadata: {filter_metadata: {envoy.lb: {hash_key: second}}}"),
    weighted(", metadata: {filter_metadata: {envoy.lb: {hash_key: third}}}"),
];
const TAGGED: &[Endpoint] = &[
    weighted(", metadata: {filter_metadata: {envoy.lb: {v: 1, s: x}}}"),
    weighted(", metadata: {filter_metadata: {envoy.lb: {v: 2, s: x}}}"),
    weighted(", metadata: {filter_metadata: {envoy.lb: {v: [3, 4]}}}"),
];
const WANTS_9: &str = ", metadata_match: {filter_metadata: {envoy.lb: {v: 9}}}";
/// Envoy's main thread has balancers, too.
const SUBSETS: &[(&str, &str)] = &[
    ("cluster.up.lb_subsets_active", "Envoy counts its main thread, too"),
    ("cluster.up.lb_subsets_created", "Envoy counts its main thread, too"),
];
const SUBSET: Feature = Feature { endpoints: TAGGED, differs: SUBSETS, ..PLAIN_BALANCING };
/// The proxy is in the first of two localities, and there is one in the other.
const TWO_ZONES: &str =
    "node: {id: me, cluster: mine, locality: {zone: z0}}\ncluster_manager: {local_cluster_name: other}";
const OWN: &str = "load_assignment: {cluster_name: other, endpoints: [\
    {locality: {zone: z0}, lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}, \
    {locality: {zone: z1}, lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 2}}}}]}]}";
const ZONED: Feature = Feature {
    endpoints: &[OK, in_locality(1, ""), in_locality(1, ""), in_locality(1, "")],
    localities: &["", ""],
    clusters: OWN,
    top: TWO_ZONES,
    chance: 0.15,
    by_chance: &["cluster.up.lb_zone_*", "cluster.up.upstream_cx*", "cluster.up.zone.*"],
    differs: &[(
        "cluster.up.lb_recalculate_zone_structures",
        "several changes before a request cost one calculation",
    )],
    ..PLAIN_BALANCING
};
const BY_NAME_RING: &str = "load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash, \
    consistent_hashing_lb_config: {use_hostname_for_hashing: true}}}}]}";
const BY_NAME_MAGLEV: &str = "load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglev, table_size: 1009, \
    consistent_hashing_lb_config: {use_hostname_for_hashing: true}}}}]}";
/// The first stream comes at a random time within the period.
const LOAD_STREAMS: &str = "load_balancing_policy: {policies: [{typed_extension_config: {name: p, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin, \
    enable_oob_load_report: true, oob_reporting_period: 1000000s}}}]}";
const ILL: &str = ", health_status: UNHEALTHY";
const PLAIN_BALANCING: Feature = Feature { area: AREA, traffic: requests(300), ..PLAIN };

pub(super) const FEATURES: &[Feature] = &[
    Feature { name: "round_robin", ..PLAIN_BALANCING },
    Feature { name: "round_robin, weights 1, 2, 5", endpoints: WEIGHTS, chance: 0.02, ..PLAIN_BALANCING },
    Feature { name: "random", cluster: "lb_policy: RANDOM", chance: 0.25, ..PLAIN_BALANCING },
    Feature { name: "least_request", cluster: "lb_policy: LEAST_REQUEST", chance: 0.25, ..PLAIN_BALANCING },
    Feature {
        name: "least_request, weights 1, 2, 5",
        cluster: "lb_policy: LEAST_REQUEST",
        endpoints: WEIGHTS,
        chance: 0.02,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "least_request, one slow of three, 60 at once",
        cluster: "lb_policy: LEAST_REQUEST",
        endpoints: &[does(Does::Late(400)), OK, OK],
        traffic: super::burst(60),
        chance: 0.4,
        by_chance: &["cluster.up.upstream_rq_pending_total", "cluster.up.upstream_cx*"],
        ..PLAIN_BALANCING
    },
    Feature {
        name: "ring_hash by header, xxHash, weights 1, 2, 5",
        cluster: "lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 1024}",
        endpoints: KEYED,
        route: BY_HEADER,
        traffic: HASHED,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "ring_hash by header, Murmur, weights 1, 2, 5",
        cluster: "lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 1024, hash_function: MURMUR_HASH_2}",
        endpoints: KEYED,
        route: BY_HEADER,
        traffic: HASHED,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "maglev by header, weights 1, 2, 5",
        cluster: "lb_policy: MAGLEV\nmaglev_lb_config: {table_size: 65537}",
        endpoints: KEYED,
        route: BY_HEADER,
        traffic: HASHED,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "priorities, 1 of 3 healthy in the first",
        endpoints: &[OK, in_locality(0, ILL), in_locality(0, ILL), in_locality(1, ""), in_locality(1, "")],
        localities: &["", "priority: 1,"],
        chance: 0.2,
        by_chance: &["cluster.up.upstream_cx*"],
        ..PLAIN_BALANCING
    },
    Feature {
        name: "panic, 1 of 4 healthy",
        endpoints: &[OK, in_locality(0, ILL), in_locality(0, ILL), in_locality(0, ILL)],
        ..PLAIN_BALANCING
    },
    Feature {
        name: "no panic at 0 %, nobody healthy",
        cluster: "common_lb_config: {healthy_panic_threshold: {value: 0}}",
        endpoints: &[in_locality(0, ILL), in_locality(0, ILL)],
        traffic: requests(4),
        ..PLAIN_BALANCING
    },
    Feature {
        name: "degraded endpoints take what healthy ones cannot",
        endpoints: &[
            OK,
            in_locality(0, ", health_status: DEGRADED"),
            in_locality(0, ILL),
            in_locality(0, ILL),
        ],
        chance: 0.2,
        by_chance: &["cluster.up.upstream_cx*"],
        ..PLAIN_BALANCING
    },
    Feature {
        name: "locality weights 1 and 3",
        cluster: "common_lb_config: {locality_weighted_lb_config: {}}",
        endpoints: &[OK, in_locality(1, ""), in_locality(1, "")],
        localities: &["load_balancing_weight: 1,", "load_balancing_weight: 3,"],
        chance: 0.02,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "subset by metadata_match",
        cluster: "lb_subset_config: {fallback_policy: ANY_ENDPOINT, subset_selectors: [{keys: [v]}]}",
        endpoints: &[
            in_locality(0, ", metadata: {filter_metadata: {envoy.lb: {v: 1}}}"),
            in_locality(0, ", metadata: {filter_metadata: {envoy.lb: {v: 2}}}"),
            OK,
        ],
        route: ", metadata_match: {filter_metadata: {envoy.lb: {v: 2}}}",
        differs: &[
            ("cluster.up.lb_subsets_active", "Envoy counts its main thread, too"),
            ("cluster.up.lb_subsets_created", "Envoy counts its main thread, too"),
        ],
        ..PLAIN_BALANCING
    },
    Feature {
        name: "weights 1000 and 1",
        endpoints: &[weighted(", load_balancing_weight: 1000"), weighted(", load_balancing_weight: 1")],
        chance: 0.02,
        by_chance: &["cluster.up.upstream_cx*", "cluster.up.upstream_rq_pending_total"],
        ..PLAIN_BALANCING
    },
    Feature {
        name: "ring_hash by host name",
        cluster: BY_NAME_RING,
        route: BY_HEADER,
        traffic: HASHED,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "maglev by host name, table of 1009",
        cluster: BY_NAME_MAGLEV,
        route: BY_HEADER,
        traffic: HASHED,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "ring_hash of 6 to 7 positions",
        cluster: "lb_policy: RING_HASH\nring_hash_lb_config: {minimum_ring_size: 6, maximum_ring_size: 7}",
        endpoints: EVEN,
        route: BY_HEADER,
        traffic: HASHED,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "maglev by a cookie that is made",
        cluster: "lb_policy: MAGLEV",
        endpoints: EVEN,
        route: ", hash_policy: [{cookie: {name: c, ttl: 10s}}]",
        traffic: requests(1),
        chance: 1.0,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "client_side_weighted_round_robin, streams of load reports that have not begun",
        cluster: LOAD_STREAMS,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "least_request with slow start",
        cluster: "lb_policy: LEAST_REQUEST\nleast_request_lb_config: {slow_start_config: {slow_start_window: 100s}}",
        chance: 0.2,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "round_robin with slow start, weights 1, 2, 5",
        cluster: "round_robin_lb_config: {slow_start_config: {slow_start_window: 100s}}",
        endpoints: WEIGHTS,
        chance: 0.05,
        ..PLAIN_BALANCING
    },
    Feature {
        name: "subsets, nobody matches, NO_FALLBACK",
        cluster: "lb_subset_config: {subset_selectors: [{keys: [v]}]}",
        route: WANTS_9,
        traffic: requests(4),
        ..SUBSET
    },
    Feature {
        name: "subsets, nobody matches, DEFAULT_SUBSET",
        cluster: "lb_subset_config: {fallback_policy: DEFAULT_SUBSET, default_subset: {s: x}, subset_selectors: [{keys: [v]}]}",
        route: WANTS_9,
        ..SUBSET
    },
    Feature {
        name: "subsets, empty default subset, panic_mode_any",
        cluster: "lb_subset_config: {fallback_policy: DEFAULT_SUBSET, default_subset: {s: none}, panic_mode_any: true, \
                  subset_selectors: [{keys: [v]}]}",
        route: WANTS_9,
        ..SUBSET
    },
    Feature {
        name: "subsets, KEYS_SUBSET of a selector",
        cluster: "lb_subset_config: {subset_selectors: [{keys: [s, v], fallback_policy: KEYS_SUBSET, \
                  fallback_keys_subset: [s]}, {keys: [s]}]}",
        route: ", metadata_match: {filter_metadata: {envoy.lb: {v: 9, s: x}}}",
        ..SUBSET
    },
    Feature {
        name: "subsets, list_as_any",
        cluster: "lb_subset_config: {list_as_any: true, subset_selectors: [{keys: [v]}]}",
        route: ", metadata_match: {filter_metadata: {envoy.lb: {v: 4}}}",
        ..SUBSET
    },
    Feature {
        name: "subsets, FALLBACK_LIST",
        cluster: "lb_subset_config: {metadata_fallback_policy: FALLBACK_LIST, subset_selectors: [{keys: [v]}]}",
        route: ", metadata_match: {filter_metadata: {envoy.lb: {fallback_list: [{v: 9}, {v: 2}]}}}",
        ..SUBSET
    },
    Feature {
        name: "subsets, locality_weight_aware and scale_locality_weight",
        cluster: "common_lb_config: {locality_weighted_lb_config: {}}\nlb_subset_config: {locality_weight_aware: true, \
                  scale_locality_weight: true, subset_selectors: [{keys: [v]}]}",
        endpoints: &[
            in_locality(0, ", metadata: {filter_metadata: {envoy.lb: {v: 2}}}"),
            in_locality(1, ", metadata: {filter_metadata: {envoy.lb: {v: 2}}}"),
            in_locality(1, ""),
        ],
        localities: &["load_balancing_weight: 2,", "load_balancing_weight: 12,"],
        route: ", metadata_match: {filter_metadata: {envoy.lb: {v: 2}}}",
        chance: 0.02,
        ..SUBSET
    },
    Feature {
        name: "zones, a quarter of the endpoints for half of the proxies",
        cluster: "common_lb_config: \
              {zone_aware_lb_config: {min_cluster_size: 1}}",
        ..ZONED
    },
    Feature { name: "zones, cluster smaller than min_cluster_size", ..ZONED },
    Feature {
        name: "zones, half of the requests",
        cluster: "common_lb_config: {zone_aware_lb_config: {min_cluster_size: 1, routing_enabled: {value: 50}}}",
        ..ZONED
    },
    Feature {
        name: "zones, fail_traffic_on_panic",
        cluster: "common_lb_config: {zone_aware_lb_config: {min_cluster_size: 1, fail_traffic_on_panic: true}}",
        endpoints: &[OK, in_locality(1, ILL), in_locality(1, ILL), in_locality(1, ILL)],
        traffic: requests(6),
        ..ZONED
    },
    Feature {
        name: "zones of least_request",
        cluster: "lb_policy: LEAST_REQUEST\ncommon_lb_config: {zone_aware_lb_config: {min_cluster_size: 1}}",
        ..ZONED
    },
    Feature {
        name: "zones of random",
        cluster: "lb_policy: RANDOM\ncommon_lb_config: {zone_aware_lb_config: {min_cluster_size: 1}}",
        ..ZONED
    },
    Feature {
        name: "overprovisioning factor 200",
        assignment: ", policy: {overprovisioning_factor: 200}",
        endpoints: &[OK, in_locality(0, ILL), in_locality(0, ILL), in_locality(1, "")],
        localities: &["", "priority: 1,"],
        chance: 0.2,
        by_chance: &["cluster.up.upstream_cx*"],
        ..PLAIN_BALANCING
    },
    Feature {
        name: "degraded endpoints in two priorities",
        endpoints: &[
            in_locality(0, ", health_status: DEGRADED"),
            in_locality(0, ILL),
            in_locality(1, ""),
            in_locality(1, ILL),
            in_locality(1, ILL),
            in_locality(1, ", health_status: DEGRADED"),
        ],
        localities: &["", "priority: 1,"],
        chance: 0.2,
        by_chance: &["cluster.up.upstream_cx*"],
        ..PLAIN_BALANCING
    },
];
