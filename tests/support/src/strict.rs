//! The grammar of HTTP/1.1 heads, read with no tolerance at all (RFC 9110, RFC 9112).
//!
//! This is a second implementation on purpose: it shares nothing with the proxy's codec. A legal but
//! unusual form that a proxy has no business to emit (a chunk extension, a folded line, two lengths
//! that agree) is a fault too.

use crate::wire::{Fault, Wire, grammar};

/// Header fields in wire order; names as sent, values decoded as Latin-1 so that no byte is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of the only field with this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.all(name).into_iter();
        let first = found.next();
        if found.next().is_some() { None } else { first }
    }

    /// Every value under this name, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// True when the name occurs.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The names in wire order, in lower case.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(n, _)| n.to_ascii_lowercase()).collect()
    }
}

/// Latin-1 text of raw bytes.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110 section 5.6.2.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_tchar(*b))
}

/// Splits a request line into method, target and version.
pub fn request_line(line: &[u8]) -> Result<(String, String, String), Fault> {
    let parts: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let [method, target, version] = parts[..] else {
        return grammar(format!("request line has {} parts: {:?}", parts.len(), latin1(line)));
    };
    if !is_token(method) {
        return grammar("method is not a token");
    }
    if target.is_empty() || !target.iter().all(|b| (0x21..=0x7e).contains(b)) {
        return grammar(format!("target has forbidden bytes: {:?}", latin1(target)));
    }
    let connect = method == b"CONNECT";
    let form_is_known = connect
        || target[0] == b'/'
        || target == b"*"
        || target.starts_with(b"http://")
        || target.starts_with(b"https://");
    if !form_is_known || target.contains(&b'#') {
        return grammar(format!("target form: {:?}", latin1(target)));
    }
    if !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
        return grammar(format!("version {:?}", latin1(version)));
    }
    Ok((latin1(method), latin1(target), latin1(version)))
}

/// Splits a status line into version, status and reason.
pub fn status_line(line: &[u8]) -> Result<(String, u16, String), Fault> {
    let text = latin1(line);
    let valid =
        line.len() >= 13 && line[8] == b' ' && line[12] == b' ' && line[9..12].iter().all(u8::is_ascii_digit);
    if !valid || !(text.starts_with("HTTP/1.1") || text.starts_with("HTTP/1.0")) {
        return grammar(format!("status line {text:?}"));
    }
    let status = text[9..12].parse().unwrap_or(0);
    if !(100..=599).contains(&status) {
        return grammar(format!("status {status}"));
    }
    if line[13..].iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return grammar("control byte in the reason phrase");
    }
    Ok((text[..8].to_owned(), status, text[13..].to_owned()))
}

/// Reads field lines up to and including the empty line.
pub fn fields(wire: &mut Wire, what: &str) -> Result<Fields, Fault> {
    let mut out = Fields::default();
    loop {
        let line = wire.line(what)?;
        if line.is_empty() {
            return Ok(out);
        }
        out.0.push(field(&line)?);
    }
}

fn field(line: &[u8]) -> Result<(String, String), Fault> {
    let Some(colon) = line.iter().position(|b| *b == b':') else {
        return grammar(format!("field line without colon: {:?}", latin1(line)));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return grammar(format!("field name {:?}", latin1(name)));
    }
    if value.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f) {
        return grammar(format!("control byte in the value of {}", latin1(name)));
    }
    let value = latin1(value);
    Ok((latin1(name), value.trim_matches([' ', '\t']).to_owned()))
}

/// What the framing fields declare; both kinds at once, repetition and oddities are faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Neither field is present.
    Nothing,
    /// `content-length` with this many octets.
    Length(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
}

