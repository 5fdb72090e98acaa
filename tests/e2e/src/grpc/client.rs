//! Calls by tonic, and what must come back.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use millrace_support::xds::codec::Raw;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use super::SERVICE;

/// Makes every call against whatever listens there.
///
/// # Panics
/// With everything that was wrong, when anything was.
#[track_caller]
pub fn run(address: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let wrong = runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = endpoint.connect().await.expect("connect to the proxy");
        let mut wrong = Vec::new();
        let limit = Duration::from_secs(20);
        for (name, result) in [
            ("echo", tokio::time::timeout(limit, echo(&channel)).await),
            ("send", tokio::time::timeout(limit, send(&channel)).await),
            ("count", tokio::time::timeout(limit, count(&channel)).await),
            ("ping_pong", tokio::time::timeout(limit, ping_pong(&channel)).await),
            ("statuses", tokio::time::timeout(limit, statuses(&channel)).await),
            ("late", tokio::time::timeout(limit, late(&channel)).await),
            ("metadata", tokio::time::timeout(limit, metadata(&channel)).await),
            ("unknown", tokio::time::timeout(limit, unknown(&channel)).await),
            ("deadline", tokio::time::timeout(limit, deadline(&channel)).await),
            ("cancel", tokio::time::timeout(limit, cancel(&channel)).await),
            ("concurrent", tokio::time::timeout(limit, concurrent(&channel)).await),
        ] {
            match result {
                Ok(Ok(())) => {}
                Ok(Err(what)) => wrong.push(format!("{name}: {what}")),
                Err(_) => wrong.push(format!("{name}: no end within {limit:?}")),
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

type Verdict = Result<(), String>;

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, is: T, wanted: T) -> Verdict {
    if is == wanted { Ok(()) } else { Err(format!("{what} is {is:?}, not {wanted:?}")) }
}

/// Starts a call.
async fn open(
    channel: &Channel,
    method: &str,
    request: Request<impl Stream<Item = Bytes> + Send + 'static>,
) -> Result<Response<Streaming<Bytes>>, Status> {
    let mut grpc =
        Grpc::new(channel.clone()).max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20);
    grpc.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
    let path = PathAndQuery::try_from(format!("{SERVICE}{method}")).expect("a path");
    grpc.streaming(request, path, Raw).await
}

/// A whole call: messages until the status, which is `None` when it is OK.
async fn call(channel: &Channel, method: &str, messages: &[&[u8]]) -> (Vec<Bytes>, Option<Status>) {
    let messages: Vec<Bytes> = messages.iter().map(|m| Bytes::copy_from_slice(m)).collect();
    let mut stream = match open(channel, method, Request::new(tokio_stream::iter(messages))).await {
        Ok(response) => response.into_inner(),
        Err(status) => return (Vec::new(), Some(status)),
    };
    let mut out = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => out.push(message),
            Ok(None) => return (out, None),
            Err(status) => return (out, Some(status)),
        }
    }
}

async fn echo(channel: &Channel) -> Verdict {
    for size in [0, 1, 271_828, 4 << 20] {
        let message = vec![b'm'; size];
        let (back, status) = call(channel, "Echo", &[&message]).await;
        expect("the status", status.map(|s| s.code()), None)?;
        expect("the message", back == [Bytes::from(message)], true)?;
    }
    let (back, status) = call(channel, "Echo", &[]).await;
    expect("an empty stream", (back.len(), status.is_some()), (0, false))
}

async fn send(channel: &Channel) -> Verdict {
    for (count, size) in [(1, 0), (4, 31_415), (1000, 100), (20, 500_000)] {
        let (back, status) = call(channel, "Send", &[format!("{count}:{size}").as_bytes()]).await;
        expect("the status", status.map(|s| s.code()), None)?;
        expect("the sizes", back.iter().map(Bytes::len).collect::<Vec<_>>(), vec![size; count])?;
    }
    Ok(())
}

async fn count(channel: &Channel) -> Verdict {
    let message = [b'm'; 10_007];
    for (times, size) in [(1, 0), (4, 8), (500, 10_007)] {
        let messages = vec![&message[..size]; times];
        let (back, status) = call(channel, "Count", &messages).await;
        expect("the status", status.map(|s| s.code()), None)?;
        expect("the count", back, vec![Bytes::from(format!("{times}:{}", times * size))])?;
    }
    Ok(())
}

