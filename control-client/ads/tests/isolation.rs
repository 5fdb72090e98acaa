//! One bad resource among good ones: the good ones go on, the NACK names the bad one.

mod helpers;

use helpers::{Lab, any, delta, name, names, reject, resource, sotw, wrapped};
use millrace_ads::limits::NAME_BYTES_MAX;
use millrace_ads::source::Variant;
use millrace_ads::{Interest, ResourceType, Verdict};
use millrace_proto::pb::envoy::service::discovery::v3::{Resource, ResourceName};
use millrace_proto::pb::google::protobuf::{Any, Duration};

const CDS: ResourceType = ResourceType::Cluster;
const RDS: ResourceType = ResourceType::Route;

fn of_type(url: &str, value: &[u8]) -> Any {
    Any { type_url: url.to_owned(), value: value.to_vec() }
}

#[test]
fn sotw_resources_fail_one_by_one() {
    let cds = CDS.type_url();
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    let cases = [
        (any(CDS, "a", "y"), "a", "more than once"),
        (of_type("type.googleapis.com/envoy.config.listener.v3.Listener", b""), "", "its type is"),
        (of_type(&cds, b""), "", "no name"),
        (of_type(&cds, b"\x0a\x09short"), "", "no protobuf"),
        (of_type(&cds, b"\x0a\x02\xff\xfe"), "", "not UTF-8"),
        (of_type(&cds, b"\x03"), "", "no protobuf"),
        (of_type(helpers::WRAPPER_URL, b"\xff"), "", "cannot be read"),
        (any(CDS, &long, ""), &long[..64], "4097 bytes"),
        (wrapped(&resource(CDS, "w", "1", None, 0)), "w", "no body"),
        (wrapped(&resource(CDS, "w", "1", Some("x"), -1)), "w", "ttl"),
        (wrapped(&resource(RDS, "w", "1", Some("x"), 0)), "w", "its type is"),
    ];
    for (bad, bad_name, reason) in cases {
        let mut lab = Lab::connected(Variant::Sotw, &[(CDS, Interest::Wildcard)]);
        lab.sent.clear();
        let before = lab.respond(sotw(CDS, "n1", "1", vec![any(CDS, "w", "old"), any(CDS, "z", "old")]));
        lab.accept(&before);
        lab.sent.clear();
        let update = lab.respond(sotw(
            CDS,
            "n2",
            "2",
            vec![any(CDS, "a", "x"), bad, wrapped(&resource(CDS, "b", "1", Some("x"), 0))],
        ));
        assert_eq!(names(&update)[0], ["a", "b"], "{reason}");
        assert_eq!(names(&update)[3], [bad_name], "{reason}");
        assert!(update.broken[0].reason.contains(reason), "{}", update.broken[0].reason);
        // A bad resource of a name keeps what is in force of it; one without a name might be any.
        let expected: &[&str] = match bad_name {
            "" => &[],
            "w" => &["z"],
            _ => &["w", "z"],
        };
        assert_eq!(names(&update)[1], expected, "{reason}");
        lab.accept(&update);
        let nack = lab.sotw();
        assert_eq!((&*nack.version_info, &*nack.response_nonce), ("1", "n2"));
        assert!(nack.error_detail.is_some_and(|status| status.message.contains(reason)));
    }
}

#[test]
fn delta_resources_fail_one_by_one() {
    let mut lab = Lab::connected(Variant::Delta, &[(CDS, Interest::Wildcard)]);
    lab.sent.clear();
    let nameless = Resource { name: String::new(), ..resource(CDS, "from-body", "1", Some("x"), 0) };
    let parameterised = Resource {
        name: String::new(),
        resource_name: Some(ResourceName { name: "param".to_owned(), ..ResourceName::default() }),
        ..resource(CDS, "param", "1", Some("x"), 0)
    };
    let mut bad_ttl = resource(CDS, "t", "1", Some("x"), 0);
    bad_ttl.ttl = Some(Duration { seconds: 1, nanos: -1 });
    let added = vec![
        resource(CDS, "a", "1", Some("x"), 0),
        resource(CDS, "a", "1", Some("x"), 0),
        resource(CDS, "h", "1", None, 0),
        nameless,
        parameterised,
        bad_ttl,
    ];
    let update = lab.respond(delta(CDS, "n1", "1", added, &["a", "gone"]));
    assert_eq!(names(&update)[0], ["a", "from-body", "param"]);
    assert_eq!(names(&update)[1], ["gone"]);
    assert_eq!(names(&update)[3], ["t", "a", "h", "a"]);
    lab.verdict(&update, reject("from-body", "no"));
    let nack = lab.delta();
    let message = nack.error_detail.expect("a NACK").message;
    assert!(["t: ", "a: ", "h: ", "from-body: no"].iter().all(|text| message.contains(text)), "{message}");
}

