//! Whether clear text is HTTP and of which version (`envoy.filters.listener.http_inspector`): the connection preface
//! of HTTP/2 or the request line of HTTP/1, as Envoy's parser (Balsa) reads it.

/// A request line must end within so many bytes: Envoy's `MAX_INSPECT_SIZE`.
pub const HTTP_INSPECT_BYTES_MAX: usize = 64 * 1024;

/// RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// First letters of the methods that Envoy's parser knows; it gives up at any other first octet.
const FIRST_OF_METHOD: &[u8] = b"ABCDGHLMNOPRSTU";

/// What the bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpSniff {
    /// HTTP/1.0, or HTTP/1 with any number but 1.1: application protocol `http/1.0`.
    Http10,
    /// HTTP/1.1: application protocol `http/1.1`.
    Http11,
    /// HTTP/2 with prior knowledge: application protocol `h2c`.
    Http2,
    /// No HTTP: `http_inspector.http_not_found`.
    NotHttp,
    /// Undecided.
    NeedMore,
    /// No end of the request line within the bound: Envoy counts `http_inspector.read_error` and closes.
    TooLarge,
}

impl HttpSniff {
    /// The application protocol that filter chains match (`filter_chain_match.application_protocols`).
    pub fn application_protocol(self) -> Option<&'static [u8]> {
        match self {
            Self::Http10 => Some(b"http/1.0"),
            Self::Http11 => Some(b"http/1.1"),
            Self::Http2 => Some(b"h2c"),
            Self::NotHttp | Self::NeedMore | Self::TooLarge => None,
        }
    }
}

/// Looks at the start of `bytes`, which is all that has come so far.
pub fn http_version(bytes: &[u8]) -> HttpSniff {
    let Some(first) = bytes.first() else { return HttpSniff::NeedMore };
    let compared = bytes.len().min(PREFACE.len());
    if bytes[..compared] == PREFACE[..compared] {
        return if compared == PREFACE.len() { HttpSniff::Http2 } else { HttpSniff::NeedMore };
    }
    if !FIRST_OF_METHOD.contains(first) {
        return HttpSniff::NotHttp;
    }
    let inspected = &bytes[..bytes.len().min(HTTP_INSPECT_BYTES_MAX)];
    match memchr::memchr(b'\n', inspected) {
        Some(end) => request_line(&inspected[..end]),
        // Nothing that follows mends a method that is no token.
        None if !method(inspected).iter().all(|octet| is_token(*octet)) => HttpSniff::NotHttp,
        None if inspected.len() == HTTP_INSPECT_BYTES_MAX => HttpSniff::TooLarge,
        None => HttpSniff::NeedMore,
    }
}

/// Up to the first space, or all there is.
fn method(line: &[u8]) -> &[u8] {
    &line[..memchr::memchr(b' ', line).unwrap_or(line.len())]
}

/// RFC 9110 5.6.2 `tchar`.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

fn request_line(line: &[u8]) -> HttpSniff {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|octet| *octet == b' ').filter(|part| !part.is_empty());
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let sound = parts.next().is_none() && method.is_some_and(|m| m.iter().all(|octet| is_token(*octet)));
    match version {
        _ if !sound || target.is_none() => HttpSniff::NotHttp,
        Some(b"HTTP/1.1") => HttpSniff::Http11,
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            HttpSniff::Http10
        }
        _ => HttpSniff::NotHttp,
    }
}

#[cfg(test)]
mod tests;
