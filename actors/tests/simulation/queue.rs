//! What is still to happen, by virtual time; what happens in the same millisecond does so in the
//! order in which it was put in.

use std::collections::VecDeque;

use lariat_actors::op::Ms;

/// One bucket a millisecond, from `now` on.
#[derive(Debug)]
pub struct Queue<E> {
    now: Ms,
    buckets: VecDeque<VecDeque<E>>,
}

impl<E> Queue<E> {
    pub fn new() -> Self {
        Queue { now: 0, buckets: VecDeque::new() }
    }

    /// Time of what was taken out last.
    pub fn now(&self) -> Ms {
        self.now
    }

    pub fn after(&mut self, delay: Ms, event: E) {
        let at = delay as usize;
        if self.buckets.len() <= at {
            self.buckets.resize_with(at + 1, VecDeque::new);
        }
        self.buckets[at].push_back(event);
    }

    /// The next event up to a time; the time goes on to it.
    pub fn next_until(&mut self, end: Ms) -> Option<E> {
        while self.now <= end {
            let bucket = self.buckets.front_mut()?;
            if let Some(event) = bucket.pop_front() {
                return Some(event);
            }
            let empty = self.buckets.pop_front()?;
            // The room is used again.
            self.buckets.push_back(empty);
            self.now += 1;
        }
        None
    }
}
