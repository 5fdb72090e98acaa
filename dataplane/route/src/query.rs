//! Query parameter matchers.

use millrace_config::{QueryMatcher, QueryMatcherKind};

/// Whether all matchers take the query of `path`.
pub fn matches_all(matchers: &[QueryMatcher], path: &[u8]) -> bool {
    matchers.iter().all(|matcher| {
        let value = first_value(path, &matcher.name);
        match &matcher.kind {
            QueryMatcherKind::Present(present) => value.is_some() == *present,
            QueryMatcherKind::String(string) => value.is_some_and(|value| string.matches(value)),
        }
    })
}

/// The first value of a parameter, byte for byte as it stands in the path; empty when it has no `=`.
pub fn first_value<'p>(path: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let start = path.iter().position(|b| *b == b'?')? + 1;
    let query = path[start..].split(|b| *b == b'#').next()?;
    query.split(|b| *b == b'&').find_map(|pair| {
        let (key, value) = match pair.iter().position(|b| *b == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_byte_for_byte() {
        for (path, value) in [
            ("/q", None),
            ("/q?a", Some("")),
            ("/q?a=1", Some("1")),
            ("/q?a=2&a=1", Some("2")),
            ("/q?b=1&a=1", Some("1")),
            ("/q?a=%31", Some("%31")),
            ("/q?A=1", None),
            ("/q?a=1=2", Some("1=2")),
            ("/q?x&a=1;b", Some("1;b")),
            ("/q?a=1#b", Some("1")),
        ] {
            assert_eq!(first_value(path.as_bytes(), b"a"), value.map(str::as_bytes), "{path}");
        }
    }
}
