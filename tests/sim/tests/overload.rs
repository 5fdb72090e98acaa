//! Overload, one step after the other.

use std::sync::Arc;
use std::time::Duration;

use millrace_config::{Level, Listener, ListenerChange, OverloadLevels};
use millrace_shard::shared::Message;
use millrace_sim::bed::{Bed, SOON};
use millrace_sim::fixture::Mode;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";

fn stopped() -> OverloadLevels {
    OverloadLevels { stop_connections: Level::SATURATED, ..OverloadLevels::default() }
}

fn press(bed: &mut Bed, levels: OverloadLevels) {
    bed.tell_all(|_| Message::Overload(levels));
    bed.run(SOON);
}

#[test]
fn who_comes_while_accepting_is_stopped_is_served_later() {
    let mut bed = Bed::new(Mode::Http, 2, |_| {});
    let known = bed.connect();
    for _ in 0..3 {
        press(&mut bed, stopped());
        let waiting = [bed.connect(), bed.connect()];
        for peer in waiting {
            assert_eq!(bed.ask(peer, REQUEST), "");
        }
        assert!(bed.ask(known, REQUEST).starts_with("HTTP/1.1 200"));
        press(&mut bed, OverloadLevels::default());
        for peer in waiting {
            assert!(bed.read(peer).starts_with("HTTP/1.1 200"));
            bed.net.close(peer);
        }
    }
    bed.net.close(known);
    bed.asserts_nothing_left();
}

#[test]
fn who_waits_when_the_listener_goes_is_served_all_the_same() {
    let mut bed = Bed::new(Mode::Http, 1, |_| {});
    press(&mut bed, stopped());
    let waiting = bed.connect();
    assert_eq!(bed.ask(waiting, REQUEST), "");
    let name = bed.handle.name().clone();
    bed.change_listener(ListenerChange::Remove(name, Duration::from_secs(2)));
    bed.run(SOON);
    assert!(bed.read(waiting).starts_with("HTTP/1.1 200"));
    bed.net.close(waiting);
    bed.asserts_nothing_left();
}

#[test]
fn a_listener_that_bypasses_overload_from_now_on_accepts_again() {
    let mut bed = Bed::new(Mode::Http, 1, |_| {});
    press(&mut bed, stopped());
    let waiting = bed.connect();
    assert_eq!(bed.ask(waiting, REQUEST), "");
    let free = Listener { bypass_overload_manager: true, ..Listener::clone(&bed.listener()) };
    bed.change_listener(ListenerChange::Replace(Arc::new(free), Duration::from_secs(2)));
    bed.run(SOON);
    assert!(bed.read(waiting).starts_with("HTTP/1.1 200"));
    bed.net.close(waiting);
    bed.asserts_nothing_left();
}

#[test]
fn a_bound_of_the_process_is_given_back_whatever_ends_a_connection() {
    let mut bed = Bed::new(Mode::Http, 2, |_| {});
    bed.shared.connections().set_max(Some(3));
    for _ in 0..4 {
        let peers: Vec<_> = (0..5).map(|_| bed.connect()).collect();
        let answers: Vec<String> = peers.iter().map(|peer| bed.read(*peer)).collect();
        assert_eq!(answers.iter().filter(|answer| answer.is_empty()).count(), 3, "{answers:?}");
        assert_eq!(bed.shared.connections().open(), 3);
        peers.into_iter().for_each(|peer| bed.net.close(peer));
        bed.run(SOON);
        assert_eq!(bed.shared.connections().open(), 0);
    }
    assert_eq!(bed.shared.connections().refused(), 8);
    bed.asserts_nothing_left();
}

#[test]
fn keep_alive_ends_only_while_it_is_asked_for() {
    let mut bed = Bed::new(Mode::Http, 1, |_| {});
    let peer = bed.connect();
    assert!(!bed.ask(peer, REQUEST).contains("connection: close"));
    press(&mut bed, OverloadLevels { disable_keepalive: Level::SATURATED, ..OverloadLevels::default() });
    assert!(bed.ask(peer, REQUEST).contains("connection: close"));
    press(&mut bed, OverloadLevels::default());
    let other = bed.connect();
    assert!(!bed.ask(other, REQUEST).contains("connection: close"));
    [peer, other].into_iter().for_each(|peer| bed.net.close(peer));
    bed.asserts_nothing_left();
}
