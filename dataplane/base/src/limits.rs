//! The bounds of a shard in one place. `docs/limits.md` says what happens at each of them.

use std::time::Duration;

/// Bounds of a shard. Those that name a field of Envoy are defaults, and the configuration may change them; the
/// others hold whatever it says.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request or response head (request line, fields, framing), bytes. Envoy: `max_request_headers_kb` 60.
    pub head_bytes_max: u32,
    /// Most fields of a head. Envoy: `max_headers_count` 100.
    pub head_fields_max: u16,
    /// Largest request target, bytes; above it 414.
    pub target_bytes_max: u32,
    /// Bytes of chunk extensions tolerated in one message.
    pub chunk_extension_bytes_max: u32,
    /// Downstream connections of one shard.
    pub downstream_connections_max: u32,
    /// Upstream 1xx responses taken for one request.
    pub informational_responses_max: u8,
    /// A request head must be complete within this time: the default of `request_headers_timeout` (Envoy's is off).
    pub request_headers_timeout: Duration,
    /// A send to an HTTP client that is not complete after this long closes the connection.
    pub write_stall_timeout: Duration,
    /// Bytes that wait in memory of one shard's own before it stops taking more.
    pub waiting_bytes_max: usize,
    /// TLS handshakes of clients that no `transport_socket_connect_timeout` limits.
    pub tls_handshake_timeout: Duration,
}

impl Limits {
    /// The figures of `docs/limits.md`.
    pub const DEFAULT: Self = Self {
        head_bytes_max: 60 * 1024,
        head_fields_max: 100,
        target_bytes_max: 32 * 1024,
        chunk_extension_bytes_max: 4 * 1024,
        downstream_connections_max: 100_000,
        informational_responses_max: 16,
        request_headers_timeout: Duration::from_secs(15),
        write_stall_timeout: Duration::from_secs(60),
        waiting_bytes_max: 256 * 1024 * 1024,
        tls_handshake_timeout: Duration::from_secs(10),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const _: () = assert!(Limits::DEFAULT.target_bytes_max < Limits::DEFAULT.head_bytes_max);
