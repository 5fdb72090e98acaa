//! `extensions.filters.http.compressor.v3` and `decompressor.v3`.

use std::sync::Arc;

use millrace_config::{
    CompressDirection, CompressResponses, CompressorFilter, CompressorPerRoute, DecompressDirection,
    DecompressorFilter, HttpFilterKind, PerFilterConfig, StringMatcher,
};
use millrace_observe::stats::ScopeKind;
use millrace_proto::Path;
use millrace_proto::pb::envoy::extensions::filters::http::compressor::v3 as pb;
use millrace_proto::pb::envoy::extensions::filters::http::compressor::v3::compressor::{
    CommonDirectionConfig, ResponseDirectionConfig,
};
use millrace_proto::pb::envoy::extensions::filters::http::decompressor::v3 as de;
use millrace_proto::pb::google::protobuf::UInt32Value;

use super::{compression_library as library, enabled};
use crate::context::Context;
use crate::error::Rejection;
use crate::{matcher, value};

pub(super) const COMPRESSOR: &str = "envoy.extensions.filters.http.compressor.v3.Compressor";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute";
pub(in crate::http) const DECOMPRESSOR: &str = "envoy.extensions.filters.http.decompressor.v3.Decompressor";

/// What Envoy compresses when nothing is said.
const CONTENT_TYPES: &[&str] = &[
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
    "application/grpc-web",
    "application/grpc-web+proto",
];
const MIN_CONTENT_LENGTH: u32 = 30;

pub(super) fn compressor(
    config: &pb::Compressor,
    stat_prefix: &str,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    let library_path = path.join("compressor_library");
    let Some(extension) = &config.compressor_library else {
        return Err(Rejection::new(&library_path, "value is required"));
    };
    let library = library::compressor(extension, &library_path)?;
    let name = format!("{stat_prefix}.compressor.{}.{}", extension.name, library.coding().stat_name());
    let request = config.request_direction_config.as_ref();
    let common = request.and_then(|request| request.common_config.as_ref());
    let inside = path.join("request_direction_config").join("common_config");
    let mut request_direction = direction(common, &format!("{name}.request"), &inside, cx)?;
    request_direction.enabled &= request.is_some();
    Ok(HttpFilterKind::Compressor(Arc::new(CompressorFilter {
        request: request_direction,
        response: match &config.response_direction_config {
            Some(response) => responses(response, &name, path, cx)?,
            None => deprecated(config, &name, cx),
        },
        choose_first: config.choose_first,
        scope: cx.scope(ScopeKind::HttpCompressor, &name),
        library,
    })))
}

fn responses(
    config: &ResponseDirectionConfig,
    name: &str,
    path: &Path,
    cx: &Context,
) -> Result<CompressResponses, Rejection> {
    let path = path.join("response_direction_config");
    let common = config.common_config.as_ref();
    let codes = config.uncompressible_response_codes.iter();
    Ok(CompressResponses {
        common: direction(common, &format!("{name}.response"), &path.join("common_config"), cx)?,
        disable_on_etag: config.disable_on_etag_header,
        weaken_etag: config.weaken_etag_on_compress,
        remove_accept_encoding: config.remove_accept_encoding_header,
        uncompressible_codes: codes.filter_map(|code| u16::try_from(*code).ok()).collect(),
        status_header: config.status_header_enabled,
    })
}

/// The fields of the filter itself, which `response_direction_config` has replaced.
fn deprecated(config: &pb::Compressor, name: &str, cx: &Context) -> CompressResponses {
    CompressResponses {
        common: CompressDirection {
            enabled: enabled(config.runtime_enabled.as_ref(), cx),
            min_content_length: min_length(config.content_length.as_ref()),
            content_types: content_types(&config.content_type),
            scope: cx.scope(ScopeKind::HttpCompressorDirection, name),
        },
        disable_on_etag: config.disable_on_etag_header,
        weaken_etag: false,
        remove_accept_encoding: config.remove_accept_encoding_header,
        uncompressible_codes: Vec::new(),
        status_header: false,
    }
}

