//! Balancers out of their configuration.

use std::time::Duration;

use millrace_config::{
    Cluster, HashFunction, HealthStatus, LbPolicy, LeastRequest, LoadStream, LocalityMode, Maglev,
    MetadataPlace, OverrideHostSource, PeakEwma, RingHash, SelectorFallback, SubsetFallback,
};

use crate::cluster::tests::cluster_of;

fn of(fields: &str) -> Cluster {
    cluster_of(fields).unwrap_or_else(|error| panic!("{fields}: {error}"))
}

/// A cluster with one typed policy.
fn typed(policy: &str) -> Cluster {
    of(&format!("load_balancing_policy: {}", list(policy)))
}

fn list(policy: &str) -> String {
    format!(
        "{{policies: [{{typed_extension_config: {{name: x, typed_config: {{'@type': \
         t/envoy.extensions.load_balancing_policies.{policy}}}}}}}]}}"
    )
}

#[test]
fn hashing_in_the_older_fields_and_typed() {
    let old = of("lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 9, maximum_ring_size: 10, \
                  hash_function: MURMUR_HASH_2}, common_lb_config: {consistent_hashing_lb_config: \
                  {hash_balance_factor: 150}}");
    let ring =
        RingHash { minimum_ring_size: 9, maximum_ring_size: 10, hash_function: HashFunction::MurmurHash2 };
    assert_eq!(old.lb_policy, LbPolicy::RingHash(ring));
    let hashing = &old.balancing.consistent_hashing;
    assert!(!hashing.use_hostname && hashing.balance_factor == 150 && hashing.hash_policies.is_empty());
    let new = typed(
        "ring_hash.v3.RingHash, hash_function: MURMUR_HASH_2, minimum_ring_size: 9, maximum_ring_size: 10, \
                     hash_balance_factor: 150",
    );
    assert_eq!((new.lb_policy, &new.balancing), (old.lb_policy, &old.balancing));
    // Names are hashed of STRICT_DNS only, but for the typed policies.
    let named = typed("ring_hash.v3.RingHash, use_hostname_for_hashing: true");
    assert!(named.balancing.consistent_hashing.use_hostname);
    let refused = "common_lb_config: {consistent_hashing_lb_config: {use_hostname_for_hashing: true}}";
    assert!(cluster_of(refused).unwrap_err().to_string().contains("cluster of type: 'envoy.cluster.static'"));
    assert_eq!(of("lb_policy: MAGLEV").lb_policy, LbPolicy::Maglev(Maglev { table_size: 65_537 }));
    let maglev = typed(
        "maglev.v3.Maglev, table_size: 1009, locality_weighted_lb_config: {}, \
                        consistent_hashing_lb_config: {hash_policy: [{header: {header_name: X-A}, terminal: true}]}",
    );
    assert_eq!(maglev.lb_policy, LbPolicy::Maglev(Maglev { table_size: 1009 }));
    assert_eq!(maglev.balancing.locality, LocalityMode::Weighted);
    assert!(maglev.balancing.consistent_hashing.hash_policies[0].terminal);
    // The configuration of another policy means nothing.
    let other =
        of("lb_policy: ROUND_ROBIN, ring_hash_lb_config: {minimum_ring_size: 10, maximum_ring_size: 5}");
    assert_eq!(other.lb_policy, LbPolicy::RoundRobin);
}

#[test]
fn slow_start_localities_and_selection() {
    let old = of(
        "round_robin_lb_config: {slow_start_config: {slow_start_window: 30s, aggression: {default_value: 2, \
                  runtime_key: k}, min_weight_percent: {value: 5}}}, common_lb_config: {locality_weighted_lb_config: {}}",
    );
    let slow = old.balancing.slow_start.unwrap();
    assert_eq!((slow.window, slow.aggression, slow.min_weight), (Duration::from_secs(30), 2.0, 0.05));
    assert_eq!(old.balancing.locality, LocalityMode::Weighted);
    let new = typed(
        "least_request.v3.LeastRequest, selection_method: FULL_SCAN, slow_start_config: {slow_start_window: 1s, \
                     aggression: {default_value: -1, runtime_key: k}}, locality_lb_config: {zone_aware_lb_config: \
                     {routing_enabled: {value: 30}, min_cluster_size: 2, fail_traffic_on_panic: true}}",
    );
    assert_eq!(
        new.lb_policy,
        LbPolicy::LeastRequest(LeastRequest { full_scan: true, ..LeastRequest::default() })
    );
    assert_eq!(new.balancing.slow_start.map(|slow| (slow.aggression, slow.min_weight)), Some((1.0, 0.1)));
    let LocalityMode::ZoneAware(zone) = new.balancing.locality else { panic!("zone aware") };
    assert_eq!((zone.routing_enabled, zone.min_cluster_size, zone.fail_traffic_on_panic), (30, 2, true));
    assert_eq!(
        of("least_request_lb_config: {slow_start_config: {}}, lb_policy: LEAST_REQUEST").balancing.slow_start,
        None
    );
    let panic = of("common_lb_config: {healthy_panic_threshold: {value: 33.6}}").panic_threshold;
    assert!((panic - 34.0).abs() < f64::EPSILON);
}

