//! The options as `envoy.admin.v3.CommandLineOptions`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{DrainStrategy, IpVersion, Mode, Options};

impl Options {
    /// Every field present, in the order and spelling of Envoy's `/server_info`. `shards` is the number of
    /// workers that actually run.
    pub fn to_json(&self, shards: u32) -> Value {
        let seconds = |duration: Duration| match duration.subsec_millis() {
            0 => format!("{}s", duration.as_secs()),
            millis => format!("{}.{millis:03}s", duration.as_secs()),
        };
        let tags: Vec<String> =
            self.stats_tags.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        json!({
            "base_id": self.base_id.to_string(),
            "concurrency": shards,
            "config_path": self.config_path,
            "config_yaml": self.config_yaml,
            "allow_unknown_static_fields": self.allow_unknown_static_fields,
            "admin_address_path": self.admin_address_path,
            "local_address_ip_version": match self.local_address_ip_version {
                IpVersion::V4 => "v4",
                IpVersion::V6 => "v6",
            },
            "log_level": self.log_level.name(),
            "component_log_level": self.component_log_level,
            "log_format": self.log_format,
            "log_path": self.log_path,
            "service_cluster": self.service_cluster,
            "service_node": self.service_node,
            "service_zone": self.service_zone,
            "file_flush_interval": seconds(self.file_flush_interval),
            "drain_time": seconds(self.drain_time),
            "parent_shutdown_time": seconds(self.parent_shutdown_time),
            "mode": match self.mode {
                Mode::Serve => "Serve",
                Mode::Validate => "Validate",
                Mode::InitOnly => "InitOnly",
            },
            "disable_hot_restart": self.disable_hot_restart,
            "enable_mutex_tracing": self.enable_mutex_tracing,
            "restart_epoch": self.restart_epoch,
            "cpuset_threads": self.cpuset_threads,
            "reject_unknown_dynamic_fields": self.reject_unknown_dynamic_fields,
            "log_format_escaped": self.log_format_escaped,
            "disabled_extensions": self.disabled_extensions,
            "ignore_unknown_dynamic_fields": self.ignore_unknown_dynamic_fields,
            "use_dynamic_base_id": self.use_dynamic_base_id,
            "base_id_path": self.base_id_path,
            "drain_strategy": match self.drain_strategy {
                DrainStrategy::Gradual => "Gradual",
                DrainStrategy::Immediate => "Immediate",
            },
            "enable_fine_grain_logging": self.fine_grain_logging,
            "socket_path": self.socket_path,
            // Envoy prints 0 for these two whatever was given.
            "socket_mode": 0,
            "enable_core_dump": self.enable_core_dump,
            "stats_tag": tags,
            "skip_hot_restart_on_no_parent": self.skip_hot_restart_on_no_parent,
            "skip_hot_restart_parent_stats": self.skip_hot_restart_parent_stats,
            "skip_deprecated_logs": self.skip_deprecated_logs,
            "file_flush_min_size": 0,
            "log_stacktrace_single_entry": self.log_stacktrace_single_entry,
        })
    }
}
