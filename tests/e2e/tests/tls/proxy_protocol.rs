//! The PROXY protocol on both sides: headers of every version before a connection, and ours towards endpoints.

use std::time::Duration;

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http, listener, tcp_chain};
use millrace_support::process::Proxy;
use millrace_support::raw::{Client as Raw, End};
use millrace_support::subject::Subject;
use millrace_support::tls::server::Options;
use millrace_support::tls::{Client, Server};
use millrace_support::upstream::Upstream;

use crate::common::{STAT_PREFIX, hello, plain_tls, root, server_identity};

pub(crate) const CASES: &[Case] = &[
    case!(version_1),
    case!(version_2),
    case!(version_2_with_tlvs),
    case!(tlvs_in_logs),
    case!(a_namespace_in_logs),
    case!(local_and_unknown),
    case!(in_single_bytes),
    case!(before_tls),
    case!(bad_headers),
    case!(no_header_at_all),
    case!(no_header_where_it_is_optional),
    case!(disallowed_versions),
    case!(upstream_version_1),
    case!(upstream_version_2),
    case!(upstream_around_tls),
    case!(upstream_with_added_tlvs),
    case!(upstream_with_tlvs_of_the_client),
    case!(upstream_with_tlvs_of_requests),
];

const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";

fn filters(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { ", " };
    format!(
        "{STAT_PREFIX}listener_filters:\n- {{name: envoy.filters.listener.proxy_protocol, typed_config: \
         {{\"@type\": {FILTER}{comma}{fields}}}}}\n"
    )
}

fn with_log(http: Http) -> Http {
    http.logs("remote", "%DOWNSTREAM_REMOTE_ADDRESS%")
        .logs("local", "%DOWNSTREAM_LOCAL_ADDRESS%")
        .logs("direct", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%")
}

#[track_caller]
fn start(subject: &Subject, fields: &str, upstream: &Upstream) -> Proxy {
    let http = with_log(Http::to("up").listener(&filters(fields)));
    Proxy::start(subject, &Bootstrap::new().http(http).cluster("up", &[upstream.address()], ""))
}

/// A header of version 2.
fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap_or(u16::MAX).to_be_bytes();
    let head = [command, family, length[0], length[1]];
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &head, addresses].concat()
}

/// 1.2.3.4:5 to 6.7.8.9:10.
const V4: [u8; 12] = [1, 2, 3, 4, 6, 7, 8, 9, 0, 5, 0, 10];

fn v6() -> Vec<u8> {
    let mut bytes = [0u8; 36];
    (bytes[0], bytes[1], bytes[15], bytes[16], bytes[31]) = (0x20, 0x01, 1, 0xfe, 2);
    bytes[32..].copy_from_slice(&[0, 5, 0, 10]);
    bytes.to_vec()
}

/// One GET behind this header, and what the log says: remote, local, direct.
#[track_caller]
fn behind(proxy: &Proxy, header: &[u8]) -> (String, String, String) {
    let before = proxy.log().lines().len();
    let mut client = proxy.client();
    client.send(header);
    assert_eq!(client.get("/").status, 200);
    let line = proxy.log().line(before);
    (line.get("remote").to_owned(), line.get("local").to_owned(), line.get("direct").to_owned())
}

fn version_1(subject: &Subject) {
    let upstream = hello();
    let proxy = start(subject, "", &upstream);
    for (header, remote, local) in [
        ("PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n", "1.2.3.4:5", "6.7.8.9:10"),
        ("PROXY TCP6 2001::1 fe00::2 5 10\r\n", "[2001::1]:5", "[fe00::2]:10"),
        ("PROXY TCP4 9.8.7.6 5.4.3.2 65535 65535\r\n", "9.8.7.6:65535", "5.4.3.2:65535"),
    ] {
        let (got, at, direct) = behind(&proxy, header.as_bytes());
        assert_eq!((&*got, &*at), (remote, local), "{header:?}");
        assert_eq!(direct, "127.0.0.1");
    }
    proxy.wait_stat("proxy_proto.versions.v1.found", 3);
}

