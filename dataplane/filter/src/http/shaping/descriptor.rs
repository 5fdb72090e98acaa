//! Descriptors of rate limits: what of a request a limit is looked up by.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use millrace_base::{Metadata, MetadataValue};
use millrace_config::{
    DescriptorLimit, Hits, MatchedLimit, MetadataSource, RateLimitAction, RateLimitPolicy,
};
use millrace_http::RequestHead;
use millrace_route::header::matches_request;
use millrace_route::query;

use crate::http::stream_filters::Start;

/// The entries of one descriptor.
pub(crate) type Descriptor<'r> = Vec<(&'r str, Cow<'r, str>)>;

/// What `policy` makes of a request; `None` when one of its actions finds nothing.
pub(crate) fn descriptor<'r>(
    policy: &'r RateLimitPolicy,
    start: &Start<'r>,
    head: &'r RequestHead,
    dynamic: Option<&'r Metadata>,
) -> Option<Descriptor<'r>> {
    let mut entries = Vec::with_capacity(policy.actions.len());
    for action in &policy.actions {
        if let Some(entry) = entry(action, start, head, dynamic)? {
            entries.push(entry);
        }
    }
    (!entries.is_empty()).then_some(entries)
}

/// The limits that some descriptor of a request has, the strictest first: exactly, or else with any value where the
/// limit names none. The bucket of a dynamic one is yet to be found.
pub(crate) fn matching(
    limits: &[DescriptorLimit],
    descriptors: &[(Descriptor<'_>, &RateLimitPolicy, Hits)],
) -> Vec<MatchedLimit> {
    let same = |limit: &DescriptorLimit, descriptor: &Descriptor<'_>, any: bool| {
        let fits = |is: &str, wanted: &str| is == wanted || (any && wanted.is_empty());
        limit.is_dynamic() == any
            && limit.entries.len() == descriptor.len()
            && limit.entries.iter().zip(descriptor).all(|(a, b)| *a.0 == *b.0 && fits(&b.1, &a.1))
    };
    let position = |descriptor: &Descriptor<'_>| {
        let find = |any| limits.iter().position(|limit| same(limit, descriptor, any));
        find(false).or_else(|| find(true))
    };
    let made = |(descriptor, policy, hits): &(Descriptor<'_>, &RateLimitPolicy, Hits)| {
        let at = position(descriptor)?;
        let values = if limits[at].is_dynamic() { values(descriptor) } else { Vec::new() };
        Some(MatchedLimit { at, hits: *hits, headers: policy.headers, values, bucket: None })
    };
    let mut found: Vec<MatchedLimit> = descriptors.iter().filter_map(made).collect();
    let rate = |matched: &MatchedLimit| {
        let bucket = limits[matched.at].bucket;
        f64::from(bucket.tokens_per_fill) / bucket.fill_interval.as_secs_f64()
    };
    found.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    found
}

/// All values of a descriptor in one key: each behind its length, so that no two lists have the same.
fn values(descriptor: &Descriptor<'_>) -> Vec<u8> {
    let mut key = Vec::new();
    for (_, value) in descriptor {
        key.extend_from_slice(&(value.len() as u64).to_le_bytes());
        key.extend_from_slice(value.as_bytes());
    }
    key
}

/// `Some(None)`: this entry is left out.
#[expect(clippy::option_option, reason = "the descriptor, or its entry, may be missing")]
fn entry<'r>(
    action: &'r RateLimitAction,
    start: &Start<'r>,
    head: &'r RequestHead,
    dynamic: Option<&'r Metadata>,
) -> Option<Option<(&'r str, Cow<'r, str>)>> {
    let fixed = |key: &'r Arc<str>, value: &'r Arc<str>| Some(Some((&**key, Cow::Borrowed(&**value))));
    match action {
        RateLimitAction::SourceCluster => Some(Some(("source_cluster", Cow::Borrowed(start.node_cluster)))),
        RateLimitAction::DestinationCluster => {
            Some(Some(("destination_cluster", Cow::Borrowed(start.cluster?))))
        }
        RateLimitAction::RequestHeader { header, key, skip_if_absent } => match field(head, header) {
            Some(value) => Some(Some((&**key, value))),
            None => skip_if_absent.then_some(None),
        },
        RateLimitAction::QueryParameter { parameter, key, skip_if_absent } => {
            match query::first_value(head.path(), parameter) {
                Some(value) => Some(Some((&**key, String::from_utf8_lossy(value)))),
                None => skip_if_absent.then_some(None),
            }
        }
        RateLimitAction::RemoteAddress => {
            Some(Some(("remote_address", Cow::Owned(start.remote?.to_string()))))
        }
        RateLimitAction::RemoteAddressMatch { key, value, ranges, invert } => {
            let remote = start.remote?;
            if ranges.iter().any(|range| range.contains(remote)) == *invert {
                return None;
            }
            fixed(key, value)
        }
        RateLimitAction::MaskedRemoteAddress { v4, v6 } => {
            Some(Some(("masked_remote_address", Cow::Owned(masked(start.remote?, *v4, *v6)))))
        }
        RateLimitAction::Metadata { source, namespace, path, key, default, skip_if_absent } => {
            let metadata = match source {
                MetadataSource::Dynamic => dynamic,
                MetadataSource::Route => {
                    start.selected.and_then(|selected| selected.route.metadata.as_deref())
                }
            };
            let text = match metadata.and_then(|metadata| metadata.find(namespace, path)) {
                Some(MetadataValue::Text(text)) if !text.is_empty() => Some(&**text),
                _ => default.as_deref(),
            };
            match text {
                Some(text) => Some(Some((&**key, Cow::Borrowed(text)))),
                None => skip_if_absent.then_some(None),
            }
        }
        RateLimitAction::GenericKey { key, value } => fixed(key, value),
        RateLimitAction::HeaderMatch { key, value, expect, headers } => {
            let matches = headers.iter().all(|matcher| matches_request(matcher, head));
            if matches == *expect { fixed(key, value) } else { None }
        }
        RateLimitAction::QueryMatch { key, value, expect, parameters } => {
            let matches = query::matches_all(parameters, head.path());
            if matches == *expect { fixed(key, value) } else { None }
        }
    }
}

fn field<'r>(head: &'r RequestHead, name: &[u8]) -> Option<Cow<'r, str>> {
    let value = match name {
        b":method" => head.method(),
        b":path" => head.path(),
        b":authority" | b"host" => head.authority(),
        b":scheme" => head.scheme(),
        name => head.headers.get_name(name)?,
    };
    Some(String::from_utf8_lossy(value))
}

fn masked(address: IpAddr, v4: u8, v6: u8) -> String {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0);
            format!("{}/{v4}", std::net::Ipv4Addr::from(u32::from(address) & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0);
            format!("{}/{v6}", std::net::Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}
