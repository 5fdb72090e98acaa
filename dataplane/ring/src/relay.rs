//! Bytes that go from one socket to another without a visit to user space: `splice` through a pipe.
//!
//! Both kernel back ends drive the same [`Relay`]; they differ in how they wait for a socket. A relay owns a
//! pipe only while it pumps or while bytes wait in it for the sink, so one that waits for its source costs
//! nothing but this record.

use crate::{IoError, RelayEnd, Socket, Token, sys};
use std::os::fd::{AsRawFd, OwnedFd};

/// Capacity asked for each pipe. An unprivileged user has 64 MiB of them; who has used them up gets less.
const PIPE_BYTES: usize = 256 * 1024;
/// Pipes of a back end at most: what its relays may hold, and twice as many descriptors.
const PIPES_MAX: usize = 64;
/// Empty pipes kept for the next relay.
const SPARE_PIPES_MAX: usize = 8;
/// Bytes that one relay moves before the others have their turn.
const TURN_BYTES: usize = 512 * 1024;
/// A relay without a limit whose source gives less than this at a time, twice in a row, is better received.
const SMALL_BYTES: u64 = 16 * 1024;
const SMALL_WAKES_MAX: u8 = 2;

/// Both ends of a pipe.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// The pipes of a back end.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    spare: Vec<Pipe>,
    /// Spare ones and those of relays.
    made: usize,
    /// The kernel said that it cannot or may not splice.
    useless: bool,
}

impl Pipes {
    fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.spare.pop() {
            return Some(pipe);
        }
        if self.useless || self.made >= PIPES_MAX {
            return None;
        }
        // Out of descriptors: bytes are received and sent instead.
        let (read, write) = sys::pipe(PIPE_BYTES).ok()?;
        self.made += 1;
        Some(Pipe { read, write })
    }

    fn give_back(&mut self, pipe: Pipe, is_empty: bool) {
        if is_empty && self.spare.len() < SPARE_PIPES_MAX {
            self.spare.push(pipe);
        } else {
            self.made -= 1;
        }
    }
}

/// What a relay needs next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Another call, after the others have had theirs.
    Again,
    /// Something to read from the source.
    WaitFrom,
    /// Room in the sink.
    WaitTo,
    End(RelayEnd),
}

/// One [`Op::Relay`](crate::Op::Relay) under way.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) from: Socket,
    pub(crate) to: Socket,
    pub(crate) token: Token,
    /// Bytes still to be taken from the source.
    left: u64,
    unlimited: bool,
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    held: usize,
    /// The source gives nothing more; told when the pipe is empty.
    source_end: Option<RelayEnd>,
    /// Taken since the source was last found empty.
    burst: u64,
    small_wakes: u8,
}

impl Relay {
    pub(crate) fn new(from: Socket, to: Socket, token: Token, limit: u64) -> Self {
        Self {
            from,
            to,
            token,
            left: limit,
            unlimited: limit == u64::MAX,
            pipe: None,
            held: 0,
            source_end: None,
            burst: 0,
            small_wakes: 0,
        }
    }

    /// The source was closed: what was taken from it still goes to the sink.
    pub(crate) fn source_closed(&mut self) {
        self.source_end = Some(RelayEnd::From(IoError::CANCELED));
    }

    /// Moves bytes until a socket has to be waited for, or the turn is over. Tells how many bytes the sink
    /// took. After an end nothing is held and the relay is to be dropped.
    pub(crate) fn pump(&mut self, pipes: &mut Pipes) -> (usize, Step) {
        let mut moved = 0;
        let step = loop {
            if moved >= TURN_BYTES {
                break Step::Again;
            }
            let step = if self.held == 0 { self.fill(pipes) } else { self.drain(&mut moved) };
            if let Some(step) = step {
                break step;
            }
        };
        if self.held == 0 || matches!(step, Step::End(_)) {
            self.release(pipes);
        }
        (moved, step)
    }

    /// Gives the pipe back; one that still holds bytes is closed with them.
    pub(crate) fn release(&mut self, pipes: &mut Pipes) {
        if let Some(pipe) = self.pipe.take() {
            pipes.give_back(pipe, self.held == 0);
        }
    }

    /// Takes bytes from the source into the empty pipe. `None`: there is something to drain.
    fn fill(&mut self, pipes: &mut Pipes) -> Option<Step> {
        if self.left == 0 {
            return Some(Step::End(RelayEnd::Limit));
        }
        if let Some(end) = self.source_end {
            return Some(Step::End(end));
        }
        if self.pipe.is_none() {
            self.pipe = pipes.take();
        }
        let Some(pipe) = &self.pipe else { return Some(Step::End(RelayEnd::Unavailable)) };
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIPE_BYTES);
        match sys::splice(self.from.raw(), pipe.write.as_raw_fd(), most) {
            Ok(0) => Some(Step::End(RelayEnd::Eof)),
            Ok(count) => {
                self.held = count;
                self.left -= count as u64;
                self.burst += count as u64;
                None
            }
            // The pipe is empty, so it is the source that has nothing.
            Err(error) if error.errno() == libc::EAGAIN => Some(self.source_is_empty()),
            Err(error) => match error.errno() {
                libc::EINTR => None,
                libc::EINVAL | libc::ENOSYS | libc::EPERM => {
                    pipes.useless = true;
                    Some(Step::End(RelayEnd::Unavailable))
                }
                _ => Some(Step::End(RelayEnd::From(error))),
            },
        }
    }

    fn source_is_empty(&mut self) -> Step {
        let burst = std::mem::take(&mut self.burst);
        self.small_wakes = if burst < SMALL_BYTES { self.small_wakes + 1 } else { 0 };
        if self.unlimited && self.small_wakes >= SMALL_WAKES_MAX {
            return Step::End(RelayEnd::Idle);
        }
        self.small_wakes = self.small_wakes.min(SMALL_WAKES_MAX);
        Step::WaitFrom
    }

    /// Hands what the pipe holds to the sink.
    fn drain(&mut self, moved: &mut usize) -> Option<Step> {
        let Some(pipe) = &self.pipe else { return Some(Step::End(RelayEnd::Unavailable)) };
        match sys::splice(pipe.read.as_raw_fd(), self.to.raw(), self.held) {
            Ok(count) => {
                self.held -= count.min(self.held);
                *moved += count;
                None
            }
            Err(error) if error.errno() == libc::EAGAIN => Some(Step::WaitTo),
            Err(error) if error.errno() == libc::EINTR => None,
            Err(error) => Some(Step::End(RelayEnd::To(error))),
        }
    }
}
