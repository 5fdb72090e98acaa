//! Aggregate clusters whose members come, change and go.

use millrace_e2e::{Case, case};
use millrace_support::subject::Subject;
use millrace_support::upstream::Upstream;
use millrace_support::xds::yaml::{self, Flavor};
use millrace_support::xds::{Type, from_yaml};
use millrace_xds_tests::{World, wait_get};

pub(crate) const CASES: &[Case] = &[case!(members_come_change_and_go)];

const AGGREGATE: &str = "{name: up, connect_timeout: 1s, lb_policy: CLUSTER_PROVIDED, cluster_type: {name: envoy.clusters.aggregate, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [first, second]}}}";

fn members_come_change_and_go(subject: &Subject) {
    for flavor in [Flavor::AdsSotw, Flavor::AdsDelta] {
        let world = World::start(flavor);
        let (a, b) = (Upstream::fixed("a"), Upstream::fixed("b"));
        let proxy = world.proxy(subject);
        wait_get(&proxy, 200, "one");
        // The cluster of the route turns into an aggregate without a member that exists.
        world.plane.set(from_yaml(Type::Cluster, AGGREGATE));
        wait_get(&proxy, 503, "no healthy upstream");
        world.plane.set(yaml::static_cluster("second", &[b.address()], ""));
        wait_get(&proxy, 200, "b");
        world.plane.update(|change| {
            change.set(yaml::eds_cluster("first", flavor, "")).set(yaml::endpoints("first", &[a.address()]));
        });
        wait_get(&proxy, 200, "a");
        world.plane.set(yaml::endpoints("first", &[]));
        wait_get(&proxy, 200, "b");
        world.plane.set(yaml::endpoints("first", &[a.address()]));
        wait_get(&proxy, 200, "a");
        world.plane.remove(Type::Cluster, "first");
        wait_get(&proxy, 200, "b");
        world.plane.remove(Type::Cluster, "second");
        wait_get(&proxy, 503, "no healthy upstream");
        world.plane.set(yaml::eds_cluster("up", flavor, ""));
        wait_get(&proxy, 200, "one");
    }
}
