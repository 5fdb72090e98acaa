//! `envoy.filters.http.header_to_metadata`: fields and cookies become dynamic metadata.

use std::borrow::Cow;

use millrace_base::{MetadataValue, StreamState};
use millrace_config::{
    HeaderToMetadata, MetadataRule, MetadataWrite, PerFilterConfig, RuleSource, RuleValueType,
};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};
use millrace_observe::stats::{Counter, ShardStats, header_to_metadata as metric};
use millrace_route::cookie_value;

use super::protobuf_value;
use crate::http::grpc_web::base64::Decoder;
use crate::http::stream_filters::{Env, ResponseEnv, Start};

/// Values as long as this, or longer, are not written.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// The counters of one direction.
struct Counters {
    processed: Counter,
    added: Counter,
    not_found: Counter,
}

const REQUEST: Counters = Counters {
    processed: metric::REQUEST_RULES_PROCESSED,
    added: metric::REQUEST_METADATA_ADDED,
    not_found: metric::REQUEST_HEADER_NOT_FOUND,
};
const RESPONSE: Counters = Counters {
    processed: metric::RESPONSE_RULES_PROCESSED,
    added: metric::RESPONSE_METADATA_ADDED,
    not_found: metric::RESPONSE_HEADER_NOT_FOUND,
};

/// The rules that count: the most specific level's, or the filter's own.
pub(crate) fn rules<'c>(
    filter: &'c HeaderToMetadata,
    own: Option<&'c PerFilterConfig>,
) -> &'c HeaderToMetadata {
    match own {
        Some(PerFilterConfig::HeaderToMetadata(own)) => own,
        _ => filter,
    }
}

/// True when the response has rules, too.
pub(crate) fn begin(config: &HeaderToMetadata, env: &mut Env<'_>, head: &mut RequestHead) -> bool {
    let mut work = Work { config, state: env.state, stats: env.stats };
    for rule in &config.request {
        let value = match &rule.source {
            RuleSource::Header { name, .. } => of_request(head, name).map(Cow::into_owned),
            RuleSource::Cookie(name) => cookie_value(head, name).map(<[u8]>::to_vec),
        };
        remove(&rule.source, value.is_some(), &mut head.headers);
        work.apply(rule, value, &REQUEST);
    }
    !config.response.is_empty()
}

/// As [`begin`] for a request that was refused before it came to this filter.
pub(crate) fn has_response_part(filter: &HeaderToMetadata, name: &str, start: &Start<'_>) -> bool {
    !rules(filter, start.levels(name).next()).response.is_empty()
}

/// The rules for the response; `at` is the filter's place in the chain.
pub(crate) fn response_head(at: usize, head: &mut ResponseHead, env: &mut ResponseEnv<'_>) {
    let Some(config) = config_at(at, env.start) else { return };
    let mut work = Work { config, state: env.state, stats: env.stats };
    for rule in &config.response {
        let value = match &rule.source {
            RuleSource::Header { name, .. } if **name == *b":status" => {
                Some(head.status.to_string().into_bytes())
            }
            RuleSource::Header { name, .. } => joined(&head.headers, name).map(Cow::into_owned),
            RuleSource::Cookie(_) => None,
        };
        remove(&rule.source, value.is_some(), &mut head.headers);
        work.apply(rule, value, &RESPONSE);
    }
}

fn config_at<'c>(at: usize, start: &Start<'c>) -> Option<&'c HeaderToMetadata> {
    let filter = start.hcm.http_filters.get(at)?;
    let millrace_config::HttpFilterKind::HeaderToMetadata(config) = &filter.kind else { return None };
    Some(rules(config, start.levels(&filter.name).next()))
}

fn of_request<'h>(head: &'h RequestHead, name: &[u8]) -> Option<Cow<'h, [u8]>> {
    let pseudo = match name {
        b":method" => head.method(),
        b":path" => head.path(),
        b":authority" | b"host" => head.authority(),
        b":scheme" => head.scheme(),
        name => return joined(&head.headers, name),
    };
    (!pseudo.is_empty()).then_some(Cow::Borrowed(pseudo))
}

/// All values of a field, with commas between them.
fn joined<'h>(headers: &'h HeaderMap, name: &[u8]) -> Option<Cow<'h, [u8]>> {
    let mut values = headers.values_name(name);
    let first = values.next()?;
    if values.next().is_none() {
        return Some(Cow::Borrowed(first));
    }
    let mut all = Vec::new();
    headers.joined(name, &mut all);
    Some(Cow::Owned(all))
}

fn remove(source: &RuleSource, found: bool, headers: &mut HeaderMap) {
    if let RuleSource::Header { name, remove: true } = source
        && found
    {
        headers.remove_name(name);
    }
}

struct Work<'w> {
    config: &'w HeaderToMetadata,
    state: &'w StreamState,
    stats: &'w mut ShardStats,
}

impl Work<'_> {
    fn count(&mut self, counter: Counter) {
        if let Some(scope) = self.config.scope {
            self.stats.inc(scope, counter);
        }
    }

    fn apply(&mut self, rule: &MetadataRule, value: Option<Vec<u8>>, counters: &Counters) {
        self.count(counters.processed);
        let (write, found) = match (value, &rule.present, &rule.missing) {
            (Some(found), Some(write), _) => (write, found),
            (None, _, Some(write)) => {
                self.count(counters.not_found);
                (write, Vec::new())
            }
            _ => return,
        };
        let value: Cow<'_, [u8]> = match (&write.value, &write.rewrite) {
            (Some(value), _) => Cow::Borrowed(value.as_bytes()),
            (None, Some(rewrite)) => {
                let changed = rewrite.pattern.replace_all(&found, &*rewrite.substitution).into_owned();
                if changed.is_empty() && !found.is_empty() {
                    self.count(metric::REGEX_SUBSTITUTION_FAILED);
                }
                Cow::Owned(changed)
            }
            (None, None) => Cow::Owned(found),
        };
        if value.is_empty() {
            return;
        }
        if value.len() >= VALUE_BYTES_MAX {
            return self.count(metric::HEADER_VALUE_TOO_LONG);
        }
        if let Some(value) = self.decode(write, &value) {
            self.state
                .write(|notes| notes.metadata.namespace_mut(&write.namespace).insert(&write.key, value));
            self.count(counters.added);
        }
    }

    fn decode(&mut self, write: &MetadataWrite, value: &[u8]) -> Option<MetadataValue> {
        let mut decoded = Vec::new();
        let value = match write.base64 {
            true if !base64(value, &mut decoded) => {
                self.count(metric::BASE64_DECODE_FAILED);
                return None;
            }
            true => &decoded,
            false => value,
        };
        match write.kind {
            RuleValueType::String => Some(MetadataValue::from(&*String::from_utf8_lossy(value))),
            RuleValueType::Number => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .map(MetadataValue::Number),
            RuleValueType::ProtobufValue => protobuf_value::parse(value),
        }
    }
}

/// Decodes base64 with or without padding; false for what is none, or empty.
fn base64(text: &[u8], out: &mut Vec<u8>) -> bool {
    let end = text.iter().rposition(|letter| *letter != b'=').map_or(0, |at| at + 1);
    let mut decoder = Decoder::default();
    let padding: &[u8] = match end % 4 {
        2 => b"==",
        3 => b"=",
        _ => b"",
    };
    decoder.decode(&text[..end], out).and_then(|()| decoder.decode(padding, out)).is_ok()
        && decoder.is_complete()
        && !out.is_empty()
}
