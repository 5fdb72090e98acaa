//! Runs many seeds of a mode and names the bad ones. `MILLRACE_SIM_SEED=<seed>` replays one seed (of the modes that the
//! test filter lets through), with `MILLRACE_SIM_TRACE=1` showing every event and operation; `MILLRACE_SIM_RUNS=<n>`
//! multiplies the number of seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use millrace_base::Rng;

use crate::setup::Setup;
use crate::world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `count` seeds and fails with the name of every bad one.
pub fn seeds(count: u64, setup: impl Fn(&mut Rng) -> Setup) {
    relaying_seeds(count, false, setup);
}

/// As [`seeds`]; with `relays` some bytes must have gone through relays.
pub fn relaying_seeds(count: u64, relays: bool, setup: impl Fn(&mut Rng) -> Setup) {
    let one = number("MILLRACE_SIM_SEED");
    let count = count * number("MILLRACE_SIM_RUNS").unwrap_or(1);
    let (mut bad, mut good, mut all, mut turns, mut name) = (Vec::new(), 0, 0, 0, "");
    let mut relayed = 0;
    for seed in one.map_or(0..count, |seed| seed..seed + 1) {
        let setup = setup(&mut Rng::new(!seed));
        name = setup.name;
        match catch_unwind(AssertUnwindSafe(|| World::run(&setup, seed))) {
            Ok(report) => {
                good += report.good;
                all += report.all;
                turns += report.turns;
                relayed += report.relayed;
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
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(relayed > 100_000 || !relays || one.is_some(), "{name}: only {relayed} bytes were relayed");
    assert!(good * 6 > all || one.is_some(), "{name}: {good} of {all} is too little to have tested anything");
}
