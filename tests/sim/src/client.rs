//! Clients: connections that pipeline requests in random pieces and check every answer.

use std::collections::VecDeque;
use std::time::Duration;

use millrace_base::{Rng, Time};
use millrace_ring::SocketAddress;
use millrace_ring::sim::{Peer, PeerRead};

use crate::churn::Provenance;
use crate::ledger::{Ledger, Outcome};
use crate::net::Net;
use crate::setup::{Disturbance, STALL_WINDOW, Setup};
use crate::wire::{self, Framing, Head, Item, Reader, fill};

/// Statuses that the proxy may answer itself in these configurations.
const LOCAL_STATUSES: [u16; 5] = [408, 500, 502, 503, 504];
/// Connections that one client may need at the most.
const CONNECTIONS_MAX: u32 = 200;
/// How long a client waits for `100 Continue` before it sends the body nevertheless.
pub(crate) const CONTINUE_WAIT: Duration = Duration::from_secs(2);
/// How long a stalled client reads nothing: longer than `write_stall_timeout`.
pub(crate) const STALL: Duration = Duration::from_secs(90);

#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>, usize),
    /// The body of this request waits for an interim response, or for this time.
    Await(u64, Option<Time>),
}

#[derive(Debug)]
struct Connection {
    peer: Peer,
    out: VecDeque<Piece>,
    /// Requests written or being written and not answered, in order.
    open: VecDeque<u64>,
    /// Head of the answer being read.
    head: Option<Head>,
    provenance: Provenance,
    reader: Reader,
    continued: bool,
    next_write: Time,
    next_read: Time,
    /// Gives up after so many written bytes: with a reset, or by closing its half.
    gives_up_after: Option<(usize, bool)>,
    written: usize,
    gave_up: bool,
    failed_write: bool,
    /// Gives up with a reset.
    aborts: bool,
    /// Stops reading for long after so many bytes.
    stalls_after: Option<usize>,
    /// Bytes read since it went on.
    read_after_stall: Option<usize>,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    todo: VecDeque<u64>,
    connection: Option<Connection>,
    rng: Rng,
    depth: usize,
    slow: bool,
    split: usize,
    opened: u32,
    next_open: Time,
    /// Waits for the proxy to close idle connections instead of closing them.
    pub patient: bool,
    last_progress: Time,
}

impl Client {
    /// A client with these requests to make.
    pub fn new(todo: VecDeque<u64>, setup: &Setup, mut rng: Rng, start: Time) -> Self {
        let split = [1 + rng.below(20) as usize, 200, 5000, usize::MAX][rng.below(4) as usize];
        Self {
            todo,
            connection: None,
            depth: 1 + rng.below(4) as usize,
            slow: setup.slow && rng.chance(1, 2),
            split,
            opened: 0,
            next_open: start + Duration::from_millis(rng.below(30)),
            patient: false,
            last_progress: start,
            rng,
        }
    }

    /// True when every request was answered and the connection is gone.
    pub fn is_done(&self) -> bool {
        self.todo.is_empty() && self.connection.is_none()
    }

    /// What it is doing, for the output of a failure.
    pub fn state(&self) -> String {
        match &self.connection {
            Some(c) => format!(
                "client: todo {:?} open {:?} out {} head {} gave up {}",
                self.todo,
                c.open,
                c.out.len(),
                c.head.is_some(),
                c.gave_up
            ),
            None => format!("client: todo {:?}, not connected", self.todo),
        }
    }

    /// When something last happened to it.
    pub fn last_progress(&self) -> Time {
        self.last_progress
    }

    /// Does what is possible now; returns when it wants to be looked at again.
    pub fn poll(&mut self, net: &Net, to: &SocketAddress, setup: &Setup, ledger: &mut Ledger) -> Time {
        let now = net.now();
        if self.connection.is_none() {
            if self.todo.is_empty() {
                return Time::MAX;
            }
            if now < self.next_open {
                return self.next_open;
            }
            self.open(net, to, setup, ledger);
        }
        self.refill(setup, ledger);
        self.write(net, ledger);
        let over = self.read(net, setup, ledger);
        let Some(connection) = &mut self.connection else { return self.next_open };
        if over {
            match connection.aborts {
                true => net.reset(connection.peer),
                false => net.close(connection.peer),
            }
            self.connection = None;
            self.next_open = now + Duration::from_micros(self.rng.below(3000));
            self.last_progress = now;
            return if self.todo.is_empty() { Time::MAX } else { self.next_open };
        }
        let mut wake = Time::MAX;
        match connection.out.front() {
            Some(Piece::Bytes(..)) if connection.next_write > now => wake = connection.next_write,
            Some(Piece::Await(_, Some(until))) => wake = *until,
            Some(_) | None => {}
        }
        if let Some(arrival) = net.next_arrival(connection.peer) {
            wake = wake.min(arrival.max(connection.next_read));
        }
        wake
    }

