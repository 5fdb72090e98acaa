//! `envoy.filters.http.json_to_metadata`: values of JSON bodies become dynamic metadata.
//!
//! A message that has rules is collected: its body is copied here while the stream holds it, up to the buffer limit.

use std::borrow::Cow;
use std::sync::Arc;

use millrace_base::{MetadataValue, StreamState};
use millrace_config::{JsonRule, JsonRules, JsonToMetadata, JsonWrite, PerFilterConfig, RuleValueType};
use millrace_http::{HeaderId, HeaderMap, RequestHead, ResponseHead};
use millrace_observe::stats::{Counter, ShardStats, json_to_metadata as metric};

use super::json::{self, Json};
use crate::http::LocalReply;
use crate::http::router::reply;
use crate::http::stream_filters::{Env, ResponseEnv, Start, Verdict};

/// Texts longer than this are not written.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// A message with its rules.
#[derive(Debug)]
pub(crate) struct JsonActive {
    config: Arc<JsonToMetadata>,
    /// What is here of the body that is collected.
    body: Vec<u8>,
    limit: usize,
    holds_request: bool,
    holds_response: bool,
}

/// The rules that count: the most specific level's, or the filter's own.
pub(crate) fn rules<'c>(
    filter: &'c Arc<JsonToMetadata>,
    own: Option<&'c PerFilterConfig>,
) -> &'c Arc<JsonToMetadata> {
    match own {
        Some(PerFilterConfig::JsonToMetadata(own)) => own,
        _ => filter,
    }
}

/// For a request that was refused before it came to this filter: its answer has rules.
pub(crate) fn of_answer(filter: &Arc<JsonToMetadata>, name: &str, start: &Start<'_>) -> Option<JsonActive> {
    let config = rules(filter, start.levels(name).next());
    config.response.is_some().then(|| JsonActive::new(config, start))
}

impl JsonActive {
    fn new(config: &Arc<JsonToMetadata>, start: &Start<'_>) -> Self {
        Self {
            config: Arc::clone(config),
            body: Vec::new(),
            limit: start.buffer_limit,
            holds_request: false,
            holds_response: false,
        }
    }

    pub(crate) fn begin(
        config: &Arc<JsonToMetadata>,
        start: &Start<'_>,
        env: &mut Env<'_>,
        head: &RequestHead,
    ) -> (Option<Self>, Verdict) {
        let mut work = Work { state: env.state, stats: env.stats };
        let rules = config.request.as_ref();
        let judged = rules.map(|rules| (rules, work.judge(rules, &head.headers, start.whole)));
        let verdict = match judged {
            Some((_, None)) => Verdict::Hold,
            Some((_, Some(true))) => Verdict::Reroute,
            Some((_, Some(false))) | None => Verdict::Continue,
        };
        let holds_request = verdict == Verdict::Hold;
        let active = holds_request || config.response.is_some();
        (active.then(|| Self { holds_request, ..Self::new(config, start) }), verdict)
    }

    /// More of a request, which the stream keeps.
    pub(crate) fn request_data(&mut self, data: &[u8]) -> Result<(), Box<LocalReply>> {
        if self.holds_request {
            self.keep(data).then_some(()).ok_or_else(|| reply::payload_too_large().into())
        } else {
            Ok(())
        }
    }

    /// All of the request is here. True when the route is to be chosen again.
    pub(crate) fn resume(&mut self, env: &mut Env<'_>) -> bool {
        self.holds_request = false;
        let body = std::mem::take(&mut self.body);
        let Some(rules) = &self.config.request else { return false };
        Work { state: env.state, stats: env.stats }.read(rules, &body)
    }

    /// The head of the response waits for its body.
    pub(crate) fn holds(&self) -> bool {
        self.holds_response
    }

    pub(crate) fn response_head(&mut self, head: &ResponseHead, end: bool, env: &mut ResponseEnv<'_>) {
        // An answer that came before all of the request did.
        self.holds_request = false;
        self.body.clear();
        let Some(rules) = &self.config.response else { return };
        let mut work = Work { state: env.state, stats: env.stats };
        self.holds_response = work.judge(rules, &head.headers, end).is_none();
    }

    /// Keeps the response; its end lets it go.
    pub(crate) fn response_data(
        &mut self,
        data: &[u8],
        end: bool,
        out: &mut Vec<u8>,
        env: &mut ResponseEnv<'_>,
    ) -> Result<(), Box<LocalReply>> {
        if !self.keep(data) {
            return Err(reply::response_too_large().into());
        }
        if end {
            self.release(out, env);
        }
        Ok(())
    }

    /// All of the response is here.
    pub(crate) fn release(&mut self, out: &mut Vec<u8>, env: &mut ResponseEnv<'_>) {
        self.holds_response = false;
        let mut body = std::mem::take(&mut self.body);
        if let Some(rules) = &self.config.response {
            Work { state: env.state, stats: env.stats }.read(rules, &body);
        }
        out.append(&mut body);
    }

    fn keep(&mut self, data: &[u8]) -> bool {
        let fits = self.body.len() + data.len() <= self.limit;
        if fits {
            self.body.extend_from_slice(data);
        }
        fits
    }
}

