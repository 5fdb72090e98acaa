//! How each resource is read.

use millrace_config::MonitorKind;
use millrace_shard::shared::ConnectionCount;

use super::cgroup::MemoryGroup;
use super::cpu::{ContainerCpu, HostCpu};
use crate::run::process;

/// What is kept between two readings of a resource.
pub(super) enum Reader {
    /// Nothing.
    Plain,
    Memory(MemoryGroup),
    HostCpu(HostCpu),
    ContainerCpu(ContainerCpu),
}

impl Reader {
    pub(super) fn new(kind: &MonitorKind) -> Self {
        match kind {
            MonitorKind::CgroupMemory { .. } | MonitorKind::OwnMemory => Self::Memory(MemoryGroup::own()),
            MonitorKind::HostCpu => Self::HostCpu(HostCpu::default()),
            MonitorKind::ContainerCpu => Self::ContainerCpu(ContainerCpu::own()),
            MonitorKind::FixedHeap { .. }
            | MonitorKind::Injected { .. }
            | MonitorKind::DownstreamConnections { .. } => Self::Plain,
        }
    }

    /// The share that is used, 0.0 for nothing; above 1.0 where the bound does not bind.
    ///
    /// # Errors
    /// Why it cannot be told, in words.
    pub(super) fn read(
        &mut self,
        kind: &MonitorKind,
        connections: &ConnectionCount,
        runtime: &impl Fn(&str) -> Option<u64>,
    ) -> Result<f64, String> {
        match (kind, self) {
            (MonitorKind::FixedHeap { max_bytes, runtime_key }, _) => {
                let max = runtime_key.as_deref().and_then(runtime).unwrap_or(*max_bytes);
                match max {
                    0 => Err("max heap size must be greater than 0".to_owned()),
                    max => Ok(process::memory().allocated as f64 / max as f64),
                }
            }
            (MonitorKind::CgroupMemory { max_bytes }, Self::Memory(group)) => {
                let used = group.used().ok_or("the memory of the control group cannot be read")?;
                let limit = group.limit().into_iter().chain(*max_bytes).min();
                Ok(limit.map_or(0.0, |limit| used as f64 / limit.max(1) as f64))
            }
            (MonitorKind::OwnMemory, Self::Memory(group)) => {
                let working = group.working_set().ok_or("the memory of the control group cannot be read")?;
                let Some(limit) = group.limit() else { return Ok(0.0) };
                let used = own_share(working, process::memory().total_physical_bytes);
                Ok(used as f64 / limit.max(1) as f64)
            }
            (MonitorKind::HostCpu, Self::HostCpu(cpu)) => cpu.read(),
            (MonitorKind::ContainerCpu, Self::ContainerCpu(cpu)) => cpu.read(),
            (MonitorKind::Injected { file }, _) => injected(file),
            (MonitorKind::DownstreamConnections { .. }, _) => {
                let max = connections.max().unwrap_or(u64::MAX);
                Ok(connections.open() as f64 / max.max(1) as f64)
            }
            _ => Err("no reader for the resource".to_owned()),
        }
    }
}

/// What counts of a control group's memory: all of it where most is ours, else ours alone. Others that fill it are no
/// reason to refuse requests.
fn own_share(working: u64, resident: u64) -> u64 {
    if resident.saturating_mul(2) >= working { working } else { resident }
}

fn injected(file: &str) -> Result<f64, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let pressure: f64 = text.trim().parse().map_err(|_| "failed to parse injected resource pressure")?;
    match (0.0..=1.0).contains(&pressure) {
        true => Ok(pressure),
        false => Err("pressure out of range".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_others_in_the_group_is_not_held_against_us() {
        assert_eq!(own_share(100, 60), 100);
        assert_eq!(own_share(100, 50), 100);
        assert_eq!(own_share(100, 20), 20);
    }

    #[test]
    fn heap_and_connections_are_told_against_their_bounds() {
        let connections = ConnectionCount::default();
        connections.set_max(Some(4));
        let of_connections = MonitorKind::DownstreamConnections { max: 4 };
        let nothing = |_: &str| None;
        assert_eq!(Reader::new(&of_connections).read(&of_connections, &connections, &nothing), Ok(0.0));
        let heap = MonitorKind::FixedHeap { max_bytes: 1, runtime_key: Some("k".into()) };
        let pressure = Reader::new(&heap).read(&heap, &connections, &nothing).unwrap();
        assert!(pressure > 1000.0, "{pressure}");
        let by_runtime = Reader::new(&heap).read(&heap, &connections, &|_| Some(u64::MAX)).unwrap();
        assert!(by_runtime < 0.01);
        assert!(Reader::new(&heap).read(&heap, &connections, &|_| Some(0)).is_err());
    }
}
