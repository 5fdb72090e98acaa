//! Polling over REST, and files.
#![allow(clippy::panic, reason = "test helpers")]

mod helpers;

use std::time::Duration;

use helpers::{any, name, names, reject, resource, sotw, wrapped};
use millrace_ads::{
    FileClient, Interest, ResourceType, Response, RestClient, RestInput, RestOptions, RestOutput, Update,
    UpdateId, Verdict,
};
use millrace_base::Time;
use millrace_proto::pb::envoy::config::core::v3::Node;
use millrace_proto::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use millrace_proto::pb::google::protobuf::Any;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoint;
const DELAY: Duration = Duration::from_secs(10);

fn response(ty: ResourceType, version: &str, resources: Vec<Any>) -> DiscoveryResponse {
    match sotw(ty, "", version, resources) {
        // Servers leave the type out.
        Response::Sotw(it) => DiscoveryResponse { type_url: String::new(), ..it },
        Response::Delta(it) => panic!("{it:?}"),
    }
}

fn fetch(client: &mut RestClient, now: Time) -> DiscoveryRequest {
    match client.poll(now) {
        Some(RestOutput::Fetch(_, request)) => request,
        other => panic!("{other:?}"),
    }
}

fn update(client: &mut RestClient, now: Time) -> Update {
    match client.poll(now) {
        Some(RestOutput::Update(update)) => update,
        other => panic!("{other:?}"),
    }
}

fn client() -> RestClient {
    let node = Node { id: "n".to_owned(), ..Node::default() };
    RestClient::new(RestOptions { node, refresh_delay: DELAY, seed: 1 })
}

#[test]
fn polls_carry_the_accepted_version_and_keep_the_delay() {
    let mut client = client();
    assert_eq!((client.deadline(), client.poll(Time(0)).is_none()), (None, true));
    client.subscribe(CDS, Interest::Wildcard);
    let mut now = Time(5);
    let first = fetch(&mut client, now);
    assert_eq!(
        (first.version_info, first.type_url, first.node.is_some()),
        (String::new(), CDS.type_url(), true)
    );
    assert!(client.poll(now).is_none(), "one at a time");
    client.handle(now, RestInput::Response(CDS, response(CDS, "1", vec![any(CDS, "a", "x")])));
    let got = update(&mut client, now);
    client.verdict(got.id, Verdict::default());
    let outcomes = [RestInput::NotModified(CDS), RestInput::Failed(CDS)];
    for outcome in outcomes {
        let deadline = client.deadline().unwrap();
        assert!(deadline >= now + DELAY && deadline < now + DELAY * 2);
        assert!(client.poll(now).is_none());
        now = deadline;
        assert_eq!(fetch(&mut client, now).version_info, "1");
        client.handle(now, outcome);
    }
    now = client.deadline().unwrap();
    fetch(&mut client, now);
    client.handle(now, RestInput::Response(CDS, response(CDS, "2", vec![any(CDS, "bad", "x")])));
    let got = update(&mut client, now);
    assert_eq!(names(&got), [vec!["bad"], vec!["a"], vec![], vec![]]);
    client.verdict(got.id, reject("bad", "no"));
    now = client.deadline().unwrap();
    assert_eq!(fetch(&mut client, now).version_info, "1", "not the refused one");
}

#[test]
fn other_names_are_asked_for_at_once_and_answers_nobody_awaits_are_ignored() {
    let mut client = client();
    client.subscribe(EDS, name("a"));
    let now = Time(5);
    assert_eq!(fetch(&mut client, now).resource_names, ["a"]);
    client.subscribe(EDS, name("b"));
    assert!(client.poll(now).is_none());
    client.handle(now, RestInput::NotModified(EDS));
    assert_eq!(fetch(&mut client, now).resource_names, ["a", "b"]);
    client.unsubscribe(EDS, &name("a"));
    client.unsubscribe(EDS, &name("b"));
    client.handle(now, RestInput::Response(EDS, response(EDS, "1", vec![any(EDS, "a", "x")])));
    client.handle(now, RestInput::Response(CDS, response(CDS, "1", Vec::new())));
    assert!(client.poll(now).is_none() && client.deadline().is_none());
    client.verdict(UpdateId(9), Verdict::default());
}

#[test]
fn a_time_to_live_ends_over_rest_too() {
    let mut client = client();
    client.subscribe(EDS, name("a"));
    fetch(&mut client, Time(5));
    let one = wrapped(&resource(EDS, "a", "1", Some("x"), 2));
    client.handle(Time(5), RestInput::Response(EDS, response(EDS, "1", vec![one])));
    let got = update(&mut client, Time(5));
    client.verdict(got.id, Verdict::default());
    let deadline = client.deadline().unwrap();
    assert_eq!(deadline, Time(5) + Duration::from_secs(2));
    let gone = update(&mut client, deadline);
    assert_eq!((gone.id, names(&gone)[1].clone()), (UpdateId::NO_VERDICT, vec!["a"]));
}

#[test]
fn a_file_is_a_complete_state_of_its_type() {
    let mut file = FileClient::new(CDS);
    let first = file.loaded(response(CDS, "", vec![any(CDS, "a", "x"), any(CDS, "b", "x")]));
    assert_eq!(names(&first)[0], ["a", "b"]);
    file.verdict(first.id, reject("b", "no"));
    let one = wrapped(&resource(CDS, "a", "1", Some("x"), 2));
    let second = file.loaded(response(CDS, "", vec![one, any(CDS, "b", "x"), any(EDS, "e", "x")]));
    assert_eq!(names(&second), [vec!["b"], vec![], vec!["a"], vec![""]], "nothing of another type");
    file.verdict(second.id, Verdict::default());
    let third = file.loaded(response(CDS, "", Vec::new()));
    assert_eq!(names(&third)[1], ["a", "b"]);

    let mut endpoints = FileClient::new(EDS);
    endpoints.loaded(response(EDS, "1", vec![any(EDS, "a", "x")]));
    assert!(endpoints.loaded(response(EDS, "2", Vec::new())).removed.is_empty());
}
