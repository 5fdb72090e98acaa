//! `session_ticket_keys`: sessions that outlive the process which began them, and keys that rotate.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::process::{Directory, Proxy};
use millrace_support::subject::Subject;
use millrace_support::tls::{AlertDescription, Authority, Client, Context, Ending, Leaf, Version};
use millrace_support::upstream::Upstream;
use millrace_support::wait;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{ControlPlane, Options, Type, from_yaml};

use crate::common::{
    STAT_PREFIX, hello, mutual_client, mutual_tls, plain_tls, proxy_identity, root, terminate, wait_shown,
};

pub(crate) const CASES: &[Case] = &[
    case!(sessions_outlive_a_restart),
    case!(other_keys_do_not_resume),
    case!(the_first_key_issues_and_all_accept),
    case!(keys_in_a_file),
    case!(keys_from_a_control_plane_rotate),
    case!(bad_keys_leave_the_good_ones),
    case!(missing_keys_close_handshakes),
    case!(equal_keys_do_not_carry_trust_over),
];

/// 80 bytes that are this letter: a key in tests.
fn key(letter: char) -> String {
    format!("{{inline_string: \"{}\"}}", String::from(letter).repeat(80))
}

/// `TlsSessionTicketKeys` with these keys.
fn keys(letters: &str) -> String {
    let all: Vec<String> = letters.chars().map(key).collect();
    format!("{{keys: [{}]}}", all.join(", "))
}

fn with_keys(letters: &str) -> Context {
    plain_tls().field(&format!("session_ticket_keys: {}", keys(letters)))
}

/// A proxy with these keys, the first of which issues.
#[track_caller]
fn start(subject: &Subject, letters: &str, upstream: &Upstream) -> Proxy {
    terminate(subject, &with_keys(letters), upstream.address())
}

/// Connects, makes a request, so that the server's tickets have come, and tells whether the session was resumed.
#[track_caller]
fn resumes(client: &Client, proxy: &Proxy) -> bool {
    let link = client.connect(proxy.listener("main"));
    assert_eq!(link.raw().get("/").status, 200);
    link.facts.resumed
}

fn clients() -> impl Iterator<Item = Client> {
    Version::BOTH.iter().map(|version| Client::new().versions(&[*version]))
}

fn sessions_outlive_a_restart(subject: &Subject) {
    let upstream = hello();
    for client in clients() {
        let first = start(subject, "a", &upstream);
        assert!(!resumes(&client, &first));
        assert!(resumes(&client, &first));
        drop(first);
        let second = start(subject, "a", &upstream);
        assert!(resumes(&client, &second));
        assert!(resumes(&client, &second));
    }
}

fn other_keys_do_not_resume(subject: &Subject) {
    let upstream = hello();
    let (first, second) = (start(subject, "a", &upstream), start(subject, "b", &upstream));
    let own = terminate(subject, &plain_tls(), upstream.address());
    for client in clients() {
        assert!(!resumes(&client, &first));
        assert!(!resumes(&client, &second));
        assert!(!resumes(&client, &own), "keys of its own");
        assert!(resumes(&client, &own));
        assert!(!resumes(&client, &first));
    }
}

/// A rotation over a fleet: the new key is known everywhere before the old one goes.
fn the_first_key_issues_and_all_accept(subject: &Subject) {
    let upstream = hello();
    let old = start(subject, "a", &upstream);
    let knows = start(subject, "ab", &upstream);
    let issues = start(subject, "ba", &upstream);
    let new = start(subject, "b", &upstream);
    for client in clients() {
        assert!(!resumes(&client, &old));
        assert!(resumes(&client, &knows));
        assert!(resumes(&client, &old), "the first of both keys issued");
        assert!(resumes(&client, &issues), "the second key accepts");
        assert!(resumes(&client, &new), "a ticket under the old key was answered with a new one");
        assert!(resumes(&client, &knows));
        assert!(resumes(&client, &old), "and again with the first key there");
        assert!(!resumes(&client, &new));
    }
}

fn keys_in_a_file(subject: &Subject) {
    let (upstream, directory) = (hello(), Directory::new());
    let path = directory.write("key", &"f".repeat(80));
    let text = format!("session_ticket_keys: {{keys: [{{filename: \"{}\"}}]}}", path.display());
    let file = terminate(subject, &plain_tls().field(&text), upstream.address());
    let inline = start(subject, "f", &upstream);
    for client in clients() {
        assert!(!resumes(&client, &file));
        assert!(resumes(&client, &inline));
    }
}

/// A control plane that has the keys `tickets`.
struct Plane {
    plane: ControlPlane,
    upstream: Upstream,
}

