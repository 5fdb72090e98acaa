//! A TCP proxy that misbehaves on purpose and reproducibly: each direction of each connection follows
//! a plan drawn from a seed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::rng::Rng;
use crate::wire::reset;

/// What happens to the bytes of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Wait this long before each piece.
    pub delay: Duration,
    /// Pass pieces of 1 to this many octets; 0 passes what arrives.
    pub slice: usize,
    /// At this offset, do this.
    pub fault: Option<(u64, Fault)>,
}

/// A fault at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// RST both ways.
    Reset,
    /// FIN in this direction only.
    HalfClose,
    /// Swallow everything from here on.
    Blackhole,
    /// Flip one bit of this octet.
    Corrupt,
}

type Draw = dyn Fn(&mut Rng, usize) -> (Plan, Plan) + Send + Sync;

/// The proxy; stops accepting when dropped.
pub struct Chaos {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Chaos {
    /// Forwards to `target`. `draw` gets the connection's own generator and number, and gives the
    /// plans towards the target and back.
    pub fn start(
        target: SocketAddr,
        seed: u64,
        draw: impl Fn(&mut Rng, usize) -> (Plan, Plan) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind an ephemeral port");
        let address = listener.local_addr().expect("address of a bound socket");
        let (stop, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count, draw) =
            (Arc::clone(&stop), Arc::clone(&connections), Arc::new(draw) as Arc<Draw>);
        std::thread::spawn(move || {
            while let Some(client) = crate::accept::next(&listener) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let number = count.fetch_add(1, Ordering::SeqCst);
                let mut rng = Rng::new(seed.wrapping_add(number as u64));
                let plans = draw(&mut rng, number);
                std::thread::spawn(move || connect(client, target, plans, rng));
            }
        });
        Self { address, stop, connections }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; when this fails the listener is already gone.
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(client: TcpStream, target: SocketAddr, plans: (Plan, Plan), mut rng: Rng) {
    let Ok(server) = TcpStream::connect(target) else { return reset(&client) };
    for stream in [&client, &server] {
        // Only the timing of small pieces depends on these.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    }
    let back = (server.try_clone(), client.try_clone());
    let (there, mut there_rng) = (plans.0, Rng::new(rng.word()));
    let dead = Arc::new(AtomicBool::new(false));
    let also_dead = Arc::clone(&dead);
    let forward = std::thread::spawn(move || pump(client, server, &there, &mut there_rng, &also_dead));
    if let (Ok(server), Ok(client)) = back {
        pump(server, client, &plans.1, &mut rng, &dead);
    }
    // A panicking pump has printed its reason.
    let _ = forward.join();
}

/// `dead` tells the other direction that the end it sees is a reset: it must not say FIN first.
fn pump(mut from: TcpStream, mut to: TcpStream, plan: &Plan, rng: &mut Rng, dead: &AtomicBool) {
    let mut buffer = vec![0u8; 16 * 1024];
    let (mut offset, mut fault) = (0u64, plan.fault);
    loop {
        let want = if plan.slice == 0 { buffer.len() } else { 1 + rng.word() as usize % plan.slice };
        let n = match from.read(&mut buffer[..want]) {
            Ok(0) => {
                if !dead.load(Ordering::SeqCst) {
                    let _ = to.shutdown(Shutdown::Write);
                }
                return;
            }
            Ok(n) => n,
            Err(_) => return,
        };
        std::thread::sleep(plan.delay);
        let mut piece = n;
        if let Some((at, kind)) = fault.filter(|(at, _)| *at < offset + n as u64) {
            let here = usize::try_from(at.saturating_sub(offset)).unwrap_or(0);
            if kind == Fault::Corrupt {
                buffer[here] ^= 1;
                fault = None;
            } else {
                piece = here;
            }
        }
        if to.write_all(&buffer[..piece]).is_err() {
            return;
        }
        offset += n as u64;
        match fault.filter(|_| piece < n).map(|(_, kind)| kind) {
            None => {}
            Some(Fault::Blackhole | Fault::Corrupt) => return swallow(from),
            Some(Fault::HalfClose) => {
                let _ = to.shutdown(Shutdown::Write);
                return swallow(from);
            }
            Some(Fault::Reset) => {
                reset(&from);
                reset(&to);
                dead.store(true, Ordering::SeqCst);
                // Wakes the other direction, whose clones keep both sockets open; sends nothing.
                let _ = from.shutdown(Shutdown::Read);
                let _ = to.shutdown(Shutdown::Read);
                return;
            }
        }
    }
}

fn swallow(mut from: TcpStream) {
    let mut buffer = [0u8; 4096];
    while matches!(from.read(&mut buffer), Ok(n) if n > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::{Client, End};
    use crate::upstream::{Reply, Upstream};

    fn back(plan: Plan) -> impl Fn(&mut Rng, usize) -> (Plan, Plan) + Send + Sync + 'static {
        move |_, _| (Plan::default(), plan.clone())
    }

    #[test]
    fn slices_change_nothing_but_the_timing() {
        let upstream = Upstream::echo();
        let both = Plan { slice: 3, ..Plan::default() };
        let chaos = Chaos::start(upstream.address(), 1, move |_, _| (both.clone(), both.clone()));
        let body = Rng::new(1).bytes(2000);
        assert_eq!(Client::connect(chaos.address()).exchange("POST", "/", &[], &body).body, body);
    }

    #[test]
    fn faults_strike_at_their_offset() {
        let upstream = Upstream::start(|_| Reply::raw("0123456789"));
        let run = |fault| {
            let plan = Plan { fault: Some((4, fault)), ..Plan::default() };
            let chaos = Chaos::start(upstream.address(), 1, back(plan));
            let mut client = Client::connect(chaos.address());
            client.request("GET", "/", &[("host", "a")], b"");
            client.end_within(Duration::from_millis(300))
        };
        assert_eq!(run(Fault::HalfClose), End::Closed(b"0123".to_vec()));
        assert_eq!(run(Fault::Blackhole), End::Open);
        assert_eq!(run(Fault::Reset), End::Reset);
    }
}
