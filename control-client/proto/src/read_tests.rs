//! Vectors of the JSON mapping: what Envoy 1.40 accepts and refuses, read and printed.

use serde_json::{Value, json};

use crate::{BOOTSTRAP, LoadOptions, bootstrap_from_json, message_to_json};

fn read(value: &Value) -> Result<Value, String> {
    let parsed = bootstrap_from_json(value, &LoadOptions::default()).map_err(|error| error.to_string())?;
    Ok(message_to_json(BOOTSTRAP, &parsed.bytes).unwrap())
}

fn cluster(fields: &Value) -> Value {
    json!({"static_resources": {"clusters": [fields]}})
}

#[test]
fn names_lists_nulls_and_wrappers() {
    for (written, printed) in [
        (json!({"nodeContextParams": ["a"]}), json!({"node_context_params": ["a"]})),
        (json!({"node_context_params": "a"}), json!({"node_context_params": ["a"]})),
        (
            json!({"node_context_params": [["a"], [["b"]], null]}),
            json!({"node_context_params": ["a", "b", ""]}),
        ),
        (json!({"node": null, "flags_path": ""}), json!({})),
        (json!({"node": {}}), json!({"node": {}})),
        (cluster(&json!({"name": "x"})), cluster(&json!({"name": "x"}))),
        (json!({"static_resources": {"clusters": {"name": "x"}}}), cluster(&json!({"name": "x"}))),
        (json!({"static_resources": {"clusters": [null]}}), cluster(&json!({}))),
        (
            cluster(&json!({"wait_for_warm_on_init": "false"})),
            cluster(&json!({"wait_for_warm_on_init": false})),
        ),
        (
            cluster(&json!({"wait_for_warm_on_init": {"value": true}})),
            cluster(&json!({"wait_for_warm_on_init": true})),
        ),
        (json!({"stats_server_version_override": 7}), json!({"stats_server_version_override": "7"})),
        (
            json!({"stats_server_version_override": u64::MAX.to_string()}),
            json!({"stats_server_version_override": u64::MAX.to_string()}),
        ),
    ] {
        assert_eq!(read(&written), Ok(printed), "{written}");
    }
}

#[test]
fn enums_durations_and_numbers() {
    for (written, printed) in [
        (json!({"lb_policy": "least_request"}), json!({"lb_policy": "LEAST_REQUEST"})),
        (json!({"lb_policy": 3}), json!({"lb_policy": "RANDOM"})),
        (json!({"lb_policy": "3"}), json!({"lb_policy": "RANDOM"})),
        (json!({"lb_policy": 99}), json!({"lb_policy": 99})),
        (json!({"type": "STATIC"}), json!({"type": "STATIC"})),
        (json!({"connect_timeout": "0.25s"}), json!({"connect_timeout": "0.250s"})),
        (
            json!({"connect_timeout": {"seconds": "3", "nanos": 1}}),
            json!({"connect_timeout": "3.000000001s"}),
        ),
        (
            json!({"per_connection_buffer_limit_bytes": "1e3"}),
            json!({"per_connection_buffer_limit_bytes": 1000}),
        ),
        (
            json!({"common_lb_config": {"healthy_panic_threshold": {"value": "0.5"}}}),
            json!({"common_lb_config": {"healthy_panic_threshold": {"value": 0.5}}}),
        ),
    ] {
        assert_eq!(read(&cluster(&written)), Ok(cluster(&printed)), "{written}");
    }
}

