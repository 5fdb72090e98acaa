//! `Trigger`s of actions and load shed points.

use millrace_config::{MonitorKind, ResourceMonitor, Trigger, TriggerKind};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::overload::v3 as pb;
use millrace_proto::pb::envoy::config::overload::v3::trigger::TriggerOneof;

use crate::error::Rejection;

/// The monitors that triggers may name.
pub(super) struct Known<'a>(&'a [ResourceMonitor]);

impl<'a> Known<'a> {
    pub(super) fn of(monitors: &'a [ResourceMonitor]) -> Self {
        Self(monitors)
    }
}

/// Whose triggers they are.
#[derive(Clone, Copy)]
pub(super) enum Of<'a> {
    Action(&'a str),
    Point(&'a str),
}

pub(super) fn triggers(
    triggers: &[pb::Trigger],
    known: &Known,
    of: Of,
    path: &Path,
) -> Result<Vec<Trigger>, Rejection> {
    let mut out: Vec<Trigger> = Vec::with_capacity(triggers.len());
    for (i, trigger) in triggers.iter().enumerate() {
        let path = path.at(i);
        let name = &trigger.name;
        // Measured: the bound on connections drives actions, and no load shed point.
        let usable = |monitor: &&ResourceMonitor| match of {
            Of::Action(_) => true,
            Of::Point(_) => !matches!(monitor.kind, MonitorKind::DownstreamConnections { .. }),
        };
        let found = known.0.iter().position(|monitor| *monitor.name == **name && usable(&monitor));
        let Some(monitor) = found else {
            let of = match of {
                Of::Action(of) => format!("overload action {of}"),
                Of::Point(of) => format!("loadshed point {of}"),
            };
            let why = format!("Unknown trigger resource {name} for {of}");
            return Err(Rejection::new(&path.join("name"), why));
        };
        if out.iter().any(|earlier| earlier.monitor == monitor) {
            let of = match of {
                Of::Action(of) => format!("overload action {of}"),
                Of::Point(of) => format!("LoadShedPoint {of}"),
            };
            let why = format!("Duplicate trigger resource for {of}");
            return Err(Rejection::new(&path.join("name"), why));
        }
        out.push(Trigger { monitor, kind: kind(trigger, &path)? });
    }
    Ok(out)
}

fn kind(trigger: &pb::Trigger, path: &Path) -> Result<TriggerKind, Rejection> {
    match &trigger.trigger_oneof {
        Some(TriggerOneof::Threshold(threshold)) => Ok(TriggerKind::Threshold(threshold.value)),
        Some(TriggerOneof::Scaled(scaled)) => {
            let (scaling, saturation) = (scaled.scaling_threshold, scaled.saturation_threshold);
            if scaling >= saturation {
                let why = "scaling_threshold must be less than saturation_threshold";
                return Err(Rejection::new(&path.join("scaled"), why));
            }
            Ok(TriggerKind::Scaled { scaling, saturation })
        }
        None => Err(Rejection::new(&path.join("trigger_oneof"), "is required")),
    }
}