#[test]
fn the_first_known_policy_is_taken() {
    let policies = |second: &str| {
        format!(
            "load_balancing_policy: {{policies: [{{typed_extension_config: {{name: own, typed_config: {{'@type': \
             t/xds.type.v3.TypedStruct, type_url: t/example.Custom}}}}}}, {{typed_extension_config: {{name: b, typed_config: \
             {{'@type': t/envoy.extensions.load_balancing_policies.{second}}}}}}}]}}"
        )
    };
    assert_eq!(of(&policies("random.v3.Random")).lb_policy, LbPolicy::Random);
    let none = cluster_of(&policies("pick_first.v3.PickFirst")).unwrap_err();
    assert!(none.reason.contains("names from [own, b]"), "{none}");
}

#[test]
fn subsets() {
    let old = of(
        "lb_subset_config: {fallback_policy: DEFAULT_SUBSET, default_subset: {b: 1, a: x}, subset_selectors: \
                  [{keys: [v, s, s], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [s]}, {keys: [v], single_host_per_subset: true}], \
                  list_as_any: true, panic_mode_any: true, metadata_fallback_policy: FALLBACK_LIST}",
    );
    let subset = old.balancing.subset.unwrap();
    assert_eq!(subset.fallback, SubsetFallback::DefaultSubset);
    let pairs: Vec<_> = subset.default_subset.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(pairs, [("a", "\"x\""), ("b", "1")]);
    assert_eq!(subset.selectors[0].keys, ["s".into(), "v".into()]);
    assert_eq!(subset.selectors[0].fallback, SelectorFallback::KeysSubset(vec!["s".into()]));
    assert!(
        subset.selectors[1].single_host
            && subset.list_as_any
            && subset.panic_mode_any
            && subset.fallback_list
    );
    assert!(of("lb_subset_config: {fallback_policy: ANY_ENDPOINT}").balancing.subset.is_none());
    let new = typed(&format!(
        "subset.v3.Subset, allow_redundant_keys: true, subset_selectors: [{{keys: [v]}}], subset_lb_policy: {}",
        list("maglev.v3.Maglev")
    ));
    assert!(matches!(new.lb_policy, LbPolicy::Maglev(_)));
    assert!(new.balancing.subset.unwrap().allow_redundant_keys);
}

#[test]
fn preferred_endpoints() {
    let cluster = typed(&format!(
        "override_host.v3.OverrideHost, override_host_sources: [{{header: X-Host}}, {{metadata: {{key: k, path: [{{key: a}}]}}}}], \
         selected_host_key: {{key: s, path: [{{key: b}}, {{key: c}}]}}, fallback_policy: {}",
        list("round_robin.v3.RoundRobin")
    ));
    let place = |namespace: &str, path: &[&str]| MetadataPlace {
        namespace: namespace.into(),
        path: path.iter().map(|key| (*key).into()).collect(),
    };
    assert_eq!(cluster.lb_policy, LbPolicy::RoundRobin);
    let sources =
        [OverrideHostSource::Header((*b"x-host").into()), OverrideHostSource::Metadata(place("k", &["a"]))];
    assert_eq!(*cluster.balancing.override_host, sources);
    assert_eq!(cluster.balancing.selected_host.as_deref(), Some(&place("s", &["b", "c"])));
    let statuses =
        of("common_lb_config: {override_host_status: {statuses: [DRAINING]}}").balancing.override_host_status;
    assert!(statuses.contains(HealthStatus::Draining) && !statuses.contains(HealthStatus::Healthy));
    assert!(of("").balancing.override_host_status.contains(HealthStatus::Degraded));
}

