//! Ages: the list of an LRU is cut into generations, so that an entry that comes from another node
//! goes to its place instead of to the top.
//!
//! A generation is a stretch of the list: what was used last between two times. A boundary, a node
//! without an entry, stands between two of them, and each entry names its own: its label. So the
//! age of an entry is known, and the place for one of a given age is found by a search among at
//! most 256, while a use costs no more than the label.
//!
//! A new generation begins ([`Lru::tick`]) when the newest has lasted for a part of the time that
//! the list spans, and that part grows with the number of generations: an LRU that evicts has about
//! 28, each a 28th of what it spans, however long that is. One that does not evict spans
//! more and more and still does not run out of labels, because generations get longer: nothing is
//! ever given another label. For an entry that is older than all others, generations are added at
//! the old end by the same rule.
//!
//! Pure: time is an argument. It may lie before the clock's origin, hence the sign.

use std::collections::VecDeque;

use bytes::Bytes;

use super::node::NIL;
use super::{Lru, PutOutcome, Removal, TooLarge, View};
use crate::op::{Ms, Version};
use crate::slot::Slot;

/// Most generations: labels are 8 bits.
pub(super) const GENERATIONS_MAX: usize = 256;

/// The shortest generation.
const SPAN_MIN_MS: i64 = 32;

/// With as many generations left to give, the next is to last for this part of them, of the time that the
/// list spans: 8 of 256 at first.
const SPAN_PART: i64 = 8;

/// What the newest generation has is no older than this, however long that generation lasts.
const NEWEST_AGE_MAX: Ms = 1_000;

/// Older than this is no different; about 30 years.
const AGE_MAX_MS: i64 = 1_000_000_000_000;

/// What was used between two times; it ends where the next begins.
#[derive(Clone, Copy, Debug)]
struct Generation {
    began: i64,
    /// The boundary at its newer end; [`NIL`] for the newest.
    boundary: u32,
}

/// The generations of a list, oldest first; at least one.
#[derive(Debug)]
pub(super) struct Generations {
    all: VecDeque<Generation>,
    /// The label of the oldest; each has one more than the one before, modulo 256.
    oldest: u8,
    /// How long a generation was to last when that was looked at last.
    span: i64,
}

impl Generations {
    /// One generation that begins now.
    pub fn new(now: Ms) -> Self {
        let first = Generation { began: now as i64, boundary: NIL };
        Generations { all: VecDeque::from([first]), oldest: 0, span: SPAN_MIN_MS }
    }

    /// The label of the newest.
    pub fn newest(&self) -> u8 {
        self.label(self.all.len() - 1)
    }

    fn label(&self, at: usize) -> u8 {
        self.oldest.wrapping_add(at as u8)
    }

    /// The boundary before the oldest: nothing is older if it ends the list.
    fn first_boundary(&self) -> u32 {
        self.all[0].boundary
    }

    /// How long a generation is to last now, or `None` when there is no label for another.
    fn span(&self, now: i64) -> Option<i64> {
        let left = GENERATIONS_MAX - self.all.len();
        let spanned = now - self.all[0].began;
        (left > 0).then(|| (spanned * SPAN_PART / left as i64).max(SPAN_MIN_MS))
    }
}

impl Lru {
    /// Stores an entry like [`Lru::put`], at the place of one that was used `age` ago. One that would
    /// have to go at once because all others were used later is not stored, and counts as evicted.
    ///
    /// # Errors
    /// As [`Lru::put`].
    #[allow(clippy::too_many_arguments)]
    pub fn import(
        &mut self,
        slot: Slot,
        key: &[u8],
        value: &Bytes,
        content_type: Option<&[u8]>,
        deadline: Option<Ms>,
        version: Version,
        age: Ms,
        now: Ms,
        removed: &mut impl FnMut(Removal),
    ) -> Result<PutOutcome, TooLarge> {
        self.store(slot, key, value, content_type, deadline, version, Some(age), now, removed)
    }

    /// Begins a new generation when it is time for one. To be called every few dozen milliseconds.
    pub fn tick(&mut self, now: Ms) {
        let now = now as i64;
        self.drop_empty_generations();
        let Some(span) = self.generations.span(now) else { return };
        self.generations.span = span;
        let newest = self.generations.all.len() - 1;
        if self.len > 0 && now - self.generations.all[newest].began >= span {
            let boundary = self.slab.take();
            self.generations.all[newest].boundary = boundary;
            self.generations.all.push_back(Generation { began: now, boundary: NIL });
            self.link_front(boundary);
        }
    }

