//! Messages to the shards: in order, and none lost when a mailbox is full.

use std::collections::VecDeque;

use millrace_shard::shared::{Door, Message};

/// What could not be delivered yet.
#[derive(Default)]
pub struct Outbox {
    /// By shard, oldest first; empty while the mailbox has room.
    waiting: Vec<VecDeque<Message>>,
    /// Messages that no shard may get before every shard has all of its earlier ones.
    held: VecDeque<(usize, Message)>,
    overflows: u64,
}

impl Outbox {
    /// Delivers to one shard, behind what waits for it.
    pub fn send(&mut self, doors: &[Door], shard: usize, message: Message) {
        self.waiting.resize_with(doors.len(), VecDeque::new);
        let (Some(door), Some(queue)) = (doors.get(shard), self.waiting.get_mut(shard)) else { return };
        let refused = if queue.is_empty() { door.send(message).err() } else { Some(message) };
        if let Some(message) = refused {
            self.overflows += 1;
            queue.push_back(message);
        }
    }

    /// Delivers to one shard once all shards have what was sent to any of them before.
    pub fn send_after_all(&mut self, doors: &[Door], shard: usize, message: Message) {
        if self.is_empty() {
            return self.send(doors, shard, message);
        }
        self.held.push_back((shard, message));
    }

    /// Tries again; true when nothing waits any more.
    pub fn flush(&mut self, doors: &[Door]) -> bool {
        for (door, queue) in doors.iter().zip(&mut self.waiting) {
            while let Some(message) = queue.pop_front() {
                if let Err(message) = door.send(message) {
                    queue.push_front(message);
                    break;
                }
            }
        }
        while self.waiting.iter().all(VecDeque::is_empty)
            && let Some((shard, message)) = self.held.pop_front()
        {
            self.send(doors, shard, message);
        }
        self.is_empty()
    }

    /// True when everything was delivered.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Messages that found a full mailbox since the start.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_shard::shared::Shared;

    /// Fills the mailbox of shard 0.
    fn fill(shared: &Shared) {
        while shared.doors()[0].send(Message::FlushLogs).is_ok() {}
    }

    #[test]
    fn a_full_mailbox_loses_nothing_and_holds_up_nobody_else() {
        let shared = Shared::new(2);
        let mut outbox = Outbox::default();
        outbox.send(shared.doors(), 1, Message::FlushLogs);
        assert!(outbox.is_empty());
        fill(&shared);
        outbox.send(shared.doors(), 0, Message::Drain { inbound_only: true });
        outbox.send(shared.doors(), 0, Message::Stop);
        outbox.send(shared.doors(), 1, Message::Stop);
        assert!(!outbox.is_empty() && outbox.overflows() == 2);
        assert_eq!((outbox.waiting[0].len(), outbox.waiting[1].len()), (2, 0));
        assert!(!outbox.flush(shared.doors()));
        assert!(matches!(outbox.waiting[0].front(), Some(Message::Drain { .. })), "in order");
    }

    #[test]
    fn what_is_held_waits_for_all_shards() {
        let shared = Shared::new(2);
        let mut outbox = Outbox::default();
        fill(&shared);
        outbox.send(shared.doors(), 0, Message::FlushLogs);
        outbox.send_after_all(shared.doors(), 1, Message::Stop);
        outbox.send(shared.doors(), 1, Message::FlushLogs);
        assert!(!outbox.flush(shared.doors()));
        assert_eq!((outbox.waiting[0].len(), outbox.waiting[1].len(), outbox.held.len()), (1, 0, 1));
    }
}