#[test]
fn anys_structs_and_maps() {
    let node = json!({"@type": "type.googleapis.com/envoy.config.core.v3.Node", "id": "x", "metadata": {"a": [1, "b", null, {"c": true}]}});
    let nested = json!({"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", "name": "n", "typed_config": node});
    let special = json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"});
    let typed = json!({"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "t/u", "value": {"k": {"v": 1.5}}});
    for any in [node, nested, special, typed, json!({})] {
        let tree = json!({"bootstrap_extensions": [{"name": "e", "typed_config": any}]});
        assert_eq!(read(&tree), Ok(tree.clone()));
    }
    let map = json!({"certificate_provider_instances": {"b": {"name": "x"}, "a": {"name": "y"}}});
    assert_eq!(read(&map), Ok(map.clone()));
    let bytes = json!({"@type": "t/envoy.config.core.v3.DataSource", "inline_bytes": "_-8"});
    let tree = json!({"bootstrap_extensions": {"typed_config": bytes}});
    assert_eq!(read(&tree).unwrap()["bootstrap_extensions"][0]["typed_config"]["inline_bytes"], "/+8=");
}

#[test]
fn what_does_not_fit_is_refused_with_its_path() {
    for (written, error) in [
        (json!([]), "expected an object, found a list"),
        (json!({"nope": 1}), "message envoy.config.bootstrap.v3.Bootstrap: no such field: 'nope'"),
        (
            json!({"NodeContextParams": []}),
            "message envoy.config.bootstrap.v3.Bootstrap: no such field: 'NodeContextParams'",
        ),
        (json!({"node": {"id": 1}}), "node.id: expected a string, found a number"),
        (json!({"node": {"locality": [{}]}}), "node.locality: expected an object, found a list"),
        (json!({"node": {"metadata": []}}), "node.metadata: expected an object, found a list"),
        (
            cluster(&json!({"lb_policy": "bogus"})),
            "static_resources.clusters[0].lb_policy: unknown enum value: 'bogus'",
        ),
        (
            cluster(&json!({"connect_timeout": 1})),
            "static_resources.clusters[0].connect_timeout: expected a string, found a number",
        ),
        (
            cluster(&json!({"connect_timeout": "1ms"})),
            "static_resources.clusters[0].connect_timeout: duration must end with a single 's'",
        ),
        (
            cluster(&json!({"per_connection_buffer_limit_bytes": -1})),
            "static_resources.clusters[0].per_connection_buffer_limit_bytes.value: integer out of range",
        ),
        (
            cluster(&json!({"type": "STATIC", "cluster_type": {}})),
            "static_resources.clusters[0].cluster_type: 'cluster_type' has already been set (either directly or as part of a oneof)",
        ),
        (
            json!({"bootstrap_extensions": {"typed_config": {"id": 1}}}),
            "bootstrap_extensions.typed_config: missing @type in Any",
        ),
        (
            json!({"bootstrap_extensions": {"typed_config": {"@type": "t/no.such.Type"}}}),
            "bootstrap_extensions.typed_config: could not find @type 't/no.such.Type'",
        ),
        (
            json!({"bootstrap_extensions": {"typed_config": {"@type": "envoy.config.core.v3.Node"}}}),
            "bootstrap_extensions.typed_config: @type must contain at least one / and a nonempty host; got: envoy.config.core.v3.Node",
        ),
    ] {
        assert_eq!(read(&written), Err(error.to_owned()), "{written}");
    }
}

#[test]
fn unknown_fields_can_be_allowed() {
    let tree = json!({"nope": {"a": 1}, "node": {"id": "x", "nor": 1}, "static_resources": {"clusters": [{"lb_policy": "NEW"}]}});
    let parsed = bootstrap_from_json(&tree, &LoadOptions { allow_unknown: true }).unwrap();
    assert_eq!(parsed.unknown.len(), 3);
    assert_eq!(parsed.unknown[1], "node: message envoy.config.core.v3.Node: no such field: 'nor'");
    assert_eq!(message_to_json(BOOTSTRAP, &parsed.bytes).unwrap()["node"]["id"], "x");
}

#[test]
fn an_any_of_an_unknown_type_keeps_its_bytes() {
    let printed = crate::to_json("type.googleapis.com/stats.PluginConfig", b"\x08\x01").unwrap();
    assert_eq!(printed, json!({"@type": "type.googleapis.com/stats.PluginConfig", "value": "CAE="}));
}
