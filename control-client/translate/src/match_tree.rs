//! `xds.type.matcher.v3.Matcher`, whatever its actions are.

use std::sync::Arc;

use millrace_config::{MatchInput, MatchKind, MatchPredicate, MatchTree, OnMatch, StringMatcher};
use millrace_proto::Path;
use millrace_proto::pb::envoy::r#type::matcher::v3 as inputs;
use millrace_proto::pb::xds::core::v3::TypedExtensionConfig;
use millrace_proto::pb::xds::r#type::matcher::v3 as pb;
use millrace_proto::pb::xds::r#type::matcher::v3::matcher;

use crate::error::Rejection;
use crate::{extension, regex_util, value};

/// Deepest nesting of matchers and predicates.
const DEPTH_MAX: usize = 16;
/// Conditions and entries of one tree.
const NODES_MAX: usize = 10_000;

/// Compiles what a matcher leads to.
pub(crate) type Action<'a, A> = dyn FnMut(&TypedExtensionConfig, &Path) -> Result<A, Rejection> + 'a;

/// The tree of a matcher.
///
/// # Errors
/// What is unknown, too deep or too large, and what `action` refuses.
pub(crate) fn tree<A>(
    config: &pb::Matcher,
    path: &Path,
    action: &mut Action<'_, A>,
) -> Result<MatchTree<A>, Rejection> {
    Builder { action, nodes: 0 }.tree(config, path, 0)
}

struct Builder<'a, 'b, A> {
    action: &'a mut Action<'b, A>,
    nodes: usize,
}

impl<A> Builder<'_, '_, A> {
    fn enter(&mut self, path: &Path, depth: usize) -> Result<(), Rejection> {
        self.nodes += 1;
        if depth > DEPTH_MAX {
            return Err(Rejection::new(path, "matchers are nested too deeply"));
        }
        if self.nodes > NODES_MAX {
            return Err(Rejection::new(path, format!("the matcher has more than {NODES_MAX} parts")));
        }
        Ok(())
    }

    fn tree(&mut self, config: &pb::Matcher, path: &Path, depth: usize) -> Result<MatchTree<A>, Rejection> {
        self.enter(path, depth)?;
        let kind = match &config.matcher_type {
            None => MatchKind::Empty,
            Some(matcher::MatcherType::MatcherList(list)) => {
                let path = path.join("matcher_list").join("matchers");
                let all = list.matchers.iter().enumerate();
                let entries = all.map(|(i, one)| self.entry(one, &path.at(i), depth));
                MatchKind::List(entries.collect::<Result<_, _>>()?)
            }
            Some(matcher::MatcherType::MatcherTree(tree)) => {
                self.map(tree, &path.join("matcher_tree"), depth)?
            }
        };
        let no_match = path.join("on_no_match");
        let on_no_match = config.on_no_match.as_deref();
        // Not given and given without anything are the same to Envoy.
        let on_no_match = on_no_match.filter(|then| then.on_match.is_some());
        let on_no_match = on_no_match.map(|then| self.then(then, &no_match, depth)).transpose()?;
        Ok(MatchTree { kind, on_no_match })
    }

    fn entry(
        &mut self,
        entry: &matcher::matcher_list::FieldMatcher,
        path: &Path,
        depth: usize,
    ) -> Result<(MatchPredicate, OnMatch<A>), Rejection> {
        let (on, then) = (path.join("predicate"), path.join("on_match"));
        let predicate = entry.predicate.as_ref().ok_or_else(|| required(&on))?;
        let leads_to = entry.on_match.as_ref().ok_or_else(|| required(&then))?;
        Ok((self.predicate(predicate, &on, depth + 1)?, self.then(leads_to, &then, depth)?))
    }

    fn predicate(
        &mut self,
        predicate: &matcher::matcher_list::Predicate,
        path: &Path,
        depth: usize,
    ) -> Result<MatchPredicate, Rejection> {
        use matcher::matcher_list::predicate::{MatchType, PredicateList};
        self.enter(path, depth)?;
        let mut several = |list: &PredicateList, name: &'static str| {
            let path = path.join(name).join("predicate");
            let all = list.predicate.iter().enumerate();
            all.map(|(i, one)| self.predicate(one, &path.at(i), depth + 1)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match &predicate.match_type {
            Some(MatchType::OrMatcher(list)) => MatchPredicate::Any(several(list, "or_matcher")?),
            Some(MatchType::AndMatcher(list)) => MatchPredicate::All(several(list, "and_matcher")?),
            Some(MatchType::NotMatcher(one)) => {
                MatchPredicate::Not(Box::new(self.predicate(one, &path.join("not_matcher"), depth + 1)?))
            }
            Some(MatchType::SinglePredicate(one)) => single(one, &path.join("single_predicate"))?,
            None => return Err(Rejection::new(&path.join("match_type"), "is required")),
        })
    }

