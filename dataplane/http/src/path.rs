//! Path policies of the connection manager: fragments, escaped slashes, RFC 3986 normalisation, merging of
//! slashes. The normalised path is both matched and forwarded, so the origin sees what was authorised.

use alloc::vec::Vec;

use memchr::{memchr, memchr3};

use crate::block;
use crate::head::{Method, RequestHead};

/// `path_with_escaped_slashes_action`: what to do with `%2F` and `%5C` in the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// `KEEP_UNCHANGED`, Envoy's default.
    #[default]
    KeepUnchanged,
    /// `REJECT_REQUEST`: 400.
    RejectRequest,
    /// `UNESCAPE_AND_REDIRECT`: 307 to the unescaped (and normalised) path.
    UnescapeAndRedirect,
    /// `UNESCAPE_AND_FORWARD`.
    UnescapeAndForward,
}

/// Path handling of a listener; the defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathOptions {
    /// `normalize_path`.
    pub normalize: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    /// Runtime `envoy.reloadable_features.http_reject_path_with_fragment`; otherwise the fragment is cut off.
    pub reject_fragment: bool,
    /// Refuse `%` that is not followed by two hexadecimal digits, in the path. Envoy keeps such bytes.
    pub reject_invalid_escapes: bool,
}

impl Default for PathOptions {
    fn default() -> Self {
        Self {
            normalize: false,
            merge_slashes: false,
            escaped_slashes: EscapedSlashes::KeepUnchanged,
            reject_fragment: true,
            reject_invalid_escapes: false,
        }
    }
}

/// What follows from the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathAction {
    /// Go on with the head's (possibly changed) path.
    Continue,
    /// Answer 307 with `location:` the head's path, details `path_normalization_failed`.
    Redirect,
    /// Answer 400, details `path_normalization_failed`.
    Reject,
}

/// Response code details of [`PathAction::Reject`] and [`PathAction::Redirect`].
pub const PATH_DETAILS: &str = "path_normalization_failed";

/// Applies the policies to the head's path in Envoy's order. `scratch` is cleared and reused. CONNECT without a
/// path and `*` have no path to normalise.
pub fn apply(head: &mut RequestHead, opts: &PathOptions, scratch: &mut Vec<u8>) -> PathAction {
    if is_untouched(head.path()) {
        return PathAction::Continue;
    }
    if head.path().is_empty() || (head.path() == b"*" && head.method_kind() == Method::Options) {
        return PathAction::Continue;
    }
    if let Some(at) = memchr(b'#', head.path()) {
        if opts.reject_fragment {
            return PathAction::Reject;
        }
        scratch.clear();
        scratch.extend_from_slice(&head.path()[..at]);
        head.set_path(scratch);
    }
    let (path, query) = split_query(head.path());
    if opts.reject_invalid_escapes && !escapes_are_valid(path) {
        return PathAction::Reject;
    }
    if is_plain(path) {
        return PathAction::Continue;
    }
    let escaped = opts.escaped_slashes != EscapedSlashes::KeepUnchanged && has_escaped_slash(path);
    if escaped && opts.escaped_slashes == EscapedSlashes::RejectRequest {
        return PathAction::Reject;
    }
    scratch.clear();
    scratch.extend_from_slice(path);
    if escaped {
        unescape_slashes(scratch);
    }
    if opts.normalize && !normalize(scratch) {
        return PathAction::Reject;
    }
    if opts.merge_slashes {
        merge_slashes(scratch);
    }
    if scratch.as_slice() != path {
        if let Some(query) = query {
            scratch.push(b'?');
            scratch.extend_from_slice(query);
        }
        head.set_path(scratch);
    }
    match escaped && opts.escaped_slashes == EscapedSlashes::UnescapeAndRedirect {
        true => PathAction::Redirect,
        false => PathAction::Continue,
    }
}

