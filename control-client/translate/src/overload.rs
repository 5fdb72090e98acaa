//! `config.overload.v3.OverloadManager`. What is refused, and in which words, is Envoy 1.40's.

mod triggers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_config::{
    ActionKind, LoadShedPoint, MonitorKind, OverloadAction, OverloadManager, ResourceMonitor, ScaledTimer,
    ShedPoint, TimerMinimum,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::overload::v3 as pb;
use millrace_proto::pb::envoy::config::overload::v3::resource_monitor::ConfigType;
use millrace_proto::pb::envoy::config::overload::v3::scale_timers_overload_action_config::TimerType;
use millrace_proto::pb::envoy::config::overload::v3::scale_timers_overload_action_config::scale_timer::OverloadAdjust;
use millrace_proto::pb::envoy::extensions::resource_monitors as monitors;
use millrace_proto::pb::google::protobuf as wkt;

use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, value};
use triggers::{Known, Of, triggers};

const ACTIONS: &str = "envoy.overload_actions.";
const SCALE_TIMERS: &str = "envoy.config.overload.v3.ScaleTimersOverloadActionConfig";
const SHRINK_HEAP: &str = "envoy.config.overload.v3.ShrinkHeapConfig";
const CONNECTIONS: &str = "envoy.resource_monitors.global_downstream_max_connections";
/// A shorter `refresh_interval` is made that long.
const REFRESH_MIN: Duration = Duration::from_millis(1);

/// Translates a manager whose fields have been checked.
pub(crate) fn overload_manager(
    manager: &pb::OverloadManager,
    path: &Path,
    cx: &mut Context,
) -> Result<OverloadManager, Rejection> {
    let refresh_interval = match &manager.refresh_interval {
        Some(interval) => positive(interval, &path.join("refresh_interval"))?,
        None => Duration::from_secs(1),
    };
    let monitors = resource_monitors(manager, path, cx)?;
    let known = Known::of(&monitors);
    let factory = manager.buffer_factory_config.as_ref();
    let account_power =
        factory.map(|config| u8::try_from(config.minimum_account_to_track_power_of_two).unwrap_or(u8::MAX));
    let mut actions: Vec<OverloadAction> = Vec::with_capacity(manager.actions.len());
    for (i, action) in manager.actions.iter().enumerate() {
        let path = path.join("actions").at(i);
        let name: Arc<str> = action.name.as_str().into();
        let kind = action_kind(action, &path, cx)?;
        if actions.iter().any(|earlier| earlier.name == name) {
            let why = format!("Duplicate overload action {name}");
            return Err(Rejection::new(&path.join("name"), why));
        }
        if kind == ActionKind::ResetHighMemoryStream && account_power.is_none() {
            let why = format!("Overload action \"{name}\" requires buffer_factory_config.");
            return Err(Rejection::new(&path, why));
        }
        let scope = cx.scope(ScopeKind::OverloadAction, &name);
        let triggers = triggers(&action.triggers, &known, Of::Action(&name), &path.join("triggers"))?;
        actions.push(OverloadAction { name, kind, triggers, scope });
    }
    one_action_for_each_timer(&actions, path)?;
    let points = points(manager, &known, &actions, path, cx)?;
    Ok(OverloadManager {
        refresh_interval: refresh_interval.max(REFRESH_MIN),
        monitors,
        actions,
        points,
        account_power,
    })
}

fn positive(duration: &wkt::Duration, path: &Path) -> Result<Duration, Rejection> {
    match duration.seconds < 0 || duration.nanos < 0 {
        true => Err(Rejection::new(path, "Invalid duration: Expected positive duration")),
        false => Ok(value::duration(duration)),
    }
}

fn resource_monitors(
    manager: &pb::OverloadManager,
    path: &Path,
    cx: &Context,
) -> Result<Vec<ResourceMonitor>, Rejection> {
    let path = path.join("resource_monitors");
    let mut out: Vec<ResourceMonitor> = Vec::with_capacity(manager.resource_monitors.len());
    for (i, monitor) in manager.resource_monitors.iter().enumerate() {
        let path = path.at(i);
        let kind = monitor_kind(monitor, &path)?;
        // The bound on connections has one name, whatever it is called here.
        let name: Arc<str> = match kind {
            MonitorKind::DownstreamConnections { .. } => CONNECTIONS.into(),
            _ => monitor.name.as_str().into(),
        };
        if out.iter().any(|earlier| earlier.name == name) {
            let why = format!("Duplicate resource monitor {name}");
            return Err(Rejection::new(&path.join("name"), why));
        }
        let scope = cx.scope(ScopeKind::OverloadMonitor, &name);
        out.push(ResourceMonitor { name, kind, scope });
    }
    Ok(out)
}

