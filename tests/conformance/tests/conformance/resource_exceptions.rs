//! Resources on which we differ from Envoy on purpose, each with the reason.

const PLACEHOLDER: &str = "a placeholder stands for the certificate, which the oracle replaced by a real one";

/// One resource of one file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exception {
    /// Part of the file's path.
    pub file: &'static str,
    /// The resource's name.
    pub resource: &'static str,
    /// Why.
    pub why: &'static str,
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        file: "default-proxy-profile/2-envoy-config.golden.yaml",
        resource: "system_envoy_admin",
        why: PLACEHOLDER,
    },
    Exception {
        file: "meshproxypatch/cluster-add.zone-proxy-ingress.golden.json",
        resource: "system_envoy_admin",
        why: PLACEHOLDER,
    },
    Exception {
        file: "meshproxypatch/label-scope.zone-proxy-ingress.golden.json",
        resource: "system_envoy_admin",
        why: PLACEHOLDER,
    },
];

/// A scenario that Envoy refuses as a bootstrap and we accept resource by resource.
#[derive(Debug)]
pub struct Accepted {
    /// What its files share.
    pub scenario: &'static str,
    /// Why.
    pub why: &'static str,
}

/// All of them.
pub const ACCEPTED: &[Accepted] = &[];
