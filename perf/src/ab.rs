//! Two Millrace binaries in one run, A B B A: what a change cost or gained.

use std::path::{Path, PathBuf};

use crate::host::Host;
use crate::peer::{self, Binary};
use crate::run::{Contender, Plan, chosen, turn_in_child};
use crate::validity::median;

/// What to compare.
pub(crate) struct Comparison {
    pub(crate) base: PathBuf,
    pub(crate) change: PathBuf,
    /// A peer file of `perf/peers/` whose executable the two replace.
    pub(crate) peer: String,
}

/// Prints, for every point, the ratio change/base of the rounds' pairs: median, lowest and highest.
pub(crate) fn run(folder: &Path, plan: &Plan, comparison: &Comparison) -> Result<(), String> {
    let host = Host::read();
    host.check()?;
    host.print();
    let sides = [
        contender(folder, comparison, &comparison.base)?,
        contender(folder, comparison, &comparison.change)?,
    ];
    println!(
        "A {} ({})\nB {} ({})",
        comparison.base.display(),
        sides[0].version,
        comparison.change.display(),
        sides[1].version
    );
    let (rounds, seconds) = (plan.rounds.unwrap_or(15), plan.seconds.unwrap_or(1.0));
    for scenario in chosen(folder, plan)? {
        for (index, load) in scenario.loads.iter().enumerate() {
            if let Some(reason) = sides[0].peer.lacks(load) {
                println!("{} {}: left out: {reason}", scenario.name, scenario.point_name(load));
                continue;
            }
            let (mut ratios, mut costs) = (Vec::new(), [Vec::new(), Vec::new()]);
            for round in 0..rounds {
                let mut pair = [0.0; 2];
                // A B, B A, ...: a machine that gets slower all the time favours nobody.
                for n in [round % 2, 1 - round % 2] {
                    let side = &sides[n];
                    let sample = turn_in_child(&scenario, index, side, false, 2000.0, seconds)?;
                    let (_, value) = figure(scenario.kind, &sample);
                    pair[n] = value;
                    costs[n].push(value);
                }
                ratios.push(pair[1] / pair[0].max(1e-9));
            }
            let unit = figure(scenario.kind, &crate::result::Sample::default()).0;
            let [base, change] = costs.map(median);
            println!(
                "{:<18}{:<20} A {base:>9.2}  B {change:>9.2} {unit}   B/A {}",
                scenario.name,
                scenario.point_name(load),
                spread(ratios)
            );
        }
    }
    Ok(())
}

fn contender(folder: &Path, comparison: &Comparison, path: &Path) -> Result<Contender, String> {
    if !path.is_file() {
        return Err(format!("{}: no such file", path.display()));
    }
    let all = peer::load_all(folder)?;
    let mut peer = all
        .into_iter()
        .find(|p| p.name == comparison.peer)
        .ok_or_else(|| format!("no peer {:?}", comparison.peer))?;
    peer.binary = Some(Binary::at(path));
    Ok(Contender { version: peer.version(path), peer, path: path.to_owned(), replaced: true })
}

/// The figure that a kind of scenario is compared by; less is better in all of them.
fn figure(kind: crate::scenario::Kind, sample: &crate::result::Sample) -> (&'static str, f64) {
    use crate::scenario::Kind;
    match kind {
        Kind::Http | Kind::TcpEcho | Kind::Latency => ("us CPU/request", sample.cpu_us),
        Kind::Handshakes => ("us CPU/handshake", sample.cpu_us),
        Kind::Checks => ("us CPU/check", sample.cpu_us),
        Kind::TcpStream => ("us CPU/MiB", sample.cpu_us),
        Kind::Idle | Kind::Streams => ("MiB resident", sample.rss_mib),
        Kind::Start => ("ms to ready", sample.ready_ms.unwrap_or(0.0)),
        Kind::Size => ("MiB stripped", sample.stripped_mib.unwrap_or(0.0)),
    }
}

fn spread(ratios: Vec<f64>) -> String {
    let low = ratios.iter().copied().fold(f64::MAX, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    let pairs = ratios.len();
    format!("{:.3} (pairs {low:.3} to {high:.3}, {pairs} of them)", median(ratios))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_pair_is_quoted_with_the_extremes() {
        assert_eq!(spread(vec![1.0, 1.2, 0.9]), "1.000 (pairs 0.900 to 1.200, 3 of them)");
    }
}