fn direction(
    config: Option<&CommonDirectionConfig>,
    name: &str,
    path: &Path,
    cx: &Context,
) -> Result<CompressDirection, Rejection> {
    let matchers = config.map_or(&[][..], |config| &config.content_type_matcher);
    let inside = path.join("content_type_matcher");
    Ok(CompressDirection {
        enabled: enabled(config.and_then(|config| config.enabled.as_ref()), cx),
        min_content_length: min_length(config.and_then(|config| config.min_content_length.as_ref())),
        content_types: match matchers {
            [] => content_types(config.map_or(&[][..], |config| &config.content_type)),
            list => {
                let one = |(i, matcher)| matcher::string(matcher, &inside.at(i));
                list.iter().enumerate().map(one).collect::<Result<_, _>>()?
            }
        },
        scope: cx.scope(ScopeKind::HttpCompressorDirection, name),
    })
}

fn min_length(configured: Option<&UInt32Value>) -> u32 {
    Some(value::number(configured, 0)).filter(|length| *length > 0).unwrap_or(MIN_CONTENT_LENGTH)
}

fn content_types(configured: &[String]) -> Vec<StringMatcher> {
    let exactly = |text: &str| StringMatcher::Exact { value: value::lower_bytes(text), ignore_case: true };
    match configured {
        [] => CONTENT_TYPES.iter().map(|text| exactly(text)).collect(),
        list => list.iter().map(|text| exactly(text)).collect(),
    }
}

pub(super) fn of_route(config: &pb::CompressorPerRoute, path: &Path) -> Result<PerFilterConfig, Rejection> {
    use pb::compressor_per_route::Override;
    let route = match &config.r#override {
        Some(Override::Disabled(_)) => {
            CompressorPerRoute { enabled: Some(false), remove_accept_encoding: None, library: None }
        }
        Some(Override::Overrides(overrides)) => {
            let response = overrides.response_direction_config.as_ref();
            let remove = response.and_then(|response| response.remove_accept_encoding_header.as_ref());
            let inside = path.join("overrides").join("compressor_library");
            let library = overrides.compressor_library.as_ref();
            CompressorPerRoute {
                enabled: response.map(|_| true),
                remove_accept_encoding: remove.map(|remove| remove.value),
                library: library.map(|library| library::compressor(library, &inside)).transpose()?,
            }
        }
        None => return Err(Rejection::new(&path.join("override"), "is required")),
    };
    Ok(PerFilterConfig::Compressor(Arc::new(route)))
}

pub(super) fn decompressor(
    config: &de::Decompressor,
    stat_prefix: &str,
    path: &Path,
    cx: &Context,
) -> Result<HttpFilterKind, Rejection> {
    let library_path = path.join("decompressor_library");
    let Some(extension) = &config.decompressor_library else {
        return Err(Rejection::new(&library_path, "value is required"));
    };
    let library = library::decompressor(extension, &library_path)?;
    let name = format!("{stat_prefix}.decompressor.{}.{}", extension.name, library.coding().stat_name());
    let direction =
        |common: Option<&de::decompressor::CommonDirectionConfig>, of: &str| DecompressDirection {
            enabled: enabled(common.and_then(|common| common.enabled.as_ref()), cx),
            ignore_no_transform: common.is_some_and(|common| common.ignore_no_transform_header),
            scope: cx.scope(ScopeKind::HttpDecompressor, &format!("{name}.{of}")),
        };
    let request = config.request_direction_config.as_ref();
    let response = config.response_direction_config.as_ref();
    let trailer =
        |of: &str| value::lower_bytes(&format!("x-envoy-decompressor-{}-{of}-bytes", extension.name));
    Ok(HttpFilterKind::Decompressor(Arc::new(DecompressorFilter {
        request: direction(request.and_then(|request| request.common_config.as_ref()), "request"),
        response: direction(response.and_then(|response| response.common_config.as_ref()), "response"),
        advertise: value::flag(request.and_then(|r| r.advertise_accept_encoding.as_ref()), true),
        trailers: [trailer("compressed"), trailer("uncompressed")],
        scope: cx.scope(ScopeKind::HttpDecompressorLibrary, &format!("{name}.decompressor_library")),
        library,
    })))
}
