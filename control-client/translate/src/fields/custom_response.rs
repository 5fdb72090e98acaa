//! Matchers and the answers that they replace.

use super::Status::{Refused, Served};
use super::Table;

pub(super) const TABLES: &[Table] = &[
    Table {
        message: "envoy.extensions.filters.http.custom_response.v3.CustomResponse",
        fields: &[(Served, "custom_response_matcher")],
    },
    Table {
        message: "envoy.extensions.http.custom_response.local_response_policy.v3.LocalResponsePolicy",
        fields: &[(
            Served,
            "body body_format status_code response_headers_to_add preserve_response_code_details \
             response_code_details",
        )],
    },
    Table {
        message: "envoy.extensions.http.custom_response.redirect_policy.v3.RedirectPolicy",
        fields: &[
            (Served, "uri redirect_action status_code response_headers_to_add request_headers_to_add"),
            (
                Refused("Envoy 1.40 has no extension of this kind, and neither has this build"),
                "modify_request_headers_action",
            ),
        ],
    },
    Table {
        message: "xds.type.matcher.v3.Matcher",
        fields: &[(Served, "matcher_list matcher_tree on_no_match")],
    },
    Table {
        message: "xds.type.matcher.v3.Matcher.OnMatch",
        fields: &[(Served, "matcher action keep_matching")],
    },
    Table { message: "xds.type.matcher.v3.Matcher.MatcherList", fields: &[(Served, "matchers")] },
    Table {
        message: "xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher",
        fields: &[(Served, "predicate on_match")],
    },
    Table {
        message: "xds.type.matcher.v3.Matcher.MatcherList.Predicate",
        fields: &[(Served, "single_predicate or_matcher and_matcher not_matcher")],
    },
    Table {
        message: "xds.type.matcher.v3.Matcher.MatcherList.Predicate.PredicateList",
        fields: &[(Served, "predicate")],
    },
    Table {
        message: "xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate",
        fields: &[
            (Served, "input value_match"),
            (Refused("only texts are matched by this build"), "custom_match"),
        ],
    },
    Table {
        message: "xds.type.matcher.v3.Matcher.MatcherTree",
        fields: &[
            (Served, "input exact_match_map prefix_match_map"),
            (Refused("only texts are matched by this build"), "custom_match"),
        ],
    },
    Table { message: "xds.type.matcher.v3.Matcher.MatcherTree.MatchMap", fields: &[(Served, "map")] },
    Table {
        message: "xds.type.matcher.v3.StringMatcher",
        fields: &[
            (Served, "exact prefix suffix contains safe_regex ignore_case"),
            (Refused("custom string matchers are not served by this build"), "custom"),
        ],
    },
    Table { message: "xds.type.matcher.v3.RegexMatcher", fields: &[(Served, "google_re2 regex")] },
    Table { message: "xds.type.matcher.v3.RegexMatcher.GoogleRE2", fields: &[] },
    Table { message: "xds.core.v3.TypedExtensionConfig", fields: &[(Served, "name typed_config")] },
    Table { message: "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput", fields: &[] },
    Table { message: "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput", fields: &[] },
    Table { message: "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput", fields: &[] },
    Table {
        message: "envoy.type.matcher.v3.HttpResponseHeaderMatchInput",
        fields: &[(Served, "header_name")],
    },
    Table {
        message: "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
        fields: &[(Served, "header_name")],
    },
];
