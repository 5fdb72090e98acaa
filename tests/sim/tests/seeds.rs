//! Many seeds of every mode in clear text; `millrace_sim::run` tells how to replay one.

use millrace_base::Rng;
use millrace_sim::fixture::Mode;
use millrace_sim::run::{relaying_seeds, seeds};
use millrace_sim::setup::{Disturbance, Setup};
use millrace_sim::world::World;

#[test]
fn quiet() {
    seeds(60, |_| Setup::quiet("quiet", Mode::Http));
}

#[test]
fn choppy() {
    seeds(60, |_| Setup::choppy("choppy", Mode::Http));
}

#[test]
fn rough() {
    seeds(120, |_| Setup::rough("rough", Mode::Http));
}

#[test]
fn tiny() {
    seeds(60, |rng| Setup::choppy("tiny", Mode::Http).tiny(rng));
}

#[test]
fn tiny_rough() {
    seeds(60, |rng| Setup::rough("tiny_rough", Mode::Http).tiny(rng));
}

#[test]
fn slow() {
    seeds(60, |_| Setup::choppy("slow", Mode::Http).slow());
}

#[test]
fn retries() {
    seeds(60, |_| {
        let mut setup = Setup::choppy("retries", Mode::HttpRetries);
        setup.knobs.breakers.max_retries = 100;
        Setup { fail_first: 300, ..setup }
    });
}

#[test]
fn retries_rough() {
    seeds(120, |_| Setup { fail_first: 300, ..Setup::rough("retries_rough", Mode::HttpRetries) });
}

#[test]
fn careful_retries() {
    seeds(80, |_| {
        let mut setup = Setup::rough("careful_retries", Mode::HttpRetries).slow();
        setup.knobs.retry_on = "reset-before-request";
        Setup { early: 500, upstream_faults: 400, ..setup }
    });
}

/// A request that an endpoint may have seen, a POST above all, is sent again only if the policy says so: none of these does,
/// whatever the endpoint does and however short the time of a try is.
#[test]
fn no_duplicates_without_leave() {
    const POLICIES: [&str; 4] = [
        "connect-failure",
        "connect-failure,reset-before-request",
        "connect-failure,retriable-4xx,unavailable",
        "retriable-status-codes,retriable-headers",
    ];
    seeds(120, |rng| {
        let setup = Setup::rough("no_duplicates_without_leave", Mode::HttpRetries).slow();
        let mut setup = if rng.chance(1, 2) { setup.hasty() } else { setup };
        setup.knobs.retry_on = POLICIES[rng.below(4) as usize];
        Setup { early: 300, upstream_faults: 500, ..setup }
    });
}

#[test]
fn hasty() {
    seeds(60, |_| Setup::choppy("hasty", Mode::Http).hasty());
}

#[test]
fn hasty_retries() {
    seeds(100, |_| Setup { fail_first: 200, ..Setup::rough("hasty_retries", Mode::HttpRetries).hasty() });
}

#[test]
fn swap() {
    seeds(60, |_| Setup { disturbance: Disturbance::Swap, ..Setup::choppy("swap", Mode::Http) });
}

#[test]
fn swap_hard() {
    seeds(100, |_| {
        let mut setup = Setup::rough("swap_hard", Mode::HttpRetries);
        setup.knobs.close_on_health_failure = true;
        Setup { disturbance: Disturbance::SwapHard, fail_first: 200, ..setup }
    });
}

#[test]
fn pause() {
    seeds(80, |_| Setup { disturbance: Disturbance::Pause, ..Setup::choppy("pause", Mode::Http) });
}

#[test]
fn drain() {
    seeds(60, |_| Setup { disturbance: Disturbance::Drain, ..Setup::choppy("drain", Mode::Http) });
}

#[test]
fn stop() {
    seeds(60, |_| Setup {
        disturbance: Disturbance::Stop,
        lossless: false,
        ..Setup::choppy("stop", Mode::HttpRetries)
    });
}

