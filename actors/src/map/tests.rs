#![allow(clippy::unwrap_used)]
use super::*;
use crate::slot::SLOTS;

/// A member of which no start has joined.
pub(crate) fn member(i: usize, zone: &str) -> Member {
    Member {
        id: format!("node-{i}"),
        incarnation: 0,
        known: 0,
        http: String::new(),
        peer: String::new(),
        redis: String::new(),
        weight: 1.0,
        zone: zone.to_string(),
        leaving: false,
    }
}

fn map(count: usize, copies: usize) -> ClusterMap {
    let members = (0..count).map(|i| member(i, "")).collect();
    ClusterMap::from_members(1, members, 128, copies)
}

#[test]
fn ranges_cover_every_slot_once() {
    let map = map(3, 2);
    let mut next = 0;
    for range in map.ranges() {
        assert_eq!(range.first, next);
        for slot in range.first..=range.last {
            assert_eq!(map.row(slot).primary, range.primary);
        }
        next = range.last + 1;
    }
    assert_eq!(next, crate::slot::SLOTS);
}

#[test]
fn every_slot_is_counted_for_its_nodes() {
    let map = map(3, 2);
    let counts: Vec<_> = (0..3).map(|node| map.slots_of(NodeIx(node))).collect();
    assert_eq!(counts.iter().map(|c| c.0).sum::<usize>(), 16_384);
    assert_eq!(counts.iter().map(|c| c.1).sum::<usize>(), 16_384);
}

#[test]
fn another_file_has_another_digest() {
    assert_ne!(map(3, 2).digest(), map(3, 3).digest());
    assert_ne!(map(3, 2).digest(), map(4, 2).digest());
}

pub(crate) fn founded(count: u16, copies: usize) -> ClusterMap {
    let starts = (0..count).map(|node| (NodeIx(node), 10 + u64::from(node))).collect();
    map(usize::from(count), copies).apply(1, &[Change::Found { cluster_id: 7, starts }]).0
}

/// Every invariant that holds for any map that was founded and has a member left.
pub(crate) fn check(map: &ClusterMap) {
    for (slot, row) in map.rows.iter().enumerate() {
        assert!(map.member(row.primary).is_present(), "slot {slot}: its primary is no member");
        assert!(row.since <= row.stamp && row.stamp <= map.epoch, "slot {slot}: {row:?}");
        for copy in row.replicas() {
            assert!(map.member(copy).is_present(), "slot {slot}: a copy is no member");
            assert_ne!(copy, row.primary, "slot {slot}: the primary is its own copy");
            assert_eq!(row.replicas().filter(|&other| other == copy).count(), 1, "slot {slot}");
        }
    }
}

/// Does what the plan and the nodes would do until nothing is left, and returns the epochs it took.
pub(crate) fn settle(map: &mut ClusterMap) -> u64 {
    let first = map.epoch;
    loop {
        let wanted = map.place();
        let mut changes = plan(map, &wanted, Pace { importing_max: 1_000 }, |_, _, _| true);
        for node in map.present() {
            let give = |(slot, stamp, to)| Change::Row { slot, stamp, ask: Ask::Give(to) };
            changes.extend(gives(map, &wanted, node, 7).map(give));
        }
        for (slot, row) in map.rows.iter().enumerate() {
            let done = |&copy| Change::Row {
                slot: slot as Slot,
                stamp: row.stamp,
                ask: Ask::InSync(copy),
            };
            changes.extend(row.importing().iter().map(done));
        }
        if changes.is_empty() {
            return map.epoch - first;
        }
        *map = map.apply(map.epoch + 1, &changes).0;
        check(map);
        assert!(map.epoch - first < 1_000, "the plan does not end");
    }
}

#[test]
fn the_first_map_starts_every_slot_empty_where_the_ring_wants_it() {
    let map = founded(3, 2);
    check(&map);
    assert_eq!((map.cluster_id, map.epoch), (7, 1));
    for (row, wanted) in map.rows.iter().zip(map.place()) {
        assert_eq!((row.primary, row.importing(), row.empty), (wanted[0], &wanted[1..], true));
        assert_eq!((row.since, row.stamp), (1, 1));
    }
    let again = Change::Found { cluster_id: 8, starts: vec![(NodeIx(0), 99)] };
    assert_eq!(map.apply(2, &[again]).0, ClusterMap { epoch: 2, ..map });
}

