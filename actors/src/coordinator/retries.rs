//! Imports that fail again and again: two nodes that do not reach each other while the coordinator
//! hears both, or a shard that is given up. Each attempt is two maps, which are work for every node,
//! and takes the places of imports that could end. So after some failures in a row the slots that have
//! failed between two nodes wait, longer each time, until one of them ends well.
//!
//! The wait is that of the two nodes: with one for each slot some would be tried at any time. It is
//! not for slots that have not failed: of a node with a shard that is given up the others are filled.

use std::collections::{BTreeMap, BTreeSet};

use crate::map::{Ask, Change, ClusterMap, NodeIx};
use crate::op::Ms;
use crate::slot::Slot;

/// Looks at which imports had failed, up to the first that has them wait: a shard is made again, a
/// link comes back.
const FREE: u32 = 3;

/// The first wait; each further one takes twice as long.
const FIRST_WAIT_MS: Ms = 200;

/// The longest wait: as long as two nodes may go without copies once they reach each other again, or a
/// shard that hung was made again.
const LONGEST_WAIT_MS: Ms = 1_000;

/// Whom an import is from, and whom it is to.
type Pair = (NodeIx, NodeIx);

/// What became of imports between two nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Retries {
    /// Those that were planned and have not been seen to end. Bounded as imports are.
    begun: Vec<Begun>,
    failed: BTreeMap<Pair, Failed>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    slot: Slot,
    /// Those of the row before.
    stamp: u64,
    since: u64,
    pair: Pair,
}

#[derive(Clone, Debug)]
struct Failed {
    /// The starts of both nodes: another start is another attempt.
    starts: (u64, u64),
    /// Slots whose import has failed.
    slots: BTreeSet<Slot>,
    /// Looks at which one had, since one of them ended well.
    looks: u32,
    until: Ms,
}

impl Retries {
    /// Looks what has become of imports. Comes before each plan.
    pub(super) fn look(&mut self, now: Ms, map: &ClusterMap) {
        self.failed.retain(|pair, failed| failed.starts == starts(map, *pair));
        let mut ended: BTreeMap<Pair, Vec<(Slot, bool)>> = BTreeMap::new();
        self.begun.retain(|&Begun { slot, stamp, since, pair }| {
            let (row, to) = (map.row(slot), pair.1);
            // It was not agreed, and is planned again.
            if row.stamp == stamp {
                return false;
            }
            // What another primary does is no failure of this one.
            let is_same = row.since == since;
            let is_under_way = is_same && row.importing().contains(&to);
            let is_good = row.primary == to || row.in_sync().contains(&to);
            if is_good || (is_same && !is_under_way) {
                ended.entry(pair).or_default().push((slot, is_good));
            }
            is_under_way
        });
        for (pair, slots) in ended {
            let works = |failed: &Failed| {
                slots.iter().any(|(slot, is_good)| *is_good && failed.slots.contains(slot))
            };
            if self.failed.get(&pair).is_some_and(works) {
                self.failed.remove(&pair);
                continue;
            }
            let bad = slots.iter().filter(|(_, is_good)| !is_good).map(|(slot, _)| *slot);
            if bad.clone().next().is_some() {
                let new = || Failed::new(starts(map, pair));
                self.failed.entry(pair).or_insert_with(new).again(bad, now);
            }
        }
    }

    /// Does the import of a slot from one node to another wait?
    pub(super) fn rests(&self, slot: Slot, from: NodeIx, to: NodeIx, now: Ms) -> bool {
        let rests = |failed: &Failed| now < failed.until && failed.slots.contains(&slot);
        self.failed.get(&(from, to)).is_some_and(rests)
    }

    /// Imports are planned.
    pub(super) fn begin(&mut self, planned: &[Change], map: &ClusterMap) {
        self.begun.extend(planned.iter().filter_map(|change| match *change {
            Change::Row { slot, stamp, ask: Ask::Import(to) } => {
                let row = map.row(slot);
                Some(Begun { slot, stamp, since: row.since, pair: (row.primary, to) })
            }
            _ => None,
        }));
    }
}

impl Failed {
    fn new(starts: (u64, u64)) -> Self {
        Failed { starts, slots: BTreeSet::new(), looks: 0, until: 0 }
    }

    /// Imports of these slots have failed.
    fn again(&mut self, slots: impl Iterator<Item = Slot>, now: Ms) {
        self.slots.extend(slots);
        self.looks = self.looks.saturating_add(1);
        if let Some(wait) = wait_after(self.looks) {
            self.until = now + wait;
        }
    }
}