/// Judges `content-length` and `transfer-encoding` (RFC 9112 section 6.3).
pub fn declared(fields: &Fields, version: &str) -> Result<Declared, Fault> {
    let lengths = fields.all("content-length");
    let codings = fields.all("transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Declared::Nothing),
        ([length], []) => {
            let canonical = !length.is_empty()
                && length.bytes().all(|b| b.is_ascii_digit())
                && (length.len() == 1 || !length.starts_with('0'));
            match length.parse() {
                Ok(n) if canonical => Ok(Declared::Length(n)),
                _ => grammar(format!("content-length {length:?}")),
            }
        }
        ([], [coding]) if version == "HTTP/1.1" => {
            if coding.eq_ignore_ascii_case("chunked") {
                Ok(Declared::Chunked)
            } else {
                grammar(format!("transfer-encoding {coding:?}"))
            }
        }
        ([], [_]) => grammar("transfer-encoding in HTTP/1.0"),
        _ => grammar(format!("conflicting framing: lengths {lengths:?}, codings {codings:?}")),
    }
}

/// RFC 9112 section 3.2: exactly one, and an authority without user information.
pub fn host(fields: &Fields) -> Result<(), Fault> {
    let hosts = fields.all("host");
    let [host] = hosts[..] else {
        return grammar(format!("{} host fields", hosts.len()));
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(allowed) {
        return grammar(format!("host {host:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines() {
        assert!(request_line(b"GET / HTTP/1.1").is_ok());
        assert!(request_line(b"CONNECT a:1 HTTP/1.1").is_ok());
        for bad in [
            &b"GET  / HTTP/1.1"[..],
            b"GET / HTTP/1.2",
            b"GET / http/1.1",
            b"G@T / HTTP/1.1",
            b"GET /\xe9 HTTP/1.1",
            b"GET a HTTP/1.1",
            b"GET /#x HTTP/1.1",
            b"GET /",
        ] {
            assert!(request_line(bad).is_err(), "{}", latin1(bad));
        }
    }

    #[test]
    fn status_lines() {
        assert_eq!(status_line(b"HTTP/1.1 200 ").map(|l| l.1), Ok(200));
        assert_eq!(status_line(b"HTTP/1.1 404 Not Found").map(|l| l.2), Ok("Not Found".into()));
        for bad in [
            &b"HTTP/1.1 200"[..],
            b"HTTP/1.1 20 OK",
            b"HTTP/2 200 OK",
            b"HTTP/1.1 099 x",
            b"HTTP/1.1 200 a\x00",
        ] {
            assert!(status_line(bad).is_err(), "{}", latin1(bad));
        }
    }

    fn of(pairs: &[(&str, &str)]) -> Fields {
        Fields(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn framing_is_judged_without_mercy() {
        let judge = |pairs| declared(&of(pairs), "HTTP/1.1");
        assert_eq!(judge(&[]), Ok(Declared::Nothing));
        assert_eq!(judge(&[("Content-Length", "0")]), Ok(Declared::Length(0)));
        assert_eq!(judge(&[("transfer-encoding", "Chunked")]), Ok(Declared::Chunked));
        for bad in [
            &[("content-length", "05")][..],
            &[("content-length", "+5")],
            &[("content-length", "5, 5")],
            &[("content-length", "5"), ("content-length", "5")],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("content-length", "99999999999999999999999")],
        ] {
            assert!(judge(bad).is_err(), "{bad:?}");
        }
        assert!(declared(&of(&[("transfer-encoding", "chunked")]), "HTTP/1.0").is_err());
    }

    #[test]
    fn host_is_one_plain_authority() {
        assert!(host(&of(&[("host", "a.test:80")])).is_ok());
        for bad in [
            &[][..],
            &[("host", "")],
            &[("host", "a"), ("host", "a")],
            &[("host", "u@a")],
            &[("host", "a,b")],
            &[("host", "a/b")],
        ] {
            assert!(host(&of(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn field_lines() {
        assert_eq!(field(b"A:  b \t"), Ok(("A".into(), "b".into())));
        for bad in [&b"a : b"[..], b" a: b", b": b", b"a", b"a: \x01", b"a: b\x00"] {
            assert!(field(bad).is_err(), "{}", latin1(bad));
        }
    }
}
