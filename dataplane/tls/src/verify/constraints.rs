//! Name constraints (RFC 5280 4.2.1.10) in all of the forms that authorities use: DNS names, addresses, e-mail
//! addresses, URIs and directory names. Whatever has another form, or cannot be read, does not fit.

use std::cell::Cell;

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;

use crate::certificate::x509::tlv;

/// Comparisons of a name with a constraint that one chain may cost; webpki has the same bound.
pub(super) const COMPARISONS: u32 = 250_000;

const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const DIRECTORY: u8 = 0xa4;
const URI: u8 = 0x86;
const IP: u8 = 0x87;
/// `emailAddress` (1.2.840.113549.1.9.1), as it stands in a subject.
const EMAIL_ATTRIBUTE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01];

/// A name with the tag of its form.
type Name<'a> = (u8, &'a [u8]);

/// Elements of DER, one after the other; `None` in place of what is none.
fn elements(mut der: &[u8]) -> impl Iterator<Item = Option<Name<'_>>> {
    std::iter::from_fn(move || {
        if der.is_empty() {
            return None;
        }
        let Some((tag, content, rest)) = tlv(der) else {
            der = &[];
            return Some(None);
        };
        der = rest;
        Some(Some((tag, content)))
    })
}

/// The content of an element with this tag, and nothing behind it.
fn only(der: &[u8], wanted: u8) -> Option<&[u8]> {
    match tlv(der) {
        Some((tag, content, [])) if tag == wanted => Some(content),
        _ => None,
    }
}

/// What a certificate is called: its alternative names, its subject, and e-mail addresses within that. `None` if that
/// cannot be read.
pub(super) fn names_of<'a>(certificate: &'a X509Certificate<'a>) -> Option<Vec<Name<'a>>> {
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        if extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME {
            for name in elements(only(extension.value, 0x30)?) {
                names.push(name?);
            }
        }
    }
    let subject = certificate.subject().as_raw();
    let relative = only(subject, 0x30)?;
    if !relative.is_empty() {
        names.push((DIRECTORY, subject));
    }
    for set in elements(relative) {
        for attribute in elements(set?.1) {
            let mut parts = elements(attribute?.1);
            let (kind, value) = (parts.next()??, parts.next()??);
            if kind == (0x06, EMAIL_ATTRIBUTE) {
                names.push((EMAIL, value.1));
            }
        }
    }
    Some(names)
}

/// The subtrees of name constraints.
struct Subtrees<'a> {
    permitted: Vec<Name<'a>>,
    excluded: Vec<Name<'a>>,
}

impl<'a> Subtrees<'a> {
    /// Reads what is in the SEQUENCE. `minimum` and `maximum` are not of the profile: with them nothing is read.
    fn read(constraints: &'a [u8]) -> Option<Self> {
        let mut subtrees = Self { permitted: Vec::new(), excluded: Vec::new() };
        for list in elements(constraints) {
            let (tag, list) = list?;
            let into = match tag {
                0xa0 => &mut subtrees.permitted,
                0xa1 => &mut subtrees.excluded,
                _ => return None,
            };
            for subtree in elements(list) {
                let (0x30, subtree) = subtree? else { return None };
                let mut parts = elements(subtree);
                let (base, None) = (parts.next()??, parts.next()) else { return None };
                into.push(base);
            }
        }
        Some(subtrees)
    }
}

/// Whether webpki would refuse every name of some form that these constraints name, for want of an implementation.
pub(super) fn beyond_webpki(constraints: &[u8]) -> bool {
    let Some(Subtrees { permitted, excluded }) = Subtrees::read(constraints) else { return false };
    permitted.iter().chain(&excluded).any(|(form, _)| matches!(*form, EMAIL | DIRECTORY | URI))
}