/// What is to be written of a message.
type Writes<'c> = Vec<(&'c JsonWrite, MetadataValue)>;

struct Work<'w> {
    state: &'w StreamState,
    stats: &'w mut ShardStats,
}

impl Work<'_> {
    /// What a head decides: whether something was written, or `None` when the body must be read.
    fn judge(&mut self, rules: &JsonRules, headers: &HeaderMap, whole: bool) -> Option<bool> {
        let content_type = headers.get(HeaderId::ContentType).unwrap_or_default();
        let allowed = match content_type {
            b"" => rules.empty_content_type,
            _ => rules.content_types.iter().any(|allowed| allowed.matches(content_type)),
        };
        match (allowed, whole) {
            (false, _) => Some(self.all(rules, |rule| rule.error.as_ref(), metric::MISMATCHED_CONTENT_TYPE)),
            (true, true) => Some(self.all(rules, |rule| rule.missing.as_ref(), metric::NO_BODY)),
            (true, false) => None,
        }
    }

    /// True when something was written.
    fn read(&mut self, rules: &JsonRules, body: &[u8]) -> bool {
        if body.is_empty() {
            return self.all(rules, |rule| rule.missing.as_ref(), metric::NO_BODY);
        }
        match json::parse(body) {
            None => self.all(rules, |rule| rule.error.as_ref(), metric::INVALID_JSON_BODY),
            Some(root @ (Json::Object(_) | Json::List)) => {
                self.stats.inc(rules.scope, metric::SUCCESS);
                let found = rules.rules.iter().filter_map(|rule| find(rule, &root));
                self.write(found.collect())
            }
            // It has no fields that could be present.
            Some(_) => self.all(rules, |rule| rule.missing.as_ref(), metric::SUCCESS),
        }
    }

    /// Writes what each rule has for one case.
    fn all(
        &mut self,
        rules: &JsonRules,
        of: impl Fn(&JsonRule) -> Option<&JsonWrite>,
        counter: Counter,
    ) -> bool {
        self.stats.inc(rules.scope, counter);
        self.write(rules.rules.iter().filter_map(of).filter_map(fixed).collect())
    }

    fn write(&mut self, writes: Writes<'_>) -> bool {
        let mut any = false;
        self.state.write(|notes| {
            // What is to be preserved was there before this filter came.
            let known = |write: &JsonWrite| {
                notes.metadata.namespace(&write.namespace).is_some_and(|own| own.get(&write.key).is_some())
            };
            let kept: Writes<'_> = writes.into_iter().filter(|(w, _)| !w.preserve || !known(w)).collect();
            any = !kept.is_empty();
            for (write, value) in kept {
                notes.metadata.namespace_mut(&write.namespace).insert(&write.key, value);
            }
        });
        any
    }
}

fn fixed(write: &JsonWrite) -> Option<(&JsonWrite, MetadataValue)> {
    Some((write, write.value.clone()?))
}

/// What a rule makes of a body.
fn find<'c>(rule: &'c JsonRule, root: &Json<'_>) -> Option<(&'c JsonWrite, MetadataValue)> {
    let missing = || rule.missing.as_ref().and_then(fixed);
    let mut node = root.clone();
    for name in &rule.parents {
        match node {
            Json::Object(fields) => node = fields.get(name).unwrap_or(Json::Null),
            _ => return missing(),
        }
    }
    let field = match node {
        Json::Object(fields) => fields.get(&rule.key),
        // As in Envoy a list that is all of the body has fields, but none that is found.
        Json::List if rule.parents.is_empty() => None,
        _ => return missing(),
    };
    let write = rule.present.as_ref()?;
    if let Some(value) = &write.value {
        return Some((write, value.clone()));
    }
    match field.and_then(|found| convert(found, write.kind)) {
        // An empty text is neither written nor missing.
        Some(MetadataValue::Text(text)) if text.is_empty() && write.kind == RuleValueType::String => None,
        Some(value) => Some((write, value)),
        None => missing(),
    }
}

/// A value as the rule wants it; `None` for one that counts as missing.
fn convert(found: Json<'_>, kind: RuleValueType) -> Option<MetadataValue> {
    let text: Cow<'_, str> = match (found, kind) {
        (Json::Null | Json::List | Json::Object(_), _) => return None,
        (Json::Bool(bit), RuleValueType::ProtobufValue) => return Some(MetadataValue::Bool(bit)),
        (Json::Bool(bit), RuleValueType::Number) => return Some(MetadataValue::Number(f64::from(bit))),
        (Json::Bool(bit), RuleValueType::String) => if bit { "1" } else { "0" }.into(),
        (Json::Integer(number), RuleValueType::String) => number.to_string().into(),
        (Json::Double(number), RuleValueType::String) => format!("{number:.6}").into(),
        (Json::Integer(number), _) => return Some(MetadataValue::Number(number as f64)),
        (Json::Double(number), _) => return Some(MetadataValue::Number(number)),
        (Json::Text(text), RuleValueType::Number) => {
            return text.trim_ascii().parse().ok().map(MetadataValue::Number);
        }
        (Json::Text(text), _) => text,
    };
    (text.len() <= VALUE_BYTES_MAX).then(|| MetadataValue::from(&*text))
}

#[cfg(test)]
mod tests;
