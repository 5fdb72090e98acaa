//! What becomes of an overload manager, and what is refused in which words: all measured on Envoy 1.40.

use millrace_config::{ActionKind, MonitorKind, ScaledTimer, TimerMinimum, TriggerKind};
use millrace_observe::stats::Registry;
use millrace_proto::{LoadOptions, bootstrap_from_yaml};

use crate::context::{Context, Overrides};
use crate::error::Rejection;
use crate::{Compiled, bootstrap};

const FILE: &str = "{name: r, typed_config: {'@type': t/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig, filename: /tmp/x}}";
const TIMERS: &str = "typed_config: {'@type': t/envoy.config.overload.v3.ScaleTimersOverloadActionConfig, timer_scale_factors: [{timer: HTTP_DOWNSTREAM_CONNECTION_IDLE, min_timeout: 2s}]}";
const SHRINK: &str = "typed_config: {'@type': t/envoy.config.overload.v3.ShrinkHeapConfig}";

fn compile(manager: &str) -> Result<Compiled, Rejection> {
    let text = format!("{{overload_manager: {{{manager}}}}}");
    let parsed = bootstrap_from_yaml(&text, &LoadOptions::default()).unwrap();
    bootstrap(&parsed.bytes, &mut Context::new(Registry::new(), Overrides::default()))
}

fn action(name: &str, more: &str) -> String {
    format!("{{name: {name}, triggers: [{{name: r, threshold: {{value: 0.9}}}}], {more}}}")
}

fn with_actions(actions: &[String]) -> String {
    format!("resource_monitors: [{FILE}], actions: [{}]", actions.join(", "))
}

fn monitor(kind: &str) -> String {
    format!(
        "resource_monitors: [{{name: m, typed_config: {{'@type': t/envoy.extensions.resource_monitors.{kind}}}}}]"
    )
}

#[test]
fn a_whole_manager() {
    let text = format!(
        "refresh_interval: 0.25s, buffer_factory_config: {{minimum_account_to_track_power_of_two: 20}}, \
         resource_monitors: [{FILE}, {{name: h, typed_config: {{'@type': t/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 7}}}}, \
         {{name: c, typed_config: {{'@type': t/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 9}}}}], \
         actions: [{}, {}, {}, {{name: envoy.overload_actions.reset_high_memory_stream, triggers: [{{name: h, scaled: {{scaling_threshold: 0.5, saturation_threshold: 0.9}}}}]}}], \
         loadshed_points: [{}, {}]",
        action("envoy.overload_actions.stop_accepting_requests", ""),
        action("mine", TIMERS),
        action("envoy.overload_actions.shrink_heap", ""),
        action("envoy.load_shed_points.tcp_listener_accept", ""),
        action("nobodys", ""),
    );
    let compiled = compile(&text).unwrap();
    let manager = compiled.snapshot.overload.unwrap();
    assert_eq!((manager.refresh_interval.as_millis(), manager.account_power), (250, Some(20)));
    assert_eq!(manager.connections_max(), Some(9));
    assert_eq!(&*manager.monitors[2].name, "envoy.resource_monitors.global_downstream_max_connections");
    assert_eq!(manager.monitors[1].kind, MonitorKind::FixedHeap { max_bytes: 7, runtime_key: None });
    let timers =
        vec![(ScaledTimer::ConnectionIdle, TimerMinimum::Absolute(std::time::Duration::from_secs(2)))];
    assert_eq!(manager.actions[1].kind, ActionKind::ReduceTimeouts(timers));
    let scaled = &manager.actions[3].triggers[0];
    assert_eq!((scaled.monitor, scaled.kind), (1, TriggerKind::Scaled { scaling: 0.5, saturation: 0.9 }));
    assert!(manager.points[0].kind.is_some() && manager.points[1].kind.is_none());
    assert_eq!(compiled.unsupported.len(), 1, "{:?}", compiled.unsupported);
}

