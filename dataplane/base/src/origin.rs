//! Whose fault an error is.

/// The party that caused an error; decides between 4xx, 5xx and a reset, and which flag is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client that connected to us.
    Downstream,
    /// The endpoint that we connected to.
    Upstream,
    /// This proxy: a limit, a missing route, an administrator.
    Local,
}
