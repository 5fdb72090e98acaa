//! The path part of a route match.

use millrace_config::{PathMatcher, RouteMatch};

/// The path without query (`?`) and fragment (`#`).
#[inline]
pub fn without_query(path: &[u8]) -> &[u8] {
    match path.iter().position(|b| matches!(b, b'?' | b'#')) {
        Some(at) => &path[..at],
        None => path,
    }
}

/// Whether the path specifier takes `path` (with its query). CONNECT has no path and meets only
/// `connect_matcher`; a CONNECT that extended protocols gave a path meets the others, too.
#[inline]
pub(crate) fn matches(matcher: &RouteMatch, path: &[u8], connect: bool) -> bool {
    if matches!(matcher.path, PathMatcher::Connect) {
        return connect;
    }
    matched_len(matcher, path).is_some()
}

/// How many bytes of `path` the specifier matches (what `prefix_rewrite` replaces); `None` when it does not.
#[inline]
pub(crate) fn matched_len(matcher: &RouteMatch, path: &[u8]) -> Option<usize> {
    if path.is_empty() {
        return None;
    }
    match &matcher.path {
        PathMatcher::Prefix(prefix) => {
            // Only the path proper is compared: a prefix that reaches into the query matches nothing.
            let fits = starts_with(path, prefix, matcher.case_sensitive)
                && !prefix.iter().any(|b| matches!(b, b'?' | b'#'));
            fits.then_some(prefix.len())
        }
        PathMatcher::Exact(exact) => {
            // A longer path can only match up to its query.
            let fits = path.get(exact.len()).is_none_or(|b| matches!(b, b'?' | b'#'))
                && starts_with(path, exact, matcher.case_sensitive)
                && without_query(path).len() == exact.len();
            fits.then_some(exact.len())
        }
        PathMatcher::SeparatedPrefix(prefix) => {
            let ends = path.get(prefix.len()).is_none_or(|b| matches!(b, b'/' | b'?' | b'#'));
            (ends
                && starts_with(path, prefix, matcher.case_sensitive)
                && without_query(path).len() >= prefix.len())
            .then_some(prefix.len())
        }
        PathMatcher::Regex(regex) => {
            let path = without_query(path);
            regex.is_match(path).then_some(path.len())
        }
        PathMatcher::Connect => Some(0),
    }
}

#[inline]
fn starts_with(path: &[u8], pattern: &[u8], case_sensitive: bool) -> bool {
    match path.get(..pattern.len()) {
        // Routes of one host often begin alike; their last bytes tell most of them apart without a call.
        Some(head) if case_sensitive => head.last_chunk::<8>() == pattern.last_chunk() && head == pattern,
        Some(head) => head.eq_ignore_ascii_case(pattern),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{bytes, matching};

    #[test]
    fn as_envoy_1_40_decided() {
        let taken = |matcher: &RouteMatch, paths: &[&str]| -> Vec<bool> {
            paths.iter().map(|path| matches(matcher, path.as_bytes(), false)).collect()
        };
        let exact = matching(PathMatcher::Exact(bytes("/exact")));
        let paths = ["/exact", "/exact?x", "/exact/", "/exactx", "/Exact", ""];
        assert_eq!(taken(&exact, &paths), [true, true, false, false, false, false]);
        let separated = matching(PathMatcher::SeparatedPrefix(bytes("/sep")));
        let paths = ["/sep", "/sep/", "/sep/x", "/sepx", "/sep?x", "/sep/?x"];
        assert_eq!(taken(&separated, &paths), [true, true, true, false, true, true]);
        let regex = matching(PathMatcher::Regex(regex::bytes::Regex::new("^(?:/re[0-9]+)$").unwrap()));
        assert_eq!(taken(&regex, &["/re12", "/re12?q", "/re12/", "/re"]), [true, true, false, false]);
        let folded = RouteMatch { case_sensitive: false, ..matching(PathMatcher::Prefix(bytes("/ci"))) };
        assert_eq!(taken(&folded, &["/ci", "/CI/x", "/cix", "/c"]), [true, true, true, false]);
        let folded = RouteMatch { case_sensitive: false, ..matching(PathMatcher::Exact(bytes("/cie"))) };
        assert_eq!(taken(&folded, &["/CIE", "/cie?x", "/ciex"]), [true, true, false]);
        assert!(matches(&matching(PathMatcher::Connect), b"", true));
        assert!(!matches(&matching(PathMatcher::Connect), b"/", false));
        assert!(!matches(&RouteMatch::any(), b"", true));
    }
}
