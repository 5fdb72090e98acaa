//! Wall time of every bench, by criterion. `cargo bench -p millrace-benches -- shard/` runs some of them.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn wall(criterion: &mut Criterion) {
    for bench in millrace_benches::all() {
        let (group, name) = bench.name.split_once('/').unwrap_or(("", bench.name));
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(bench.per_call));
        group.bench_function(name, |b| {
            let mut routine = (bench.prepare)();
            b.iter_custom(|calls| {
                let start = Instant::now();
                millrace_benches::counted_routine(&mut routine, calls);
                start.elapsed()
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(500))
        .without_plots();
    targets = wall
}
criterion_main!(benches);
