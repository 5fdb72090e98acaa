//! Sessions that a client may resume: a bounded number for each server name, a bounded number of names.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Server names of one context whose sessions are kept; the one that was learnt first goes first.
const NAMES: usize = 256;

#[derive(Default)]
struct Server {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

#[derive(Default)]
struct Servers {
    by_name: HashMap<ServerName<'static>, Server>,
    order: VecDeque<ServerName<'static>>,
}

impl Servers {
    fn entry(&mut self, name: &ServerName<'static>) -> &mut Server {
        if !self.by_name.contains_key(name) {
            if self.order.len() >= NAMES
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_name.remove(&oldest);
            }
            self.order.push_back(name.clone());
        }
        self.by_name.entry(name.clone()).or_default()
    }
}

/// The sessions of one client context of one shard. `per_name` is `max_session_keys`; 0 keeps none.
pub(crate) struct Sessions {
    per_name: usize,
    /// Only this shard's thread ever asks.
    servers: Mutex<Servers>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions { [redacted] }")
    }
}

impl Sessions {
    pub(crate) fn new(per_name: u32) -> Self {
        Self { per_name: per_name as usize, servers: Mutex::default() }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.servers().entry(&server_name).group = Some(group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.servers().by_name.get(&server_name.to_owned()).and_then(|server| server.group)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        if self.per_name > 0 {
            self.servers().entry(&server_name).tls12 = Some(value);
        }
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.servers().by_name.get(&server_name.to_owned())?.tls12.clone()
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        if let Some(server) = self.servers().by_name.get_mut(server_name) {
            server.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        if self.per_name == 0 {
            return;
        }
        let mut servers = self.servers();
        let tickets = &mut servers.entry(&server_name).tls13;
        while tickets.len() >= self.per_name {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.servers().by_name.get_mut(server_name)?.tls13.pop_back()
    }
}
