//! Many seeds of the modes with TLS; `millrace_sim::run` tells how to replay one. The cryptography of either side draws
//! randomness of its own, so that only sizes and times follow from a seed, and rarely not even those.

use millrace_base::Rng;
use millrace_sim::fixture::Mode;
use millrace_sim::run::{is_replay, seeds};
use millrace_sim::setup::{Disturbance, Setup};
use millrace_sim::tls::Tls;

const ROUGH: Tls = Tls { faults: 150, ..Tls::BOTH };
const INSPECTED: Tls = Tls { inspected: true, ..Tls::DOWNSTREAM };
const SECRETS: Tls = Tls { secrets: true, ..Tls::BOTH };

/// TLS on one side or both, with certificates of clients or without.
fn some(rng: &mut Rng) -> Tls {
    let tls = [Tls::BOTH, Tls::BOTH, Tls::DOWNSTREAM, Tls::UPSTREAM][rng.below(4) as usize];
    Tls {
        mutual: rng.chance(1, 2),
        some_endpoints: rng.chance(1, 3),
        automatic: false,
        inspected: rng.chance(1, 3),
        secrets: rng.chance(1, 2),
        ..tls
    }
}

#[test]
fn quiet() {
    seeds(40, |_| Setup::quiet("tls_quiet", Mode::Http).tls(Tls::BOTH));
}

#[test]
fn http() {
    seeds(60, |_| Setup::choppy("tls_http", Mode::Http).tls(Tls::DOWNSTREAM));
}

#[test]
fn upstream() {
    seeds(60, |_| Setup::choppy("tls_upstream", Mode::Http).tls(Tls::UPSTREAM));
}

#[test]
fn both() {
    let seen = seeds(60, |_| Setup::choppy("tls_both", Mode::Http).tls(Tls::BOTH));
    let all = |counts: [u64; 2]| counts.into_iter().all(|count| count > 10);
    assert!(is_replay() || all(seen.resumed) && all(seen.retried), "{seen:?}");
}

#[test]
fn any() {
    seeds(60, |rng| Setup::choppy("tls_any", Mode::Http).tls(some(rng)));
}

#[test]
fn h2() {
    seeds(60, |rng| Setup::choppy("tls_h2", Mode::Http).http2(rng).tls(some(rng)));
}

#[test]
fn tcp() {
    seeds(60, |rng| Setup::choppy("tls_tcp", Mode::Tcp).tls(some(rng)));
}

#[test]
fn tcp_bulk() {
    seeds(20, |rng| Setup::choppy("tls_tcp_bulk", Mode::Tcp).bulk().tls(some(rng)));
}

#[test]
fn bulk() {
    seeds(20, |rng| Setup::choppy("tls_bulk", Mode::Http).bulk().tls(some(rng)));
}

#[test]
fn upgrades() {
    seeds(40, |rng| Setup { tunnel: true, ..Setup::choppy("tls_upgrades", Mode::Http) }.tls(some(rng)));
}

#[test]
fn retries() {
    seeds(60, |rng| {
        let mut setup = Setup::choppy("tls_retries", Mode::HttpRetries).tls(some(rng));
        setup.knobs.breakers.max_retries = 100;
        Setup { fail_first: 300, ..setup }
    });
}

#[test]
fn rough() {
    seeds(120, |_| Setup { fail_first: 200, ..Setup::rough("tls_rough", Mode::HttpRetries).tls(ROUGH) });
}

#[test]
fn tcp_rough() {
    seeds(100, |rng| {
        let faults = [0, 150][rng.below(2) as usize];
        Setup::rough("tls_tcp_rough", Mode::Tcp).tls(Tls { faults, ..ROUGH })
    });
}

#[test]
fn h2_rough() {
    seeds(100, |rng| {
        let setup = Setup::rough("tls_h2_rough", Mode::HttpRetries).http2(rng).tls(ROUGH);
        Setup { fail_first: 200, ..setup.with_broken_streams() }
    });
}

