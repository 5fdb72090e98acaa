//! The filter `stateful_session`: cookies, header fields, envelopes, strict sessions, routes.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::Proxy;
use millrace_support::raw::Client;
use millrace_support::subject::Subject;
use millrace_support::upstream::{Reply, Upstream};

use super::{FORWARD, chain, rest, route};

pub(crate) const CASES: &[Case] = &[
    case!(cookies_keep_the_endpoint),
    case!(strict_sessions_take_no_other),
    case!(a_retry_leaves_the_session),
    case!(envelopes_wrap_what_the_endpoint_says),
    case!(routes_have_their_own),
];

const FILTER: &str = "stateful_session.v3.StatefulSession";
const PER_ROUTE: &str = "stateful_session.v3.StatefulSessionPerRoute";

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place > group.len() { '=' } else { letter });
        }
    }
    text
}

/// The value of a session cookie, in Envoy's form: address (1), expiry (2).
fn cookie(address: &str, expires: Option<u8>) -> String {
    let mut message = vec![0x0a, address.len() as u8];
    message.extend_from_slice(address.as_bytes());
    message.extend(expires.into_iter().flat_map(|seconds| [0x10, seconds]));
    base64(&message)
}

fn state(kind: &str) -> String {
    // Envoy looks for the implementation by name.
    let name = kind.split('.').next().unwrap_or(kind);
    format!(
        "session_state: {{name: envoy.http.stateful_session.{name}, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.http.stateful_session.{kind}}}}}"
    )
}

/// A proxy before two upstreams, which answer with their position, and one that is unhealthy.
struct Bed {
    proxy: Proxy,
    addresses: [String; 3],
    _upstreams: [Upstream; 2],
}

impl Bed {
    fn new(subject: &Subject, fields: &str, routes: &str) -> Self {
        let upstream = |position: &'static str| {
            Upstream::start(move |request| {
                let got = request.fields.get("s-id").unwrap_or("none").to_owned();
                let mut fields = vec![("x-got", got.as_str())];
                if request.target.starts_with("/open") {
                    fields.push(("s-id", "own"));
                }
                let status = if request.fields.get("x-fails") == Some(position) { 503 } else { 200 };
                Reply::with(status, &fields, position.as_bytes())
            })
        };
        let upstreams = [upstream("0"), upstream("1")];
        let [first, second] = [0, 1].map(|n: usize| upstreams[n].address());
        let one = |port: u16, more: &str| {
            format!(
                "{{{more}endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}"
            )
        };
        let third = one(1, "health_status: UNHEALTHY, ");
        let endpoints = [one(first.port(), ""), one(second.port(), ""), third].join(", ");
        let cluster =
            format!("load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}\n");
        let http = Http::routes(routes).hcm(&chain(&[("session", FILTER, fields)]));
        let proxy = Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[], &cluster));
        let addresses = [first.to_string(), second.to_string(), "127.0.0.1:1".to_owned()];
        Self { proxy, addresses, _upstreams: upstreams }
    }

    fn stats(&self) -> [Option<u64>; 4] {
        ["routed", "failed_open", "failed_closed", "no_session"]
            .map(|name| self.proxy.stat(&format!("http.main.stateful_session.own.{name}")))
    }
}

/// Asks with a cookie: the position of the answer, and the cookie that came.
fn with_cookie(client: &mut Client, path: &str, value: &str) -> (String, Option<String>) {
    let value = format!("other=1; sid={value}");
    let response = client.get_with(path, &[("cookie", &value)]);
    assert_eq!(response.status, 200, "{response:?}");
    (response.text(), response.get("set-cookie").map(str::to_owned))
}

fn cookies_keep_the_endpoint(subject: &Subject) {
    let kind = "cookie.v3.CookieBasedSessionState, cookie: {name: sid, path: /p, ttl: 120s, \
                attributes: [{name: SameSite, value: Lax}, {name: Secure}]}";
    let bed = Bed::new(subject, &format!("{}, stat_prefix: own", state(kind)), &rest(FORWARD));
    let mut client = bed.proxy.client();
    let first = client.get("/p");
    let set = first.get("set-cookie").expect("a new session").to_owned();
    let (value, rest) = set.strip_prefix("sid=\"").and_then(|set| set.split_once('"')).expect("a cookie");
    assert_eq!(rest, "; Max-Age=120; Path=/p; SameSite=Lax; Secure; HttpOnly");
    let own: usize = first.text().parse().expect("a position");
    assert!(value.starts_with(&cookie(&bed.addresses[own], None)[..20]), "{value}");
    for _ in 0..4 {
        assert_eq!(with_cookie(&mut client, "/p", value), (first.text(), None));
        assert_eq!(with_cookie(&mut client, "/p/x", &format!("\"{value}\"")), (first.text(), None));
        let other = cookie(&bed.addresses[1 - own], None);
        assert_eq!(with_cookie(&mut client, "/p?q", &other), ((1 - own).to_string(), None));
        let old = base64(bed.addresses[1].as_bytes());
        assert_eq!(with_cookie(&mut client, "/p", &old), ("1".to_owned(), None), "the address alone");
    }
    // Expired, unhealthy, unknown, nonsense: another endpoint, and a cookie of it.
    let bad =
        [cookie(&bed.addresses[1], Some(1)), cookie(&bed.addresses[2], None), cookie("9.9.9.9:1", None)];
    for value in bad.iter().map(String::as_str).chain(["!!"]) {
        assert!(with_cookie(&mut client, "/p", value).1.is_some(), "{value}");
    }
    // A path that is not the cookie's.
    let (_, set) = with_cookie(&mut client, "/pp", value);
    assert_eq!(set, None);
    assert_eq!(bed.stats(), [Some(16), Some(5), Some(0), Some(1)]);
}

