//! Who follows which route table: so that a table that comes over RDS finds its filter chains at once.

use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use millrace_config::{RouteTableId, Snapshot};

use crate::origin::Origin;

/// Origins by what their connection manager names.
#[derive(Debug, Default)]
pub(crate) struct RouteUsers {
    by_table: BTreeMap<RouteTableId, Vec<Weak<Origin>>>,
    /// Those with scopes, each of which may name any table.
    scoped: Vec<Weak<Origin>>,
}

impl RouteUsers {
    /// Keeps an origin informed, if it uses a table that comes over RDS, or scopes.
    pub(crate) fn add(&mut self, origin: &Rc<Origin>) {
        let users = match origin.route_table() {
            Some(table) => self.by_table.entry(table).or_default(),
            None if origin.has_scopes() => &mut self.scoped,
            None => return,
        };
        // Only when it would have to grow, so that each is looked at a few times at most.
        if users.len() == users.capacity() {
            users.retain(|user| user.strong_count() > 0);
        }
        users.push(Rc::downgrade(origin));
    }

    /// The table has changed: the next request of every connection follows the new one.
    pub(crate) fn changed(&mut self, table: RouteTableId, snapshot: &Snapshot) {
        let Some(users) = self.by_table.get_mut(&table) else { return };
        users.retain(|user| match user.upgrade() {
            Some(origin) => {
                origin.set_routes(snapshot.route_table(table));
                true
            }
            None => false,
        });
        if users.is_empty() {
            self.by_table.remove(&table);
        }
    }

    /// Scopes, or tables that they may name, have changed.
    pub(crate) fn scopes_changed(&mut self, snapshot: &Snapshot) {
        self.scoped.retain(|user| match user.upgrade() {
            Some(origin) => {
                origin.set_scopes(snapshot);
                true
            }
            None => false,
        });
    }
}
