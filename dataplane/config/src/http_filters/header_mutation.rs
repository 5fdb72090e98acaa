//! `extensions.filters.http.header_mutation.v3`.

use std::sync::Arc;

use crate::format::Template;
use crate::{AppendAction, HeaderOption, StringMatcher};

/// `config.common.mutation_rules.v3.HeaderMutation`: one step, in the order of its list.
#[derive(Clone, Debug)]
pub enum HeaderMutationStep {
    /// `remove`: lower-case name.
    Remove(Arc<[u8]>),
    /// `append`.
    Append(HeaderOption),
    /// `remove_on_match`: every field whose name matches.
    RemoveOnMatch(StringMatcher),
}

/// One of `query_parameter_mutations`.
#[derive(Clone, Debug)]
pub enum QueryMutation {
    /// `remove`.
    Remove(Arc<[u8]>),
    /// `append`.
    Append {
        /// The parameter, decoded.
        key: Arc<[u8]>,
        /// Its value, which is encoded when it is written.
        value: Template,
        /// What to do when it is there already.
        action: AppendAction,
    },
}

/// `Mutations`.
#[derive(Clone, Debug, Default)]
pub struct MutationLists {
    /// `request_mutations`.
    pub request: Vec<HeaderMutationStep>,
    /// `query_parameter_mutations`.
    pub query: Vec<QueryMutation>,
    /// `response_mutations`.
    pub response: Vec<HeaderMutationStep>,
    /// `request_trailers_mutations`.
    pub request_trailers: Vec<HeaderMutationStep>,
    /// `response_trailers_mutations`.
    pub response_trailers: Vec<HeaderMutationStep>,
}

/// `HeaderMutation`.
#[derive(Clone, Debug)]
pub struct HeaderMutationFilter {
    /// Of the filter itself; they come first.
    pub own: Arc<MutationLists>,
    /// `most_specific_header_mutations_wins`: the route's come last.
    pub most_specific_wins: bool,
}