#[test]
fn what_envoy_refuses_is_refused_in_its_words() {
    let name = |short: &str| format!("envoy.overload_actions.{short}");
    let shrink = || action(&name("shrink_heap"), "");
    let twice = |of: &str| {
        format!("{{name: {of}, triggers: [{{name: r, threshold: {{}}}}, {{name: r, threshold: {{}}}}]}}")
    };
    let scaled = "{name: envoy.overload_actions.shrink_heap, triggers: [{name: r, scaled: {scaling_threshold: 0.5, saturation_threshold: 0.5}}]}";
    let points = |points: &str| format!("resource_monitors: [{FILE}], loadshed_points: [{points}]");
    let cases: Vec<(String, &str)> = vec![
        (
            with_actions(&[action(&name("nope"), "")]),
            "Unknown Overload Manager Action envoy.overload_actions.nope",
        ),
        (with_actions(&[action("mine", "")]), "Unknown Overload Manager Action mine"),
        (with_actions(&[action("mine", SHRINK)]), "Unknown Overload Manager Action mine"),
        (with_actions(&[action(&name("mine"), TIMERS)]), "uses reserved prefix \"envoy.overload_actions.\""),
        (
            with_actions(&[action("mine", TIMERS), action(&name("reduce_timeouts"), TIMERS)]),
            "Timer type is configured by both overload actions \"mine\" and \"envoy.overload_actions.reduce_timeouts\"",
        ),
        (with_actions(&[shrink(), shrink()]), "Duplicate overload action envoy.overload_actions.shrink_heap"),
        (
            with_actions(&[twice("envoy.overload_actions.shrink_heap")]),
            "Duplicate trigger resource for overload action envoy.overload_actions.shrink_heap",
        ),
        (with_actions(&[scaled.to_owned()]), "scaling_threshold must be less than saturation_threshold"),
        (with_actions(&[action(&name("reduce_timeouts"), "")]), "requires typed_config"),
        (
            with_actions(&[action(&name("reduce_timeouts"), SHRINK)]),
            "typed_config resolves to envoy.config.overload.v3.ShrinkHeapConfig",
        ),
        (
            with_actions(&[action(&name("stop_accepting_requests"), SHRINK)]),
            "unexpected value for the typed_config field",
        ),
        (with_actions(&[action(&name("reset_high_memory_stream"), "")]), "requires buffer_factory_config."),
        (points(&format!("{0}, {0}", action("p", ""))), "Duplicate loadshed point p"),
        (points(&twice("p")), "Duplicate trigger resource for LoadShedPoint p"),
        (
            points("{name: p, triggers: [{name: q, threshold: {}}]}"),
            "Unknown trigger resource q for loadshed point p",
        ),
        (format!("resource_monitors: [{FILE}, {FILE}]"), "Duplicate resource monitor r"),
        (
            "resource_monitors: [{name: foo}]".into(),
            "Didn't find a registered implementation for 'foo' with type URL: ''",
        ),
        (monitor("fixed_heap.v3.FixedHeapConfig"), "fixed_heap: max heap size must be greater than 0"),
        (
            monitor(
                "fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 5, max_heap_size_bytes_runtime: {default_value: 3, runtime_key: k}",
            ),
            "fixed_heap: exactly one of",
        ),
        (
            monitor("injected_resource.v3.InjectedResourceConfig, filename: /nonexistent/x"),
            "unable to add filesystem watch",
        ),
        (format!("refresh_interval: -1s, resource_monitors: [{FILE}]"), "Expected positive duration"),
    ];
    for (text, why) in cases {
        let refused = compile(&text).expect_err(&text);
        assert!(refused.path.starts_with("overload_manager"), "{refused}");
        assert!(refused.reason.contains(why), "{text}: {refused}");
    }
    let both = format!(
        "resource_monitors: [{FILE}], actions: [{}], loadshed_points: [{}]",
        shrink(),
        action("envoy.overload_actions.shrink_heap", "")
    );
    assert!(
        compile(&both).unwrap_err().reason.contains("conflicts with an overload action of the same name")
    );
    let connections = monitor(
        "downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 3",
    );
    let of = "triggers: [{name: envoy.resource_monitors.global_downstream_max_connections, threshold: {value: 0.5}}]";
    let on_action = format!("{connections}, actions: [{{name: envoy.overload_actions.shrink_heap, {of}}}]");
    assert!(compile(&on_action).is_ok());
    let on_point = format!("{connections}, loadshed_points: [{{name: p, {of}}}]");
    assert!(compile(&on_point).unwrap_err().reason.contains("Unknown trigger resource"));
}
