//! Modes of what the proxy does beside passing requests on: tries beside each other, copies, redirects, other answers, races
//! of connects, health checks, streams of load reports, and little memory.

use std::time::Duration;

use millrace_base::Rng;
use millrace_config::UpstreamProtocol;

use crate::fixture::Mode;
use crate::setup::{Disturbance, Setup};

impl Setup {
    /// So little memory for what waits that shards are pressed, or full, most of the time.
    #[must_use]
    pub fn pressed(self, rng: &mut Rng) -> Self {
        Self { waiting_max: [0, 5_000, 10_000, 40_000][rng.below(4) as usize], ..self }
    }

    /// Tries that take too long go on beside the next one.
    #[must_use]
    pub fn hedged(mut self) -> Self {
        self.mode = Mode::HttpRetries;
        self.knobs.hedges = true;
        self.knobs.per_try_timeout = Some(Duration::from_millis(60));
        self.knobs.breakers.max_retries = 100;
        Self { delay_max: 300, lossless: false, ..self }
    }

    /// Every request is copied; nobody waits for the copies.
    #[must_use]
    pub fn mirrored(mut self) -> Self {
        self.knobs.mirrors = true;
        // As in Envoy, a copy has no client whose version it could follow.
        if self.knobs.protocol == UpstreamProtocol::UseDownstream {
            self.knobs.protocol = match self.http2.upstreams {
                true => UpstreamProtocol::Http2,
                false => UpstreamProtocol::Http1,
            };
        }
        self
    }

    /// Some requests are redirected, within the proxy where that is possible.
    #[must_use]
    pub fn redirected(mut self) -> Self {
        self.knobs.redirects = true;
        // What came before all of its request cannot be followed.
        Self { redirects: 300, early: 0, ..self }
    }

    /// Failures are answered otherwise, and some requests are sent once more instead of their answer.
    #[must_use]
    pub fn customized(mut self) -> Self {
        self.knobs.custom = true;
        Self { redirects: 300, fail_first: 200, early: 0, lossless: false, ..self }
    }

    /// Endpoints with two addresses.
    #[must_use]
    pub fn raced(mut self) -> Self {
        self.knobs.races = true;
        self
    }

    /// Endpoints are checked, and fail some checks.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.knobs.checks = true;
        Self { check_faults: 150, lossless: false, ..self }
    }

    /// Endpoints are asked for streams of load reports, and answer as it comes.
    #[must_use]
    pub fn reporting(mut self) -> Self {
        self.knobs.load_streams = true;
        self
    }

    /// Anything with anything of these.
    pub fn anything(rng: &mut Rng) -> Self {
        let one_in = |rng: &mut Rng, n: u64| rng.chance(1, n);
        let mut setup = Self { name: "anything", lossless: false, ..Self::mixed(rng) };
        if setup.mode == Mode::Tcp {
            setup.mode = Mode::HttpRetries;
            setup.tunnel = false;
        }
        if one_in(rng, 2) {
            setup = setup.hedged();
        }
        if one_in(rng, 2) {
            setup = setup.mirrored();
        }
        if one_in(rng, 2) {
            setup = setup.redirected();
        }
        if one_in(rng, 3) {
            setup = setup.customized();
        }
        if one_in(rng, 3) {
            setup = setup.raced();
        }
        if one_in(rng, 3) {
            setup = setup.pressed(rng);
        }
        let churned = matches!(setup.disturbance, Disturbance::Churn | Disturbance::ChurnHard);
        if one_in(rng, 3) && !setup.http2.upstreams && !setup.tunnel && !churned {
            setup = setup.checked();
        }
        if one_in(rng, 4) && !setup.tls.upstream && !setup.knobs.races && !churned {
            setup = setup.reporting();
        }
        if one_in(rng, 2) {
            setup.disturbance = Disturbance::None;
        }
        setup.knobs.preconnect = [1.0, 1.0, 1.5, 3.0][rng.below(4) as usize];
        setup.fail_first = [0, 200, 500][rng.below(3) as usize];
        setup.client_faults = [0, 80, 300][rng.below(3) as usize];
        setup.upstream_faults = [0, 120, 400][rng.below(3) as usize];
        setup
    }
}
