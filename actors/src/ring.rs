//! The ring: which node *should* hold which slot.
//!
//! Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016). The circle has
//! 2^64 positions; slot `s` stands at `s * 2^64 / 16384`. Each node stands on it with
//! `virtual_nodes x weight` points. A slot belongs to the first point clockwise whose node still
//! has room: no node is primary of more than 1.05 times its share. Replicas are the next distinct
//! nodes, in other zones while any are left, bounded likewise.
//!
//! Deterministic from the members' ids, weights and zones; their order does not matter. Points at
//! the same position are ordered by node id, then by index.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

use crate::slot::SLOTS;

/// How much more than its share a node may hold, in percent of the share.
const BOUND_PERCENT: f64 = 105.0;

/// A node as the ring sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct RingNode {
    /// Its id.
    pub id: String,
    /// Its share of the slots relative to others; above 0.
    pub weight: f64,
    /// Its failure zone; nodes of the same zone fail together.
    pub zone: String,
}

/// For each slot the nodes that should hold it, primary first, as indexes into the given nodes.
pub fn place(nodes: &[RingNode], virtual_nodes: u32, copies: usize) -> Vec<Vec<u16>> {
    place_slots(nodes, virtual_nodes, copies, SLOTS)
}

/// As [`place`], for another number of slots than a cluster has: simulations do with a few.
pub fn place_slots(
    nodes: &[RingNode],
    virtual_nodes: u32,
    copies: usize,
    slots: u16,
) -> Vec<Vec<u16>> {
    let copies = copies.min(nodes.len());
    let points = points(nodes, virtual_nodes);
    let total: f64 = nodes.iter().map(|node| node.weight).sum();
    let room = |copies_each: usize| -> Vec<u32> {
        let places = f64::from(slots) * copies_each as f64;
        let share = |node: &RingNode| places * node.weight / total * BOUND_PERCENT / 100.0;
        // A node holds a slot once, whatever its weight.
        nodes.iter().map(|node| (share(node).ceil() as u32).min(u32::from(slots))).collect()
    };
    let mut primary_room = room(1);
    let mut replica_room = room(copies.saturating_sub(1));
    let zones: BTreeSet<&str> = nodes.iter().map(|node| node.zone.as_str()).collect();
    let mut rows = Vec::with_capacity(usize::from(slots));
    let mut walk = Walk::new(&points, nodes.len());
    let mut first = 0;
    for slot in 0..slots {
        let position = ((u128::from(slot) << 64) / u128::from(slots)) as u64;
        while first < points.len() && points[first].0 < position {
            first += 1;
        }
        walk.begin(first);
        let mut row = Vec::with_capacity(copies);
        if let Some(primary) = pick(&mut walk, &row, &mut primary_room, |_| true) {
            row.push(primary);
        }
        while row.len() < copies {
            let elsewhere = |node: u16| {
                let zone = &nodes[usize::from(node)].zone;
                zone.is_empty() || row.iter().all(|&n| nodes[usize::from(n)].zone != *zone)
            };
            // Nobody is looked for in another zone when each has a copy.
            let is_elsewhere_left = zones.contains("") || row.len() < zones.len();
            let apart = is_elsewhere_left.then(|| {
                pick(&mut walk, &row, &mut replica_room, elsewhere)
                    .or_else(|| pick_full(&mut walk, &row, elsewhere))
            });
            let next = apart
                .flatten()
                .or_else(|| pick(&mut walk, &row, &mut replica_room, |_| true))
                .or_else(|| pick_full(&mut walk, &row, |_| true));
            match next {
                Some(node) => row.push(node),
                None => break,
            }
        }
        rows.push(row);
    }
    rows
}

/// All points in clockwise order.
fn points(nodes: &[RingNode], virtual_nodes: u32) -> Vec<(u64, u16)> {
    let mut points: Vec<(u64, &str, u32, u16)> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let count = (f64::from(virtual_nodes) * node.weight).round().max(1.0) as u32;
        for point in 0..count {
            let mut name = node.id.clone().into_bytes();
            name.push(0);
            name.extend_from_slice(&point.to_le_bytes());
            points.push((xxh3_64(&name), &node.id, point, index as u16));
        }
    }
    points.sort_unstable();
    points.into_iter().map(|(position, _, _, node)| (position, node)).collect()
}