impl Plane {
    fn start() -> Self {
        Self { plane: ControlPlane::start(Options::default()), upstream: hello() }
    }

    fn show(&self, letters: &str) {
        let text = format!("{{name: tickets, session_ticket_keys: {}}}", keys(letters));
        self.plane.set(from_yaml(Type::Secret, &text));
    }

    #[track_caller]
    fn rotate(&self, letters: &str) {
        let mark = self.plane.mark();
        self.show(letters);
        self.plane.wait_ack(mark, Type::Secret);
    }

    #[track_caller]
    fn proxy(&self, subject: &Subject, fields: &str) -> Proxy {
        let source = Flavor::Sotw.config_source_with(fields);
        let config = format!("{{name: tickets, sds_config: {source}}}");
        let context = plain_tls().field(&format!("session_ticket_keys_sds_secret_config: {config}"));
        let http = Http::to("up").listener(STAT_PREFIX).chain(&context.downstream());
        let bootstrap = Bootstrap::new().top(yaml::NODE).http(http);
        let bootstrap = bootstrap.cluster("up", &[self.upstream.address()], "");
        Proxy::start(subject, &yaml::plane_cluster(bootstrap, "xds", &self.plane))
    }
}

/// After the ACK new handshakes use the new keys; workers are told a moment later.
fn keys_from_a_control_plane_rotate(subject: &Subject) {
    let plane = Plane::start();
    plane.show("d");
    let proxy = plane.proxy(subject, "");
    for client in clients() {
        plane.rotate("a");
        let other = start(subject, "a", &plane.upstream);
        wait::for_true("a session under the first key", || {
            let _ = resumes(&client, &proxy);
            resumes(&client, &other)
        });
        plane.rotate("ba");
        let new = start(subject, "b", &plane.upstream);
        wait::for_true("a ticket under the new key", || resumes(&client, &proxy) && resumes(&client, &new));
        plane.rotate("b");
        assert!(resumes(&client, &proxy));
        plane.rotate("c");
        wait::for_true("the old key to go", || !resumes(&client, &proxy));
        assert!(resumes(&client, &proxy));
        drop((other, new));
    }
}

fn bad_keys_leave_the_good_ones(subject: &Subject) {
    let plane = Plane::start();
    plane.show("a");
    let proxy = plane.proxy(subject, "");
    let client = Client::new();
    let _ = resumes(&client, &proxy);
    let mark = plane.plane.mark();
    let short = "{name: tickets, session_ticket_keys: {keys: [{inline_string: short-text}]}}";
    plane.plane.set(from_yaml(Type::Secret, short));
    let nack = plane.plane.wait_nack(mark, Type::Secret);
    let reason = nack.reason();
    assert!(reason.contains("Incorrect TLS session ticket key length. Length 10, expected length 80"));
    assert!(!reason.contains("short-text"), "{reason}");
    assert!(resumes(&client, &proxy));
    plane.rotate("b");
    wait::for_true("the new key", || !resumes(&client, &proxy));
    let dump = proxy.admin_get("/config_dump").text();
    assert!(!dump.contains("bbbbbbbb") && !dump.contains("YmJiYmJi"), "{dump}");
}

fn missing_keys_close_handshakes(subject: &Subject) {
    let plane = Plane::start();
    let proxy = plane.proxy(subject, "initial_fetch_timeout: 0.3s");
    assert!(Client::new().try_connect(proxy.wait_listener("main")).is_err());
    let stat = "listener.main.server_ssl_socket_factory.downstream_context_secrets_not_ready";
    wait::for_true("the reason to be counted", || proxy.stat(stat).is_some_and(|n| n > 0));
    plane.show("a");
    wait_shown(&proxy, &Client::new(), proxy_identity());
}

/// A ticket says that somebody was verified; whoever believes another authority does not take that over.
fn equal_keys_do_not_carry_trust_over(subject: &Subject) {
    let upstream = hello();
    let tickets = format!("session_ticket_keys: {}", keys("a"));
    let lenient = terminate(subject, &mutual_tls().field(&tickets), upstream.address());
    let second = Authority::root("second");
    let strict = plain_tls().trusts(&second).required().field(&tickets);
    let strict = terminate(subject, &strict, upstream.address());
    let client = mutual_client();
    assert!(!resumes(&client, &lenient));
    assert!(resumes(&client, &lenient));
    assert_eq!(client.refusal(strict.listener("main")), Ending::Alert(AlertDescription::UnknownCA));
    let other = root().issue(&Leaf::dns("other.test"));
    let other = Context::new().certificate(&other).trusts(&root()).required().field(&tickets);
    let other = terminate(subject, &other, upstream.address());
    assert!(resumes(&client, &lenient));
    assert!(!resumes(&client, &other), "another server");
}
