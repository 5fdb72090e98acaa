//! Control planes that are frozen, slow, endless or babbling.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use millrace_ads::source::Variant;
use millrace_ads::{Client, ClientOptions, Interest, ResourceType};
use millrace_base::Time;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::super::feed::{Context, Step};
use super::super::grpc::{Service, method};
use super::super::grpc_feed::GrpcFeed;
use super::super::told::{FeedKey, Told, What};
use super::server::{clusters, over_tcp};
use super::*;
use crate::dns::SystemResolver;

fn subscribe(service: GrpcService) -> Sources {
    let mut sources = sources();
    sources.add(SOURCE, grpc(service, Variant::Sotw), true);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    sources
}

#[tokio::test]
async fn a_frozen_server_is_noticed_by_the_ping() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut service = service(tcp(listener.local_addr().unwrap()));
    service.target.keepalive = Some((Duration::from_millis(50), Duration::from_millis(50)));
    let mut sources = subscribe(service);
    // Accepted and never looked at again.
    let (frozen, _) = while_driving(&mut sources, listener.accept()).await.unwrap();
    let reason = disconnected(&mut sources).await;
    assert!(reason.contains("closed: 14, ") && reason.contains("keep-alive"), "{reason}");
    // And the next attempt comes.
    while_driving(&mut sources, listener.accept()).await.unwrap();
    drop(frozen);
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut service = service(tcp(listener.local_addr().unwrap()));
    service.target.connect_timeout = Duration::from_millis(100);
    service.target.tls = Some(millrace_ads::source::Tls::default());
    let mut sources = subscribe(service);
    let reason = disconnected(&mut sources).await;
    assert!(
        reason.contains("not opened: 127.0.0.1:") && reason.contains("no connection within 100ms"),
        "{reason}"
    );
}

#[tokio::test]
async fn what_is_no_http2_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sources = subscribe(service(tcp(listener.local_addr().unwrap())));
    let (mut stream, _) = while_driving(&mut sources, listener.accept()).await.unwrap();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let reason = disconnected(&mut sources).await;
    assert!(
        reason.starts_with("StreamAggregatedResources gRPC config stream to xds-grpc closed: "),
        "{reason}"
    );
}

/// Passes bytes on one by one, each in a segment of its own.
async fn drip(from: &mut TcpStream, to: &mut TcpStream) {
    let (mut read, mut give) = from.split();
    let (mut take, mut write) = to.split();
    let forth = async { tokio::io::copy(&mut take, &mut give).await };
    let back = async {
        let mut buffer = [0; 512];
        loop {
            let length = read.read(&mut buffer).await?;
            for byte in &buffer[..length] {
                write.write_all(&[*byte]).await?;
                tokio::task::yield_now().await;
            }
            if length == 0 {
                return std::io::Result::Ok(());
            }
        }
    };
    // The test ends before either does.
    let _ = tokio::join!(forth, back);
}

#[tokio::test]
async fn a_response_that_comes_byte_by_byte_arrives() {
    let (address, mut server) = over_tcp().await;
    let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sources = subscribe(service(tcp(slow.local_addr().unwrap())));
    tokio::spawn(async move {
        let (mut client, _) = slow.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let mut onward = TcpStream::connect(address).await.unwrap();
        drip(&mut onward, &mut client).await;
    });
    let stream = while_driving(&mut sources, server.sotw()).await;
    stream.respond(clusters("1", &["a", "b", "c"])).await;
    assert_eq!(update(&mut sources).await.changed.len(), 3);
}

/// A response that claims 100 MB and goes on for ever; counts what it could send.
async fn endless(sent: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let respond = service_fn(move |request: http::Request<Incoming>| {
        let sent = Arc::clone(&sent);
        async move {
            drop(request);
            let mut head = vec![0];
            head.extend_from_slice(&100_000_000u32.to_be_bytes());
            let chunks = std::iter::once(Bytes::from(head)).chain(std::iter::repeat_with(move || {
                sent.fetch_add(16 << 10, Ordering::Relaxed);
                Bytes::from(vec![0; 16 << 10])
            }));
            let body =
                StreamBody::new(tokio_stream::iter(chunks.map(|c| Ok::<_, Infallible>(Frame::data(c)))));
            http::Response::builder().header("content-type", "application/grpc").body(body)
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), respond.clone()));
        }
    });
    address
}

#[tokio::test]
async fn a_response_of_100_mb_is_refused_at_its_first_bytes() {
    let sent = Arc::new(AtomicUsize::new(0));
    let address = endless(Arc::clone(&sent)).await;
    let mut sources = subscribe(service(tcp(address)));
    let reason = disconnected(&mut sources).await;
    assert!(reason.contains("closed: 11, ") && reason.contains("100000000"), "{reason}");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 16 << 20, "{sent} bytes were taken of a response that is refused");
}

