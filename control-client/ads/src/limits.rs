//! The bounds of an xDS client. `docs/limits.md` says what happens at each of them.

use std::time::Duration;

/// Names that the subscriptions of one type may hold; one more is refused by `subscribe`.
pub const NAMES_MAX: usize = 200_000;
/// Resources of one type that are known; one more is broken and part of the NACK.
pub const RESOURCES_MAX: usize = 200_000;
/// Longest name of a resource; a longer one is broken.
pub const NAME_BYTES_MAX: usize = 4096;
/// Updates of one type without a verdict, and answers of one type that wait to be sent: with one more the oldest is
/// never answered, though its verdict still counts.
pub const UNANSWERED_MAX: usize = 64;
/// Longest `error_detail.message`.
pub const NACK_BYTES_MAX: usize = 8 * 1024;
/// Longest reason of one resource within it.
pub const REASON_BYTES_MAX: usize = 2 * 1024;
/// NACKs of one type in a row that are sent at once; later ones keep [`NACK_INTERVAL`] until something is accepted.
pub const NACKS_AT_ONCE: u32 = 10;
/// Least time between NACKs of one type after that.
pub const NACK_INTERVAL: Duration = Duration::from_secs(1);
/// First interval out of which the wait before a new attempt is drawn.
pub const BACKOFF_BASE: Duration = Duration::from_millis(500);
/// Largest such interval.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Longest `control_plane.identifier` that is kept.
pub const IDENTIFIER_BYTES_MAX: usize = 1024;
