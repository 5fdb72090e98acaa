//! `ClusterLoadAssignment.policy.drop_overloads`: the control plane has a share of the requests refused.

use millrace_config::DropOverload;
use millrace_proto::Path;
use millrace_proto::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;

use crate::context::Context;
use crate::error::Rejection;
use crate::{runtime, value};

/// The most that may be refused, percent.
const LIMIT_RUNTIME: &str = "load_balancing_policy.drop_overload_limit";
const MILLION: u64 = 1_000_000;

/// What is refused of the requests to a cluster with this assignment at `path`; `None` for nothing.
pub(super) fn drop_overload(
    assignment: Option<&ClusterLoadAssignment>,
    path: &Path,
    cx: &Context,
) -> Result<Option<Box<DropOverload>>, Rejection> {
    let policy = assignment.and_then(|assignment| assignment.policy.as_ref());
    let path = path.join("policy").join("drop_overloads");
    let one = match policy.map_or(&[][..], |policy| &policy.drop_overloads) {
        [] => return Ok(None),
        [one] => one,
        more => {
            let why = format!("{} categories, but Envoy serves only one", more.len());
            return Err(Rejection::new(&path, why));
        }
    };
    let share = one.drop_percentage.as_ref().map(runtime::fraction);
    let share = share.map_or(0, |share| u64::from(share.numerator) * MILLION / u64::from(share.denominator));
    if share > MILLION {
        return Err(Rejection::new(&path.at(0).join("drop_percentage"), "more than all requests"));
    }
    let limit = cx.runtime.integer(LIMIT_RUNTIME).unwrap_or(100);
    if limit > 100 {
        let why = format!("the runtime key {LIMIT_RUNTIME} is {limit}, more than 100");
        return Err(Rejection::new(&path, why));
    }
    // No more than a million.
    let per_million = share.min(limit * (MILLION / 100)) as u32;
    let category = value::text(&one.category);
    Ok((per_million > 0).then(|| Box::new(DropOverload { category, per_million })))
}

#[cfg(test)]
mod tests {
    use millrace_observe::stats::Registry;
    use millrace_proto::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
    use millrace_proto::pb::envoy::config::endpoint::v3::cluster_load_assignment::policy;
    use millrace_proto::pb::envoy::r#type::v3::FractionalPercent;

    use super::*;
    use crate::Overrides;
    use crate::runtime::{RuntimeLayer, RuntimeValue};

    fn read(numerators: &[u32], denominator: i32, limit: Option<f64>) -> Result<Option<u32>, String> {
        let mut cx = Context::new(Registry::new(), Overrides::default());
        let values = limit.map(|limit| (LIMIT_RUNTIME.to_owned(), RuntimeValue::Number(limit)));
        let values = values.into_iter().collect();
        cx.runtime.layers.push(RuntimeLayer { name: "l".into(), values, admin: false, rtds: None });
        let one = |numerator: &u32| policy::DropOverload {
            category: "throttle".into(),
            drop_percentage: Some(FractionalPercent { numerator: *numerator, denominator }),
        };
        let drop_overloads = numerators.iter().map(one).collect();
        let policy = Policy { drop_overloads, ..Policy::default() };
        let assignment = ClusterLoadAssignment { policy: Some(policy), ..ClusterLoadAssignment::default() };
        let found = drop_overload(Some(&assignment), &Path::default(), &cx).map_err(|why| why.to_string())?;
        assert!(found.as_ref().is_none_or(|drops| &*drops.category == "throttle"));
        Ok(found.map(|drops| drops.per_million))
    }

    #[test]
    fn a_share_of_a_million_within_the_limit() {
        for (numerator, denominator, limit, expected) in [
            (0, 0, None, None),
            (100, 0, None, Some(1_000_000)),
            (25, 1, None, Some(2_500)),
            (7, 2, None, Some(7)),
            (60, 0, Some(40.0), Some(400_000)),
            (30, 0, Some(40.0), Some(300_000)),
            (30, 0, Some(0.0), None),
        ] {
            assert_eq!(read(&[numerator], denominator, limit), Ok(expected), "{numerator} {limit:?}");
        }
        assert_eq!(read(&[], 0, None), Ok(None));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (numerators, limit, why) in [
            (&[101][..], None, "policy.drop_overloads[0].drop_percentage: more than all requests"),
            (&[u32::MAX], None, "policy.drop_overloads[0].drop_percentage: more than all requests"),
            (&[1, 1], None, "policy.drop_overloads: 2 categories, but Envoy serves only one"),
            (
                &[1],
                Some(101.0),
                "policy.drop_overloads: the runtime key load_balancing_policy.drop_overload_limit is 101, more than 100",
            ),
        ] {
            assert_eq!(read(numerators, 0, limit), Err(why.to_owned()));
        }
    }
}
