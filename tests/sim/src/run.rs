//! Runs many seeds of a mode and names the bad ones. `MILLRACE_SIM_SEED=<seed>` replays one seed (of the modes that the
//! test filter lets through), with `MILLRACE_SIM_TRACE=1` showing every event and operation; `MILLRACE_SIM_RUNS=<n>`
//! multiplies the number of seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use millrace_base::Rng;

use crate::setup::Setup;
use crate::tls::Seen;
use crate::world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `count` seeds and fails with the name of every bad one.
pub fn seeds(count: u64, setup: impl Fn(&mut Rng) -> Setup) -> Seen {
    relaying_seeds(count, false, setup)
}

/// True when one seed is replayed, which need not show everything that many do.
pub fn is_replay() -> bool {
    number("MILLRACE_SIM_SEED").is_some()
}

/// As [`seeds`]; with `relays` some bytes must have gone through relays.
pub fn relaying_seeds(count: u64, relays: bool, setup: impl Fn(&mut Rng) -> Setup) -> Seen {
    let one = number("MILLRACE_SIM_SEED");
    let count = count * number("MILLRACE_SIM_RUNS").unwrap_or(1);
    let (mut bad, mut good, mut all, mut turns, mut name) = (Vec::new(), 0, 0, 0, "");
    let (mut relayed, mut tls) = (0, Seen::default());
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        let setup = setup(&mut Rng::new(!seed));
        name = setup.name;
        match catch_unwind(AssertUnwindSafe(|| World::run(&setup, seed))) {
            Ok(report) => {
                good += report.good;
                all += report.all;
                turns += report.turns;
                relayed += report.relayed;
                tls.add(report.tls);
                if !report.violations.is_empty() {
                    bad.push(format!("mode {name} seed {seed}: {:#?}", report.violations));
                }
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
                bad.push(format!("mode {name} seed {seed}: panic: {text}"));
            }
        }
        if bad.len() >= 5 {
            break;
        }
    }
    println!(
        "{name}: {good} of {all} requests or tunnels were served in full, {turns} turns, {relayed} bytes relayed"
    );
    if tls.handshakes != [0, 0] {
        println!("{name}: {tls:?}");
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(relayed > 100_000 || !relays || one.is_some(), "{name}: only {relayed} bytes were relayed");
    assert!(good * 6 > all || one.is_some(), "{name}: {good} of {all} is too little to have tested anything");
    tls
}