#[test]
fn a_dead_primary_is_followed_by_its_first_copy_in_sync() {
    let mut map = founded(3, 2);
    settle(&mut map);
    assert_eq!(map.under_replicated(), 0);
    let epoch = map.epoch + 1;
    let (after, summary) = map.apply(epoch, &[Change::Remove { node: NodeIx(1), incarnation: 11 }]);
    check(&after);
    let (primaries, copies) = map.slots_of(NodeIx(1));
    assert_eq!((summary.promoted, summary.lost), (primaries as u32, 0));
    assert_eq!((summary.left as usize, after.under_replicated()), (copies, primaries + copies));
    for (old, new) in map.rows.iter().zip(&after.rows) {
        match old.primary == NodeIx(1) {
            true => {
                assert_eq!((new.primary, new.since, new.empty), (old.in_sync()[0], epoch, false))
            }
            false => assert_eq!((new.primary, new.since), (old.primary, old.since)),
        }
    }
    // Once more, and of another start: nothing happens.
    for incarnation in [11, 10, 0] {
        let (same, summary) =
            after.apply(epoch + 1, &[Change::Remove { node: NodeIx(1), incarnation }]);
        assert_eq!((same.rows, summary), (after.rows.clone(), Summary::default()));
    }
}

#[test]
fn a_slot_without_a_copy_in_sync_starts_empty_at_a_member() {
    let map = founded(3, 2);
    let dead = Change::Remove { node: NodeIx(0), incarnation: 10 };
    let (after, summary) = map.apply(2, &[dead]);
    check(&after);
    assert_eq!((summary.promoted, summary.lost as usize), (0, map.slots_of(NodeIx(0)).0));
    let lost = after.rows.iter().zip(&map.rows).filter(|(_, old)| old.primary == NodeIx(0));
    for (row, _) in lost {
        assert_eq!((row.since, row.empty, row.replicas().len()), (2, true, 0));
    }
}

#[test]
fn a_restarted_node_holds_nothing_until_it_was_filled_again() {
    let mut map = founded(3, 2);
    settle(&mut map);
    let epoch = map.epoch + 1;
    let (mut after, _) = map.apply(epoch, &[Change::Admit { node: NodeIx(2), incarnation: 50 }]);
    check(&after);
    assert!(after.rows.iter().all(|row| !row.names(NodeIx(2))));
    let (same, _) = after.apply(epoch + 1, &[Change::Admit { node: NodeIx(2), incarnation: 12 }]);
    assert_eq!(same.rows, after.rows, "its older start is refused");
    settle(&mut after);
    assert_eq!(after.under_replicated(), 0);
    assert!(after.slots_of(NodeIx(2)).1 > 4_000, "it has copies again");
}

#[test]
fn after_a_death_and_a_return_every_slot_is_where_the_ring_wants_it() {
    for (nodes, copies) in [(3, 2), (3, 3), (5, 2), (5, 3), (9, 7)] {
        let mut map = founded(nodes, copies);
        settle(&mut map);
        let gone = Change::Remove { node: NodeIx(2), incarnation: 12 };
        map = map.apply(map.epoch + 1, &[gone]).0;
        settle(&mut map);
        let back = Change::Admit { node: NodeIx(2), incarnation: 50 };
        map = map.apply(map.epoch + 1, &[back]).0;
        settle(&mut map);
        for (slot, (row, wanted)) in map.rows.iter().zip(map.place()).enumerate() {
            let (mut held, mut due) = (row.in_sync().to_vec(), wanted[1..].to_vec());
            held.sort();
            due.sort();
            let at = format!("slot {slot} of {nodes} nodes, {copies} copies");
            assert_eq!((row.primary, held), (wanted[0], due), "{at}");
        }
    }
}

