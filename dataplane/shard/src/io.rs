//! What all links of a shard share.

use millrace_base::Time;
use millrace_ring::{BufferPool, Filled, Op, Payload, Token};

use crate::held::Held;
use crate::secure::Farewell;

/// What the links of a shard share: the batch for the kernel, empty payloads, and who has something to send.
#[derive(Debug)]
pub(crate) struct Io {
    /// Handed to the back end at the end of the turn.
    pub(crate) ops: Vec<Op>,
    /// Tokens of links with unsent bytes.
    pub(crate) dirty: Vec<Token>,
    /// The turn's time.
    pub(crate) now: Time,
    /// What is still to be said on sockets whose connections are gone.
    pub(crate) farewells: Vec<Farewell>,
    /// What waits in memory of the shard's own.
    pub(crate) held: Held,
    pool: BufferPool,
    /// Buffers that only the shard fills: plaintext of records that straddle two receive buffers.
    plain: BufferPool,
    spare: Vec<Payload>,
}

/// Bytes queued towards one socket at the most before its source is paused (one piece more may arrive).
pub(crate) const QUEUE_HIGH_BYTES: usize = 128 * 1024;
/// The same while more than half of the receive buffers are on their way.
const QUEUE_TIGHT_BYTES: usize = 64 * 1024;
/// Full receive buffers in a row after which a source counts as bulk: its bytes are relayed inside the kernel
/// where nobody has to look at them.
pub(crate) const BULK_BUFFERS: usize = 4;
/// Empty payloads kept for reuse.
const SPARE_PAYLOADS_MAX: usize = 256;
/// The same of those that keep more than [`SPARE_BYTES`].
const LARGE_PAYLOADS_MAX: usize = 32;
const SPARE_BYTES: usize = 16 * 1024;

impl Io {
    /// At most about `waiting_max` bytes may wait in memory of the shard's own.
    pub(crate) fn new(pool: BufferPool, plain: BufferPool, waiting_max: usize) -> Self {
        Self {
            ops: Vec::new(),
            dirty: Vec::new(),
            now: Time::ZERO,
            farewells: Vec::new(),
            held: Held::new(waiting_max),
            pool,
            plain,
            spare: Vec::new(),
        }
    }

    /// A buffer with a copy of the first of these bytes; `None` when all are on their way.
    pub(crate) fn plain_buffer(&self, bytes: &[u8]) -> Option<Filled> {
        self.plain.copy_from(bytes)
    }

    /// True when so few receive buffers are left that bytes which must wait are better copied: slow peers may
    /// hold three quarters of the buffers, never all of them.
    pub(crate) fn is_scarce(&self) -> bool {
        let most = |pool: &BufferPool| pool.outstanding() > pool.count() / 4 * 3;
        most(&self.pool) || most(&self.plain)
    }

    /// True when more than half of the receive buffers are on their way: queues are kept short.
    pub(crate) fn is_tight(&self) -> bool {
        let half = |pool: &BufferPool| pool.outstanding() > pool.count() / 2;
        half(&self.pool) || half(&self.plain)
    }

    /// Bytes queued towards a socket above which its source is no longer read. `limit` is
    /// `per_connection_buffer_limit_bytes`; a queue that keeps the socket busy needs less, and while receive
    /// buffers are in demand every queue is kept short, so that bulk traffic need not be copied; shorter still while
    /// much waits in memory of the shard's own.
    pub(crate) fn high_watermark(&self, limit: usize) -> usize {
        let most = if self.is_tight() { QUEUE_TIGHT_BYTES } else { QUEUE_HIGH_BYTES };
        limit.min(self.held.allowance(most))
    }

    /// Bytes from which on a relay pays.
    pub(crate) fn bulk_bytes(&self) -> u64 {
        (BULK_BUFFERS * self.pool.buffer_bytes()) as u64
    }

    /// The buffers of the back end, for the invariant that all of them come home.
    pub(crate) fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// The shard's own buffers, for the same.
    pub(crate) fn plain_pool(&self) -> &BufferPool {
        &self.plain
    }

    pub(crate) fn payload(&mut self) -> Payload {
        self.spare.pop().unwrap_or_default()
    }

    pub(crate) fn recycle(&mut self, mut payload: Payload) {
        payload.clear();
        let most = if payload.capacity() > SPARE_BYTES { LARGE_PAYLOADS_MAX } else { SPARE_PAYLOADS_MAX };
        if self.spare.len() < most {
            self.spare.push(payload);
        }
    }
}

/// Plaintext buffers for records that straddle two receive buffers.
const PLAIN_BUFFERS: u16 = 128;

/// Buffers that only the shard fills, as large as those of the back end. Should there be no memory for them, both are one.
pub(crate) fn plain_pool(of: &BufferPool) -> BufferPool {
    let config = millrace_ring::Config {
        buffers: PLAIN_BUFFERS,
        buffer_bytes: of.buffer_bytes() as u32,
        ..Default::default()
    };
    BufferPool::new(&config).unwrap_or_else(|_| of.clone())
}
