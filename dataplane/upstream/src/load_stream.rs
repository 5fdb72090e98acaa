//! Load that an endpoint reports on a stream of its own (`xds.service.orca.v3.OpenRcaService/StreamCoreMetrics`).
//!
//! A [`LoadStream`] is what is said on one connection: bytes in, bytes out. The shard that an endpoint is assigned to drives
//! it (`shard/src/load_reports`) and writes the weights that follow into the cluster's [`LoadBook`], which the balancers of
//! all shards read when they weigh.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_base::Time;
use millrace_config::{Address, ClientSideWeights, Cluster, LbPolicy};
use millrace_http::h2::Heads;
use millrace_http::{HeaderId, HeaderMap, RequestHead, ResponseHead};

use crate::health_check::{Failure, FailureKind, Heard, Reply, Verdict, Wire};
use crate::orca::LoadReport;
use crate::weighing::Reported;

/// The longest report.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Flags and length in front of a message.
const PREFIX: usize = 5;
/// `UNIMPLEMENTED`.
const UNIMPLEMENTED: &[u8] = b"12";

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// Another one may do better.
    Failed,
    /// The endpoint does not know the service.
    Unimplemented,
}

/// What came of received bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Reports that came.
    pub reports: u32,
    /// Of these, those that no weight follows from.
    pub errors: u32,
    /// What follows from the last one that says something.
    pub weight: Option<u32>,
    /// The connection is of no use any more.
    pub end: Option<StreamEnd>,
}

/// One connection.
#[derive(Debug)]
pub struct LoadStream {
    wire: Wire,
    /// The begin of a report whose end has not come.
    message: Vec<u8>,
}

impl LoadStream {
    /// For a connection that is about to be opened.
    pub fn new(cluster: &Cluster, now: Time) -> Self {
        Self { wire: Wire::new(cluster, now), message: Vec::new() }
    }

    /// Asks for reports; false when the endpoint takes no request.
    pub fn begin(&mut self, request: &RequestHead, period: Duration, out: &mut Vec<u8>) -> bool {
        self.wire.send(request, &request_message(period), out)
    }

    /// Takes what the endpoint sent; what the protocol asks for is appended to `out`.
    pub fn receive(&mut self, cluster: &Cluster, bytes: &[u8], now: Time, out: &mut Vec<u8>) -> Received {
        let Self { wire, message } = self;
        let mut received = Received::default();
        let weigh = |report: &LoadReport| weight(report, cluster);
        let reply = wire.receive(bytes, now, out, |heard, heads| {
            received.end = received.end.or_else(|| take(heard, heads, message, &weigh, &mut received));
            // Whatever ends it, the connection is not used again.
            received.end.map(|_| Reply {
                verdict: Some(Verdict::Failed(Failure::of(FailureKind::Active))),
                ..Reply::default()
            })
        });
        let lost = reply.verdict.is_some() || reply.close;
        // An endpoint that says goodbye may finish what it says, and is asked anew then.
        let left = wire.leaving && received.reports > 0;
        received.end = received.end.or((lost || left).then_some(StreamEnd::Failed));
        received
    }
}

/// A part of the answer; says how the stream ended if it did.
fn take(
    heard: Heard,
    heads: &Heads,
    message: &mut Vec<u8>,
    weigh: &dyn Fn(&LoadReport) -> Option<u32>,
    received: &mut Received,
) -> Option<StreamEnd> {
    match heard {
        Heard::Head { end } => head(&heads.response, end),
        Heard::Trailers => Some(status(&heads.trailers)),
        Heard::Data { bytes, end } => {
            message.extend_from_slice(&bytes);
            let whole = reports(message, weigh, received);
            (end || whole.is_none()).then_some(StreamEnd::Failed)
        }
    }
}

/// A head that ends the call, or is none of gRPC.
fn head(head: &ResponseHead, end: bool) -> Option<StreamEnd> {
    if end && head.headers.contains(HeaderId::GrpcStatus) {
        return Some(status(&head.headers));
    }
    let kind = head.headers.get(HeaderId::ContentType).unwrap_or_default();
    let is_grpc = kind == b"application/grpc" || kind.starts_with(b"application/grpc+");
    match head.status {
        200 if is_grpc && !end => None,
        404 => Some(StreamEnd::Unimplemented),
        _ => Some(StreamEnd::Failed),
    }
}

fn status(trailers: &HeaderMap) -> StreamEnd {
    match trailers.get(HeaderId::GrpcStatus) {
        Some(UNIMPLEMENTED) => StreamEnd::Unimplemented,
        _ => StreamEnd::Failed,
    }
}

