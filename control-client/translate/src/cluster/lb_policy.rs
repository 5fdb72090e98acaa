//! `lb_policy` and `load_balancing_policy`.

use millrace_config::{LbPolicy, LeastRequest};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::cluster::v3 as pb;
use millrace_proto::pb::envoy::config::core::v3::RuntimeDouble;
use millrace_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3 as least;
use millrace_proto::pb::google::protobuf::UInt32Value;

use crate::context::Context;
use crate::error::Rejection;
use crate::{extension, value};

/// The typed policy when there is one, else the enum.
pub(super) fn lb_policy(cluster: &pb::Cluster, path: &Path, cx: &Context) -> Result<LbPolicy, Rejection> {
    use pb::cluster::LbPolicy as By;
    if let Some(policy) = &cluster.load_balancing_policy {
        return typed(policy, &path.join("load_balancing_policy"), cx);
    }
    match cluster.lb_policy() {
        By::RoundRobin => Ok(LbPolicy::RoundRobin),
        By::Random => Ok(LbPolicy::Random),
        By::LeastRequest => Ok(match &cluster.lb_config {
            Some(pb::cluster::LbConfig::LeastRequestLbConfig(config)) => {
                least_request(config.choice_count.as_ref(), config.active_request_bias.as_ref(), cx)
            }
            _ => least_request(None, None, cx),
        }),
        By::LoadBalancingPolicyConfig => {
            let why = "cluster: field load_balancing_policy need to be set";
            Err(Rejection::new(&path.join("load_balancing_policy"), why))
        }
        other => {
            let why = format!("the balancer {} is not served by this build", other.as_str_name());
            Err(Rejection::not_served(&path.join("lb_policy"), why))
        }
    }
}

/// The first policy of the list; Envoy takes the first that it knows, and it knows all that we know.
fn typed(policy: &pb::LoadBalancingPolicy, path: &Path, cx: &Context) -> Result<LbPolicy, Rejection> {
    let path = path.join("policies");
    let first = policy.policies.first().and_then(|policy| policy.typed_extension_config.as_ref());
    let Some(first) = first else {
        return Err(Rejection::new(&path, "Didn't find a registered load balancer factory"));
    };
    let path = path.at(0).join("typed_extension_config");
    let Some(any) = &first.typed_config else {
        return Err(extension::not_served("balancer", &first.name, None, &path));
    };
    match extension::type_of(any).as_str() {
        "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin" => Ok(LbPolicy::RoundRobin),
        "envoy.extensions.load_balancing_policies.random.v3.Random" => Ok(LbPolicy::Random),
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" => {
            let config: least::LeastRequest = extension::open(any, &path.join("typed_config"))?;
            Ok(least_request(config.choice_count.as_ref(), config.active_request_bias.as_ref(), cx))
        }
        _ => Err(extension::not_served("balancer", &first.name, Some(any), &path)),
    }
}

fn least_request(choices: Option<&UInt32Value>, bias: Option<&RuntimeDouble>, cx: &Context) -> LbPolicy {
    let bias = bias.map_or(1.0, |bias| cx.runtime.double(bias));
    LbPolicy::LeastRequest(LeastRequest {
        choice_count: value::number(choices, 2),
        // A negative or absurd bias counts as none, as in Envoy.
        active_request_bias: if bias.is_finite() && bias >= 0.0 { bias } else { 1.0 },
    })
}