    fn open(&mut self, net: &Net, to: &SocketAddress, setup: &Setup, ledger: &mut Ledger) {
        self.opened += 1;
        if self.opened > CONNECTIONS_MAX {
            ledger.violation(format!("{CONNECTIONS_MAX} connections do not suffice: {:?}", self.todo));
            self.todo.clear();
            return;
        }
        let Ok(peer) = net.connect(to) else {
            // The listener is closed.
            for id in std::mem::take(&mut self.todo) {
                ledger.settle(id, Outcome::Lost);
            }
            return;
        };
        let gives_up = self.rng.chance(setup.client_faults, 1000);
        let after = self.rng.below(2 * setup.body_max as u64) as usize;
        let reset = self.rng.chance(2, 3);
        let stalls = self.rng.chance(setup.stalls, 1000);
        self.connection = Some(Connection {
            peer,
            out: VecDeque::new(),
            open: VecDeque::new(),
            head: None,
            provenance: Provenance::default(),
            reader: Reader::default(),
            continued: false,
            next_write: Time::ZERO,
            next_read: Time::ZERO,
            gives_up_after: gives_up.then_some((after, reset)),
            written: 0,
            gave_up: false,
            failed_write: false,
            aborts: false,
            stalls_after: stalls.then(|| self.rng.below(STALL_WINDOW as u64) as usize),
            read_after_stall: None,
        });
        self.last_progress = net.now();
    }

    /// Queues requests up to the pipelining depth.
    fn refill(&mut self, setup: &Setup, ledger: &mut Ledger) {
        let Some(connection) = &mut self.connection else { return };
        if connection.gave_up || connection.failed_write || connection.read_after_stall.is_some() {
            return;
        }
        while connection.open.len() < self.depth
            && let Some(id) = self.todo.front().copied()
        {
            let last = connection.open.back().and_then(|id| ledger.requests.get(id));
            if last.is_some_and(|r| r.close) {
                break;
            }
            let Some(request) = ledger.requests.get_mut(&id) else { break };
            request.table = ledger.in_force.table;
            self.todo.pop_front();
            connection.open.push_back(id);
            let (head, body) = wire::request(id, request, setup, &mut self.rng);
            connection.out.push_back(Piece::Bytes(head, 0));
            if request.expects {
                connection.out.push_back(Piece::Await(id, None));
            }
            if !body.is_empty() {
                connection.out.push_back(Piece::Bytes(body, 0));
            }
        }
    }

    fn write(&mut self, net: &Net, ledger: &Ledger) {
        let now = net.now();
        let Some(connection) = &mut self.connection else { return };
        while let Some(piece) = connection.out.front_mut() {
            match piece {
                Piece::Await(id, until) => {
                    let front = connection.open.front() == Some(id);
                    let answered = ledger.requests.get(id).is_none_or(|r| r.outcome.is_some());
                    let due = until.get_or_insert(now + CONTINUE_WAIT);
                    let go_on = answered || (front && connection.continued) || *due <= now;
                    if !go_on {
                        return;
                    }
                    connection.out.pop_front();
                }
                Piece::Bytes(bytes, at) => {
                    if connection.next_write > now || connection.failed_write {
                        return;
                    }
                    let mut end = bytes.len().min(at.saturating_add(self.split));
                    if let Some((after, _)) = connection.gives_up_after {
                        end = end.min(*at + after.saturating_sub(connection.written));
                    }
                    let wrote = if end > *at { net.write(connection.peer, &bytes[*at..end]) } else { Ok(0) };
                    let Ok(count) = wrote else {
                        connection.failed_write = true;
                        return;
                    };
                    *at += count;
                    connection.written += count;
                    if count > 0 {
                        self.last_progress = now;
                    }
                    let whole = *at == bytes.len();
                    if let Some((_, reset)) = connection.gives_up_after.filter(|g| connection.written >= g.0)
                    {
                        connection.gave_up = true;
                        connection.failed_write = true;
                        connection.gives_up_after = None;
                        if !reset {
                            net.shutdown(connection.peer);
                        }
                        connection.aborts = reset;
                        return;
                    }
                    if whole {
                        connection.out.pop_front();
                    } else if count == 0 {
                        return;
                    }
                    if self.rng.chance(1, 4) {
                        connection.next_write = now + Duration::from_micros(self.rng.below(2000));
                    }
                }
            }
        }
    }

