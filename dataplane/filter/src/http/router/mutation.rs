//! Header mutations of configuration levels, in Envoy's order.

use millrace_config::format::{Part, Template};
use millrace_config::{AppendAction, HeaderMutations, HeaderOption, RouteConfiguration, WeightedCluster};
use millrace_http::{HeaderId, HeaderMap, RequestHead, ResponseHead};
use millrace_route::Selected;

use super::Render;

/// The levels that may change heads; the weighted cluster's, if one was chosen, is the most specific.
#[derive(Clone, Copy, Debug)]
pub struct Levels<'c> {
    /// The route configuration.
    pub config: &'c RouteConfiguration,
    /// The virtual host and route.
    pub selected: Selected<'c>,
    /// The chosen entry of the route's weighted clusters.
    pub weighted: Option<&'c WeightedCluster>,
}

impl<'c> Levels<'c> {
    /// Most specific level first, or last with `most_specific_header_mutations_wins`: what runs later wins.
    fn ordered(&self, request: bool) -> impl Iterator<Item = &'c HeaderMutations> {
        let (route, host, config) = (self.selected.route, self.selected.virtual_host, self.config);
        let mut levels = match request {
            true => [
                self.weighted.map(|w| &w.request_headers),
                Some(&route.request_headers),
                Some(&host.request_headers),
                Some(&config.request_headers),
            ],
            false => [
                self.weighted.map(|w| &w.response_headers),
                Some(&route.response_headers),
                Some(&host.response_headers),
                Some(&config.response_headers),
            ],
        };
        if config.most_specific_mutations_win {
            levels.reverse();
        }
        levels.into_iter().flatten().filter(|mutations| !mutations.is_empty())
    }
}

/// Applies the request mutations of all levels. `scratch` is cleared and used.
pub fn request(levels: &Levels<'_>, render: &impl Render, head: &mut RequestHead, scratch: &mut Vec<u8>) {
    for mutations in levels.ordered(true) {
        remove(mutations, &mut head.headers);
        let value = |template: &Template, out: &mut Vec<u8>| render.render(template, head, None, out);
        evaluate(mutations, &head.headers, value, scratch);
        apply(mutations, &mut head.headers, scratch);
    }
}

/// Applies the mutations of one level to a request that no client sent.
pub fn own_request(mutations: &HeaderMutations, render: &impl Render, head: &mut RequestHead) {
    if mutations.is_empty() {
        return;
    }
    remove(mutations, &mut head.headers);
    let mut values = Vec::new();
    let value = |template: &Template, out: &mut Vec<u8>| render.render(template, head, None, out);
    evaluate(mutations, &head.headers, value, &mut values);
    apply(mutations, &mut head.headers, &values);
}

/// The same to the request that another answer led to.
pub(crate) fn restarted_request(
    mutations: &HeaderMutations,
    render: &dyn Render,
    answer: &ResponseHead,
    head: &mut RequestHead,
) {
    let mut values = Vec::new();
    let value = |template: &Template, out: &mut Vec<u8>| render.render(template, head, Some(answer), out);
    evaluate(mutations, &head.headers, value, &mut values);
    apply(mutations, &mut head.headers, &values);
}

/// Adds the fields of one level to a response; `seen` is the one that values see.
pub(crate) fn own_response(
    mutations: &HeaderMutations,
    render: &dyn Render,
    sent: &RequestHead,
    seen: &ResponseHead,
    head: &mut ResponseHead,
) {
    let mut values = Vec::new();
    let value = |template: &Template, out: &mut Vec<u8>| render.render(template, sent, Some(seen), out);
    evaluate(mutations, &head.headers, value, &mut values);
    apply(mutations, &mut head.headers, &values);
}

/// Applies the response mutations of all levels; `sent` is the request as it went upstream.
pub fn response(
    levels: &Levels<'_>,
    render: &impl Render,
    sent: &RequestHead,
    head: &mut ResponseHead,
    scratch: &mut Vec<u8>,
) {
    for mutations in levels.ordered(false) {
        remove(mutations, &mut head.headers);
        let value = |template: &Template, out: &mut Vec<u8>| render.render(template, sent, Some(head), out);
        evaluate(mutations, &head.headers, value, scratch);
        apply(mutations, &mut head.headers, scratch);
    }
}

