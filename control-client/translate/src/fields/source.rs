//! Where configuration comes from, and the resources that only the control client reads.

use super::Status::{NoEffect, Refused, Reported, Served};
use super::Table;

const FEDERATION: &str = "xdstp: names are not served by this build";
const MOVED: &str = "a file is read again when another is moved onto it";
const CLOUD: &str = "tokens of a cloud or a token service are not served by this build";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.config.bootstrap.v3.Bootstrap.DynamicResources",
        fields: &[
            (Served, "lds_config cds_config ads_config"),
            (Refused(FEDERATION), "lds_resources_locator cds_resources_locator"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.ConfigSource",
        fields: &[
            (
                Served,
                "path path_config_source api_config_source ads self initial_fetch_timeout resource_api_version",
            ),
            (Refused(FEDERATION), "authorities"),
        ],
    },
    Table { message: "envoy.config.core.v3.AggregatedConfigSource", fields: &[] },
    Table { message: "envoy.config.core.v3.SelfConfigSource", fields: &[(Served, "transport_api_version")] },
    Table {
        message: "envoy.config.core.v3.PathConfigSource",
        fields: &[(Served, "path watched_directory"), (Reported(MOVED), "poll_interval")],
    },
    Table {
        message: "envoy.config.core.v3.WatchedDirectory",
        fields: &[(Served, "path"), (Reported(MOVED), "watch_modify")],
    },
    Table {
        message: "envoy.config.core.v3.ApiConfigSource",
        fields: &[
            (
                Served,
                "api_type transport_api_version cluster_names grpc_services refresh_delay request_timeout \
                 rate_limit_settings set_node_on_first_message_only",
            ),
            (Refused("validators of updates are not served by this build"), "config_validators"),
        ],
    },
    Table { message: "envoy.config.core.v3.RateLimitSettings", fields: &[(Served, "max_tokens fill_rate")] },
    Table {
        message: "envoy.config.core.v3.GrpcService",
        fields: &[
            (Served, "envoy_grpc google_grpc initial_metadata"),
            (NoEffect("streams have no time limit, in Envoy neither"), "timeout"),
            (Reported("streams are opened again after 0.5 s to 30 s"), "retry_policy"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.GrpcService.EnvoyGrpc",
        fields: &[
            (Served, "cluster_name authority max_receive_message_length"),
            (Reported("streams are opened again after 0.5 s to 30 s"), "retry_policy"),
            (NoEffect("the control client adds none"), "skip_envoy_headers"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.GrpcService.GoogleGrpc",
        fields: &[
            (Served, "target_uri channel_credentials call_credentials credentials_factory_name channel_args"),
            (Refused(CLOUD), "channel_credentials_plugin call_credentials_plugin"),
            (NoEffect("the control client has no statistics per target"), "stat_prefix"),
            (NoEffect("no served credentials read it"), "config"),
            (NoEffect("what waits to be sent is bounded anyway"), "per_stream_buffer_limit_bytes"),
        ],
    },
    Table {
        message: "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelCredentials",
        fields: &[(Served, "ssl_credentials local_credentials"), (Refused(CLOUD), "google_default")],
    },
    Table {
        message: "envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials",
        fields: &[(Served, "root_certs private_key cert_chain")],
    },
    Table { message: "envoy.config.core.v3.GrpcService.GoogleGrpc.GoogleLocalCredentials", fields: &[] },
    Table {
        message: "envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials",
        fields: &[
            (Served, "access_token from_plugin"),
            (
                Refused(CLOUD),
                "google_compute_engine google_refresh_token service_account_jwt_access google_iam sts_service",
            ),
        ],
    },
    Table {
        message: "envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials.MetadataCredentialsFromPlugin",
        fields: &[(Served, "name typed_config")],
    },
    Table {
        message: "envoy.config.grpc_credential.v3.FileBasedMetadataConfig",
        fields: &[(Served, "secret_data header_key header_prefix")],
    },
    Table { message: "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelArgs", fields: &[(Served, "args")] },
    Table {
        message: "envoy.config.core.v3.GrpcService.GoogleGrpc.ChannelArgs.Value",
        fields: &[(Served, "string_value int_value")],
    },
    Table {
        message: "envoy.config.bootstrap.v3.RuntimeLayer.RtdsLayer",
        fields: &[(Served, "name rtds_config")],
    },
    Table { message: "envoy.service.runtime.v3.Runtime", fields: &[(Served, "name layer")] },
    Table {
        message: "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
        fields: &[(Served, "eds_config service_name")],
    },
    Table {
        message: "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
        fields: &[(Served, "config_source route_config_name")],
    },
];