#[test]
fn tcp() {
    seeds(60, |_| Setup::choppy("tcp", Mode::Tcp));
}

#[test]
fn tcp_slow() {
    seeds(40, |rng| Setup::choppy("tcp_slow", Mode::Tcp).slow().tiny(rng));
}

#[test]
fn tcp_rough() {
    seeds(60, |_| Setup::rough("tcp_rough", Mode::Tcp));
}

#[test]
fn bulk() {
    relaying_seeds(60, true, |_| Setup::choppy("bulk", Mode::Http).bulk());
}

#[test]
fn bulk_rough() {
    relaying_seeds(100, true, |_| Setup::rough("bulk_rough", Mode::HttpRetries).bulk());
}

#[test]
fn bulk_swap() {
    let disturbance = Disturbance::SwapHard;
    relaying_seeds(60, true, |_| Setup {
        disturbance,
        ..Setup::rough("bulk_swap", Mode::Http).bulk().slow()
    });
}

#[test]
fn bulk_tcp() {
    relaying_seeds(60, true, |_| Setup::choppy("bulk_tcp", Mode::Tcp).bulk());
}

#[test]
fn bulk_tcp_rough() {
    relaying_seeds(80, true, |_| Setup::rough("bulk_tcp_rough", Mode::Tcp).bulk());
}

#[test]
fn upgrades() {
    seeds(60, |_| Setup { tunnel: true, ..Setup::choppy("upgrades", Mode::Http) });
}

#[test]
fn upgrades_rough() {
    seeds(60, |_| Setup { tunnel: true, ..Setup::rough("upgrades_rough", Mode::Http) });
}

#[test]
fn two_shards() {
    seeds(60, |_| Setup { shards: 2, ..Setup::choppy("two_shards", Mode::Http) });
}

#[test]
fn churn() {
    seeds(60, |rng| Setup::choppy("churn", Mode::Http).churned(false, rng));
}

#[test]
fn churn_rough() {
    seeds(60, |rng| {
        let setup = Setup::rough("churn_rough", Mode::HttpRetries).churned(true, rng);
        Setup { fail_first: 200, ..setup }
    });
}

#[test]
fn churn_tcp() {
    seeds(40, |rng| Setup::choppy("churn_tcp", Mode::Tcp).churned(false, rng));
}

#[test]
fn churn_tcp_rough() {
    seeds(40, |rng| Setup::rough("churn_tcp_rough", Mode::Tcp).churned(true, rng));
}

#[test]
fn churn_bulk() {
    seeds(40, |rng| Setup::choppy("churn_bulk", Mode::Http).bulk().churned(false, rng));
}

#[test]
fn churn_upgrades() {
    let setup = || Setup { tunnel: true, ..Setup::choppy("churn_upgrades", Mode::Http) };
    seeds(30, |rng| setup().churned(false, rng));
}

#[test]
fn stalled() {
    seeds(40, |_| Setup::choppy("stalled", Mode::Http).stalled());
}

#[test]
fn http2_quiet() {
    seeds(80, |rng| Setup::quiet("http2_quiet", Mode::Http).http2(rng));
}

#[test]
fn http2_choppy() {
    seeds(80, |rng| Setup::choppy("http2_choppy", Mode::Http).http2(rng));
}

#[test]
fn http2_rough() {
    seeds(100, |rng| Setup::rough("http2_rough", Mode::Http).http2(rng).with_broken_streams());
}

#[test]
fn http2_tiny() {
    seeds(60, |rng| Setup::choppy("http2_tiny", Mode::Http).tiny(rng).http2(rng));
}

#[test]
fn http2_slow() {
    seeds(60, |rng| Setup::choppy("http2_slow", Mode::Http).slow().http2(rng));
}

#[test]
fn http2_neighbours() {
    seeds(100, |rng| {
        let setup = Setup::choppy("http2_neighbours", Mode::Http).http2(rng).with_broken_streams();
        Setup { upstream_faults: 200, ..setup }
    });
}