fn remove(mutations: &HeaderMutations, headers: &mut HeaderMap) {
    for name in &mutations.remove {
        headers.remove_name(name);
    }
}

/// Length of the length in front of every evaluated value.
const PREFIX: usize = size_of::<u32>();
/// Length that marks an option that changes nothing.
const SKIPPED: u32 = u32::MAX;

/// Writes one length-prefixed value per option: all of them see the fields as they were before the level
/// changes any.
fn evaluate(
    mutations: &HeaderMutations,
    headers: &HeaderMap,
    render: impl Fn(&Template, &mut Vec<u8>),
    values: &mut Vec<u8>,
) {
    values.clear();
    for option in &mutations.add {
        let start = values.len();
        values.extend_from_slice(&SKIPPED.to_le_bytes());
        match option.value.parts.as_slice() {
            [] => {}
            [Part::Text(text)] => values.extend_from_slice(text.as_bytes()),
            _ => render(&option.value, values),
        }
        let len = values.len() - start - PREFIX;
        let wanted = (len > 0 || option.keep_empty_value) && applies(option, headers);
        match u32::try_from(len).ok().filter(|_| wanted) {
            Some(len) => values[start..start + PREFIX].copy_from_slice(&len.to_le_bytes()),
            None => values.truncate(start + PREFIX),
        }
    }
}

fn applies(option: &HeaderOption, headers: &HeaderMap) -> bool {
    match option.action {
        AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
        AppendAction::AddIfAbsent => !headers.contains_name(&option.name),
        AppendAction::OverwriteIfExists => headers.contains_name(&option.name),
    }
}

/// First what overwrites, then what adds. An overwritten field moves to the end.
fn apply(mutations: &HeaderMutations, headers: &mut HeaderMap, values: &[u8]) {
    for overwriting in [true, false] {
        let mut rest = values;
        for option in &mutations.add {
            let Some((prefix, tail)) = rest.split_first_chunk::<PREFIX>() else { break };
            let len = u32::from_le_bytes(*prefix);
            rest = tail;
            if len == SKIPPED {
                continue;
            }
            let Some((value, tail)) = rest.split_at_checked(len as usize) else { break };
            rest = tail;
            let overwrites = matches!(
                option.action,
                AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd
            );
            if overwrites != overwriting {
                continue;
            }
            if overwrites {
                headers.remove_name(&option.name);
            }
            add(headers, &option.name, value);
        }
    }
}

/// Applies one option whose value is evaluated.
pub(crate) fn add_one(option: &HeaderOption, headers: &mut HeaderMap, value: &[u8]) {
    if (value.is_empty() && !option.keep_empty_value) || !applies(option, headers) {
        return;
    }
    if matches!(option.action, AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd) {
        headers.remove_name(&option.name);
    }
    add(headers, &option.name, value);
}

/// Applies options to a request, each to what the one before left.
pub(crate) fn add_all(
    options: &[HeaderOption],
    render: &dyn Render,
    head: &mut RequestHead,
    scratch: &mut Vec<u8>,
) {
    for option in options {
        scratch.clear();
        render.render(&option.value, head, None, scratch);
        add_one(option, &mut head.headers, scratch);
    }
}

/// Adds a field. Fields that Envoy keeps as single ones grow a list instead of a second line.
pub(crate) fn add(headers: &mut HeaderMap, name: &[u8], value: &[u8]) {
    let single = HeaderId::lookup(name).filter(|id| SINGLE.contains(id) && headers.contains(*id));
    let Some(id) = single else {
        headers.append(name, value);
        return;
    };
    let mut joined = Vec::new();
    headers.joined(name, &mut joined);
    joined.push(b',');
    joined.extend_from_slice(value);
    headers.set_id(id, &joined);
}

