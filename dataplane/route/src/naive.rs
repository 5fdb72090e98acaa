//! The oracle: the same decisions written as simply as possible, with allocations and without order tricks,
//! and a test that compares both over generated configurations and requests.

use std::sync::Arc;

use millrace_base::{Rng, Written};
use millrace_config::{
    Fraction, HeaderMatcher, HeaderMatcherKind, HeaderMutations, PathMatcher, QueryMatcher, QueryMatcherKind,
    RequireTls, Route, RouteConfiguration, RouteMatch, StringMatcher, VirtualHost,
};
use millrace_http::RequestHead;

use crate::Selection;
use crate::test::{bytes, head, redirect_route, text};

/// Names of the virtual host and the route, `tls` for the redirect.
fn select(config: &RouteConfiguration, head: &RequestHead, random: u64) -> Option<(String, String)> {
    let mut host = text(head.authority()).to_lowercase();
    if config.ignore_port_in_host
        && let Some(colon) = host.rfind(':')
        && !host[colon..].contains(']')
    {
        host.truncate(colon);
    }
    let rank = |domain: &str| -> Option<(u8, usize)> {
        let (len, longer) = (domain.len() - 1, host.len() >= domain.len());
        match domain {
            "*" => Some((0, 0)),
            d if d == host => Some((3, 0)),
            d if d.starts_with('*') && longer && host.ends_with(&d[1..]) => Some((2, len)),
            d if d.ends_with('*') && longer && host.starts_with(&d[..len]) => Some((1, len)),
            _ => None,
        }
    };
    let best = config
        .virtual_hosts
        .iter()
        .filter_map(|v| Some((v.domains.iter().filter_map(|d| rank(d)).max()?, v)));
    let (_, host) = best.max_by_key(|(rank, _)| *rank)?;
    let field = |name: &str| values(head, name).into_iter().next();
    let https = field("x-forwarded-proto").is_some_and(|p| p == "https");
    let internal = field("x-envoy-internal").is_some_and(|v| v == "true");
    match host.require_tls {
        RequireTls::None => {}
        _ if field("x-forwarded-proto").unwrap_or_default().is_empty() => return None,
        RequireTls::ExternalOnly if internal => {}
        _ if https => {}
        _ => return Some((host.name.to_string(), "tls".into())),
    }
    for route in &host.routes {
        if takes(&route.matcher, head, random) {
            return Some((host.name.to_string(), route.name.to_string()));
        }
    }
    None
}

fn values(head: &RequestHead, name: &str) -> Vec<String> {
    let pseudo = match name {
        ":method" => Some(head.method()),
        ":path" => Some(head.path()),
        ":authority" => Some(head.authority()),
        _ => None,
    };
    match pseudo {
        Some(value) => Some(text(value)).filter(|v| !v.is_empty()).into_iter().collect(),
        None => head.headers.iter().filter(|(n, _)| *n == name.as_bytes()).map(|(_, v)| text(v)).collect(),
    }
}

fn takes(matcher: &RouteMatch, head: &RequestHead, random: u64) -> bool {
    let full = text(head.path());
    let path = full.split(['?', '#']).next().unwrap_or_default().to_string();
    let fold = |s: &str| if matcher.case_sensitive { s.to_string() } else { s.to_lowercase() };
    let path_fits = match &matcher.path {
        PathMatcher::Connect => head.method() == b"CONNECT",
        _ if full.is_empty() => false,
        PathMatcher::Prefix(p) => fold(&path).starts_with(&fold(&text(p))),
        PathMatcher::Exact(p) => fold(&path) == fold(&text(p)),
        PathMatcher::SeparatedPrefix(p) => {
            let (path, p) = (fold(&path), fold(&text(p)));
            path == p || path.starts_with(&(p + "/"))
        }
        PathMatcher::Regex(regex) => regex.is_match(path.as_bytes()),
    };
    let grpc = values(head, "content-type")
        .first()
        .is_some_and(|v| v == "application/grpc" || v.starts_with("application/grpc+"));
    path_fits
        && matcher.fraction.is_none_or(|f| random % u64::from(f.denominator) < u64::from(f.numerator))
        && (!matcher.grpc || grpc)
        && matcher.headers.iter().all(|m| header(m, head))
        && matcher.query.iter().all(|m| query(m, &full))
}

