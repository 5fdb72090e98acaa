//! Whether clear text is HTTP and of which version (`envoy.filters.listener.http_inspector`): the connection preface
//! of HTTP/2 or the request line of HTTP/1, as Envoy's parser (Balsa) reads it.

/// A request line must end within so many bytes: Envoy's `MAX_INSPECT_SIZE`.
pub const HTTP_INSPECT_BYTES_MAX: usize = 64 * 1024;

/// RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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
    let compared = bytes.len().min(PREFACE.len());
    if bytes[..compared] == PREFACE[..compared] {
        return if compared == PREFACE.len() { HttpSniff::Http2 } else { HttpSniff::NeedMore };
    }
    let inspected = &bytes[..bytes.len().min(HTTP_INSPECT_BYTES_MAX)];
    match memchr::memchr(b'\n', inspected) {
        Some(end) => request_line(&inspected[..end]),
        // Nothing that follows mends a method that is no token, or a NUL.
        None if !is_method(word(inspected).0) || inspected.contains(&0) => HttpSniff::NotHttp,
        None if inspected.len() == HTTP_INSPECT_BYTES_MAX => HttpSniff::TooLarge,
        None => HttpSniff::NeedMore,
    }
}

/// A method, a target and a version that may be missing (HTTP/0.9), with any controls or spaces between and behind.
fn request_line(line: &[u8]) -> HttpSniff {
    let (method, rest) = word(line);
    let (target, rest) = word(rest);
    let (version, rest) = word(rest);
    let sound = is_method(method) && is_target(target, method == b"CONNECT") && rest.is_empty();
    match version {
        _ if !sound || line.contains(&0) => HttpSniff::NotHttp,
        b"HTTP/1.1" => HttpSniff::Http11,
        b"" => HttpSniff::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            HttpSniff::Http10
        }
        _ => HttpSniff::NotHttp,
    }
}

/// The first word, and what follows the separators behind it.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|octet| *octet <= b' ').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let next = rest.iter().position(|octet| *octet > b' ').unwrap_or(rest.len());
    (word, &rest[next..])
}

/// RFC 9110 5.6.2 `token`; of none the first octet is a separator.
fn is_method(word: &[u8]) -> bool {
    let tchar = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet);
    !word.is_empty() && word.iter().all(tchar)
}

/// A path, `*`, an absolute URL, or the authority of CONNECT, checked as coarsely as Envoy's parser does.
fn is_target(target: &[u8], connect: bool) -> bool {
    if matches!(target.first(), Some(b'/' | b'*')) {
        return target.iter().all(u8::is_ascii_graphic);
    }
    let rest = match connect {
        true => target,
        false => {
            let scheme = target.iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
            match target[scheme..].strip_prefix(b"://") {
                Some(rest) if scheme > 0 => rest,
                _ => return false,
            }
        }
    };
    let of_host = |octet: &u8| octet.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(octet);
    let host = rest.iter().position(|octet| b"/?".contains(octet)).unwrap_or(rest.len());
    let (host, path) = rest.split_at(host);
    !target.is_empty()
        && host.iter().all(of_host)
        && !host.windows(2).any(|pair| pair == b"@@")
        && path.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests;
