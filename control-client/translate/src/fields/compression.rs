//! The filters that compress, decompress and hold back.

use super::Status::{NoEffect, Served};
use super::Table;

const CHUNK: &str = "bytes are handed on as they come";

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.extensions.filters.http.compressor.v3.Compressor",
        fields: &[(
            Served,
            "content_length content_type disable_on_etag_header remove_accept_encoding_header runtime_enabled \
             compressor_library request_direction_config response_direction_config choose_first",
        )],
    },
    Table {
        message: "envoy.extensions.filters.http.compressor.v3.Compressor.CommonDirectionConfig",
        fields: &[(Served, "enabled min_content_length content_type content_type_matcher")],
    },
    Table {
        message: "envoy.extensions.filters.http.compressor.v3.Compressor.RequestDirectionConfig",
        fields: &[(Served, "common_config")],
    },
    Table {
        message: "envoy.extensions.filters.http.compressor.v3.Compressor.ResponseDirectionConfig",
        fields: &[(
            Served,
            "common_config disable_on_etag_header weaken_etag_on_compress remove_accept_encoding_header \
             uncompressible_response_codes status_header_enabled",
        )],
    },
    Table {
        message: "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
        fields: &[(Served, "disabled overrides")],
    },
    Table {
        message: "envoy.extensions.filters.http.compressor.v3.CompressorOverrides",
        fields: &[(Served, "response_direction_config compressor_library")],
    },
    Table {
        message: "envoy.extensions.filters.http.compressor.v3.ResponseDirectionOverrides",
        fields: &[(Served, "remove_accept_encoding_header")],
    },
    Table {
        message: "envoy.extensions.compression.gzip.compressor.v3.Gzip",
        fields: &[
            (Served, "memory_level compression_level compression_strategy window_bits"),
            (NoEffect(CHUNK), "chunk_size"),
        ],
    },
    Table {
        message: "envoy.extensions.compression.brotli.compressor.v3.Brotli",
        fields: &[
            (Served, "quality encoder_mode window_bits input_block_bits disable_literal_context_modeling"),
            (NoEffect(CHUNK), "chunk_size"),
        ],
    },
    Table {
        message: "envoy.extensions.compression.zstd.compressor.v3.Zstd",
        fields: &[
            (Served, "compression_level enable_checksum strategy dictionary"),
            (NoEffect(CHUNK), "chunk_size"),
        ],
    },
    Table {
        message: "envoy.extensions.filters.http.decompressor.v3.Decompressor",
        fields: &[(Served, "decompressor_library request_direction_config response_direction_config")],
    },
    Table {
        message: "envoy.extensions.filters.http.decompressor.v3.Decompressor.CommonDirectionConfig",
        fields: &[(Served, "enabled ignore_no_transform_header")],
    },
    Table {
        message: "envoy.extensions.filters.http.decompressor.v3.Decompressor.RequestDirectionConfig",
        fields: &[(Served, "common_config advertise_accept_encoding")],
    },
    Table {
        message: "envoy.extensions.filters.http.decompressor.v3.Decompressor.ResponseDirectionConfig",
        fields: &[(Served, "common_config")],
    },
    Table {
        message: "envoy.extensions.compression.gzip.decompressor.v3.Gzip",
        fields: &[(Served, "window_bits max_inflate_ratio"), (NoEffect(CHUNK), "chunk_size")],
    },
    Table {
        message: "envoy.extensions.compression.brotli.decompressor.v3.Brotli",
        fields: &[
            (NoEffect("the window grows with the content"), "disable_ring_buffer_reallocation"),
            (NoEffect(CHUNK), "chunk_size"),
        ],
    },
    Table {
        message: "envoy.extensions.compression.zstd.decompressor.v3.Zstd",
        fields: &[(Served, "dictionaries"), (NoEffect(CHUNK), "chunk_size")],
    },
    Table {
        message: "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit",
        fields: &[(
            Served,
            "stat_prefix enable_mode limit_kbps fill_interval runtime_enabled enable_response_trailers \
             response_trailer_prefix",
        )],
    },
    Table {
        message: "envoy.extensions.filters.http.admission_control.v3.AdmissionControl",
        fields: &[(
            Served,
            "enabled success_criteria sampling_window aggression sr_threshold rps_threshold \
             max_rejection_probability",
        )],
    },
    Table {
        message: "envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria",
        fields: &[(Served, "http_criteria grpc_criteria")],
    },
    Table {
        message: "envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria.HttpCriteria",
        fields: &[(Served, "http_success_status")],
    },
    Table {
        message: "envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria.GrpcCriteria",
        fields: &[(Served, "grpc_success_status")],
    },
    Table {
        message: "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency",
        fields: &[(Served, "gradient_controller_config enabled concurrency_limit_exceeded_status")],
    },
    Table {
        message: "envoy.extensions.filters.http.adaptive_concurrency.v3.GradientControllerConfig",
        fields: &[(Served, "sample_aggregate_percentile concurrency_limit_params min_rtt_calc_params")],
    },
    Table {
        message: "envoy.extensions.filters.http.adaptive_concurrency.v3.GradientControllerConfig.ConcurrencyLimitCalculationParams",
        fields: &[(Served, "max_concurrency_limit concurrency_update_interval min_concurrency_limit")],
    },
    Table {
        message: "envoy.extensions.filters.http.adaptive_concurrency.v3.GradientControllerConfig.MinimumRTTCalculationParams",
        fields: &[(Served, "interval fixed_value request_count jitter min_concurrency buffer")],
    },
];
