//! The relay on glommio.

use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use runtimes::{BUFFER_BYTES, Ends, Failure, report};

/// Registered memory and entries of each of its three rings, below the 8 MiB that may be locked by default.
const IO_MEMORY: usize = 1 << 20;
const RING_DEPTH: usize = 256;

fn main() -> Result<(), Failure> {
    let ends = Ends::from_command_line()?;
    // Whoever measures pins the process.
    let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(IO_MEMORY).ring_depth(RING_DEPTH);
    let executor = builder.make().map_err(|e| format!("glommio: {e}"))?;
    executor.run(async move {
        // Its own socket, with its fixed backlog of 1024: it takes no other.
        let listener = TcpListener::bind(ends.listen).map_err(|e| e.to_string())?;
        loop {
            let downstream = listener.accept().await.map_err(|e| e.to_string())?;
            glommio::spawn_local(async move { report(relay(downstream, ends).await) }).detach();
        }
    })
}

async fn relay(downstream: TcpStream, ends: Ends) -> std::io::Result<()> {
    downstream.set_nodelay(true)?;
    let upstream = TcpStream::connect(ends.upstream).await?;
    upstream.set_nodelay(true)?;
    let (from_downstream, to_downstream) = futures_lite::io::split(downstream);
    let (from_upstream, to_upstream) = futures_lite::io::split(upstream);
    let back = glommio::spawn_local(copy(from_upstream, to_downstream));
    copy(from_downstream, to_upstream).await?;
    back.await
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.close().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}
