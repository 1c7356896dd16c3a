//! The table of one slot: which node has which key.
//!
//! Open addressing with linear probing (Knuth, The Art of Computer Programming 3, 6.4, algorithm L).
//! A place is 32 bits: the index of a node plus one and, above it, four bits of its key's hash, so that
//! fifteen of sixteen other keys on the way are passed without being read. A node that goes leaves a
//! mark behind, unless no way leads on from there. Up to three quarters of the places are taken, marks
//! included; there are 2^n or 3 x 2^n, what allocators hand out without a rest.
//!
//! A large table is resized a little with each node that comes or goes, so that none waits long.

use super::node::NIL;

/// The bits of a place above the index.
const TAG: u32 = !NIL;

/// Nothing is here, and no way leads on. All zeros, which allocators have at hand.
const EMPTY: u32 = 0;

/// A node was here; a way may lead on.
const GONE: u32 = 1 << NIL.count_ones();

/// So many places are emptied at once.
const AT_ONCE: usize = 1_024;

/// Of more, so many with each node that comes or goes. So all are empty before the table is resized again:
/// until then a quarter as many come or go as there are, and there are less than 5.4 places for each.
const AT_A_TIME: usize = 24;

/// Places that are looked at without asking after each whether to go on: most nodes are this near to the
/// beginning of their way, and a processor cannot guess how near.
const NEAR: usize = 4;

/// The nodes of a slot by the hashes of their keys.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Box<[u32]>,
    old: Option<Box<Old>>,
    len: u32,
    /// Of `places`, those of nodes and of marks.
    used: u32,
    layout: u32,
}

/// Places that are being emptied, from the last to the first.
#[derive(Debug)]
struct Old {
    places: Vec<u32>,
    /// How many there were.
    size: usize,
}

impl Table {
    /// Nodes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// A number that changes whenever a node may have come to an earlier place.
    pub fn layout(&self) -> u32 {
        self.layout
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.old_size() + self.places.len()
    }

    /// The node at a place.
    pub fn at(&self, place: usize) -> Option<u32> {
        let places = match (place.checked_sub(self.old_size()), &self.old) {
            (Some(place), _) => self.places.get(place),
            (None, old) => old.as_ref().and_then(|old| old.places.get(place)),
        };
        places.copied().and_then(node)
    }

    /// The nodes, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let old = self.old.iter().flat_map(|old| &old.places);
        old.chain(&self.places).copied().filter_map(node)
    }

    /// The node whose key has this hash and which `is_it` says it is. Asked only about nodes whose
    /// hash may be this one.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let found = position(&self.places, self.places.len(), hash, &mut is_it);
        let found = found.or_else(|| {
            let old = self.old.as_ref()?;
            position(&old.places, old.size, hash, is_it)
        });
        found.map(|(_, index)| index)
    }

    /// Adds a node that is not there. `hash_of` hashes the key of any other.
    pub fn insert(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        let at = vacancy(&self.places, hash);
        let fits = at.is_some_and(|at| self.places[at] != EMPTY || self.used() < self.limit());
        if fits {
            self.empty_old(AT_A_TIME, hash_of);
        } else {
            // As large again if marks are a fifth of it.
            self.resize(places_for(self.len() + self.len() / 4 + 1), hash_of);
        }
        self.set(hash, index);
        self.len += 1;
    }

    /// Removes a node whose key has this hash; returns whether it was there.
    pub fn remove(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let is_it = |other| other == index;
        if let Some((at, _)) = position(&self.places, self.places.len(), hash, is_it) {
            self.unset(at);
        } else {
            let Some(old) = &mut self.old else { return false };
            let Some((at, _)) = position(&old.places, old.size, hash, is_it) else { return false };
            old.places[at] = GONE;
        }
        self.len -= 1;
        if self.len() * 4 < self.limit() {
            self.resize(places_for(self.len() * 2), hash_of);
        } else {
            self.empty_old(AT_A_TIME, hash_of);
        }
        true
    }

    /// Takes all nodes out.
    pub fn take(&mut self) -> Nodes {
        let layout = self.layout.wrapping_add(1);
        let all = std::mem::replace(self, Table { layout, ..Table::default() });
        let old = all.old.map(|old| old.places).unwrap_or_default();
        Nodes { left: all.len as usize, places: all.places.into_vec(), old }
    }

    fn used(&self) -> usize {
        self.used as usize
    }

    fn limit(&self) -> usize {
        self.places.len() * 3 / 4
    }

    fn old_size(&self) -> usize {
        self.old.as_ref().map_or(0, |old| old.size)
    }

    /// Puts a node where its way has room.
    fn set(&mut self, hash: u64, index: u32) {
        let at = vacancy(&self.places, hash);
        debug_assert!(at.is_some(), "a table has room for its nodes");
        if let Some(at) = at {
            self.used += u32::from(self.places[at] == EMPTY);
            self.places[at] = tag(hash) | (index + 1);
        }
    }

    /// Leaves a mark, unless no way leads on; then those right before it go too.
    fn unset(&mut self, mut at: usize) {
        self.places[at] = GONE;
        let next = if at + 1 == self.places.len() { 0 } else { at + 1 };
        if self.places[next] != EMPTY {
            return;
        }
        while self.places[at] == GONE {
            self.places[at] = EMPTY;
            self.used -= 1;
            at = at.checked_sub(1).unwrap_or(self.places.len() - 1);
        }
    }

    fn resize(&mut self, places: usize, hash_of: impl Fn(u32) -> u64) {
        self.empty_old(usize::MAX, &hash_of);
        let old = std::mem::replace(&mut self.places, vec![EMPTY; places].into_boxed_slice());
        self.used = 0;
        if old.is_empty() {
            return;
        }
        let size = old.len();
        self.old = Some(Box::new(Old { places: old.into_vec(), size }));
        self.empty_old(if size > AT_ONCE { AT_A_TIME } else { AT_ONCE }, hash_of);
    }

    /// Empties the last of the old places, at most so many: their nodes come to later ones.
    fn empty_old(&mut self, most: usize, hash_of: impl Fn(u32) -> u64) {
        let Some(mut old) = self.old.take() else { return };
        let first = old.places.len().saturating_sub(most);
        for index in old.places.drain(first..).filter_map(node) {
            self.set(hash_of(index), index);
        }
        if first > 0 {
            self.old = Some(old);
        } else {
            // Without the old ones each place has a lower number.
            self.layout = self.layout.wrapping_add(1);
        }
    }
}

