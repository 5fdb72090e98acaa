//! The relay on tokio-uring.

use std::net::Shutdown;
use std::rc::Rc;

use runtimes::{BUFFER_BYTES, Ends, Failure, report};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

fn main() -> Result<(), Failure> {
    let ends = Ends::from_command_line()?;
    let listener = ends.listener()?;
    tokio_uring::start(async move {
        let listener = TcpListener::from_std(listener);
        loop {
            let (downstream, _) = listener.accept().await?;
            tokio_uring::spawn(async move { report(relay(downstream, ends).await) });
        }
    })
}

async fn relay(downstream: TcpStream, ends: Ends) -> std::io::Result<()> {
    downstream.set_nodelay(true)?;
    let upstream = TcpStream::connect(ends.upstream).await?;
    upstream.set_nodelay(true)?;
    let (downstream, upstream) = (Rc::new(downstream), Rc::new(upstream));
    let back = tokio_uring::spawn(copy(Rc::clone(&upstream), Rc::clone(&downstream)));
    let there = copy(downstream, upstream).await;
    let back = back.await?;
    there.and(back)
}

/// One direction. When it fails, the other would wait for ever: both sockets are shut.
async fn copy(from: Rc<TcpStream>, to: Rc<TcpStream>) -> std::io::Result<()> {
    let result = until_end(&from, &to).await;
    if result.is_err() {
        for stream in [from, to] {
            // Whoever left already needs none.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    result
}

async fn until_end(from: &TcpStream, to: &TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (read, filled) = from.read(buffer).await;
        let length = read?;
        if length == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let (written, part) = to.write_all(filled.slice(..length)).await;
        written?;
        buffer = part.into_inner();
    }
}
