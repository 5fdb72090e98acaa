//! The choice of a virtual host and a route.

use std::sync::Arc;

use millrace_base::Written;
use millrace_config::{
    Fraction, RequireTls, Route, RouteConfiguration, RouteMatch, ScopeId, VirtualCluster, VirtualHost,
};
use millrace_http::{HeaderId, Method, RequestHead};

use crate::{header, path, query};

/// A route together with the virtual host that holds it.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'c> {
    /// The virtual host.
    pub virtual_host: &'c Arc<VirtualHost>,
    /// The route.
    pub route: &'c Arc<Route>,
}

/// What a request is entitled to.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'c> {
    /// No virtual host, or none of its routes: 404 with details `route_not_found`.
    NotFound,
    /// The virtual host wants TLS (`require_tls`): 301 to [`crate::redirect::tls_location`].
    TlsRedirect(&'c Arc<VirtualHost>),
    /// A route.
    Route(Selected<'c>),
}

impl<'c> Selection<'c> {
    /// The route, if there is one.
    pub fn route(self) -> Option<Selected<'c>> {
        match self {
            Self::Route(selected) => Some(selected),
            Self::NotFound | Self::TlsRedirect(_) => None,
        }
    }
}

/// The scope of the first virtual cluster that a request belongs to; `None` where there are none. The head is the one that
/// [`select`] got.
pub fn virtual_cluster(virtual_host: &VirtualHost, head: &RequestHead) -> Option<ScopeId> {
    let all = |found: &&VirtualCluster| found.headers.iter().all(|one| header::matches_request(one, head));
    virtual_host.virtual_clusters.iter().find(all).map(|found| found.scope)
}

/// Longest authority that is looked up; longer ones (no DNS name is) only meet `*`.
const AUTHORITY_MAX: usize = 512;

/// Chooses by `:authority`, then by the first route that matches. `random` decides runtime fractions and is
/// the same for all routes of one request, as in Envoy. The head is the one after path normalisation, with
/// `x-forwarded-proto` and `x-envoy-internal` as the connection manager left them; `written` is what filters have left so
/// far, nothing for most requests.
pub fn select<'c>(
    config: &'c RouteConfiguration,
    head: &RequestHead,
    written: &Written<'_>,
    random: u64,
) -> Selection<'c> {
    let Some(virtual_host) = virtual_host(config, head.authority()) else { return Selection::NotFound };
    if virtual_host.require_tls != RequireTls::None {
        let Some(proto) = head.headers.get(HeaderId::XForwardedProto).filter(|p| !p.is_empty()) else {
            return Selection::NotFound;
        };
        let exempt = virtual_host.require_tls == RequireTls::ExternalOnly && is_internal(head);
        if proto != b"https" && !exempt {
            return Selection::TlsRedirect(virtual_host);
        }
    }
    let connect = head.method_kind() == Method::Connect;
    match virtual_host.routes.iter().find(|route| matches(&route.matcher, head, written, (connect, random))) {
        Some(route) => Selection::Route(Selected { virtual_host, route }),
        None => Selection::NotFound,
    }
}

/// The virtual host of an authority in any case of letters.
pub fn virtual_host<'c>(config: &'c RouteConfiguration, authority: &[u8]) -> Option<&'c Arc<VirtualHost>> {
    let authority = match config.ignore_port_in_host {
        true => strip_port(authority),
        false => authority,
    };
    if is_lower_ascii(authority) {
        return config.virtual_host(authority);
    }
    let mut buffer = [0; AUTHORITY_MAX];
    let lower = match buffer.get_mut(..authority.len()) {
        Some(lower) => lower,
        None => return config.virtual_host(b""),
    };
    lower.copy_from_slice(authority);
    lower.make_ascii_lowercase();
    config.virtual_host(std::str::from_utf8(lower).map_or(b"", str::as_bytes))
}

/// No capital letter and no byte above 0x7f; without a branch a byte, so that the compiler takes many at a time.
fn is_lower_ascii(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let odd = |b: u8| b >= 0x80 || b.is_ascii_uppercase();
    let any = words.iter().fold(false, |any, word| word.iter().fold(any, |any, b| any | odd(*b)));
    !rest.iter().fold(any, |any, b| any | odd(*b))
}

/// The authority without the text after its last colon, as `ignore_port_in_host_matching` means it; a colon
/// inside brackets is no port's.
pub fn strip_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|b| matches!(b, b':' | b']')) {
        Some(at) if authority[at] == b':' => &authority[..at],
        _ => authority,
    }
}

fn is_internal(head: &RequestHead) -> bool {
    head.headers.get(HeaderId::XEnvoyInternal) == Some(b"true")
}

/// Whether one matcher takes the request; `connect` says that the method is CONNECT.
#[inline]
fn matches(
    matcher: &RouteMatch,
    head: &RequestHead,
    written: &Written<'_>,
    (connect, random): (bool, u64),
) -> bool {
    // The path first: it is the cheapest test and the one that fails most often.
    path::matches(matcher, head.path(), connect)
        && matcher.fraction.is_none_or(|fraction| in_fraction(fraction, random))
        && (!matcher.grpc || is_grpc(head))
        && matcher.headers.iter().all(|m| header::matches_request(m, head))
        && (matcher.query.is_empty() || query::matches_all(&matcher.query, head.path()))
        && matcher.written.iter().all(|m| m.matches(written))
}

fn in_fraction(fraction: Fraction, random: u64) -> bool {
    random % u64::from(fraction.denominator.max(1)) < u64::from(fraction.numerator)
}

/// `content-type: application/grpc`, alone or followed by `+`.
pub fn is_grpc(head: &RequestHead) -> bool {
    let rest = head.headers.get(HeaderId::ContentType).and_then(|v| v.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.first().is_none_or(|b| *b == b'+'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::head;

    #[test]
    fn ports_are_cut_at_the_last_colon() {
        for (authority, host) in [
            ("h", "h"),
            ("h:80", "h"),
            ("Port2:abc", "Port2"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("h:", "h"),
            ("", ""),
        ] {
            assert_eq!(strip_port(authority.as_bytes()), host.as_bytes());
        }
    }

    #[test]
    fn every_odd_byte_is_seen_at_every_place() {
        for b in 0..=255u8 {
            for (len, at) in (1..20).flat_map(|len| (0..len).map(move |at| (len, at))) {
                let mut text = vec![b'a'; len];
                text[at] = b;
                assert_eq!(is_lower_ascii(&text), b.is_ascii() && !b.is_ascii_uppercase(), "{b:#x} at {at}");
            }
        }
    }

    #[test]
    fn grpc_is_told_by_the_content_type() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/grpc; x", false),
            ("Application/grpc", false),
        ] {
            let mut head = head("POST", "h", "/");
            head.headers.append(b"content-type", value.as_bytes());
            assert_eq!(is_grpc(&head), grpc, "{value}");
        }
    }
}
