//! Clusters as a shard sees them: endpoints, load balancing, circuit breakers, retry budgets and connection
//! pools.
//!
//! Pure state machines: events and `now` go in, decisions ([`PoolAction`]) come out. Nothing here opens a
//! socket, reads a clock or counts a statistic; the shard does what the actions say. In steady state a
//! request costs no allocation.
//!
//! The life of a request: [`ClusterState::choose_host`], [`ClusterState::acquire`], (perhaps
//! [`PoolAction::Connect`], [`ClusterState::bind`], [`ClusterState::connected`] or
//! [`ClusterState::connected_as`], [`PoolAction::Assign`]),
//! [`ClusterState::released`] (HTTP/1), [`ClusterState::stream_ended`] (HTTP/2) or [`ClusterState::closed`].

mod addresses;
mod aggregate;
mod budget;
mod cluster;
mod health;
pub mod health_check;
mod host;
mod invariants;
mod lb;
mod leased;
mod list;
mod load_metrics;
mod load_stream;
mod members;
mod on_demand;
mod orca;
mod outlier;
mod pool;
mod retry;
mod transport;
mod weighing;

pub use addresses::interleave;
pub use aggregate::{Aggregate, LevelOf};
pub use budget::{BreakerState, Budget, ClusterShared, PriorityBudgets, ResourcePriority};
pub use cluster::ClusterState;
pub(crate) use cluster::PRIORITY_MAX;
pub use host::{Host, HostHealth, HostId};
pub use lb::{
    ChooseContext, Chosen, LbStat, NoHost, OverrideHost, PreviousPriorities, SharedTables, TableShape,
};
pub use leased::LeasedBudget;
pub use load_metrics::{LOAD_METRIC_HOSTS_MAX, LOAD_METRICS_MAX, LoadMetrics, MetricBooks, MetricSum};
pub use load_stream::{LoadBook, LoadStream, Received, StreamEnd};
pub use on_demand::{Dropped, ON_DEMAND_HOSTS_MAX, OnDemandBook, host_endpoint};
pub use orca::{BadReport, LoadReport};
pub use outlier::{ClusterHealth, Ejection, EjectionRates, OutlierAction, OutlierEvent, TryResult};
pub use pool::{Acquire, CloseReason, ConnId, HttpProtocol, PoolAction, PoolEvent, PoolFailure, WaitId};
pub use transport::{TRANSPORTS_MAX, Transport, TransportKey};
