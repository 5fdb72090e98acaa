//! Copies of requests (`request_mirror_policies`): which are made, where they go, and how their heads differ.

use std::io::Write as _;
use std::net::IpAddr;

use millrace_config::{ClusterId, MirrorPolicy, MirrorTarget, Snapshot};
use millrace_http::{HeaderId, RequestHead};
use millrace_route::strip_port;

use super::{Render, mutation};
use crate::http::shaping::header_mutation::request_step;

/// The cluster that gets a copy of this request; `None` when there is no copy. `random` is the same for all policies of
/// one request, as in Envoy.
pub fn target(
    policy: &MirrorPolicy,
    random: u64,
    head: &RequestHead,
    snapshot: &Snapshot,
) -> Option<ClusterId> {
    if policy.fraction.is_some_and(|f| random % u64::from(f.denominator.max(1)) >= u64::from(f.numerator)) {
        return None;
    }
    let cluster = match &policy.target {
        MirrorTarget::Cluster(id) => snapshot.cluster(*id)?,
        MirrorTarget::Header(name) => {
            let named = match &**name {
                b":authority" | b"host" => head.authority(),
                name => head.headers.values_name(name).next()?,
            };
            snapshot.cluster_by_name(std::str::from_utf8(named).ok()?)?
        }
    };
    Some(cluster.id)
}

/// Turns the head as it goes upstream into that of its copy. `own` is our address for `x-forwarded-for`; `scratch` is
/// used.
pub fn mark(
    policy: &MirrorPolicy,
    render: &dyn Render,
    own: Option<IpAddr>,
    head: &mut RequestHead,
    scratch: &mut Vec<u8>,
) {
    for step in &policy.mutations {
        request_step(step, render, head, scratch);
    }
    if let Some(host) = &policy.host_rewrite {
        head.set_authority(host);
    } else if policy.marks_host {
        scratch.clear();
        let authority = head.authority();
        let host = strip_port(authority);
        scratch.extend_from_slice(host);
        scratch.extend_from_slice(b"-shadow");
        scratch.extend_from_slice(&authority[host.len()..]);
        head.set_authority(scratch);
    }
    head.headers.set_id(HeaderId::XEnvoyInternal, b"true");
    if let Some(own) = own {
        scratch.clear();
        // Writing to a Vec cannot fail.
        let _ = write!(scratch, "{own}");
        mutation::add(&mut head.headers, b"x-forwarded-for", scratch);
    }
}

#[cfg(test)]
mod tests {
    use millrace_config::{Fraction, HeaderMutationStep};

    use super::*;
    use crate::http::test::{Literal, bytes, head, lines, text};

    fn policy() -> MirrorPolicy {
        MirrorPolicy {
            target: MirrorTarget::Header(bytes("x-shadow")),
            fraction: None,
            marks_host: true,
            mutations: Vec::new(),
            host_rewrite: None,
        }
    }

    #[test]
    fn heads_of_copies_as_envoy_1_40_sends_them() {
        let marked = |policy: &MirrorPolicy, authority: &str, sent: &[(&str, &str)]| {
            let mut copy = head("/", sent);
            copy.set_authority(authority.as_bytes());
            mark(policy, &Literal, Some([192, 0, 2, 2].into()), &mut copy, &mut Vec::new());
            (text(copy.authority()), lines(&copy.headers))
        };
        let added = "x-envoy-internal: true | x-forwarded-for: 192.0.2.2";
        assert_eq!(marked(&policy(), "a:80", &[]), ("a-shadow:80".into(), added.into()));
        assert_eq!(marked(&policy(), "a", &[]).0, "a-shadow");
        assert_eq!(marked(&policy(), "[::1]:80", &[]).0, "[::1]-shadow:80");
        let rewritten = MirrorPolicy {
            host_rewrite: Some(bytes("other")),
            mutations: vec![HeaderMutationStep::Remove(bytes("x-a"))],
            ..policy()
        };
        let (host, fields) = marked(&rewritten, "a", &[("x-a", "1"), ("x-forwarded-for", "10.0.0.1")]);
        assert_eq!(
            (&*host, &*fields),
            ("other", "x-forwarded-for: 10.0.0.1,192.0.2.2 | x-envoy-internal: true")
        );
        let unmarked = MirrorPolicy { marks_host: false, ..policy() };
        assert_eq!(marked(&unmarked, "a:80", &[]).0, "a:80");
    }

    #[test]
    fn without_a_cluster_or_outside_of_the_fraction_there_is_no_copy() {
        let snapshot = Snapshot::default();
        assert_eq!(target(&policy(), 0, &head("/", &[]), &snapshot), None);
        assert_eq!(target(&policy(), 0, &head("/", &[("x-shadow", "gone")]), &snapshot), None);
        let none = MirrorPolicy { fraction: Some(Fraction { numerator: 0, denominator: 100 }), ..policy() };
        assert_eq!(target(&none, 0, &head("/", &[("x-shadow", "gone")]), &snapshot), None);
    }
}
