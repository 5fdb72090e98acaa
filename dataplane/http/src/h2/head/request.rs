//! Request heads (RFC 9113 section 8.3.1, RFC 8441 section 4).

use alloc::vec::Vec;

use super::check::{self, Fault, Gate};
use crate::block;
use crate::h1::{has_port, is_known_method, is_valid_authority};
use crate::h2::hpack::{Field, Name, Pseudo};
use crate::h2::limits::AUTHORITY_KEPT;
use crate::h2::priority::Priority;
use crate::h2::stream::UNKNOWN_LENGTH;
use crate::head::{Method, Part, RequestHead, Version};
use crate::header::{HeaderId, Indexed, is_token, token};

const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const PATH: u8 = 4;
const AUTHORITY: u8 = 8;
const PROTOCOL: u8 = 16;
/// An ordinary field came: pseudo-header fields are over.
const ORDINARY: u8 = 32;
const HOST: u8 = 64;

/// What a request head says besides what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Content-length, or [`UNKNOWN_LENGTH`].
    pub(crate) length: u64,
    pub(crate) priority: Priority,
    pub(crate) connect: bool,
    /// It was extended CONNECT and is a GET with `upgrade` now.
    pub(crate) extended: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self { length: UNKNOWN_LENGTH, priority: Priority::default(), connect: false, extended: false }
    }
}

/// Fills a request head field by field.
#[derive(Debug)]
pub(crate) struct RequestReader<'a> {
    pub(crate) gate: Gate<'a>,
    head: &'a mut RequestHead,
    /// The last authority of the connection that was valid: the next one is mostly the same.
    authority: &'a mut Vec<u8>,
    seen: u8,
    length: u64,
    priority: Priority,
}

impl<'a> RequestReader<'a> {
    pub(crate) fn new(gate: Gate<'a>, head: &'a mut RequestHead, authority: &'a mut Vec<u8>) -> Self {
        head.clear();
        head.version = Version::Http2;
        Self { gate, head, authority, seen: 0, length: UNKNOWN_LENGTH, priority: Priority::default() }
    }

    /// Takes a field; false when it has seen enough.
    #[inline]
    pub(crate) fn field(&mut self, field: &Field<'_>) -> bool {
        if !self.gate.admits(field) {
            return self.gate.wants_more();
        }
        match field.id {
            Name::Pseudo(pseudo) => self.pseudo(pseudo, field),
            id => {
                self.seen |= ORDINARY;
                if let Name::Known(id) = id
                    && is_special(id)
                {
                    self.special(id, field);
                } else if self.gate.keeps_name(field) {
                    if field.name == b"priority" {
                        self.priority = Priority::parse(field.value);
                    }
                    self.head.headers.push_indexed(&check::indexed(field));
                }
            }
        }
        true
    }

    #[inline]
    fn pseudo(&mut self, pseudo: Pseudo, field: &Field<'_>) {
        let value = field.value;
        let (bit, valid) = match pseudo {
            Pseudo::Method => (METHOD, self.is_method(value)),
            Pseudo::Scheme => (SCHEME, is_scheme(value)),
            Pseudo::Path => (PATH, is_path(value)),
            Pseudo::Authority => (AUTHORITY, self.is_authority(value)),
            Pseudo::Protocol => (PROTOCOL, self.gate.options().allow_connect && is_protocol(value)),
            Pseudo::Status | Pseudo::Other => (0, false),
        };
        if !valid || self.seen & (bit | ORDINARY) != 0 {
            return self.gate.fail(Fault::Malformed);
        }
        self.seen |= bit;
        match pseudo {
            Pseudo::Method => self.head.put(Part::Method, value),
            Pseudo::Scheme => self.head.put(Part::Scheme, value),
            Pseudo::Path => self.head.put(Part::Path, value),
            Pseudo::Authority => self.head.put(Part::Authority, value),
            _ => self.upgrade(value),
        }
    }

    /// Extended CONNECT is what an upgrade was in HTTP/1.1.
    #[cold]
    fn upgrade(&mut self, protocol: &[u8]) {
        for (id, value) in [(HeaderId::Connection, &b"upgrade"[..]), (HeaderId::Upgrade, protocol)] {
            let name = id.name().as_bytes();
            self.head.headers.push_indexed(&Indexed { id: Some(id), name, value, sensitive: false });
        }
    }

