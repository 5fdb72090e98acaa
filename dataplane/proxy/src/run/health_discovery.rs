//! Health discovery (HDS): a control plane says what is to be checked, and is told what was found.

use std::time::Duration;

use millrace_ads::source::GrpcService;
use millrace_assembly::Phase;
use millrace_config::{Cluster, Endpoint, LocalityEndpoints, ScopeId};
use millrace_driver::xds::{HealthEvent, HealthReporter};
use millrace_observe::stats::{ControlStats, Registry, ScopeKind, hds_delegate};
use millrace_proto::pb::envoy::config::core::v3::{HealthStatus, Locality, Node};
use millrace_proto::pb::envoy::config::endpoint::v3 as endpoints;
use millrace_proto::pb::envoy::service::health::v3 as pb;
use millrace_proto::pb::google::protobuf::{Struct, Value, value::Kind};
use millrace_shard::shared::Shared;
use millrace_translate::Compiled;
use millrace_upstream::health_check::CheckFlags;

use super::control::Control;
use super::loads::address;
use super::xds;
use crate::logging::{Component, Level};

/// Interval of a server that names none.
const INTERVAL: Duration = Duration::from_secs(1);

/// `hds_config` and what came of it.
pub struct HealthDiscovery {
    state: State,
    /// What is in force, as it came on this stream.
    assigned: Option<Vec<u8>>,
    stats: ControlStats,
    scope: ScopeId,
}

enum State {
    /// Start-up is not that far.
    Waiting(Box<(GrpcService, Node)>),
    Started(HealthReporter),
}

impl HealthDiscovery {
    /// `None` without an `hds_config`. Nothing is contacted before [`Control::start_health_discovery`].
    pub fn new(compiled: &Compiled, registry: &Registry) -> Option<Self> {
        let service = compiled.dynamic.health_discovery.clone()?;
        Some(Self {
            state: State::Waiting(Box::new((service, xds::node_of(compiled)))),
            assigned: None,
            stats: registry.attach_control(),
            scope: registry.scope(ScopeKind::HdsDelegate, ""),
        })
    }
}

/// The next event; none ever comes where nothing is discovered. Cancel safe.
pub async fn next(discovery: &mut Option<HealthDiscovery>) -> HealthEvent {
    match discovery.as_mut().map(|discovery| &mut discovery.state) {
        Some(State::Started(reporter)) => reporter.next().await,
        Some(State::Waiting(_)) | None => std::future::pending().await,
    }
}

impl Control {
    /// As load reports: when the clusters of the bootstrap are ready and runtime layers have come.
    pub(super) fn start_health_discovery(&mut self) {
        let is_time = self.xds.assembly.phase() >= Phase::Clusters;
        if let Some(discovery) = self.health_discovery.as_mut().filter(|_| is_time)
            && let State::Waiting(whom) = &discovery.state
        {
            let (service, node) = *whom.clone();
            discovery.state = State::Started(HealthReporter::start(service, node, xds::seed()));
        }
    }

    /// Something came from the server, or a report is due.
    pub(super) fn health_discovery_event(&mut self, event: HealthEvent) {
        let Some(discovery) = &mut self.health_discovery else { return };
        let (stats, scope) = (&mut discovery.stats, discovery.scope);
        match event {
            HealthEvent::Opening => stats.inc(scope, hds_delegate::RESPONSES),
            HealthEvent::Assigned(specifier) => {
                stats.inc(scope, hds_delegate::REQUESTS);
                if discovery.assigned.as_ref() != Some(&specifier) {
                    self.assign_checks(specifier);
                }
            }
            HealthEvent::Due => {
                let report = report(self.xds.assembly.health_clusters(), &self.workers.shared);
                if let State::Started(reporter) = &mut discovery.state
                    && reporter.report(report)
                {
                    stats.inc(scope, hds_delegate::RESPONSES);
                }
            }
            HealthEvent::Disconnected { reason, failed } => {
                discovery.assigned = None;
                stats.inc(scope, hds_delegate::ERRORS);
                let level = if failed { Level::Warning } else { Level::Debug };
                self.logger.log(Component::UPSTREAM, level, format_args!("{reason}"));
            }
        }
    }

