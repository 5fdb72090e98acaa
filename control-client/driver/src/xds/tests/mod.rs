//! Tests of the transports against servers in this process. What is common: sources, events with a time limit, and
//! discovery services whose streams a test plays by hand.

mod files;
mod health;
mod hostile;
mod loads;
mod rest;
mod server;
mod streams;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millrace_ads::source::{ConfigSource, Endpoint, GrpcService, GrpcSource, Upstream, Variant};
use millrace_ads::{Interest, Update, Verdict};
use millrace_config::SourceId;
use millrace_proto::pb::envoy::config::core::v3::Node;

use super::{Event, SourceEvent, Sources};

const SOURCE: SourceId = SourceId(7);

/// Fails loudly where a test would wait for ever.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("nothing happened for 30 s")
}

fn sources() -> Sources {
    Sources::new(Node { id: "sidecar~10.0.0.1~a.b~b.svc".to_owned(), ..Node::default() }, 1)
}

fn upstream(endpoint: Endpoint) -> Upstream {
    Upstream {
        name: "xds-grpc".to_owned(),
        endpoints: vec![endpoint],
        connect_timeout: Duration::from_secs(5),
        keepalive: None,
        tcp_keepalive: None,
        tls: None,
    }
}

fn tcp(address: SocketAddr) -> Endpoint {
    Endpoint::Inet(address.ip().to_string(), address.port())
}

fn service(endpoint: Endpoint) -> GrpcService {
    GrpcService {
        target: upstream(endpoint),
        initial_metadata: Vec::new(),
        token_files: Vec::new(),
        authority: String::new(),
        message_bytes_max: None,
    }
}

fn grpc(service: GrpcService, variant: Variant) -> ConfigSource {
    ConfigSource::Grpc(GrpcSource {
        variant,
        services: vec![service],
        set_node_on_first_message_only: true,
        rate_limit: None,
    })
}

fn name(text: &str) -> Interest {
    Interest::Name(Arc::from(text))
}

/// The next event of the source under test.
async fn event(sources: &mut Sources) -> Event {
    let event = within(sources.next()).await;
    assert_eq!(event.source, SOURCE);
    event.event
}

/// The next update, passing over news of the connection.
async fn update(sources: &mut Sources) -> Update {
    loop {
        match event(sources).await {
            Event::Update(update) => return update,
            Event::Connected { .. } | Event::State(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The reason of the next lost stream, passing over the rest.
async fn disconnected(sources: &mut Sources) -> String {
    loop {
        if let Event::Disconnected { reason } = event(sources).await {
            return reason;
        }
    }
}

/// Runs the sources until the other side has what it waits for.
async fn while_driving<T>(sources: &mut Sources, future: impl Future<Output = T>) -> T {
    let drive = async {
        loop {
            sources.next().await;
        }
    };
    within(async {
        tokio::select! {
            done = future => done,
            () = drive => unreachable!("sources never end"),
        }
    })
    .await
}

fn accept(sources: &mut Sources, update: &Update) {
    sources.verdict(SOURCE, update.id, Verdict::default());
}

/// A directory of its own for one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-xds-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a file in place by moving it, as everything that writes configuration does.
    fn replace(&self, name: &str, content: &[u8]) -> PathBuf {
        let (fresh, path) = (self.path(".fresh"), self.path(name));
        std::fs::write(&fresh, content).expect("a file");
        std::fs::rename(fresh, &path).expect("a move");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Left-overs in the temporary directory harm nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
