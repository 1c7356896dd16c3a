//! The failover protocol under seeds, virtual time and faults.
//!
//! The rules are the crate's own: map changes, coordinator, lease, what a row means for a shard,
//! and a slot's fan of writes. What is modelled here is what lies between them: clocks, links,
//! the agreement as one agreed log with readers that lag and leaders that change, and an oracle
//! that knows everything and checks the invariants at every step.
//!
//! `LARIAT_SEEDS=N cargo test --release -p lariat-actors --test simulation` runs more seeds;
//! `LARIAT_SEED=S` runs one and prints what happened.

#![allow(missing_docs, clippy::unwrap_used)]

mod agreed;
mod alone;
mod anew;
mod control;
mod copying;
mod cost;
mod data;
mod enrolling;
mod event;
mod faults;
mod full_size;
mod giving;
mod invariants;
mod late;
mod leaving;
mod links;
mod majority;
mod moves;
mod network;
mod node;
mod numbers;
mod oracle;
mod planted;
mod queue;
mod random;
mod report;
mod rows;
mod scale;
mod stalls;
mod standing;
mod world;

use faults::Faults;
use report::{Bug, Report};
use world::{Shape, World};

/// Runs one seed to its end.
fn run(
    shape: Shape,
    faults: Faults,
    bug: Option<Bug>,
    seed: u64,
    tell: bool,
) -> Result<Report, String> {
    let mut world = World::new(shape, faults, bug, seed, tell);
    world.run()
}

/// The seeds of a test, and whether to tell what happens.
fn seeds(default: u64) -> (Vec<u64>, bool) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match (number("LARIAT_SEED"), number("LARIAT_SEEDS")) {
        (Some(seed), _) => (vec![seed], true),
        (None, count) => ((0..count.unwrap_or(default)).collect(), false),
    }
}

/// Runs many seeds; none may break an invariant. Returns their sums.
fn all_hold(name: &str, shape: Shape, faults: Faults, count: u64) -> Report {
    let mut sum = Report::default();
    let (seeds, tell) = seeds(count);
    for seed in seeds {
        match run(shape, faults, None, seed, tell) {
            Ok(report) => {
                if report.lost > 0 {
                    println!("{name}: seed {seed}: {} writes lost", report.lost);
                }
                sum.add(&report);
            }
            Err(why) => panic!("{name}: seed {seed}: {why}\nagain with LARIAT_SEED={seed}"),
        }
    }
    println!("{name}: {sum:?}");
    sum
}

#[test]
fn a_quiet_cluster_loses_nothing() {
    let sum = all_hold("quiet", Shape::default(), Faults::none(), 20);
    assert_eq!((sum.lost, sum.removed, sum.maybe), (0, 0, 0), "{sum:?}");
    assert!(sum.acknowledged > 1_000, "{sum:?}");
}

#[test]
fn kills_one_at_a_time_lose_no_acknowledged_write() {
    let sum = all_hold("kills", Shape::default(), Faults { kills: 3, ..Faults::none() }, 160);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.removed > 0 && sum.promoted > 0, "the fault did not happen: {sum:?}");
}

/// Every fault there is but the death of two at once.
const MANY: Faults = Faults {
    kills: 2,
    pauses: 2,
    jumps: 2,
    partitions: 2,
    flaps: 1,
    breaks: 3,
    shard_crashes: 1,
    stalls: 1,
    loss_percent: 2,
    late_percent: 2,
    gives_permille: 2,
    drift: true,
    ..Faults::none()
};

/// Those that lose nothing. A node whose links flap may have the other one of two copies taken out,
/// and be taken out itself before another is filled: two failures, of which the second does not wait.
fn many_for(copies: usize) -> Faults {
    Faults { flaps: u64::from(copies > 2), ..MANY }
}

#[test]
fn slots_that_are_given_away_cost_nothing() {
    let faults = Faults { gives_permille: 20, ..Faults::none() };
    for copies in [2, 3] {
        let shape = Shape { copies, ..Shape::default() };
        let sum = all_hold(&format!("gives, {copies} copies"), shape, faults, 70);
        assert_eq!((sum.lost, sum.removed, sum.maybe, sum.refused), (0, 0, 0, 0), "{sum:?}");
        assert!(sum.given * 10 > sum.gives * 9, "the fault did not happen: {sum:?}");
    }
}

