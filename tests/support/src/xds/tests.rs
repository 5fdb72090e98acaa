//! The control plane against a plain gRPC client: who is told what, and the faults.

use std::time::Duration;

use millrace_proto::pb::envoy::service::discovery::v3 as discovery;
use millrace_proto::pb::google::rpc;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use super::yaml::{Flavor, eds_cluster, endpoints, route};
use super::*;

type Client = discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient<
    tonic::transport::Channel,
>;

/// One ADS stream of a client that a test drives.
struct Stream<Q, R> {
    runtime: tokio::runtime::Runtime,
    requests: UnboundedSender<Q>,
    responses: Streaming<R>,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn connect(plane: &ControlPlane) -> Client {
    Client::connect(format!("http://{}", plane.tcp())).await.unwrap()
}

type Sotw = Stream<discovery::DiscoveryRequest, discovery::DiscoveryResponse>;
type Delta = Stream<discovery::DeltaDiscoveryRequest, discovery::DeltaDiscoveryResponse>;

fn sotw(plane: &ControlPlane) -> Sotw {
    let runtime = runtime();
    let (requests, receiver) = unbounded_channel();
    let receiver = UnboundedReceiverStream::new(receiver);
    let responses = runtime
        .block_on(async { connect(plane).await.stream_aggregated_resources(receiver).await })
        .unwrap()
        .into_inner();
    Stream { runtime, requests, responses }
}

fn delta(plane: &ControlPlane) -> Delta {
    let runtime = runtime();
    let (requests, receiver) = unbounded_channel();
    let receiver = UnboundedReceiverStream::new(receiver);
    let responses = runtime
        .block_on(async { connect(plane).await.delta_aggregated_resources(receiver).await })
        .unwrap()
        .into_inner();
    Stream { runtime, requests, responses }
}

impl<Q, R> Stream<Q, R> {
    fn send(&self, request: Q) {
        self.requests.send(request).ok().unwrap();
    }

    /// Lets what was sent leave until the control plane shows it.
    fn until(&self, mut shown: impl FnMut() -> bool) {
        wait::for_true("the request to arrive", || {
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            shown()
        });
    }

    fn next(&mut self) -> Result<R, Status> {
        let responses = &mut self.responses;
        let next = async { tokio::time::timeout(wait::PATIENCE, responses.message()).await };
        self.runtime.block_on(next).expect("a response in time").map(|r| r.expect("no end"))
    }
}

fn ask(
    ty: Type,
    names: &[&str],
    answer: Option<&discovery::DiscoveryResponse>,
) -> discovery::DiscoveryRequest {
    discovery::DiscoveryRequest {
        type_url: ty.url(),
        resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
        version_info: answer.map(|r| r.version_info.clone()).unwrap_or_default(),
        response_nonce: answer.map(|r| r.nonce.clone()).unwrap_or_default(),
        ..Default::default()
    }
}

fn subscribe(ty: Type, names: &[&str]) -> discovery::DeltaDiscoveryRequest {
    discovery::DeltaDiscoveryRequest {
        type_url: ty.url(),
        resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
        ..Default::default()
    }
}

fn names(response: &discovery::DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|r| r.name.as_str()).collect()
}

fn plane_with(options: Options) -> ControlPlane {
    let plane = ControlPlane::start(options);
    plane.update(|change| {
        change.set(eds_cluster("a", Flavor::AdsSotw, "")).set(eds_cluster("b", Flavor::AdsSotw, ""));
        change.set(endpoints("a", &[])).set(endpoints("b", &[])).set(route("r", "a"));
    });
    plane
}

#[test]
fn state_of_the_world_is_whole_for_clusters_and_named_for_endpoints() {
    let plane = plane_with(Options::default());
    let mut stream = sotw(&plane);
    stream.send(ask(Type::Cluster, &[], None));
    let first = stream.next().unwrap();
    assert_eq!(first.resources.len(), 2);
    stream.send(ask(Type::Endpoint, &["b"], None));
    let endpoints_of_b = stream.next().unwrap();
    assert_eq!(endpoints_of_b.resources.len(), 1);
    stream.send(ask(Type::Cluster, &[], Some(&first)));
    stream.until(|| plane.acks(Type::Cluster).len() == 1);
    assert_eq!(plane.acks(Type::Cluster)[0].accepts, Some(first.version_info.clone()));
    plane.set(endpoints("a", &["127.0.0.1:1".parse().unwrap()]));
    plane.remove(Type::Cluster, "b");
    let without_b = stream.next().unwrap();
    assert_eq!((without_b.type_url, without_b.resources.len()), (Type::Cluster.url(), 1));
    assert_ne!(without_b.version_info, first.version_info);
    let refusal = discovery::DiscoveryRequest {
        version_info: first.version_info.clone(),
        response_nonce: without_b.nonce.clone(),
        error_detail: Some(rpc::Status { code: 13, message: "no".into(), ..Default::default() }),
        ..ask(Type::Cluster, &[], None)
    };
    stream.send(refusal);
    stream.until(|| plane.nacks(Type::Cluster).len() == 1);
    assert_eq!(plane.wait_nack(0, Type::Cluster).reason(), "no");
}

