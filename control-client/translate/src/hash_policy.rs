//! `RouteAction.HashPolicy`, on routes and in balancers, and `type.v3.HashPolicy` of the TCP proxy.

use std::time::Duration;

use millrace_config::{HashCookie, HashMethod, HashPolicy};
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::route::v3::route_action as pb;
use millrace_proto::pb::envoy::config::route::v3::route_action::hash_policy::PolicySpecifier as By;
use millrace_proto::pb::envoy::r#type::v3 as kinds;

use crate::error::Rejection;
use crate::{regex_util, value};

/// A list of policies in its order.
pub(crate) fn policies(list: &[pb::HashPolicy], path: &Path) -> Result<Vec<HashPolicy>, Rejection> {
    let mut out = Vec::with_capacity(list.len());
    for (i, policy) in list.iter().enumerate() {
        let path = path.at(i);
        let method = match &policy.policy_specifier {
            None => return Err(Rejection::new(&path.join("policy_specifier"), "is required")),
            // Envoy drops such a policy, `terminal` included.
            Some(By::ConnectionProperties(of)) if !of.source_ip => continue,
            Some(By::ConnectionProperties(_)) => HashMethod::SourceIp,
            Some(By::Header(header)) => {
                let path = path.join("header").join("regex_rewrite");
                let rewrite = match &header.regex_rewrite {
                    None => None,
                    Some(rewrite) => Some(Box::new(regex_util::rewrite(rewrite, &path)?)),
                };
                HashMethod::Header { name: value::lower_bytes(&header.header_name), rewrite }
            }
            Some(By::Cookie(cookie)) => HashMethod::Cookie(Box::new(of_cookie(cookie))),
            Some(By::QueryParameter(query)) => HashMethod::QueryParameter(value::bytes(&query.name)),
            Some(By::FilterState(state)) => HashMethod::FilterState(value::text(&state.key)),
        };
        out.push(HashPolicy { method, terminal: policy.terminal });
    }
    Ok(out)
}

fn of_cookie(cookie: &pb::hash_policy::Cookie) -> HashCookie {
    HashCookie {
        name: value::bytes(&cookie.name),
        path: value::text(&cookie.path),
        ttl: cookie.ttl.as_ref().map(|ttl| Duration::from_secs(ttl.seconds.max(0).unsigned_abs())),
        attributes: cookie
            .attributes
            .iter()
            .map(|attribute| (value::text(&attribute.name), value::text(&attribute.value)))
            .collect(),
    }
}

/// What the TCP proxy hashes.
pub(crate) fn of_connection(list: &[kinds::HashPolicy]) -> Vec<HashPolicy> {
    use kinds::hash_policy::PolicySpecifier;
    let method = |policy: &kinds::HashPolicy| match &policy.policy_specifier {
        Some(PolicySpecifier::SourceIp(_)) => Some(HashMethod::SourceIp),
        Some(PolicySpecifier::FilterState(state)) => Some(HashMethod::FilterState(value::text(&state.key))),
        None => None,
    };
    list.iter().filter_map(|policy| Some(HashPolicy { method: method(policy)?, terminal: false })).collect()
}