    /// Puts a specifier in force, or keeps the one before.
    fn assign_checks(&mut self, specifier: Vec<u8>) {
        let mut interval = Ok(None);
        self.assemble(|assembly, turn| interval = assembly.assign_checks(turn, &specifier));
        let Some(discovery) = &mut self.health_discovery else { return };
        match interval {
            Ok(interval) => {
                discovery.assigned = Some(specifier);
                discovery.stats.inc(discovery.scope, hds_delegate::UPDATES);
                if let State::Started(reporter) = &mut discovery.state {
                    reporter.report_every(interval.unwrap_or(INTERVAL));
                }
            }
            Err(reason) => {
                discovery.stats.inc(discovery.scope, hds_delegate::ERRORS);
                let message = format_args!("Unable to validate health check specifier: {reason}");
                self.logger.log(Component::UPSTREAM, Level::Warning, message);
            }
        }
    }
}

/// What is known of every endpoint; nothing where nothing is checked.
#[expect(deprecated, reason = "Envoy fills the flat list as well")]
fn report<'c>(
    clusters: impl Iterator<Item = &'c Cluster>,
    shared: &Shared,
) -> Option<pb::EndpointHealthResponse> {
    let mut report = pb::EndpointHealthResponse::default();
    for cluster in clusters {
        let filled = cluster.localities.iter().filter(|locality| !locality.endpoints.is_empty());
        let localities: Vec<_> = filled.map(|locality| locality_health(cluster, locality, shared)).collect();
        let flat = localities.iter().flat_map(|locality| &locality.endpoints_health);
        report.endpoints_health.extend(flat.cloned());
        report.cluster_endpoints_health.push(pb::ClusterEndpointsHealth {
            cluster_name: cluster.name.to_string(),
            locality_endpoints_health: localities,
        });
    }
    (!report.cluster_endpoints_health.is_empty()).then_some(report)
}

fn locality_health(
    cluster: &Cluster,
    locality: &LocalityEndpoints,
    shared: &Shared,
) -> pb::LocalityEndpointsHealth {
    let (region, zone, sub_zone) = &locality.locality;
    pb::LocalityEndpointsHealth {
        locality: Some(Locality {
            region: region.to_string(),
            zone: zone.to_string(),
            sub_zone: sub_zone.to_string(),
        }),
        endpoints_health: locality
            .endpoints
            .iter()
            .map(|endpoint| endpoint_health(cluster, endpoint, shared))
            .collect(),
    }
}

fn endpoint_health(cluster: &Cluster, endpoint: &Endpoint, shared: &Shared) -> pb::EndpointHealth {
    let found = shared.health(cluster.id, |health| health.found(&endpoint.address)).flatten();
    // One that no shard has met yet fails.
    let (flags, status) = found.unwrap_or((CheckFlags::FAILED, None));
    let health = match () {
        () if !flags.has(CheckFlags::FAILED.with(CheckFlags::DEGRADED)) => HealthStatus::Healthy,
        () if flags.has(CheckFlags::TIMED_OUT) => HealthStatus::Timeout,
        () => HealthStatus::Unhealthy,
    };
    let code = |status: u16| {
        let value = Value { kind: Some(Kind::NumberValue(f64::from(status))) };
        Struct { fields: [("http_status_code".to_owned(), value)].into() }
    };
    pb::EndpointHealth {
        endpoint: Some(endpoints::Endpoint {
            address: Some(address(&endpoint.address)),
            ..endpoints::Endpoint::default()
        }),
        health_status: health.into(),
        health_metadata: status.map(code),
    }
}
