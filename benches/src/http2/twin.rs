//! The same exchanges with the `h2` crate, over a pipe of bytes and without a runtime.

use std::cell::RefCell;
use std::future::Future;
use std::hint::black_box;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use millrace_http::RequestHead;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Recorded, SETTLED, repeat};
use crate::Routine;

/// What one end reads; what it writes is dropped.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Vec<u8>>>);

impl Pipe {
    fn push(&self, bytes: &[u8]) {
        self.0.borrow_mut().extend_from_slice(bytes);
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.0.borrow_mut();
        if waiting.is_empty() {
            return Poll::Pending;
        }
        let len = waiting.len().min(into.remaining());
        into.put_slice(&waiting[..len]);
        waiting.drain(..len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bytes).len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What a future has, which never waits for anything but bytes that are there.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut context()) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("everything that it needs has come"),
    }
}

fn known<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => unreachable!("{error}"),
    }
}

fn fields(head: &millrace_http::HeaderMap) -> HeaderMap {
    let field = |(name, value)| {
        (known(http::HeaderName::from_bytes(name)), known(http::HeaderValue::from_bytes(value)))
    };
    head.iter().map(field).collect()
}

fn response() -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = fields(&super::response().headers);
    response
}

fn request(head: &RequestHead) -> Request<()> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let uri = format!("http://{}{}", text(head.authority()), text(head.path()));
    let mut request = Request::new(());
    *request.uri_mut() = known(uri.parse());
    *request.headers_mut() = fields(&head.headers);
    request
}

/// A server that answers requests from the pipe.
pub(super) fn server() -> Routine {
    let (pipe, mut bytes) = (Pipe::default(), Recorded::new().0);
    pipe.push(&bytes.opening_of_client);
    let mut connection = known(ready(h2::server::Builder::new().handshake::<_, Bytes>(pipe.clone())));
    let answer = response();
    let serve = move |connection: &mut h2::server::Connection<Pipe, Bytes>| {
        while let Poll::Ready(accepted) = connection.poll_accept(&mut context()) {
            let Some(accepted) = accepted else { unreachable!("the pipe never ends") };
            let (request, mut respond) = known(accepted);
            black_box(request);
            known(respond.send_response(black_box(&answer).clone(), true));
        }
    };
    serve(&mut connection);
    repeat(move || {
        pipe.push(bytes.next_request());
        serve(&mut connection);
    })
}

/// A client that gets its responses from the pipe.
pub(super) fn client() -> Routine {
    let (pipe, mut bytes) = (Pipe::default(), Recorded::new().0);
    let (sender, mut connection) = known(ready(h2::client::handshake(pipe.clone())));
    let mut sender: h2::client::SendRequest<Bytes> = sender;
    let head = request(&super::request());
    let mut send = move || {
        let ready = sender.poll_ready(&mut context());
        assert!(ready.is_ready());
        known(sender.send_request(black_box(&head).clone(), true)).0
    };
    let poll = |connection: &mut h2::client::Connection<Pipe, Bytes>| {
        assert!(pin!(connection).poll(&mut context()).is_pending());
    };
    let waiting: Vec<_> = (1..SETTLED).map(|_| send()).collect();
    poll(&mut connection);
    pipe.push(&bytes.opening_of_server);
    poll(&mut connection);
    waiting.into_iter().for_each(|response| drop(known(ready(response))));
    repeat(move || {
        let response = send();
        poll(&mut connection);
        pipe.push(bytes.next_response());
        poll(&mut connection);
        black_box(known(ready(response)));
    })
}
