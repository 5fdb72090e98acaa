//! Messages of the bootstrap itself.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const FEDERATION: &str = "every source is named where it is used";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.bootstrap.v3.Bootstrap",
        fields: &[
            (
                Served,
                "node static_resources dynamic_resources cluster_manager stats_config stats_flush_interval stats_flush_on_admin \
                 layered_runtime admin stats_server_version_override application_log_config overload_manager \
                 use_tcp_for_dns_lookups dns_resolution_config typed_dns_resolver_config hds_config",
            ),
            (NoEffect("xdstp: names are refused"), "node_context_params"),
            (Reported(FEDERATION), "config_sources default_config_source"),
            (
                Reported("the extension is not served by this build"),
                "xds_delegate_extension xds_config_tracker_extension",
            ),
            (NoEffect("nothing reads the directory"), "flags_path"),
            (
                NoEffect("statistics are created when first read"),
                "deferred_stat_options stats_eviction_interval",
            ),
            (NoEffect("header names cost the same with and without"), "inline_headers"),
            (NoEffect("every regular expression runs in linear time"), "default_regex_engine"),
            (NoEffect("clients are kept as long as their source"), "grpc_async_client_manager_config"),
            (NoEffect("memory is returned on its own"), "memory_allocator_manager"),
            (NoEffect("shards are pinned to their cores by the command line"), "enable_worker_cpu_affinity"),
            (Reported("statistics are pulled from the admin server only"), "stats_sinks"),
            (Reported("there is no watchdog"), "watchdog watchdogs fatal_actions"),
            (Reported("nothing is traced"), "tracing perf_tracing_file_path"),
            (Reported("these statistics do not exist"), "enable_dispatcher_stats"),
            (Reported("the extension is not served by this build"), "bootstrap_extensions listener_manager"),
            (Reported("certificates come inline, from files and over SDS"), "certificate_provider_instances"),
            (Refused("the prefix of internal headers is x-envoy"), "header_prefix"),
            (Refused("socket interfaces are not served by this build"), "default_socket_interface"),
        ],
    },
    Table {
        message: "envoy.config.bootstrap.v3.Bootstrap.StaticResources",
        fields: &[(Served, "listeners clusters secrets")],
    },
    Table {
        message: "envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig",
        fields: &[(Served, "log_format")],
    },
    Table {
        message: "envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig.LogFormat",
        fields: &[(Served, "json_format text_format")],
    },
    Table {
        message: "envoy.config.bootstrap.v3.ClusterManager",
        fields: &[
            (Served, "load_stats_config local_cluster_name outlier_detection upstream_bind_config"),
            (NoEffect("shards create clusters at first use"), "enable_deferred_cluster_creation"),
        ],
    },
    Table {
        message: "envoy.config.bootstrap.v3.ClusterManager.OutlierDetection",
        fields: &[
            (Served, "event_log_path"),
            (Reported("events are written to event_log_path alone"), "event_service"),
        ],
    },
    Table {
        message: "envoy.config.bootstrap.v3.Admin",
        fields: &[
            (Served, "access_log access_log_path address ignore_global_conn_limit allow_paths"),
            (NoEffect("there is no built-in profiler"), "profile_path"),
            (Reported("the socket keeps its defaults"), "socket_options"),
        ],
    },
    Table { message: "envoy.config.bootstrap.v3.LayeredRuntime", fields: &[(Served, "layers")] },
    Table {
        message: "envoy.config.bootstrap.v3.RuntimeLayer",
        fields: &[
            (Served, "name static_layer admin_layer rtds_layer"),
            (Refused("runtime values on disk are not served by this build"), "disk_layer"),
        ],
    },
    Table { message: "envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer", fields: &[] },
    Table {
        message: "envoy.config.core.v3.Node",
        fields: &[
            (Served, "id cluster locality"),
            (
                NoEffect("only told to control planes and shown in config_dump"),
                "metadata dynamic_parameters user_agent_name user_agent_version user_agent_build_version extensions \
                 client_features listening_addresses",
            ),
        ],
    },
    Table { message: "envoy.config.core.v3.Locality", fields: &[(Served, "region zone sub_zone")] },
    Table {
        message: "envoy.config.metrics.v3.StatsConfig",
        fields: &[
            (Served, "stats_tags use_all_default_tags stats_matcher"),
            (Reported("histograms keep the default buckets"), "histogram_bucket_settings"),
            (Reported("the default rule of a tag name wins"), "allow_default_tag_overrides"),
        ],
    },
    Table {
        message: "envoy.config.metrics.v3.TagSpecifier",
        fields: &[(Served, "tag_name regex fixed_value")],
    },
    Table {
        message: "envoy.config.metrics.v3.StatsMatcher",
        fields: &[(Served, "reject_all exclusion_list inclusion_list")],
    },
];
