//! Bounds on downstream connections that all shards share, exact and without a lock.
//!
//! A bound that is not set costs a connection nothing. One that is costs one exchange on a shared number when the
//! connection is accepted and one when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::shared::ListenerHandle;

/// Connections against a bound.
#[derive(Debug)]
pub struct ConnectionCount {
    open: AtomicU64,
    max: AtomicU64,
    refused: AtomicU64,
}

impl Default for ConnectionCount {
    fn default() -> Self {
        Self { open: AtomicU64::new(0), max: AtomicU64::new(u64::MAX), refused: AtomicU64::new(0) }
    }
}

impl ConnectionCount {
    /// Sets the bound; `None` for no bound, and then nothing is counted. Connections that came before the first bound
    /// do not count.
    pub fn set_max(&self, max: Option<u64>) {
        self.max.store(max.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The bound; `None` for no bound.
    pub fn max(&self) -> Option<u64> {
        Some(self.max.load(Ordering::Relaxed)).filter(|max| *max != u64::MAX)
    }

    /// Connections that count.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts one more, unless the bound is reached.
    fn admit(&self, max: u64) -> bool {
        let more = |open: u64| (open < max).then(|| open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of one connection under the bounds that apply to it; given back when it is dropped.
#[derive(Debug, Default)]
pub struct Admission {
    process: Option<Arc<ConnectionCount>>,
    listener: Option<Arc<ListenerHandle>>,
}

impl Admission {
    /// A place under the bound of the process; `None` when it is reached.
    pub(crate) fn of_process(&mut self, count: &Arc<ConnectionCount>) -> Option<()> {
        let Some(max) = count.max() else { return Some(()) };
        if !count.admit(max) {
            count.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.process = Some(count.clone());
        Some(())
    }

    /// A place under the bound of the listener; `None` when it is reached.
    pub(crate) fn of_listener(&mut self, listener: &Arc<ListenerHandle>, max: Option<u64>) -> Option<()> {
        let Some(max) = max else { return Some(()) };
        listener.bounded().admit(max).then(|| self.listener = Some(listener.clone()))
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.leave();
        }
        if let Some(listener) = &self.listener {
            listener.bounded().leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_never_exceeded_whoever_asks() {
        let count = Arc::new(ConnectionCount::default());
        count.set_max(Some(100));
        let admitted: usize = std::thread::scope(|scope| {
            let ask = || {
                let mut places = Vec::new();
                for _ in 0..60 {
                    let mut place = Admission::default();
                    if place.of_process(&count).is_some() {
                        places.push(place);
                    }
                    assert!(count.open() <= 100);
                }
                places
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            let places: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
            places.len()
        });
        assert_eq!((admitted, count.refused(), count.open()), (100, 140, 0));
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let count = Arc::new(ConnectionCount::default());
        let mut place = Admission::default();
        assert!(place.of_process(&count).is_some() && count.open() == 0);
        let handle = ListenerHandle::new(&"l".into());
        assert!(place.of_listener(&handle, Some(1)).is_some());
        assert!(Admission::default().of_listener(&handle, Some(1)).is_none());
        drop(place);
        assert!(Admission::default().of_listener(&handle, Some(1)).is_some());
    }
}
