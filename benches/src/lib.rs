//! The hot paths of the data plane, each declared once with its input.
//!
//! A [`Bench`] names one operation, prepares what it works on, and repeats it. Two runners read the same table:
//! the binary `counts` (instructions under callgrind, compared with `baseline.txt`) and `benches/wall.rs`
//! (wall time, criterion). Nothing here measures anything.

mod endpoints;
mod filter;
mod heads;
mod hpack;
mod http;
mod http2;
mod observe;
mod route;
mod shard;
mod shard_filters;
mod tls;
mod upstream;

/// A prepared operation: does it as often as the argument says.
pub type Routine = Box<dyn FnMut(u64)>;

/// What belongs to the figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything that the routine does.
    Routine,
    /// Only what happens within [`millrace_shard::Shard::turn`]; the simulated kernel and peers around it do not count.
    /// Wall time cannot tell them apart and includes them.
    Turn,
}

/// One operation of the hot path.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// `<crate>/<operation>`.
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// Operations in one call of the routine; figures are for one operation.
    pub per_call: u64,
    /// What belongs to the figure.
    pub scope: Scope,
    /// Makes the routine.
    pub prepare: fn() -> Routine,
}

impl Bench {
    const fn new(name: &'static str, what: &'static str, prepare: fn() -> Routine) -> Self {
        Self { name, what, per_call: 1, scope: Scope::Routine, prepare }
    }

    const fn of(self, per_call: u64) -> Self {
        Self { per_call, ..self }
    }

    const fn in_turn(self) -> Self {
        Self { scope: Scope::Turn, ..self }
    }
}

/// Every bench, in the order of the crates that a request passes.
pub fn all() -> impl Iterator<Item = &'static Bench> {
    [
        http::BENCHES,
        hpack::BENCHES,
        http2::BENCHES,
        route::BENCHES,
        filter::BENCHES,
        upstream::BENCHES,
        endpoints::BENCHES,
        observe::BENCHES,
        shard::BENCHES,
        tls::BENCHES,
    ]
    .into_iter()
    .flatten()
}

/// The bench of this name.
pub fn find(name: &str) -> Option<&'static Bench> {
    all().find(|bench| bench.name == name)
}

/// Calls the routine. `counts` has callgrind collect within this function only, so it must stay one.
#[inline(never)]
pub fn counted_routine(routine: &mut Routine, calls: u64) {
    routine(calls);
}

/// A routine that does one thing again and again, without a call in between.
fn repeat(mut once: impl FnMut() + 'static) -> Routine {
    Box::new(move |calls| {
        for _ in 0..calls {
            once();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_bench_runs_and_has_a_name_of_its_own() {
        let mut names = BTreeSet::new();
        for bench in all() {
            assert!(names.insert(bench.name), "{} twice", bench.name);
            (bench.prepare)()(2);
        }
        assert!(find("http/parse_request_small").is_some());
    }
}
