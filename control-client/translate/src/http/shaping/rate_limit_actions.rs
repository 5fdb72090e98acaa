//! `config.route.v3.RateLimit`.

use millrace_config::{HitsAddend, MetadataSource, RateLimitAction, RateLimitHeaders, RateLimitPolicy};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as pb;
use millrace_proto::pb::envoy::config::route::v3::rate_limit::XRateLimitOption;
use millrace_proto::pb::envoy::config::route::v3::rate_limit::action::ActionSpecifier as By;
use millrace_proto::pb::envoy::config::route::v3::rate_limit::action::meta_data::Source;
use millrace_proto::pb::envoy::r#type::metadata::v3::MetadataKey;

use crate::error::Rejection;
use crate::{matcher, metadata, value, written_matcher};

/// `rate_limits` of a route or virtual host.
pub(crate) fn policies(list: &[pb::RateLimit], path: &Path) -> Result<Vec<RateLimitPolicy>, Rejection> {
    let path = path.join("rate_limits");
    list.iter().enumerate().map(|(i, one)| policy(one, &path.at(i))).collect()
}

/// `rate_limits` of the filter, which has no stages.
pub(super) fn own(list: &[pb::RateLimit], path: &Path) -> Result<Vec<RateLimitPolicy>, Rejection> {
    for (i, one) in list.iter().enumerate() {
        if value::number(one.stage.as_ref(), 0) != 0 || !one.disable_key.is_empty() {
            let why = "'stage' field and 'disable_key' field are not supported";
            return Err(Rejection::new(&path.at(i), why));
        }
        if one.limit.is_some() {
            return Err(Rejection::new(&path.at(i).join("limit"), "'limit' field is not supported"));
        }
    }
    list.iter().enumerate().map(|(i, one)| policy(one, &path.at(i))).collect()
}

fn policy(config: &pb::RateLimit, path: &Path) -> Result<RateLimitPolicy, Rejection> {
    let actions_path = path.join("actions");
    let actions = config.actions.iter().enumerate();
    Ok(RateLimitPolicy {
        stage: value::number(config.stage.as_ref(), 0),
        disable_key: !config.disable_key.is_empty(),
        on_stream_done: config.apply_on_stream_done,
        hits: config
            .hits_addend
            .as_ref()
            .map(|hits| hits_addend(hits, &path.join("hits_addend")))
            .transpose()?,
        gives_back: config.hits_addend.as_ref().is_some_and(|hits| hits.is_negative_hits),
        headers: match config.x_ratelimit_option() {
            XRateLimitOption::Unspecified => RateLimitHeaders::Unspecified,
            XRateLimitOption::Off => RateLimitHeaders::Off,
            XRateLimitOption::DraftVersion03 => RateLimitHeaders::Draft03,
        },
        actions: actions.map(|(i, one)| action(one, &actions_path.at(i))).collect::<Result<_, _>>()?,
    })
}

