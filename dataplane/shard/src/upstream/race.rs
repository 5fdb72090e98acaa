//! Connects to the addresses of one endpoint, of which the first to succeed is used (RFC 8305): the next address is
//! tried when the last one fails, or after a while without an answer.

use std::collections::VecDeque;
use std::time::Duration;

use millrace_base::{Key, Slab, Time};
use millrace_config::{Address, Cluster};
use millrace_ring::{IoError, Op, Socket};
use millrace_upstream::interleave;

use super::connect::connect_options;
use crate::address::to_ring;
use crate::shard::Shard;
use crate::token::Kind;

/// How long an address has before the next one is tried as well; Envoy's figure.
const ATTEMPT_DELAY: Duration = Duration::from_millis(300);

/// The addresses of one connection.
#[derive(Debug)]
pub(super) struct Race {
    /// Not tried yet.
    left: VecDeque<Address>,
    /// Connects without an answer.
    running: Vec<Key>,
    /// When the next address is tried; [`Time::MAX`] when none is left.
    pub(super) next_at: Time,
}

/// One connect.
#[derive(Debug)]
pub(crate) struct Racer {
    upstream: Key,
    address: Address,
}

/// All connects that race.
pub(crate) type Racers = Slab<Racer>;

impl Race {
    pub(super) fn new(first: &Address, others: &[Address], config: &Cluster) -> Self {
        let order = interleave(std::iter::once(first).chain(others), &config.happy_eyeballs);
        Self { left: order.into_iter().cloned().collect(), running: Vec::new(), next_at: Time::ZERO }
    }
}

impl Shard {
    /// Tries the next address of a connection if it is its time.
    pub(super) fn race_on(&mut self, key: Key) {
        let now = self.io.now;
        loop {
            let Some(upstream) = self.upstreams.get_mut(key) else { return };
            let cluster = upstream.cluster;
            let Some(race) = upstream.race.as_mut().filter(|race| race.next_at <= now) else { return };
            let Some(address) = race.left.pop_front() else {
                race.next_at = Time::MAX;
                return;
            };
            let more = !race.left.is_empty();
            race.next_at = if more { now + ATTEMPT_DELAY } else { Time::MAX };
            let config = self.clusters.get(cluster).map(|state| state.config().clone());
            let (Some(config), Some(target)) = (config, to_ring(&address)) else { continue };
            let racer = self.racers.insert(Racer { upstream: key, address });
            race.running.push(racer);
            let options = Box::new(connect_options(&config, &target));
            self.io.ops.push(Op::Connect { token: Kind::Racer.token(racer), address: target, options });
            return;
        }
    }

    /// A connect has its answer.
    pub(crate) fn on_racer(&mut self, key: Key, result: Result<Socket, IoError>) {
        let racer = self.racers.remove(key);
        let race = racer.and_then(|racer| {
            let upstream = self.upstreams.get_mut(racer.upstream)?;
            Some((racer, upstream.race.as_mut()?))
        });
        let Some((Racer { upstream: id, address }, race)) = race else {
            if let Ok(socket) = result {
                self.io.ops.push(Op::Close { socket, reset: false });
            }
            return;
        };
        race.running.retain(|running| *running != key);
        match result {
            Ok(socket) => {
                let Some(upstream) = self.upstreams.get_mut(id) else { return };
                (upstream.address, upstream.won_race) = (address, true);
                if let Some(race) = upstream.race.take() {
                    self.end_race(*race);
                }
                self.on_connected(id, Ok(socket));
            }
            Err(error) => {
                if !race.left.is_empty() {
                    race.next_at = self.io.now;
                    self.race_on(id);
                    self.rearm_upstream(id);
                } else if race.running.is_empty() {
                    self.on_connected(id, Err(error));
                }
            }
        }
    }

    /// Gives up on the connects that have no answer yet.
    pub(super) fn end_race(&mut self, race: Race) {
        for racer in race.running {
            // Its answer finds no entry, and is closed should it be a socket.
            self.racers.remove(racer);
            self.io.ops.push(Op::CancelConnect { token: Kind::Racer.token(racer) });
        }
    }
}
