//! Names of a certificate against those that configuration asks for.

use millrace_config::{SanKind, SanMatcher, StringMatcher};

use crate::certificate::x509::San;

/// Any name that any matcher likes is enough.
pub(super) fn any_matches(matchers: &[SanMatcher], sans: &[San<'_>]) -> bool {
    matchers.iter().any(|matcher| sans.iter().any(|san| matches(matcher, san)))
}

fn matches(SanMatcher { kind, matcher }: &SanMatcher, san: &San<'_>) -> bool {
    match (kind, san) {
        (SanKind::Dns, San::Dns(name)) => match matcher {
            StringMatcher::Exact { value, .. } => dns_matches(value, name.as_bytes()),
            _ => matcher.matches(name.as_bytes()),
        },
        (SanKind::Uri, San::Uri(text)) | (SanKind::Email, San::Email(text)) => {
            matcher.matches(text.as_bytes())
        }
        (SanKind::IpAddress, San::Ip(ip)) => match matcher {
            // However the address is written, as long as it is the same one.
            StringMatcher::Exact { value, .. } => {
                std::str::from_utf8(value).is_ok_and(|text| text.parse() == Ok(*ip))
            }
            _ => matcher.matches(ip.to_string().as_bytes()),
        },
        (SanKind::OtherName(wanted), San::Other(oid, value)) => **wanted == **oid && matcher.matches(value),
        _ => false,
    }
}

/// `auto_san_validation`: `wanted` is a DNS name that one of the certificate covers, or the very text of another name
/// (an address, say).
pub(super) fn covers(wanted: &str, sans: &[San<'_>]) -> bool {
    sans.iter().any(|san| match san {
        San::Dns(name) => dns_matches(wanted.as_bytes(), name.as_bytes()),
        San::Uri(text) | San::Email(text) => *text == wanted,
        San::Ip(ip) => wanted.parse() == Ok(*ip),
        San::Other(_, value) => value.as_ref() == wanted.as_bytes(),
    })
}

/// Whether `pattern`, a DNS name of a certificate, covers `name`: equal in any case, or with one `*` in its first
/// label, which stands for a part of one label and never in an A-label (RFC 6125 6.4.3).
fn dns_matches(name: &[u8], pattern: &[u8]) -> bool {
    if name.eq_ignore_ascii_case(pattern) {
        return true;
    }
    let (Some((name, name_rest)), Some((pattern, pattern_rest))) = (split(name), split(pattern)) else {
        return false;
    };
    if !name_rest.eq_ignore_ascii_case(pattern_rest) || pattern_rest.contains(&b'*') {
        return false;
    }
    if pattern.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"xn--")) {
        return false;
    }
    let mut parts = pattern.split(|&byte| byte == b'*');
    let (Some(head), Some(tail), None) = (parts.next(), parts.next(), parts.next()) else { return false };
    head.len() + tail.len() <= name.len()
        && name[..head.len()].eq_ignore_ascii_case(head)
        && name[name.len() - tail.len()..].eq_ignore_ascii_case(tail)
}

/// The first label and the rest.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = name.iter().position(|&byte| byte == b'.')?;
    Some((&name[..dot], &name[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(kind: SanKind, value: &str) -> SanMatcher {
        SanMatcher {
            kind,
            matcher: StringMatcher::Exact { value: value.as_bytes().into(), ignore_case: false },
        }
    }

    fn prefix(kind: SanKind, value: &str) -> SanMatcher {
        SanMatcher {
            kind,
            matcher: StringMatcher::Prefix { value: value.as_bytes().into(), ignore_case: false },
        }
    }

    #[test]
    fn dns_names_match_in_any_case_and_by_a_wildcard_of_one_label() {
        for (name, pattern) in [
            ("a.example", "A.Example"),
            ("a.example", "*.example"),
            ("www1.a.example", "www*.a.example"),
            ("web-x.a.example", "*-x.a.example"),
        ] {
            assert!(dns_matches(name.as_bytes(), pattern.as_bytes()), "{name} {pattern}");
        }
        for (name, pattern) in [
            ("a.b.example", "*.example"),
            ("example", "*"),
            ("xn--a.example", "xn--*.example"),
            ("a.b.example", "a.*.example"),
            ("ab.example", "*a*.example"),
            ("a.example", "b.example"),
            ("wwwwww.example", "www*wwww.example"),
            ("a.example\0.evil", "a.example"),
        ] {
            assert!(!dns_matches(name.as_bytes(), pattern.as_bytes()), "{name} {pattern}");
        }
    }

    #[test]
    fn a_matcher_looks_at_its_kind_only_and_one_match_is_enough() {
        let sans = [San::Uri("spiffe://td/a"), San::Dns("b.example"), San::Ip([127, 0, 0, 1].into())];
        assert!(any_matches(
            &[exact(SanKind::Uri, "spiffe://td/x"), prefix(SanKind::Uri, "spiffe://td/")],
            &sans
        ));
        assert!(!any_matches(
            &[prefix(SanKind::Dns, "spiffe://td/"), exact(SanKind::Email, "b.example")],
            &sans
        ));
        assert!(!any_matches(&[exact(SanKind::Uri, "SPIFFE://td/a")], &sans));
        assert!(any_matches(&[exact(SanKind::IpAddress, "127.0.0.1")], &sans));
        assert!(any_matches(&[prefix(SanKind::IpAddress, "127.")], &sans));
        assert!(!any_matches(&[prefix(SanKind::Uri, "")], &[]));
    }

    #[test]
    fn addresses_match_however_they_are_written() {
        let sans = [San::Ip("2001:db8::1".parse().unwrap())];
        assert!(any_matches(&[exact(SanKind::IpAddress, "2001:0DB8:0:0::1")], &sans));
        assert!(!any_matches(&[exact(SanKind::IpAddress, "2001:db8::2")], &sans));
        assert!(covers("2001:db8::1", &sans));
    }

    #[test]
    fn other_names_need_their_oid() {
        let sans = [San::Other("1.2.3.4".into(), b"user@realm".as_slice().into())];
        assert!(any_matches(&[exact(SanKind::OtherName("1.2.3.4".into()), "user@realm")], &sans));
        assert!(!any_matches(&[exact(SanKind::OtherName("1.2.3.5".into()), "user@realm")], &sans));
    }
}