    /// How long a generation lasts: two uses of an entry within this time differ in nothing that an
    /// age tells.
    pub fn generation_ms(&self) -> Ms {
        self.generations.span as Ms
    }

    /// How long an entry has not been used, to the middle of its generation.
    pub fn age(&self, view: &View<'_>, now: Ms) -> Ms {
        let generations = &self.generations;
        let at = usize::from(view.generation().wrapping_sub(generations.oldest));
        let now = now as i64;
        let ended = generations.all.get(at + 1).map_or(now, |next| next.began);
        let middle = generations.all[at].began.midpoint(ended);
        let age = (now - middle).max(0) as Ms;
        // What is in use is in the newest, however long that lasts here: elsewhere it must not pass
        // for old.
        let is_newest = at + 1 == generations.all.len();
        if is_newest { age.min(NEWEST_AGE_MAX) } else { age }
    }

    /// Forgets the generations of a list without entries.
    pub(super) fn restart_generations(&mut self, now: Ms) {
        let old = std::mem::replace(&mut self.generations, Generations::new(now));
        for generation in old.all.into_iter().filter(|generation| generation.boundary != NIL) {
            self.unlink(generation.boundary);
            self.slab.give(generation.boundary);
        }
    }

    /// Drops generations at the old end that have no entries.
    pub(super) fn drop_empty_generations(&mut self) {
        while self.generations.all.len() > 1 && self.tail == self.generations.first_boundary() {
            let boundary = self.tail;
            self.unlink(boundary);
            self.slab.give(boundary);
            self.generations.all.pop_front();
            self.generations.oldest = self.generations.oldest.wrapping_add(1);
        }
    }

    /// Is there no room for an entry of this age, and is it older than every other?
    pub(super) fn would_go_at_once(&mut self, charge: u64, age: Ms, now: Ms) -> bool {
        let has_room = (self.len as u64) < self.capacity && self.bytes + charge <= self.max_bytes;
        if has_room || !self.wiped.is_empty() {
            return false;
        }
        self.drop_empty_generations();
        last_use(age, now) < self.generations.all[0].began
    }

    /// Links a node in by its age: as the least recently used of its generation.
    pub(super) fn link_aged(&mut self, index: u32, age: Ms, now: Ms) {
        let used = last_use(age, now);
        while used < self.generations.all[0].began && self.add_older(now as i64) {}
        let generations = &self.generations;
        let later = generations.all.partition_point(|generation| generation.began <= used);
        // When labels ran out the oldest takes what is older.
        let at = later.saturating_sub(1);
        let older = match at {
            0 => NIL,
            at => generations.all[at - 1].boundary,
        };
        let label = generations.label(at);
        self.slab[index].set_generation(label);
        self.link_before(index, older);
    }

    /// Adds a generation before the oldest; false when there is no label for it.
    fn add_older(&mut self, now: i64) -> bool {
        let Some(span) = self.generations.span(now) else { return false };
        let began = self.generations.all[0].began - span;
        let boundary = self.slab.take();
        self.link_before(boundary, NIL);
        self.generations.all.push_front(Generation { began, boundary });
        self.generations.oldest = self.generations.oldest.wrapping_sub(1);
        true
    }

    /// Links a node in as the next more recently used one of `older`, or as the last for [`NIL`].
    fn link_before(&mut self, index: u32, older: u32) {
        let newer = match older {
            NIL => std::mem::replace(&mut self.tail, index),
            older => std::mem::replace(&mut self.slab[older].prev, index),
        };
        let node = &mut self.slab[index];
        (node.prev, node.next) = (newer, older);
        match newer {
            NIL => self.head = index,
            newer => self.slab[newer].next = index,
        }
    }
}

fn last_use(age: Ms, now: Ms) -> i64 {
    now as i64 - i64::try_from(age).unwrap_or(AGE_MAX_MS).min(AGE_MAX_MS)
}

#[cfg(test)]
#[path = "generations_tests.rs"]
mod tests;
