//! `reset_high_memory_stream`: streams of HTTP/2 clients that hold most memory end first.
//!
//! As in Envoy, streams fall into 8 classes by the power of two of what they hold; the action resets whole classes from the
//! top, more of them the higher its level, and at most 50 streams of a shard at a time. Nothing is accounted meanwhile:
//! what streams hold is asked of them when the action runs.

use millrace_base::{Key, ResponseFlag};
use millrace_http::h2::ErrorCode;
use millrace_observe::stats::{ScopeKind, http as http_metric, process as metric};

use super::Stream;
use crate::shard::Shard;
use crate::upstream::{Carries, EndedBy};

/// Streams reset at once.
const RESETS_MAX: usize = 50;
/// Classes of streams by what they hold.
const CLASSES: u32 = 8;

/// The class of a stream that holds so much; `None` below the least that counts.
fn class(held: usize, power: u8) -> Option<u32> {
    let class = (held as u64).checked_ilog2()?.checked_sub(power.into())?;
    Some(class.min(CLASSES - 1))
}

/// The lowest class that is reset.
fn lowest(share: f64) -> u32 {
    let classes = (share * f64::from(CLASSES)) as u32 + 1;
    CLASSES - classes.min(CLASSES)
}

impl Shard {
    /// Bytes that a stream holds: of either body, and what is kept for a retry. What an endpoint's HTTP/1.1 connection has
    /// received for it stands there.
    fn held(&self, stream: &Stream) -> usize {
        let unread = match stream.upstream().and_then(|conn| self.upstreams.get(conn)).map(|u| &u.carries) {
            Some(Carries::Http(http)) => http.input.len(),
            Some(Carries::Http2(_) | Carries::Tcp(_)) | None => 0,
        };
        let queued = stream.flow.request_queue.len() + stream.flow.response_queue.len();
        queued + stream.replay.len() + unread
    }

    pub(crate) fn reset_large_streams(&mut self) {
        let Some(power) = self.overload.account_power() else { return };
        let lowest = lowest(self.overload.levels().reset_streams.share());
        let mut chosen: Vec<(u32, Key)> = Vec::new();
        for (id, stream) in self.streams.iter() {
            if stream.client.is_some()
                && let Some(class) = class(self.held(stream), power).filter(|class| *class >= lowest)
            {
                chosen.push((class, id));
            }
        }
        chosen.sort_unstable_by_key(|(class, _)| std::cmp::Reverse(*class));
        for (_, id) in chosen.into_iter().take(RESETS_MAX) {
            self.reset_large_stream(id);
        }
    }

    fn reset_large_stream(&mut self, id: Key) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let key = stream.downstream;
        if self.downstreams.get(key).is_some_and(|d| d.origin.listener.bypasses_overload) {
            return;
        }
        stream.flag(ResponseFlag::OverloadManagerTerminated);
        stream.facts.details = "overload".into();
        self.drop_attempt(id, EndedBy::Local);
        if let Some(scope) = self.http_scope(key) {
            self.stats.inc(scope, http_metric::DOWNSTREAM_RQ_TX_RESET);
        }
        let process = self.filter_scope(ScopeKind::Process, "");
        self.stats.inc(process, metric::ENVOY_OVERLOAD_ACTIONS_RESET_HIGH_MEMORY_STREAM_COUNT);
        self.h2_reset_client(id, ErrorCode::Internal);
        self.end_stream(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two_and_fall_from_the_top() {
        assert_eq!((class(0, 10), class(1023, 10)), (None, None));
        assert_eq!((class(1024, 10), class(2047, 10), class(2048, 10)), (Some(0), Some(0), Some(1)));
        assert_eq!(class(usize::MAX, 10), Some(7));
        assert_eq!((lowest(0.0), lowest(0.5), lowest(1.0)), (7, 3, 0));
    }
}
