//! `extensions.filters.http.header_mutation.v3`.

use std::sync::Arc;

use millrace_config::{
    AppendAction, HeaderMutationFilter, HeaderMutationStep, HttpFilterKind, MutationLists, PerFilterConfig,
    QueryMutation,
};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::common::mutation_rules::v3 as rules;
use millrace_proto::pb::envoy::config::core::v3 as core;
use millrace_proto::pb::envoy::extensions::filters::http::header_mutation::v3 as pb;
use millrace_proto::pb::google::protobuf::value::Kind;

use crate::error::Rejection;
use crate::{headers, matcher, value};

pub(super) const TYPE: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute";

pub(super) fn filter(config: &pb::HeaderMutation, path: &Path) -> Result<HttpFilterKind, Rejection> {
    Ok(HttpFilterKind::HeaderMutation(Arc::new(HeaderMutationFilter {
        own: lists(config.mutations.as_ref(), path)?,
        most_specific_wins: config.most_specific_header_mutations_wins,
    })))
}

pub(super) fn of_route(
    config: &pb::HeaderMutationPerRoute,
    path: &Path,
) -> Result<PerFilterConfig, Rejection> {
    Ok(PerFilterConfig::HeaderMutation(lists(config.mutations.as_ref(), path)?))
}

fn lists(mutations: Option<&pb::Mutations>, path: &Path) -> Result<Arc<MutationLists>, Rejection> {
    let Some(mutations) = mutations else { return Ok(Arc::default()) };
    let path = path.join("mutations");
    let query_path = path.join("query_parameter_mutations");
    let queries = mutations.query_parameter_mutations.iter().enumerate();
    Ok(Arc::new(MutationLists {
        request: steps(&mutations.request_mutations, &path.join("request_mutations"))?,
        query: queries.map(|(i, one)| query(one, &query_path.at(i))).collect::<Result<_, _>>()?,
        response: steps(&mutations.response_mutations, &path.join("response_mutations"))?,
        request_trailers: steps(
            &mutations.request_trailers_mutations,
            &path.join("request_trailers_mutations"),
        )?,
        response_trailers: steps(
            &mutations.response_trailers_mutations,
            &path.join("response_trailers_mutations"),
        )?,
    }))
}

/// `config.common.mutation_rules.v3.HeaderMutation`s, wherever they stand.
pub(crate) fn steps(
    list: &[rules::HeaderMutation],
    path: &Path,
) -> Result<Vec<HeaderMutationStep>, Rejection> {
    list.iter().enumerate().map(|(i, one)| step(one, &path.at(i))).collect()
}

fn step(mutation: &rules::HeaderMutation, path: &Path) -> Result<HeaderMutationStep, Rejection> {
    use rules::header_mutation::Action;
    match &mutation.action {
        Some(Action::Remove(name)) if headers::is_protected(name) => Err(Rejection::not_served(
            &path.join("remove"),
            "the parts of a head that are no fields cannot be removed",
        )),
        Some(Action::Remove(name)) => Ok(HeaderMutationStep::Remove(value::lower_bytes(name))),
        Some(Action::Append(option)) => {
            Ok(HeaderMutationStep::Append(headers::option(option, &path.join("append"))?))
        }
        Some(Action::RemoveOnMatch(by)) => {
            let path = path.join("remove_on_match").join("key_matcher");
            let Some(by) = &by.key_matcher else { return Err(Rejection::new(&path, "value is required")) };
            Ok(HeaderMutationStep::RemoveOnMatch(matcher::string(by, &path)?))
        }
        None => Err(Rejection::new(&path.join("action"), "is required")),
    }
}

fn query(mutation: &core::KeyValueMutation, path: &Path) -> Result<QueryMutation, Rejection> {
    use core::key_value_append::KeyValueAppendAction as By;
    let Some(append) = &mutation.append else {
        if mutation.remove.is_empty() {
            return Err(Rejection::new(path, "One of 'append'/'remove' must be specified."));
        }
        return Ok(QueryMutation::Remove(value::bytes(&mutation.remove)));
    };
    if !mutation.remove.is_empty() {
        return Err(Rejection::new(path, "Only one of 'append'/'remove' can be specified."));
    }
    let path = path.join("append");
    let Some(record) = &append.record else {
        return Err(Rejection::new(&path, "No record specified for append mutation."));
    };
    let path = path.join("record").join("value");
    let Some(Kind::StringValue(text)) = record.value.as_ref().and_then(|value| value.kind.as_ref()) else {
        return Err(Rejection::new(&path, "Only string value is allowed for record value."));
    };
    Ok(QueryMutation::Append {
        key: value::bytes(&record.key),
        value: value::template(text, &path)?,
        action: match append.action() {
            By::AppendIfExistsOrAdd => AppendAction::AppendIfExistsOrAdd,
            By::AddIfAbsent => AppendAction::AddIfAbsent,
            By::OverwriteIfExistsOrAdd => AppendAction::OverwriteIfExistsOrAdd,
            By::OverwriteIfExists => AppendAction::OverwriteIfExists,
        },
    })
}
