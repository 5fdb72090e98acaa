//! The relay on tokio's current-thread runtime.

use runtimes::{BUFFER_BYTES, Ends, Failure, report};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let ends = Ends::from_command_line()?;
    let listener = ends.listener()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (downstream, _) = listener.accept().await?;
        tokio::spawn(async move { report(relay(downstream, ends).await) });
    }
}

async fn relay(mut downstream: TcpStream, ends: Ends) -> std::io::Result<()> {
    downstream.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(ends.upstream).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}
