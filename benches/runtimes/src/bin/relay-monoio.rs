//! The relay on monoio's io_uring driver.

use monoio::IoUringDriver;
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use runtimes::{BUFFER_BYTES, Ends, Failure, report};

fn main() -> Result<(), Failure> {
    let ends = Ends::from_command_line()?;
    let listener = ends.listener()?;
    let mut runtime = monoio::RuntimeBuilder::<IoUringDriver>::new().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (downstream, _) = listener.accept().await?;
            monoio::spawn(async move { report(relay(downstream, ends).await) });
        }
    })
}

async fn relay(downstream: TcpStream, ends: Ends) -> std::io::Result<()> {
    downstream.set_nodelay(true)?;
    let upstream = TcpStream::connect_addr(ends.upstream).await?;
    upstream.set_nodelay(true)?;
    let (from_downstream, to_downstream) = downstream.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    let back = monoio::spawn(copy(from_upstream, to_downstream));
    copy(from_downstream, to_upstream).await?;
    back.await
}

async fn copy(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRent) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (read, filled) = from.read(buffer).await;
        let length = read?;
        if length == 0 {
            return to.shutdown().await;
        }
        let (written, part) = to.write_all(filled.slice_mut(..length)).await;
        written?;
        buffer = part.into_inner();
    }
}