/// Splits a path at its first `?`; the query is without it.
#[inline]
pub fn split_query(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'?', path) {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// [`is_plain`] for the path and no fragment behind it, a word at a time. False says nothing: it is for the few bytes
/// that most paths are made of.
fn is_untouched(path: &[u8]) -> bool {
    let (mut at, mut after_slash) = (0, 0);
    if path.first() != Some(&b'/') {
        return false;
    }
    while let Some(word) = block::load(path, at) {
        let stops = block::not_path(word);
        let slashes = block::slashes(word);
        // A slash or a dot behind a slash.
        let behind_slash = slashes << 8 | after_slash;
        if block::dots_and_slashes(word) & behind_slash & block::before(stops) != 0 {
            return false;
        }
        if stops != 0 {
            // Zeros stand behind the end.
            let rest = path.get(at + block::first(stops)..).unwrap_or_default();
            return rest.is_empty() || (rest[0] == b'?' && memchr(b'#', rest).is_none());
        }
        after_slash = slashes >> (8 * (block::LEN - 1));
        at += block::LEN;
    }
    true
}

/// True when no policy can change the path: only bytes that stay as they are, and no dot or empty segment. Nearly
/// every real path ends here.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = b'a';
    path.first() == Some(&b'/')
        && path.iter().all(|b| {
            let edge = previous == b'/' && matches!(b, b'/' | b'.');
            previous = *b;
            !edge && *b != b'%' && stays(*b)
        })
}

/// Bytes that canonicalisation leaves alone in a path.
#[inline]
fn stays(b: u8) -> bool {
    b.is_ascii_graphic()
        && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' | b'?')
}

fn escapes_are_valid(mut path: &[u8]) -> bool {
    while let Some(at) = memchr(b'%', path) {
        match &path[at..] {
            [_, a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => path = rest,
            _ => return false,
        }
    }
    true
}

/// Value of a hexadecimal digit.
fn hex(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|d| d as u8)
}

/// The byte that `text` starts with in escaped form.
fn escape(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', a, b, ..] => Some(hex(*a)? << 4 | hex(*b)?),
        _ => None,
    }
}

fn has_escaped_slash(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path).any(|at| matches!(escape(&path[at..]), Some(b'/' | b'\\')))
}

/// Replaces `%2F` by `/` and `%5C` by `\`, in place. The result is never unescaped again.
pub fn unescape_slashes(path: &mut Vec<u8>) {
    let (mut from, mut to) = (0, 0);
    while from < path.len() {
        let (byte, used) = match escape(&path[from..]) {
            Some(byte @ (b'/' | b'\\')) => (byte, 3),
            _ => (path[from], 1),
        };
        path[to] = byte;
        from += used;
        to += 1;
    }
    path.truncate(to);
}

/// RFC 3986 section 6.2.2 as browsers and Envoy apply it to a path without query, in place: `\` becomes `/`,
/// escaped unreserved bytes are decoded once, bytes that may not stand in a path are escaped, dot segments are
/// removed. False when the path does not start with a slash or holds an escaped NUL.
pub fn normalize(path: &mut Vec<u8>) -> bool {
    if !matches!(path.first(), Some(b'/' | b'\\')) {
        return false;
    }
    if !canonicalize(path) {
        return false;
    }
    remove_dot_segments(path);
    true
}

fn canonicalize(path: &mut Vec<u8>) -> bool {
    let must_escape = path.iter().filter(|b| (!stays(**b) && **b != b'\\') || **b == b'%').count();
    let len = path.len();
    // Work from the back of a widened buffer, so that escaping never overtakes reading.
    path.resize(len + 2 * must_escape, 0);
    path.copy_within(..len, 2 * must_escape);
    let (mut from, mut to) = (2 * must_escape, 0);
    while from < path.len() {
        match (escape(&path[from..]), path[from]) {
            (Some(0), _) => return false,
            (Some(byte), _) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                path[to] = byte;
                (from, to) = (from + 3, to + 1);
            }
            (_, b'\\') => {
                path[to] = b'/';
                (from, to) = (from + 1, to + 1);
            }
            (_, byte) if stays(byte) && !becomes_escape(&path[from..]) => {
                path[to] = byte;
                (from, to) = (from + 1, to + 1);
            }
            (_, byte) => {
                path[to] = b'%';
                path[to + 1] = b"0123456789ABCDEF"[usize::from(byte >> 4)];
                path[to + 2] = b"0123456789ABCDEF"[usize::from(byte & 15)];
                (from, to) = (from + 1, to + 3);
            }
        }
    }
    path.truncate(to);
    true
}