#[test]
fn delta_sends_what_the_client_lacks() {
    let plane = plane_with(Options { missing_is_removed: true, ..Options::default() });
    let mut stream = delta(&plane);
    stream.send(subscribe(Type::Cluster, &[]));
    let first = stream.next().unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    let version_of_a = first.resources[0].version.clone();
    plane.update(|change| {
        change.set(eds_cluster("b", Flavor::AdsSotw, "connect_timeout: 3s")).set(eds_cluster(
            "a",
            Flavor::AdsSotw,
            "",
        ));
    });
    assert_eq!(names(&stream.next().unwrap()), ["b"]);
    plane.remove(Type::Cluster, "b");
    assert_eq!(stream.next().unwrap().removed_resources, ["b"]);
    stream.send(subscribe(Type::Endpoint, &["a", "none"]));
    let answer = stream.next().unwrap();
    assert_eq!((names(&answer), answer.removed_resources.clone()), (vec!["a"], vec!["none".to_owned()]));

    let mut again = delta(&plane);
    again.send(discovery::DeltaDiscoveryRequest {
        initial_resource_versions: [("a".to_owned(), version_of_a), ("b".to_owned(), "1".to_owned())].into(),
        ..subscribe(Type::Cluster, &[])
    });
    let answer = again.next().unwrap();
    assert_eq!((names(&answer), answer.removed_resources.clone()), (vec![], vec!["b".to_owned()]));
    again.send(discovery::DeltaDiscoveryRequest {
        response_nonce: answer.nonce.clone(),
        ..subscribe(Type::Cluster, &[])
    });
    again.until(|| plane.acks(Type::Cluster).len() == 1);
    assert_eq!(plane.acks(Type::Cluster)[0].nonce, answer.nonce);
}

#[test]
fn a_held_kind_is_answered_when_released() {
    let plane = plane_with(Options::default());
    plane.hold(Type::Cluster);
    let mut stream = sotw(&plane);
    stream.send(ask(Type::Cluster, &[], None));
    stream.send(ask(Type::Route, &["r"], None));
    assert_eq!(stream.next().unwrap().type_url, Type::Route.url());
    plane.release(Type::Cluster);
    assert_eq!(stream.next().unwrap().resources.len(), 2);
}

#[test]
fn scripted_answers() {
    let plane = plane_with(Options::default());
    plane.next_answer(Type::Cluster, Answer::EnvelopeOfType("wrong".into()));
    plane.next_answer(Type::Cluster, Answer::Duplicated);
    plane.next_answer(Type::Cluster, Answer::WithoutNonce);
    plane.next_answer(Type::Cluster, Answer::Garbage { seed: 1, len: 9 });
    plane.next_answer(Type::Cluster, Answer::Padded(1 << 20));
    plane.next_answer(Type::Cluster, Answer::Raw(vec![0xff; 3]));
    let mut stream = sotw(&plane);
    stream.send(ask(Type::Cluster, &[], None));
    assert_eq!(stream.next().unwrap().type_url, "wrong");
    plane.resend(Type::Cluster);
    assert_eq!(stream.next().unwrap().resources.len(), 4);
    plane.resend(Type::Cluster);
    assert_eq!(stream.next().unwrap().nonce, "");
    plane.resend(Type::Cluster);
    assert!(stream.next().unwrap().resources.iter().all(|any| any.value.len() == 9));
    plane.resend(Type::Cluster);
    assert!(stream.next().unwrap().resources.iter().all(|any| any.value.len() > 1 << 20));
    plane.resend(Type::Cluster);
    assert!(stream.next().is_err(), "three octets are no response");
    let mut stream = sotw(&plane);
    stream.send(ask(Type::Cluster, &[], None));
    assert!(stream.next().is_ok());
    plane.answer_now(Type::Cluster, Answer::End(Code::ResourceExhausted, "later".into()));
    assert_eq!(stream.next().unwrap_err().code(), Code::ResourceExhausted);
}

#[test]
fn it_dies_and_comes_back_on_its_port() {
    let plane = plane_with(Options::default());
    let mut stream = sotw(&plane);
    stream.send(ask(Type::Cluster, &[], None));
    assert!(stream.next().is_ok());
    plane.stop();
    assert!(stream.next().is_err());
    assert!(std::net::TcpStream::connect(plane.tcp()).is_err());
    plane.restart();
    let mut stream = sotw(&plane);
    stream.send(ask(Type::Cluster, &[], None));
    assert_eq!(stream.next().unwrap().resources.len(), 2);
    plane.transport(Transport::Refuse(Code::Unavailable, "busy".into()));
    let refused = runtime().block_on(async {
        let requests = tokio_stream::pending::<discovery::DiscoveryRequest>();
        connect(&plane).await.stream_aggregated_resources(requests).await.map(|_| ())
    });
    assert_eq!(refused.unwrap_err().message(), "busy");
}

#[test]
fn one_response_at_a_time_when_asked_to_wait() {
    let plane = plane_with(Options { wait_for_ack: true, ..Options::default() });
    let mut stream = sotw(&plane);
    stream.send(ask(Type::Cluster, &[], None));
    let first = stream.next().unwrap();
    plane.remove(Type::Cluster, "a");
    plane.remove(Type::Cluster, "b");
    assert_eq!(plane.responses().len(), 1);
    stream.send(ask(Type::Cluster, &[], Some(&first)));
    assert_eq!(stream.next().unwrap().resources.len(), 0);
    assert_eq!(plane.responses().len(), 2);
}

#[test]
fn a_time_to_live_wraps_resources() {
    let plane = plane_with(Options::default());
    let mut stream = sotw(&plane);
    stream.send(ask(Type::Endpoint, &["a"], None));
    assert!(stream.next().is_ok());
    plane.set(endpoints("a", &[]).with_ttl(Duration::from_secs(1)));
    let wrapped = stream.next().unwrap();
    assert!(wrapped.resources[0].type_url.ends_with("discovery.v3.Resource"));
    plane.heartbeat(Type::Endpoint, "a");
    let beat = stream.next().unwrap();
    assert!(beat.resources[0].value.len() < wrapped.resources[0].value.len());
}