fn strict_sessions_take_no_other(subject: &Subject) {
    let kind = "header.v3.HeaderBasedSessionState, name: S-Id";
    let fields = format!(
        "{}, strict: true, status_on_strict_destination_not_found: 404, stat_prefix: own",
        state(kind)
    );
    let bed = Bed::new(subject, &fields, &rest(FORWARD));
    let mut client = bed.proxy.client();
    let fresh = client.get("/");
    let own: usize = fresh.text().parse().expect("a position");
    assert_eq!(fresh.get("s-id"), Some(base64(bed.addresses[own].as_bytes()).as_str()));
    let mut ask = |address: &str| client.get_with("/", &[("s-id", &base64(address.as_bytes()))]);
    for _ in 0..3 {
        let response = ask(&bed.addresses[1]);
        assert_eq!((response.status, response.text().as_str(), response.get("s-id")), (200, "1", None));
    }
    let unhealthy = ask(&bed.addresses[2]);
    assert_eq!((unhealthy.status, unhealthy.text().as_str()), (503, "no healthy upstream"));
    let unknown = ask("9.9.9.9:1");
    assert_eq!((unknown.status, unknown.text().as_str()), (404, "no healthy upstream"));
    assert_eq!(bed.stats(), [Some(3), Some(0), Some(2), Some(0)]);
    assert_eq!(bed.proxy.stat("cluster.up.upstream_cx_none_healthy"), Some(2));
}

/// A strict session, too: only the first try is the session's.
fn a_retry_leaves_the_session(subject: &Subject) {
    let previous = "retry_host_predicate: [{name: p, typed_config: {\"@type\": \
                    type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], \
                    host_selection_retry_max_attempts: 9";
    let policy = format!(
        "route: {{cluster: up, retry_policy: {{retry_on: 5xx, num_retries: 3, {previous}, \
         retry_back_off: {{base_interval: 0.001s, max_interval: 0.002s}}}}}}"
    );
    for strict in ["", ", strict: true"] {
        let kind = "header.v3.HeaderBasedSessionState, name: S-Id";
        let bed = Bed::new(subject, &format!("{}{strict}", state(kind)), &rest(&policy));
        let mut client = bed.proxy.client();
        let kept = base64(bed.addresses[1].as_bytes());
        for number in 0..4 {
            let case = number.to_string();
            let fields = [("s-id", &kept[..]), ("x-fails", "1"), ("x-case", &case)];
            let response = client.get_with("/", &fields);
            assert_eq!((response.status, response.text().as_str()), (200, "0"), "{strict}");
            // The session moves along.
            assert_eq!(response.get("s-id"), Some(base64(bed.addresses[0].as_bytes()).as_str()));
            assert_eq!(bed.proxy.log().case(&case).get("attempts"), "2");
        }
    }
}

fn envelopes_wrap_what_the_endpoint_says(subject: &Subject) {
    let kind = "envelope.v3.EnvelopeSessionState, header: {name: s-id}";
    let bed = Bed::new(subject, &format!("{}, stat_prefix: own", state(kind)), &rest(FORWARD));
    let mut client = bed.proxy.client();
    assert_eq!(client.get("/").get("s-id"), None, "no session is opened");
    let sealed = |n: usize| format!("{};UV:{}", base64(bed.addresses[n].as_bytes()), base64(b"own"));
    let opened = client.get("/open");
    let own: usize = opened.text().parse().expect("a position");
    assert_eq!(opened.get("s-id"), Some(sealed(own).as_str()));
    for n in [1, 0, 1] {
        let response = client.get_with("/open", &[("s-id", &sealed(n))]);
        assert_eq!((response.text(), response.get("x-got")), (n.to_string(), Some("own")));
        assert_eq!(response.get("s-id"), Some(sealed(n).as_str()));
    }
    let bare = base64(bed.addresses[1].as_bytes());
    let response = client.get_with("/open", &[("s-id", &bare)]);
    assert_eq!(response.get("x-got"), Some(bare.as_str()), "not what an envelope is");
    assert_eq!(bed.stats(), [Some(4), Some(2), Some(0), Some(0)]);
}

fn routes_have_their_own(subject: &Subject) {
    let header = |name: &str| state(&format!("header.v3.HeaderBasedSessionState, name: {name}"));
    let routes = [
        route("/own", FORWARD, "session", PER_ROUTE, &format!("stateful_session: {{{}}}", header("s-other"))),
        route("/off", FORWARD, "session", PER_ROUTE, "disabled: true"),
        rest(FORWARD),
    ]
    .concat();
    let bed = Bed::new(subject, &format!("{}, stat_prefix: own", header("s-id")), &routes);
    let mut client = bed.proxy.client();
    let value = base64(bed.addresses[1].as_bytes());
    let mut asked = |path: &str, name: &str| -> Vec<String> {
        (0..4).map(|_| client.get_with(path, &[(name, &value)]).text()).collect()
    };
    assert_eq!(asked("/", "s-id"), ["1"; 4]);
    assert_eq!(asked("/own", "s-other"), ["1"; 4]);
    for (path, name) in [("/own", "s-id"), ("/off", "s-id")] {
        let mut answers = asked(path, name);
        answers.sort();
        assert_eq!(answers, ["0", "0", "1", "1"], "{path}");
    }
    assert_eq!(bed.stats(), [Some(4), Some(0), Some(0), Some(0)], "those of routes do not count");
}
