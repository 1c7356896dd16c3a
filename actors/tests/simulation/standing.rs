//! What waits for a process that stands still, or for the thread of its shard: it happens in the order in
//! which it came, as soon as both run.

use std::collections::VecDeque;

use lariat_actors::map::NodeIx;
use lariat_actors::op::Ms;

use super::world::{Event, World};

/// Events for the process of a node, and those for the thread of its shard.
pub type Standing = [VecDeque<Event>; 2];

impl World {
    /// Until when a node does nothing, or its thread does.
    fn stands_until(&mut self, node: NodeIx, of_thread: bool) -> Ms {
        let me = self.node(node);
        match of_thread {
            true => me.paused_until.max(me.hangs_until),
            false => me.paused_until,
        }
    }

    /// Keeps an event until it may happen; gives it back if that is now.
    pub fn keep(&mut self, event: Event) -> Option<Event> {
        let Some(node) = event.of_process() else { return Some(event) };
        let of_thread = event.of_thread().is_some();
        let (until, now) = (self.stands_until(node, of_thread), self.now);
        let kept = &mut self.node(node).standing[usize::from(of_thread)];
        if until <= now && kept.is_empty() {
            return Some(event);
        }
        kept.push_back(event);
        self.after(until.saturating_sub(now), Event::GoOn { node });
        None
    }

    /// Keeps an event that comes before everything else that the thread has to do when it runs again.
    pub fn keep_first(&mut self, node: NodeIx, event: Event) {
        let until = self.stands_until(node, true);
        self.node(node).standing[1].push_front(event);
        self.after(until.saturating_sub(self.now), Event::GoOn { node });
    }

    /// A node, or the thread of its shard, may run again.
    pub fn go_on(&mut self, node: NodeIx) -> Result<(), String> {
        for of_thread in [false, true] {
            while self.stands_until(node, of_thread) <= self.now
                && let Some(event) = self.node(node).standing[usize::from(of_thread)].pop_front()
            {
                self.say(|| format!("{node:?} goes on with {event:?}"));
                self.happens(event)?;
                self.check(Some(node))?;
            }
            if !self.node(node).standing[usize::from(of_thread)].is_empty() {
                let until = self.stands_until(node, of_thread);
                self.after(until - self.now, Event::GoOn { node });
            }
        }
        Ok(())
    }
}
