#![allow(clippy::unwrap_used)]
use super::*;
use crate::map::tests::member;

const TIMES: Times = Times { lease_ms: 250, failure_timeout_ms: 1_000 };

/// Three members, node 0 elected at 1,000, everybody heard and answered at 1,000.
pub(super) fn start() -> (Coordinator, ClusterMap) {
    let map = ClusterMap::from_members(0, (0..3).map(|i| member(i, "")).collect(), 16, 2);
    let starts = (0..3).map(|node| (NodeIx(node), 10)).collect();
    let map = map.apply(1, &[Change::Found { cluster_id: 7, starts }]).0;
    let mut coordinator = Coordinator::new(NodeIx(0), TIMES, 1_000, &map, |_| 1_000);
    for node in 1..3 {
        assert_eq!(coordinator.beat(NodeIx(node), 10, true, 1_000, 0, &map), Verdict::Answer);
    }
    coordinator.planned_at = u64::MAX - PLAN_EVERY_MS;
    (coordinator, map)
}

#[test]
fn a_silent_member_leaves_as_a_copy_at_once_and_as_a_primary_after_its_lease() {
    let (mut coordinator, mut map) = start();
    let (node, incarnation) = (NodeIx(1), 10);
    coordinator.beat(NodeIx(2), 10, true, 2_000, 0, &map);
    assert_eq!(coordinator.propose(2_000, 0, 0, &map), [], "not silent for long enough");
    let remove = Change::Remove { node, incarnation };
    assert_eq!(coordinator.propose(2_001, 0, 0, &map), std::slice::from_ref(&remove));
    // It was answered only just now: its lease has to end first.
    let (mut coordinator, _) = start();
    coordinator.beat(node, 10, true, 1_900, 0, &map);
    coordinator.beat(NodeIx(2), 10, true, 1_900, 0, &map);
    coordinator.refused(node, incarnation, 1_900);
    let silence = Change::Silence { node, incarnation };
    assert_eq!(coordinator.propose(1_901, 0, 0, &map), std::slice::from_ref(&silence));
    map = map.apply(2, &[silence]).0;
    assert_eq!(coordinator.propose(2_175, 0, 0, &map), [], "a lease and a tenth");
    assert_eq!(coordinator.propose(2_176, 0, 0, &map), [remove]);
    assert_eq!(coordinator.beat(node, 10, true, 2_177, 0, &map), Verdict::Silence);
}

#[test]
fn a_member_that_hears_no_answer_is_as_good_as_silent() {
    let (mut coordinator, map) = start();
    for now in (1_060..2_001).step_by(60) {
        assert_eq!(coordinator.beat(NodeIx(1), 10, false, now, 0, &map), Verdict::Answer);
        coordinator.beat(NodeIx(2), 10, true, now, 0, &map);
    }
    let silence = Change::Silence { node: NodeIx(1), incarnation: 10 };
    assert_eq!(coordinator.propose(2_001, 0, 0, &map), [silence]);
}

#[test]
fn a_member_that_is_back_in_time_may_say_so() {
    let (mut coordinator, map) = start();
    let node = NodeIx(1);
    let others = |coordinator: &mut Coordinator, now| {
        coordinator.beat(NodeIx(2), 10, true, now, 0, &map);
        coordinator.propose(now, 0, 0, &map)
    };
    // It stood still and has no lease; the answer to this gives it one, and the next says so.
    assert_eq!(coordinator.beat(node, 10, false, 1_990, 0, &map), Verdict::Answer);
    assert_eq!(others(&mut coordinator, 2_001), []);
    assert_eq!(coordinator.beat(node, 10, true, 2_050, 0, &map), Verdict::Answer);
    assert_eq!(others(&mut coordinator, 3_050), []);
    // Once more, and now the answers get lost.
    for now in (3_050..3_300).step_by(60) {
        coordinator.beat(node, 10, false, now, 0, &map);
    }
    assert_eq!(others(&mut coordinator, 3_325), []);
    let silence = Change::Silence { node, incarnation: 10 };
    assert_eq!(others(&mut coordinator, 3_326), [silence]);
}

#[test]
fn a_coordinator_that_was_cut_off_itself_blames_nobody_for_it() {
    let (mut coordinator, map) = start();
    assert_eq!(coordinator.propose(1_500, 300, 0, &map), []);
    assert_eq!(coordinator.propose(4_000, 0, 0, &map), []);
    assert_eq!(coordinator.propose(5_000, 0, 0, &map), []);
    assert_eq!(coordinator.propose(5_001, 0, 0, &map).len(), 2);
}

#[test]
fn own_lag_is_no_fault_of_the_members() {
    let (mut coordinator, map) = start();
    assert_eq!(coordinator.propose(2_400, 0, 500, &map), []);
    assert_eq!(coordinator.propose(2_501, 0, 500, &map).len(), 2);
}

#[test]
fn a_new_coordinator_gives_everybody_a_lease() {
    let (_, map) = start();
    let mut coordinator = Coordinator::new(NodeIx(0), TIMES, 5_000, &map, |_| 5_000);
    coordinator.planned_at = u64::MAX - PLAN_EVERY_MS;
    coordinator.refused(NodeIx(1), 10, 5_000);
    let removes =
        |changes: Vec<Change>| changes.iter().any(|change| matches!(change, Change::Remove { .. }));
    assert!(!removes(coordinator.propose(5_275, 0, 0, &map)));
    assert!(removes(coordinator.propose(5_276, 0, 0, &map)));
}

