//! The overload manager (`envoy.config.overload.v3.OverloadManager`): what is watched, what follows from it, and the
//! arithmetic in between.

mod levels;

use std::sync::Arc;
use std::time::Duration;

use crate::ScopeId;
pub use levels::{Level, OverloadLevels, Pressures};

/// `Bootstrap.overload_manager`, or what takes its place.
#[derive(Clone, Debug, PartialEq)]
pub struct OverloadManager {
    /// `refresh_interval`, default 1 s; at least 1 ms.
    pub refresh_interval: Duration,
    /// `resource_monitors`, in configuration order; names are unique.
    pub monitors: Vec<ResourceMonitor>,
    /// `actions`, in configuration order; names are unique.
    pub actions: Vec<OverloadAction>,
    /// `loadshed_points`, in configuration order; names are unique.
    pub points: Vec<LoadShedPoint>,
    /// `buffer_factory_config.minimum_account_to_track_power_of_two`: streams that hold less are never reset.
    pub account_power: Option<u8>,
}

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceMonitor {
    /// Its name; triggers refer to it by position.
    pub name: Arc<str>,
    /// What is read.
    pub kind: MonitorKind,
    /// Statistics scope `overload.<name>.`.
    pub scope: ScopeId,
}

/// What a monitor reads.
#[derive(Clone, Debug, PartialEq)]
pub enum MonitorKind {
    /// Heap of the process against a figure.
    FixedHeap {
        /// `max_heap_size_bytes`, or the default of the runtime's.
        max_bytes: u64,
        /// `max_heap_size_bytes_runtime.runtime_key`, read at each refresh.
        runtime_key: Option<Arc<str>>,
    },
    /// Memory of the control group against its limit.
    CgroupMemory {
        /// `max_memory_bytes`; the group's own limit counts where it is lower.
        max_bytes: Option<u64>,
    },
    /// Memory of this process against the limit of its control group: what is watched where nothing is configured.
    OwnMemory,
    /// Busy time of the host's cores.
    HostCpu,
    /// Busy time of the control group against its quota.
    ContainerCpu,
    /// A number in a file.
    Injected {
        /// `filename`.
        file: Arc<str>,
    },
    /// Downstream connections against a bound that nothing exceeds.
    DownstreamConnections {
        /// `max_active_downstream_connections`.
        max: u64,
    },
}

/// How a resource drives an action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trigger {
    /// Position of the monitor.
    pub monitor: usize,
    /// From which pressure on, 0.0 to 1.0.
    pub kind: TriggerKind,
}

/// `Trigger.trigger_oneof`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TriggerKind {
    /// Saturated from here on.
    Threshold(f64),
    /// In proportion between the two, saturated from the second on.
    Scaled {
        /// `scaling_threshold`.
        scaling: f64,
        /// `saturation_threshold`, the larger one.
        saturation: f64,
    },
}

/// One action.
#[derive(Clone, Debug, PartialEq)]
pub struct OverloadAction {
    /// Its name, in statistics.
    pub name: Arc<str>,
    /// What it does.
    pub kind: ActionKind,
    /// The highest of them counts; one for each monitor at most.
    pub triggers: Vec<Trigger>,
    /// Statistics scope `overload.<name>.`.
    pub scope: ScopeId,
}

/// What an action does.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionKind {
    /// Requests are answered 503.
    StopAcceptingRequests,
    /// Connections of HTTP end with the response at hand.
    DisableHttpKeepalive,
    /// Connections stay in the kernel's queue.
    StopAcceptingConnections,
    /// Connections are accepted and closed.
    RejectIncomingConnections,
    /// Free memory is given back to the system.
    ShrinkHeap {
        /// `timer_interval`, default 10 s.
        interval: Duration,
    },
    /// Timeouts shrink towards a minimum.
    ReduceTimeouts(Vec<(ScaledTimer, TimerMinimum)>),
    /// Streams of HTTP/2 that hold most memory are reset.
    ResetHighMemoryStream,
    /// Nothing: Envoy closes connections of HTTP/3 alone.
    CloseIdleHttpConnections,
}

/// `ScaleTimersOverloadActionConfig.TimerType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ScaledTimer {
    /// `HTTP_DOWNSTREAM_CONNECTION_IDLE`.
    ConnectionIdle,
    /// `HTTP_DOWNSTREAM_STREAM_IDLE`.
    StreamIdle,
    /// `TRANSPORT_SOCKET_CONNECT`.
    TransportSocketConnect,
    /// `HTTP_DOWNSTREAM_CONNECTION_MAX`.
    ConnectionMax,
    /// `HTTP_DOWNSTREAM_STREAM_FLUSH`.
    StreamFlush,
}

