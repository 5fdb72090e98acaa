//! Verdicts that wait: on an aggregated stream, clusters are acknowledged when they are warm.

use std::collections::HashSet;
use std::sync::Arc;

use millrace_ads::{Rejected, UpdateId, Verdict};
use millrace_config::SourceId;

use crate::action::Action;

struct Waiting {
    source: SourceId,
    id: UpdateId,
    rejected: Vec<Rejected>,
    clusters: HashSet<Arc<str>>,
}

/// The verdicts that are not given yet, oldest first.
#[derive(Default)]
pub(crate) struct Acks(Vec<Waiting>);

impl Acks {
    /// Answers at once.
    pub(crate) fn now(
        &mut self,
        source: SourceId,
        id: UpdateId,
        rejected: Vec<Rejected>,
        out: &mut Vec<Action>,
    ) {
        if id != UpdateId::NO_VERDICT {
            out.push(Action::Verdict(source, id, Verdict { rejected }));
        }
    }

    /// Answers when none of `clusters` warms any more.
    pub(crate) fn when_warm(
        &mut self,
        source: SourceId,
        id: UpdateId,
        rejected: Vec<Rejected>,
        clusters: HashSet<Arc<str>>,
        out: &mut Vec<Action>,
    ) {
        if clusters.is_empty() || id == UpdateId::NO_VERDICT {
            return self.now(source, id, rejected, out);
        }
        self.0.push(Waiting { source, id, rejected, clusters });
    }

    /// A cluster is warm, or gone.
    pub(crate) fn settled(&mut self, cluster: &str, out: &mut Vec<Action>) {
        for waiting in &mut self.0 {
            waiting.clusters.remove(cluster);
        }
        let done = self.0.extract_if(.., |waiting| waiting.clusters.is_empty());
        out.extend(done.map(|w| Action::Verdict(w.source, w.id, Verdict { rejected: w.rejected })));
    }
}
