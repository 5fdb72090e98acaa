//! `envoy.filters.http.header_mutation`: fields, query parameters and trailers, step by step.

use millrace_config::{HeaderMutationFilter, HeaderMutationStep, MutationLists, PerFilterConfig};
use millrace_http::{HeaderMap, RequestHead, ResponseHead};

use super::query;
use crate::http::router::{Render, mutation};
use crate::http::stream_filters::{Env, ResponseEnv, Start};

/// The filter's own lists, then those of the route's levels: the most specific first, or last where it shall win.
fn lists<'c>(
    filter: &'c HeaderMutationFilter,
    name: &str,
    start: &Start<'c>,
) -> impl Iterator<Item = &'c MutationLists> {
    let mut levels = [None; 4];
    let typed = start.levels(name).filter_map(|config| match config {
        PerFilterConfig::HeaderMutation(lists) => Some(&**lists),
        _ => None,
    });
    for (slot, lists) in levels.iter_mut().zip(typed) {
        *slot = Some(lists);
    }
    if filter.most_specific_wins {
        levels.reverse();
    }
    [Some(&*filter.own)].into_iter().chain(levels).flatten()
}

/// True when something is left to be done to the response.
pub(crate) fn begin(
    filter: &HeaderMutationFilter,
    name: &str,
    start: &Start<'_>,
    env: &mut Env<'_>,
    head: &mut RequestHead,
) -> bool {
    let mut later = false;
    for lists in lists(filter, name, start) {
        for step in &lists.request {
            request_step(step, env.render, head, env.scratch);
        }
        if !lists.query.is_empty() {
            query::mutate(&lists.query, env.render, head);
        }
        later |= answers(lists);
    }
    later
}

/// As [`begin`] for a request that was refused before it came to this filter: nothing but the answer is changed.
pub(crate) fn has_response_part(filter: &HeaderMutationFilter, name: &str, start: &Start<'_>) -> bool {
    lists(filter, name, start).any(answers)
}

fn answers(lists: &MutationLists) -> bool {
    !(lists.response.is_empty() && lists.response_trailers.is_empty() && lists.request_trailers.is_empty())
}

pub(crate) fn response_head(
    filter: &HeaderMutationFilter,
    name: &str,
    head: &mut ResponseHead,
    env: &mut ResponseEnv<'_>,
) {
    for lists in lists(filter, name, env.start) {
        for step in &lists.response {
            let (render, request) = (env.render, env.request);
            if let HeaderMutationStep::Append(option) = step {
                env.scratch.clear();
                render.render(&option.value, request, Some(head), env.scratch);
            }
            field_step(step, &mut head.headers, env.scratch);
        }
    }
}

/// Which trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

pub(crate) fn trailers(
    filter: &HeaderMutationFilter,
    name: &str,
    side: Side,
    trailers: &mut HeaderMap,
    response: Option<&ResponseHead>,
    env: &mut ResponseEnv<'_>,
) {
    for lists in lists(filter, name, env.start) {
        let steps = match side {
            Side::Request => &lists.request_trailers,
            Side::Response => &lists.response_trailers,
        };
        for step in steps {
            if let HeaderMutationStep::Append(option) = step {
                env.scratch.clear();
                env.render.render(&option.value, env.request, response, env.scratch);
            }
            field_step(step, trailers, env.scratch);
        }
    }
}

pub(crate) fn request_step(
    step: &HeaderMutationStep,
    render: &dyn Render,
    head: &mut RequestHead,
    scratch: &mut Vec<u8>,
) {
    if let HeaderMutationStep::Append(option) = step {
        scratch.clear();
        render.render(&option.value, head, None, scratch);
    }
    field_step(step, &mut head.headers, scratch);
}

/// `value` is what an `append` evaluated to.
fn field_step(step: &HeaderMutationStep, headers: &mut HeaderMap, value: &[u8]) {
    match step {
        HeaderMutationStep::Remove(name) => {
            headers.remove_name(name);
        }
        HeaderMutationStep::Append(option) => mutation::add_one(option, headers, value),
        HeaderMutationStep::RemoveOnMatch(matcher) => {
            headers.retain(|_, name, _| !matcher.matches(name));
        }
    }
}