#[test]
fn a_slot_goes_to_another_primary_only_when_no_copy_is_missing() {
    let mut map = founded(5, 3);
    settle(&mut map);
    let wanted = map.place();
    let (slot, _) = map.rows.iter().enumerate().find(|(_, row)| row.primary == NodeIx(1)).unwrap();
    let row = *map.row(slot as Slot);
    let (heir, other) = (row.in_sync()[0], row.in_sync()[1]);
    let mut moved = wanted.clone();
    moved[slot] = vec![heir, NodeIx(1), other];
    let goes = |map: &ClusterMap, from| gives(map, &moved, NodeIx(1), from).collect::<Vec<_>>();
    for from in [0, slot as Slot, slot as Slot + 1, SLOTS] {
        assert_eq!(goes(&map, from), [(slot as Slot, row.stamp, heir)]);
    }
    map.rows[slot].remove(other);
    assert_eq!(goes(&map, 0), []);
    map.rows[slot].import(other);
    assert_eq!(goes(&map, 0), []);
    map.rows[slot].complete(other);
    assert_eq!(goes(&map, 0).len(), 1);
    assert_eq!(gives(&map, &moved, heir, 0).count(), 0, "it is not its primary");
}

#[test]
fn whoever_has_given_everything_away_leaves_and_whoever_dies_before_does_not() {
    let mut map = founded(3, 2);
    settle(&mut map);
    let (node, incarnation) = (NodeIx(2), 12);
    let leaves =
        |map: &ClusterMap, incarnation| map.that_leave(&[Change::Remove { node, incarnation }]);
    assert_eq!(leaves(&map, incarnation), [], "it never wanted to");
    let leave = Change::Leave { node, incarnation, leaving: true };
    map = map.apply(map.epoch + 1, &[leave]).0;
    assert_eq!(leaves(&map, incarnation), [], "it holds slots");
    settle(&mut map);
    assert_eq!(leaves(&map, incarnation), [(node, incarnation)]);
    assert_eq!(leaves(&map, incarnation - 1), [], "another start of it");
}

#[test]
fn a_request_that_names_an_older_row_does_nothing() {
    let mut map = founded(3, 2);
    settle(&mut map);
    let row = *map.row(5);
    let copy = row.in_sync()[0];
    let asks = [Ask::Out(copy), Ask::Give(copy), Ask::Lost(row.primary), Ask::Keep];
    for ask in asks {
        let old = Change::Row { slot: 5, stamp: row.stamp - 1, ask };
        assert_eq!(map.apply(map.epoch + 1, &[old]).0.row(5), &row, "{ask:?}");
        let twice = [ask, ask].map(|ask| Change::Row { slot: 5, stamp: row.stamp, ask });
        let once = map.apply(map.epoch + 1, &twice[..1]).0;
        assert_eq!(map.apply(map.epoch + 1, &twice).0, once, "{ask:?} twice is once");
        assert_eq!(once.row(5).stamp, map.epoch + 1);
        check(&once);
    }
}

#[test]
fn a_slot_that_is_given_away_keeps_its_old_primary_as_a_copy() {
    let mut map = founded(3, 3);
    settle(&mut map);
    let row = *map.row(5);
    let to = row.in_sync()[1];
    let give = Change::Row { slot: 5, stamp: row.stamp, ask: Ask::Give(to) };
    let given = *map.apply(map.epoch + 1, &[give]).0.row(5);
    assert_eq!((given.primary, given.since, given.empty), (to, map.epoch + 1, false));
    assert_eq!(given.in_sync(), [row.in_sync()[0], row.primary]);
}

#[test]
fn a_silent_node_leaves_the_rows_in_which_it_is_a_copy() {
    let mut map = founded(3, 2);
    settle(&mut map);
    let silent = Change::Silence { node: NodeIx(0), incarnation: 10 };
    let (after, summary) = map.apply(map.epoch + 1, &[silent]);
    check(&after);
    assert_eq!(after.slots_of(NodeIx(0)), (map.slots_of(NodeIx(0)).0, 0));
    assert_eq!(summary.left as usize, map.slots_of(NodeIx(0)).1);
}
