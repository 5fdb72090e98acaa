//! No retry storm: while all endpoints fail, tries stay within the budget.

use std::time::Duration;

use millrace_config::{CircuitBreakers, Cluster, RetryBudget, Snapshot, Thresholds};
use millrace_sim::bed::{Bed, SOON};
use millrace_sim::fixture::Mode;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
const CLIENTS: usize = 100;
const ROUNDS: usize = 10;

/// Requests that fail, all clients at once, ten times; how many tries the endpoint saw.
fn tries(shards: usize, breakers: Thresholds) -> usize {
    let change = |snapshot: &mut Snapshot| {
        let cluster = snapshot.clusters[0].as_deref().expect("the cluster");
        let circuit_breakers = CircuitBreakers { default: breakers, ..CircuitBreakers::default() };
        let cluster = Cluster { circuit_breakers, ..Cluster::clone(cluster) };
        snapshot.clusters = vec![Some(cluster.into())];
    };
    let mut bed = Bed::new(Mode::HttpRetries, shards, change);
    bed.answer = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec();
    let clients: Vec<_> = (0..CLIENTS).map(|_| bed.net.connect(&bed.listen).expect("a listener")).collect();
    bed.run(SOON);
    for _ in 0..ROUNDS {
        for client in &clients {
            bed.net.write(*client, REQUEST).expect("an open connection");
        }
        // Longer than the back-off before three retries.
        bed.run(Duration::from_millis(500));
        for client in &clients {
            let answer = bed.read(*client);
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        }
    }
    assert_eq!(bed.shared.budgets_used()[2..], [0, 0], "requests and retries");
    clients.into_iter().for_each(|client| bed.net.close(client));
    bed.asserts_nothing_left();
    bed.answered
}

#[test]
fn a_thousand_requests_that_fail_stay_within_the_budget() {
    let requests = CLIENTS * ROUNDS;
    let free = tries(1, Thresholds { max_retries: 1000, ..Thresholds::default() });
    assert_eq!(free, requests * 4, "without a bound every retry is made");
    for shards in [1, 2] {
        // At any time a fifth of what is under way, and never fewer than three.
        let budget = tries(
            shards,
            Thresholds {
                retry_budget: Some(RetryBudget {
                    percent: 20.0,
                    min_concurrency: 3,
                    interval: Duration::ZERO,
                }),
                ..Thresholds::default()
            },
        );
        assert!((requests..=requests * 8 / 5).contains(&budget), "{budget} tries, {shards} shards");
        let few = tries(shards, Thresholds { max_retries: 3, ..Thresholds::default() });
        assert!((requests..=requests * 12 / 10).contains(&few), "{few} tries, {shards} shards");
    }
}