/// Known fields with one value in Envoy's header map, as far as configurations add to them.
const SINGLE: [HeaderId; 17] = [
    HeaderId::ContentType,
    HeaderId::Via,
    HeaderId::UserAgent,
    HeaderId::Server,
    HeaderId::Date,
    HeaderId::Location,
    HeaderId::XRequestId,
    HeaderId::XForwardedFor,
    HeaderId::XForwardedHost,
    HeaderId::XForwardedPort,
    HeaderId::XForwardedProto,
    HeaderId::XForwardedClientCert,
    HeaderId::XEnvoyDecoratorOperation,
    HeaderId::XEnvoyDownstreamServiceCluster,
    HeaderId::XEnvoyUpstreamServiceTime,
    HeaderId::XEnvoyAttemptCount,
    HeaderId::GrpcMessage,
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_config::{ClusterId, ClusterSpecifier, VirtualHost};

    use super::*;
    use crate::http::test::{Literal, bytes, head, lines, option, route, text, virtual_host};

    use AppendAction::{
        AddIfAbsent, AppendIfExistsOrAdd as Append, OverwriteIfExists, OverwriteIfExistsOrAdd as Overwrite,
    };

    fn level(value: &str) -> HeaderMutations {
        let add = vec![option("x-m", value, Overwrite), option("x-l", value, Append)];
        HeaderMutations { add, remove: Vec::new() }
    }

    fn run(most_specific_wins: bool, sent: &[(&str, &str)]) -> String {
        let mut config = RouteConfiguration::default();
        config.request_headers = level("rc");
        config.most_specific_mutations_win = most_specific_wins;
        let host = Arc::new(VirtualHost { request_headers: level("vh"), ..virtual_host() });
        let mut own = level("route");
        own.add.extend([
            option("x-b", "added", Append),
            option("x-emp", "", Append),
            HeaderOption { keep_empty_value: true, ..option("x-emp2", "", Append) },
            option("x-a", "if", OverwriteIfExists),
            option("x-a0", "if", OverwriteIfExists),
            option("x-a", "abs", AddIfAbsent),
            option("x-ab", "abs", AddIfAbsent),
        ]);
        own.remove = vec![bytes("x-b"), bytes("x-c")];
        let route = Arc::new(millrace_config::Route { request_headers: own, ..route() });
        let entry = WeightedCluster {
            cluster: ClusterSpecifier::Cluster(ClusterId(0)),
            weight: 1,
            request_headers: level("wc"),
            response_headers: HeaderMutations::default(),
            host_rewrite: None,
            metadata_match: None,
            per_filter: Vec::new(),
        };
        let selected = Selected { virtual_host: &host, route: &route };
        let levels = Levels { config: &config, selected, weighted: Some(&entry) };
        let mut head = head("/", sent);
        request(&levels, &Literal, &mut head, &mut Vec::new());
        lines(&head.headers)
    }

    #[test]
    fn levels_and_actions_as_envoy_1_40_applied_them() {
        let sent = [("x-a", "orig"), ("x-b", "orig"), ("x-c", "orig"), ("x-m", "orig")];
        let expected = "x-l: wc | x-a: if | x-l: route | x-b: added | x-emp2:  | x-ab: abs | x-l: vh | \
                        x-m: rc | x-l: rc";
        assert_eq!(run(false, &sent), expected);
        let expected = "x-l: wc | x-l: route | x-b: added | x-emp2:  | x-a: abs | x-ab: abs | x-l: vh | \
                        x-m: rc | x-l: rc";
        assert_eq!(run(false, &[]), expected);
        assert!(run(true, &[]).ends_with("x-m: wc | x-l: wc"));
    }

    #[test]
    fn single_fields_grow_a_list() {
        let mut headers = HeaderMap::new();
        headers.append(b"user-agent", b"a");
        add(&mut headers, b"user-agent", b"b");
        add(&mut headers, b"x-one", b"1");
        add(&mut headers, b"x-one", b"2");
        assert_eq!(lines(&headers), "user-agent: a,b | x-one: 1 | x-one: 2");
        assert_eq!(text(headers.get(HeaderId::UserAgent).unwrap_or_default()), "a,b");
    }
}
