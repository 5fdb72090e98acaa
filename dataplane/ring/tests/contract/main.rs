//! One contract, every back end: whatever holds for one of them holds for all.
#![cfg(test)]

mod cases;
mod relays;
mod world;

use millrace_ring::sim::{FaultPlan, Sim, SimNet};
use millrace_ring::{Backend, Config, IoChoice};
use world::{Kernel, Simulated, World};

/// Tiny rings and two buffers: overflow, starvation and re-arming become the ordinary case.
fn tiny() -> Config {
    Config { buffers: 2, buffer_bytes: 512, sq_entries: 4, cq_entries: 8, ..Config::default() }
}

fn kernel(choice: IoChoice, config: &Config) -> Option<World> {
    match Backend::open(choice, config) {
        Ok((backend, _)) => Some(World::new(Box::new(Kernel(backend)))),
        Err(error) if choice == IoChoice::Uring => {
            println!("skipped: 1 ({error})");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn simulated(seed: u64, plan: &FaultPlan, config: &Config) -> Option<World> {
    let net = SimNet::new(seed, plan.clone());
    let sim = Sim::open(&net, config).unwrap();
    Some(World::new(Box::new(Simulated { sim, net })))
}

/// Slow and in pieces, without the events after a close that no kernel produces.
fn choppy() -> FaultPlan {
    FaultPlan { late_events: 0, ..FaultPlan::choppy() }
}

macro_rules! contract {
    ($($module:ident: $($more:ident)* => $open:expr;)*) => { $(
        mod $module {
            use super::*;
            contract!(@cases $open; $($more)* echo bulk_both_ways half_close reset_is_seen connect_refused
                shutdown_follows_the_send stop_keeps_bytes stop_and_start_again close_with_everything_outstanding
                connect_canceled many_small_connections gather_in_order starved_receives_all_get_their_turn
                late_events_after_reuse close_listener_while_accepting close_listener_with_connections_waiting
                stop_accepting_and_go_on
                send_to_a_closed_peer_fails wake_before_the_turn);
            contract!(@relays $open; relay_moves_a_stream_to_its_end relay_both_ways relay_stops_at_its_limit
                relay_waits_for_either_side relay_delivers_what_a_closed_source_gave relay_ends_with_its_sink
                relay_sees_a_failed_sink relay_sees_a_failed_source shutdown_follows_the_relay
                many_relays_at_once recv_once_takes_one_buffer recv_once_can_be_stopped_and_followed);
        }
    )* };
    (@cases $open:expr; $($case:ident)*) => { contract!(@in cases $open; $($case)*); };
    (@relays $open:expr; $($case:ident)*) => { contract!(@in relays $open; $($case)*); };
    (@in $file:ident $open:expr; $($case:ident)*) => { $(
        #[test]
        fn $case() {
            if let Some(mut world) = $open {
                $file::$case(&mut world);
                world.finish();
            }
        }
    )* };
}

contract! {
    uring: timeout_returns wake_from_another_thread => kernel(IoChoice::Uring, &Config::default());
    uring_tiny: timeout_returns wake_from_another_thread => kernel(IoChoice::Uring, &tiny());
    uring_cooperative: timeout_returns wake_from_another_thread =>
        kernel(IoChoice::Uring, &Config { defer_taskrun: false, ..Config::default() });
    epoll: timeout_returns wake_from_another_thread => kernel(IoChoice::Epoll, &Config::default());
    epoll_tiny: timeout_returns wake_from_another_thread => kernel(IoChoice::Epoll, &tiny());
    sim: timeout_returns => simulated(1, &FaultPlan::default(), &Config::default());
    sim_tiny: timeout_returns => simulated(2, &FaultPlan::default(), &tiny());
    sim_choppy: => simulated(3, &choppy(), &Config::default());
}