fn version_2(subject: &Subject) {
    let upstream = hello();
    let proxy = start(subject, "", &upstream);
    let (remote, local, _) = behind(&proxy, &v2(0x21, 0x11, &V4));
    assert_eq!((&*remote, &*local), ("1.2.3.4:5", "6.7.8.9:10"));
    let (remote, local, _) = behind(&proxy, &v2(0x21, 0x21, &v6()));
    assert_eq!((&*remote, &*local), ("[2001::1]:5", "[fe00::2]:10"));
    // The addresses of datagrams count as well.
    assert_eq!(behind(&proxy, &v2(0x21, 0x12, &V4)).0, "1.2.3.4:5");
    proxy.wait_stat("proxy_proto.versions.v2.found", 3);
}

fn version_2_with_tlvs(subject: &Subject) {
    let upstream = hello();
    let rule = "rules: [{tlv_type: 0xe0, on_tlv_present: {key: own}}]";
    let log = "\\town=%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:own)%\\tremote=%DOWNSTREAM_REMOTE_ADDRESS%";
    let chain = tcp_chain("main", "cluster: up", "", log);
    let bootstrap = Bootstrap::new().listener(&listener("main", &filters(rule), &chain));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[upstream.address()], ""));
    let tlvs = [&[0xe0, 0, 3][..], b"abc", &[0x04, 0, 0], &[0xe1, 0, 2, 1, 2]].concat();
    let mut client = proxy.client();
    client.send(&v2(0x21, 0x11, &[&V4[..], &tlvs].concat()));
    assert_eq!(client.get_with("/", &[("connection", "close")]).status, 200);
    client.finish_sending();
    let line = proxy.log().line(0);
    assert_eq!((line.get("remote"), line.get("own")), ("1.2.3.4:5", "abc"));
}

/// `rules` in all their forms, as text and as JSON.
fn tlvs_in_logs(subject: &Subject) {
    const OWN: &str = "envoy.filters.listener.proxy_protocol";
    let upstream = hello();
    let rules = "rules: [{tlv_type: 0xe0, on_tlv_present: {key: earlier}}, {tlv_type: 0xe0, on_tlv_present: {key: \
                 own}}, {tlv_type: 0xe1, on_tlv_present: {metadata_namespace: other, key: raw}}, {tlv_type: 0xe2, \
                 on_tlv_present: {metadata_namespace: other, key: coded, value_string_encoding: BASE64}}, {tlv_type: \
                 0xe3, on_tlv_present: {key: empty}}, {tlv_type: 0xe4}]";
    let log = [
        ("own", format!("%DYNAMIC_METADATA({OWN}:own)%")),
        ("again", format!("%METADATA(DYNAMIC:{OWN}:own)%")),
        ("cut", format!("%DYNAMIC_METADATA({OWN}:own):1%")),
        ("earlier", format!("%DYNAMIC_METADATA({OWN}:earlier)%")),
        ("deeper", format!("%DYNAMIC_METADATA({OWN}:own:x)%")),
        ("raw", "%DYNAMIC_METADATA(other:raw)%".to_owned()),
        ("coded", "%DYNAMIC_METADATA(other:coded)%".to_owned()),
        ("empty", format!("%DYNAMIC_METADATA({OWN}:empty)%")),
        ("all", "%DYNAMIC_METADATA(third)%".to_owned()),
        ("none", "%DYNAMIC_METADATA(nobody:key)%".to_owned()),
    ]
    .map(|(name, format)| format!("\\t{name}={format}"))
    .concat();
    let chain = tcp_chain("main", "cluster: up", "", &log);
    let bootstrap = Bootstrap::new().listener(&listener("main", &filters(rules), &chain));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[upstream.address()], ""));
    let tlvs = [
        &[0xe0, 0, 2][..],
        b"ab",
        &[0xe0, 0, 1],
        b"z",
        &[0xe1, 0, 4],
        b"a\xff\xfeb",
        &[0xe2, 0, 2],
        b"\xff\xfe",
        &[0xe3, 0, 0, 0xe4, 0, 1, 9],
    ];
    for (at, header) in [v2(0x21, 0x11, &[&V4[..], &tlvs.concat()].concat()), b"PROXY UNKNOWN\r\n".to_vec()]
        .iter()
        .enumerate()
    {
        let mut client = proxy.client();
        client.send(header);
        assert_eq!(client.get_with("/", &[("connection", "close")]).status, 200);
        client.finish_sending();
        let line = proxy.log().line(at);
        let all = ["own", "again", "cut", "earlier", "deeper", "raw", "coded", "empty", "all", "none"];
        let expected = match at {
            0 => ["ab", "ab", "a", "-", "-", "a!!b", "//4=", "", "-", "-"],
            _ => ["-"; 10],
        };
        assert_eq!(all.map(|name| line.get(name)), expected);
    }
}