fn monitor_kind(monitor: &pb::ResourceMonitor, path: &Path) -> Result<MonitorKind, Rejection> {
    let Some(ConfigType::TypedConfig(any)) = &monitor.config_type else {
        let why = format!("Didn't find a registered implementation for '{}' with type URL: ''", monitor.name);
        return Err(Rejection::new(path, why));
    };
    let inside = path.join("typed_config");
    Ok(match extension::type_of(any).as_str() {
        "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig" => {
            fixed_heap(&extension::open(any, &inside)?, &inside)?
        }
        "envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig" => {
            let config: monitors::cgroup_memory::v3::CgroupMemoryConfig = extension::open(any, &inside)?;
            MonitorKind::CgroupMemory { max_bytes: Some(config.max_memory_bytes).filter(|max| *max > 0) }
        }
        "envoy.extensions.resource_monitors.cpu_utilization.v3.CpuUtilizationConfig" => {
            let config: monitors::cpu_utilization::v3::CpuUtilizationConfig = extension::open(any, &inside)?;
            match config.mode {
                0 => MonitorKind::HostCpu,
                _ => MonitorKind::ContainerCpu,
            }
        }
        "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig" => {
            let config: monitors::injected_resource::v3::InjectedResourceConfig =
                extension::open(any, &inside)?;
            injected(&config.filename, &inside)?
        }
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig" => {
            let config: monitors::downstream_connections::v3::DownstreamConnectionsConfig =
                extension::open(any, &inside)?;
            let max = u64::try_from(config.max_active_downstream_connections).unwrap_or(0);
            MonitorKind::DownstreamConnections { max }
        }
        _ => return Err(extension::not_served("resource monitor", &monitor.name, Some(any), path)),
    })
}

fn fixed_heap(
    config: &monitors::fixed_heap::v3::FixedHeapConfig,
    path: &Path,
) -> Result<MonitorKind, Rejection> {
    let runtime = config.max_heap_size_bytes_runtime.as_ref();
    if runtime.is_some() && config.max_heap_size_bytes > 0 {
        let why = "fixed_heap: exactly one of max_heap_size_bytes or max_heap_size_bytes_runtime must be set";
        return Err(Rejection::new(path, why));
    }
    let max_bytes = runtime.map_or(config.max_heap_size_bytes, |runtime| runtime.default_value);
    if max_bytes == 0 {
        return Err(Rejection::new(path, "fixed_heap: max heap size must be greater than 0"));
    }
    let runtime_key = runtime.map(|runtime| runtime.runtime_key.as_str().into());
    Ok(MonitorKind::FixedHeap { max_bytes, runtime_key })
}

/// Envoy watches the directory of the file and refuses one that is not there.
fn injected(file: &str, path: &Path) -> Result<MonitorKind, Rejection> {
    let directory = std::path::Path::new(file).parent();
    let directory = directory.filter(|directory| !directory.as_os_str().is_empty());
    if directory.is_some_and(|directory| !directory.is_dir()) {
        let why = format!("unable to add filesystem watch for file {file}: No such file or directory");
        return Err(Rejection::new(&path.join("filename"), why));
    }
    Ok(MonitorKind::Injected { file: file.into() })
}

fn action_kind(action: &pb::OverloadAction, path: &Path, cx: &mut Context) -> Result<ActionKind, Rejection> {
    let name = &action.name;
    let simple = match name.strip_prefix(ACTIONS) {
        Some("stop_accepting_requests") => ActionKind::StopAcceptingRequests,
        Some("disable_http_keepalive") => ActionKind::DisableHttpKeepalive,
        Some("stop_accepting_connections") => ActionKind::StopAcceptingConnections,
        Some("reject_incoming_connections") => ActionKind::RejectIncomingConnections,
        Some("reset_high_memory_stream") => ActionKind::ResetHighMemoryStream,
        Some("close_idle_http_connections") => {
            cx.report(&path.join("name"), "only connections of HTTP/3 would be closed");
            ActionKind::CloseIdleHttpConnections
        }
        Some("shrink_heap") => return shrink_heap(action, path),
        Some("reduce_timeouts") => return reduce_timeouts(action, path, cx),
        Some(_) if configures_timers(action) => {
            let why = format!("Overload action name \"{name}\" uses reserved prefix \"{ACTIONS}\"");
            return Err(Rejection::new(&path.join("name"), why));
        }
        None if configures_timers(action) => return reduce_timeouts(action, path, cx),
        Some(_) | None => {
            return Err(Rejection::new(
                &path.join("name"),
                format!("Unknown Overload Manager Action {name}"),
            ));
        }
    };
    if action.typed_config.is_some() {
        let why = format!("Overload action \"{name}\" has an unexpected value for the typed_config field");
        return Err(Rejection::new(&path.join("typed_config"), why));
    }
    Ok(simple)
}

fn configures_timers(action: &pb::OverloadAction) -> bool {
    action.typed_config.as_ref().is_some_and(|any| extension::type_of(any) == SCALE_TIMERS)
}

