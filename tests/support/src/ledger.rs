//! A client that keeps books: every request has a unique id and a hashed body, and must be answered
//! exactly once with that id and that hash.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::message::Response;
use crate::raw::{Client, encode, encode_chunked};
use crate::rng::{BodyHash, Rng};
use crate::upstream::{Reply, Upstream};

/// The request and response field that carries the id.
pub const ID: &str = "x-ledger-id";
/// The response field that carries the hash of the body the upstream saw.
pub const HASH: &str = "x-ledger-hash";

/// The load to offer.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of ids, sizes and framing.
    pub seed: u64,
    /// Concurrent connections.
    pub connections: usize,
    /// Requests on each connection at most.
    pub requests: usize,
    /// Requests sent ahead of their responses, at least 1.
    pub pipeline: usize,
    /// Largest body in octets.
    pub max_body: usize,
    /// Stop sending new requests after this time.
    pub time: Duration,
    /// Pause between requests of one connection.
    pub pause: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            connections: 4,
            requests: 50,
            pipeline: 1,
            max_body: 20_000,
            time: Duration::from_secs(20),
            pause: Duration::ZERO,
        }
    }
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The right answer.
    Answered,
    /// An answer with another status.
    Status(u16),
    /// A 200 whose id or body is not this request's.
    Wrong(String),
    /// No answer: the connection ended.
    Lost {
        /// How it ended.
        fault: String,
        /// True when an earlier response on it said `connection: close`, so that the client had no
        /// right to an answer.
        announced: bool,
    },
    /// Never sent, because the connection could not be opened.
    Refused(String),
}

/// The books.
#[derive(Debug, Default)]
pub struct Books {
    /// Outcome by id.
    pub entries: BTreeMap<String, Outcome>,
    /// Times from the last octet of a request to that of its right answer, in no order.
    pub latencies: Vec<Duration>,
}

impl Books {
    /// How many entries satisfy `which`.
    pub fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.entries.values().filter(|o| which(o)).count()
    }

    /// Requests with the right answer.
    pub fn answered(&self) -> usize {
        self.count(|o| *o == Outcome::Answered)
    }

    /// A table of everything that was not answered.
    pub fn exceptions(&self) -> String {
        let mut table = String::new();
        for (id, outcome) in self.entries.iter().filter(|(_, o)| **o != Outcome::Answered) {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{id}  {outcome:?}");
        }
        table
    }

    /// Fails unless every request was answered rightly.
    #[track_caller]
    pub fn assert_all_answered(&self) {
        assert!(!self.entries.is_empty(), "the ledger sent nothing");
        assert_eq!(self.answered(), self.entries.len(), "exceptions:\n{}", self.exceptions());
    }

    /// Fails when a request was lost that the peer had not announced it would not serve, or when any
    /// answer was wrong.
    #[track_caller]
    pub fn assert_nothing_lost(&self) {
        let bad = self.count(|o| {
            !matches!(o, Outcome::Answered | Outcome::Refused(_) | Outcome::Lost { announced: true, .. })
        });
        assert!(self.answered() > 0, "the ledger was never answered:\n{}", self.exceptions());
        assert_eq!(bad, 0, "exceptions:\n{}", self.exceptions());
    }

    /// The latency that this many of a thousand answers did not exceed; zero when there were none.
    pub fn per_mille(&self, share: usize) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = sorted.len().saturating_sub(1) * share / 1000;
        sorted.get(rank).copied().unwrap_or_default()
    }

    /// Fails unless the upstream saw each answered id exactly once, and no id more than once.
    #[track_caller]
    pub fn assert_exactly_once(&self, upstream: &Upstream) {
        self.assert_exactly_once_at(&[upstream]);
    }

    /// As [`Books::assert_exactly_once`], over all upstreams together.
    #[track_caller]
    pub fn assert_exactly_once_at(&self, upstreams: &[&Upstream]) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for request in upstreams.iter().flat_map(|u| u.requests()) {
            *seen.entry(request.fields.get(ID).unwrap_or("?").to_owned()).or_default() += 1;
        }
        for (id, outcome) in &self.entries {
            let times = seen.get(id).copied().unwrap_or(0);
            let expected = if *outcome == Outcome::Answered { 1..=1 } else { 0..=1 };
            assert!(expected.contains(&times), "{id} ({outcome:?}) reached the upstream {times} times");
        }
    }
}

/// The upstream a ledger needs: it answers with the id and the hash of what it received.
pub fn upstream() -> Upstream {
    Upstream::start(|request| {
        let hash = BodyHash::of(&request.body).hex();
        let id = request.fields.get(ID).unwrap_or("").to_owned();
        let fields = [(ID, id.as_str()), (HASH, hash.as_str())];
        if request.body.len().is_multiple_of(2) {
            Reply::with(200, &fields, &request.body)
        } else {
            let (one, two) = request.body.split_at(request.body.len() / 2);
            let pieces: Vec<&[u8]> = [one, two].into_iter().filter(|p| !p.is_empty()).collect();
            Reply::chunked(&fields, &pieces, &[])
        }
    })
}