#[test]
fn faults_of_tls_alone() {
    let seen = seeds(100, |rng| {
        let setup = Setup::choppy("tls_faults", Mode::HttpRetries).tls(Tls { faults: 400, ..some(rng) });
        Setup { lossless: false, upstream_faults: 60, ..setup }
    });
    for expected in [
        "a client, garbage: ProtocolVersion",
        "a client, stranger: CertificateRequired",
        "a client, stranger: CertificateUnknown",
        "a client, tampered: BadRecordMac",
        "an endpoint, garbage: DecodeError",
        "an endpoint, stranger: CertificateUnknown",
        "an endpoint, tampered: BadRecordMac",
    ] {
        assert!(
            is_replay() || seen.alerts.contains(expected),
            "nobody was told: {expected}; {:?}",
            seen.alerts
        );
    }
}

#[test]
fn upgrades_rough() {
    seeds(60, |_| Setup { tunnel: true, ..Setup::rough("tls_upgrades_rough", Mode::Http) }.tls(ROUGH));
}

#[test]
fn tiny() {
    seeds(60, |rng| Setup::choppy("tls_tiny", Mode::Http).tiny(rng).tls(some(rng)));
}

#[test]
fn tiny_rough() {
    seeds(60, |rng| Setup::rough("tls_tiny_rough", Mode::Http).tiny(rng).tls(ROUGH));
}

#[test]
fn slow() {
    seeds(60, |rng| Setup::choppy("tls_slow", Mode::Http).slow().tls(some(rng)));
}

#[test]
fn tcp_slow() {
    seeds(40, |rng| Setup::choppy("tls_tcp_slow", Mode::Tcp).slow().tls(some(rng)));
}

#[test]
fn h2_slow() {
    seeds(40, |rng| Setup::choppy("tls_h2_slow", Mode::Http).slow().http2(rng).tls(some(rng)));
}

#[test]
fn hasty() {
    seeds(60, |rng| Setup::choppy("tls_hasty", Mode::HttpRetries).hasty().tls(some(rng)));
}

#[test]
fn stalled() {
    seeds(40, |rng| Setup::choppy("tls_stalled", Mode::Http).stalled().tls(some(rng)));
}

#[test]
fn drain() {
    let disturbance = Disturbance::Drain;
    seeds(60, |rng| Setup { disturbance, ..Setup::choppy("tls_drain", Mode::Http).tls(some(rng)) });
}

#[test]
fn stop() {
    seeds(60, |rng| Setup {
        disturbance: Disturbance::Stop,
        lossless: false,
        ..Setup::choppy("tls_stop", Mode::HttpRetries).tls(some(rng))
    });
}

#[test]
fn churn() {
    seeds(60, |rng| Setup::choppy("tls_churn", Mode::Http).churned(false, rng).tls(SECRETS));
}

#[test]
fn churn_rough() {
    seeds(60, |rng| {
        let tls = Tls { secrets: true, ..ROUGH };
        Setup::rough("tls_churn_rough", Mode::HttpRetries).churned(true, rng).tls(tls)
    });
}

#[test]
fn churn_tcp() {
    seeds(40, |rng| Setup::choppy("tls_churn_tcp", Mode::Tcp).churned(false, rng).tls(SECRETS));
}

#[test]
fn churn_h2() {
    seeds(60, |rng| Setup::choppy("tls_churn_h2", Mode::Http).http2(rng).churned(false, rng).tls(SECRETS));
}

#[test]
fn inspected() {
    seeds(60, |rng| Setup::choppy("inspected", Mode::Http).on_some_shards(rng).tls(INSPECTED));
}

#[test]
fn inspected_h2() {
    seeds(40, |rng| Setup::choppy("inspected_h2", Mode::Http).http2(rng).on_some_shards(rng).tls(INSPECTED));
}

#[test]
fn inspected_tcp() {
    seeds(40, |rng| Setup::choppy("inspected_tcp", Mode::Tcp).on_some_shards(rng).tls(INSPECTED));
}

#[test]
fn inspected_tiny() {
    seeds(40, |rng| Setup::choppy("inspected_tiny", Mode::Http).tiny(rng).tls(INSPECTED));
}

