//! Listening sockets: opened before anything serves, so that a port in use leaves nothing half-started.

use std::sync::Arc;

use millrace_config::{Address, Listener};
use millrace_ring::{Socket, SocketAddress, UnixAddress, sockets};

use super::workers::Workers;
use millrace_shard::shared::{ListenerHandle, Message};

/// The open sockets of one listener.
pub struct Bound {
    /// The listener.
    pub listener: Arc<Listener>,
    /// What the shards know it by.
    pub handle: Arc<ListenerHandle>,
    /// The addresses with their real ports, in the order of [`Listener::addresses`].
    pub addresses: Vec<Address>,
    sockets: Vec<Vec<Socket>>,
}

/// Opens the sockets of all listeners: with `enable_reuse_port` one per shard and address, else one that
/// the shards share by turns.
///
/// # Errors
/// The first address that cannot be had, in Envoy's words; sockets opened before are closed.
pub fn bind_all(listeners: &[Arc<Listener>], shards: usize) -> Result<Vec<Bound>, String> {
    let mut all = Vec::new();
    for listener in listeners {
        match bind(listener, shards) {
            Ok(bound) => all.push(bound),
            Err(error) => {
                all.iter().for_each(close);
                return Err(error);
            }
        }
    }
    Ok(all)
}

/// Opens the sockets of one listener.
///
/// # Errors
/// The first address that cannot be had; nothing stays open.
pub fn bind(listener: &Arc<Listener>, shards: usize) -> Result<Bound, String> {
    let mut bound = Bound {
        listener: listener.clone(),
        handle: ListenerHandle::new(&listener.name),
        addresses: Vec::new(),
        sockets: Vec::new(),
    };
    if !listener.bind_to_port {
        // Only connections that another listener hands over (`use_original_dst`) come to it.
        bound.addresses.clone_from(&listener.addresses);
        return Ok(bound);
    }
    for address in &listener.addresses {
        match bind_address(listener, address, shards) {
            Ok((actual, sockets)) => {
                bound.addresses.push(actual);
                bound.sockets.push(sockets);
            }
            Err(error) => {
                close(&bound);
                return Err(format!("error adding listener '{address}': {error}"));
            }
        }
    }
    Ok(bound)
}

fn bind_address(
    listener: &Listener,
    address: &Address,
    shards: usize,
) -> Result<(Address, Vec<Socket>), String> {
    let (mut target, mode) = match address {
        Address::Inet(inet) => (SocketAddress::Inet(*inet), None),
        Address::Pipe { path, mode } => {
            let unix = UnixAddress::new(path.as_bytes()).ok_or("the path is too long for a socket")?;
            (SocketAddress::Unix(unix), Some(*mode).filter(|mode| *mode != 0))
        }
    };
    let copies = if listener.reuse_port && target.inet().is_some() { shards } else { 1 };
    let defaults = sockets::ListenOptions::default();
    let options = sockets::ListenOptions {
        backlog: listener.backlog.unwrap_or(defaults.backlog),
        reuse_port: copies > 1,
        transparent: listener.transparent,
        freebind: listener.freebind,
        unix_mode: mode,
        ..defaults
    };
    let mut opened = Vec::new();
    for _ in 0..copies {
        match sockets::listen(&target, &options) {
            Ok(socket) => {
                // Port 0 is chosen once; the other shards listen on the same one.
                if let Ok(SocketAddress::Inet(actual)) = sockets::local_address(socket) {
                    target = SocketAddress::Inet(actual);
                }
                opened.push(socket);
            }
            Err(error) => {
                opened.into_iter().for_each(sockets::close);
                return Err(format!("cannot bind '{address}': {error}"));
            }
        }
    }
    let actual = target.inet().map_or_else(|| address.clone(), Address::Inet);
    Ok((actual, opened))
}

/// Closes the sockets that were not given to the shards.
pub fn close(bound: &Bound) {
    bound.sockets.iter().flatten().copied().for_each(sockets::close);
}

/// Gives the sockets to the shards, which accept from now on; returns how many listeners all shards have now. First
/// every shard learns of every listener, so that it can serve what another one accepts; a socket waits for that (see
/// [`Workers::send_after_all`]).
pub fn start<'a>(bound: impl Iterator<Item = &'a mut Bound>, workers: &mut Workers) -> u64 {
    let mut listeners: Vec<&mut Bound> = bound.collect();
    for listener in &listeners {
        workers.broadcast(|| Message::Know(listener.handle.clone(), listener.listener.clone()));
    }
    for listener in &mut listeners {
        for sockets in std::mem::take(&mut listener.sockets) {
            for (shard, socket) in sockets.into_iter().enumerate() {
                workers.send_after_all(shard, Message::Listen(listener.handle.clone(), socket));
            }
        }
    }
    (listeners.len() * workers.shared.doors().len()) as u64
}
