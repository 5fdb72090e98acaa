//! What a token says: which kind of entry it names, and the slab key of the entry.

use millrace_base::Key;
use millrace_ring::Token;

/// Kinds of things that wait for the kernel or for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A listening socket.
    Listener = 1,
    /// A connection that a client opened.
    Downstream = 2,
    /// A connection that we opened.
    Upstream = 3,
    /// The shard's own periodic work.
    Housekeeping = 4,
    /// The end of a drain.
    Drain = 5,
    /// A connection whose filter chain is not chosen yet.
    Inspection = 6,
    /// Last bytes on the socket of a connection that is gone.
    Farewell = 7,
    /// The end of an interval of outlier detection.
    Outliers = 8,
    /// A connection that the shard opened for itself.
    Own = 9,
    /// An endpoint under health check.
    HealthCheckTimer = 10,
    /// Health checks that are due wait for their turn.
    HealthCheckPace = 11,
    /// A stream without a client.
    Side = 12,
    /// One of several connects of which the first to succeed is used.
    Racer = 13,
    /// An endpoint that is asked for its load.
    LoadReportTimer = 14,
    /// Log lines that may not wait for [`Kind::Housekeeping`].
    Logs = 15,
}

impl Kind {
    /// Kind and key as the ring's token; the same number names the entry in the timer wheel.
    pub(crate) fn token(self, key: Key) -> Token {
        Token(key.pack(self as u8))
    }

    /// Undoes [`Kind::token`]; `None` for a number that no kind has.
    pub(crate) fn parse(token: u64) -> Option<(Self, Key)> {
        let (kind, key) = Key::unpack(token);
        let kind = match kind {
            1 => Self::Listener,
            2 => Self::Downstream,
            3 => Self::Upstream,
            4 => Self::Housekeeping,
            5 => Self::Drain,
            6 => Self::Inspection,
            7 => Self::Farewell,
            8 => Self::Outliers,
            9 => Self::Own,
            10 => Self::HealthCheckTimer,
            11 => Self::HealthCheckPace,
            12 => Self::Side,
            13 => Self::Racer,
            14 => Self::LoadReportTimer,
            15 => Self::Logs,
            _ => return None,
        };
        Some((kind, key))
    }
}
