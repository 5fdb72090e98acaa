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

/// Addresses must be written as RFC 3986 and RFC 5952 do, which is how they are printed here.
pub(super) fn common_name(view: &View<'_>) -> bool {
    let names = sans(view.certificate);
    let among = |text: &str| {
        names.iter().any(|name| match name {
            San::Dns(name) | San::Uri(name) | San::Email(name) => *name == text,
            San::Ip(ip) => ip.to_string() == text,
            San::Other(..) => false,
        })
    };
    let mut common = view.certificate.subject().iter_common_name();
    view.place == Place::Leaf && common.any(|name| !name.as_str().is_ok_and(among))
}
