//! TLS of the simulated peers: rustls's ordinary buffered connections, which share no line with the proxy's own record
//! layer, between a peer's socket and whoever uses it.
//!
//! The cryptography draws randomness of its own: sizes and times of a run with TLS follow from the seed, bytes do not.

mod configs;
pub mod identity;
mod session;
mod wire;

pub use wire::Seen;
pub(crate) use wire::{Speaks, Wire};

/// What of a run is encrypted, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The listener speaks TLS.
    pub downstream: bool,
    /// The endpoints do.
    pub upstream: bool,
    /// Every other endpoint does (`transport_socket_matches`).
    pub some_endpoints: bool,
    /// ALPN tells what endpoints speak (`auto_config`), and the request's host is the server name.
    pub automatic: bool,
    /// Clients must show a certificate; endpoints ask for ours.
    pub mutual: bool,
    /// `tls_inspector` and `http_inspector` decide, and every other client speaks clear text.
    pub inspected: bool,
    /// Certificates come as secrets, and are rotated where configuration changes.
    pub secrets: bool,
    /// Connections on which TLS goes wrong, per mille.
    pub faults: u64,
    /// Plaintext of one record of a peer at the most; 0 for no bound.
    pub record_bytes_max: usize,
    /// Plaintext of one record of a peer at the least, where it has so much.
    pub record_bytes_min: usize,
}

impl Tls {
    /// TLS on either side.
    pub const BOTH: Self = Self {
        downstream: true,
        upstream: true,
        some_endpoints: false,
        automatic: false,
        mutual: true,
        inspected: false,
        secrets: false,
        faults: 0,
        record_bytes_max: 0,
        record_bytes_min: 0,
    };
    /// TLS of clients only.
    pub const DOWNSTREAM: Self = Self { upstream: false, mutual: false, ..Self::BOTH };
    /// TLS of endpoints only.
    pub const UPSTREAM: Self = Self { downstream: false, ..Self::BOTH };

    /// True when nothing is encrypted.
    pub fn is_off(&self) -> bool {
        !self.downstream && !self.upstream
    }
}