    #[inline]
    fn is_authority(&mut self, value: &[u8]) -> bool {
        *value == **self.authority && !value.is_empty() || self.is_new_authority(value)
    }

    fn is_new_authority(&mut self, value: &[u8]) -> bool {
        let valid = is_valid_authority(value);
        if valid && value.len() <= AUTHORITY_KEPT {
            self.authority.clear();
            self.authority.extend_from_slice(value);
        }
        valid
    }

    fn is_method(&self, value: &[u8]) -> bool {
        is_known_method(value) || (self.gate.options().allow_custom_methods && is_token(value))
    }

    fn special(&mut self, id: HeaderId, field: &Field<'_>) {
        let headers = &mut self.head.headers;
        match id {
            HeaderId::Cookie => headers.join_indexed(&check::indexed(field), b"; "),
            HeaderId::ContentLength => {
                self.gate.content_length(field.value, &mut self.length);
                headers.push_indexed(&check::indexed(field));
            }
            HeaderId::Te if field.value.eq_ignore_ascii_case(b"trailers") => {
                headers.push_indexed(&check::indexed(field));
            }
            HeaderId::Host => self.host(field.value),
            _ => self.gate.fail(Fault::Malformed),
        }
    }

    /// `host` stands in for :authority or says the same (section 8.3.1).
    fn host(&mut self, value: &[u8]) {
        let agrees = match self.seen & AUTHORITY {
            0 => is_valid_authority(value),
            _ => value.eq_ignore_ascii_case(self.head.authority()),
        };
        if !agrees || self.seen & HOST != 0 {
            return self.gate.fail(Fault::Malformed);
        }
        self.seen |= HOST;
        if self.seen & AUTHORITY == 0 {
            self.head.put(Part::Authority, value);
        }
    }

    /// Checks what only the whole head shows. `end`: no body follows.
    pub(crate) fn finish(self, end: bool) -> Result<Request, Fault> {
        if let Some(fault) = self.gate.fault() {
            return Err(fault);
        }
        const PLAIN: u8 = METHOD | SCHEME | PATH;
        let pseudo = self.seen & (PLAIN | PROTOCOL);
        let connect = self.head.method_kind() == Method::Connect;
        let named = self.seen & (AUTHORITY | HOST) != 0;
        let complete = match (connect, pseudo) {
            (false, PLAIN) => named && self.is_path_of_method(),
            (true, METHOD) => self.seen & AUTHORITY != 0 && has_port(self.head.authority()),
            (true, pseudo) => pseudo == PLAIN | PROTOCOL && named && self.head.path().first() == Some(&b'/'),
            (false, _) => false,
        };
        let announced = self.length != UNKNOWN_LENGTH && self.length != 0;
        if !complete || (announced && (end || connect)) {
            return Err(Fault::Malformed);
        }
        let extended = pseudo & PROTOCOL != 0;
        if extended {
            self.head.put(Part::Method, b"GET");
        }
        let length = if connect { UNKNOWN_LENGTH } else { self.length };
        Ok(Request { length, priority: self.priority, connect, extended })
    }

    fn is_path_of_method(&self) -> bool {
        match self.head.path() {
            [b'/', ..] => true,
            path => path == b"*" && self.head.method_kind() == Method::Options,
        }
    }
}

/// Fields that are not simply stored.
#[inline]
fn is_special(id: HeaderId) -> bool {
    use HeaderId::*;
    check::is_connection_specific(id) || matches!(id, Cookie | ContentLength | Te | Host)
}

/// Visible ASCII and not empty; which form fits the method is seen at the end.
#[inline]
fn is_path(value: &[u8]) -> bool {
    !value.is_empty() && (block::none(value, block::not_graphic) || token::all(value, token::TARGET))
}

/// RFC 3986 section 3.1.
fn is_scheme(value: &[u8]) -> bool {
    let rest = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    matches!(value, b"http" | b"https")
        || (value.first().is_some_and(u8::is_ascii_alphabetic) && value.iter().all(rest))
}

/// A token, with a version behind a slash or not (RFC 9110 section 7.8).
fn is_protocol(value: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b'/');
    parts.by_ref().take(2).all(is_token) && parts.next().is_none()
}
