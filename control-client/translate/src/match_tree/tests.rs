//! What matchers become, and what is refused.

use std::collections::HashMap;

use millrace_config::MatchInputs;
use millrace_proto::Message as _;
use millrace_proto::pb::google::protobuf::Any;

use super::*;

fn config(name: &str) -> TypedExtensionConfig {
    let any = Any { type_url: format!("type.googleapis.com/{name}"), value: Vec::new() };
    TypedExtensionConfig { name: "i".into(), typed_config: Some(any) }
}

fn status() -> TypedExtensionConfig {
    config("envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput")
}

fn action(name: &str) -> matcher::OnMatch {
    let action = TypedExtensionConfig { name: name.into(), typed_config: None };
    let on_match = Some(matcher::on_match::OnMatch::Action(action));
    matcher::OnMatch { on_match, keep_matching: false }
}

fn inner(tree: pb::Matcher) -> matcher::OnMatch {
    let on_match = Some(matcher::on_match::OnMatch::Matcher(Box::new(tree)));
    matcher::OnMatch { on_match, keep_matching: false }
}

fn single(input: TypedExtensionConfig, exact: &str) -> matcher::matcher_list::Predicate {
    use matcher::matcher_list::predicate::{MatchType, SinglePredicate, single_predicate::Matcher};
    let by = pb::StringMatcher {
        match_pattern: Some(pb::string_matcher::MatchPattern::Exact(exact.into())),
        ignore_case: false,
    };
    let single = SinglePredicate { input: Some(input), matcher: Some(Matcher::ValueMatch(by)) };
    matcher::matcher_list::Predicate { match_type: Some(MatchType::SinglePredicate(single)) }
}

fn list(entries: Vec<(matcher::matcher_list::Predicate, matcher::OnMatch)>) -> pb::Matcher {
    let entry = |(predicate, then)| matcher::matcher_list::FieldMatcher {
        predicate: Some(predicate),
        on_match: Some(then),
    };
    let matchers = entries.into_iter().map(entry).collect();
    let list = matcher::MatcherType::MatcherList(matcher::MatcherList { matchers });
    pb::Matcher { matcher_type: Some(list), on_no_match: None }
}

fn prefixes(entries: &[&str]) -> pb::Matcher {
    use matcher::matcher_tree::{MatchMap, TreeType};
    let map: HashMap<String, matcher::OnMatch> =
        entries.iter().map(|prefix| ((*prefix).to_owned(), action(prefix))).collect();
    let tree = matcher::MatcherTree {
        input: Some(status()),
        tree_type: Some(TreeType::PrefixMatchMap(MatchMap { map })),
    };
    pb::Matcher { matcher_type: Some(matcher::MatcherType::MatcherTree(tree)), on_no_match: None }
}

/// Actions are their names.
fn built(config: &pb::Matcher) -> Result<MatchTree<String>, Rejection> {
    let mut named = |config: &TypedExtensionConfig, _: &Path| Ok(config.name.clone());
    tree(config, &Path::from("m"), &mut named)
}

/// The status is 503.
struct Failed;

impl MatchInputs for Failed {
    fn value<'v>(&'v self, _: &MatchInput, _: &'v mut Vec<u8>) -> Option<&'v [u8]> {
        Some(b"503")
    }
}

fn found(config: &pb::Matcher) -> Option<String> {
    built(config).unwrap().find(&Failed).cloned()
}

fn refused(config: &pb::Matcher) -> String {
    built(config).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn lists_and_maps() {
    assert_eq!(found(&list(vec![(single(status(), "503"), action("a"))])).as_deref(), Some("a"));
    assert_eq!(found(&prefixes(&["", "5", "50", "6"])).as_deref(), Some("50"));
    let kept = matcher::OnMatch { keep_matching: true, ..action("a") };
    assert_eq!(found(&list(vec![(single(status(), "503"), kept)])), None);
    let otherwise = pb::Matcher { on_no_match: Some(Box::new(action("o"))), ..pb::Matcher::default() };
    assert_eq!(found(&otherwise).as_deref(), Some("o"));
    assert_eq!(found(&list(vec![(single(status(), "503"), inner(otherwise))])).as_deref(), Some("o"));
}

#[test]
fn names_of_fields_are_lower_case() {
    let value = inputs::HttpRequestHeaderMatchInput { header_name: "X-A".into() }.encode_to_vec();
    let mut of_request = config("envoy.type.matcher.v3.HttpRequestHeaderMatchInput");
    if let Some(any) = &mut of_request.typed_config {
        any.value = value;
    }
    let tree = built(&list(vec![(single(of_request, "1"), action("a"))])).unwrap();
    let MatchKind::List(entries) = tree.kind else { panic!("a list") };
    let (MatchPredicate::Single(input, _), _) = &entries[0] else { panic!("a condition") };
    assert_eq!(*input, MatchInput::RequestHeader(value::bytes("x-a")));
}

#[test]
fn what_is_unknown_or_too_much() {
    let strange = config("envoy.type.matcher.v3.HttpResponseTrailerMatchInput");
    let why = refused(&list(vec![(single(strange, "1"), action("a"))]));
    let path = "m.matcher_list.matchers[0].predicate.single_predicate.input: ";
    assert!(why.starts_with(path) && why.contains("is not served by this build"), "{why}");
    let nobodys = refused(&list(vec![(single(config("a.b.C"), "1"), action("a"))]));
    assert!(nobodys.contains("Didn't find a registered implementation for 'i'"), "{nobodys}");
    let mut deep = list(vec![(single(status(), "1"), action("a"))]);
    for _ in 0..DEPTH_MAX {
        deep = list(vec![(single(status(), "1"), inner(deep))]);
    }
    assert!(refused(&deep).ends_with("matchers are nested too deeply"));
    let many = list((0..NODES_MAX).map(|_| (single(status(), "1"), action("a"))).collect());
    assert!(refused(&many).ends_with("the matcher has more than 10000 parts"));
}
