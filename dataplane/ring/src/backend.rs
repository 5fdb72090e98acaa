//! The choice between the two kernel back ends, made once at start.

use crate::epoll::Epoll;
use crate::uring::Uring;
use crate::{BufferPool, Config, Event, IoChoice, IoError, Op, OpenError, OpenReport, Waker};
use std::time::Duration;

/// A kernel back end. Stays on the thread that opened it.
// One per thread, so the difference in size costs nothing.
#[derive(Debug)]
pub enum Backend {
    /// io_uring.
    Uring(Box<Uring>),
    /// epoll.
    Epoll(Box<Epoll>),
}

impl Backend {
    /// Opens a back end on the calling thread.
    ///
    /// # Errors
    /// With `Auto` only when epoll fails as well.
    pub fn open(choice: IoChoice, config: &Config) -> Result<(Self, OpenReport), OpenError> {
        let mut fallback = None;
        if choice != IoChoice::Epoll {
            match Uring::open(config) {
                Ok(uring) => {
                    let features = uring.features();
                    let report = OpenReport { backend: "uring", features, fallback: None };
                    return Ok((Self::Uring(Box::new(uring)), report));
                }
                Err(error) if choice == IoChoice::Uring => return Err(error),
                Err(error) => fallback = Some(error),
            }
        }
        let epoll = Epoll::open(config)?;
        Ok((Self::Epoll(Box::new(epoll)), OpenReport { backend: "epoll", features: Vec::new(), fallback }))
    }

    /// Submits `ops` (left empty) as one batch, waits until something happened or `timeout` passed (`None`:
    /// for ever; zero: not at all), and appends what happened to `events`. May return without an event.
    ///
    /// # Errors
    /// The ring or epoll descriptor itself failed: a bug or an exhausted host; the shard cannot go on.
    #[inline]
    pub fn turn(
        &mut self,
        ops: &mut Vec<Op>,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<(), IoError> {
        match self {
            Self::Uring(uring) => uring.turn(ops, timeout, events),
            Self::Epoll(epoll) => epoll.turn(ops, timeout, events),
        }
    }

    /// The receive buffers.
    pub fn buffers(&self) -> &BufferPool {
        match self {
            Self::Uring(uring) => uring.buffers(),
            Self::Epoll(epoll) => epoll.buffers(),
        }
    }

    /// A handle for other threads to end this one's sleep.
    pub fn waker(&self) -> Waker {
        match self {
            Self::Uring(uring) => uring.waker(),
            Self::Epoll(epoll) => epoll.waker(),
        }
    }
}