impl ScaledTimer {
    /// How many there are.
    pub const COUNT: usize = 5;
}

/// How short a timeout may become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TimerMinimum {
    /// `min_timeout`.
    Absolute(Duration),
    /// `min_scale`, as a share of the whole.
    Share(f64),
}

impl TimerMinimum {
    /// The shortest form of `whole`, never longer than it.
    pub fn of(self, whole: Duration) -> Duration {
        match self {
            Self::Absolute(shortest) => shortest.min(whole),
            Self::Share(share) => whole.mul_f64(share.clamp(0.0, 1.0)),
        }
    }
}

/// One load shed point.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadShedPoint {
    /// Its name, in statistics.
    pub name: Arc<str>,
    /// Where it is; `None` for a name that nothing here asks for, which Envoy takes too.
    pub kind: Option<ShedPoint>,
    /// The highest of them counts; one for each monitor at most.
    pub triggers: Vec<Trigger>,
    /// Statistics scope `overload.<name>.`.
    pub scope: ScopeId,
}

/// Where load is shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ShedPoint {
    /// A connection was accepted.
    TcpListenerAccept,
    /// The head of a request is complete.
    DecodeHeaders,
    /// The head of an HTTP/1.1 request is complete; comes first and ends the connection.
    Http1AbortDispatch,
    /// Bytes of an HTTP connection came: it is drained.
    Http2GoAway,
    /// Bytes of an HTTP connection came: it is closed.
    Http2GoAwayAndClose,
    /// The first bytes of an HTTP connection came.
    CreatingCodec,
    /// The filters of a request are about to see it.
    FilterCheck,
    /// A request needs a new connection to an endpoint.
    PoolNewConnection,
    /// Bytes of a client of the TCP proxy came.
    TcpProxyData,
    /// The TCP proxy is about to connect to an endpoint.
    TcpProxyConnect,
}

impl ShedPoint {
    /// How many there are.
    pub const COUNT: usize = 10;
    const PREFIX: &'static str = "envoy.load_shed_points.";

    /// The point of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name.strip_prefix(Self::PREFIX)? {
            "tcp_listener_accept" => Self::TcpListenerAccept,
            "http_connection_manager_decode_headers" => Self::DecodeHeaders,
            "http1_server_abort_dispatch" => Self::Http1AbortDispatch,
            "http2_server_go_away_on_dispatch" => Self::Http2GoAway,
            "http2_server_go_away_and_close_on_dispatch" => Self::Http2GoAwayAndClose,
            "hcm_ondata_creating_codec" => Self::CreatingCodec,
            "http_downstream_filter_check" => Self::FilterCheck,
            "connection_pool_new_connection" => Self::PoolNewConnection,
            "tcp_proxy_on_data" => Self::TcpProxyData,
            "tcp_proxy_upstream_connect" => Self::TcpProxyConnect,
            _ => return None,
        })
    }
}

impl OverloadManager {
    /// The bound on downstream connections, if one of the monitors is that.
    pub fn connections_max(&self) -> Option<u64> {
        self.monitors.iter().find_map(|monitor| match monitor.kind {
            MonitorKind::DownstreamConnections { max } => Some(max),
            _ => None,
        })
    }

    /// How short a timer may become, by [`ScaledTimer`]; `None` where no action scales it.
    pub fn timer_minimums(&self) -> [Option<TimerMinimum>; ScaledTimer::COUNT] {
        let mut minimums = [None; ScaledTimer::COUNT];
        for action in &self.actions {
            let ActionKind::ReduceTimeouts(timers) = &action.kind else { continue };
            for (timer, minimum) in timers {
                minimums[*timer as usize] = Some(*minimum);
            }
        }
        minimums
    }

    /// Where sheds of each point are counted, by [`ShedPoint`].
    pub fn point_scopes(&self) -> [Option<ScopeId>; ShedPoint::COUNT] {
        let mut scopes = [None; ShedPoint::COUNT];
        for point in &self.points {
            if let Some(kind) = point.kind {
                scopes[kind as usize] = Some(point.scope);
            }
        }
        scopes
    }
}