#[test]
fn slots_given_away_while_nodes_die_cost_no_acknowledged_write() {
    let faults = Faults { gives_permille: 20, kills: 3, pauses: 2, breaks: 4, ..many_for(2) };
    let shape = Shape { nodes: 4, copies: 2, slots: 12, length_ms: 20_000, ..Shape::default() };
    let sum = all_hold("gives and faults", shape, faults, 100);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.removed > 0 && sum.given > 0, "the fault did not happen: {sum:?}");
}

/// Nodes are told to end one after the other, and come back: nothing is lost, also of what is kept in one
/// copy, and nobody has to wait for long.
#[test]
fn a_rolling_restart_loses_nothing() {
    let faults = Faults { moves: true, rollings: 4, stays: 2, ..Faults::none() };
    for (nodes, copies) in [(5, 3), (3, 2)] {
        let shape = Shape { nodes, copies, slots: 12, length_ms: 20_000, ..Shape::default() };
        let sum = all_hold(&format!("rolling, {nodes} nodes"), shape, faults, 25);
        assert_eq!((sum.lost, sum.own_lost, sum.overdue), (0, 0, 0), "{sum:?}");
        assert!(sum.left > 50 && sum.given > 50, "the fault did not happen: {sum:?}");
    }
}

/// Nodes that leave while others die, stand still and are cut off, and die themselves meanwhile.
const LEAVING: Faults = Faults {
    moves: true,
    rollings: 3,
    stays: 2,
    leave_alls: 1,
    leave_and_dies: 2,
    bridges: true,
    gives_permille: 0,
    ..MANY
};

const WHILE_LEAVING: Shape = Shape {
    nodes: 5,
    joining: 0,
    copies: 3,
    slots: 12,
    length_ms: 30_000,
    settle_ms: 8_000,
    request_every_ms: 8,
    async_percent: 0,
    min_copies: 1,
};

#[test]
fn nodes_that_leave_among_faults_lose_no_acknowledged_write() {
    let sum = all_hold("leaving among faults", WHILE_LEAVING, LEAVING, 40);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.left > 40 && sum.given > 40, "the fault did not happen: {sum:?}");
}

#[test]
fn nodes_that_leave_among_faults_at_once_break_no_invariant() {
    let faults = Faults { one_at_a_time: false, ..LEAVING };
    all_hold("leaving among faults at once", WHILE_LEAVING, faults, 30);
}

/// Most of the voters end within a moment. Nobody knows what they agreed on: whoever is left drops what it
/// holds, and the cluster is founded anew, empty.
#[test]
fn a_majority_that_ends_costs_everything_and_nothing_stale_is_served() {
    let faults = Faults { majorities: 3, drift: true, ..Faults::none() };
    for (nodes, copies) in [(3, 2), (5, 3), (7, 2)] {
        let shape = Shape { nodes, copies, length_ms: 20_000, ..Shape::default() };
        let sum = all_hold(&format!("majorities, {nodes} nodes"), shape, faults, 40);
        assert_eq!(sum.lost, 0, "{sum:?}");
        let happened = sum.founded_anew > 80 && sum.majority_lost > 40 && sum.gone_before > 1_000;
        assert!(happened, "the fault did not happen: {sum:?}");
    }
}

#[test]
fn majorities_that_end_among_all_faults_break_no_invariant() {
    let faults = Faults { one_at_a_time: false, majorities: 3, bridges: true, ..MANY };
    for (nodes, copies) in [(3, 2), (5, 3)] {
        let shape = Shape { nodes, copies, length_ms: 20_000, ..Shape::default() };
        let sum = all_hold(&format!("majorities at once, {nodes} nodes"), shape, faults, 60);
        assert!(sum.founded_anew > 60 && sum.majority_lost > 30, "{sum:?}");
    }
}

/// Three nodes of a file, and two that nobody lists and that join.
const JOINING: Shape = Shape { nodes: 5, joining: 2, length_ms: 20_000, ..WHILE_LEAVING };

#[test]
fn nodes_that_no_file_lists_join_while_others_die_and_nothing_is_lost() {
    let shape = Shape { copies: 2, ..JOINING };
    let faults = Faults { kills: 3, moves: true, drift: true, ..Faults::none() };
    let sum = all_hold("joining", shape, faults, 60);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.enrolled >= 120 && sum.removed > 60, "the faults did not happen: {sum:?}");
}