#[test]
fn a_new_coordinator_counts_the_silence_that_it_has_heard_itself() {
    let (_, map) = start();
    for (last, gone_at) in [(4_700, 5_700), (1_000, 5_550)] {
        let heard = |node: NodeIx| if node == NodeIx(1) { last } else { 4_990 };
        let mut coordinator = Coordinator::new(NodeIx(0), TIMES, 5_000, &map, heard);
        coordinator.planned_at = u64::MAX - PLAN_EVERY_MS;
        assert_eq!(coordinator.propose(gone_at, 0, 0, &map), [], "last heard at {last}");
        let remove = Change::Remove { node: NodeIx(1), incarnation: 10 };
        assert_eq!(coordinator.propose(gone_at + 1, 0, 0, &map), [remove]);
    }
}

#[test]
fn without_a_quorum_it_answers_and_proposes_nothing() {
    let (mut coordinator, map) = start();
    coordinator.refused(NodeIx(1), 10, 1_000);
    coordinator.join(NodeIx(2), 99, 0, &map);
    assert_eq!(coordinator.beat(NodeIx(2), 10, true, 9_000, 250, &map), Verdict::Silence);
    assert_eq!(coordinator.propose(9_000, 250, 0, &map), []);
    assert!(!coordinator.propose(9_000, 249, 0, &map).is_empty());
}

#[test]
fn a_restarted_node_is_admitted_when_its_older_start_is_out() {
    let (mut coordinator, mut map) = start();
    let node = NodeIx(1);
    assert_eq!(coordinator.join(node, 9, 0, &map), Verdict::Gone);
    assert_eq!(coordinator.propose(1_100, 0, 0, &map), [], "an older start is nobody");
    coordinator.join(node, 20, 0, &map);
    coordinator.join(node, 20, 0, &map);
    let silence = Change::Silence { node, incarnation: 10 };
    assert_eq!(coordinator.propose(1_101, 0, 0, &map), [silence]);
    let remove = Change::Remove { node, incarnation: 10 };
    let proposed = coordinator.propose(1_276, 0, 0, &map);
    assert!(proposed.contains(&remove), "{proposed:?}");
    map = map.apply(2, &proposed).0;
    assert_eq!(coordinator.beat(node, 20, true, 1_277, 0, &map), Verdict::Silence);
    let admit = Change::Admit { node, incarnation: 20 };
    assert_eq!(coordinator.propose(1_277, 0, 0, &map), std::slice::from_ref(&admit));
    map = map.apply(3, &[admit]).0;
    assert_eq!(coordinator.propose(1_278, 0, 0, &map), []);
    assert_eq!(coordinator.beat(node, 20, true, 1_279, 0, &map), Verdict::Answer);
    assert_eq!(coordinator.beat(node, 10, true, 1_279, 0, &map), Verdict::Gone);
}

#[test]
fn requests_for_rows_come_again_until_the_row_has_changed() {
    let (mut coordinator, mut map) = start();
    let row = *map.row(3);
    let ask = Ask::Out(row.importing()[0]);
    coordinator.ask(3, row.stamp, ask);
    coordinator.ask(3, row.stamp, ask);
    coordinator.ask(4, row.stamp + 1, ask);
    let change = Change::Row { slot: 3, stamp: row.stamp, ask };
    for now in [1_100, 1_101] {
        assert_eq!(coordinator.propose(now, 0, 0, &map), std::slice::from_ref(&change));
    }
    map = map.apply(2, &[change]).0;
    assert_eq!(coordinator.propose(1_102, 0, 0, &map), []);
}

#[test]
fn what_would_change_nothing_is_not_asked_for_again_and_again() {
    let (mut coordinator, map) = start();
    let row = *map.row(3);
    let stranger = map.present().find(|node| !row.names(*node)).unwrap();
    let nowhere = NodeIx(u16::MAX);
    for ask in [
        Ask::Import(row.importing()[0]),
        Ask::Import(nowhere),
        Ask::InSync(stranger),
        Ask::InSync(nowhere),
        Ask::Out(row.primary),
        Ask::Out(nowhere),
        Ask::Give(row.importing()[0]),
        Ask::Give(nowhere),
        Ask::Lost(stranger),
    ] {
        assert_eq!(
            map.apply(2, &[Change::Row { slot: 3, stamp: row.stamp, ask }]).0.rows,
            map.rows
        );
        coordinator.ask(3, row.stamp, ask);
    }
    // A slot that there is not.
    coordinator.ask(Slot::MAX, row.stamp, Ask::Keep);
    assert_eq!(coordinator.propose(1_100, 0, 0, &map), []);
    coordinator.ask(3, row.stamp, Ask::Lost(row.primary));
    assert_eq!(coordinator.propose(1_101, 0, 0, &map).len(), 1);
}

#[test]
fn nothing_is_given_to_a_member_that_is_being_taken_out() {
    let (mut coordinator, mut map) = start();
    let slot = map.rows.iter().position(|row| row.primary == NodeIx(0)).unwrap() as Slot;
    let to = map.row(slot).importing()[0];
    map.rows[usize::from(slot)].complete(to);
    coordinator.ask(slot, map.row(slot).stamp, Ask::Give(to));
    assert_eq!(coordinator.propose(1_100, 0, 0, &map).len(), 1);
    coordinator.refused(to, 10, 1_101);
    let changes = coordinator.propose(1_101, 0, 0, &map);
    assert_eq!(changes, [Change::Silence { node: to, incarnation: 10 }]);
}
