//! The admin listener over real sockets: limits, keep-alive, bodies, socket files.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn local() -> Address {
    Address::Inet("127.0.0.1:0".parse().unwrap())
}

/// Answers every request with what it was.
async fn echo(mut calls: AdminCalls) {
    while let Some(call) = calls.next().await {
        let request = &call.request;
        let body =
            format!("{} {} {}", request.method, request.target, String::from_utf8_lossy(&request.body));
        let headers = vec![("x-peer".to_owned(), request.peer.to_string())];
        call.respond(AdminResponse { status: 200, headers, body: body.into_bytes() });
    }
}

async fn start(limits: Limits) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let server = AdminServer::bind(&local()).unwrap();
    let Address::Inet(address) = *server.address() else { panic!() };
    (address, tokio::spawn(echo(server.start(limits))))
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut out = Vec::new();
    stream.read_to_end(&mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn raw_regular_expressions_arrive_as_sent() {
    block_on(async {
        let (address, _task) = start(Limits::default()).await;
        for target in [
            r"/stats?usedonly&filter=^(cluster_manager\.cds|listener_manager\.lds)\.(update_success)$",
            r"//stats?filter=^listener\..*\.downstream_cx_active$&format=json",
            r"/stats?filter=[a-z]{2,3}+%22~`",
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            let stream = TcpStream::connect(address).await.unwrap();
            let answer = exchange(stream, &request).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\nGET {target} ")), "{answer}");
            assert!(answer.contains("\r\nserver: envoy\r\n") && answer.contains("\r\ndate: "), "{answer}");
        }
    });
}

#[test]
fn connections_stay_open_and_bodies_arrive() {
    block_on(async {
        let (address, _task) = start(Limits::default()).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let two = "POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nk=v\
                   HEAD /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = exchange(stream, two).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert!(answer.contains("POST /a k=v") && answer.ends_with("\r\n\r\n"), "{answer}");
    });
}

#[test]
fn limits_hold() {
    block_on(async {
        let limits =
            Limits { header_timeout: Duration::from_millis(100), body_bytes_max: 4, ..Limits::default() };
        let (address, _task) = start(limits).await;
        let long = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nabcde";
        let answer = exchange(TcpStream::connect(address).await.unwrap(), long).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        let started = Instant::now();
        exchange(TcpStream::connect(address).await.unwrap(), "GET / HT").await;
        assert!(started.elapsed() >= Duration::from_millis(90), "closed by the timeout");
        let huge = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(300_000));
        let answer = exchange(TcpStream::connect(address).await.unwrap(), &huge).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    });
}

#[test]
fn one_connection_waits_for_another_when_all_are_taken() {
    block_on(async {
        let limits = Limits { connections_max: 1, ..Limits::default() };
        let (address, _task) = start(limits).await;
        let held = TcpStream::connect(address).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let second = tokio::spawn(exchange(TcpStream::connect(address).await.unwrap(), request));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!second.is_finished());
        drop(held);
        assert!(second.await.unwrap().starts_with("HTTP/1.1 200 OK"));
    });
}

#[test]
fn an_answer_that_was_given_leaves_before_the_end() {
    block_on(async {
        let server = AdminServer::bind(&local()).unwrap();
        let Address::Inet(address) = *server.address() else { panic!() };
        let mut calls = server.start(Limits::default());
        let idle = TcpStream::connect(address).await.unwrap();
        let request = "POST /quitquitquit HTTP/1.1\r\nhost: x\r\n\r\n";
        let client = tokio::spawn(exchange(TcpStream::connect(address).await.unwrap(), request));
        let call = calls.next().await.unwrap();
        call.respond(AdminResponse { status: 200, headers: Vec::new(), body: b"OK\n".to_vec() });
        let started = Instant::now();
        calls.finish(Duration::from_secs(5)).await;
        assert!(started.elapsed() < Duration::from_secs(4), "an idle connection held up the end");
        assert!(client.await.unwrap().ends_with("OK\n"));
        drop(idle);
        assert!(TcpStream::connect(address).await.is_err());
    });
}

#[test]
fn a_dropped_call_is_503() {
    block_on(async {
        let server = AdminServer::bind(&local()).unwrap();
        let Address::Inet(address) = *server.address() else { panic!() };
        let mut calls = server.start(Limits::default());
        tokio::spawn(async move { drop(calls.next().await) });
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = exchange(TcpStream::connect(address).await.unwrap(), request).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    });
}

#[test]
fn unix_sockets_with_mode_and_without_name() {
    block_on(async {
        let dir = std::env::temp_dir().join(format!("millrace-admin-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a.sock");
        let text: Arc<str> = path.to_str().unwrap().into();
        let request = "GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        // Twice: the second finds the file of the first.
        for mode in [0o600, 0o666] {
            let server = AdminServer::bind(&Address::Pipe { path: Arc::clone(&text), mode }).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            let file = dir.join("address");
            server.write_address_file(file.to_str().unwrap()).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), *text);
            let task = tokio::spawn(echo(server.start(Limits::default())));
            let answer = exchange(UnixStream::connect(&path).await.unwrap(), request).await;
            assert!(answer.contains("\r\nx-peer: @\r\n") && answer.ends_with("GET /ready "), "{answer}");
            task.abort();
        }
        let name: Arc<str> = format!("@millrace-test-{}", std::process::id()).into();
        let server = AdminServer::bind(&Address::Pipe { path: Arc::clone(&name), mode: 0 }).unwrap();
        let _task = tokio::spawn(echo(server.start(Limits::default())));
        let target = std::os::unix::net::SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let stream = std::os::unix::net::UnixStream::connect_addr(&target).unwrap();
        stream.set_nonblocking(true).unwrap();
        let answer = exchange(UnixStream::from_std(stream).unwrap(), request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        std::fs::remove_dir_all(&dir).unwrap();
    });
}