/// Those of a request's log are its own, so that it does not see them.
fn a_namespace_in_logs(subject: &Subject) {
    let upstream = hello();
    let rules = "rules: [{tlv_type: 0xe0, on_tlv_present: {metadata_namespace: ns, key: own}}]";
    let request = Http::to("up").listener(&filters(rules)).logs("all", "%DYNAMIC_METADATA(ns)%");
    let chain = tcp_chain("tcp", "cluster: up", "", "\\tall=%DYNAMIC_METADATA(ns)%");
    let bootstrap = Bootstrap::new().http(request).listener(&listener("tcp", &filters(rules), &chain));
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[upstream.address()], ""));
    for (at, (name, all)) in [("main", "-"), ("tcp", r#"{"own":"a\"b"}"#)].into_iter().enumerate() {
        let mut client = Raw::connect(proxy.listener(name));
        client.send(&v2(0x21, 0x11, &[&V4[..], &[0xe0, 0, 3], b"a\"b"].concat()));
        assert_eq!(client.get_with("/", &[("connection", "close")]).status, 200);
        client.finish_sending();
        assert_eq!(proxy.log().line(at).get("all"), all, "{name}");
    }
}

/// Neither names an address, so the connection's own counts.
fn local_and_unknown(subject: &Subject) {
    let upstream = hello();
    let proxy = start(subject, "", &upstream);
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN 1.2.3.4 6.7.8.9 5 10\r\n",
        &v2(0x20, 0x00, &[]),
        &v2(0x20, 0x11, &V4),
    ] {
        let (remote, local, _) = behind(&proxy, header);
        assert!(remote.starts_with("127.0.0.1:"), "{header:?} {remote}");
        assert_eq!(local, proxy.listener("main").to_string());
    }
}

fn in_single_bytes(subject: &Subject) {
    let upstream = hello();
    let proxy = start(subject, "", &upstream);
    for header in [b"PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n".to_vec(), v2(0x21, 0x11, &V4)] {
        let before = proxy.log().lines().len();
        let mut client = proxy.client();
        for byte in header {
            client.send(&[byte]);
            std::thread::sleep(Duration::from_micros(300));
        }
        assert_eq!(client.get("/").status, 200);
        assert_eq!(proxy.log().line(before).get("remote"), "1.2.3.4:5");
    }
}

fn before_tls(subject: &Subject) {
    let upstream = hello();
    let inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
    let both = format!(
        "{}- {{name: envoy.filters.listener.tls_inspector, typed_config: {{\"@type\": {inspector}}}}}\n",
        filters("")
    );
    let http = with_log(Http::to("up").listener(&both));
    let matches = "filter_chain_match: {server_names: [\"proxy.test\"]}\n";
    let http = http.chain(matches).chain(&plain_tls().downstream());
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap);
    for header in [b"PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n".to_vec(), v2(0x21, 0x11, &V4)] {
        let before = proxy.log().lines().len();
        let link = Client::new().name("proxy.test").before(&header).connect(proxy.listener("main"));
        assert_eq!(link.raw().get("/").status, 200);
        assert_eq!(proxy.log().line(before).get("remote"), "1.2.3.4:5");
    }
}