#[test]
fn inspected_rough() {
    seeds(80, |rng| {
        let tls = Tls { inspected: true, ..ROUGH };
        Setup::rough("inspected_rough", Mode::HttpRetries).on_some_shards(rng).tls(tls)
    });
}

#[test]
fn mixed() {
    seeds(150, |rng| {
        let setup = Setup::mixed(rng);
        let mut tls = some(rng);
        if !setup.lossless && rng.chance(1, 2) {
            tls.faults = 150;
        }
        setup.tls(tls)
    });
}

#[test]
fn h2_upgrades() {
    seeds(40, |rng| {
        let setup = Setup { tunnel: true, ..Setup::choppy("tls_h2_upgrades", Mode::Http) };
        setup.http2(rng).tls(some(rng))
    });
}

#[test]
fn automatic() {
    seeds(60, |rng| {
        let setup = Setup::choppy("tls_automatic", Mode::Http).http2(rng);
        setup.tls(Tls { automatic: true, some_endpoints: false, ..Tls { upstream: true, ..some(rng) } })
    });
}

#[test]
fn automatic_rough() {
    seeds(80, |rng| {
        let setup = Setup::rough("tls_automatic_rough", Mode::HttpRetries).http2(rng).with_broken_streams();
        Setup { fail_first: 200, ..setup.tls(Tls { automatic: true, ..ROUGH }) }
    });
}

#[test]
fn automatic_swap() {
    seeds(60, |rng| {
        let setup = Setup::choppy("tls_automatic_swap", Mode::Http).http2(rng);
        Setup { disturbance: Disturbance::Swap, ..setup.tls(Tls { automatic: true, ..Tls::BOTH }) }
    });
}

#[test]
fn automatic_churn() {
    seeds(60, |rng| {
        let setup = Setup::choppy("tls_automatic_churn", Mode::Http).http2(rng).churned(false, rng);
        setup.tls(Tls { automatic: true, ..SECRETS })
    });
}

#[test]
fn automatic_upgrades() {
    seeds(40, |rng| {
        let setup = Setup { tunnel: true, ..Setup::choppy("tls_automatic_upgrades", Mode::Http) };
        setup.http2(rng).tls(Tls { automatic: true, ..Tls::BOTH })
    });
}

#[test]
fn automatic_refusals() {
    seeds(60, |rng| {
        let setup = Setup::choppy("tls_automatic_refusals", Mode::HttpRetries).http2(rng).with_refusals(rng);
        let mut setup = setup.tls(Tls { automatic: true, ..Tls::BOTH });
        setup.knobs.breakers.max_retries = 100;
        Setup { fail_first: 200, ..setup }
    });
}

#[test]
fn h2_stalled() {
    seeds(30, |rng| Setup::choppy("tls_h2_stalled", Mode::Http).http2(rng).stalled().tls(some(rng)));
}

#[test]
fn h2_drain() {
    let disturbance = Disturbance::Drain;
    seeds(40, |rng| Setup {
        disturbance,
        ..Setup::choppy("tls_h2_drain", Mode::Http).http2(rng).tls(some(rng))
    });
}

#[test]
fn tcp_slow_rough() {
    seeds(30, |rng| {
        Setup::rough("tls_tcp_slow_rough", Mode::Tcp).slow().tls(Tls { faults: 300, ..some(rng) })
    });
}

#[test]
fn inspected_churn() {
    seeds(60, |rng| {
        let setup = Setup::choppy("inspected_churn", Mode::Http).churned(false, rng);
        setup.tls(Tls { inspected: true, ..SECRETS })
    });
}

#[test]
fn inspected_churn_rough() {
    seeds(60, |rng| {
        let setup = Setup::rough("inspected_churn_rough", Mode::HttpRetries).churned(true, rng);
        setup.tls(Tls { inspected: true, secrets: true, ..ROUGH })
    });
}

#[test]
fn inspected_stop_and_drain() {
    seeds(80, |rng| {
        let disturbance = [Disturbance::Stop, Disturbance::Drain][rng.below(2) as usize];
        let setup = Setup::choppy("inspected_stop", Mode::HttpRetries).on_some_shards(rng).tls(INSPECTED);
        Setup { disturbance, lossless: false, ..setup }
    });
}
