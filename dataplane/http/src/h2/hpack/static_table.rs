//! The static table (RFC 7541 appendix A), and what a field's name is.

use crate::HeaderId;

/// What a name is, known without hashing for names that came by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A name that starts with a colon.
    Pseudo(Pseudo),
    /// A field that the data plane knows.
    Known(HeaderId),
    /// Any other field.
    Other,
}

impl Name {
    /// What a name as it stands on the wire is. Capital letters make it [`Name::Other`].
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        if name.first() == Some(&b':') {
            return Self::Pseudo(Pseudo::of(name));
        }
        HeaderId::lookup(name).map_or(Self::Other, Self::Known)
    }
}

/// A pseudo field (RFC 9113 section 8.3, RFC 8441 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Pseudo {
    /// `:authority`
    Authority,
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:protocol`
    Protocol,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// Any other name with a colon in front, which no message may have.
    Other,
}

impl Pseudo {
    /// The pseudo field of this name.
    pub fn of(name: &[u8]) -> Self {
        match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            _ => Self::Other,
        }
    }
}

/// A row of the static table.
pub(super) struct Row {
    pub(super) name: &'static [u8],
    pub(super) value: &'static [u8],
    pub(super) id: Name,
}

/// Rows of the static table; the dynamic table's indices start behind it.
pub(super) const ROWS: u32 = TABLE.len() as u32;

const fn row(id: Name, name: &'static str, value: &'static str) -> Row {
    Row { name: name.as_bytes(), value: value.as_bytes(), id }
}

/// The table; index 1 is the first row.
#[rustfmt::skip]
pub(super) static TABLE: [Row; 61] = {
    use HeaderId::*;
    use Name::{Known, Other, Pseudo as P};
    use Pseudo::{Authority, Method, Path, Scheme, Status};
    [
        row(P(Authority), ":authority", ""),
        row(P(Method), ":method", "GET"),
        row(P(Method), ":method", "POST"),
        row(P(Path), ":path", "/"),
        row(P(Path), ":path", "/index.html"),
        row(P(Scheme), ":scheme", "http"),
        row(P(Scheme), ":scheme", "https"),
        row(P(Status), ":status", "200"),
        row(P(Status), ":status", "204"),
        row(P(Status), ":status", "206"),
        row(P(Status), ":status", "304"),
        row(P(Status), ":status", "400"),
        row(P(Status), ":status", "404"),
        row(P(Status), ":status", "500"),
        row(Other, "accept-charset", ""),
        row(Known(AcceptEncoding), "accept-encoding", "gzip, deflate"),
        row(Known(AcceptLanguage), "accept-language", ""),
        row(Other, "accept-ranges", ""),
        row(Known(Accept), "accept", ""),
        row(Known(AccessControlAllowOrigin), "access-control-allow-origin", ""),
        row(Known(Age), "age", ""),
        row(Known(Allow), "allow", ""),
        row(Known(Authorization), "authorization", ""),
        row(Known(CacheControl), "cache-control", ""),
        row(Other, "content-disposition", ""),
        row(Known(ContentEncoding), "content-encoding", ""),
        row(Other, "content-language", ""),
        row(Known(ContentLength), "content-length", ""),
        row(Other, "content-location", ""),
        row(Known(ContentRange), "content-range", ""),
        row(Known(ContentType), "content-type", ""),
        row(Known(Cookie), "cookie", ""),
        row(Known(Date), "date", ""),
        row(Known(Etag), "etag", ""),
        row(Known(Expect), "expect", ""),
        row(Known(Expires), "expires", ""),
        row(Other, "from", ""),
        row(Known(Host), "host", ""),
        row(Known(IfMatch), "if-match", ""),
        row(Known(IfModifiedSince), "if-modified-since", ""),
        row(Known(IfNoneMatch), "if-none-match", ""),
        row(Other, "if-range", ""),
        row(Other, "if-unmodified-since", ""),
        row(Known(LastModified), "last-modified", ""),
        row(Other, "link", ""),
        row(Known(Location), "location", ""),
        row(Other, "max-forwards", ""),
        row(Known(ProxyAuthenticate), "proxy-authenticate", ""),
        row(Known(ProxyAuthorization), "proxy-authorization", ""),
        row(Known(Range), "range", ""),
        row(Known(Referer), "referer", ""),
        row(Other, "refresh", ""),
        row(Known(RetryAfter), "retry-after", ""),
        row(Known(Server), "server", ""),
        row(Known(SetCookie), "set-cookie", ""),
        row(Other, "strict-transport-security", ""),
        row(Known(TransferEncoding), "transfer-encoding", ""),
        row(Known(UserAgent), "user-agent", ""),
        row(Known(Vary), "vary", ""),
        row(Known(Via), "via", ""),
        row(Known(WwwAuthenticate), "www-authenticate", ""),
    ]
};

/// The first index of every known name, 0 for names without.
static INDEX_OF: [u8; 128] = {
    let mut index_of = [0; 128];
    let mut i = TABLE.len();
    while i > 0 {
        if let Name::Known(id) = TABLE[i - 1].id {
            index_of[id as usize] = i as u8;
        }
        i -= 1;
    }
    index_of
};

/// The first index of a name; 0 for names that the table does not have.
#[inline]
pub(super) fn index_of(id: Name, name: &[u8]) -> u32 {
    match id {
        Name::Known(id) => u32::from(INDEX_OF[id as usize & 127]),
        Name::Pseudo(Pseudo::Authority) => 1,
        Name::Pseudo(Pseudo::Method) => 2,
        Name::Pseudo(Pseudo::Path) => 4,
        Name::Pseudo(Pseudo::Scheme) => 6,
        Name::Pseudo(Pseudo::Status) => 8,
        Name::Pseudo(Pseudo::Protocol | Pseudo::Other) => 0,
        Name::Other => others(name),
    }
}

/// Names of the table that the data plane never asks for.
fn others(name: &[u8]) -> u32 {
    match name {
        b"accept-charset" => 15,
        b"accept-ranges" => 18,
        b"content-disposition" => 25,
        b"content-language" => 27,
        b"content-location" => 29,
        b"from" => 37,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"link" => 45,
        b"max-forwards" => 47,
        b"refresh" => 52,
        b"strict-transport-security" => 56,
        _ => 0,
    }
}

/// The index of a whole field whose name has the index `name`; 0 for fields that the table does not have.
#[inline]
pub(super) fn index_of_field(name: u32, value: &[u8]) -> u32 {
    match name {
        0 => 0,
        2 | 4 | 6 | 8 => pseudo_field(name, value),
        16 if value == b"gzip, deflate" => name,
        16 => 0,
        _ if value.is_empty() => name,
        _ => 0,
    }
}

fn pseudo_field(name: u32, value: &[u8]) -> u32 {
    let rows = TABLE.iter().zip(1..).skip(name as usize - 1).take(7);
    let mut same_name = rows.take_while(|(row, _)| row.name == TABLE[name as usize - 1].name);
    same_name.find(|(row, _)| row.value == value).map_or(0, |(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_and_as_a_whole() {
        let mut first = 1;
        for (i, row) in (1..).zip(&TABLE) {
            let id = Name::of(row.name);
            assert_eq!(id, row.id, "{i}");
            if row.name != TABLE[first - 1].name {
                first = i as usize;
            }
            assert_eq!(index_of(id, row.name), first as u32, "{i}");
            assert_eq!(index_of_field(first as u32, row.value), i, "{i}");
            assert_eq!(index_of_field(first as u32, b"no such value"), 0);
        }
        for (id, name) in [(Name::of(b"x-other"), &b"x-other"[..]), (Name::of(b":protocol"), b":protocol")] {
            assert_eq!(index_of(id, name), 0);
        }
        assert_eq!(Name::of(b":Path"), Name::Pseudo(Pseudo::Other));
        assert_eq!(index_of_field(0, b""), 0);
    }
}
