//! `upstream_rq_<code>` and its relatives: response codes counted sparsely.
//!
//! A chain of small nodes, written by one shard and read by the control thread. Classes (`2xx`) and
//! `completed` are sums over codes, made when somebody scrapes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Which of the parallel sets of response-code counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CodeFamily {
    /// `upstream_rq_<code>`.
    Plain,
    /// `canary.upstream_rq_<code>`.
    Canary,
    /// `external.upstream_rq_<code>`.
    External,
    /// `internal.upstream_rq_<code>`.
    Internal,
    /// `retry.upstream_rq_<code>`.
    Retry,
}

impl CodeFamily {
    /// Every family.
    pub const ALL: &'static [Self] =
        &[Self::Plain, Self::Canary, Self::External, Self::Internal, Self::Retry];

    /// What stands before `upstream_rq_`.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Canary => "canary.",
            Self::External => "external.",
            Self::Internal => "internal.",
            Self::Retry => "retry.",
        }
    }
}

/// Stands for a code that is counted in `completed` alone.
pub const UNNAMED_CODE: u16 = 1000;

/// Stands for every code above 599, as in Envoy: `upstream_rq_unknown`, and no class.
pub(crate) const UNKNOWN_CODE: u16 = 999;

const PER_NODE: usize = 7;

#[derive(Debug, Default)]
struct Node {
    /// 0 for a free place, else family and code plus [`TAKEN`].
    keys: [AtomicU32; PER_NODE],
    counts: [AtomicU64; PER_NODE],
    next: OnceLock<Box<Node>>,
}

const TAKEN: u32 = 1 << 31;

fn key(family: CodeFamily, code: u16) -> u32 {
    TAKEN | (family as u32) << 16 | u32::from(code)
}

/// Counts by family and code. One writer.
#[derive(Debug, Default)]
pub(crate) struct CodeCounters(OnceLock<Box<Node>>);

impl CodeCounters {
    /// Counts one response. Only codes 100-999 are kept, and [`UNNAMED_CODE`], which bounds the chain.
    pub(crate) fn inc(&self, family: CodeFamily, code: u16) {
        if !(100..=UNNAMED_CODE).contains(&code) {
            return;
        }
        let code = if (600..UNNAMED_CODE).contains(&code) { UNKNOWN_CODE } else { code };
        let wanted = key(family, code);
        let mut node = self.0.get_or_init(Box::default);
        loop {
            for (key, count) in node.keys.iter().zip(&node.counts) {
                match key.load(Ordering::Relaxed) {
                    found if found == wanted => {
                        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        return;
                    }
                    0 => {
                        count.store(1, Ordering::Relaxed);
                        key.store(wanted, Ordering::Release);
                        return;
                    }
                    _ => {}
                }
            }
            node = node.next.get_or_init(Box::default);
        }
    }

    /// Calls `each(family, code, count)` in the order of first use.
    pub(crate) fn for_each(&self, mut each: impl FnMut(CodeFamily, u16, u64)) {
        let mut next = self.0.get();
        while let Some(node) = next {
            for (key, count) in node.keys.iter().zip(&node.counts) {
                let key = key.load(Ordering::Acquire);
                let family = CodeFamily::ALL.get(((key & !TAKEN) >> 16) as usize);
                if let (true, Some(family)) = (key != 0, family) {
                    each(*family, (key & 0xffff) as u16, count.load(Ordering::Relaxed));
                }
            }
            next = node.next.get();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kept_apart_by_family() {
        let codes = CodeCounters::default();
        for code in [200, 200, 404, 99, 1001, 503, 504, 500, 501, 502, 505, 204] {
            codes.inc(CodeFamily::Plain, code);
        }
        codes.inc(CodeFamily::External, 200);
        for code in [600, 799, 998] {
            codes.inc(CodeFamily::Canary, code);
        }
        let mut seen = Vec::new();
        codes.for_each(|family, code, count| seen.push((family, code, count)));
        seen.sort();
        assert_eq!(seen.len(), 11);
        assert_eq!(seen[0], (CodeFamily::Plain, 200, 2));
        assert_eq!(seen[9], (CodeFamily::Canary, UNKNOWN_CODE, 3));
        assert_eq!(seen[10], (CodeFamily::External, 200, 1));
    }
}