/// They die before they are listed, before they start, before they are members and while they are filled;
/// questions and answers get lost, and come twice and late.
#[test]
fn nodes_that_die_while_they_join_cost_nothing() {
    let quiet = Faults { moves: true, joiner_deaths_percent: 25, ..Faults::none() };
    let faults = Faults { loss_percent: 10, late_percent: 10, ..quiet };
    let sum = all_hold("dying while they join", JOINING, faults, 60);
    assert_eq!(sum.lost, 0, "{sum:?}");
    let happened = sum.enrolled > 130 && sum.died_joining > 100;
    assert!(happened, "the faults did not happen: {sum:?}");
}

#[test]
fn nodes_that_join_among_all_faults_break_no_invariant() {
    let faults = Faults { moves: true, joiner_deaths_percent: 15, bridges: true, ..MANY };
    let faults = Faults { one_at_a_time: false, double_kills: 1, ..faults };
    let sum = all_hold("joining among all faults", JOINING, faults, 60);
    assert!(sum.enrolled > 120 && sum.died_joining > 30, "{sum:?}");
}

/// A cluster that is founded anew lists those that joined again, at the places that they run at, and a voter
/// that had joined is missed though it shows nobody a newer start.
#[test]
fn a_majority_that_ends_may_have_joined() {
    let faults = Faults { majorities: 3, joiner_deaths_percent: 5, ..Faults::none() };
    let faults = Faults { moves: true, loss_percent: 2, late_percent: 2, ..faults };
    let sum = all_hold("majorities of those that joined", JOINING, faults, 60);
    assert!(sum.founded_anew > 60 && sum.enrolled > 180, "the faults did not happen: {sum:?}");
}

#[test]
fn processes_that_stand_still_and_wake_up_serve_nothing_stale() {
    let faults = Faults { pauses: 4, drift: true, ..Faults::none() };
    let sum = all_hold("pauses", Shape::default(), faults, 120);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.removed > 0 && sum.promoted > 0, "the fault did not happen: {sum:?}");
}

/// Leases, elections and blame all count on clocks; of the sort that only jump ahead, as they do for
/// a process that does not run while its machine is suspended.
#[test]
fn clocks_that_jump_ahead_cost_nothing() {
    let faults = Faults { jumps: 10, drift: true, ..Faults::none() };
    let sum = all_hold("jumps", Shape::default(), faults, 100);
    assert_eq!((sum.lost, sum.removed), (0, 0), "{sum:?}");
    let faults = Faults { jumps: 6, kills: 2, pauses: 1, partitions: 1, ..faults };
    let sum = all_hold("jumps and others", Shape::default(), faults, 100);
    assert_eq!(sum.lost, 0, "{sum:?}");
}

#[test]
fn partitions_cost_no_acknowledged_write() {
    let faults = Faults { partitions: 4, bridges: true, ..Faults::none() };
    let sum = all_hold("partitions", Shape::default(), faults, 120);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.removed > 0 && sum.elections > 120, "the fault did not happen: {sum:?}");
}

/// A node is gone and back before anybody misses it, and gone again before it has caught up.
#[test]
fn links_that_flap_cost_no_acknowledged_write_of_three_copies() {
    let faults = Faults { flaps: 2, drift: true, ..Faults::none() };
    for (nodes, copies, bridges) in [(3, 2, false), (3, 3, false), (5, 3, true)] {
        let shape = Shape { nodes, copies, length_ms: 20_000, ..Shape::default() };
        let faults = Faults { bridges, ..faults };
        let sum = all_hold(&format!("flaps, {nodes} nodes, {copies} copies"), shape, faults, 40);
        // See `many_for`.
        assert!(sum.lost == 0 || (copies == 2 && sum.lost_slots > 0), "{sum:?}");
        assert!(sum.flaps > 400 && sum.elections > 40, "the fault did not happen: {sum:?}");
    }
}

#[test]
fn broken_connections_cost_nothing() {
    let faults = Faults { breaks: 12, ..Faults::none() };
    let sum = all_hold("breaks", Shape::default(), faults, 100);
    assert_eq!((sum.lost, sum.removed), (0, 0), "{sum:?}");
}

