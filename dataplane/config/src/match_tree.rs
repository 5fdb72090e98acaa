//! `xds.type.matcher.v3.Matcher`: lists and maps of conditions that lead to an action.

use std::sync::Arc;

use crate::StringMatcher;

/// What a matcher looks at, by the name of its `input`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchInput {
    /// `HttpResponseStatusCodeMatchInput`.
    ResponseStatus,
    /// `HttpResponseStatusCodeClassMatchInput`: `1xx` to `5xx`.
    ResponseStatusClass,
    /// `HttpResponseLocalReplyMatchInput`: `true` or `false`.
    LocalReply,
    /// `HttpResponseHeaderMatchInput`: all fields of a lower-case name in one text, or `:status`.
    ResponseHeader(Arc<[u8]>),
    /// `HttpRequestHeaderMatchInput`: the same of the request.
    RequestHeader(Arc<[u8]>),
}

/// Where inputs come from.
pub trait MatchInputs {
    /// The text of an input, made in `scratch` (with anything in it) if it stands nowhere.
    fn value<'v>(&'v self, input: &MatchInput, scratch: &'v mut Vec<u8>) -> Option<&'v [u8]>;
}

/// `Matcher.MatcherList.Predicate`.
#[derive(Clone, Debug)]
pub enum MatchPredicate {
    /// `single_predicate` with a `value_match`; an input without a value does not match.
    Single(MatchInput, StringMatcher),
    /// `or_matcher`.
    Any(Vec<MatchPredicate>),
    /// `and_matcher`.
    All(Vec<MatchPredicate>),
    /// `not_matcher`.
    Not(Box<MatchPredicate>),
}

impl MatchPredicate {
    fn holds(&self, inputs: &dyn MatchInputs, scratch: &mut Vec<u8>) -> bool {
        match self {
            Self::Single(input, matcher) => {
                inputs.value(input, scratch).is_some_and(|value| matcher.matches(value))
            }
            Self::Any(all) => all.iter().any(|one| one.holds(inputs, scratch)),
            Self::All(all) => all.iter().all(|one| one.holds(inputs, scratch)),
            Self::Not(one) => !one.holds(inputs, scratch),
        }
    }
}

/// `Matcher.OnMatch`.
#[derive(Clone, Debug)]
pub enum OnMatch<A> {
    /// `action`.
    Action(A),
    /// `matcher`: one without an action is no match, and what comes behind is asked.
    Matcher(Box<MatchTree<A>>),
    /// `keep_matching`. Measured: Envoy 1.40 then finds no action at all, here or behind.
    Nothing,
}

/// `Matcher.matcher_type`.
#[derive(Clone, Debug)]
pub enum MatchKind<A> {
    /// None: only `on_no_match` counts.
    Empty,
    /// `matcher_list`: the first that holds and leads to an action.
    List(Vec<(MatchPredicate, OnMatch<A>)>),
    /// `matcher_tree.exact_match_map`, sorted by text.
    Exact(MatchInput, Vec<(Arc<[u8]>, OnMatch<A>)>),
    /// `matcher_tree.prefix_match_map`, longest first.
    Prefix(MatchInput, Vec<(Arc<[u8]>, OnMatch<A>)>),
}

/// `Matcher`. Its depth and size are bounded when it is built.
#[derive(Clone, Debug)]
pub struct MatchTree<A> {
    /// `matcher_list` or `matcher_tree`.
    pub kind: MatchKind<A>,
    /// `on_no_match`.
    pub on_no_match: Option<OnMatch<A>>,
}

/// What a part of a tree has come to.
enum Found<'t, A> {
    Action(&'t A),
    NoMatch,
    /// Nobody is asked any more.
    Nothing,
}

impl<A> MatchTree<A> {
    /// The action for these inputs.
    pub fn find(&self, inputs: &dyn MatchInputs) -> Option<&A> {
        match self.search(inputs, &mut Vec::new()) {
            Found::Action(action) => Some(action),
            Found::NoMatch | Found::Nothing => None,
        }
    }

    fn search(&self, inputs: &dyn MatchInputs, scratch: &mut Vec<u8>) -> Found<'_, A> {
        let found = match &self.kind {
            MatchKind::Empty => Found::NoMatch,
            MatchKind::List(list) => {
                // Not `find_map`: what an entry leads to may ask for the next one.
                let mut found = Found::NoMatch;
                for (predicate, then) in list {
                    if predicate.holds(inputs, scratch) {
                        found = then.follow(inputs, scratch);
                    }
                    if !matches!(found, Found::NoMatch) {
                        break;
                    }
                }
                found
            }
            MatchKind::Exact(input, map) => {
                let at = inputs.value(input, scratch);
                let at = at.and_then(|value| map.binary_search_by(|(text, _)| (**text).cmp(value)).ok());
                at.and_then(|at| map.get(at)).map_or(Found::NoMatch, |(_, then)| then.follow(inputs, scratch))
            }
            MatchKind::Prefix(input, map) => {
                let mut own = Vec::new();
                let mut found = Found::NoMatch;
                if let Some(value) = inputs.value(input, &mut own) {
                    let prefixes = map.iter().filter(|(prefix, _)| value.starts_with(prefix));
                    for (_, then) in prefixes {
                        found = then.follow(inputs, scratch);
                        if !matches!(found, Found::NoMatch) {
                            break;
                        }
                    }
                }
                found
            }
        };
        match (found, &self.on_no_match) {
            (Found::NoMatch, Some(then)) => then.follow(inputs, scratch),
            (found, _) => found,
        }
    }
}

