//! Header mutations of configuration levels, in Envoy's order.

use millrace_config::{AppendAction, HeaderMutations, RouteConfiguration, format::Part};
use millrace_http::{RequestHead, ResponseHead};
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
    pub weighted: Option<&'c millrace_config::WeightedCluster>,
}

impl<'c> Levels<'c> {
    /// Most specific level first, or last with `most_specific_header_mutations_wins`: what runs later wins.
    fn ordered(&self, request: bool) -> [Option<&'c HeaderMutations>; 4] {
        let (route, host) = (self.selected.route, self.selected.virtual_host);
        let mut levels = if request {
            [
                self.weighted.map(|w| &w.request_headers),
                Some(&route.request_headers),
                Some(&host.request_headers),
                Some(&self.config.request_headers),
            ]
        } else {
            [
                self.weighted.map(|w| &w.response_headers),
                Some(&route.response_headers),
                Some(&host.response_headers),
                Some(&self.config.response_headers),
            ]
        };
        if self.config.most_specific_mutations_win {
            levels.reverse();
        }
        levels
    }
}

/// Applies the request mutations of all levels. `scratch` is cleared and used.
pub fn request(levels: &Levels<'_>, render: &impl Render, head: &mut RequestHead, scratch: &mut Vec<u8>) {
    for mutations in levels.ordered(true).into_iter().flatten().filter(|m| !m.is_empty()) {
        for name in &mutations.remove {
            head.headers.remove_name(name);
        }
        for option in &mutations.add {
            scratch.clear();
            match literal(&option.value.parts) {
                Some(text) => scratch.extend_from_slice(text),
                None => render.render(&option.value, head, None, scratch),
            }
            apply(&mut head.headers, option, scratch);
        }
    }
}

/// Applies the response mutations of all levels; `sent` is the request as it went upstream.
pub fn response(
    levels: &Levels<'_>,
    render: &impl Render,
    sent: &RequestHead,
    head: &mut ResponseHead,
    scratch: &mut Vec<u8>,
) {
    for mutations in levels.ordered(false).into_iter().flatten().filter(|m| !m.is_empty()) {
        for name in &mutations.remove {
            head.headers.remove_name(name);
        }
        for option in &mutations.add {
            scratch.clear();
            match literal(&option.value.parts) {
                Some(text) => scratch.extend_from_slice(text),
                None => render.render(&option.value, sent, Some(head), scratch),
            }
            apply(&mut head.headers, option, scratch);
        }
    }
}

/// The value of a template without operators.
fn literal(parts: &[Part]) -> Option<&[u8]> {
    match parts {
        [] => Some(b""),
        [Part::Text(text)] => Some(text.as_bytes()),
        #[allow(unreachable_patterns, reason = "operators join the enum with observe's formats")]
        _ => None,
    }
}

fn apply(headers: &mut millrace_http::HeaderMap, option: &millrace_config::HeaderOption, value: &[u8]) {
    if value.is_empty() && !option.keep_empty_value {
        return;
    }
    let exists = || headers.contains_name(&option.name);
    match option.action {
        AppendAction::AppendIfExistsOrAdd => {
            headers.append(&option.name, value);
        }
        AppendAction::AddIfAbsent => {
            if !exists() {
                headers.append(&option.name, value);
            }
        }
        AppendAction::OverwriteIfExistsOrAdd => {
            headers.set(&option.name, value);
        }
        AppendAction::OverwriteIfExists => {
            if exists() {
                headers.set(&option.name, value);
            }
        }
    }
}
