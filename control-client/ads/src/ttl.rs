//! `Resource.ttl`: what is gone unless it is sent again in time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millrace_base::Time;

/// The resources of one type that expire.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    at: BTreeMap<Arc<str>, Time>,
    queue: BTreeSet<(Time, Arc<str>)>,
}

impl Expiry {
    /// Starts the timer of `name` anew, or stops it when the resource came without a time to live.
    pub fn set(&mut self, name: &Arc<str>, now: Time, ttl: Option<Duration>) {
        self.clear(name);
        if let Some(ttl) = ttl {
            let at = now + ttl;
            self.at.insert(Arc::clone(name), at);
            self.queue.insert((at, Arc::clone(name)));
        }
    }

    /// Stops the timer.
    pub fn clear(&mut self, name: &str) {
        if let Some((name, at)) = self.at.remove_entry(name) {
            self.queue.remove(&(at, name));
        }
    }

    /// When the next one expires.
    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// One that has expired.
    pub fn pop(&mut self, now: Time) -> Option<Arc<str>> {
        self.next().filter(|at| *at <= now)?;
        let (_, name) = self.queue.pop_first()?;
        self.at.remove(&name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_refreshed_and_stopped() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let second = Some(Duration::from_secs(1));
        let mut expiry = Expiry::default();
        expiry.set(&a, Time(0), second);
        expiry.set(&b, Time(0), second);
        expiry.set(&a, Time(500_000_000), second);
        assert_eq!(expiry.pop(Time(999_999_999)), None);
        assert_eq!(expiry.pop(Time(1_000_000_000)), Some(b));
        assert_eq!(expiry.next(), Some(Time(1_500_000_000)));
        expiry.set(&a, Time(600_000_000), None);
        assert_eq!((expiry.next(), expiry.pop(Time::MAX)), (None, None));
    }
}