fn header(matcher: &HeaderMatcher, head: &RequestHead) -> bool {
    let mut values = values(head, &text(&matcher.name));
    if values.is_empty() && matcher.missing_as_empty {
        values.push(String::new());
    }
    let result = match &matcher.kind {
        HeaderMatcherKind::Present(present) => values.is_empty() != *present,
        _ if values.is_empty() => return false,
        HeaderMatcherKind::Range { start, end } => {
            values.iter().filter_map(|v| v.trim().parse::<i64>().ok()).any(|n| n >= *start && n < *end)
        }
        HeaderMatcherKind::String(m) => values.iter().any(|v| m.matches(v.as_bytes())),
    };
    result != matcher.invert
}

fn query(matcher: &QueryMatcher, path: &str) -> bool {
    let query =
        path.split_once('?').map(|(_, q)| q.split('#').next().unwrap_or_default()).unwrap_or_default();
    let pairs = query.split('&').map(|p| p.split_once('=').unwrap_or((p, "")));
    let value =
        pairs.into_iter().find(|(k, _)| path.contains('?') && *k == text(&matcher.name)).map(|(_, v)| v);
    match &matcher.kind {
        QueryMatcherKind::Present(present) => value.is_some() == *present,
        QueryMatcherKind::String(m) => value.is_some_and(|v| m.matches(v.as_bytes())),
    }
}

fn one<'a, T: ?Sized>(rng: &mut Rng, of: &[&'a T]) -> &'a T {
    of[rng.below(of.len() as u64) as usize]
}

fn random_string(rng: &mut Rng) -> StringMatcher {
    let value = bytes(one(rng, &["", "a", "ab", "1"]));
    let ignore_case = rng.chance(1, 2);
    match rng.below(5) {
        0 => StringMatcher::Exact { value, ignore_case },
        1 => StringMatcher::Prefix { value, ignore_case },
        2 => StringMatcher::Suffix { value, ignore_case },
        3 => StringMatcher::Contains { value, ignore_case },
        _ => StringMatcher::Regex(regex::bytes::Regex::new("^(?:a.*)$").unwrap()),
    }
}

fn random_match(rng: &mut Rng) -> RouteMatch {
    let case_sensitive = rng.chance(2, 3);
    let paths = ["/", "/a", "/a/b", "/A", "/a/", "/ab?x"];
    let mut path = one(rng, &paths).to_string();
    if !case_sensitive {
        path.make_ascii_lowercase();
    }
    let path = bytes(&path);
    let headers = (0..rng.below(4) / 2)
        .map(|_| HeaderMatcher {
            name: bytes(one(rng, &["x-a", ":method", ":path", ":authority", "content-type"])),
            kind: match rng.below(3) {
                0 => HeaderMatcherKind::Present(rng.chance(1, 2)),
                1 => HeaderMatcherKind::Range { start: 0, end: 2 },
                _ => HeaderMatcherKind::String(random_string(rng)),
            },
            invert: rng.chance(1, 3),
            missing_as_empty: rng.chance(1, 3),
        })
        .collect();
    let query = (0..rng.below(4) / 3)
        .map(|_| QueryMatcher {
            name: bytes(one(rng, &["x", "y", ""])),
            kind: match rng.chance(1, 2) {
                true => QueryMatcherKind::Present(rng.chance(1, 2)),
                false => QueryMatcherKind::String(random_string(rng)),
            },
        })
        .collect();
    RouteMatch {
        path: match rng.below(9) {
            0 => PathMatcher::Connect,
            1 => PathMatcher::Regex(regex::bytes::Regex::new("^(?:/a.?)$").unwrap()),
            2 | 3 => PathMatcher::Exact(path),
            4 | 5 => PathMatcher::SeparatedPrefix(path),
            _ => PathMatcher::Prefix(path),
        },
        case_sensitive,
        fraction: rng.chance(1, 5).then_some(Fraction { numerator: 30, denominator: 100 }),
        headers,
        query,
        grpc: rng.chance(1, 10),
        written: Vec::new(),
    }
}