#[test]
fn metadata_of_endpoints() {
    let cluster = of(
        "load_assignment: {cluster_name: c, endpoints: {lb_endpoints: [{endpoint: {address: {socket_address: \
                      {address: 1.2.3.4, port_value: 1}}}, metadata: {filter_metadata: {envoy.lb: {v: [1, x], hash_key: k, a: true}}}}]}}",
    );
    let metadata = cluster.localities[0].endpoints[0].lb_metadata.as_deref().unwrap();
    assert_eq!(metadata.hash_key.as_deref(), Some("k"));
    assert_eq!(metadata.get("a").map(|(value, list)| (&**value, list)), Some(("true", None)));
    let elements = metadata.get("v").and_then(|(_, list)| list).unwrap();
    assert_eq!(elements, ["1".into(), "\"x\"".into()]);
}

#[test]
fn peak_ewma_with_linkerds_defaults() {
    let of = |fields: &str| typed(&format!("peak_ewma.v3alpha.PeakEwma{fields}")).lb_policy;
    let default =
        PeakEwma { decay: Duration::from_secs(10), default_rtt: Duration::from_millis(30), penalty: None };
    assert_eq!(of(""), LbPolicy::PeakEwma(default));
    let own =
        PeakEwma { decay: Duration::from_secs(2), default_rtt: Duration::from_millis(5), penalty: Some(1e6) };
    let fields = ", decay_time: 2s, default_rtt: 0.005s, penalty_value: 1000000, aggregation_interval: 1s, \
                  max_samples_per_host: 10";
    assert_eq!(of(fields), LbPolicy::PeakEwma(own));
    let LbPolicy::PeakEwma(shortest) = of(", decay_time: 0s") else { panic!("peak-EWMA") };
    assert_eq!(shortest.decay, Duration::from_millis(1));
}

#[test]
fn zones_may_be_forced_and_weighed() {
    let zone = |fields: &str| {
        let policy = format!("random.v3.Random, locality_lb_config: {{zone_aware_lb_config: {{{fields}}}}}");
        match typed(&policy).balancing.locality {
            LocalityMode::ZoneAware(zone) => (zone.force_local, zone.by_weight),
            LocalityMode::Weighted => panic!("zone aware"),
        }
    };
    assert_eq!(zone(""), (None, false));
    assert_eq!(zone("force_locality_direct_routing: true"), (Some(1), false));
    let both = "force_locality_direct_routing: true, force_local_zone: {min_size: 3}";
    assert_eq!(zone(both), (Some(3), false));
    assert_eq!(zone("force_local_zone: {}, locality_basis: HEALTHY_HOSTS_WEIGHT"), (Some(1), true));
}

#[test]
fn streams_of_load_reports() {
    let streams = |fields: &str| {
        let kind = "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin";
        typed(&format!("{kind}, {fields}")).balancing.load_stream
    };
    let config = "oob_reporting_config: {port_value: 9001, authority: orca.test, \
                  transport_socket_match_criteria: {a: b}}";
    for off in [config, "enable_oob_load_report: false", "oob_reporting_period: 1s"] {
        assert_eq!(streams(off), None, "{off}");
    }
    let plain =
        LoadStream { period: Duration::from_secs(10), port: 0, authority: "".into(), transport_match: None };
    for period in ["", ", oob_reporting_period: 0s", ", oob_reporting_period: 0.0005s"] {
        let found = streams(&format!("enable_oob_load_report: true{period}"));
        assert_eq!(found.as_deref(), Some(&plain), "{period}");
    }
    let all = streams(&format!("enable_oob_load_report: true, oob_reporting_period: 1.5s, {config}"));
    let expected = LoadStream {
        period: Duration::from_millis(1500),
        port: 9001,
        authority: "orca.test".into(),
        transport_match: Some(vec![("a".into(), "\"b\"".into())].into()),
    };
    assert_eq!(all.as_deref(), Some(&expected));
    for (bad, path) in [
        ("port_value: 65536", "oob_reporting_config.port_value"),
        ("authority: \"a\\nb\"", "oob_reporting_config.authority"),
    ] {
        let kind = "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin";
        let policy = list(&format!("{kind}, oob_reporting_config: {{{bad}}}"));
        let error = cluster_of(&format!("load_balancing_policy: {policy}")).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");
    }
}
