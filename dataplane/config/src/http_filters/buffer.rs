//! `extensions.filters.http.buffer.v3`.

/// `Buffer`, or what a route puts in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferFilter {
    /// `max_request_bytes`: a longer request is answered 413.
    UpTo(u32),
    /// `BufferPerRoute.disabled`.
    Off,
}