/// A ledger that is running.
pub struct Running {
    stop: Arc<AtomicBool>,
    books: Arc<Mutex<Books>>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts the plan against a proxy.
    pub fn start(target: SocketAddr, plan: &Plan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let books = Arc::new(Mutex::new(Books::default()));
        let threads = (0..plan.connections)
            .map(|n| {
                let (stop, books, plan) = (Arc::clone(&stop), Arc::clone(&books), plan.clone());
                std::thread::spawn(move || {
                    let mine = connection(target, &plan, n, &stop);
                    let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
                    books.entries.extend(mine.entries);
                    books.latencies.extend(mine.latencies);
                })
            })
            .collect();
        Self { stop, books, threads }
    }

    /// Tells every connection to finish what is in flight and send no more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Waits for the end and closes the books.
    pub fn finish(self) -> Books {
        for thread in self.threads {
            assert!(thread.join().is_ok(), "a ledger thread panicked");
        }
        std::mem::take(&mut *self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs a plan to its end.
pub fn run(target: SocketAddr, plan: &Plan) -> Books {
    Running::start(target, plan).finish()
}

struct Pending {
    id: String,
    hash: String,
    sent: Instant,
}

fn connection(target: SocketAddr, plan: &Plan, number: usize, stop: &AtomicBool) -> Books {
    let mut rng = Rng::new(plan.seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
    let mut done = Books::default();
    let mut client = match Client::try_connect(target) {
        Ok(client) => client,
        Err(e) => {
            done.entries.insert(format!("{number}-0"), Outcome::Refused(e.to_string()));
            return done;
        }
    };
    let deadline = Instant::now() + plan.time;
    let mut pending = VecDeque::new();
    let mut sent = 0;
    loop {
        let more = sent < plan.requests && Instant::now() < deadline && !stop.load(Ordering::SeqCst);
        if more && pending.len() < plan.pipeline.max(1) {
            let (entry, bytes) = next_request(&mut rng, plan, format!("{number}-{sent}"));
            client.send(&bytes);
            pending.push_back(Pending { sent: Instant::now(), ..entry });
            sent += 1;
            continue;
        }
        let Some(entry) = pending.pop_front() else { return done };
        match client.response("POST") {
            Ok(response) => {
                let closes = response.closes();
                let outcome = judge(&entry, &response);
                if outcome == Outcome::Answered {
                    done.latencies.push(entry.sent.elapsed());
                }
                done.entries.insert(entry.id, outcome);
                if closes {
                    done.entries.extend(pending.drain(..).map(|e| (e.id, lost("closed as announced", true))));
                    return done;
                }
            }
            Err(fault) => {
                pending.push_front(entry);
                done.entries.extend(pending.drain(..).map(|e| (e.id, lost(&fault.to_string(), false))));
                return done;
            }
        }
        std::thread::sleep(plan.pause);
    }
}

fn lost(fault: &str, announced: bool) -> Outcome {
    Outcome::Lost { fault: fault.to_owned(), announced }
}

fn next_request(rng: &mut Rng, plan: &Plan, id: String) -> (Pending, Vec<u8>) {
    let len = if rng.one_in(4) { 0 } else { rng.between(1, plan.max_body.max(1) as u64) };
    let body = rng.bytes(usize::try_from(len).unwrap_or(0));
    let hash = BodyHash::of(&body).hex();
    let fields = [("host", "ledger.test"), (ID, id.as_str())];
    let bytes = if rng.one_in(2) {
        encode("POST", "/ledger", &fields, &body)
    } else {
        let size = usize::try_from(rng.between(1, 9000)).unwrap_or(1);
        encode_chunked("POST", "/ledger", &fields, &body.chunks(size).collect::<Vec<_>>(), &[])
    };
    (Pending { id, hash, sent: Instant::now() }, bytes)
}

fn judge(entry: &Pending, response: &Response) -> Outcome {
    if response.status != 200 {
        return Outcome::Status(response.status);
    }
    let body = BodyHash::of(&response.body).hex();
    let right =
        response.get(ID) == Some(&entry.id) && response.get(HASH) == Some(&entry.hash) && body == entry.hash;
    if right {
        Outcome::Answered
    } else {
        Outcome::Wrong(format!("{:?}, body {body}, sent {}", response.fields, entry.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_balance_without_a_proxy() {
        let upstream = upstream();
        let books = run(upstream.address(), &Plan { requests: 20, ..Plan::default() });
        books.assert_all_answered();
        books.assert_exactly_once(&upstream);
        assert_eq!(books.entries.len(), 80);
        upstream.assert_strict();
    }

    #[test]
    fn a_wrong_body_is_noticed() {
        let upstream = Upstream::start(|request| {
            let id = request.fields.get(ID).unwrap_or("").to_owned();
            Reply::with(200, &[(ID, &id), (HASH, "0")], b"another body")
        });
        let books = run(upstream.address(), &Plan { connections: 1, requests: 2, ..Plan::default() });
        assert_eq!(books.count(|o| matches!(o, Outcome::Wrong(_))), 2);
    }

    #[test]
    fn a_reset_is_a_loss() {
        let upstream = Upstream::start(|_| Reply::reset());
        let books = run(upstream.address(), &Plan { connections: 1, ..Plan::default() });
        assert_eq!(books.count(|o| matches!(o, Outcome::Lost { announced: false, .. })), 1);
    }
}