fn bad_headers(subject: &Subject) {
    let upstream = hello();
    let proxy = start(subject, "", &upstream);
    let mut neighbour = proxy.client();
    neighbour.send(b"PROXY UNKNOWN\r\n");
    assert_eq!(neighbour.get("/").status, 200);
    let long = format!("PROXY TCP4 {} 6.7.8.9 5 10\r\n", "1".repeat(100));
    let endless = [&b"PROXY "[..], &[b'x'; 120]].concat();
    for header in [
        &b"PROXY TCP4 1.2.3.4 6.7.8.9 5\r\n"[..],
        b"PROXY TCP4 1.2.3.4 6.7.8.9 5 10 11\r\n",
        b"PROXY TCP4 1.2.3 6.7.8.9 5 10\r\n",
        b"PROXY TCP4 2001::1 fe00::2 5 10\r\n",
        b"PROXY TCP6 1.2.3.4 6.7.8.9 5 10\r\n",
        b"PROXY TCP4 1.2.3.4 6.7.8.9 65536 10\r\n",
        b"PROXY TCP4 1.2.3.4 6.7.8.9 -5 10\r\n",
        b"PROXY UDP4 1.2.3.4 6.7.8.9 5 10\r\n",
        b"PROXY TCP4  1.2.3.4 6.7.8.9 5 10\r\n",
        b"proxy TCP4 1.2.3.4 6.7.8.9 5 10\r\n",
        long.as_bytes(),
        &endless,
        &v2(0x31, 0x11, &V4),
        &v2(0x22, 0x11, &V4),
        // Unix sockets: ours takes them for connections without an address, as the protocol's text has it.
        &v2(0x21, if subject.is_envoy() { 0x31 } else { 0x41 }, &[0; 216]),
        &v2(0x21, 0x11, &V4[..8]),
        &v2(0x21, 0x21, &V4),
        &v2(0x21, 0x11, &[&V4[..], &[0xe0, 0, 9, 1]].concat()),
    ] {
        let mut client = proxy.client();
        client.send(&[header, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"].concat());
        let end = client.end();
        assert!(
            matches!(&end, End::Closed(bytes) if bytes.is_empty()) || end == End::Reset,
            "{:?} {end:?}",
            String::from_utf8_lossy(header)
        );
    }
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(neighbour.get("/").status, 200);
}

fn no_header_at_all(subject: &Subject) {
    let upstream = hello();
    let proxy = start(subject, "", &upstream);
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(matches!(client.end(), End::Closed(_) | End::Reset));
    assert!(upstream.requests().is_empty());
    proxy.wait_stat("proxy_proto.not_found_disallowed", 1);
}

fn no_header_where_it_is_optional(subject: &Subject) {
    let upstream = hello();
    let proxy = start(subject, "allow_requests_without_proxy_protocol: true", &upstream);
    let (remote, ..) = behind(&proxy, b"");
    assert!(remote.starts_with("127.0.0.1:"));
    let (remote, ..) = behind(&proxy, b"PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    assert_eq!(remote, "1.2.3.4:5");
    let mut client = proxy.client();
    // Like a header's first byte, but a request.
    client.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.response("PUT").map(|r| r.status), Ok(200));
    proxy.wait_stat("proxy_proto.not_found_allowed", 2);
}

fn disallowed_versions(subject: &Subject) {
    let upstream = hello();
    let one = b"PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n".to_vec();
    let two = v2(0x21, 0x11, &V4);
    for (name, refused, served) in [("V1", &one, &two), ("V2", &two, &one)] {
        let proxy = start(subject, &format!("disallowed_versions: [{name}]"), &upstream);
        assert_eq!(behind(&proxy, served).0, "1.2.3.4:5");
        let mut client: Raw = proxy.client();
        client.send(refused);
        assert!(matches!(client.end(), End::Closed(_) | End::Reset), "{name}");
        proxy.wait_stat(&format!("proxy_proto.versions.{}.disallowed", name.to_lowercase()), 1);
    }
}

/// A cluster whose socket sends a header of this version before `inner`.
fn wrapped(version: &str, inner: &str) -> String {
    let kind = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
    format!(
        "transport_socket: {{name: envoy.transport_sockets.upstream_proxy_protocol, typed_config: {{\"@type\": \
         type.googleapis.com/{kind}, config: {{version: {version}}}, transport_socket: {inner}}}}}\n"
    )
}

const RAW: &str = "{name: envoy.transport_sockets.raw_buffer, typed_config: {\"@type\": \
    type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}";

/// The bytes that an endpoint gets first.
#[track_caller]
fn header_of(subject: &Subject, version: &str) -> (Vec<u8>, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind an ephemeral port");
    let address = listener.local_addr().expect("an address");
    let bootstrap = Bootstrap::new().tcp("main", "cluster: up");
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[address], &wrapped(version, RAW)));
    let mut client = proxy.client();
    client.send(b"hello");
    let own = client.wire().stream().local_addr().expect("an address").to_string();
    let mut accepted = Raw::over(listener.accept().expect("a connection").0);
    let mut all = Vec::new();
    while !all.ends_with(b"hello") {
        let more = accepted.wire().some().expect("bytes");
        assert!(!more.is_empty(), "{all:?}");
        all.extend(more);
    }
    all.truncate(all.len() - 5);
    (all, format!("{own} {}", proxy.listener("main")))
}

