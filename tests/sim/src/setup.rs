//! The modes of a run: which network, which faults, which limits, and what may then be expected.

use std::time::Duration;

use millrace_base::Rng;
use millrace_config::UpstreamProtocol;
use millrace_ring::sim::FaultPlan;

use crate::fixture::{Knobs, Mode};
use crate::tls::Tls;

/// Bytes under way to a client that stopped reading.
pub const STALL_WINDOW: usize = 2_000;

/// What happens to the shard in the middle of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Nothing.
    None,
    /// New snapshots with other endpoints.
    Swap,
    /// As `Swap`; besides, endpoints turn unhealthy and the cluster comes and goes.
    SwapHard,
    /// Endpoints, clusters, route tables, filter chains and listeners come and go; nothing may get lost.
    Churn,
    /// As `Churn`, with drains that are too short, and tables and clusters that vanish.
    ChurnHard,
    /// Accepting stops and goes on; nothing may get lost.
    Pause,
    /// A drain.
    Drain,
    /// The order to stop, long before everything is done.
    Stop,
}

/// Who speaks HTTP/2, and what is done with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http2 {
    /// Clients do.
    pub clients: bool,
    /// Endpoints do.
    pub upstreams: bool,
    /// Streams that a client breaks, per mille; the neighbours must not notice.
    pub resets: u64,
    /// Streams that an endpoint refuses at first, by RST_STREAM or GOAWAY, per mille.
    pub refusals: u64,
    /// Exchanges after which either side says GOAWAY, per mille.
    pub goaways: u64,
    /// Windows of streams that are announced late.
    pub late_windows: bool,
    /// Small windows, and credit that comes back late.
    pub small_windows: bool,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS` of endpoints.
    pub max_streams: Option<u32>,
}

/// One mode of the simulation.
#[derive(Clone, Debug)]
pub struct Setup {
    /// For the output of a failure.
    pub name: &'static str,
    /// The fixture's mode.
    pub mode: Mode,
    /// The network.
    pub plan: FaultPlan,
    /// Limits and timeouts of the configuration.
    pub knobs: Knobs,
    /// Receive buffers: count and size.
    pub buffers: (u16, u32),
    /// Nothing may get lost: every request is answered as promised.
    pub lossless: bool,
    /// Longest body.
    pub body_max: usize,
    /// Longest pause of an upstream, milliseconds.
    pub delay_max: u64,
    /// Faulty answers, per mille.
    pub upstream_faults: u64,
    /// Requests that a client gives up in the middle, per mille.
    pub client_faults: u64,
    /// Answers before the request is complete, per mille.
    pub early: u64,
    /// Requests whose first tries get a 503, per mille.
    pub fail_first: u64,
    /// Requests that are redirected first, per mille.
    pub redirects: u64,
    /// Health checks that fail, per mille.
    pub check_faults: u64,
    /// `waiting_bytes_max` of a shard.
    pub waiting_max: usize,
    /// Idle connections that upstreams close, per mille of the exchanges.
    pub idle_close: u64,
    /// Peers read slowly.
    pub slow: bool,
    /// Clients that stop reading for a long time, per mille.
    pub stalls: u64,
    /// Bytes through tunnels (TCP, or an upgrade) instead of requests.
    pub tunnel: bool,
    /// HTTP/2 on either side.
    pub http2: Http2,
    /// What is encrypted.
    pub tls: Tls,
    /// What happens in the middle.
    pub disturbance: Disturbance,
    /// Number of shards; the first accepts for all.
    pub shards: usize,
}

impl Setup {
    /// Everything off.
    pub fn quiet(name: &'static str, mode: Mode) -> Self {
        Self {
            name,
            mode,
            plan: FaultPlan::default(),
            knobs: Knobs::default(),
            buffers: (16, 16 * 1024),
            lossless: true,
            body_max: 40_000,
            delay_max: 20,
            upstream_faults: 0,
            client_faults: 0,
            early: 50,
            fail_first: 0,
            redirects: 0,
            check_faults: 0,
            waiting_max: usize::MAX,
            idle_close: 0,
            slow: false,
            stalls: 0,
            tunnel: mode == Mode::Tcp,
            http2: Http2::default(),
            tls: Tls::default(),
            disturbance: Disturbance::None,
            shards: 1,
        }
    }

    /// In pieces and late, but nothing lost.
    pub fn choppy(name: &'static str, mode: Mode) -> Self {
        Self { plan: FaultPlan::choppy(), buffers: (8, 2048), body_max: 12_000, ..Self::quiet(name, mode) }
    }

    /// Everything goes wrong now and then.
    pub fn rough(name: &'static str, mode: Mode) -> Self {
        Self {
            plan: FaultPlan::rough(),
            lossless: false,
            upstream_faults: 120,
            client_faults: 80,
            idle_close: 100,
            ..Self::choppy(name, mode)
        }
    }

    /// Buffers so small against the bodies that most of them are relayed.
    #[must_use]
    pub fn bulk(self) -> Self {
        Self { buffers: (24, 256), body_max: 40_000, ..self }
    }

    /// Few and small buffers: every head is split.
    #[must_use]
    pub fn tiny(self, rng: &mut Rng) -> Self {
        let buffers = (1 + rng.below(4) as u16, 64);
        Self { buffers, body_max: self.body_max.min(4000), ..self }
    }

    /// Small windows, small buffer limits, peers that take their time.
    #[must_use]
    pub fn slow(self) -> Self {
        let plan = FaultPlan { window: 700, ..self.plan };
        let knobs = Knobs { buffer_limit: 2000, ..self.knobs };
        Self { plan, knobs, slow: true, ..self }
    }

    /// Clients that stop reading, and no timeout but the one for that.
    #[must_use]
    pub fn stalled(self) -> Self {
        let forever = Duration::from_secs(100_000);
        let plan = FaultPlan { window: STALL_WINDOW, ..self.plan };
        let knobs = Knobs {
            route_timeout: forever,
            stream_idle: forever,
            idle_timeout: forever,
            headers_timeout: forever,
            ..self.knobs
        };
        Self { plan, knobs, stalls: 300, body_max: 100_000, lossless: false, ..self }
    }

    /// Any mode with anything else.
    pub fn mixed(rng: &mut Rng) -> Self {
        let one_in = |rng: &mut Rng, n: u64| rng.chance(1, n);
        let mode = [Mode::Http, Mode::HttpRetries, Mode::HttpRetries, Mode::Tcp][rng.below(4) as usize];
        let mut setup = match rng.below(3) {
            0 => Self::quiet("mixed", mode),
            1 => Self::choppy("mixed", mode),
            _ => Self::rough("mixed", mode),
        };
        if one_in(rng, 3) {
            setup = setup.tiny(rng);
        }
        if one_in(rng, 3) {
            setup = setup.slow();
        }
        if one_in(rng, 5) {
            setup = setup.hasty();
        }
        if mode != Mode::Tcp && one_in(rng, 2) {
            setup = setup.http2(rng).with_broken_streams();
        }
        setup.tunnel |= one_in(rng, 6);
        setup.shards = 1 + rng.below(3) as usize;
        setup.early = [0, 50, 400][rng.below(3) as usize];
        let knobs = &mut setup.knobs;
        knobs.max_requests = one_in(rng, 4).then(|| 1 + rng.below(4) as u32);
        knobs.upstream_age = one_in(rng, 4).then(|| Duration::from_millis(100));
        knobs.proxy_continue = one_in(rng, 4);
        knobs.close_on_health_failure = one_in(rng, 2);
        knobs.close_on_host_set_change = one_in(rng, 4);
        if one_in(rng, 4) {
            knobs.upstream_idle = Duration::from_millis(20);
        }
        if mode == Mode::HttpRetries {
            setup.fail_first = 200;
            // More retries at once than max_retries allows.
            setup.lossless = false;
        }
        if one_in(rng, 4) {
            let few = |rng: &mut Rng| 1 + rng.below(3) as u32;
            knobs.breakers.max_connections = few(rng);
            knobs.breakers.max_pending_requests = few(rng);
            knobs.breakers.max_requests = few(rng);
            knobs.breakers.max_retries = few(rng);
            setup.lossless = false;
        }
        setup.disturbance = match rng.below(8) {
            0 | 1 => Disturbance::None,
            2 => Disturbance::Swap,
            3 => Disturbance::Drain,
            4 => Disturbance::Churn,
            5 => {
                setup.lossless = false;
                Disturbance::ChurnHard
            }
            _ => {
                setup.lossless = false;
                Disturbance::SwapHard
            }
        };
        setup
    }

    /// HTTP/2 on one side or on both.
    #[must_use]
    pub fn http2(self, rng: &mut Rng) -> Self {
        let (clients, upstreams) =
            [(true, true), (true, true), (true, false), (false, true)][rng.below(4) as usize];
        let http2 = Http2 {
            clients,
            upstreams,
            goaways: [0, 100][rng.below(2) as usize],
            late_windows: rng.chance(1, 2),
            small_windows: rng.chance(1, 2),
            max_streams: rng.chance(1, 3).then(|| 1 + rng.below(4) as u32),
            ..self.http2
        };
        let window = [65_535, 65_535, 20_000, 1_000][rng.below(4) as usize];
        let protocol = match rng.below(2) {
            0 if clients == upstreams => UpstreamProtocol::UseDownstream,
            _ if upstreams => UpstreamProtocol::Http2,
            _ => UpstreamProtocol::Http1,
        };
        let keepalive = rng.chance(1, 3).then(|| Duration::from_millis(500 + rng.below(1500)));
        let connection_window = [65_535, 1024 * 1024][rng.below(2) as usize];
        let knobs = Knobs { stream_window: window, connection_window, protocol, keepalive, ..self.knobs };
        Self { http2, knobs, ..self }
    }

    /// TLS; where buffers are tiny records are small, because a record that does not come whole needs buffers of its own.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        let record_bytes_max = match self.buffers.1 {
            0..256 => 512,
            256..1024 => 2048,
            _ => 0,
        };
        // Through small windows a body of tiny records takes longer than a route's timeout.
        let record_bytes_min = if self.plan.window < 1000 { 100 } else { 0 };
        Self { tls: Tls { record_bytes_max, record_bytes_min, ..tls }, ..self }
    }

    /// One to three shards; the first accepts for all.
    #[must_use]
    pub fn on_some_shards(self, rng: &mut Rng) -> Self {
        Self { shards: 1 + rng.below(3) as usize, ..self }
    }

    /// Clients that break streams.
    #[must_use]
    pub fn with_broken_streams(mut self) -> Self {
        self.http2.resets = 150;
        self
    }

    /// Endpoints that refuse streams or take few at a time, and so does the listener.
    #[must_use]
    pub fn with_refusals(mut self, rng: &mut Rng) -> Self {
        // What GOAWAY meets on its way is refused as well, more than once with bad luck.
        self.knobs.num_retries = 10;
        self.http2.refusals = 100;
        if rng.chance(1, 2) {
            self.knobs.max_streams = 1 + rng.below(10) as u32;
        }
        self
    }

    /// Configuration that changes all the time.
    #[must_use]
    pub fn churned(self, hard: bool, rng: &mut Rng) -> Self {
        let disturbance = if hard { Disturbance::ChurnHard } else { Disturbance::Churn };
        Self { disturbance, shards: 1 + rng.below(3) as usize, ..self }
    }

    /// Short timeouts and a clock that jumps.
    #[must_use]
    pub fn hasty(self) -> Self {
        let plan = FaultPlan { clock_jumps: 30, ..self.plan };
        let knobs = Knobs {
            route_timeout: Duration::from_millis(400),
            per_try_timeout: Some(Duration::from_millis(150)),
            stream_idle: Duration::from_secs(2),
            headers_timeout: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(3),
            ..self.knobs
        };
        Self { plan, knobs, delay_max: 600, lossless: false, ..self }
    }
}