/// True for a bare `%` that decoding what follows would turn into an escape (`%%32%65`): it is escaped itself, or
/// the origin would decode a second time what we decoded once.
fn becomes_escape(text: &[u8]) -> bool {
    let decoded = |at: usize| match escape(text.get(at..)?) {
        Some(byte) => Some((byte, at + 3)),
        None => Some((*text.get(at)?, at + 1)),
    };
    let Some((first, next)) = decoded(1) else { return false };
    text[0] == b'%'
        && escape(text).is_none()
        && first.is_ascii_hexdigit()
        && decoded(next).is_some_and(|(b, _)| b.is_ascii_hexdigit())
}

/// RFC 3986 section 5.2.4, in place; empty segments count as segments.
fn remove_dot_segments(path: &mut Vec<u8>) {
    let (mut from, mut to) = (0, 0);
    while from < path.len() {
        // `from` stands on the slash before a segment.
        let end = memchr(b'/', &path[from + 1..]).map_or(path.len(), |at| from + 1 + at);
        let last = end == path.len();
        match &path[from + 1..end] {
            b"." | b".." => {
                if end - from == 3 {
                    to = path[..to].iter().rposition(|b| *b == b'/').unwrap_or(0);
                }
                if last {
                    path[to] = b'/';
                    to += 1;
                }
            }
            _ => {
                path.copy_within(from..end, to);
                to += end - from;
            }
        }
        from = end;
    }
    path.truncate(to);
}

/// Replaces runs of slashes by one, in place.
pub fn merge_slashes(path: &mut Vec<u8>) {
    path.dedup_by(|b, a| *b == b'/' && *a == b'/');
}