/// The nodes clockwise from a point, each once, found as far as somebody asks: of a thousand nodes
/// the first few do for nearly every slot.
struct Walk<'a> {
    points: &'a [(u64, u16)],
    next: usize,
    looked_at: usize,
    order: Vec<u16>,
    /// The number of the walk that a node was met on last.
    met: Vec<u32>,
    number: u32,
}

impl<'a> Walk<'a> {
    fn new(points: &'a [(u64, u16)], nodes: usize) -> Self {
        let (order, met) = (Vec::with_capacity(nodes), vec![0; nodes]);
        Walk { points, next: 0, looked_at: 0, order, met, number: 0 }
    }

    /// Begins at a point, which may be one after the last.
    fn begin(&mut self, first: usize) {
        self.order.clear();
        (self.next, self.looked_at) = (first, 0);
        self.number += 1;
    }

    /// The first node that is acceptable.
    fn find(&mut self, mut accept: impl FnMut(u16) -> bool) -> Option<u16> {
        let known = self.order.iter().copied().find(|&node| accept(node));
        known.or_else(|| {
            while let Some(node) = self.step() {
                if accept(node) {
                    return Some(node);
                }
            }
            None
        })
    }

    /// The next node that was not met yet.
    fn step(&mut self) -> Option<u16> {
        while self.order.len() < self.met.len() && self.looked_at < self.points.len() {
            let node = self.points[self.next % self.points.len()].1;
            self.next = (self.next + 1) % self.points.len();
            self.looked_at += 1;
            let met = &mut self.met[usize::from(node)];
            if std::mem::replace(met, self.number) != self.number {
                self.order.push(node);
                return Some(node);
            }
        }
        None
    }
}

/// The first acceptable node with room, taking a place in it.
fn pick(
    walk: &mut Walk<'_>,
    row: &[u16],
    room: &mut [u32],
    accept: impl Fn(u16) -> bool,
) -> Option<u16> {
    let node =
        walk.find(|node| !row.contains(&node) && room[usize::from(node)] > 0 && accept(node))?;
    room[usize::from(node)] -= 1;
    Some(node)
}

