//! Clusters of up to a thousand nodes: do they become whole again, and what does it cost?

use super::faults::Faults;
use super::report::Report;
use super::world::Shape;
use super::{MANY, all_hold};

/// Two kills, one of whoever leads, a pause: one after the other.
const FEW: Faults = Faults { kills: 2, leader_kills: 1, pauses: 1, ..Faults::none() };

fn shape(nodes: u16, slots: u16) -> Shape {
    // So many that a node is left for each when one is dead.
    let copies = usize::from(nodes - 1).min(3);
    Shape {
        nodes,
        copies,
        slots,
        length_ms: 20_000,
        settle_ms: 4_000,
        request_every_ms: 2,
        ..Shape::default()
    }
}

fn costs(nodes: u16, slots: u16) -> Report {
    let sum = all_hold(&format!("{nodes} nodes"), shape(nodes, slots), FEW, 1);
    let cost = &sum.cost;
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(cost.taken_out.count >= 2 && cost.whole.count >= 2, "no kill was seen: {sum:?}");
    println!(
        "{nodes} nodes, {slots} slots: {} control messages/s, {} epochs, entries {} B (largest {}), \
         kill to taken out {}, to whole {}",
        cost.quiet_control_per_s,
        sum.epochs,
        cost.entry_bytes,
        cost.largest_entry_bytes,
        cost.taken_out,
        cost.whole,
    );
    sum
}

/// Control messages grow as the nodes do; a kill takes as long as in a small cluster.
#[test]
fn a_thousand_nodes_take_no_longer_than_three() {
    for (nodes, slots) in [(3, 64), (50, 400), (100, 400), (1_000, 1_000)] {
        let cost = costs(nodes, slots).cost;
        assert!(cost.quiet_control_per_s < 90 * u64::from(nodes), "{cost:?}");
        // Leases of a dead node are waited out; a dead leader costs an election before.
        assert!(cost.taken_out.max_ms < 1_000, "{cost:?}");
        assert!(cost.whole.max_ms < 2_500, "{cost:?}");
    }
}

#[test]
fn a_hundred_nodes_with_all_faults_become_whole_again() {
    let faults = Faults { kills: 6, leader_kills: 1, ..MANY };
    let shape = Shape { length_ms: 40_000, settle_ms: 8_000, ..shape(100, 450) };
    let sum = all_hold("100 nodes, all faults", shape, faults, 2);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.removed >= 8 && sum.promoted > 20, "the faults did not happen: {sum:?}");
}

/// Not one after the other: sometimes all copies of a slot are gone, and the rest has to be right.
#[test]
fn a_hundred_nodes_with_faults_at_once_break_no_invariant() {
    let faults = Faults { kills: 12, double_kills: 2, one_at_a_time: false, bridges: true, ..MANY };
    let shape = Shape { settle_ms: 8_000, ..shape(100, 450) };
    let sum = all_hold("100 nodes, at once", shape, faults, 2);
    assert!(sum.removed > 12, "the faults did not happen: {sum:?}");
}