#[test]
fn a_crashed_shard_costs_no_acknowledged_write() {
    let faults = Faults { shard_crashes: 4, ..Faults::none() };
    let sum = all_hold("shard crashes", Shape::default(), faults, 100);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.promoted > 0, "the fault did not happen: {sum:?}");
}

/// The thread of a shard stands still, alone: what it holds moves, and it wakes to find its gate closed.
#[test]
fn a_shard_that_hangs_costs_no_acknowledged_write() {
    let faults = Faults { stalls: 4, drift: true, ..Faults::none() };
    let sum = all_hold("stalls", Shape::default(), faults, 100);
    assert_eq!((sum.lost, sum.removed), (0, 0), "{sum:?}");
    assert!(sum.gates_closed > 100 && sum.promoted > 100, "the fault did not happen: {sum:?}");
}

/// Half of the writes are answered once the primary has them. Those may go with it, and nothing else may.
#[test]
fn writes_that_wait_for_no_copy_go_with_their_primary_only() {
    let shape = Shape { async_percent: 50, ..Shape::default() };
    let spared =
        Faults { moves: true, rollings: 2, gives_permille: 5, breaks: 6, ..Faults::none() };
    let sum = all_hold("async, primaries spared", shape, spared, 40);
    assert_eq!((sum.lost, sum.async_lost), (0, 0), "{sum:?}");
    assert!(sum.async_acknowledged > 1_000 && sum.given > 1_000, "{sum:?}");
    let shape = Shape { nodes: 5, copies: 3, slots: 12, length_ms: 20_000, ..shape };
    let sum = all_hold("async", shape, Faults { kills: 4, ..MANY }, 40);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.async_lost > 0 && sum.removed > 0, "the faults did not happen: {sum:?}");
}

/// With `min_copies` a write is on as many nodes when it is acknowledged, and what is refused was never there.
#[test]
fn writes_with_too_few_copies_in_sync_are_refused_and_never_applied() {
    let shape = Shape { min_copies: 2, async_percent: 20, ..Shape::default() };
    let sum = all_hold("min_copies", shape, many_for(2), 60);
    assert_eq!(sum.lost, 0, "{sum:?}");
    assert!(sum.too_few > 1_000 && sum.acknowledged > 10_000, "{sum:?}");
}

/// Whoever a slot is copied or given from or to dies meanwhile, or whoever leads.
#[test]
fn kills_aimed_at_moves_lose_no_acknowledged_write() {
    let faults =
        Faults { kills_at_moves: 4, gives_permille: 2, moves: true, rollings: 2, ..Faults::none() };
    for (nodes, copies) in [(3, 2), (5, 3)] {
        let shape = Shape { nodes, copies, slots: 12, length_ms: 20_000, ..Shape::default() };
        let sum = all_hold(&format!("aimed, {nodes} nodes"), shape, faults, 30);
        assert_eq!(sum.lost, 0, "{sum:?}");
        assert!(sum.killed_at_moves > 60 && sum.given > 50, "the fault did not happen: {sum:?}");
    }
}

#[test]
fn lost_late_and_doubled_control_messages_cost_nothing() {
    let faults =
        Faults { loss_percent: 10, late_percent: 10, drift: true, kills: 1, ..Faults::none() };
    let sum = all_hold("lossy", Shape::default(), faults, 100);
    assert_eq!(sum.lost, 0, "{sum:?}");
}

#[test]
fn all_faults_one_after_the_other_lose_no_acknowledged_write() {
    for (nodes, copies) in [(3, 2), (3, 3), (5, 2), (5, 3), (10, 3)] {
        let shape = Shape { nodes, copies, slots: 12, length_ms: 20_000, ..Shape::default() };
        let sum = all_hold(&format!("{nodes} nodes, {copies} copies"), shape, many_for(copies), 60);
        assert_eq!(sum.lost, 0, "{sum:?}");
        assert!(sum.removed > 0 && sum.promoted > 0, "the faults did not happen: {sum:?}");
    }
}

#[test]
fn all_faults_at_once_break_no_invariant() {
    let faults = Faults { one_at_a_time: false, double_kills: 1, bridges: true, ..MANY };
    for (nodes, copies) in [(5, 2), (5, 3)] {
        let shape = Shape { nodes, copies, slots: 12, length_ms: 20_000, ..Shape::default() };
        all_hold(&format!("at once, {nodes} nodes, {copies} copies"), shape, faults, 100);
    }
}
