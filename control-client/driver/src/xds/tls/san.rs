//! The subject alternative names of a certificate, and matchers over them as Envoy applies them.

use std::net::IpAddr;

use millrace_ads::source::{SanKind, SanMatcher, SanPattern};
use regex::{Regex, RegexBuilder};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Compiled size of an expression, bytes, as for every other configured expression.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// One name of a certificate, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct San {
    kind: SanKind,
    text: String,
}

/// The names of a certificate. Kinds that no matcher knows are left out.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<San> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    extension.value.general_names.iter().filter_map(san).collect()
}

fn san(name: &GeneralName<'_>) -> Option<San> {
    let (kind, text) = match name {
        GeneralName::DNSName(text) => (SanKind::Dns, (*text).to_owned()),
        GeneralName::URI(text) => (SanKind::Uri, (*text).to_owned()),
        GeneralName::RFC822Name(text) => (SanKind::Email, (*text).to_owned()),
        GeneralName::IPAddress(bytes) => (SanKind::IpAddress, ip(bytes)?.to_string()),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => return None,
    };
    Some(San { kind, text })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}

/// A matcher whose expression is compiled.
#[derive(Debug)]
pub(super) struct Matcher {
    kind: SanKind,
    pattern: Pattern,
}

#[derive(Debug)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Regex(Regex),
}

impl Matcher {
    /// Compiles.
    pub(super) fn new(matcher: &SanMatcher) -> Result<Self, String> {
        let pattern = match &matcher.pattern {
            SanPattern::Exact(text) => Pattern::Exact(text.clone()),
            SanPattern::Prefix(text) => Pattern::Prefix(text.clone()),
            SanPattern::Suffix(text) => Pattern::Suffix(text.clone()),
            SanPattern::Contains(text) => Pattern::Contains(text.clone()),
            SanPattern::Regex(text) => {
                let whole = RegexBuilder::new(&format!("^(?:{text})$")).size_limit(REGEX_BYTES_MAX).build();
                Pattern::Regex(whole.map_err(|error| error.to_string())?)
            }
        };
        Ok(Self { kind: matcher.kind, pattern })
    }

    /// True when the name is of the kind and fits.
    pub(super) fn matches(&self, san: &San) -> bool {
        if san.kind != self.kind {
            return false;
        }
        match &self.pattern {
            // A host name is compared as host names are: no case, and the certificate may hold a wildcard.
            Pattern::Exact(text) if self.kind == SanKind::Dns => host_matches(&san.text, text),
            Pattern::Exact(text) => san.text == *text,
            Pattern::Prefix(text) => san.text.starts_with(text.as_str()),
            Pattern::Suffix(text) => san.text.ends_with(text.as_str()),
            Pattern::Contains(text) => san.text.contains(text.as_str()),
            Pattern::Regex(regex) => regex.is_match(&san.text),
        }
    }
}

/// A `*.` in the certificate stands for exactly one label.
fn host_matches(presented: &str, wanted: &str) -> bool {
    if presented.eq_ignore_ascii_case(wanted) {
        return true;
    }
    let (Some(parent), Some((label, rest))) = (presented.strip_prefix("*."), wanted.split_once('.')) else {
        return false;
    };
    !label.is_empty() && parent.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(kind: SanKind, pattern: SanPattern, name: (SanKind, &str)) -> bool {
        let san = San { kind: name.0, text: name.1.to_owned() };
        Matcher::new(&SanMatcher { kind, pattern }).unwrap().matches(&san)
    }

    #[test]
    fn each_pattern_looks_at_its_kind_only() {
        let uri = (SanKind::Uri, "spiffe://td/ns/istio-system/sa/istiod");
        let text = |s: &str| s.to_owned();
        for pattern in [
            SanPattern::Exact(text(uri.1)),
            SanPattern::Prefix(text("spiffe://td/")),
            SanPattern::Suffix(text("/istiod")),
            SanPattern::Contains(text("istio-system")),
            SanPattern::Regex(text("spiffe://[^/]+/ns/.*")),
        ] {
            assert!(matches(SanKind::Uri, pattern.clone(), uri), "{pattern:?}");
            assert!(!matches(SanKind::Dns, pattern.clone(), uri), "{pattern:?}");
        }
        assert!(!matches(SanKind::Uri, SanPattern::Regex(text("spiffe://td")), uri), "the whole name");
        assert!(!matches(SanKind::Uri, SanPattern::Regex(text("x|spiffe")), uri), "the whole name");
        assert!(
            Matcher::new(&SanMatcher { kind: SanKind::Uri, pattern: SanPattern::Regex(text("(")) }).is_err()
        );
    }

    #[test]
    fn a_wildcard_of_the_certificate_is_one_label() {
        let exact = |wanted: &str, presented| {
            matches(SanKind::Dns, SanPattern::Exact(wanted.to_owned()), (SanKind::Dns, presented))
        };
        assert!(exact("Contour", "contour"));
        assert!(exact("a.example.com", "*.example.com"));
        assert!(!exact("a.b.example.com", "*.example.com"));
        assert!(!exact("example.com", "*.example.com"));
        assert!(!exact(".example.com", "*.example.com"));
    }

    #[test]
    fn addresses_are_text() {
        assert_eq!(ip(&[10, 0, 0, 1]).unwrap().to_string(), "10.0.0.1");
        let mut v6 = [0; 16];
        v6[15] = 1;
        assert_eq!(ip(&v6).unwrap().to_string(), "::1");
        assert_eq!(ip(&[1, 2, 3]), None);
    }
}