    fn map(
        &mut self,
        tree: &matcher::MatcherTree,
        path: &Path,
        depth: usize,
    ) -> Result<MatchKind<A>, Rejection> {
        use matcher::matcher_tree::TreeType;
        let looks_at = input(tree.input.as_ref(), &path.join("input"))?;
        let mut entries = |map: &matcher::matcher_tree::MatchMap, name: &'static str| {
            let path = path.join(name).join("map");
            // In the order of their texts, so that it is always the same one of several mistakes that is reported.
            let mut all: Vec<_> = map.map.iter().collect();
            all.sort_by_key(|(text, _)| *text);
            let entry = |(text, then): (&String, &matcher::OnMatch)| {
                let mut path = path.clone();
                path.key(text);
                Ok((value::bytes(text), self.then(then, &path, depth)?))
            };
            all.into_iter().map(entry).collect::<Result<Vec<(Arc<[u8]>, OnMatch<A>)>, Rejection>>()
        };
        match &tree.tree_type {
            Some(TreeType::ExactMatchMap(map)) => {
                Ok(MatchKind::Exact(looks_at, entries(map, "exact_match_map")?))
            }
            Some(TreeType::PrefixMatchMap(map)) => {
                let mut entries = entries(map, "prefix_match_map")?;
                entries.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
                Ok(MatchKind::Prefix(looks_at, entries))
            }
            Some(TreeType::CustomMatch(custom)) => {
                Err(unknown("matcher", custom, &path.join("custom_match")))
            }
            None => Err(Rejection::new(&path.join("tree_type"), "is required")),
        }
    }

    fn then(&mut self, then: &matcher::OnMatch, path: &Path, depth: usize) -> Result<OnMatch<A>, Rejection> {
        self.enter(path, depth)?;
        // What is skipped must be right, too.
        let leads_to = match &then.on_match {
            Some(matcher::on_match::OnMatch::Matcher(inner)) => {
                OnMatch::Matcher(Box::new(self.tree(inner, &path.join("matcher"), depth + 1)?))
            }
            Some(matcher::on_match::OnMatch::Action(action)) => {
                OnMatch::Action((self.action)(action, &path.join("action"))?)
            }
            None => return Err(Rejection::new(&path.join("on_match"), "is required")),
        };
        Ok(if then.keep_matching { OnMatch::Nothing } else { leads_to })
    }
}

fn required(path: &Path) -> Rejection {
    Rejection::new(path, "value is required")
}

/// What stands for something that this build has not.
pub(crate) fn unknown(kind: &str, config: &TypedExtensionConfig, path: &Path) -> Rejection {
    extension::not_served(kind, &config.name, config.typed_config.as_ref(), path)
}

fn single(
    predicate: &matcher::matcher_list::predicate::SinglePredicate,
    path: &Path,
) -> Result<MatchPredicate, Rejection> {
    use matcher::matcher_list::predicate::single_predicate::Matcher;
    let looks_at = input(predicate.input.as_ref(), &path.join("input"))?;
    match &predicate.matcher {
        Some(Matcher::ValueMatch(by)) => {
            Ok(MatchPredicate::Single(looks_at, string(by, &path.join("value_match"))?))
        }
        Some(Matcher::CustomMatch(custom)) => Err(unknown("matcher", custom, &path.join("custom_match"))),
        None => Err(Rejection::new(&path.join("matcher"), "is required")),
    }
}

fn input(config: Option<&TypedExtensionConfig>, path: &Path) -> Result<MatchInput, Rejection> {
    let config = config.ok_or_else(|| required(path))?;
    let Some(any) = &config.typed_config else { return Err(unknown("matching input", config, path)) };
    let inside = path.join("typed_config");
    Ok(match extension::type_of(any).as_str() {
        "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput" => MatchInput::ResponseStatus,
        "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput" => MatchInput::ResponseStatusClass,
        "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput" => MatchInput::LocalReply,
        "envoy.type.matcher.v3.HttpResponseHeaderMatchInput" => {
            let input: inputs::HttpResponseHeaderMatchInput = extension::open(any, &inside)?;
            MatchInput::ResponseHeader(value::lower_bytes(&input.header_name))
        }
        "envoy.type.matcher.v3.HttpRequestHeaderMatchInput" => {
            let input: inputs::HttpRequestHeaderMatchInput = extension::open(any, &inside)?;
            MatchInput::RequestHeader(value::lower_bytes(&input.header_name))
        }
        _ => return Err(unknown("matching input", config, path)),
    })
}

/// `xds.type.matcher.v3.StringMatcher`.
fn string(matcher: &pb::StringMatcher, path: &Path) -> Result<StringMatcher, Rejection> {
    use pb::string_matcher::MatchPattern;
    let ignore_case = matcher.ignore_case;
    let text = |text: &str| if ignore_case { value::lower_bytes(text) } else { value::bytes(text) };
    Ok(match &matcher.match_pattern {
        Some(MatchPattern::Exact(t)) => StringMatcher::Exact { value: text(t), ignore_case },
        Some(MatchPattern::Prefix(t)) => StringMatcher::Prefix { value: text(t), ignore_case },
        Some(MatchPattern::Suffix(t)) => StringMatcher::Suffix { value: text(t), ignore_case },
        Some(MatchPattern::Contains(t)) => StringMatcher::Contains { value: text(t), ignore_case },
        Some(MatchPattern::SafeRegex(_)) if ignore_case => {
            let why = "ignore_case has no effect for safe_regex.";
            return Err(Rejection::new(&path.join("ignore_case"), why));
        }
        Some(MatchPattern::SafeRegex(regex)) => {
            StringMatcher::Regex(regex_util::whole(&regex.regex, &path.join("safe_regex"))?)
        }
        Some(MatchPattern::Custom(custom)) => {
            return Err(unknown("string matcher", custom, &path.join("custom")));
        }
        None => return Err(Rejection::new(&path.join("match_pattern"), "is required")),
    })
}

#[cfg(test)]
mod tests;
