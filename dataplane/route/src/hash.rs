//! The hash of a request for balancers that choose by it (`hash_policy`).

use std::fmt::Write;
use std::net::SocketAddr;

use millrace_base::hash::xxh64;
use millrace_base::{StateForm, Written};
use millrace_config::{HashCookie, HashMethod, HashPolicy, RegexRewrite};
use millrace_http::RequestHead;

/// What a request's hash is made of besides its head.
#[derive(Clone, Copy, Debug, Default)]
pub struct HashInputs<'a> {
    /// The request; without one only the connection counts.
    pub head: Option<&'a RequestHead>,
    /// The client's address, as it is believed.
    pub peer: Option<SocketAddr>,
    /// The address that it connected to.
    pub local: Option<SocketAddr>,
    /// What filters have written about it.
    pub written: Written<'a>,
}

/// The answer of [`hash()`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// `None` when no policy applies: the choice is random.
    pub hash: Option<u64>,
    /// Values of `set-cookie` for the response: cookies that the request did not have.
    pub cookies: Vec<Vec<u8>>,
}

/// Works the policies off in their order. Allocates only for rewritten or repeated header fields and new cookies.
pub fn hash(policies: &[HashPolicy], inputs: &HashInputs<'_>) -> Hashed {
    let mut out = Hashed::default();
    for policy in policies {
        let found = match &policy.method {
            HashMethod::Header { name, rewrite } => {
                inputs.head.and_then(|head| of_header(head, name, rewrite.as_deref()))
            }
            HashMethod::Cookie(cookie) => of_cookie(cookie, inputs, &mut out.cookies),
            HashMethod::SourceIp => inputs.peer.map(|peer| xxh64(peer.ip().to_string().as_bytes(), 0)),
            HashMethod::QueryParameter(name) => {
                let value = inputs.head.and_then(|head| crate::query::first_value(head.path(), name));
                value.map(|value| xxh64(value, 0))
            }
            HashMethod::FilterState(key) => {
                // Other texts have no hash in Envoy.
                let object = inputs.written.object(key).filter(|o| o.form() == StateForm::HashableText);
                object.map(|object| xxh64(object.text().as_bytes(), 0))
            }
        };
        if let Some(found) = found {
            // Rotated, so that equal policies do not cancel each other out.
            out.hash = Some(out.hash.map_or(0, |hash| hash.rotate_left(1)) ^ found);
        }
        if policy.terminal && out.hash.is_some() {
            break;
        }
    }
    out
}

fn of_header(head: &RequestHead, name: &[u8], rewrite: Option<&RegexRewrite>) -> Option<u64> {
    let present = |value: &'_ [u8]| !value.is_empty();
    let pseudo = match name {
        b":method" => Some(head.method()),
        b":path" => Some(head.path()),
        b":authority" | b"host" => Some(head.authority()),
        b":scheme" => Some(head.scheme()),
        _ => None,
    };
    let one = |value: &[u8]| match rewrite {
        Some(rewrite) => xxh64(&rewrite.pattern.replace_all(value, &*rewrite.substitution), 0),
        None => xxh64(value, 0),
    };
    if let Some(value) = pseudo {
        return Some(value).filter(|value| present(value)).map(one);
    }
    let mut values = head.headers.values_name(name);
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(one(first)) };
    let all = [first, second].into_iter().chain(values);
    let mut all: Vec<_> = match rewrite {
        Some(rewrite) => {
            all.map(|value| rewrite.pattern.replace_all(value, &*rewrite.substitution)).collect()
        }
        None => all.map(std::borrow::Cow::Borrowed).collect(),
    };
    // Whatever the order of the fields, the hash is the same.
    all.sort_unstable();
    // Each value is hashed with the hash of those before it.
    Some(all.iter().fold(0, |hash, value| xxh64(value, hash)))
}

/// The first value of a cookie that is not empty.
pub fn cookie_value<'h>(head: &'h RequestHead, name: &[u8]) -> Option<&'h [u8]> {
    let fields = head.headers.values_name(b"cookie");
    let pairs = fields.flat_map(|field| field.split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..at].trim_ascii() == name).then(|| unquoted(pair[at + 1..].trim_ascii()))
    });
    values.next().filter(|value| !value.is_empty())
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}

