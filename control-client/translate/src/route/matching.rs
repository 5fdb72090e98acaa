//! `config.route.v3.RouteMatch`.

use millrace_config::{PathMatcher, RouteMatch, WrittenMatcher};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as pb;
use millrace_proto::pb::envoy::config::route::v3::route_match::PathSpecifier as By;

use crate::context::Context;
use crate::error::Rejection;
use crate::{matcher, regex_util, value, written_matcher};

pub(super) fn route_match(by: &pb::RouteMatch, path: &Path, cx: &Context) -> Result<RouteMatch, Rejection> {
    let case_sensitive = value::flag(by.case_sensitive.as_ref(), true);
    let text = |text: &str| match case_sensitive {
        true => value::bytes(text),
        false => value::lower_bytes(text),
    };
    let path_matcher = match &by.path_specifier {
        Some(By::Prefix(prefix)) => PathMatcher::Prefix(text(prefix)),
        Some(By::Path(exact)) => PathMatcher::Exact(text(exact)),
        Some(By::PathSeparatedPrefix(prefix)) => PathMatcher::SeparatedPrefix(text(prefix)),
        Some(By::SafeRegex(regex)) => PathMatcher::Regex(regex_util::full(regex, &path.join("safe_regex"))?),
        Some(By::ConnectMatcher(_)) => PathMatcher::Connect,
        Some(By::PathMatchPolicy(_)) => {
            return Err(Rejection::not_served(
                &path.join("path_match_policy"),
                "path match extensions are not served by this build",
            ));
        }
        None => return Err(Rejection::new(&path.join("path_specifier"), "is required")),
    };
    let query_path = path.join("query_parameters");
    let query = by.query_parameters.iter().enumerate();
    Ok(RouteMatch {
        path: path_matcher,
        case_sensitive,
        fraction: by.runtime_fraction.as_ref().map(|fraction| cx.runtime.fraction(fraction)),
        headers: matcher::headers(&by.headers, &path.join("headers"))?,
        query: query.map(|(i, q)| matcher::query(q, &query_path.at(i))).collect::<Result<_, _>>()?,
        grpc: by.grpc.is_some(),
        written: written(by, path)?,
    })
}

fn written(by: &pb::RouteMatch, path: &Path) -> Result<Vec<WrittenMatcher>, Rejection> {
    let (metadata_path, state_path) = (path.join("dynamic_metadata"), path.join("filter_state"));
    let metadata = by.dynamic_metadata.iter().enumerate();
    let metadata = metadata
        .map(|(i, one)| written_matcher::metadata(one, &metadata_path.at(i)).map(WrittenMatcher::Metadata));
    let state = by.filter_state.iter().enumerate();
    let state = state.map(|(i, one)| {
        written_matcher::filter_state(one, &state_path.at(i)).map(WrittenMatcher::FilterState)
    });
    metadata.chain(state).collect()
}