impl<A> OnMatch<A> {
    fn follow(&self, inputs: &dyn MatchInputs, scratch: &mut Vec<u8>) -> Found<'_, A> {
        match self {
            Self::Action(action) => Found::Action(action),
            Self::Matcher(tree) => tree.search(inputs, scratch),
            Self::Nothing => Found::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status is 503, and there is one field of the request.
    struct Failed;

    impl MatchInputs for Failed {
        fn value<'v>(&'v self, input: &MatchInput, scratch: &'v mut Vec<u8>) -> Option<&'v [u8]> {
            match input {
                MatchInput::ResponseStatus => {
                    scratch.clear();
                    scratch.extend_from_slice(b"503");
                    Some(scratch)
                }
                MatchInput::RequestHeader(_) => Some(b"here"),
                _ => None,
            }
        }
    }

    fn text(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn is(input: MatchInput, value: &str) -> MatchPredicate {
        MatchPredicate::Single(input, StringMatcher::Exact { value: text(value), ignore_case: false })
    }

    fn status(value: &str) -> MatchPredicate {
        is(MatchInput::ResponseStatus, value)
    }

    fn missing() -> MatchPredicate {
        is(MatchInput::LocalReply, "true")
    }

    type Tree = MatchTree<&'static str>;
    type Then = OnMatch<&'static str>;

    fn tree(kind: MatchKind<&'static str>, otherwise: Option<Then>) -> Tree {
        MatchTree { kind, on_no_match: otherwise }
    }

    fn inner(kind: MatchKind<&'static str>) -> Then {
        OnMatch::Matcher(Box::new(tree(kind, None)))
    }

    fn list(entries: Vec<(MatchPredicate, Then)>) -> MatchKind<&'static str> {
        MatchKind::List(entries)
    }

    fn map(entries: Vec<(&str, Then)>) -> Vec<(Arc<[u8]>, Then)> {
        entries.into_iter().map(|(key, then)| (text(key), then)).collect()
    }

    #[test]
    fn predicates() {
        let holds = |predicate: MatchPredicate| predicate.holds(&Failed, &mut Vec::new());
        assert!(holds(status("503")) && !holds(status("50")) && !holds(missing()));
        assert!(holds(MatchPredicate::Not(Box::new(missing()))));
        assert!(holds(MatchPredicate::Any(vec![missing(), status("503")])));
        assert!(!holds(MatchPredicate::All(vec![missing(), status("503")])));
        assert!(holds(MatchPredicate::All(vec![
            is(MatchInput::RequestHeader(text("a")), "here"),
            status("503")
        ])));
    }

    #[test]
    fn lists_as_envoy_1_40_walked_them() {
        use OnMatch::{Action, Nothing};
        let otherwise = || Some(Action("otherwise"));
        let nested = || inner(list(vec![(missing(), Action("inner"))]));
        for (entries, found) in [
            (vec![(status("200"), Action("a")), (status("503"), Action("b"))], Some("b")),
            (vec![(status("200"), Action("a"))], Some("otherwise")),
            (vec![(status("503"), nested()), (status("503"), Action("after"))], Some("after")),
            (vec![(status("503"), nested())], Some("otherwise")),
            (vec![(status("503"), Nothing), (status("503"), Action("after"))], None),
            (vec![(status("503"), inner(list(vec![(status("503"), Nothing)])))], None),
            (vec![(status("503"), Action("first")), (status("503"), Nothing)], Some("first")),
        ] {
            assert_eq!(tree(list(entries), otherwise()).find(&Failed).copied(), found);
        }
        assert_eq!(tree(MatchKind::Empty, otherwise()).find(&Failed), Some(&"otherwise"));
        assert_eq!(tree(MatchKind::Empty, None).find(&Failed), None);
    }

    #[test]
    fn maps_as_envoy_1_40_read_them() {
        use OnMatch::{Action, Nothing};
        let otherwise = || Some(Action("otherwise"));
        let nested = || inner(list(vec![(missing(), Action("inner"))]));
        let exact = |entries| tree(MatchKind::Exact(MatchInput::ResponseStatus, map(entries)), otherwise());
        assert_eq!(exact(vec![("500", Action("a")), ("503", Action("b"))]).find(&Failed), Some(&"b"));
        assert_eq!(exact(vec![("50", Action("a"))]).find(&Failed), Some(&"otherwise"));
        assert_eq!(exact(vec![("503", nested())]).find(&Failed), Some(&"otherwise"));
        assert_eq!(exact(vec![("503", Nothing)]).find(&Failed), None);
        let prefix = |entries| tree(MatchKind::Prefix(MatchInput::ResponseStatus, map(entries)), otherwise());
        assert_eq!(
            prefix(vec![("50", Action("fifty")), ("5", Action("five"))]).find(&Failed),
            Some(&"fifty")
        );
        assert_eq!(prefix(vec![("503", nested()), ("50", Action("b"))]).find(&Failed), Some(&"b"));
        assert_eq!(prefix(vec![("50", Nothing), ("5", Action("five"))]).find(&Failed), None);
        assert_eq!(prefix(vec![("", Action("any"))]).find(&Failed), Some(&"any"));
        let unknown = tree(MatchKind::Prefix(MatchInput::LocalReply, map(vec![("", Action("x"))])), None);
        assert_eq!(unknown.find(&Failed), None);
    }
}
