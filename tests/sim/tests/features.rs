//! Many seeds of what the proxy does beside passing requests on; `millrace_sim::run` tells how to replay one.

use millrace_sim::fixture::Mode;
use millrace_sim::run::seeds;
use millrace_sim::setup::{Disturbance, Setup};

#[test]
fn pressed() {
    seeds(80, |rng| Setup::choppy("pressed", Mode::Http).pressed(rng));
}

#[test]
fn pressed_slow() {
    seeds(80, |rng| Setup::choppy("pressed_slow", Mode::Http).slow().tiny(rng).pressed(rng));
}

#[test]
fn pressed_rough() {
    seeds(80, |rng| Setup::rough("pressed_rough", Mode::HttpRetries).pressed(rng));
}

#[test]
fn pressed_http2() {
    seeds(100, |rng| Setup::choppy("pressed_http2", Mode::Http).http2(rng).pressed(rng));
}

#[test]
fn pressed_http2_slow() {
    seeds(100, |rng| {
        let setup = Setup::choppy("pressed_http2_slow", Mode::Http).slow().http2(rng);
        setup.tiny(rng).pressed(rng)
    });
}

#[test]
fn pressed_http2_rough() {
    seeds(100, |rng| {
        let setup = Setup::rough("pressed_http2_rough", Mode::HttpRetries).http2(rng).pressed(rng);
        setup.with_broken_streams()
    });
}

#[test]
fn pressed_bulk() {
    seeds(40, |rng| Setup::choppy("pressed_bulk", Mode::Http).bulk().pressed(rng));
}

#[test]
fn pressed_tcp() {
    seeds(40, |rng| Setup::choppy("pressed_tcp", Mode::Tcp).slow().tiny(rng).pressed(rng));
}

#[test]
fn mirrored() {
    seeds(80, |_| Setup::choppy("mirrored", Mode::Http).mirrored());
}

#[test]
fn mirrored_rough() {
    seeds(80, |rng| {
        let setup = Setup::rough("mirrored_rough", Mode::HttpRetries).mirrored().on_some_shards(rng);
        Setup { fail_first: 200, ..setup }
    });
}

#[test]
fn mirrored_http2() {
    seeds(100, |rng| Setup::choppy("mirrored_http2", Mode::Http).http2(rng).mirrored());
}

#[test]
fn mirrored_http2_rough() {
    seeds(100, |rng| {
        Setup::rough("mirrored_http2_rough", Mode::Http).http2(rng).mirrored().with_broken_streams()
    });
}

#[test]
fn hedged() {
    seeds(100, |_| Setup::choppy("hedged", Mode::Http).hedged());
}

#[test]
fn hedged_rough() {
    seeds(100, |rng| {
        let setup = Setup::rough("hedged_rough", Mode::Http).hedged().on_some_shards(rng);
        Setup { fail_first: 200, ..setup }
    });
}

#[test]
fn hedged_http2() {
    seeds(100, |rng| Setup::choppy("hedged_http2", Mode::Http).http2(rng).hedged());
}

#[test]
fn hedged_http2_rough() {
    seeds(100, |rng| {
        let setup = Setup::rough("hedged_http2_rough", Mode::Http).http2(rng).hedged().with_broken_streams();
        Setup { fail_first: 200, ..setup }
    });
}

#[test]
fn hedged_mirrored_http2() {
    seeds(150, |rng| {
        let mut setup = Setup::choppy("hedged_mirrored_http2", Mode::Http).http2(rng).hedged().mirrored();
        // Tries get their bodies piece by piece, and the later one may be ahead.
        (setup.http2.late_windows, setup.http2.small_windows) = (true, true);
        setup
    });
}

#[test]
fn hedged_swap() {
    let disturbance = Disturbance::SwapHard;
    seeds(80, |_| Setup { disturbance, ..Setup::rough("hedged_swap", Mode::Http).hedged().mirrored() });
}

#[test]
fn redirected() {
    seeds(80, |_| Setup::choppy("redirected", Mode::Http).redirected());
}

#[test]
fn redirected_retries() {
    seeds(80, |_| {
        let mut setup = Setup::choppy("redirected_retries", Mode::HttpRetries).redirected();
        setup.knobs.breakers.max_retries = 100;
        Setup { fail_first: 300, ..setup }
    });
}