    /// Reads answers. True when the connection is over and shall be closed.
    fn read(&mut self, net: &Net, setup: &Setup, ledger: &mut Ledger) -> bool {
        let now = net.now();
        let Some(mut connection) = self.connection.take() else { return false };
        let mut over = connection.aborts;
        while !over && now >= connection.next_read {
            let room = if self.slow { 300 } else { 64 * 1024 };
            match net.read(connection.peer, room) {
                PeerRead::Nothing => break,
                PeerRead::Bytes(bytes) => {
                    self.last_progress = now;
                    connection.reader.push(&bytes);
                    if let Some(after) = &mut connection.stalls_after {
                        *after = after.saturating_sub(bytes.len());
                        if *after == 0 {
                            connection.stalls_after = None;
                            connection.read_after_stall = Some(0);
                            connection.next_read = now + STALL;
                        }
                    } else if let Some(count) = &mut connection.read_after_stall {
                        // A request that was not written yet may still bring its answer.
                        *count += if connection.out.is_empty() { bytes.len() } else { 0 };
                        // The rest of a record may make all of it readable.
                        let record = if net.is_secure(connection.peer) { 16 * 1024 } else { 0 };
                        if *count > STALL_WINDOW + record {
                            ledger.violation("a client that stopped reading was not cut off");
                        }
                    }
                    if self.slow {
                        connection.next_read = now + Duration::from_micros(self.rng.below(4000));
                    }
                    over = !answers(&mut connection, setup, ledger);
                }
                end @ (PeerRead::Eof | PeerRead::Reset) => {
                    ended(&mut connection, end == PeerRead::Eof, setup, ledger);
                    over = true;
                }
            }
        }
        let nothing_left = self.todo.is_empty() && !self.patient || connection.read_after_stall.is_some();
        over |= connection.open.is_empty() && nothing_left;
        if over {
            self.give_back(connection.open.drain(..).collect(), connection.gave_up, setup, ledger);
        }
        self.connection = Some(connection);
        over
    }

    /// Requests whose turn never came are made again where nothing gets lost.
    fn give_back(&mut self, open: VecDeque<u64>, gave_up: bool, setup: &Setup, ledger: &mut Ledger) {
        if setup.lossless && !gave_up {
            for id in open.into_iter().rev() {
                self.todo.push_front(id);
            }
            return;
        }
        for id in open {
            ledger.settle(id, Outcome::Lost);
        }
    }
}

/// Reads as many answers as there are; false when the bytes make no sense.
fn answers(connection: &mut Connection, setup: &Setup, ledger: &mut Ledger) -> bool {
    loop {
        let item = match connection.reader.next_item() {
            Ok(None) => return true,
            Ok(Some(item)) => item,
            Err(error) => {
                ledger.violation(format!("a client got nonsense: {error}; open {:?}", connection.open));
                return false;
            }
        };
        let Some(id) = connection.open.front().copied() else {
            ledger.violation(format!("an answer to nothing: {item:?}"));
            return false;
        };
        match item {
            Item::Head(head) => {
                if let Err(error) = answer_head(connection, id, head, setup, ledger) {
                    ledger.violation(format!("request {id}: {error}"));
                    return false;
                }
            }
            Item::Body(body) => {
                let Some(head) = connection.head.take() else { return false };
                connection.open.pop_front();
                connection.continued = false;
                finish(id, &head, &body, setup, ledger);
            }
        }
    }
}

fn status(head: &Head) -> Result<u16, String> {
    let rest = head.start.strip_prefix("HTTP/1.1 ").ok_or_else(|| format!("status line {:?}", head.start))?;
    let digits = rest.get(..3).filter(|_| rest.as_bytes().get(3) == Some(&b' '));
    digits.and_then(|d| d.parse().ok()).ok_or_else(|| format!("status line {:?}", head.start))
}