/// Whether all names lie within the constraints (the content of their SEQUENCE). `budget` is what is left of
/// [`COMPARISONS`].
pub(super) fn fit(constraints: &[u8], names: &[Name<'_>], budget: &Cell<u32>) -> bool {
    let Some(Subtrees { permitted, excluded }) = Subtrees::read(constraints) else { return false };
    names.iter().all(|name| fits(name, &permitted, &excluded, budget) == Some(true))
}

/// `None` if that cannot be told.
fn fits(name: &Name<'_>, permitted: &[Name<'_>], excluded: &[Name<'_>], budget: &Cell<u32>) -> Option<bool> {
    let (mut asked, mut allowed) = (false, false);
    for base in permitted.iter().filter(|base| base.0 == name.0) {
        budget.set(budget.get().checked_sub(1)?);
        asked = true;
        allowed |= matches(name, base.1, false)?;
    }
    for base in excluded.iter().filter(|base| base.0 == name.0) {
        budget.set(budget.get().checked_sub(1)?);
        if matches(name, base.1, true)? {
            return Some(false);
        }
    }
    Some(allowed || !asked)
}

/// `touching` counts a wildcard that stands for names within and without as within.
fn matches((form, name): &Name<'_>, base: &[u8], touching: bool) -> Option<bool> {
    match *form {
        DNS => dns_matches(name, base, touching),
        IP => ip_matches(name, base),
        EMAIL => email_matches(name, base),
        URI => host_matches(uri_host(name)?, base),
        DIRECTORY => directory_matches(name, base),
        _ => None,
    }
}

fn is_host(host: &[u8]) -> bool {
    let label = |label: &[u8]| {
        let within = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.iter().all(within)
    };
    host.len() <= 253 && host.split(|&byte| byte == b'.').all(label)
}

/// Zero or more labels may stand before the base; with a leading dot, one or more.
fn dns_matches(name: &[u8], base: &[u8], touching: bool) -> Option<bool> {
    let wild = name.strip_prefix(b"*.");
    let plain = base.strip_prefix(b".").unwrap_or(base);
    if !is_host(wild.unwrap_or(name)) || !(base.is_empty() || is_host(plain)) {
        return None;
    }
    if base.is_empty() || within(name, base) {
        return Some(true);
    }
    if !base.starts_with(b".") && name.eq_ignore_ascii_case(base) {
        return Some(true);
    }
    // `*.a.example` may stand for `b.a.example`, which is the base or the parent of a dotted one.
    Some(touching && wild.is_some_and(|parent| plain.eq_ignore_ascii_case(parent) || within(plain, parent)))
}

/// Whether `name` has labels before `base`, whose leading dot is optional.
fn within(name: &[u8], base: &[u8]) -> bool {
    let base = base.strip_prefix(b".").unwrap_or(base);
    let Some(rest) = name.len().checked_sub(base.len()).filter(|rest| *rest > 0) else { return false };
    name[rest..].eq_ignore_ascii_case(base) && name[..rest].ends_with(b".")
}

/// Address and mask, with the set bits of the mask first.
fn ip_matches(address: &[u8], base: &[u8]) -> Option<bool> {
    if !matches!(address.len(), 4 | 16) || !matches!(base.len(), 8 | 32) {
        return None;
    }
    let (network, mask) = base.split_at(base.len() / 2);
    let ones = mask.iter().take_while(|&&byte| byte == 0xff).count();
    let tail = mask[ones..].split_first();
    if tail.is_some_and(|(first, rest)| {
        first.leading_ones() + first.trailing_zeros() != 8 || rest.iter().any(|&byte| byte != 0)
    }) {
        return None;
    }
    let same = |((address, network), mask): ((&u8, &u8), &u8)| address & mask == network & mask;
    Some(address.len() == network.len() && address.iter().zip(network).zip(mask).all(same))
}

/// A mailbox, whose local part counts to the letter; a host; or, with a leading dot, all hosts below.
fn email_matches(address: &[u8], base: &[u8]) -> Option<bool> {
    let (local, host) = mailbox(address)?;
    if base.contains(&b'@') {
        let (wanted, at) = mailbox(base)?;
        return Some(local == wanted && host.eq_ignore_ascii_case(at));
    }
    host_matches(host, base)
}

fn mailbox(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = address.iter().position(|&byte| byte == b'@')?;
    let (local, host) = (&address[..at], &address[at + 1..]);
    let plain = !local.is_empty() && local.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"');
    (plain && is_host(host)).then_some((local, host))
}

/// The base is a host, or with a leading dot all hosts below.
fn host_matches(host: &[u8], base: &[u8]) -> Option<bool> {
    if !is_host(base.strip_prefix(b".").unwrap_or(base)) {
        return None;
    }
    Some(if base.starts_with(b".") { within(host, base) } else { host.eq_ignore_ascii_case(base) })
}

/// The host of a URI; one without, or with an address for it, fits no constraint.
fn uri_host(uri: &[u8]) -> Option<&[u8]> {
    let text = std::str::from_utf8(uri).ok()?;
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    let is_address = host.parse::<std::net::Ipv4Addr>().is_ok();
    (!is_address && is_host(host.as_bytes())).then_some(host.as_bytes())
}

/// The relative names of the base stand first in the name (RFC 5280 7.1).
fn directory_matches(name: &[u8], base: &[u8]) -> Option<bool> {
    let mut names = elements(only(name, 0x30)?);
    for wanted in elements(only(base, 0x30)?) {
        let wanted = wanted?;
        let Some(name) = names.next() else { return Some(false) };
        if !relative_matches(name?.1, wanted.1)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Two sets of attributes, which DER has sorted.
fn relative_matches(one: &[u8], other: &[u8]) -> Option<bool> {
    let (mut ones, mut others) = (elements(one), elements(other));
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return Some(true),
            (Some(one), Some(other)) => {
                let (one, other) = (attribute(one?.1)?, attribute(other?.1)?);
                if one != other {
                    return Some(false);
                }
            }
            _ => return Some(false),
        }
    }
}

/// Type and value of an attribute, text without regard to case and blanks; any sort of text is the same.
fn attribute(der: &[u8]) -> Option<(&[u8], u8, Vec<u8>)> {
    let mut parts = elements(der);
    let ((0x06, kind), (tag, value)) = (parts.next()??, parts.next()??) else { return None };
    let text = matches!(tag, 0x0c | 0x13 | 0x16);
    if !text {
        return Some((kind, tag, value.to_vec()));
    }
    let words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let folded: Vec<_> = words.map(<[u8]>::to_ascii_lowercase).collect();
    Some((kind, 0x0c, folded.join(&b' ')))
}

#[cfg(test)]
mod tests;
