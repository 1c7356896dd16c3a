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
    let copies = copies.min(nodes.len());
    let points = points(nodes, virtual_nodes);
    let total: f64 = nodes.iter().map(|node| node.weight).sum();
    let room = |copies_each: usize| -> Vec<u32> {
        let slots = f64::from(SLOTS) * copies_each as f64;
        let share = |node: &RingNode| slots * node.weight / total * BOUND_PERCENT / 100.0;
        // A node holds a slot once, whatever its weight.
        nodes.iter().map(|node| (share(node).ceil() as u32).min(u32::from(SLOTS))).collect()
    };
    let mut primary_room = room(1);
    let mut replica_room = room(copies.saturating_sub(1));
    let mut rows = Vec::with_capacity(usize::from(SLOTS));
    let mut first = 0;
    for slot in 0..u64::from(SLOTS) {
        let position = slot << 50;
        while first < points.len() && points[first].0 < position {
            first += 1;
        }
        let clockwise = points[first..].iter().chain(&points[..first]).map(|point| point.1);
        let order = distinct(clockwise, nodes.len());
        let mut row = Vec::with_capacity(copies);
        if let Some(primary) = pick(&order, &row, &mut primary_room, |_| true) {
            row.push(primary);
        }
        while row.len() < copies {
            let elsewhere = |node: u16| {
                let zone = &nodes[usize::from(node)].zone;
                zone.is_empty() || row.iter().all(|&n| nodes[usize::from(n)].zone != *zone)
            };
            let next = pick(&order, &row, &mut replica_room, elsewhere)
                .or_else(|| pick_full(&order, &row, elsewhere))
                .or_else(|| pick(&order, &row, &mut replica_room, |_| true))
                .or_else(|| pick_full(&order, &row, |_| true));
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

/// Each node once, in the order of its first point.
fn distinct(clockwise: impl Iterator<Item = u16>, nodes: usize) -> Vec<u16> {
    let mut seen = vec![false; nodes];
    let mut order = Vec::with_capacity(nodes);
    for node in clockwise {
        if !std::mem::replace(&mut seen[usize::from(node)], true) {
            order.push(node);
            if order.len() == nodes {
                break;
            }
        }
    }
    order
}

/// The first acceptable node with room, taking a place in it.
fn pick(order: &[u16], row: &[u16], room: &mut [u32], accept: impl Fn(u16) -> bool) -> Option<u16> {
    let node = order
        .iter()
        .copied()
        .find(|&node| !row.contains(&node) && room[usize::from(node)] > 0 && accept(node))?;
    room[usize::from(node)] -= 1;
    Some(node)
}

/// The first acceptable node, full or not: keeping copies apart is worth more than balance.
fn pick_full(order: &[u16], row: &[u16], accept: impl Fn(u16) -> bool) -> Option<u16> {
    order.iter().copied().find(|&node| !row.contains(&node) && accept(node))
}