#[test]
fn what_is_unsolicited_is_acknowledged_and_dropped() {
    let mut lab = Lab::connected(Variant::Delta, &[(RDS, name("r"))]);
    lab.sent.clear();
    let update = lab.respond(delta(RDS, "n1", "1", vec![resource(RDS, "x", "1", Some("x"), 0)], &["y"]));
    assert_eq!(names(&update), [const { Vec::<&str>::new() }; 4]);
    lab.accept(&update);
    let ack = lab.delta();
    assert_eq!((&*ack.response_nonce, ack.error_detail), ("n1", None));
    lab.reconnect();
    assert!(lab.delta().initial_resource_versions.is_empty());
}

#[test]
fn a_complete_state_removes_and_others_keep() {
    let mut lab =
        Lab::connected(Variant::Sotw, &[(CDS, Interest::Wildcard), (RDS, name("r")), (RDS, name("s"))]);
    for ty in [CDS, RDS] {
        let both = vec![any(ty, "r", "x"), any(ty, "s", "x")];
        let update = lab.respond(sotw(ty, "n1", "1", both));
        lab.accept(&update);
        let update = lab.respond(sotw(ty, "n2", "2", vec![any(ty, "r", "x")]));
        let removed: &[&str] = if ty == CDS { &["s"] } else { &[] };
        assert_eq!((&names(&update)[1][..], &names(&update)[2][..]), (removed, &["r"][..]));
        lab.accept(&update);
    }
    let update = lab.respond(sotw(CDS, "n3", "3", Vec::new()));
    assert_eq!(names(&update)[1], ["r"], "an empty response removes everything");
    // A rejected resource that goes is reported as well: its failure is over.
    let update = lab.respond(sotw(CDS, "n4", "4", vec![any(CDS, "bad", "x")]));
    lab.verdict(&update, reject("bad", "no"));
    let update = lab.respond(sotw(CDS, "n5", "5", Vec::new()));
    assert_eq!(names(&update)[1], ["bad"]);
}

#[test]
fn a_host_that_does_not_exist_is_no_error() {
    let vhds = ResourceType::VirtualHost;
    let mut lab = Lab::connected(Variant::Delta, &[(vhds, name("t/h"))]);
    lab.sent.clear();
    let update = lab.respond(delta(vhds, "n1", "1", vec![resource(vhds, "t/h", "1", None, 0)], &[]));
    assert_eq!(names(&update), [vec![], vec!["t/h"], vec![], vec![]]);
    lab.verdict(&update, Verdict::default());
    assert_eq!(lab.delta().error_detail, None);
}

/// Twenty thousand clusters, then twenty thousand again of which one changed.
#[test]
fn only_what_changed_is_handed_on() {
    let mut lab = Lab::connected(Variant::Delta, &[(CDS, Interest::Wildcard)]);
    let all = |changed: usize| {
        let content = |i: usize| if i == changed { "new" } else { "old" };
        (0..20_000).map(|i| resource(CDS, &format!("c{i}"), "", Some(content(i)), 0)).collect()
    };
    let update = lab.respond(delta(CDS, "n1", "1", all(usize::MAX), &[]));
    assert_eq!(update.changed.len(), 20_000);
    lab.accept(&update);
    let update = lab.respond(delta(CDS, "n2", "2", all(77), &[]));
    assert_eq!((names(&update)[0].clone(), update.unchanged.len()), (vec!["c77"], 19_999));
}
