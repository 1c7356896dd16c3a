//! The timer wheel: finds entries whose deadline has passed without looking at others.
//!
//! A hierarchical wheel (Varghese and Lauck, 1987): six levels of 64 places, a place of the lowest
//! level lasts one tick of 16 ms. The lists run through the nodes. Every step, a moved node or an
//! expired one, counts against the caller's budget, so a burst is reclaimed in bounded slices.

use super::node::NIL;
use super::slab::Slab;
use crate::op::Ms;

const TICK_SHIFT: u32 = 4;
const LEVEL_BITS: u32 = 6;
const LEVELS: usize = 6;
const PLACES: usize = 64;

/// A `wheel_prev` from here up names the place whose first node this is.
const HEAD: u32 = NIL - (LEVELS * PLACES) as u32;

/// Entry indexes have to stay below this.
pub(super) const INDEX_MAX: u32 = HEAD;

#[derive(Debug)]
pub(super) struct Wheel {
    heads: [u32; LEVELS * PLACES],
    occupied: [u64; LEVELS],
    /// The tick up to which everything was reclaimed, but for what is left in its own places.
    current: u64,
}

/// What an advance came to.
#[derive(Debug, PartialEq)]
pub(super) enum Advance {
    /// This node's deadline has passed; it is out of the wheel.
    Expired(u32),
    /// The budget is used up.
    OutOfBudget,
    /// Nothing is left to do.
    Done,
}

impl Wheel {
    pub fn new() -> Self {
        Wheel { heads: [NIL; LEVELS * PLACES], occupied: [0; LEVELS], current: 0 }
    }

    /// Puts a node with a deadline in; one without is left out.
    pub fn insert(&mut self, slab: &mut Slab, index: u32) {
        let Some(deadline) = slab[index].deadline() else { return };
        // Rounded up: when its tick has come, its deadline has passed.
        let tick = ((deadline >> TICK_SHIFT) + 1).max(self.current);
        let distance = tick ^ self.current;
        let level = (63 - (distance | 1).leading_zeros()) / LEVEL_BITS;
        let level = (level as usize).min(LEVELS - 1);
        let place = level * PLACES + place_of(tick, level);
        let first = std::mem::replace(&mut self.heads[place], index);
        self.occupied[level] |= 1 << (place % PLACES);
        let node = &mut slab[index];
        node.set_wheel_prev(HEAD + place as u32);
        node.set_wheel_next(first);
        if first != NIL {
            slab[first].set_wheel_prev(index);
        }
    }

    /// Takes a node out, if it is in.
    pub fn remove(&mut self, slab: &mut Slab, index: u32) {
        let (prev, next) = (slab[index].wheel_prev(), slab[index].wheel_next());
        if prev == NIL {
            return;
        }
        if prev >= HEAD {
            let place = (prev - HEAD) as usize;
            self.heads[place] = next;
            if next == NIL {
                self.occupied[place / PLACES] &= !(1 << (place % PLACES));
            }
        } else {
            slab[prev].set_wheel_next(next);
        }
        if next != NIL {
            slab[next].set_wheel_prev(prev);
        }
        let node = &mut slab[index];
        node.set_wheel_prev(NIL);
        node.set_wheel_next(NIL);
    }

    /// Goes on towards `now` until a node has expired or the budget is used up.
    pub fn advance(&mut self, slab: &mut Slab, now: Ms, budget: &mut usize) -> Advance {
        let target = now >> TICK_SHIFT;
        loop {
            for level in (0..LEVELS).rev() {
                loop {
                    let first = self.heads[level * PLACES + place_of(self.current, level)];
                    if first == NIL {
                        break;
                    }
                    if *budget == 0 {
                        return Advance::OutOfBudget;
                    }
                    if level == 0 && !slab[first].is_expired(now) {
                        // Only what was due when it came in can stand here before its time.
                        break;
                    }
                    *budget -= 1;
                    self.remove(slab, first);
                    if level == 0 {
                        return Advance::Expired(first);
                    }
                    self.insert(slab, first);
                }
            }
            if self.current >= target {
                return Advance::Done;
            }
            self.current = self.next_occupied().map_or(target, |tick| tick.min(target));
        }
    }

    /// The next tick at which a place has to be looked at.
    fn next_occupied(&self) -> Option<u64> {
        (0..LEVELS).find_map(|level| {
            let place = place_of(self.current, level) as u32;
            let later = self.occupied[level] & u64::MAX.checked_shl(place + 1).unwrap_or(0);
            (later != 0).then(|| {
                let shift = LEVEL_BITS * level as u32;
                let above = self.current >> (shift + LEVEL_BITS) << LEVEL_BITS;
                (above | u64::from(later.trailing_zeros())) << shift
            })
        })
    }

    /// Every node of the wheel, with the place it stands in.
    #[cfg(test)]
    pub fn nodes(&self, slab: &Slab) -> Vec<u32> {
        let mut all = Vec::new();
        for (place, &head) in self.heads.iter().enumerate() {
            assert_eq!(self.occupied[place / PLACES] >> (place % PLACES) & 1 == 1, head != NIL);
            let (mut prev, mut index) = (HEAD + place as u32, head);
            while index != NIL {
                assert_eq!(slab[index].wheel_prev(), prev);
                all.push(index);
                (prev, index) = (index, slab[index].wheel_next());
            }
        }
        all
    }
}

fn place_of(tick: u64, level: usize) -> usize {
    (tick >> (LEVEL_BITS as usize * level)) as usize % PLACES
}