fn random_config(rng: &mut Rng) -> Option<RouteConfiguration> {
    let domains = ["*", "a.com", "b.a.com", "*.com", "*.a.com", "a.*", "b.a.*", "a.com:80"];
    let hosts = (0..1 + rng.below(3)).map(|h| {
        let routes = (0..rng.below(5)).map(|r| {
            let matcher = random_match(rng);
            Arc::new(Route { name: format!("r{r}").into(), matcher, ..redirect_route() })
        });
        let routes = routes.collect();
        Arc::new(VirtualHost {
            name: format!("v{h}").into(),
            domains: (0..1 + rng.below(2)).map(|_| Arc::from(one(rng, &domains))).collect(),
            routes,
            require_tls: [RequireTls::None, RequireTls::None, RequireTls::All, RequireTls::ExternalOnly]
                [rng.below(4) as usize],
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
            include_is_timeout_retry: false,
            retry_policy: None,
            per_filter: Vec::new(),
            for_filters: millrace_config::RouteFilterFields::default(),
            metadata: None,
            virtual_clusters: Vec::new(),
        })
    });
    let virtual_hosts = hosts.collect();
    let ignore_port_in_host = rng.chance(1, 2);
    let mut config = RouteConfiguration::default();
    config.virtual_hosts = virtual_hosts;
    config.ignore_port_in_host = ignore_port_in_host;
    config.compile().ok()
}

fn random_head(rng: &mut Rng) -> RequestHead {
    let path =
        one(rng, &["/", "/a", "/a/b", "/A/B", "/ab?x", "/a?x=a&x=1", "/a/?y", "/AB", "/a?x=1#y", "/a?"]);
    let authority =
        one(rng, &["a.com", "A.com:80", "b.A.com", "x.com", "a.org", "", "[::1]:80", ".com", "a."]);
    let method = one(rng, &["GET", "CONNECT", "ab"]);
    let path = if method == "CONNECT" && rng.chance(1, 2) { "" } else { path };
    let mut head = head(method, authority, path);
    for _ in 0..rng.below(3) {
        head.headers.append(b"x-a", one(rng, &["", "a", "AB", "1", " 2", "1,1"]).as_bytes());
    }
    if rng.chance(3, 4) {
        head.headers.append(b"x-forwarded-proto", one(rng, &["http", "https"]).as_bytes());
    }
    if rng.chance(1, 4) {
        head.headers.append(b"x-envoy-internal", b"true");
    }
    if rng.chance(1, 4) {
        let kinds = ["application/grpc", "application/grpc+proto", "application/grpc-web", "a"];
        head.headers.append(b"content-type", one(rng, &kinds).as_bytes());
    }
    head
}

#[test]
fn both_select_the_same_route() {
    let mut rng = Rng::new(11);
    let (mut configs, mut found, mut tls) = (0, 0, 0);
    for _ in 0..2000 {
        let Some(config) = random_config(&mut rng) else { continue };
        configs += 1;
        for _ in 0..30 {
            let (head, random) = (random_head(&mut rng), rng.next_u64());
            let names = match crate::select(&config, &head, &Written::default(), random) {
                Selection::NotFound => None,
                Selection::TlsRedirect(host) => Some((host.name.to_string(), "tls".to_string())),
                Selection::Route(s) => Some((s.virtual_host.name.to_string(), s.route.name.to_string())),
            };
            assert_eq!(names, select(&config, &head, random), "{head:?}\n{config:#?}");
            tls += usize::from(names.as_ref().is_some_and(|(_, route)| route == "tls"));
            found += usize::from(names.is_some());
        }
    }
    assert!(configs > 1000 && found > 3000 && tls > 1000, "{configs} {found} {tls}");
}