/// The first acceptable node, full or not: keeping copies apart is worth more than balance.
fn pick_full(walk: &mut Walk<'_>, row: &[u16], accept: impl Fn(u16) -> bool) -> Option<u16> {
    walk.find(|node| !row.contains(&node) && accept(node))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn nodes(weights: &[(&str, f64, &str)]) -> Vec<RingNode> {
        let node = |&(id, weight, zone): &(&str, f64, &str)| RingNode {
            id: id.into(),
            weight,
            zone: zone.into(),
        };
        weights.iter().map(node).collect()
    }

    fn plain(count: usize) -> Vec<RingNode> {
        let node = |i| RingNode { id: format!("node-{i}"), weight: 1.0, zone: String::new() };
        (1..=count).map(node).collect()
    }

    /// Placement as text: one line for each range of slots on the same nodes.
    fn text(nodes: &[RingNode], rows: &[Vec<u16>]) -> String {
        let mut lines: Vec<(usize, usize, &Vec<u16>)> = Vec::new();
        for (slot, row) in rows.iter().enumerate() {
            match lines.last_mut() {
                Some((_, last, same)) if *same == row => *last = slot,
                _ => lines.push((slot, slot, row)),
            }
        }
        let name = |&node: &u16| nodes[usize::from(node)].id.as_str();
        let line = |(first, last, row): &(usize, usize, &Vec<u16>)| {
            let names: Vec<&str> = row.iter().map(name).collect();
            format!("{first}-{last} {}\n", names.join(" "))
        };
        lines.iter().map(line).collect()
    }

    /// Made by `text(nodes, place(nodes, 128, 2))` for the nodes below.
    #[test]
    fn placement_is_that_of_the_golden_files() {
        let weighted = nodes(&[
            ("a", 1.0, "x"),
            ("b", 2.0, "x"),
            ("c", 1.0, "y"),
            ("d", 0.5, "y"),
            ("e", 1.0, "z"),
        ]);
        for (name, nodes, golden) in [
            ("three", plain(3), include_str!("../tests/golden/placement-3.txt")),
            ("weighted", weighted, include_str!("../tests/golden/placement-weighted.txt")),
        ] {
            let now = text(&nodes, &place(&nodes, 128, 2));
            assert!(
                now == golden,
                "{name}: entries of running clusters would be elsewhere:\n{now}"
            );
        }
    }

    #[test]
    fn no_node_holds_more_than_its_bound() {
        for count in [1, 2, 3, 5, 10, 30] {
            let rows = place(&plain(count), 128, 2);
            for copy in 0..count.min(2) {
                let mut held = vec![0; count];
                rows.iter().for_each(|row| held[usize::from(row[copy])] += 1);
                let most = (f64::from(SLOTS) / count as f64 * 1.05).ceil() as usize;
                assert!(held.iter().all(|&n| n <= most), "{count} nodes, copy {copy}: {held:?}");
            }
        }
    }

    #[test]
    fn a_join_moves_little_more_than_the_newcomers_share() {
        for count in [3, 5, 10, 30] {
            let (before, after) = (place(&plain(count), 128, 1), place(&plain(count + 1), 128, 1));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let least = f64::from(SLOTS) / (count + 1) as f64;
            assert!(moved as f64 <= least * 1.35, "{count}: {moved} of at least {least}");
        }
    }

    #[test]
    fn replicas_are_in_other_zones_while_any_are_left() {
        let spread = nodes(&[("a", 1.0, "x"), ("b", 1.0, "x"), ("c", 1.0, "y"), ("d", 1.0, "z")]);
        for row in place(&spread, 128, 3) {
            let zones: std::collections::HashSet<&str> =
                row.iter().map(|&node| spread[usize::from(node)].zone.as_str()).collect();
            assert_eq!(zones.len(), 3, "{row:?}");
        }
        let two = nodes(&[("a", 1.0, "x"), ("b", 1.0, "x"), ("c", 1.0, "y")]);
        assert!(place(&two, 128, 3).iter().all(|row| row.len() == 3), "zones do not cost copies");
    }

    #[test]
    fn a_walk_meets_each_node_once_and_goes_no_further_than_it_has_to() {
        let points = points(&plain(1_000), 128);
        let mut walk = Walk::new(&points, 1_000);
        walk.begin(points.len());
        let three: Vec<u16> = (0..3).map_while(|_| walk.step()).collect();
        assert_eq!(walk.order, three);
        assert!(walk.looked_at < 20, "{} points", walk.looked_at);
        assert_eq!(walk.find(|node| node == three[1]), Some(three[1]), "it was met before");
        assert_eq!(walk.find(|_| false), None);
        walk.order.sort_unstable();
        assert_eq!(walk.order, (0..1_000).collect::<Vec<u16>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn rows_are_distinct_nodes_whatever_the_order_and_weights(
            weights in prop::collection::vec(0.1f64..8.0, 1..9),
            copies in 1usize..5,
            rotate in 0usize..8,
        ) {
            let nodes: Vec<RingNode> = weights.iter().enumerate().map(|(i, &weight)| RingNode {
                id: format!("n{i}"), weight, zone: format!("z{}", i % 3),
            }).collect();
            let mut other = nodes.clone();
            other.rotate_left(rotate % nodes.len());
            let rows = place(&nodes, 32, copies);
            let ids = |nodes: &[RingNode], rows: &[Vec<u16>]| -> Vec<Vec<String>> {
                let id = |&node: &u16| nodes[usize::from(node)].id.clone();
                rows.iter().map(|row| row.iter().map(id).collect()).collect()
            };
            prop_assert_eq!(ids(&nodes, &rows), ids(&other, &place(&other, 32, copies)));
            for row in &rows {
                prop_assert_eq!(row.len(), copies.min(nodes.len()));
                let distinct: std::collections::HashSet<_> = row.iter().collect();
                prop_assert_eq!(distinct.len(), row.len());
            }
        }
    }
}
