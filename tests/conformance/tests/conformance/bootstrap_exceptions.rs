//! Bootstraps on which we differ from Envoy on purpose, each with the reason.

/// Envoy's validation never opens the admin address, so it does not notice that the file is a template. Started
/// for real, Envoy refuses it with the words that we use when validating: `malformed IP address`.
const PLACEHOLDER: &str =
    "the admin address is a placeholder, which --mode validate does not notice in Envoy";

/// Started for real, Envoy logs the words that we refuse the file with, and goes on without health discovery.
const HEALTH_DISCOVERY: &str =
    "an hds_config without a service is refused, Envoy leaves health discovery out";

/// `(file, why)`.
pub const EXCEPTIONS: &[(&str, &str)] = &[
    ("envoy/envoy/test/server/test_data/server/hds_exception.yaml", HEALTH_DISCOVERY),
    ("envoy/envoy/test/server/test_data/server/node_bootstrap_agent_deprecated_override.yaml", PLACEHOLDER),
    ("envoy/envoy/test/server/test_data/server/node_bootstrap_agent_override.yaml", PLACEHOLDER),
    ("envoy/envoy/test/server/test_data/server/node_bootstrap_without_access_log.yaml", PLACEHOLDER),
];