#[test]
fn http2_refusals() {
    seeds(100, |rng| {
        let mut setup = Setup::choppy("http2_refusals", Mode::HttpRetries).http2(rng).with_refusals(rng);
        setup.knobs.breakers.max_retries = 100;
        Setup { fail_first: 200, ..setup }
    });
}

#[test]
fn http2_retries_rough() {
    seeds(100, |rng| {
        let setup = Setup::rough("http2_retries_rough", Mode::HttpRetries).http2(rng).with_refusals(rng);
        Setup { fail_first: 200, ..setup.with_broken_streams() }
    });
}

#[test]
fn http2_hasty() {
    seeds(80, |rng| {
        let setup = Setup::choppy("http2_hasty", Mode::HttpRetries).hasty().http2(rng);
        Setup { fail_first: 200, ..setup.with_broken_streams() }
    });
}

#[test]
fn http2_bulk() {
    seeds(60, |rng| Setup::choppy("http2_bulk", Mode::Http).bulk().http2(rng));
}

#[test]
fn http2_swap() {
    let disturbance = Disturbance::SwapHard;
    seeds(60, |rng| Setup { disturbance, ..Setup::rough("http2_swap", Mode::HttpRetries).http2(rng) });
}

#[test]
fn http2_drain() {
    let disturbance = Disturbance::Drain;
    seeds(60, |rng| Setup { disturbance, ..Setup::choppy("http2_drain", Mode::Http).http2(rng) });
}

#[test]
fn http2_stop() {
    seeds(60, |rng| {
        let setup = Setup::choppy("http2_stop", Mode::HttpRetries).http2(rng);
        Setup { disturbance: Disturbance::Stop, lossless: false, ..setup }
    });
}

#[test]
fn http2_churn() {
    seeds(60, |rng| Setup::choppy("http2_churn", Mode::Http).http2(rng).churned(false, rng));
}

#[test]
fn http2_churn_rough() {
    seeds(60, |rng| {
        let setup = Setup::rough("http2_churn_rough", Mode::HttpRetries).http2(rng).churned(true, rng);
        Setup { fail_first: 200, ..setup.with_broken_streams() }
    });
}

#[test]
fn http2_upgrades() {
    seeds(60, |rng| {
        let setup = Setup { tunnel: true, ..Setup::choppy("http2_upgrades", Mode::Http) };
        setup.http2(rng)
    });
}

#[test]
fn http2_upgrades_rough() {
    seeds(60, |rng| {
        let setup = Setup { tunnel: true, ..Setup::rough("http2_upgrades_rough", Mode::Http) };
        setup.http2(rng).with_broken_streams()
    });
}

#[test]
fn http2_stalled() {
    seeds(40, |rng| Setup::choppy("http2_stalled", Mode::Http).http2(rng).stalled());
}

#[test]
fn mixed() {
    seeds(200, Setup::mixed);
}

/// In clear text: cryptography draws randomness of its own.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..10 {
        let setup = Setup { fail_first: 200, ..Setup::rough("same", Mode::HttpRetries) };
        let (first, second) = (World::run(&setup, seed), World::run(&setup, seed));
        assert_eq!((first.trace, first.turns), (second.trace, second.turns), "seed {seed}");
    }
    for seed in 0..10 {
        let setup = Setup { fail_first: 200, ..Setup::rough("same", Mode::HttpRetries) };
        let setup = setup.http2(&mut Rng::new(seed)).with_broken_streams();
        let (first, second) = (World::run(&setup, seed), World::run(&setup, seed));
        assert_eq!((first.trace, first.turns), (second.trace, second.turns), "HTTP/2, seed {seed}");
    }
    let setup = Setup::quiet("same", Mode::Http);
    assert_ne!(World::run(&setup, 1).trace, World::run(&setup, 2).trace);
}
