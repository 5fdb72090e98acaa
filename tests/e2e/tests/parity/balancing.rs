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
        by_chance: &["cluster.up.upstream_cx*"],
        ..PLAIN_BALANCING
    },
];
