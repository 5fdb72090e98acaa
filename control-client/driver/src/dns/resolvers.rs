//! Resolvers, one for all that have the same settings.

use std::sync::Arc;

use millrace_config::DnsResolver;

use super::lookup::Lookup;

/// Most resolvers with settings of their own; further ones are made for their user alone.
const RESOLVERS_MAX: usize = 64;

/// The resolvers in use.
pub(super) struct Resolvers<L> {
    system: Arc<L>,
    /// By their settings.
    configured: Vec<(Arc<DnsResolver>, Arc<L>)>,
}

impl<L: Lookup> Resolvers<L> {
    pub(super) fn new(lookup: L) -> Self {
        Self { system: Arc::new(lookup), configured: Vec::new() }
    }

    /// The resolver with these settings; `None` for the system's.
    pub(super) fn of(&mut self, config: Option<&Arc<DnsResolver>>) -> Arc<L> {
        let Some(config) = config else { return Arc::clone(&self.system) };
        if let Some((_, known)) = self.configured.iter().find(|(known, _)| known == config) {
            return Arc::clone(known);
        }
        let made = Arc::new(self.system.configured(config));
        // Those that nobody asks any more make room.
        self.configured.retain(|(_, lookup)| Arc::strong_count(lookup) > 1);
        if self.configured.len() < RESOLVERS_MAX {
            self.configured.push((Arc::clone(config), Arc::clone(&made)));
        }
        made
    }
}