fn starts(map: &ClusterMap, (from, to): Pair) -> (u64, u64) {
    (map.member(from).incarnation, map.member(to).incarnation)
}

/// How long slots that have failed wait after so many looks at which some had.
fn wait_after(looks: u32) -> Option<Ms> {
    let doubled = looks.checked_sub(FREE)?;
    Some((FIRST_WAIT_MS << doubled.min(16)).min(LONGEST_WAIT_MS))
}

#[cfg(test)]
mod tests {
    use super::super::Coordinator;
    use super::super::tests::start;
    use super::*;

    const A: NodeIx = NodeIx(0);
    const B: NodeIx = NodeIx(1);

    #[test]
    fn waits_grow_and_have_an_end() {
        let waits: Vec<Option<Ms>> = (1..=10).map(wait_after).collect();
        let grown = [200, 400, 800, 1_000, 1_000, 1_000, 1_000, 1_000].map(Some);
        assert_eq!(waits, [vec![None; 2], grown.to_vec()].concat());
        assert_eq!(wait_after(u32::MAX), Some(LONGEST_WAIT_MS));
    }

    /// A map of which a slot of A's is to be filled at B, and what is kept then.
    fn planned() -> (Retries, ClusterMap, Slot) {
        let (_, mut map) = start();
        let slot = map.rows.iter().position(|row| row.primary == A && row.importing() == [B]);
        let slot = slot.expect("every node has copies at every other") as Slot;
        change(&mut map, slot, Ask::Out(B));
        let mut retries = Retries::default();
        plan(&mut retries, &map, slot);
        (retries, map, slot)
    }

    fn plan(retries: &mut Retries, map: &ClusterMap, slot: Slot) {
        let stamp = map.row(slot).stamp;
        retries.begin(&[Change::Row { slot, stamp, ask: Ask::Import(B) }], map);
    }

    fn change(map: &mut ClusterMap, slot: Slot, ask: Ask) {
        let stamp = map.row(slot).stamp;
        *map = map.apply(map.epoch + 1, &[Change::Row { slot, stamp, ask }]).0;
    }

    /// An import is agreed and fails, again and again.
    fn fail(retries: &mut Retries, map: &mut ClusterMap, slot: Slot, times: u32, now: Ms) {
        for _ in 0..times {
            plan(retries, map, slot);
            change(map, slot, Ask::Import(B));
            retries.look(now, map);
            change(map, slot, Ask::Out(B));
            retries.look(now, map);
        }
    }

    #[test]
    fn what_is_not_agreed_or_under_way_has_not_failed() {
        let (mut retries, mut map, slot) = planned();
        for now in 0..20 {
            retries.look(now, &map);
            plan(&mut retries, &map, slot);
        }
        change(&mut map, slot, Ask::Import(B));
        for now in 20..40 {
            retries.look(now, &map);
            assert_eq!(retries.begun.len(), 1);
        }
        assert!(retries.failed.is_empty());
        // It begins empty: under another `since`.
        change(&mut map, slot, Ask::Lost(A));
        retries.look(40, &map);
        assert!(retries.failed.is_empty() && retries.begun.is_empty());
    }

    #[test]
    fn what_has_failed_between_two_nodes_waits_and_nothing_else_does() {
        let (mut retries, mut map, slot) = planned();
        let rests = |retries: &Retries, now| retries.rests(slot, A, B, now);
        fail(&mut retries, &mut map, slot, FREE - 1, 1_000);
        assert!(!rests(&retries, 1_000));
        fail(&mut retries, &mut map, slot, 1, 1_000);
        assert!(rests(&retries, 1_199) && !rests(&retries, 1_200));
        assert!(!retries.rests(slot + 1, A, B, 1_000), "it has not failed");
        assert!(!retries.rests(slot, B, A, 1_000) && !retries.rests(slot, A, NodeIx(2), 1_000));
        fail(&mut retries, &mut map, slot, 1, 1_200);
        assert!(rests(&retries, 1_599) && !rests(&retries, 1_600));
    }

