//! Who follows which route table: so that a table that comes over RDS finds its filter chains at once.

use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use millrace_config::{RouteTableId, Snapshot};

use crate::origin::Origin;

/// Origins by the table that their connection manager names.
#[derive(Debug, Default)]
pub(crate) struct RouteUsers(BTreeMap<RouteTableId, Vec<Weak<Origin>>>);

impl RouteUsers {
    /// Keeps an origin informed, if it uses a table that comes over RDS.
    pub(crate) fn add(&mut self, origin: &Rc<Origin>) {
        let Some(table) = origin.route_table() else { return };
        let users = self.0.entry(table).or_default();
        // Only when it would have to grow, so that each is looked at a few times at most.
        if users.len() == users.capacity() {
            users.retain(|user| user.strong_count() > 0);
        }
        users.push(Rc::downgrade(origin));
    }

    /// The table has changed: the next request of every connection follows the new one.
    pub(crate) fn changed(&mut self, table: RouteTableId, snapshot: &Snapshot) {
        let Some(users) = self.0.get_mut(&table) else { return };
        users.retain(|user| match user.upgrade() {
            Some(origin) => {
                origin.set_routes(snapshot.route_table(table));
                true
            }
            None => false,
        });
        if users.is_empty() {
            self.0.remove(&table);
        }
    }
}