fn action(config: &pb::rate_limit::Action, path: &Path) -> Result<RateLimitAction, Rejection> {
    let or = |key: &str, default: &str| if key.is_empty() { default.into() } else { key.into() };
    Ok(match &config.action_specifier {
        Some(By::SourceCluster(_)) => RateLimitAction::SourceCluster,
        Some(By::DestinationCluster(_)) => RateLimitAction::DestinationCluster,
        Some(By::RequestHeaders(by)) => RateLimitAction::RequestHeader {
            header: value::lower_bytes(&by.header_name),
            key: by.descriptor_key.as_str().into(),
            skip_if_absent: by.skip_if_absent,
        },
        Some(By::QueryParameters(by)) => RateLimitAction::QueryParameter {
            parameter: value::bytes(&by.query_parameter_name),
            key: by.descriptor_key.as_str().into(),
            skip_if_absent: by.skip_if_absent,
        },
        Some(By::RemoteAddress(_)) => RateLimitAction::RemoteAddress,
        Some(By::MaskedRemoteAddress(by)) => {
            let len = |len: Option<&_>, most: u8| {
                u8::try_from(value::number(len, u32::from(most))).unwrap_or(most).min(most)
            };
            RateLimitAction::MaskedRemoteAddress {
                v4: len(by.v4_prefix_mask_len.as_ref(), 32),
                v6: len(by.v6_prefix_mask_len.as_ref(), 128),
            }
        }
        Some(By::GenericKey(by)) => RateLimitAction::GenericKey {
            key: or(&by.descriptor_key, "generic_key"),
            value: by.descriptor_value.as_str().into(),
        },
        Some(By::HeaderValueMatch(by)) => RateLimitAction::HeaderMatch {
            key: or(&by.descriptor_key, "header_match"),
            value: by.descriptor_value.as_str().into(),
            expect: value::flag(by.expect_match.as_ref(), true),
            headers: matcher::headers(&by.headers, &path.join("header_value_match").join("headers"))?,
        },
        Some(By::QueryParameterValueMatch(by)) => {
            let path = path.join("query_parameter_value_match").join("query_parameters");
            let parameters = by.query_parameters.iter().enumerate();
            RateLimitAction::QueryMatch {
                key: or(&by.descriptor_key, "query_match"),
                value: by.descriptor_value.as_str().into(),
                expect: value::flag(by.expect_match.as_ref(), true),
                parameters: parameters
                    .map(|(i, one)| matcher::query(one, &path.at(i)))
                    .collect::<Result<_, _>>()?,
            }
        }
        Some(By::RemoteAddressMatch(by)) => {
            let path = path.join("remote_address_match").join("address_matcher");
            let Some(matcher) = &by.address_matcher else {
                return Err(Rejection::new(&path, "value is required"));
            };
            RateLimitAction::RemoteAddressMatch {
                key: or(&by.descriptor_key, "remote_address_match"),
                value: by.descriptor_value.as_str().into(),
                ranges: written_matcher::ranges(matcher, &path)?,
                invert: matcher.invert_match,
            }
        }
        Some(By::DynamicMetadata(by)) => {
            let path = path.join("dynamic_metadata");
            of_metadata(by.metadata_key.as_ref(), (&by.descriptor_key, &by.default_value), &path)?
        }
        Some(By::Metadata(by)) => {
            let path = path.join("metadata");
            let mut action =
                of_metadata(by.metadata_key.as_ref(), (&by.descriptor_key, &by.default_value), &path)?;
            if let RateLimitAction::Metadata { source, skip_if_absent, .. } = &mut action {
                *skip_if_absent = by.skip_if_absent;
                *source = match by.source() {
                    Source::Dynamic => MetadataSource::Dynamic,
                    Source::RouteEntry => MetadataSource::Route,
                    Source::ClusterEntry | Source::ClusterLocalityEntry => {
                        let why = "metadata of clusters are not kept by this build";
                        return Err(Rejection::not_served(&path.join("source"), why));
                    }
                };
            }
            action
        }
        Some(_) => {
            return Err(Rejection::not_served(path, "this action is not served by this build"));
        }
        None => return Err(Rejection::new(&path.join("action_specifier"), "is required")),
    })
}

fn hits_addend(config: &pb::rate_limit::HitsAddend, path: &Path) -> Result<HitsAddend, Rejection> {
    match (&config.number, config.format.as_str()) {
        (Some(number), "") => Ok(HitsAddend::Number(number.value)),
        (None, "") | (Some(_), _) => {
            Err(Rejection::new(path, "hits_addend must contain either a format or a number"))
        }
        (None, format) => {
            let path = path.join("format");
            let template = value::template(format, &path)?;
            if template.parts.len() != 1 {
                return Err(Rejection::new(
                    &path,
                    "hits_addend format must contain exactly one substitution",
                ));
            }
            Ok(HitsAddend::Format(template))
        }
    }
}

fn of_metadata(
    key: Option<&MetadataKey>,
    (descriptor_key, default): (&str, &str),
    path: &Path,
) -> Result<RateLimitAction, Rejection> {
    let path = path.join("metadata_key");
    let key = key.ok_or_else(|| Rejection::new(&path, "value is required"))?;
    Ok(RateLimitAction::Metadata {
        source: MetadataSource::Dynamic,
        namespace: key.key.as_str().into(),
        path: metadata::path_of(key, &path)?,
        key: descriptor_key.into(),
        default: (!default.is_empty()).then(|| default.into()),
        skip_if_absent: false,
    })
}
