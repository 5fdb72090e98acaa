//! Retries that go to another of the route's clusters (`refresh_cluster_on_retry`).

use millrace_base::{Key, Written};
use millrace_config::{ClusterId, ClusterSpecifier, ScopeId};
use millrace_route::Rotation;

use super::routing::weighted_number;
use super::stream::Stream;
use crate::downstream::Downstream;
use crate::shard::Shard;

impl Stream {
    /// The cluster of the first try: its policies and its retry budget are those of the request.
    pub(super) fn home_cluster(&self) -> Option<ClusterId> {
        match &self.rotation {
            Some(rotation) => Some(rotation.home),
            None => self.facts.plan?.cluster,
        }
    }
}

impl Shard {
    /// Chooses the cluster of the next try, and says who counts it: nobody, if there is no such cluster. Only weighted
    /// clusters have another one to choose.
    pub(super) fn refresh_cluster(&mut self, id: Key) -> Option<ScopeId> {
        let stream = self.streams.get_mut(id)?;
        let options = stream.options.clone()?;
        let mut plan = stream.facts.plan?;
        if let Some(forward) = plan.forward(&options)
            && let ClusterSpecifier::Weighted(weighted) = &forward.cluster
            && let (Some(first), Some(home)) = (plan.weighted, stream.home_cluster())
        {
            let (client, random) = (self.downstreams.get(stream.downstream), self.rng.next_u64());
            let client = client.map(|client| &**client);
            let (head, notes) = (&stream.request, stream.facts.state.read());
            let written = Written::of(notes.as_deref(), client.and_then(Downstream::filter_state));
            let number = || weighted_number(weighted, forward, head, client, &written, random);
            let rotation =
                stream.rotation.get_or_insert_with(|| Box::new(Rotation::new(home, first, number())));
            let next = rotation.next(weighted);
            drop(notes);
            if let Some((index, entry)) = next.and_then(|i| Some((i, weighted.clusters.get(i)?))) {
                plan.weighted = Some(index);
                plan.cluster = millrace_route::entry_cluster(entry, &stream.request, &self.snapshot);
                stream.facts.plan = Some(plan);
            }
        }
        // Of the configuration: this shard may not have met the cluster yet.
        Some(self.snapshot.cluster(plan.cluster?)?.scope)
    }
}
