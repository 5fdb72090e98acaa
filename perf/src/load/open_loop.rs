//! Response times at a fixed rate. Requests are due at even intervals whatever became of the earlier ones, and
//! time runs from the moment a request was due, so a proxy that stalls cannot hide how many it would have
//! delayed (no coordinated omission). One thread, epoll. Debian has no generator that does this over HTTP/1.1.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use serde::{Deserialize, Serialize};

use super::Tally;
use crate::result::Latency;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: s0.perf.test\r\n\r\n";
/// Answers may come this long after the last request was due.
const GRACE: Duration = Duration::from_secs(2);
const PERCENTILES: [f64; 14] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];

/// What the process prints, as JSON.
#[derive(Serialize, Deserialize)]
struct Said {
    operations: u64,
    errors: u64,
    latency: Latency,
}

struct Connection {
    /// Nothing once it broke: closing takes it out of epoll.
    stream: Option<TcpStream>,
    /// When the request under way was due.
    due: Option<Instant>,
    received: Vec<u8>,
}

struct Client {
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    times: Histogram<u64>,
    errors: u64,
}

/// Offers `rate` requests a second on `connections` connections for `seconds`, and prints the outcome.
pub(crate) fn run(address: SocketAddr, connections: usize, rate: f64, seconds: f64) -> Result<(), String> {
    if !(rate.is_finite() && rate > 0.0) {
        return Err(format!("a rate of {rate} requests a second"));
    }
    // Timers of the kernel are 50 us late by default; where this is refused, they stay so.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let text = |e: &dyn std::fmt::Display| format!("open loop: {e}");
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| text(&e))?;
    let mut client = Client {
        connections: Vec::with_capacity(connections),
        idle: (0..connections).collect(),
        times: Histogram::new_with_bounds(1_000, 120_000_000_000, 3).map_err(|e| text(&e))?,
        errors: 0,
    };
    for key in 0..connections {
        let stream = TcpStream::connect(address).map_err(|e| text(&e))?;
        stream.set_nodelay(true).map_err(|e| text(&e))?;
        stream.set_nonblocking(true).map_err(|e| text(&e))?;
        let data = epoll::EventData::new_u64(key as u64);
        epoll::add(&poll, &stream, data, epoll::EventFlags::IN).map_err(|e| text(&e))?;
        client.connections.push(Connection {
            stream: Some(stream),
            due: None,
            received: Vec::with_capacity(4096),
        });
    }
    client.offer(&poll, rate, (rate * seconds) as u64).map_err(|e| text(&e))?;
    let said =
        Said { operations: client.times.len(), errors: client.errors, latency: summary(&client.times) };
    println!("{}", serde_json::to_string(&said).map_err(|e| text(&e))?);
    Ok(())
}

impl Client {
    fn offer(&mut self, poll: &rustix::fd::OwnedFd, rate: f64, total: u64) -> std::io::Result<()> {
        let begin = Instant::now();
        let due = |n: u64| begin + Duration::from_secs_f64(n as f64 / rate);
        let end = due(total) + GRACE;
        let (mut next, mut events) = (0, Vec::with_capacity(256));
        loop {
            let now = Instant::now();
            while next < total && due(next) <= now {
                let Some(key) = self.idle.pop_front() else { break };
                self.send(key, due(next));
                next += 1;
            }
            let under_way = self.connections.iter().any(|c| c.due.is_some());
            if (next == total && !under_way) || now >= end {
                break;
            }
            // With no connection to send on, only an answer helps.
            let wake = if next < total && !self.idle.is_empty() { due(next) } else { end };
            let wait = wake.saturating_duration_since(Instant::now());
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            events.clear();
            match epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            for event in &events {
                self.receive(event.data.u64() as usize);
            }
        }
        // What was due and never sent, or sent and never answered, has failed.
        self.errors += (total - next) + self.connections.iter().filter(|c| c.due.is_some()).count() as u64;
        Ok(())
    }

    fn send(&mut self, key: usize, due: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(stream) = &mut connection.stream else { return };
        match stream.write(REQUEST) {
            Ok(n) if n == REQUEST.len() => connection.due = Some(due),
            // A request this small fits an empty socket buffer; a broken connection is not used again.
            _ => self.errors += 1,
        }
    }

    fn receive(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(stream) = &mut connection.stream else { return };
        let mut buffer = [0u8; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => connection.received.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            _ => {
                // Closed under a request: that one failed.
                self.errors += u64::from(connection.due.take().is_some());
                self.idle.retain(|k| *k != key);
                connection.stream = None;
                return;
            }
        }
        let Some(good) = whole(&connection.received) else { return };
        connection.received.clear();
        let Some(due) = connection.due.take() else { return };
        self.idle.push_back(key);
        if good {
            let time = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.times.saturating_record(time);
        } else {
            self.errors += 1;
        }
    }
}

/// The head of a response with a `content-length`.
pub(super) struct Head {
    /// Octets up to the body, and of it.
    pub(super) length: usize,
    pub(super) body: usize,
    /// Its status is 200.
    pub(super) good: bool,
}

/// Nothing while the head is incomplete.
pub(super) fn head_of(received: &[u8]) -> Option<Head> {
    let head = memchr::memmem::find(received, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&received[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    Some(Head { length: head, body: length, good: text.starts_with("HTTP/1.1 200") })
}

/// Nothing while a response is incomplete; else whether its status is 200.
fn whole(received: &[u8]) -> Option<bool> {
    let head = head_of(received)?;
    (received.len() >= head.length + head.body).then_some(head.good)
}

fn summary(times: &Histogram<u64>) -> Latency {
    let us = |percentile: f64| times.value_at_percentile(percentile) as f64 / 1000.0;
    // A percentile that stands for less than one request says nothing.
    let known = |p: f64| p >= 100.0 || times.len() as f64 * (100.0 - p) / 100.0 >= 1.0;
    Latency {
        p50_us: us(50.0),
        p90_us: us(90.0),
        p99_us: us(99.0),
        p999_us: us(99.9),
        max_us: times.max() as f64 / 1000.0,
        curve: PERCENTILES.into_iter().filter(|p| known(*p)).map(|p| (p, us(p))).collect(),
    }
}

/// Reads what `run` printed.
pub(super) fn read(text: &str) -> Option<Tally> {
    let said: Said = serde_json::from_str(text.trim()).ok()?;
    Some(Tally { operations: said.operations as f64, errors: said.errors, latency: Some(said.latency) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn responses_are_told_whole_from_incomplete() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n"), None);
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"), Some(true));
        assert_eq!(whole(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"), Some(false));
    }

    #[test]
    fn a_server_that_stalls_delays_all_that_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut served = 0;
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                served += 1;
                if served == 1 {
                    std::thread::sleep(Duration::from_millis(100));
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        epoll::add(&poll, &stream, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
        let mut client = Client {
            connections: vec![Connection { stream: Some(stream), due: None, received: Vec::new() }],
            idle: VecDeque::from([0]),
            times: Histogram::new_with_bounds(1_000, 120_000_000_000, 3).unwrap(),
            errors: 0,
        };
        // 100 requests in 200 ms: the first answer takes 100 ms, so about 50 of them were due meanwhile.
        client.offer(&poll, 500.0, 100).unwrap();
        drop(client.connections);
        server.join().unwrap();
        assert_eq!((client.times.len(), client.errors), (100, 0));
        assert!(client.times.max() >= 95_000_000, "{}", client.times.max());
        // The server stalled for one request only; a closed loop would report one slow answer.
        let slow = client.times.len() - client.times.count_between(0, 20_000_000);
        assert!(slow >= 20, "{slow} slow answers");
    }
}
