//! What an operator may want of a map. Each wish is told to the coordinator until the map has it.

use super::{Change, ClusterMap, NodeIx};

/// The smallest and the largest weight of a node.
pub const WEIGHTS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// The longest name of a zone, in bytes.
pub const ZONE_BYTES_MAX: usize = 255;

/// What a wish is about: a later one about the same takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Whether slots move.
    Moves,
    /// The weight of a node.
    Weight(NodeIx),
    /// The zone of a node.
    Zone(NodeIx),
}

impl Change {
    /// What it is about, if it is an operator's to want and makes sense.
    pub fn subject(&self, map: &ClusterMap) -> Option<Subject> {
        let is_known = |node: &NodeIx| usize::from(node.0) < map.members.len();
        match self {
            Change::Pause { .. } => Some(Subject::Moves),
            Change::Weight { node, weight } if is_known(node) && WEIGHTS.contains(weight) => {
                Some(Subject::Weight(*node))
            }
            Change::Zone { node, zone } if is_known(node) && zone.len() <= ZONE_BYTES_MAX => {
                Some(Subject::Zone(*node))
            }
            _ => None,
        }
    }
}

impl ClusterMap {
    /// Is the map as an operator wants it?
    pub fn grants(&self, wish: &Change) -> bool {
        match wish {
            Change::Pause { paused } => self.moves_paused == *paused,
            Change::Weight { node, weight } => self.member(*node).weight == *weight,
            Change::Zone { node, zone } => self.member(*node).zone == *zone,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, founded, member, settle};
    use super::super::{Pace, Placed, gives, plan, slots_left};
    use super::*;

    fn apply(map: &mut ClusterMap, change: Change) {
        *map = map.apply(map.epoch + 1, &[change]).0;
        check(map);
    }

    fn settled(zones: &[&str], copies: usize) -> ClusterMap {
        let members = zones.iter().enumerate().map(|(i, zone)| member(i, zone)).collect();
        let starts = (0..zones.len() as u16).map(|node| (NodeIx(node), 10)).collect();
        let found = Change::Found { cluster_id: 7, starts };
        let mut map = ClusterMap::from_members(1, members, 128, copies).apply(1, &[found]).0;
        settle(&mut map);
        map
    }

    /// Is there anything that would move?
    fn moves(map: &ClusterMap) -> bool {
        let wanted = map.place();
        !plan(map, &wanted, Pace::default(), |_, _, _| true).is_empty()
            || map.present().any(|node| gives(map, &wanted, node, 0).next().is_some())
    }

    #[test]
    fn a_heavier_node_is_given_its_share_and_little_else_moves() {
        let mut map = founded(3, 2);
        settle(&mut map);
        let (before, mut placed) = (map.clone(), Placed::default());
        placed.of(&map);
        apply(&mut map, Change::Weight { node: NodeIx(0), weight: 3.0 });
        assert_eq!(placed.of(&map), map.place(), "what was kept of the ring is out of date");
        settle(&mut map);
        let share = |map: &ClusterMap| map.slots_of(NodeIx(0)).0;
        let gained = share(&map) - share(&before);
        assert!((9_000..10_500).contains(&share(&map)), "{} slots of 3/5", share(&map));
        let moved = map.rows.iter().zip(&before.rows);
        let moved = moved.filter(|(now, then)| now.primary != then.primary).count();
        assert!(moved * 10 <= gained * 13, "{moved} slots moved, {gained} had to");
    }

    #[test]
    fn copies_move_apart_when_a_zone_changes() {
        let mut map = settled(&["a", "a", "a", "b"], 2);
        let together = |map: &ClusterMap| {
            let zone = |node: NodeIx| map.member(node).zone.as_str();
            let is_one = |row: &&super::super::Row| {
                row.in_sync().iter().all(|&copy| zone(copy) == zone(row.primary))
            };
            map.rows.iter().filter(is_one).count()
        };
        apply(&mut map, Change::Zone { node: NodeIx(2), zone: "b".into() });
        let before = together(&map);
        assert!(before > 1_000, "{before} slots have both copies in one zone");
        settle(&mut map);
        let after = together(&map);
        assert!(after * 100 < map.rows.len(), "{after} slots still have both copies in one zone");
    }

    #[test]
    fn while_moves_are_paused_only_missing_copies_are_made() {
        let mut map = settled(&[""; 4], 2);
        apply(&mut map, Change::Pause { paused: true });
        apply(&mut map, Change::Weight { node: NodeIx(0), weight: 3.0 });
        let before = map.clone();
        assert!(!moves(&map) && slots_left(&map, &map.place()) > 1_000);
        // What died is made up for, and no more.
        apply(&mut map, Change::Remove { node: NodeIx(3), incarnation: 10 });
        assert!(map.under_replicated() > 1_000);
        settle(&mut map);
        assert_eq!(map.under_replicated(), 0);
        for (row, then) in map.rows.iter().zip(&before.rows) {
            assert_eq!(1 + row.replicas().len(), 2, "a copy too many");
            let stayed = then.primary == NodeIx(3) || row.primary == then.primary;
            assert!(stayed, "a primary that lives has moved");
        }
        apply(&mut map, Change::Admit { node: NodeIx(3), incarnation: 20 });
        assert!(!moves(&map) && map.slots_of(NodeIx(3)) == (0, 0));
        apply(&mut map, Change::Pause { paused: false });
        settle(&mut map);
        assert_eq!(slots_left(&map, &map.place()), 0);
    }

    #[test]
    fn a_node_leaves_also_while_moves_are_paused() {
        let mut map = settled(&[""; 4], 2);
        apply(&mut map, Change::Weight { node: NodeIx(0), weight: 3.0 });
        apply(&mut map, Change::Pause { paused: true });
        let leaver = NodeIx(2);
        let untouched = |map: &ClusterMap| {
            map.rows.iter().map(|row| (!row.names(leaver)).then_some(*row)).collect::<Vec<_>>()
        };
        let before = untouched(&map);
        apply(&mut map, Change::Leave { node: leaver, incarnation: 10, leaving: true });
        settle(&mut map);
        assert_eq!(map.slots_of(leaver), (0, 0));
        assert_eq!(map.under_replicated(), 0);
        for (row, before) in map.rows.iter().zip(before) {
            assert!(before.is_none_or(|before| before == *row), "it had nothing of this slot");
        }
    }

    #[test]
    fn nonsense_changes_nothing() {
        let map = founded(3, 2);
        let node = NodeIx(0);
        let nonsense = [
            Change::Weight { node: NodeIx(3), weight: 1.0 },
            Change::Weight { node, weight: 0.0 },
            Change::Weight { node, weight: 100.1 },
            Change::Weight { node, weight: f64::NAN },
            Change::Zone { node: NodeIx(3), zone: String::new() },
            Change::Zone { node, zone: "z".repeat(ZONE_BYTES_MAX + 1) },
        ];
        for change in nonsense {
            let after = map.apply(map.epoch, std::slice::from_ref(&change)).0;
            assert_eq!(after, map, "{change:?}");
        }
    }
}