async fn ping_pong(channel: &Channel) -> Verdict {
    let (out, receiver) = mpsc::unbounded_channel();
    let request = Request::new(UnboundedReceiverStream::new(receiver));
    let mut stream = open(channel, "Echo", request).await.map_err(|s| s.to_string())?.into_inner();
    for round in 0..50usize {
        let message = Bytes::from(vec![b'p'; round * 700]);
        out.send(message.clone()).map_err(|e| e.to_string())?;
        let back = stream.message().await.map_err(|s| s.to_string())?;
        expect("the message", back == Some(message), true)?;
    }
    drop(out);
    expect("the end", stream.message().await.map_err(|s| s.to_string())?, None)
}

async fn statuses(channel: &Channel) -> Verdict {
    for code in 1..=16 {
        for message in
            ["", "plain", "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n", "100%"]
        {
            let (_, status) = call(channel, "Fail", &[format!("{code}:{message}").as_bytes()]).await;
            let got = status.map(|s| (s.code(), s.message().to_owned()));
            expect("the status", got, Some((Code::from_i32(code), message.to_owned())))?;
        }
    }
    Ok(())
}

async fn late(channel: &Channel) -> Verdict {
    let (back, status) = call(channel, "FailLate", &[b"9:late"]).await;
    expect("messages", back.len(), 2)?;
    expect("the status", status.map(|s| s.code()), Some(Code::FailedPrecondition))
}

async fn metadata(channel: &Channel) -> Verdict {
    let binary = [0u8, 1, 0xab, 0xff, b','];
    let check = |metadata: &MetadataMap| {
        let text: Vec<_> = metadata.get_all("x-echo").iter().filter_map(|v| v.to_str().ok()).collect();
        expect("text", text, vec!["one, two"])?;
        let bytes = metadata.get_bin("x-echo-bin").and_then(|v| v.to_bytes().ok());
        expect("octets", bytes, Some(Bytes::copy_from_slice(&binary)))
    };
    for method in ["Echo", "Fail"] {
        let mut request = Request::new(tokio_stream::iter([Bytes::from_static(b"5:gone")]));
        request.metadata_mut().insert("x-echo", MetadataValue::from_static("one, two"));
        request.metadata_mut().insert_bin("x-echo-bin", MetadataValue::from_bytes(&binary));
        match open(channel, method, request).await {
            Err(status) => check(status.metadata())?,
            Ok(response) => {
                check(response.metadata())?;
                let mut stream = response.into_inner();
                let last = async {
                    while let Some(message) = stream.next().await {
                        message?;
                    }
                    Ok::<_, Status>(())
                };
                let status = last.await.err();
                expect("failure", status.is_some(), method == "Fail")?;
                status.map_or(Ok(()), |s| check(s.metadata()))?;
            }
        }
    }
    Ok(())
}

async fn unknown(channel: &Channel) -> Verdict {
    let (_, status) = call(channel, "Nothing", &[b""]).await;
    expect("the status", status.map(|s| s.code()), Some(Code::Unimplemented))
}

async fn deadline(channel: &Channel) -> Verdict {
    let mut request = Request::new(tokio_stream::iter([Bytes::new()]));
    request.set_timeout(Duration::from_millis(300));
    let started = tokio::time::Instant::now();
    let status = match open(channel, "Sleep", request).await {
        Err(status) => Some(status),
        Ok(response) => response.into_inner().message().await.err(),
    };
    let code = status.map(|s| s.code());
    // tonic itself calls a deadline of its own Cancelled.
    expect("late", matches!(code, Some(Code::DeadlineExceeded | Code::Cancelled)), true)?;
    expect("in time", started.elapsed() < Duration::from_secs(5), true)
}

/// The server of a call that is dropped learns of it, through however many hops.
async fn cancel(channel: &Channel) -> Verdict {
    let cancelled = async || -> usize {
        let (back, _) = call(channel, "Cancelled", &[b""]).await;
        back.first().and_then(|m| String::from_utf8_lossy(m).parse().ok()).unwrap_or(0)
    };
    let before = cancelled().await;
    // hyper resets a stream only when its request is over, too.
    let request = Request::new(tokio_stream::iter([Bytes::new()]));
    let _ = tokio::time::timeout(Duration::from_millis(300), async {
        if let Ok(response) = open(channel, "Sleep", request).await {
            _ = response.into_inner().message().await;
        }
    })
    .await;
    for _ in 0..200 {
        if cancelled().await > before {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("the server did not learn that the call was cancelled".into())
}

async fn concurrent(channel: &Channel) -> Verdict {
    let calls = (0..100usize).map(|n| {
        let channel = channel.clone();
        tokio::spawn(async move {
            let message = vec![b'c'; n * 1000];
            let (back, status) = call(&channel, "Echo", &[&message, &message]).await;
            status.is_none() && back.len() == 2 && back[1] == message
        })
    });
    for handle in calls.collect::<Vec<_>>() {
        expect("an echo", handle.await.unwrap_or(false), true)?;
    }
    Ok(())
}
