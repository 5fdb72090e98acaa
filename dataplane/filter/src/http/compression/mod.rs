//! The filters `compressor` and `decompressor`: which messages they take, and what becomes of their heads and bodies.

pub(super) mod accept;
pub(super) mod compressor;
pub(super) mod decompressor;
#[cfg(test)]
mod tests;

use millrace_http::{HeaderId, HeaderMap};

/// The value of a field, its lines joined.
fn value<'h>(headers: &'h HeaderMap, id: HeaderId, scratch: &'h mut Vec<u8>) -> Option<&'h [u8]> {
    let mut values = headers.values(id);
    let first = values.next()?;
    if values.next().is_none() {
        return Some(first);
    }
    scratch.clear();
    for (at, value) in headers.values(id).enumerate() {
        if at > 0 {
            scratch.push(b',');
        }
        scratch.extend_from_slice(value);
    }
    Some(scratch)
}

/// The members of a list without the white space around them, empty ones left out.
fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// What stands before the first parameter.
fn without_parameters(value: &[u8]) -> &[u8] {
    value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

/// `cache-control: no-transform`.
fn may_not_transform(headers: &HeaderMap) -> bool {
    headers.values(HeaderId::CacheControl).flat_map(members).any(|m| m.eq_ignore_ascii_case(b"no-transform"))
}
