//! Which responses outlier detection takes for errors (`HttpProtocolOptions.outlier_detection.error_matcher`).

use std::sync::Arc;

use millrace_config::ResponsePredicate;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::common::matcher::v3 as pb;
use millrace_proto::pb::envoy::config::common::matcher::v3::match_predicate::{MatchSet, Rule};
use millrace_proto::pb::envoy::extensions::upstreams::http::v3 as options;

use crate::error::Rejection;
use crate::matcher;

/// Deepest nesting of predicates.
const DEPTH_MAX: usize = 16;

pub(super) fn errors(
    options: &options::HttpProtocolOptions,
    path: &Path,
) -> Result<Option<Arc<ResponsePredicate>>, Rejection> {
    let by = options.outlier_detection.as_ref().and_then(|by| by.error_matcher.as_ref());
    let path = path.join("outlier_detection").join("error_matcher");
    by.map(|by| predicate(by, &path, 0).map(Arc::new)).transpose()
}

fn predicate(by: &pb::MatchPredicate, path: &Path, depth: usize) -> Result<ResponsePredicate, Rejection> {
    if depth > DEPTH_MAX {
        return Err(Rejection::new(path, "predicates are nested too deeply"));
    }
    Ok(match &by.rule {
        None => return Err(Rejection::new(&path.join("rule"), "is required")),
        Some(Rule::AnyMatch(any)) => ResponsePredicate::Any(*any),
        Some(Rule::OrMatch(set)) => ResponsePredicate::AnyOf(several(set, &path.join("or_match"), depth)?),
        Some(Rule::AndMatch(set)) => ResponsePredicate::All(several(set, &path.join("and_match"), depth)?),
        Some(Rule::NotMatch(not)) => {
            ResponsePredicate::Not(Box::new(predicate(not, &path.join("not_match"), depth + 1)?))
        }
        Some(Rule::HttpResponseHeadersMatch(by)) => {
            let path = path.join("http_response_headers_match").join("headers");
            ResponsePredicate::Headers(matcher::headers(&by.headers, &path)?)
        }
        // Each is refused by name before (`fields`).
        Some(_) => return Err(Rejection::not_served(path, "an answer is judged by its head")),
    })
}

fn several(set: &MatchSet, path: &Path, depth: usize) -> Result<Vec<ResponsePredicate>, Rejection> {
    let path = path.join("rules");
    set.rules.iter().enumerate().map(|(i, one)| predicate(one, &path.at(i), depth + 1)).collect()
}
