//! How long a load assignment holds without another one (`ClusterLoadAssignment.Policy.endpoint_stale_after`).

use std::sync::Arc;
use std::time::Duration;

use millrace_ads::Resource;
use millrace_base::Time;
use millrace_config::SourceId;
use millrace_observe::stats::cluster as metric;

use crate::deadlines::Due;
use crate::{Assembly, Turn};

/// The time that one assignment has.
#[derive(Debug, Default)]
pub(crate) enum Life {
    /// As long as it takes.
    #[default]
    Endless,
    /// Until then, unless the control plane tells it again.
    Until(Time, Duration),
    /// It is over: its clusters have no endpoints.
    Over,
}

impl Life {
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}

impl Assembly {
    /// An assignment was told, and holds for this long.
    pub(crate) fn begin_life(
        &mut self,
        turn: &mut Turn<'_>,
        source: SourceId,
        service: &Arc<str>,
        stale_after: Option<Duration>,
    ) {
        let Some(assignment) = self.assignments.get_mut(source, service) else { return };
        let Some(after) = stale_after else {
            assignment.life = Life::Endless;
            return;
        };
        let until = turn.now + after;
        assignment.life = Life::Until(until, after);
        self.watch_life(source, service);
        for name in self.users(source, service) {
            if let Some(cluster) = self.clusters.entries.get(&name).and_then(|entry| entry.latest()) {
                turn.stats.inc(cluster.cluster.scope, metric::ASSIGNMENT_TIMEOUT_RECEIVED);
            }
        }
    }

    /// The control plane told an assignment once more, without a change: it holds again.
    pub(crate) fn told_again(&mut self, turn: &mut Turn<'_>, source: SourceId, service: &Arc<str>) {
        let Some(assignment) = self.assignments.get(source, service) else { return };
        match assignment.life {
            Life::Endless => {}
            Life::Until(_, after) => self.begin_life(turn, source, service, Some(after)),
            Life::Over => {
                let Some(stored) = &assignment.stored else { return };
                let body = stored.body.bytes().as_ref().into();
                let again = Resource { name: service.clone(), version: stored.version.clone(), body };
                // It was taken before, and nothing that it is checked against can have changed since.
                let _ = self.put_assignment(turn, source, &again);
            }
        }
    }

    /// The time of an assignment may be over.
    pub(crate) fn assignment_is_due(&mut self, turn: &mut Turn<'_>, source: SourceId, service: &Arc<str>) {
        let Some(assignment) = self.assignments.get_mut(source, service) else { return };
        assignment.is_watched = false;
        match assignment.life {
            Life::Until(until, _) if until <= turn.now => {
                assignment.life = Life::Over;
                self.take_nothing(turn, source, service);
            }
            _ => self.watch_life(source, service),
        }
    }

    /// One deadline an assignment: however often it is told, they do not pile up.
    fn watch_life(&mut self, source: SourceId, service: &Arc<str>) {
        let Some(assignment) = self.assignments.get_mut(source, service) else { return };
        if let Life::Until(until, _) = assignment.life
            && !std::mem::replace(&mut assignment.is_watched, true)
        {
            self.deadlines.insert(until, Due::Stale(source, service.clone()));
        }
    }
}
