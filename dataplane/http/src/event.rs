//! The neutral model of one direction of a stream, the same for HTTP/1.1 and HTTP/2.

use core::ops::Range;

/// What a codec tells about one direction of a stream, in this order: `Head` (several informational
/// response heads may precede the final one), any number of `Data`, at most one `Trailers`, then `End`; or
/// `Reset` at any point, after which nothing follows.
///
/// Heads and trailers land in structures that the caller owns, body bytes stay in the caller's receive
/// buffer, so an event is a few plain numbers and costs nothing to pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A head is complete. `end` is set when neither body nor trailers follow.
    Head {
        /// Nothing follows.
        end: bool,
    },
    /// Body bytes, as a range of the buffer that was decoded.
    Data(Range<usize>),
    /// The trailer section is complete.
    Trailers,
    /// The message is complete.
    End,
    /// The message will not be completed.
    Reset,
}
