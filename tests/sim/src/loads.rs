//! What must be true of streams of load reports: once the endpoints are well, each of them is asked on one connection and
//! its weight known; once nobody asks any more, nothing is left.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{Address, Cluster, ClusterId, EndpointChanges, Update};
use millrace_observe::stats::cluster;
use millrace_ring::sim::FaultPlan;
use millrace_shard::shared::Message;

use crate::fixture;
use crate::setup::Disturbance;
use crate::world::World;

const ID: ClusterId = ClusterId(0);
/// Endpoints break off, answer badly and keep silent for so long.
const ILL: Duration = Duration::from_secs(20);
/// The longest wait before an endpoint is asked again, and what it may take to notice that its last stream is of no use.
const WELL: Duration = Duration::from_secs(30 + 10);

impl World {
    /// Publishes a version of the cluster; shards are told what changed since `before`.
    fn publish_cluster(&mut self, cluster: Cluster, before: Option<&Arc<Cluster>>) -> Arc<Cluster> {
        let (version, cluster) = (cluster.endpoints_version, Arc::new(cluster));
        let changes = before.and_then(|before| EndpointChanges::between(before, &cluster));
        let (clusters, endpoints) = (vec![(ID, Some(cluster.clone()))], changes.into_iter().collect());
        let update = Arc::new(Update { version, clusters, endpoints, ..Update::default() });
        self.tell_all(|| Message::Update(update.clone()));
        cluster
    }

    /// After the traffic: the endpoints go on for a while, then get well; at last they are asked no more.
    pub(crate) fn load_streams_recover(&mut self) {
        let Some(base) = self.snapshot.clusters.first().cloned().flatten() else { return };
        if !self.setup.knobs.load_streams {
            return;
        }
        let version = self.snapshot.version + 500;
        let all = Cluster { endpoints_version: version, ..Cluster::clone(&base) };
        let all = self.publish_cluster(all, None);
        self.settle(ILL);
        // A network without faults, so that whatever is missing was lost by the proxy.
        self.net.set_plan(FaultPlan { window: self.setup.plan.window, ..FaultPlan::default() });
        self.reporters.iter_mut().for_each(|reporter| reporter.heal());
        self.settle(WELL);
        self.every_endpoint_reports();
        let mut some = Cluster { endpoints_version: version + 1, ..Cluster::clone(&base) };
        some.localities.iter_mut().for_each(|locality| locality.endpoints.truncate(1));
        let told = self.rng.chance(1, 2);
        self.publish_cluster(some, Some(&all).filter(|_| told));
        self.settle(Duration::from_secs(1));
        self.nothing_is_left_of(1);
        let mut silent = Cluster { endpoints_version: version + 2, ..Cluster::clone(&base) };
        silent.balancing.load_stream = None;
        self.publish_cluster(silent, None);
        self.settle(Duration::from_secs(1));
        self.nothing_is_left_of(0);
    }

    fn every_endpoint_reports(&mut self) {
        for (reporter, endpoint) in self.reporters.iter().zip(&self.endpoints) {
            if reporter.refused {
                continue;
            }
            let all = (reporter.connections(), reporter.streams());
            if all != (1, 1) {
                self.ledger.violation(format!("{endpoint} has {all:?} connections and streams of reports"));
            }
            let known = self.shared.load_book(ID, |book| book.last(&Address::Inet(*endpoint))).flatten();
            if known != Some(reporter.weight()) {
                let text = format!("{endpoint} has the weight {known:?}, not {}", reporter.weight());
                self.ledger.violation(text);
            }
        }
        let sum = |of: fn(&crate::h2::reporter::Reporter) -> [u64; 2]| {
            self.reporters.iter().map(of).fold([0; 2], |[a, b], [c, d]| [a + c, b + d])
        };
        let (sent, whole) = (sum(|reporter| reporter.sent), sum(|reporter| reporter.whole));
        let scope = fixture::cluster_scope(&self.registry);
        let counters = [cluster::LB_ORCA_OOB_REPORTS_RECEIVED, cluster::LB_ORCA_OOB_REPORT_ERRORS];
        let found = counters.map(|counter| self.registry.counter(scope, counter));
        // What was on its way to a stream that the proxy gave up need not have come.
        let steady = self.setup.lossless && self.setup.disturbance == Disturbance::None;
        for at in 0..2 {
            if found[at] > sent[at] || (steady && found[at] < whole[at]) {
                self.ledger.violation(format!("{found:?} reports of {sent:?} came, {whole:?} must have"));
            }
        }
    }

    /// Nobody asks the endpoints from this one on.
    fn nothing_is_left_of(&mut self, first: usize) {
        for (reporter, endpoint) in self.reporters.iter().zip(&self.endpoints).skip(first) {
            let known = self.shared.load_book(ID, |book| book.last(&Address::Inet(*endpoint))).flatten();
            if reporter.connections() > 0 || known.is_some() {
                let text =
                    format!("{endpoint} is asked no more, but has {} connections", reporter.connections());
                self.ledger.violation(format!("{text} and the weight {known:?}"));
            }
        }
    }
}