fn upstream_version_1(subject: &Subject) {
    let (header, ends) = header_of(subject, "V1");
    let (source, target) = ends.split_once(' ').unwrap_or_default();
    let port = |at: &str| at.rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap_or_default();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", port(source), port(target));
    assert_eq!(String::from_utf8_lossy(&header), expected);
}

fn upstream_version_2(subject: &Subject) {
    let (header, ends) = header_of(subject, "V2");
    let (source, target) = ends.split_once(' ').unwrap_or_default();
    let port =
        |at: &str| at.rsplit_once(':').and_then(|(_, p)| p.parse::<u16>().ok()).unwrap_or(0).to_be_bytes();
    let addresses = [&[127, 0, 0, 1, 127, 0, 0, 1][..], &port(source), &port(target)].concat();
    assert_eq!(header, v2(0x21, 0x11, &addresses));
}

/// What an endpoint gets before the bytes of a client with these TLVs, behind the addresses.
#[track_caller]
fn tlvs_behind(subject: &Subject, filter: &str, config: &str, tlvs: &[u8]) -> Vec<u8> {
    let endpoint = std::net::TcpListener::bind("127.0.0.1:0").expect("bind an ephemeral port");
    let address = endpoint.local_addr().expect("an address");
    let chain = tcp_chain("main", "cluster: up", "", "\\tx=1");
    let bootstrap = Bootstrap::new().listener(&listener("main", &filters(filter), &chain));
    let cluster = wrapped(&format!("V2, {config}"), RAW);
    let proxy = Proxy::start(subject, &bootstrap.cluster("up", &[address], &cluster));
    let mut client = proxy.client();
    client.send(&v2(0x21, 0x11, &[&V4[..], tlvs].concat()));
    client.send(b"hello");
    let mut accepted = Raw::over(endpoint.accept().expect("a connection").0);
    let mut all = Vec::new();
    while !all.ends_with(b"hello") {
        let more = accepted.wire().some().expect("bytes");
        assert!(!more.is_empty(), "{all:?}");
        all.extend(more);
    }
    let length = usize::from(u16::from_be_bytes([all[14], all[15]]));
    assert_eq!(all.len(), 16 + length + 5);
    assert_eq!(all[16..28], V4);
    all[28..16 + length].to_vec()
}