fn answer_head(
    connection: &mut Connection,
    id: u64,
    head: Head,
    setup: &Setup,
    ledger: &Ledger,
) -> Result<(), String> {
    let request = ledger.requests.get(&id).ok_or("an unknown request")?;
    let status = status(&head)?;
    if status == 100 {
        let again = connection.continued && !setup.knobs.proxy_continue;
        if !request.expects || again || !head.fields.is_empty() {
            return Err(format!("an uninvited 100 or a second one: {head:?}"));
        }
        connection.continued = true;
        return Ok(());
    }
    if status < 200 {
        return Err(format!("interim response {status}"));
    }
    if let Some(other) = head.number("x-id").filter(|other| *other != id) {
        return Err(format!("got the answer of {other}"));
    }
    connection.provenance.check(&head, request, setup, &ledger.in_force)?;
    let declared = head.framing(Framing::UntilClose)?;
    // A head that never became complete is answered without knowing its method.
    let unknown_method = status == 408 && head.number("content-length") == Some(22);
    let bodiless = request.method == "HEAD" && !unknown_method || matches!(status, 204 | 304);
    if bodiless {
        if status == 204 && declared != Framing::UntilClose {
            return Err(format!("a 204 with {declared:?}"));
        }
        connection.reader.body(Framing::Length(0));
    } else if declared == Framing::UntilClose {
        return Err("an answer without framing".into());
    } else {
        connection.reader.body(declared);
    }
    connection.head = Some(head);
    Ok(())
}

/// Checks a whole answer.
pub(crate) fn finish(id: u64, head: &Head, body: &[u8], setup: &Setup, ledger: &mut Ledger) {
    let Some(request) = ledger.requests.get(&id) else { return };
    let status = status(head).unwrap_or(0);
    let reply = &request.reply;
    if head.get("x-id").is_none() {
        let no_table = status == 404 && setup.disturbance == Disturbance::ChurnHard;
        // A reply to a request that `custom_response` has redirected has the status of the redirect.
        let redirected = status == 302 && setup.knobs.custom && reply.redirects > 0;
        let allowed = LOCAL_STATUSES.contains(&status) || no_table || redirected;
        if !allowed || setup.lossless && !request.harmed {
            let body = String::from_utf8_lossy(body);
            let text = format!("request {id}: local reply {status} {body}: {head:?} to {request:?}");
            ledger.violation(text);
        }
        return ledger.settle(id, Outcome::Local(status));
    }
    let empty = request.method == "HEAD" || matches!(status, 204 | 304);
    let length = head.number("x-len").unwrap_or(0) as usize;
    let expected = if empty { Vec::new() } else { fill(id, length) };
    if body != expected {
        ledger.violation(format!("request {id}: a wrong body of {} bytes, not {length}", body.len()));
    } else if (status, length) != (reply.status, reply.length)
        && (!(status == 503 || status == 302 && reply.redirects > 0) || setup.lossless && !request.harmed)
    {
        ledger.violation(format!("request {id}: got {status} and {length} bytes, promised {reply:?}"));
    }
    ledger.settle(id, Outcome::Answered(status));
}

/// The connection ended.
fn ended(connection: &mut Connection, clean: bool, setup: &Setup, ledger: &mut Ledger) {
    let partial = connection.head.is_some() || !connection.reader.is_idle();
    let whole = connection.reader.end();
    if let (true, Ok(Some(_))) = (clean, &whole) {
        ledger.violation("an answer ended by the end of the connection");
    }
    let front = connection.open.front().and_then(|id| ledger.requests.get(id));
    let harmed = front.is_some_and(|request| request.harmed);
    if setup.lossless && !connection.gave_up && (!clean || partial) && !harmed {
        let how = if clean { "closed" } else { "reset" };
        let reply = connection.open.front().and_then(|id| ledger.requests.get(id)).cloned();
        ledger.violation(format!(
            "connection {how} with {:?} open, partial {partial}: {reply:?}",
            connection.open
        ));
    }
    if setup.lossless
        && !connection.gave_up
        && let Err(error) = connection.provenance.ended(&ledger.in_force)
    {
        ledger.violation(error);
    }
    if !partial {
        return;
    }
    let Some(id) = connection.open.pop_front() else {
        return ledger.violation("bytes after the last answer");
    };
    // What did come must be the beginning of the right body.
    if let Some(head) = &connection.head {
        let length = head.number("x-len").unwrap_or(0) as usize;
        let partial = connection.reader.partial();
        if head.get("x-id").is_some() && !fill(id, length).starts_with(partial) {
            ledger.violation(format!("request {id}: the beginning of another body"));
        }
    }
    ledger.settle(id, Outcome::CutOff);
}
