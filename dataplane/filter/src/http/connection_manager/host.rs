//! Normalisation of the authority, after the path's and before a route is chosen.

use millrace_config::PathNormalization;
use millrace_http::{Method, RequestHead};

/// Applies `strip_trailing_host_dot`, `strip_any_host_port` and `strip_matching_host_port`; `local_port` is the
/// port of our end of the connection. For CONNECT the port that was cut off is returned: give it to
/// [`restore_port`] once the route is chosen, for the upstream needs it. `scratch` is cleared if used.
pub fn normalize(
    paths: &PathNormalization,
    local_port: Option<u16>,
    head: &mut RequestHead,
    scratch: &mut Vec<u8>,
) -> Option<u16> {
    if paths.strip_trailing_host_dot {
        strip_dot(head, scratch);
    }
    if !paths.strip_any_host_port && !paths.strip_matching_host_port {
        return None;
    }
    let host = millrace_route::strip_port(head.authority());
    let digits = head.authority().get(host.len() + 1..)?;
    let port: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    if !paths.strip_any_host_port && local_port != Some(port) {
        return None;
    }
    scratch.clear();
    scratch.extend_from_slice(host);
    head.set_authority(scratch);
    (head.method_kind() == Method::Connect).then_some(port)
}

/// Appends the port that [`normalize`] cut off a CONNECT request.
pub fn restore_port(port: u16, head: &mut RequestHead, scratch: &mut Vec<u8>) {
    use std::io::Write as _;
    scratch.clear();
    scratch.extend_from_slice(head.authority());
    // Writing to a Vec cannot fail.
    let _ = write!(scratch, ":{port}");
    head.set_authority(scratch);
}

/// The last dot goes when it ends the host, port or not.
fn strip_dot(head: &mut RequestHead, scratch: &mut Vec<u8>) {
    let authority = head.authority();
    let Some(dot) = authority.iter().rposition(|b| *b == b'.') else { return };
    if authority.get(dot + 1).is_none_or(|next| *next == b':') {
        scratch.clear();
        scratch.extend_from_slice(&authority[..dot]);
        scratch.extend_from_slice(&authority[dot + 1..]);
        head.set_authority(scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::test::{head, text};

    #[test]
    fn as_envoy_1_40_forwarded_them() {
        let any = PathNormalization { strip_any_host_port: true, ..PathNormalization::default() };
        let matching = PathNormalization { strip_matching_host_port: true, ..PathNormalization::default() };
        let dot = PathNormalization { strip_trailing_host_dot: true, ..PathNormalization::default() };
        for (host, with_any, with_matching, with_dot) in [
            ("h:80", "h", "h:80", "h:80"),
            ("h:4711", "h", "h", "h:4711"),
            ("h", "h", "h", "h"),
            ("h.", "h.", "h.", "h"),
            ("h.:80", "h.", "h.:80", "h:80"),
            ("[::1]:80", "[::1]", "[::1]:80", "[::1]:80"),
            ("h:abc", "h:abc", "h:abc", "h:abc"),
            ("1.2.3.4", "1.2.3.4", "1.2.3.4", "1.2.3.4"),
            ("a.b.", "a.b.", "a.b.", "a.b"),
            ("::1", ":", "::1", "::1"),
        ] {
            for (paths, expected) in [(&any, with_any), (&matching, with_matching), (&dot, with_dot)] {
                let mut head = head("/", &[]);
                head.set_authority(host.as_bytes());
                assert_eq!(normalize(paths, Some(4711), &mut head, &mut Vec::new()), None);
                assert_eq!(text(head.authority()), expected, "{host} {paths:?}");
            }
        }
    }

    #[test]
    fn a_connect_request_gets_its_port_back() {
        let any = PathNormalization { strip_any_host_port: true, ..PathNormalization::default() };
        let mut head = head("", &[]);
        head.set_method(b"CONNECT");
        assert_eq!(normalize(&any, None, &mut head, &mut Vec::new()), Some(80));
        assert_eq!(head.authority(), b"h");
        restore_port(80, &mut head, &mut Vec::new());
        assert_eq!(head.authority(), b"h:80");
    }
}