const ADDED: &str = "added_tlvs: [{type: 0xe1, value: YWRk}, {type: 0xe9, value: YQ==}]";
const ADDED_WIRE: &[u8] = b"\xe1\0\x03add\xe9\0\x01a";
const OF_CLIENT: &[u8] = b"\xe0\0\x02ab\xe1\0\x01c\xe2\0\0\xe0\0\x01d";

fn upstream_with_added_tlvs(subject: &Subject) {
    assert_eq!(tlvs_behind(subject, "", ADDED, OF_CLIENT), ADDED_WIRE);
}

/// Both sides have to want them. What is added comes first, and takes the place of the client's of that type.
fn upstream_with_tlvs_of_the_client(subject: &Subject) {
    let all = "pass_through_tlvs: {match_type: INCLUDE_ALL}";
    let some = "pass_through_tlvs: {match_type: INCLUDE, tlv_type: [0xe0, 0xe2]}";
    let few = "pass_through_tlvs: {match_type: INCLUDE, tlv_type: [0xe2]}";
    let none = "pass_through_tlvs: {match_type: INCLUDE}";
    for (filter, config, expected) in [
        (all, all, OF_CLIENT),
        (all, some, b"\xe0\0\x02ab\xe2\0\0\xe0\0\x01d"),
        (some, all, b"\xe0\0\x02ab\xe2\0\0\xe0\0\x01d"),
        (some, few, b"\xe2\0\0"),
        (all, none, b""),
        ("", all, b""),
    ] {
        assert_eq!(tlvs_behind(subject, filter, config, OF_CLIENT), expected, "{filter} {config}");
    }
    let both = format!("{all}, {ADDED}");
    let expected = [ADDED_WIRE, b"\xe0\0\x02ab\xe2\0\0\xe0\0\x01d"].concat();
    assert_eq!(tlvs_behind(subject, all, &both, OF_CLIENT), expected);
}

/// Connections for requests are kept apart by them.
fn upstream_with_tlvs_of_requests(subject: &Subject) {
    let upstream = hello();
    let server = Server::start(Options::new(server_identity(), upstream.address()).header());
    let inner = millrace_support::tls::Context::new().trusts(&root()).socket("UpstreamTlsContext");
    let all = "pass_through_tlvs: {match_type: INCLUDE_ALL}";
    let http = with_log(Http::to("up").listener(&filters(all)));
    let cluster = wrapped(&format!("V2, {all}"), &inner);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[server.address()], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    for (at, value) in [b"one", b"two"].into_iter().enumerate() {
        let header = v2(0x21, 0x11, &[&V4[..], &[0xe0, 0, 3], value].concat());
        // Of the same client twice: the connection is kept.
        let mut client = proxy.client();
        client.send(&header);
        assert_eq!((client.get("/").status, client.get("/").status), (200, 200));
        // Envoy shares it among clients of one address unless `tlv_as_pool_key`.
        if at == 0 || !subject.is_envoy() {
            assert_eq!(server.wait_seen(at).header, header);
        }
    }
}

/// The header comes first and in the clear; addresses of the downstream header pass on.
fn upstream_around_tls(subject: &Subject) {
    let upstream = hello();
    let server = Server::start(Options::new(server_identity(), upstream.address()).header());
    let inner = millrace_support::tls::Context::new().trusts(&root()).socket("UpstreamTlsContext");
    let http = with_log(Http::to("up").listener(&filters("")));
    let cluster = wrapped("V1", &inner);
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[server.address()], &cluster);
    let proxy = Proxy::start(subject, &bootstrap);
    behind(&proxy, b"PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    let seen = server.wait_seen(0);
    assert_eq!(String::from_utf8_lossy(&seen.header), "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n");
    assert!(seen.facts.is_some());
}
