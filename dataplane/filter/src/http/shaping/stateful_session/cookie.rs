//! The cookie of a session: base64 of a small protobuf message with the address (1) and when it expires (2, seconds since
//! 1970), so that Envoy reads ours and we read Envoy's.

use std::fmt::Write;

use millrace_base::WallTime;
use millrace_config::SessionCookie;
use millrace_http::RequestHead;
use millrace_route::cookie_value;

use super::{decode, encode};

/// True when a request's path belongs to a cookie's.
pub(super) fn is_below(path: &str, target: &[u8]) -> bool {
    match (path, target.strip_prefix(path.as_bytes())) {
        ("" | "/", _) => true,
        (_, None) => false,
        (_, Some(rest)) => path.ends_with('/') || matches!(rest, [] | [b'/' | b'?' | b'#', ..]),
    }
}

/// The address that the client's cookie holds, unless it has expired. Old cookies are the address alone.
pub(super) fn read(cookie: &SessionCookie, wall: WallTime, head: &RequestHead) -> Option<Vec<u8>> {
    let text = decode(cookie_value(head, &cookie.name)?)?;
    let Some((address, expires)) = parse(&text) else { return Some(text) };
    let expired = expires != 0 && seconds(wall) > expires;
    (!address.is_empty() && !expired).then(|| address.to_vec())
}

/// `set-cookie` for an endpoint.
pub(super) fn write(cookie: &SessionCookie, upstream: &str, wall: WallTime) -> Vec<u8> {
    let mut message = vec![0x0a];
    put_varint(&mut message, upstream.len() as u64);
    message.extend_from_slice(upstream.as_bytes());
    let ttl = cookie.ttl.as_secs();
    if ttl > 0 {
        message.push(0x10);
        put_varint(&mut message, seconds(wall) + ttl);
    }
    let mut text = String::new();
    if ttl > 0 {
        let _ = write!(text, "; Max-Age={ttl}");
    }
    if !cookie.path.is_empty() {
        let _ = write!(text, "; Path={}", cookie.path);
    }
    for (name, value) in &cookie.attributes {
        let _ = if value.is_empty() { write!(text, "; {name}") } else { write!(text, "; {name}={value}") };
    }
    [&cookie.name, &b"=\""[..], &encode(&message), b"\"", text.as_bytes(), b"; HttpOnly"].concat()
}

fn seconds(wall: WallTime) -> u64 {
    wall.0 / 1_000_000_000
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, later) = rest.split_first()?;
        *rest = later;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Address and expiry; `None` for what is no message.
fn parse(mut rest: &[u8]) -> Option<(&[u8], u64)> {
    let (mut address, mut expires) = (&b""[..], 0);
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let length = match tag & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if tag >> 3 == 2 {
                    expires = value;
                }
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, later) = rest.split_at_checked(length)?;
        rest = later;
        match tag {
            0..=7 => return None,
            0x0a => address = value,
            _ => {}
        }
    }
    Some((address, expires))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::test::head;

    const NOW: WallTime = WallTime(1_700_000_000 * 1_000_000_000);

    fn cookie(ttl: u64) -> SessionCookie {
        SessionCookie {
            name: b"sid"[..].into(),
            ttl: Duration::from_secs(ttl),
            path: "/p".into(),
            attributes: vec![("SameSite".into(), "Lax".into()), ("Secure".into(), "".into())],
        }
    }

    fn sent(value: &[u8], wall: WallTime) -> Option<String> {
        let mut request = head("/p", &[]);
        request.headers.append(b"cookie", &[b"a=b; sid=", value].concat());
        read(&cookie(9), wall, &request).map(|address| String::from_utf8_lossy(&address).into_owned())
    }

    #[test]
    fn cookies_are_those_of_envoy() {
        // As Envoy 1.40 made it, without a time to live.
        let made = String::from_utf8(write(&cookie(0), "127.0.0.1:24000", NOW)).unwrap();
        assert_eq!(made, "sid=\"Cg8xMjcuMC4wLjE6MjQwMDA=\"; Path=/p; SameSite=Lax; Secure; HttpOnly");
        let made = String::from_utf8(write(&cookie(120), "127.0.0.1:24000", NOW)).unwrap();
        assert!(made.ends_with("\"; Max-Age=120; Path=/p; SameSite=Lax; Secure; HttpOnly"), "{made}");
        let value = made.split('"').nth(1).unwrap().as_bytes();
        assert_eq!(sent(value, NOW).as_deref(), Some("127.0.0.1:24000"));
        assert_eq!(sent(&[b"\"", value, b"\""].concat(), NOW).as_deref(), Some("127.0.0.1:24000"));
        assert_eq!(sent(value, WallTime(NOW.0 + 121 * 1_000_000_000)), None, "expired");
        assert_eq!(sent(b"MTI3LjAuMC4xOjI0MDAx", NOW).as_deref(), Some("127.0.0.1:24001"), "an old one");
        assert_eq!(sent(b"!!", NOW), None);
        assert_eq!(sent(b"", NOW), None);
    }

    #[test]
    fn requests_below_the_path_take_part() {
        for (path, target, below) in [
            ("", "/x", true),
            ("/", "/x", true),
            ("/p", "/p", true),
            ("/p", "/p?q", true),
            ("/p", "/p/x", true),
            ("/p", "/pp", false),
            ("/p/", "/p", false),
            ("/p/", "/p/x", true),
        ] {
            assert_eq!(is_below(path, target.as_bytes()), below, "{path} {target}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut rng = millrace_base::Rng::new(4);
        for _ in 0..5000 {
            let bytes: Vec<u8> = (0..rng.below(20)).map(|_| rng.next_u64() as u8).collect();
            let _ = parse(&bytes);
            let _ = sent(&encode(&bytes), NOW);
        }
    }
}