/// Takes the reports that are whole out of what has come; `None` for what is no report.
fn reports(
    come: &mut Vec<u8>,
    weigh: &dyn Fn(&LoadReport) -> Option<u32>,
    received: &mut Received,
) -> Option<()> {
    let mut rest = &come[..];
    while let Some((prefix, after)) = rest.split_first_chunk::<PREFIX>() {
        let [flags, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        if flags != 0 || length > MESSAGE_BYTES_MAX {
            return None;
        }
        let Some((report, next)) = after.split_at_checked(length) else { break };
        rest = next;
        // An empty message is no report, in Envoy too.
        if !report.is_empty() {
            let weight = weigh(&LoadReport::from_message(report).ok()?);
            received.reports += 1;
            received.errors += u32::from(weight.is_none());
            received.weight = weight.or(received.weight);
        }
    }
    let taken = come.len() - rest.len();
    come.drain(..taken);
    Some(())
}

fn weight(report: &LoadReport, cluster: &Cluster) -> Option<u32> {
    match &cluster.lb_policy {
        LbPolicy::ClientSideWeightedRoundRobin(weights) => {
            report.weight(&cluster.balancing.utilization_metrics, weights.error_penalty)
        }
        _ => None,
    }
}

/// `OrcaLoadReportRequest { report_interval }` behind its prefix.
fn request_message(period: Duration) -> Vec<u8> {
    let mut interval = Vec::new();
    let mut number = |key: u8, mut value: u64| {
        if value == 0 {
            return;
        }
        interval.push(key);
        while value >= 0x80 {
            interval.push(value as u8 | 0x80);
            value >>= 7;
        }
        interval.push(value as u8);
    };
    number(0x08, period.as_secs());
    // Milliseconds, as Envoy counts.
    number(0x10, u64::from(period.subsec_millis()) * 1_000_000);
    // Two numbers of ten octets at most.
    let length = interval.len() as u8;
    let mut message = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    message.extend_from_slice(&interval);
    message
}

/// What endpoints reported last on their streams, for the balancers of all shards.
#[derive(Debug, Default)]
pub struct LoadBook(Mutex<BTreeMap<Address, Reported>>);

impl LoadBook {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Reported>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint reported.
    pub fn report(&self, address: &Address, weight: u32, cluster: &Cluster, now: Time) {
        if let LbPolicy::ClientSideWeightedRoundRobin(weights) = &cluster.lb_policy {
            self.note(address, weight, weights, now);
        }
    }

    fn note(&self, address: &Address, weight: u32, weights: &ClientSideWeights, now: Time) {
        let mut book = self.lock();
        match book.get_mut(address).filter(|known| !known.is_expired(weights, now)) {
            Some(known) => known.again(weight, now),
            None => {
                book.insert(address.clone(), Reported::first(weight, now));
            }
        }
    }

    /// The weight of what an endpoint reported last, for tests.
    #[doc(hidden)]
    pub fn last(&self, address: &Address) -> Option<u32> {
        self.lock().get(address).map(|reported| reported.last_weight())
    }

    /// The endpoint is asked no more.
    pub fn forget(&self, address: &Address) {
        self.lock().remove(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weigh(report: &LoadReport) -> Option<u32> {
        report.weight(&[], 0.0)
    }

    /// cpu 0.5, and so many requests a second.
    fn report(rps: f64) -> Vec<u8> {
        let message = [&[0x09][..], &0.5_f64.to_le_bytes(), &[0x31], &rps.to_le_bytes()].concat();
        [&[0, 0, 0, 0, message.len() as u8][..], &message].concat()
    }

    #[test]
    fn requests_are_messages_of_grpc() {
        assert_eq!(request_message(Duration::from_secs(10)), [0, 0, 0, 0, 4, 0x0a, 2, 8, 10]);
        let both = [0, 0, 0, 0, 10, 0x0a, 8, 8, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 1];
        assert_eq!(request_message(Duration::from_micros(1_500_999)), both, "whole milliseconds");
        let long = request_message(Duration::MAX);
        assert_eq!((long[4] as usize, long[6] as usize), (long.len() - 5, long.len() - 7));
    }

    #[test]
    fn reports_are_found_however_they_are_cut() {
        let stream = [report(100.0), vec![0; 5], report(0.0), report(50.0)].concat();
        for cut in 0..stream.len() {
            let (mut come, mut received) = (Vec::new(), Received::default());
            for part in [&stream[..cut], &stream[cut..]] {
                come.extend_from_slice(part);
                reports(&mut come, &weigh, &mut received).expect("reports");
            }
            let expected = Received { reports: 3, errors: 1, weight: Some(100), end: None };
            assert_eq!((received, come.len()), (expected, 0), "{cut}");
        }
        let mut rng = millrace_base::Rng::new(1);
        for _ in 0..5000 {
            let mut bytes = vec![0, 0, 0, 0, rng.below(20) as u8];
            bytes.extend((0..rng.below(40)).map(|_| rng.below(256) as u8));
            let _ = reports(&mut bytes, &weigh, &mut Received::default());
        }
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let bad: [&[u8]; 4] =
            [&[1, 0, 0, 0, 0], &[0, 0, 1, 0, 1], &[0, 255, 255, 255, 255], &[0, 0, 0, 0, 1, 9]];
        for bytes in bad {
            let whole = reports(&mut bytes.to_vec(), &weigh, &mut Received::default());
            assert_eq!(whole, None, "{bytes:?}");
        }
        assert!(reports(&mut vec![0, 0, 1, 0, 0], &weigh, &mut Received::default()).is_some());
    }

    #[test]
    fn the_book_begins_anew_with_a_report_that_comes_too_late() {
        let (second, book) = (Duration::from_secs(1), LoadBook::default());
        let weights =
            ClientSideWeights { blackout: second, expiration: second, update: second, error_penalty: 0.0 };
        let address = Address::Pipe { path: "/a".into(), mode: 0 };
        let weight = |at: u64| book.lock().get(&address).and_then(|known| known.weight(&weights, Time(at)));
        let millisecond = 1_000_000;
        for (at, expected) in [(0, None), (900, None), (1800, Some(7)), (2900, None), (3900, Some(7))] {
            book.note(&address, 7, &weights, Time(at * millisecond));
            assert_eq!(weight(at * millisecond), expected, "{at}");
        }
        book.forget(&address);
        assert!(book.lock().is_empty());
    }
}
