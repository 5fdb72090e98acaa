//! `config.route.v3.WeightedCluster`.

use millrace_config::{ClusterSpecifier, WeightedBy, WeightedCluster, WeightedClusters};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::core::v3::Metadata;
use millrace_proto::pb::envoy::config::route::v3 as pb;
use millrace_proto::pb::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;
use millrace_proto::pb::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier;

use super::Scope;
use crate::context::Context;
use crate::error::Rejection;
use crate::{headers, metadata, per_filter, value};

/// `metadata` is the route's `metadata_match`.
pub(super) fn weighted(
    list: &pb::WeightedCluster,
    metadata: Option<&Metadata>,
    scope: &Scope<'_>,
    path: &Path,
    cx: &mut Context,
) -> Result<ClusterSpecifier, Rejection> {
    let entries_path = path.join("clusters");
    let mut clusters = Vec::with_capacity(list.clusters.len());
    let mut total = 0_u64;
    for (i, entry) in list.clusters.iter().enumerate() {
        let mut cluster = one(entry, scope, &entries_path.at(i), cx)?;
        cluster.metadata_match = metadata::matching(&[metadata, entry.metadata_match.as_ref()]);
        total += u64::from(cluster.weight);
        clusters.push(cluster);
    }
    if total == 0 {
        return Err(Rejection::new(
            &entries_path,
            "Sum of weights in the weighted_cluster must be greater than 0.",
        ));
    }
    if total > u64::from(u32::MAX) {
        let why = format!("The sum of weights of all weighted clusters of route exceeds {}", u32::MAX);
        return Err(Rejection::new(&entries_path, why));
    }
    let by = match &list.random_value_specifier {
        Some(RandomValueSpecifier::HeaderName(name)) if !name.is_empty() => {
            WeightedBy::Header(value::lower_bytes(name))
        }
        Some(RandomValueSpecifier::UseHashPolicy(uses)) if uses.value => WeightedBy::HashPolicy,
        _ => WeightedBy::Chance,
    };
    Ok(ClusterSpecifier::Weighted(Box::new(WeightedClusters { clusters, total, by })))
}

fn one(
    entry: &pb::weighted_cluster::ClusterWeight,
    scope: &Scope<'_>,
    path: &Path,
    cx: &mut Context,
) -> Result<WeightedCluster, Rejection> {
    let cluster = match (entry.name.as_str(), entry.cluster_header.as_str()) {
        ("", "") => {
            return Err(Rejection::new(path, "At least one of name or cluster_header need to be specified"));
        }
        (name, "") => {
            let path = path.join("name");
            ClusterSpecifier::Cluster(match scope.validate_clusters {
                true => cx.existing_cluster(name, "weighted cluster", &path)?,
                false => cx.target_cluster(name, &path)?,
            })
        }
        ("", header) => ClusterSpecifier::Header(value::lower_bytes(header)),
        _ => return Err(Rejection::new(path, "Only one of name or cluster_header can be specified")),
    };
    Ok(WeightedCluster {
        cluster,
        metadata_match: None,
        weight: value::number(entry.weight.as_ref(), 0),
        request_headers: headers::mutations(
            &entry.request_headers_to_add,
            &entry.request_headers_to_remove,
            "request",
            path,
        )?,
        response_headers: headers::mutations(
            &entry.response_headers_to_add,
            &entry.response_headers_to_remove,
            "response",
            path,
        )?,
        host_rewrite: entry
            .host_rewrite_specifier
            .as_ref()
            .map(|HostRewriteSpecifier::HostRewriteLiteral(host)| value::bytes(host)),
        per_filter: per_filter::configs(&entry.typed_per_filter_config, path, cx)?,
    })
}
