//! The overload manager and its resource monitors.

use super::Status::{NoEffect, Served};
use super::Table;

const ALL_FREE: &str = "all free memory is given back";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.overload.v3.OverloadManager",
        fields: &[(
            Served,
            "refresh_interval resource_monitors actions loadshed_points buffer_factory_config",
        )],
    },
    Table { message: "envoy.config.overload.v3.ResourceMonitor", fields: &[(Served, "name typed_config")] },
    Table {
        message: "envoy.config.overload.v3.OverloadAction",
        fields: &[(Served, "name triggers typed_config")],
    },
    Table { message: "envoy.config.overload.v3.LoadShedPoint", fields: &[(Served, "name triggers")] },
    Table { message: "envoy.config.overload.v3.Trigger", fields: &[(Served, "name threshold scaled")] },
    Table { message: "envoy.config.overload.v3.ThresholdTrigger", fields: &[(Served, "value")] },
    Table {
        message: "envoy.config.overload.v3.ScaledTrigger",
        fields: &[(Served, "scaling_threshold saturation_threshold")],
    },
    Table {
        message: "envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
        fields: &[(Served, "timer_scale_factors")],
    },
    Table {
        message: "envoy.config.overload.v3.ScaleTimersOverloadActionConfig.ScaleTimer",
        fields: &[(Served, "timer min_timeout min_scale")],
    },
    Table {
        message: "envoy.config.overload.v3.ShrinkHeapConfig",
        fields: &[(Served, "timer_interval"), (NoEffect(ALL_FREE), "max_unfreed_memory_bytes")],
    },
    Table {
        message: "envoy.config.overload.v3.BufferFactoryConfig",
        fields: &[(Served, "minimum_account_to_track_power_of_two")],
    },
    Table {
        message: "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
        fields: &[(Served, "max_heap_size_bytes max_heap_size_bytes_runtime")],
    },
    Table {
        message: "envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig",
        fields: &[(Served, "max_memory_bytes")],
    },
    Table {
        message: "envoy.extensions.resource_monitors.cpu_utilization.v3.CpuUtilizationConfig",
        fields: &[(Served, "mode")],
    },
    Table {
        message: "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
        fields: &[(Served, "filename")],
    },
    Table {
        message: "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        fields: &[(Served, "max_active_downstream_connections")],
    },
];