    #[test]
    fn a_slot_that_had_failed_and_ends_well_makes_an_end_of_waiting() {
        let (mut retries, mut map, slot) = planned();
        fail(&mut retries, &mut map, slot, FREE + 2, 1_000);
        plan(&mut retries, &map, slot);
        change(&mut map, slot, Ask::Import(B));
        change(&mut map, slot, Ask::InSync(B));
        retries.look(1_600, &map);
        assert!(retries.failed.is_empty());
        change(&mut map, slot, Ask::Out(B));
        fail(&mut retries, &mut map, slot, FREE - 1, 1_600);
        assert!(!retries.rests(slot, A, B, 1_600), "it is counted from the start again");
    }

    #[test]
    fn another_start_of_a_node_waits_for_nothing() {
        let (mut retries, mut map, slot) = planned();
        fail(&mut retries, &mut map, slot, FREE + 9, 1_000);
        assert!(retries.rests(slot, A, B, 999 + LONGEST_WAIT_MS));
        let admit = Change::Admit { node: B, incarnation: 99 };
        map = map.apply(map.epoch + 1, &[admit]).0;
        retries.look(1_001, &map);
        assert!(!retries.rests(slot, A, B, 1_001));
    }

    /// A cluster without copies, in which some imports fail.
    struct Trial {
        coordinator: Coordinator,
        map: ClusterMap,
        now: Ms,
        fails: fn(Slot, Pair) -> Option<Ask>,
        /// Maps by which an import began that fails.
        attempts: usize,
    }

    impl Trial {
        fn new(fails: fn(Slot, Pair) -> Option<Ask>) -> Trial {
            let (mut coordinator, mut map) = start();
            coordinator.planned_at = 0;
            // All copies are to be filled anew.
            for row in &mut map.rows {
                row.importing().to_vec().into_iter().for_each(|copy| assert!(row.remove(copy)));
            }
            Trial { coordinator, map, now: 1_000, fails, attempts: 0 }
        }

        fn run(&mut self, until: Ms) {
            while self.now < until {
                self.now += 100;
                for node in [NodeIx(1), NodeIx(2)] {
                    self.coordinator.beat(node, 10, true, self.now, 0, &self.map);
                }
                let changes = self.coordinator.propose(self.now, 0, 0, &self.map);
                let (map, fails) = (&self.map, self.fails);
                let is_futile = |change: &Change| match *change {
                    Change::Row { slot, ask: Ask::Import(to), .. } => {
                        fails(slot, (map.row(slot).primary, to)).is_some()
                    }
                    _ => false,
                };
                self.attempts += usize::from(changes.iter().any(is_futile));
                self.map = self.map.apply(self.map.epoch + 1, &changes).0;
                for (slot, row) in self.map.rows.iter().enumerate() {
                    for &to in row.importing() {
                        let ask = fails(slot as Slot, (row.primary, to));
                        let ask = ask.unwrap_or(Ask::InSync(to));
                        self.coordinator.ask(slot as Slot, row.stamp, ask);
                    }
                }
            }
        }

        /// Slots without their copy for which an import would end well.
        fn left_out(&self) -> usize {
            let placed = self.map.place();
            let rows = self.map.rows.iter().zip(&placed).enumerate();
            let lacks = |(slot, (row, wanted)): &(usize, (&crate::map::Row, &Vec<NodeIx>))| {
                let missing = wanted.iter().filter(|&&node| !row.names(node));
                let fails = |&node: &NodeIx| (self.fails)(*slot as Slot, (row.primary, node));
                missing.copied().any(|node| fails(&node).is_none())
            };
            rows.filter(lacks).count()
        }
    }

    /// Attempts are few, what can be filled is, and when nothing fails any more all is.
    fn bears(fails: fn(Slot, Pair) -> Option<Ask>) {
        let mut trial = Trial::new(fails);
        trial.run(61_000);
        // Those of the first time, a few hundred slots each, and some more. It would be 300.
        assert!((20..150).contains(&trial.attempts), "{} maps", trial.attempts);
        assert_eq!(trial.left_out(), 0, "others are filled meanwhile");
        assert!(trial.map.under_replicated() > 1_000, "nothing has failed");
        trial.fails = |_, _| None;
        trial.run(71_000 + LONGEST_WAIT_MS);
        assert_eq!(trial.map.under_replicated(), 0);
    }

    #[test]
    fn two_nodes_that_do_not_reach_each_other_are_tried_ever_more_rarely() {
        bears(|_, (from, to)| (from.0 + to.0 == 1).then_some(Ask::Out(to)));
    }

    #[test]
    fn a_shard_that_is_given_up_is_tried_ever_more_rarely() {
        bears(|slot, (_, to)| (to == B && slot % 2 == 1).then_some(Ask::Lost(to)));
    }
}
