//! String, header and query matchers.

use std::sync::Arc;

use millrace_config::{HeaderMatcher, HeaderMatcherKind, QueryMatcher, QueryMatcherKind, StringMatcher};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3 as route;
use millrace_proto::pb::envoy::r#type::matcher::v3 as pb;

use crate::error::Rejection;
use crate::{regex_util, value};

/// `type.matcher.v3.StringMatcher`.
pub(crate) fn string(matcher: &pb::StringMatcher, path: &Path) -> Result<StringMatcher, Rejection> {
    use pb::string_matcher::MatchPattern;
    let ignore_case = matcher.ignore_case;
    let text = |text: &str| match ignore_case {
        true => value::lower_bytes(text),
        false => value::bytes(text),
    };
    Ok(match &matcher.match_pattern {
        Some(MatchPattern::Exact(t)) => StringMatcher::Exact { value: text(t), ignore_case },
        Some(MatchPattern::Prefix(t)) => StringMatcher::Prefix { value: text(t), ignore_case },
        Some(MatchPattern::Suffix(t)) => StringMatcher::Suffix { value: text(t), ignore_case },
        Some(MatchPattern::Contains(t)) => StringMatcher::Contains { value: text(t), ignore_case },
        Some(MatchPattern::SafeRegex(regex)) => {
            if ignore_case {
                return Err(Rejection::new(
                    &path.join("ignore_case"),
                    "ignore_case has no effect for safe_regex.",
                ));
            }
            StringMatcher::Regex(regex_util::full(regex, &path.join("safe_regex"))?)
        }
        Some(MatchPattern::Custom(_)) => {
            return Err(Rejection::not_served(
                &path.join("custom"),
                "custom string matchers are not served by this build",
            ));
        }
        None => return Err(Rejection::new(&path.join("match_pattern"), "is required")),
    })
}

/// `ListStringMatcher`.
pub(crate) fn strings(list: &pb::ListStringMatcher, path: &Path) -> Result<Vec<StringMatcher>, Rejection> {
    let path = path.join("patterns");
    list.patterns.iter().enumerate().map(|(i, matcher)| string(matcher, &path.at(i))).collect()
}

fn plain(text: &str) -> Arc<[u8]> {
    value::bytes(text)
}

/// `route.v3.HeaderMatcher`.
pub(crate) fn header(matcher: &route::HeaderMatcher, path: &Path) -> Result<HeaderMatcher, Rejection> {
    use route::header_matcher::HeaderMatchSpecifier as By;
    let kind = match &matcher.header_match_specifier {
        None => HeaderMatcherKind::Present(true),
        Some(By::PresentMatch(present)) => HeaderMatcherKind::Present(*present),
        Some(By::RangeMatch(range)) => HeaderMatcherKind::Range { start: range.start, end: range.end },
        Some(By::StringMatch(by)) => HeaderMatcherKind::String(string(by, &path.join("string_match"))?),
        Some(By::SafeRegexMatch(regex)) => {
            let regex = regex_util::full(regex, &path.join("safe_regex_match"))?;
            HeaderMatcherKind::String(StringMatcher::Regex(regex))
        }
        Some(By::ExactMatch(text)) => {
            HeaderMatcherKind::String(StringMatcher::Exact { value: plain(text), ignore_case: false })
        }
        Some(By::PrefixMatch(text)) => {
            HeaderMatcherKind::String(StringMatcher::Prefix { value: plain(text), ignore_case: false })
        }
        Some(By::SuffixMatch(text)) => {
            HeaderMatcherKind::String(StringMatcher::Suffix { value: plain(text), ignore_case: false })
        }
        Some(By::ContainsMatch(text)) => {
            HeaderMatcherKind::String(StringMatcher::Contains { value: plain(text), ignore_case: false })
        }
    };
    // The authority travels under one name whatever the protocol called it.
    let name = match matcher.name.to_ascii_lowercase().as_str() {
        "host" => value::bytes(":authority"),
        name => value::bytes(name),
    };
    Ok(HeaderMatcher {
        name,
        kind,
        invert: matcher.invert_match,
        missing_as_empty: matcher.treat_missing_header_as_empty,
    })
}

/// Several header matchers.
pub(crate) fn headers(
    matchers: &[route::HeaderMatcher],
    path: &Path,
) -> Result<Vec<HeaderMatcher>, Rejection> {
    matchers.iter().enumerate().map(|(i, matcher)| header(matcher, &path.at(i))).collect()
}

/// `route.v3.QueryParameterMatcher`.
pub(crate) fn query(matcher: &route::QueryParameterMatcher, path: &Path) -> Result<QueryMatcher, Rejection> {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as By;
    let kind = match &matcher.query_parameter_match_specifier {
        None => QueryMatcherKind::Present(true),
        Some(By::PresentMatch(present)) => QueryMatcherKind::Present(*present),
        Some(By::StringMatch(by)) => QueryMatcherKind::String(string(by, &path.join("string_match"))?),
    };
    Ok(QueryMatcher { name: value::bytes(&matcher.name), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_matchers_of_every_form() {
        use route::header_matcher::HeaderMatchSpecifier as By;
        let path = Path::from("headers");
        let make = |by| route::HeaderMatcher {
            name: "Host".into(),
            header_match_specifier: by,
            ..Default::default()
        };
        let present = header(&make(None), &path).unwrap();
        assert!(matches!(present.kind, HeaderMatcherKind::Present(true)));
        assert_eq!(&*present.name, b":authority");
        let exact = header(&make(Some(By::ExactMatch("A".into()))), &path).unwrap();
        let HeaderMatcherKind::String(exact) = exact.kind else { panic!("a string matcher") };
        assert!(exact.matches(b"A") && !exact.matches(b"a"));
        let insensitive = pb::StringMatcher {
            ignore_case: true,
            match_pattern: Some(pb::string_matcher::MatchPattern::Prefix("AB".into())),
        };
        assert!(string(&insensitive, &path).unwrap().matches(b"aBc"));
        assert!(string(&pb::StringMatcher::default(), &path).is_err());
    }
}