#[test]
fn redirected_http2() {
    seeds(80, |rng| Setup::choppy("redirected_http2", Mode::Http).http2(rng).redirected());
}

#[test]
fn redirected_rough() {
    seeds(100, |rng| {
        let setup = Setup::rough("redirected_rough", Mode::HttpRetries).http2(rng).redirected().mirrored();
        Setup { fail_first: 200, ..setup.with_broken_streams() }
    });
}

#[test]
fn customized() {
    seeds(80, |_| Setup::choppy("customized", Mode::Http).customized());
}

#[test]
fn customized_http2() {
    seeds(80, |rng| Setup::choppy("customized_http2", Mode::Http).http2(rng).customized());
}

#[test]
fn customized_rough() {
    seeds(100, |rng| {
        let setup = Setup::rough("customized_rough", Mode::HttpRetries).http2(rng).customized().hedged();
        setup.mirrored().with_broken_streams()
    });
}

#[test]
fn raced() {
    seeds(60, |_| Setup::choppy("raced", Mode::Http).raced());
}

#[test]
fn raced_rough() {
    seeds(80, |rng| {
        let setup = Setup::rough("raced_rough", Mode::HttpRetries).raced().on_some_shards(rng);
        Setup { disturbance: Disturbance::SwapHard, ..setup }
    });
}

#[test]
fn raced_tcp() {
    seeds(60, |_| Setup::rough("raced_tcp", Mode::Tcp).raced());
}

#[test]
fn preconnected() {
    seeds(60, |rng| {
        let mut setup = Setup::choppy("preconnected", Mode::Http).on_some_shards(rng);
        setup.knobs.preconnect = [1.5, 3.0][rng.below(2) as usize];
        setup
    });
}

#[test]
fn preconnected_rough() {
    seeds(80, |rng| {
        let mut setup = Setup::rough("preconnected_rough", Mode::HttpRetries).http2(rng).raced();
        setup.knobs.preconnect = 3.0;
        Setup { disturbance: Disturbance::SwapHard, ..setup }
    });
}

#[test]
fn checked() {
    seeds(60, |rng| Setup::choppy("checked", Mode::HttpRetries).checked().on_some_shards(rng));
}

#[test]
fn checked_rough() {
    seeds(80, |rng| {
        let mut setup = Setup::rough("checked_rough", Mode::HttpRetries).checked().on_some_shards(rng);
        setup.knobs.close_on_health_failure = true;
        Setup { disturbance: Disturbance::SwapHard, ..setup }
    });
}

#[test]
fn reporting() {
    seeds(30, |rng| Setup::choppy("reporting", Mode::Http).reporting().on_some_shards(rng));
}

#[test]
fn reporting_swap() {
    seeds(40, |rng| {
        let setup = Setup::choppy("reporting_swap", Mode::Http).http2(rng).reporting().on_some_shards(rng);
        Setup { disturbance: Disturbance::Swap, ..setup }
    });
}

#[test]
fn reporting_rough() {
    seeds(40, |rng| {
        let mut setup = Setup::rough("reporting_rough", Mode::HttpRetries).http2(rng).reporting();
        setup.knobs.checks = !setup.http2.upstreams;
        Setup { disturbance: Disturbance::SwapHard, ..setup.on_some_shards(rng) }
    });
}

#[test]
fn breakers_of_several_shards() {
    seeds(100, |rng| {
        let mut setup = Setup::choppy("breakers_of_several_shards", Mode::HttpRetries).http2(rng);
        let breakers = &mut setup.knobs.breakers;
        breakers.max_requests = 1 + rng.below(4) as u32;
        (breakers.max_connections, breakers.max_retries) = (2, 1);
        Setup { shards: 2 + rng.below(2) as usize, fail_first: 300, lossless: false, ..setup }
    });
}

#[test]
fn swap_in_place() {
    let disturbance = Disturbance::Swap;
    seeds(100, |rng| {
        let setup = Setup::choppy("swap_in_place", Mode::Http).http2(rng).on_some_shards(rng);
        Setup { disturbance, ..setup }
    });
}

#[test]
fn anything() {
    seeds(400, Setup::anything);
}