/// The nodes that were in a [`Table`].
#[derive(Debug)]
pub(super) struct Nodes {
    places: Vec<u32>,
    old: Vec<u32>,
    left: usize,
}

impl Nodes {
    /// Is none left?
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Those that are left.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.places.iter().chain(&self.old).copied().filter_map(node)
    }
}

impl Iterator for Nodes {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        loop {
            let place = self.places.pop().or_else(|| self.old.pop())?;
            if let Some(index) = node(place) {
                self.left -= 1;
                return Some(index);
            }
        }
    }
}

fn node(place: u32) -> Option<u32> {
    (place & NIL).checked_sub(1)
}

/// The bits of a hash that stand beside the index; [`home`] takes others.
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 & TAG
}

/// Where the way of a hash begins.
fn home(hash: u64, places: usize) -> usize {
    ((u64::from(hash as u32) * places as u64) >> 32) as usize
}

/// The node that `is_it` says it is, and where it is. Of `size` places the last may be emptied and left
/// out: ways lead on behind them.
#[inline]
fn position(
    places: &[u32],
    size: usize,
    hash: u64,
    mut is_it: impl FnMut(u32) -> bool,
) -> Option<(usize, u32)> {
    let home = home(hash, size).min(places.len());
    let tag = tag(hash);
    if let Some(found) = near(places, home, tag)
        && is_it(found.1)
    {
        return Some(found);
    }
    let (before, after) = places.split_at(home);
    for (part, first) in [(after, home), (before, 0)] {
        for (at, &place) in part.iter().enumerate() {
            let index = (place ^ tag).wrapping_sub(1);
            if index < NIL && is_it(index) {
                return Some((first + at, index));
            }
            if place == EMPTY {
                return None;
            }
        }
    }
    None
}

/// The first node with this tag at [`NEAR`] places from one on, or from a little before it at the end.
#[inline]
fn near(places: &[u32], home: usize, tag: u32) -> Option<(usize, u32)> {
    let first = home.min(places.len().checked_sub(NEAR)?);
    let window = places[first..].first_chunk::<NEAR>()?;
    let (mut at, mut found) = (0, NIL);
    for (ahead, place) in window.iter().enumerate().rev() {
        let index = (place ^ tag).wrapping_sub(1);
        let has_tag = index < NIL;
        at = if has_tag { ahead } else { at };
        found = if has_tag { index } else { found };
    }
    (found != NIL).then_some((first + at, found))
}

/// The first place on the way of a hash where no node is.
fn vacancy(places: &[u32], hash: u64) -> Option<usize> {
    let home = home(hash, places.len());
    let is_vacant = |place: &u32| node(*place).is_none();
    let (before, after) = places.split_at(home);
    let ahead = after.iter().position(is_vacant).map(|at| home + at);
    ahead.or_else(|| before.iter().position(is_vacant))
}

/// The fewest places of which three quarters hold so many nodes.
fn places_for(nodes: usize) -> usize {
    if nodes == 0 {
        return 0;
    }
    let needed = nodes + nodes.div_ceil(3);
    let power = needed.next_power_of_two().max(4);
    let less = power / 4 * 3;
    if power > 4 && needed <= less { less } else { power }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
