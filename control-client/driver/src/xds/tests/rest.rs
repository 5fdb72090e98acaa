//! REST: what is asked, "not modified", failures, and a server that does not answer.

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use millrace_ads::source::{ConfigSource, RestSource};
use millrace_ads::{Interest, ResourceType};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::*;

/// One request, with the way to answer it.
struct Asked {
    head: http::request::Parts,
    body: serde_json::Value,
    answer: oneshot::Sender<http::Response<Full<Bytes>>>,
}

async fn server() -> (SocketAddr, mpsc::Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (give, asked) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let give = give.clone();
            let respond = service_fn(move |request: http::Request<Incoming>| {
                let give = give.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let (answer, answered) = oneshot::channel();
                    let body = serde_json::from_slice(&body).unwrap();
                    assert!(give.send(Asked { head, body, answer }).await.is_ok());
                    // A test that drops the question never answers it.
                    Ok::<_, hyper::Error>(match answered.await {
                        Ok(response) => response,
                        Err(_) => std::future::pending().await,
                    })
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), respond));
        }
    });
    (address, asked)
}

fn answer(status: u16, body: &str) -> http::Response<Full<Bytes>> {
    http::Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

fn start(address: SocketAddr, request_timeout: Duration) -> Sources {
    let mut sources = sources();
    let source = RestSource {
        target: upstream(tcp(address)),
        authority: "rest_xds_cluster".to_owned(),
        refresh_delay: Duration::from_millis(1),
        request_timeout,
    };
    sources.add(SOURCE, ConfigSource::Rest(source), false);
    sources.subscribe(SOURCE, ResourceType::Cluster, Interest::Wildcard);
    sources
}

const CLUSTERS: &str = r#"{"version_info": "abc", "resources":
    [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a", "connectTimeout": "1s"}]}"#;

#[tokio::test]
async fn a_type_is_polled_with_the_version_that_was_accepted() {
    let (address, mut asked) = server().await;
    let mut sources = start(address, Duration::from_secs(20));
    let first = while_driving(&mut sources, asked.recv()).await.unwrap();
    assert_eq!((first.head.method.as_str(), first.head.uri.path()), ("POST", "/v3/discovery:clusters"));
    assert_eq!(first.head.headers["content-type"], "application/json");
    assert_eq!(first.head.headers["host"], "rest_xds_cluster");
    assert_eq!(first.body["node"]["id"], "sidecar~10.0.0.1~a.b~b.svc");
    assert_eq!(first.body["type_url"], "type.googleapis.com/envoy.config.cluster.v3.Cluster");
    first.answer.send(answer(200, CLUSTERS)).unwrap();
    let got = update(&mut sources).await;
    assert_eq!((&*got.version, got.changed.len()), ("abc", 1));
    accept(&mut sources, &got);
    // Nothing new: no event, and the next poll.
    for _ in 0..3 {
        let next = while_driving(&mut sources, asked.recv()).await.unwrap();
        assert_eq!(next.body["version_info"], "abc");
        next.answer.send(answer(304, "")).unwrap();
    }
    let next = while_driving(&mut sources, asked.recv()).await.unwrap();
    next.answer.send(answer(200, &CLUSTERS.replace("abc", "def").replace("\"a\"", "\"b\""))).unwrap();
    let got = update(&mut sources).await;
    assert_eq!((&*got.version, &*got.removed), ("def", &["a".into()][..]));
}

#[tokio::test]
async fn a_failed_poll_is_told_and_repeated() {
    let (address, mut asked) = server().await;
    let mut sources = start(address, Duration::from_secs(20));
    for (status, body, wanted) in [
        (500, "", "POST /v3/discovery:clusters to xds-grpc: status 500 Internal Server Error"),
        (200, "{", "POST /v3/discovery:clusters to xds-grpc: "),
        (200, r#"{"resource": []}"#, "no such field: 'resource'"),
    ] {
        let question = while_driving(&mut sources, asked.recv()).await.unwrap();
        question.answer.send(answer(status, body)).unwrap();
        let Event::Failed { resource_type, reason } = event(&mut sources).await else { panic!("a failure") };
        assert_eq!(resource_type, ResourceType::Cluster);
        assert!(reason.contains(wanted), "{reason}");
    }
    let question = while_driving(&mut sources, asked.recv()).await.unwrap();
    question.answer.send(answer(200, CLUSTERS)).unwrap();
    assert_eq!(update(&mut sources).await.changed.len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let (address, mut asked) = server().await;
    let mut sources = start(address, Duration::from_millis(200));
    drop(while_driving(&mut sources, asked.recv()).await.unwrap());
    let Event::Failed { reason, .. } = event(&mut sources).await else { panic!("a failure") };
    assert!(reason.ends_with("no response within 200ms"), "{reason}");
    while_driving(&mut sources, asked.recv()).await.unwrap();
}
