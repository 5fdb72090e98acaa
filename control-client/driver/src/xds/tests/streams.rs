//! gRPC streams: both variants, over TCP and UNIX sockets, their headers, their end and the next one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use millrace_ads::source::{ConfigSource, Endpoint, TokenFile, Variant};
use millrace_ads::{ConnectedState, Interest, Rejected, ResourceType, Verdict};
use millrace_config::SourceId;
use millrace_proto::pb::envoy::config::core::v3::ControlPlane;
use millrace_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use tokio::net::UnixListener;
use tonic::Status;
use tonic::transport::Server;

use super::server::{CLUSTER, clusters, delta_clusters, over_tcp, over_tcp_with, over_unix};
use super::*;

#[tokio::test]
async fn the_state_of_the_world_is_asked_for_handed_on_and_acknowledged() {
    let (address, mut server) = over_tcp().await;
    let mut sources = sources();
    sources.add(SOURCE, grpc(service(tcp(address)), Variant::Sotw), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    let mut stream = while_driving(&mut sources, server.sotw()).await;
    let first = while_driving(&mut sources, stream.request()).await.unwrap();
    assert_eq!(first.type_url, CLUSTER);
    assert_eq!(first.node.unwrap().id, "sidecar~10.0.0.1~a.b~b.svc");
    let control_plane = Some(ControlPlane { identifier: "istiod-1".to_owned() });
    stream.respond(DiscoveryResponse { control_plane, ..clusters("1", &["a", "b"]) }).await;
    assert!(
        matches!(event(&mut sources).await, Event::Connected { identifier: Some(id), .. } if id == "istiod-1")
    );
    let got = update(&mut sources).await;
    assert_eq!(got.changed.iter().map(|r| &*r.name).collect::<Vec<_>>(), ["a", "b"]);
    accept(&mut sources, &got);
    let ack = while_driving(&mut sources, stream.request()).await.unwrap();
    assert_eq!((&*ack.version_info, &*ack.response_nonce), ("1", "nonce-1"));
    assert_eq!((ack.node, ack.error_detail), (None, None));
    stream.respond(clusters("2", &["a"])).await;
    let got = update(&mut sources).await;
    assert_eq!(got.removed, ["b".into()]);
    let rejected = vec![Rejected { name: "b".into(), reason: "in use".to_owned() }];
    sources.verdict(SOURCE, got.id, Verdict { rejected });
    let nack = while_driving(&mut sources, stream.request()).await.unwrap();
    assert_eq!((&*nack.version_info, &*nack.response_nonce), ("1", "nonce-2"));
    assert!(nack.error_detail.unwrap().message.contains("in use"));
}

#[tokio::test]
async fn the_incremental_variant_runs_over_a_socket_in_the_file_system() {
    let directory = Directory::new("uds");
    let path = directory.path("XDS");
    let mut server = over_unix(UnixListener::bind(&path).unwrap());
    let mut sources = sources();
    sources.add(SOURCE, grpc(service(Endpoint::Unix(path)), Variant::Delta), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    let mut stream = while_driving(&mut sources, server.delta()).await;
    assert!(while_driving(&mut sources, stream.request()).await.unwrap().node.is_some());
    stream.respond(delta_clusters("1", &["a"])).await;
    let got = update(&mut sources).await;
    accept(&mut sources, &got);
    let ack = while_driving(&mut sources, stream.request()).await.unwrap();
    assert_eq!(ack.response_nonce, "nonce-1");
}

#[tokio::test]
async fn an_at_sign_names_an_abstract_socket() {
    let name = format!("millrace-xds-{}", std::process::id());
    let mut server = over_unix(UnixListener::bind(format!("\0{name}")).unwrap());
    let mut sources = sources();
    let endpoint = Endpoint::Unix(PathBuf::from(format!("@{name}")));
    sources.add(SOURCE, grpc(service(endpoint), Variant::Sotw), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    while_driving(&mut sources, server.sotw()).await;
}

#[tokio::test]
async fn a_stream_that_ends_is_named_and_opened_again() {
    let (address, mut server) = over_tcp().await;
    let mut sources = sources();
    sources.add(SOURCE, grpc(service(tcp(address)), Variant::Sotw), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    let stream = while_driving(&mut sources, server.sotw()).await;
    stream.respond(clusters("1", &["a"])).await;
    let got = update(&mut sources).await;
    accept(&mut sources, &got);
    stream.fail(Status::resource_exhausted("this server has too many xDS streams open")).await;
    let reason = disconnected(&mut sources).await;
    assert_eq!(
        reason,
        "StreamAggregatedResources gRPC config stream to xds-grpc closed: 8, this server has too many xDS streams open"
    );
    assert!(matches!(event(&mut sources).await, Event::State(ConnectedState::None)));
    let mut stream = while_driving(&mut sources, server.sotw()).await;
    let first = while_driving(&mut sources, stream.request()).await.unwrap();
    assert_eq!((&*first.version_info, &*first.response_nonce), ("1", ""));
    assert!(first.node.is_some(), "once for each stream");
    // An orderly end is an end, too.
    drop(stream);
    let reason = disconnected(&mut sources).await;
    assert!(reason.ends_with("closed: 0, OK"), "{reason}");
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut sources = sources();
    let mut service = service(tcp(address));
    service.target.endpoints.push(Endpoint::Unix(PathBuf::from("/nonexistent/XDS")));
    sources.add(SOURCE, grpc(service, Variant::Delta), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    let reason = disconnected(&mut sources).await;
    let start = "DeltaAggregatedResources gRPC config stream to xds-grpc not opened: ";
    assert!(reason.starts_with(start), "{reason}");
    assert!(reason.contains(&format!("{address}: Connection refused")), "{reason}");
    assert!(reason.contains("/nonexistent/XDS: No such file"), "{reason}");
}

#[tokio::test]
async fn the_next_endpoint_is_tried_and_the_failover_service_after_the_primary() {
    let (address, mut server) = over_tcp().await;
    let mut sources = sources();
    let dead = Endpoint::Unix(PathBuf::from("/nonexistent/XDS"));
    let mut failover = service(dead.clone());
    failover.target.endpoints.push(tcp(address));
    let ConfigSource::Grpc(mut config) = grpc(service(dead), Variant::Sotw) else { unreachable!() };
    config.services.push(failover);
    sources.add(SOURCE, ConfigSource::Grpc(config), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    loop {
        match event(&mut sources).await {
            Event::Connected { service, .. } => {
                assert_eq!(service, 1);
                break;
            }
            Event::Disconnected { reason } => assert!(reason.contains("not opened"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    while_driving(&mut sources, server.sotw()).await;
}

#[tokio::test]
async fn headers_are_sent_and_a_token_is_read_again_for_the_next_stream() {
    let (address, mut server) = over_tcp().await;
    let directory = Directory::new("token");
    let path = directory.replace("token", b"first\n");
    let mut service = service(tcp(address));
    service.initial_metadata = vec![
        ("x-consul-token".to_owned(), "abc".to_owned()),
        ("trace-bin".to_owned(), "\u{1}\u{2}".to_owned()),
    ];
    service.token_files =
        vec![TokenFile { path, header: "authorization".to_owned(), prefix: "Bearer ".to_owned() }];
    let mut sources = sources();
    sources.add(SOURCE, grpc(service, Variant::Sotw), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    let stream = while_driving(&mut sources, server.sotw()).await;
    let header = |name: &str| stream.metadata.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("x-consul-token"), "abc");
    assert_eq!(header("authorization"), "Bearer first");
    assert!(header("user-agent").starts_with("millrace/"));
    assert_eq!(&*stream.metadata.get_bin("trace-bin").unwrap().to_bytes().unwrap(), b"\x01\x02");
    directory.replace("token", b"second");
    drop(stream);
    let stream = while_driving(&mut sources, server.sotw()).await;
    assert_eq!(stream.metadata.get("authorization").unwrap(), "Bearer second");
    // Without its token a stream is not opened at all.
    std::fs::remove_file(directory.path("token")).unwrap();
    drop(stream);
    let reason = loop {
        let reason = disconnected(&mut sources).await;
        if !reason.contains("closed: 0") {
            break reason;
        }
    };
    assert!(reason.contains("not opened") && reason.contains("token: No such file"), "{reason}");
}

#[tokio::test]
async fn each_secret_has_its_stream_and_ids_do_not_collide() {
    let (address, mut server) = over_tcp().await;
    let mut sources = sources();
    sources.add(SOURCE, grpc(service(tcp(address)), Variant::Sotw), false);
    for secret in ["default", "ROOTCA"] {
        sources.subscribe(SOURCE, ResourceType::Secret, name(secret));
    }
    let mut streams = Vec::new();
    let mut asked = BTreeSet::new();
    for _ in 0..2 {
        let mut stream = while_driving(&mut sources, server.secrets()).await;
        let request = while_driving(&mut sources, stream.request()).await.unwrap();
        assert_eq!(request.resource_names.len(), 1);
        asked.extend(request.resource_names.clone());
        streams.push((stream, request.resource_names));
    }
    assert_eq!(asked, ["ROOTCA".to_owned(), "default".to_owned()].into());
    for (stream, _) in &streams {
        let type_url = ResourceType::Secret.type_url();
        let response =
            DiscoveryResponse { type_url, version_info: "1".to_owned(), ..DiscoveryResponse::default() };
        stream.respond(response).await;
    }
    let first = update(&mut sources).await;
    let second = update(&mut sources).await;
    assert_ne!(first.id, second.id);
    accept(&mut sources, &second);
    accept(&mut sources, &first);
    // The stream of a name that is no longer wanted is closed, the other one stays.
    sources.unsubscribe(SOURCE, ResourceType::Secret, &name("default"));
    let (gone, kept): (Vec<_>, Vec<_>) = streams.into_iter().partition(|(_, names)| names[0] == "default");
    while_driving(&mut sources, gone[0].0.given_up()).await;
    let (mut stream, _) = kept.into_iter().next().unwrap();
    let ack = while_driving(&mut sources, stream.request()).await.unwrap();
    assert_eq!((ack.resource_names, &*ack.version_info), (vec!["ROOTCA".to_owned()], "1"));
}

#[tokio::test]
async fn a_connection_takes_as_many_streams_as_the_server_allows() {
    let (address, mut server) = over_tcp_with(Server::builder().max_concurrent_streams(2)).await;
    let mut sources = sources();
    sources.add(SOURCE, grpc(service(tcp(address)), Variant::Sotw), false);
    let mut streams = Vec::new();
    for number in 0..5 {
        sources.subscribe(SOURCE, ResourceType::Secret, name(&format!("secret-{number}")));
        let mut stream = while_driving(&mut sources, server.secrets()).await;
        let request = while_driving(&mut sources, stream.request()).await.unwrap();
        assert_eq!(request.resource_names, [format!("secret-{number}")]);
        streams.push(stream);
    }
}

/// Envoy Gateway and istiod retire connections by age: GOAWAY, and the streams that are there may stay for a while.
#[tokio::test]
async fn a_retired_connection_keeps_its_streams_and_gets_no_new_one() {
    let age = Duration::from_millis(50);
    let (address, mut server) = over_tcp_with(Server::builder().max_connection_age(age)).await;
    let mut sources = sources();
    sources.add(SOURCE, grpc(service(tcp(address)), Variant::Sotw), false);
    sources.subscribe(SOURCE, ResourceType::Secret, name("first"));
    let mut first = while_driving(&mut sources, server.secrets()).await;
    assert!(while_driving(&mut sources, first.request()).await.is_some());
    let start = std::time::Instant::now();
    let mut streams = Vec::new();
    while start.elapsed() < age * 4 {
        sources.subscribe(SOURCE, ResourceType::Secret, name(&format!("secret-{}", streams.len())));
        streams.push(while_driving(&mut sources, server.secrets()).await);
    }
    let type_url = ResourceType::Secret.type_url();
    first.respond(DiscoveryResponse { type_url, ..DiscoveryResponse::default() }).await;
    update(&mut sources).await;
}

#[tokio::test]
async fn what_is_not_served_is_said() {
    let (address, _server) = over_tcp().await;
    let mut sources = sources();
    sources.add(SOURCE, grpc(service(tcp(address)), Variant::Delta), false);
    sources.subscribe(SOURCE, ResourceType::Secret, name("default"));
    let reason = disconnected(&mut sources).await;
    assert_eq!(reason, "DeltaSecrets gRPC config stream to xds-grpc closed: 12, as Istio's agent");
    sources.add(SOURCE, grpc(service(tcp(address)), Variant::Sotw), false);
    sources.subscribe(SOURCE, ResourceType::VirtualHost, name("r/v"));
    let Event::Warning(text) = event(&mut sources).await else { panic!("a warning") };
    assert!(text.contains("VirtualHost"), "{text}");
    sources.add(SourceId(7), ConfigSource::Ads, true);
    assert!(matches!(event(&mut sources).await, Event::Warning(_)));
}

#[tokio::test]
async fn dropping_a_pending_wait_loses_nothing() {
    let (address, mut server) = over_tcp().await;
    let mut sources = sources();
    sources.add(SOURCE, grpc(service(tcp(address)), Variant::Sotw), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    let stream = while_driving(&mut sources, server.sotw()).await;
    // Every second poll is given up, as `select!` does when another branch wins.
    stream.respond(clusters("1", &["a"])).await;
    let got = within(async {
        loop {
            let gone = tokio::select! {
                biased;
                event = sources.next() => Some(event),
                () = tokio::task::yield_now() => None,
            };
            if let Some(SourceEvent { event: Event::Update(update), .. }) = gone {
                return update;
            }
        }
    })
    .await;
    assert_eq!(got.changed.len(), 1);
}
