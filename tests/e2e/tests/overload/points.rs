//! Load shed points.

use millrace_e2e::{Case, case};
use millrace_support::bootstrap::{Bootstrap, Http};
use millrace_support::h2;
use millrace_support::process::Proxy;
use millrace_support::raw::{Client, End};
use millrace_support::subject::Subject;
use millrace_support::tcp::{Role, TcpUpstream};
use millrace_support::upstream::Upstream;

use super::{GET, LISTENER, Pressure, forward, sheds, with_point};

pub(crate) const CASES: &[Case] = &[
    case!(at_the_accept),
    case!(at_the_head),
    case!(behind_the_filters),
    case!(at_the_head_of_http1),
    case!(at_the_first_bytes),
    case!(by_goaway),
    case!(by_goaway_and_close),
    case!(at_a_new_connection_to_an_endpoint),
    case!(in_the_tcp_proxy),
    case!(a_point_that_nobody_asks_for),
];

fn start(subject: &Subject, pressure: &Pressure, upstream: &Upstream, point: &str) -> Proxy {
    Proxy::start(subject, &forward(upstream, &with_point(pressure, point)))
}

fn at_the_accept(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let point = "tcp_listener_accept";
    let proxy = start(subject, &pressure, &upstream, point);
    let mut known = proxy.client();
    assert_eq!(known.get("/").status, 200);
    pressure.set(&proxy, 0.95);
    for _ in 0..3 {
        assert!(matches!(proxy.client().end(), End::Closed(_) | End::Reset));
    }
    assert_eq!(known.get("/").status, 200);
    proxy.wait_stat(&format!("{LISTENER}.downstream_cx_overload_reject"), 3);
    assert_eq!(sheds(&proxy, point), Some(3));
    pressure.set(&proxy, 0.1);
    super::serves_again(&proxy);
}

fn refused_with_503(subject: &Subject, point: &str, counter: &str) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let proxy = start(subject, &pressure, &upstream, point);
    pressure.set(&proxy, 0.95);
    let refused = proxy.client().get("/");
    assert_eq!((refused.status, refused.text().as_str(), refused.closes()), (503, "envoy overloaded", false));
    let refused = h2::Client::connect(proxy.listener("main")).get("/");
    assert_eq!((refused.status, refused.text().as_str()), (503, "envoy overloaded"));
    assert_eq!(proxy.log().line(0).verdict(), ("503", "-", "overload"));
    assert_eq!((sheds(&proxy, point), proxy.stat(counter)), (Some(2), Some(2)));
    assert_eq!(upstream.requests().len(), 0);
    pressure.set(&proxy, 0.1);
    super::serves_again(&proxy);
}

fn at_the_head(subject: &Subject) {
    let counter = "http.main.downstream_rq_overload_close";
    refused_with_503(subject, "http_connection_manager_decode_headers", counter);
}

fn behind_the_filters(subject: &Subject) {
    let point = "http_downstream_filter_check";
    refused_with_503(subject, point, "http.main.rq_overload_local_reply");
    // Only where there is a cluster to go to; nor does anything say that it was this proxy.
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let routes = "- match: {prefix: /own}\n  direct_response: {status: 204}\n\
                  - match: {prefix: /}\n  route: {cluster: up}\n";
    let http = Http::routes(routes).hcm("append_local_overload: true");
    let bootstrap = Bootstrap::new().http(http).cluster("up", &[upstream.address()], "");
    let proxy = Proxy::start(subject, &bootstrap.top(&with_point(&pressure, point)));
    pressure.set(&proxy, 0.95);
    assert_eq!(proxy.client().get("/own").status, 204);
    let refused = proxy.client().get("/");
    assert_eq!((refused.status, refused.get("x-envoy-local-overloaded")), (503, None));
    let line = proxy.log().line(1);
    assert_eq!((line.get("cluster"), line.get("attempts")), ("up", "1"));
    assert_eq!(proxy.stat("http.main.rq_total"), Some(2));
}

fn at_the_head_of_http1(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let point = "http1_server_abort_dispatch";
    let proxy = start(subject, &pressure, &upstream, point);
    pressure.set(&proxy, 0.95);
    let refused = proxy.client().get("/");
    assert_eq!(
        (refused.status, refused.text().as_str(), refused.closes()),
        (500, "Internal Server Error", true)
    );
    assert_eq!(proxy.log().line(0).verdict(), ("500", "DPE", "overload"));
    // Nothing of it was read, not even that it is gRPC.
    let refused = proxy.client().get_with("/", &[("content-type", "application/grpc")]);
    assert_eq!((refused.status, refused.closes()), (500, true));
    assert_eq!(proxy.stat("http.main.downstream_rq_response_before_rq_complete"), Some(2));
    assert_eq!(proxy.stat("http.main.downstream_rq_rx_reset"), Some(2));
    assert_eq!(proxy.stat("http.main.downstream_rq_overload_close"), Some(2));
    assert_eq!(h2::Client::connect(proxy.listener("main")).get("/").status, 200);
    assert_eq!(sheds(&proxy, point), Some(2));
}

