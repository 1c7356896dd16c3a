//! The coordinator with all 16,384 slots: entries, their bytes and the virtual time that a change of
//! the members takes. Copies are filled in 50 ms, nothing gets lost, nobody writes.

use std::collections::VecDeque;

use lariat_actors::coordinator::{Coordinator, Times};
use lariat_actors::map::{Ask, Change, ClusterMap, Member, NodeIx};
use lariat_actors::op::Ms;
use lariat_actors::slot::Slot;

use super::cost::{bytes, map_bytes};

const TIMES: Times = Times { lease_ms: 250, failure_timeout_ms: 1_000 };

/// Between two looks of the coordinator.
const STEP_MS: Ms = 10;

/// What filling a copy takes.
const IMPORT_MS: Ms = 50;

struct Plane {
    now: Ms,
    map: ClusterMap,
    coordinator: Coordinator,
    /// Copies that are being filled, and when they will be.
    imports: VecDeque<(Ms, Slot, NodeIx)>,
    dead: Option<NodeIx>,
    spent: Spent,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    epochs: u64,
    bytes: u64,
    largest: u64,
    rows: u64,
    ms: Ms,
}

impl Plane {
    /// A cluster that was just founded.
    fn new(nodes: u16, copies: usize) -> Self {
        let member = |i: u16| Member {
            id: format!("node-{i}"),
            incarnation: 0,
            known: 0,
            http: format!("10.0.{}.{}:8080", i / 256, i % 256),
            peer: format!("10.0.{}.{}:7400", i / 256, i % 256),
            redis: String::new(),
            weight: 1.0,
            zone: format!("zone-{}", i % 3),
            leaving: false,
        };
        let map = ClusterMap::from_members(0, (0..nodes).map(member).collect(), 128, copies);
        let now = 1_000_000;
        let coordinator = Coordinator::new(NodeIx(0), TIMES, now, &map, |_| now);
        let (imports, dead, spent) = (VecDeque::new(), None, Spent::default());
        let mut plane = Plane { now, map, coordinator, imports, dead, spent };
        // Starts are milliseconds since 1970.
        let starts = (0..nodes).map(|node| (NodeIx(node), 1_790_000_000_000)).collect();
        plane.agree(&[Change::Found { cluster_id: u64::MAX, starts }]);
        plane
    }

    fn agree(&mut self, changes: &[Change]) {
        let (map, _) = self.map.apply(self.map.epoch + 1, changes);
        let spent = &mut self.spent;
        spent.epochs += 1;
        spent.bytes += bytes(changes);
        spent.largest = spent.largest.max(bytes(changes));
        let rows = map.rows.iter().zip(&self.map.rows);
        spent.rows += rows.filter(|(new, old)| new != old).count() as u64;
        // After the first map every copy that a row names is to be filled.
        for (slot, (row, old)) in map.rows.iter().zip(&self.map.rows).enumerate() {
            let is_new = |node: &&NodeIx| self.map.epoch == 0 || !old.importing().contains(node);
            let filled = row.importing().iter().filter(is_new);
            let at = self.now + IMPORT_MS;
            self.imports.extend(filled.map(|&node| (at, slot as Slot, node)));
        }
        self.map = map;
    }

    fn step(&mut self) {
        self.now += STEP_MS;
        while let Some(&(at, slot, node)) = self.imports.front()
            && at <= self.now
        {
            self.imports.pop_front();
            let row = self.map.row(slot);
            if row.importing().contains(&node) && Some(node) != self.dead {
                self.coordinator.ask(slot, row.stamp, Ask::InSync(node));
                // Asked until the row says so.
                self.imports.push_back((self.now + STEP_MS, slot, node));
            }
        }
        for node in self.map.present().filter(|&node| Some(node) != self.dead) {
            let incarnation = self.map.member(node).incarnation;
            self.coordinator.beat(node, incarnation, true, self.now, 0, &self.map);
        }
        let changes = self.coordinator.propose(self.now, 0, 0, &self.map);
        if !changes.is_empty() {
            self.agree(&changes);
        }
    }

    /// Runs until nothing is left to do, and says what it took.
    fn settle(&mut self) -> Spent {
        let started = self.now;
        let (mut quiet, mut last) = (0, started);
        while quiet < 30 {
            let epochs = self.spent.epochs;
            self.step();
            quiet = if self.spent.epochs == epochs { quiet + 1 } else { 0 };
            if quiet == 0 {
                last = self.now;
            }
            assert!(self.now < started + 60_000, "it does not come to rest");
        }
        assert_eq!(self.map.under_replicated(), 0);
        Spent { ms: last - started, ..std::mem::take(&mut self.spent) }
    }
}

#[test]
fn a_change_of_the_members_comes_to_rest_at_every_size() {
    for nodes in [5, 50, 100, 1_000] {
        let mut plane = Plane::new(nodes, 3);
        let founded = plane.settle();
        println!("{nodes} nodes: founded {founded:?}, the map {} bytes", map_bytes(&plane.map));
        let victim = NodeIx(nodes - 1);
        let incarnation = plane.map.member(victim).incarnation;
        let placed = plane.map.rows.clone();
        plane.dead = Some(victim);
        plane.coordinator.refused(victim, incarnation, plane.now);
        let killed = plane.settle();
        println!("{nodes} nodes: one dies {killed:?}");
        assert!(plane.map.rows.iter().all(|row| !row.names(victim)));
        plane.dead = None;
        plane.coordinator.join(victim, incarnation + 1, 0, &plane.map);
        let back = plane.settle();
        println!("{nodes} nodes: it comes back {back:?}");
        // A copy that comes and goes changes a row three times; the ring's bound on loads moves others
        // too.
        let share = placed.iter().filter(|row| row.names(victim)).count() as u64;
        for spent in [killed, back] {
            assert!(spent.rows < 8 * share && spent.epochs < 100, "{spent:?}, share {share}");
            assert!(spent.ms < 3_000 && spent.largest < 1 << 20, "{spent:?}");
        }
    }
}