fn of_cookie(cookie: &HashCookie, inputs: &HashInputs<'_>, made: &mut Vec<Vec<u8>>) -> Option<u64> {
    let head = inputs.head?;
    if let Some(value) = cookie_value(head, &cookie.name) {
        return Some(xxh64(value, 0));
    }
    let ttl = cookie.ttl?;
    let (peer, local) = (inputs.peer?, inputs.local?);
    let value = format!("{:016x}", xxh64(format!("{peer}{local}").as_bytes(), 0));
    let mut text = String::new();
    let _ = write!(text, "=\"{value}\"");
    if !ttl.is_zero() {
        let _ = write!(text, "; Max-Age={}", ttl.as_secs());
    }
    if !cookie.path.is_empty() {
        let _ = write!(text, "; Path={}", cookie.path);
    }
    for (name, value) in &cookie.attributes {
        let _ = if value.is_empty() { write!(text, "; {name}") } else { write!(text, "; {name}={value}") };
    }
    text.push_str("; HttpOnly");
    made.push([&cookie.name, text.as_bytes()].concat());
    Some(xxh64(value.as_bytes(), 0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_base::{FilterState, StateObject};

    use super::*;
    use crate::test::{bytes, head};

    fn policy(method: HashMethod) -> HashPolicy {
        HashPolicy { method, terminal: false }
    }

    fn header(name: &str) -> HashPolicy {
        policy(HashMethod::Header { name: bytes(name), rewrite: None })
    }

    fn cookie(ttl: Option<u64>) -> HashPolicy {
        policy(HashMethod::Cookie(Box::new(HashCookie {
            name: bytes("id"),
            path: "/p".into(),
            ttl: ttl.map(Duration::from_secs),
            attributes: vec![("SameSite".into(), "Strict".into()), ("Secure".into(), "".into())],
        })))
    }

    fn of(policies: &[HashPolicy], head: &RequestHead) -> Hashed {
        let peer = Some(SocketAddr::from(([10, 0, 0, 1], 4000)));
        let local = Some(SocketAddr::from(([10, 0, 0, 2], 80)));
        hash(policies, &HashInputs { head: Some(head), peer, local, ..HashInputs::default() })
    }

    #[test]
    fn filter_state_that_can_be_hashed() {
        let mut state = FilterState::default();
        let mut set = |key: &str, form| {
            state.set(key, StateObject::new(form, "zz").unwrap(), false);
        };
        set("h", StateForm::HashableText);
        set("t", StateForm::Text);
        let written = Written { connection: Some(&state), ..Written::default() };
        let hashed = |key: &str| {
            let policies = [policy(HashMethod::FilterState(key.into()))];
            hash(&policies, &HashInputs { written, ..HashInputs::default() }).hash
        };
        assert_eq!((hashed("h"), hashed("t"), hashed("x")), (Some(xxh64(b"zz", 0)), None, None));
    }

    #[test]
    fn parts_of_the_request() {
        let mut request = head("GET", "h", "/p?a=1&b=2");
        request.headers.append(b"x-a", b"zz");
        let hashed = |policy: HashPolicy| of(&[policy], &request).hash;
        assert_eq!(hashed(header("x-a")), Some(xxh64(b"zz", 0)));
        assert_eq!(hashed(header(":path")), Some(xxh64(b"/p?a=1&b=2", 0)));
        assert_eq!(hashed(header("x-b")), None);
        assert_eq!(hashed(policy(HashMethod::SourceIp)), Some(xxh64(b"10.0.0.1", 0)));
        assert_eq!(hashed(policy(HashMethod::QueryParameter(bytes("b")))), Some(xxh64(b"2", 0)));
        assert_eq!(hashed(policy(HashMethod::QueryParameter(bytes("c")))), None);
        let pattern = regex::bytes::Regex::new("z").unwrap();
        let rewrite = Some(Box::new(RegexRewrite { pattern, substitution: bytes("y") }));
        assert_eq!(hashed(policy(HashMethod::Header { name: bytes("x-a"), rewrite })), Some(xxh64(b"yy", 0)));
        request.headers.append(b"x-a", b"aa");
        assert_eq!(of(&[header("x-a")], &request).hash, Some(xxh64(b"zz", xxh64(b"aa", 0))), "sorted");
    }

    #[test]
    fn policies_are_combined_until_a_terminal_one() {
        let mut request = head("GET", "h", "/");
        request.headers.append(b"x-a", b"1");
        request.headers.append(b"x-b", b"2");
        let (a, b) = (xxh64(b"1", 0), xxh64(b"2", 0));
        assert_eq!(of(&[header("x-a"), header("x-b")], &request).hash, Some(a.rotate_left(1) ^ b));
        assert_ne!(of(&[header("x-a"), header("x-a")], &request).hash, Some(0));
        let terminal = HashPolicy { terminal: true, ..header("x-a") };
        assert_eq!(of(&[terminal.clone(), header("x-b")], &request).hash, Some(a));
        assert_eq!(of(&[header("x-c"), terminal, header("x-b")], &request).hash, Some(a));
        assert_eq!(of(&[], &request), Hashed::default());
    }

    #[test]
    fn a_cookie_is_read_or_made() {
        let mut request = head("GET", "h", "/");
        assert_eq!(of(&[cookie(None)], &request), Hashed::default());
        let value = format!("{:016x}", xxh64(b"10.0.0.1:400010.0.0.2:80", 0));
        let made = of(&[cookie(Some(9))], &request);
        assert_eq!(made.hash, Some(xxh64(value.as_bytes(), 0)));
        let text = format!("id=\"{value}\"; Max-Age=9; Path=/p; SameSite=Strict; Secure; HttpOnly");
        assert_eq!(made.cookies, [text.into_bytes()]);
        let session = of(&[cookie(Some(0))], &request).cookies.remove(0);
        assert!(!String::from_utf8_lossy(&session).contains("Max-Age"));
        request.headers.append(b"cookie", b"other=1; id=\"abc\"; id=def");
        let read = of(&[cookie(Some(9))], &request);
        assert_eq!((read.hash, read.cookies.len()), (Some(xxh64(b"abc", 0)), 0));
    }
}