#[tokio::test]
async fn the_limit_can_be_raised_and_lowered() {
    let (address, mut server) = over_tcp().await;
    let mut service = service(tcp(address));
    service.message_bytes_max = Some(200);
    let mut sources = subscribe(service.clone());
    let stream = while_driving(&mut sources, server.sotw()).await;
    let names = ["one-name", "another-name", "a-third-name"];
    stream.respond(clusters("1", &names)).await;
    let reason = disconnected(&mut sources).await;
    assert!(reason.contains("the limit is: 200 bytes"), "{reason}");
    service.message_bytes_max = Some(2000);
    let mut sources = subscribe(service);
    let stream = while_driving(&mut sources, server.sotw()).await;
    stream.respond(clusters("1", &names)).await;
    assert_eq!(update(&mut sources).await.changed.len(), 3);
}

/// A peer that shakes hands on HTTP/2 and takes not one byte of a request: no window for it.
async fn without_window() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let respond = service_fn(|request: http::Request<Incoming>| async move {
                // Held without being read.
                let _unread = request.into_body();
                std::future::pending::<Result<http::Response<String>, Infallible>>().await
            });
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.initial_stream_window_size(0);
            tokio::spawn(server.serve_connection(TokioIo::new(stream), respond));
        }
    });
    address
}

#[tokio::test]
async fn requests_that_nobody_takes_are_bounded_and_the_stream_is_given_up() {
    let resolver = Arc::new(SystemResolver::default());
    let services = vec![Arc::new(Service::new(service(tcp(without_window().await)), resolver))];
    let options = ClientOptions {
        variant: Variant::Sotw,
        node: Node::default(),
        node_on_first_message_only: true,
        services: 1,
        rate_limit: None,
        seed: 1,
    };
    let method = method(None, Variant::Sotw).unwrap();
    let mut feed = GrpcFeed::new(Client::new(options), Variant::Sotw, method, services);
    let (tell, mut told) = mpsc::channel(4);
    let mut context = Context { tell, taken: Arc::default(), last_task: 0 };
    let key = FeedKey(1);
    feed.client.subscribe(ResourceType::Cluster, Interest::Wildcard);
    assert!(matches!(feed.poll(Time(1), key, &mut context), Step::Idle(None)));
    let Some(Told { what: What::Stream(task, opened), .. }) = within(told.recv()).await else {
        panic!("the stream opens")
    };
    feed.handle(Time(1), task, opened);
    // Each name is a new request. They queue up to the bound and no further, and the clock that ends it is ours.
    let mut names = 0;
    let until = loop {
        names += 1;
        assert!(names < 1000, "requests are not bounded");
        feed.client.subscribe(ResourceType::Endpoint, name(&format!("cluster-{names}")));
        tokio::task::yield_now().await;
        match feed.poll(Time(2), key, &mut context) {
            Step::Event(Event::Connected { .. } | Event::State(_)) | Step::Idle(None) => {}
            Step::Blocked(until) => break until,
            Step::Event(other) => panic!("{other:?}"),
            Step::Idle(deadline) => panic!("{deadline:?}"),
        }
    };
    assert!(matches!(feed.poll(until, key, &mut context), Step::Event(Event::Disconnected { reason })
        if reason == "StreamAggregatedResources gRPC config stream to xds-grpc closed: the server takes no requests"));
}

/// A server that sends faster than the loop applies waits: at most one response is decoded and kept.
#[tokio::test]
async fn a_babbling_server_is_held_back() {
    let (address, mut server) = over_tcp().await;
    let mut sources = subscribe(service(tcp(address)));
    let stream = while_driving(&mut sources, server.sotw()).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let names: Vec<String> = (0..2000).map(|number| format!("cluster-{number:0>100}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let response = clusters("1", &names);
    let size = millrace_proto::Message::encoded_len(&response);
    tokio::spawn(async move {
        loop {
            stream.respond(response.clone()).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    update(&mut sources).await;
    // Nobody asks for the next event, though everything else runs until no byte moves any more.
    let mut before = 0;
    let mut still = 0;
    within(async {
        while still < 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = sent.load(Ordering::Relaxed);
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
    })
    .await;
    // The windows of HTTP/2 and of both sockets, and what the server's own queue holds.
    assert!(before * size < 32 << 20, "{before} responses of {size} bytes were taken");
    update_after(&mut sources).await;
}

async fn update_after(sources: &mut Sources) {
    assert!(update(sources).await.broken.is_empty());
}