/// True when a path (query included) holds a byte that needs the slow way through [`apply`]; cheap pre-check for
/// callers that keep statistics.
pub fn needs_attention(path: &[u8]) -> bool {
    memchr3(b'%', b'\\', b'#', path).is_some() || !is_plain(split_query(path).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    const ALL: PathOptions = PathOptions {
        normalize: true,
        merge_slashes: true,
        escaped_slashes: EscapedSlashes::UnescapeAndForward,
        reject_fragment: true,
        reject_invalid_escapes: false,
    };

    fn with(opts: &PathOptions, path: &str) -> (PathAction, String) {
        let mut head = RequestHead::new();
        head.set_method(b"GET");
        head.set_path(path.as_bytes());
        let action = apply(&mut head, opts, &mut Vec::new());
        (action, String::from_utf8_lossy(head.path()).into_owned())
    }

    #[test]
    fn everything_on_does_what_envoy_does() {
        // Input and what Envoy 1.40 forwarded with the same options.
        for (input, forwarded) in [
            ("/a/b/../c//d/./e%2Ff%5Cg\\h%7e%41?x/../y%2f", "/a/c/d/e/f/g/h~A?x/../y%2f"),
            ("/%zz", "/%zz"),
            ("/../../x", "/x"),
            ("//a///b/..//c", "/a/c"),
            ("/a%2f..%2fb", "/b"),
            ("/a/b/..", "/a/"),
            ("/a;p=1/x%3Bq/%25/%c3%a9/{}|^`\"<>", "/a;p=1/x%3Bq/%25/%c3%a9/%7B%7D%7C%5E%60%22%3C%3E"),
            ("/%", "/%"),
            ("/a%2", "/a%2"),
            ("/%2d%2E%5f%7E%61%41%30%21%28%2f%20", "/-._~aA0%21%28/%20"),
            ("/.../..a/a../%2e%2E%2e/x", "/.../..a/a../.../x"),
            ("/%%32%65%2%65/%%", "/%252e%252e/%%"),
            ("/%%30%30", "/%2500"),
            ("/a|b\\..\\c", "/c"),
        ] {
            assert_eq!(with(&ALL, input), (PathAction::Continue, forwarded.into()), "{input}");
        }
        for refused in ["/%2e%2e/x/%2e/y%00", "/%00", "/#", "/a?b#c"] {
            assert_eq!(with(&ALL, refused).0, PathAction::Reject, "{refused}");
        }
    }

    #[test]
    fn paths_that_look_untouched_are_plain() {
        let mut untouched = 0;
        let mut check = |path: &[u8]| {
            let (before, _) = split_query(path);
            if is_untouched(path) {
                untouched += 1;
                assert!(is_plain(before) && !path.contains(&b'#'), "{}", path.escape_ascii());
            }
            // Only rare bytes and short paths go the long way.
            let rare = |b: &u8| !b.is_ascii_alphanumeric() && !b"-./_~".contains(b);
            if is_plain(before) && !before.iter().any(rare) && !path.contains(&b'#') {
                assert!(is_untouched(path), "{}", path.escape_ascii());
            }
        };
        for b in 0..=255u8 {
            for at in 0..20 {
                for second in b"a/.?#" {
                    let mut path = *b"/0123456/890123456/8";
                    path[at] = b;
                    path[(at + 1) % 20] = *second;
                    check(&path);
                }
            }
        }
        let mut rng = millrace_base::Rng::new(7);
        for _ in 0..20_000 {
            let len = rng.below(30) as usize;
            let path: Vec<u8> = (0..len).map(|_| b"//..aaaaaaaazZ09-_~?#%"[rng.below(22) as usize]).collect();
            check(&[b"/", path.as_slice()].concat());
        }
        assert!(untouched > 5000, "{untouched}");
    }

    #[test]
    fn nothing_on_changes_nothing() {
        let off = PathOptions::default();
        for path in ["/a/../b//c/%2f%5c\\%41%00{", "//", "/?a/../b", "/%"] {
            assert_eq!(with(&off, path), (PathAction::Continue, path.into()));
        }
        assert_eq!(with(&off, "/a#b").0, PathAction::Reject);
        let cut = PathOptions { reject_fragment: false, ..off };
        assert_eq!(with(&cut, "/a?b#c"), (PathAction::Continue, "/a?b".into()));
    }

    #[test]
    fn escaped_slash_actions() {
        let act =
            |escaped_slashes, path| with(&PathOptions { escaped_slashes, ..PathOptions::default() }, path);
        assert_eq!(act(EscapedSlashes::RejectRequest, "/a%2fb").0, PathAction::Reject);
        assert_eq!(act(EscapedSlashes::RejectRequest, "/a%252fb?%2f").0, PathAction::Continue);
        assert_eq!(
            act(EscapedSlashes::UnescapeAndRedirect, "/a%5Cb?%2f"),
            (PathAction::Redirect, "/a\\b?%2f".into())
        );
        assert_eq!(act(EscapedSlashes::UnescapeAndRedirect, "/a/b"), (PathAction::Continue, "/a/b".into()));
        assert_eq!(
            act(EscapedSlashes::UnescapeAndForward, "/%252f%2F"),
            (PathAction::Continue, "/%252f/".into())
        );
    }

    #[test]
    fn invalid_escapes_are_refused_on_request() {
        let strict = PathOptions { reject_invalid_escapes: true, ..PathOptions::default() };
        for bad in ["/%", "/%2", "/%zz", "/%2g/x", "/a%%41"] {
            assert_eq!(with(&strict, bad).0, PathAction::Reject, "{bad}");
        }
        assert_eq!(with(&strict, "/%2f?%").0, PathAction::Continue);
    }

    #[test]
    fn normalising_twice_is_normalising_once() {
        let alphabet = [
            &b"/"[..],
            b".",
            b"%2e",
            b"%2E",
            b"a",
            b"\\",
            b"%5c",
            b"%2f",
            b"{",
            b"%25",
            b"%41",
            b"%",
            b"%32",
            b"%65",
            b"2",
        ];
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut path = std::vec![b'/'];
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                path.extend_from_slice(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            let mut once = path.clone();
            assert!(normalize(&mut once));
            let mut twice = once.clone();
            assert!(normalize(&mut twice));
            assert_eq!(once, twice, "{}", String::from_utf8_lossy(&path));
            assert!(!once.windows(4).any(|w| w == b"/../") && !once.ends_with(b"/..") && once[0] == b'/');
        }
    }

    #[test]
    fn the_server_wide_target_is_left_alone() {
        let mut head = RequestHead::new();
        head.set_method(b"OPTIONS");
        head.set_path(b"*");
        assert_eq!(apply(&mut head, &ALL, &mut Vec::new()), PathAction::Continue);
        head.set_method(b"GET");
        assert_eq!(apply(&mut head, &ALL, &mut Vec::new()), PathAction::Reject);
    }
}
