//! Rules about names: the subject, its alternatives and how DNS names are written.

use x509_parser::extensions::GeneralName;

use super::Place;
use super::view::View;
use crate::certificate::x509::{San, sans};

/// Octets of a name and of a label (RFC 1035 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

fn dns<'a>(view: &'a View<'a>) -> impl Iterator<Item = &'a str> {
    let names = view.names.iter().flat_map(|found| &found.value.general_names);
    names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    })
}

/// Blanks, control characters, nothing at all, or more than the DNS can carry. What else servers are called
/// (underscores, stars) stays.
pub(super) fn impossible(view: &View<'_>) -> bool {
    dns(view).any(|name| {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.is_empty()
            || name.len() > MAX_NAME
            || name.split('.').any(|label| label.is_empty() || label.len() > MAX_LABEL)
            || !name.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// Letters, digits and hyphens within (RFC 1034 3.5, RFC 1123 2.1), and `*` for a whole first label, of which RFC 5280
/// says nothing.
pub(super) fn syntax(view: &View<'_>) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    dns(view).any(|name| {
        let name = name.strip_prefix("*.").unwrap_or(name);
        !name.split('.').all(is_label)
    })
}

pub(super) fn nameless_authority(view: &View<'_>) -> bool {
    view.issues() && view.is_nameless()
}

pub(super) fn loose(view: &View<'_>) -> bool {
    view.is_nameless() && view.names.as_ref().is_none_or(|found| !found.critical)
}

pub(super) fn none(view: &View<'_>) -> bool {
    view.names.as_ref().is_some_and(|found| found.value.general_names.is_empty())
}

pub(super) fn critical(view: &View<'_>) -> bool {
    view.place == Place::Leaf
        && !view.is_nameless()
        && view.names.as_ref().is_some_and(|found| found.critical)
}

/// A common name must be vouched for by the alternative names, to the letter: an address as RFC 3986 and RFC 5952 write
/// it, a host by a DNS name or by the wildcard of just that domain. Beside names of other kinds only, any name goes.
/// The baseline requirements would have neither of the last two, but the corpus of x509-limbo has both.
pub(super) fn common_name(view: &View<'_>) -> bool {
    let names = sans(view.certificate);
    let vouched = |text: &str| {
        if is_address(text) {
            return names.iter().any(|name| matches!(name, San::Ip(ip) if ip.to_string() == text));
        }
        let mut hosts = names.iter().filter_map(|name| match name {
            San::Dns(host) => Some(*host),
            _ => None,
        });
        let is_this = |host: &str| host == text || host.strip_prefix("*.") == Some(text);
        hosts.clone().next().is_none() || hosts.any(is_this)
    };
    let mut common = view.certificate.subject().iter_common_name();
    view.place == Place::Leaf && common.any(|name| !name.as_str().is_ok_and(vouched))
}

/// Whether it means an address, however badly written: hosts neither have colons nor end in a number.
fn is_address(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or(text);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    text.contains(':')
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        || !last.is_empty() && last.bytes().all(|digit| digit.is_ascii_digit())
}