fn at_the_first_bytes(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let point = "hcm_ondata_creating_codec";
    let proxy = start(subject, &pressure, &upstream, point);
    let mut known = proxy.client();
    assert_eq!(known.get("/").status, 200);
    pressure.set(&proxy, 0.95);
    let mut client = proxy.client();
    client.send(GET);
    assert!(matches!(client.end(), End::Closed(ref bytes) if bytes.is_empty()));
    assert_eq!(known.get("/").status, 200);
    assert_eq!(sheds(&proxy, point), Some(1));
    assert_eq!(proxy.stat("http.main.downstream_rq_overload_close"), Some(1));
}

fn by_goaway(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let point = "http2_server_go_away_on_dispatch";
    let proxy = start(subject, &pressure, &upstream, point);
    let mut client = h2::Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    pressure.set(&proxy, 0.95);
    assert_eq!(client.get("/").status, 200);
    millrace_support::wait::for_true("GOAWAY", || {
        _ = client.is_alive();
        !client.session().goaways.is_empty()
    });
    // As in Envoy, HTTP/1.1 is drained alike.
    assert!(proxy.client().get("/").closes());
    assert!(sheds(&proxy, point) >= Some(2));
}

fn by_goaway_and_close(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let point = "http2_server_go_away_and_close_on_dispatch";
    let proxy = start(subject, &pressure, &upstream, point);
    let mut client = h2::Client::connect(proxy.listener("main"));
    assert_eq!(client.get("/").status, 200);
    pressure.set(&proxy, 0.95);
    let asked = client.head("GET", "/", &[], true);
    assert!(client.response(asked).is_err());
    // The first one warns, the second is the end.
    assert_eq!(client.session().goaways.len(), 2);
    proxy.wait_stat("http2.goaway_sent", 1);
    let mut client = proxy.client();
    client.send(GET);
    assert!(matches!(client.end(), End::Closed(ref bytes) if bytes.is_empty()));
    assert!(sheds(&proxy, point) >= Some(2));
    assert_eq!(upstream.requests().len(), 1);
}

fn at_a_new_connection_to_an_endpoint(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let point = "connection_pool_new_connection";
    let proxy = start(subject, &pressure, &upstream, point);
    pressure.set(&proxy, 0.95);
    let refused = proxy.client().get("/");
    assert_eq!((refused.status, refused.get("x-envoy-overloaded")), (503, Some("true")));
    let details = "upstream_reset_before_response_started{overflow}";
    assert_eq!(proxy.log().line(0).verdict(), ("503", "UO", details));
    assert_eq!((sheds(&proxy, point), proxy.stat("cluster.up.upstream_cx_total")), (Some(1), Some(0)));
    assert_eq!(proxy.log().line(0).get("host"), "-");
    for name in ["pending_total", "cancelled"] {
        assert_eq!(proxy.stat(&format!("cluster.up.upstream_rq_{name}")), Some(1), "{name}");
    }
    pressure.set(&proxy, 0.1);
    super::serves_again(&proxy);
    pressure.set(&proxy, 0.95);
    assert_eq!(proxy.client().get("/").status, 200, "a connection is there");
    assert_eq!(proxy.stat("cluster.up.upstream_cx_total"), Some(1));
}

fn in_the_tcp_proxy(subject: &Subject) {
    let upstream = TcpUpstream::start(Role::Echo);
    for point in ["tcp_proxy_on_data", "tcp_proxy_upstream_connect"] {
        let pressure = Pressure::none();
        let bootstrap = Bootstrap::new().tcp("raw", "cluster: up").cluster("up", &[upstream.address()], "");
        let proxy = Proxy::start(subject, &bootstrap.top(&with_point(&pressure, point)));
        pressure.set(&proxy, 0.95);
        let mut client = Client::connect(proxy.listener("raw"));
        _ = client.try_send(b"hello");
        assert!(matches!(client.end(), End::Closed(_) | End::Reset));
        proxy.wait_stat("tcp.raw.downstream_cx_overload_close", 1);
        assert_eq!(proxy.log().line(0).get("flags"), "OM");
        assert_eq!(sheds(&proxy, point), Some(1));
    }
}

fn a_point_that_nobody_asks_for(subject: &Subject) {
    let (pressure, upstream) = (Pressure::none(), Upstream::fixed("x"));
    let point = super::at_90("company.own_point", "");
    let manager = pressure.manager("", &format!("loadshed_points:\n{point}"));
    let proxy = Proxy::start(subject, &forward(&upstream, &manager));
    pressure.set(&proxy, 0.95);
    assert_eq!(proxy.client().get("/").status, 200);
    assert_eq!(proxy.stat("overload.company.own_point.scale_percent"), Some(100));
    assert_eq!(proxy.stat("overload.company.own_point.shed_load_count"), Some(0));
}