/// The configuration of an action, which must be of this type.
fn typed(any: &wkt::Any, wanted: &str, path: &Path) -> Result<(), Rejection> {
    let found = extension::type_of(any);
    match found == wanted {
        true => Ok(()),
        false => Err(Rejection::new(path, format!("typed_config resolves to {found} instead of {wanted}"))),
    }
}

fn shrink_heap(action: &pb::OverloadAction, path: &Path) -> Result<ActionKind, Rejection> {
    let inside = path.join("typed_config");
    let config: pb::ShrinkHeapConfig = match &action.typed_config {
        Some(any) => {
            typed(any, SHRINK_HEAP, &inside)?;
            extension::open(any, &inside)?
        }
        None => pb::ShrinkHeapConfig::default(),
    };
    let interval = config.timer_interval.as_ref().map_or(Duration::from_secs(10), value::duration);
    Ok(ActionKind::ShrinkHeap { interval })
}

fn reduce_timeouts(
    action: &pb::OverloadAction,
    path: &Path,
    cx: &mut Context,
) -> Result<ActionKind, Rejection> {
    let inside = path.join("typed_config");
    let Some(any) = &action.typed_config else {
        let why = format!("Overload action \"{}\" requires typed_config", action.name);
        return Err(Rejection::new(path, why));
    };
    typed(any, SCALE_TIMERS, &inside)?;
    let config: pb::ScaleTimersOverloadActionConfig = extension::open(any, &inside)?;
    let mut out: Vec<(ScaledTimer, TimerMinimum)> = Vec::new();
    for (i, factor) in config.timer_scale_factors.iter().enumerate() {
        let path = inside.join("timer_scale_factors").at(i);
        let timer = match factor.timer() {
            TimerType::HttpDownstreamConnectionIdle => ScaledTimer::ConnectionIdle,
            TimerType::HttpDownstreamStreamIdle => ScaledTimer::StreamIdle,
            TimerType::TransportSocketConnect => ScaledTimer::TransportSocketConnect,
            TimerType::HttpDownstreamConnectionMax => ScaledTimer::ConnectionMax,
            TimerType::HttpDownstreamStreamFlush => {
                cx.report(&path, "how long a client may leave a response unread does not scale");
                ScaledTimer::StreamFlush
            }
            TimerType::Unspecified => return Err(Rejection::new(&path.join("timer"), "must be specified")),
        };
        let minimum = match &factor.overload_adjust {
            Some(OverloadAdjust::MinTimeout(shortest)) => {
                TimerMinimum::Absolute(positive(shortest, &path.join("min_timeout"))?)
            }
            Some(OverloadAdjust::MinScale(share)) => TimerMinimum::Share(share.value / 100.0),
            None => return Err(Rejection::new(&path.join("overload_adjust"), "is required")),
        };
        if out.iter().any(|(earlier, _)| *earlier == timer) {
            let why = format!("Found duplicate entry for timer type {}", factor.timer().as_str_name());
            return Err(Rejection::new(&path.join("timer"), why));
        }
        out.push((timer, minimum));
    }
    Ok(ActionKind::ReduceTimeouts(out))
}

fn one_action_for_each_timer(actions: &[OverloadAction], path: &Path) -> Result<(), Rejection> {
    let mut owners: BTreeMap<u8, &str> = BTreeMap::new();
    for (i, action) in actions.iter().enumerate() {
        let ActionKind::ReduceTimeouts(timers) = &action.kind else { continue };
        for (timer, _) in timers {
            if let Some(earlier) = owners.insert(*timer as u8, &action.name) {
                let why = format!(
                    "Timer type is configured by both overload actions \"{earlier}\" and \"{}\"",
                    action.name
                );
                return Err(Rejection::new(&path.join("actions").at(i), why));
            }
        }
    }
    Ok(())
}

fn points(
    manager: &pb::OverloadManager,
    known: &Known,
    actions: &[OverloadAction],
    path: &Path,
    cx: &mut Context,
) -> Result<Vec<LoadShedPoint>, Rejection> {
    let mut out: Vec<LoadShedPoint> = Vec::with_capacity(manager.loadshed_points.len());
    for (i, point) in manager.loadshed_points.iter().enumerate() {
        let path = path.join("loadshed_points").at(i);
        let name: Arc<str> = point.name.as_str().into();
        if actions.iter().any(|action| action.name == name) {
            let why =
                format!("Load shed point \"{name}\" conflicts with an overload action of the same name");
            return Err(Rejection::new(&path.join("name"), why));
        }
        if out.iter().any(|earlier| earlier.name == name) {
            return Err(Rejection::new(&path.join("name"), format!("Duplicate loadshed point {name}")));
        }
        let kind = ShedPoint::by_name(&name);
        if kind.is_none() {
            cx.report(&path.join("name"), "nothing in this build asks for a load shed point of this name");
        }
        let triggers = triggers(&point.triggers, known, Of::Point(&name), &path.join("triggers"))?;
        let scope = cx.scope(ScopeKind::LoadShedPoint, &name);
        out.push(LoadShedPoint { name, kind, triggers, scope });
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
