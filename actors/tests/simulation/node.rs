//! One node: its clock, its lease, what it holds, and whether it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lariat_actors::coordinator::Coordinator;
use lariat_actors::holding::{Followed, Holding};
use lariat_actors::lease::Lease;
use lariat_actors::map::{ClusterMap, NodeIx, Placed, Row};
use lariat_actors::op::Ms;
use lariat_actors::replication::fan::{Fan, Weigh};

use super::leaving::Wish;
use super::stalls::Watch;
use super::standing::Standing;

/// The entries of a slot: what was appended to each key.
pub type Data = BTreeMap<u8, Vec<u64>>;

/// What a write did: the key's new value, or that it is gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    pub key: u8,
    pub value: Option<Vec<u64>>,
}

impl Weigh for Effect {
    fn weight(&self) -> u64 {
        8
    }
}

pub fn apply(data: &mut Data, effect: &Effect) {
    match &effect.value {
        Some(value) => drop(data.insert(effect.key, value.clone())),
        None => drop(data.remove(&effect.key)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Append,
    Delete,
    Read,
}

/// A request of a client.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub id: u64,
    pub slot: u16,
    pub key: u8,
    pub kind: Kind,
    /// Is it a write that is answered once the primary has it?
    pub is_async: bool,
}

/// What the node that a client asked knows of the request.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub op: Op,
    /// May a primary have got it?
    pub is_sent: bool,
    /// The node it was sent to.
    pub at: Option<NodeIx>,
}

/// An applied write that waits for copies.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub op: u64,
    pub slot: u16,
    pub since: u64,
    pub n: u64,
    pub open: usize,
    /// Who forwarded it.
    pub from: Option<NodeIx>,
}

#[derive(Debug, Default)]
pub struct Slot {
    pub holding: Holding,
    pub data: Data,
    /// The entries of a cache that is kept in one copy, and as a copy the stamp under which they were
    /// handed over.
    pub own: Data,
    pub handed: u64,
    /// What is being handed over: to whom, under which stamp, and from which key it goes on.
    pub handing: Option<(NodeIx, u64, u8)>,
    pub fan: Option<Fan<Effect, u64>>,
    /// The stamp under which a copy was proposed as in sync first, and the epoch it had then.
    pub proposed: (u64, u64),
}

#[derive(Debug)]
pub struct Leading {
    pub term: u64,
    pub coordinator: Coordinator,
    /// When what each node acknowledged last was sent, by this node's clock.
    pub acked: Vec<Option<Ms>>,
    pub is_proposing: bool,
    pub led_at: Ms,
    /// Since when it could speak without a break.
    pub speaks_since: Option<Ms>,
}

#[derive(Debug)]
pub struct Node {
    pub ix: NodeIx,
    pub incarnation: u64,
    pub is_alive: bool,
    pub paused_until: Ms,
    /// The thread of its shard stands still until then.
    pub hangs_until: Ms,
    /// For how long it will from the middle of the next write on, if there is one until then.
    pub hangs_midway: Option<(Ms, Ms)>,
    pub watch: Watch,
    pub standing: Standing,
    /// What the clock shows beyond the virtual time, and how much faster it runs, in 1/1000.
    pub clock_offset: Ms,
    pub clock_permille: i64,
    pub epoch: u64,
    pub map: Arc<ClusterMap>,
    pub lease: Lease,
    pub beat_at: Ms,
    pub leading: Option<Leading>,
    /// The newest term and who leads it.
    pub term: u64,
    pub leader: Option<NodeIx>,
    pub heard_leader_at: Ms,
    pub election_wait: Ms,
    /// When each node told it last how it stands, and when it asked.
    pub heard: Vec<Ms>,
    pub status_at: Ms,
    /// The newest start of each node that a handshake has named, and the newest that it was told has
    /// ended.
    pub seen: Vec<u64>,
    pub forgotten: Vec<u64>,
    /// Since when it could go on alone.
    pub alone_since: Option<Ms>,
    /// Since when it listens as this start, and when it looked last whether there is a cluster to join
    /// or to found.
    pub began_at: Ms,
    pub sought_at: Ms,
    pub slots: Vec<Slot>,
    pub followed: Followed,
    pub begun: Vec<u64>,
    /// The slots of which it holds anything or the map says that it should.
    near: BTreeSet<u16>,
    /// The start of each node that the last connection was to.
    pub linked: Vec<u64>,
    pub pending: BTreeMap<u64, Pending>,
    pub waiting: BTreeMap<u64, Waiting>,
    /// What was asked for here last: to leave, or to stay after all.
    pub wish: Option<Wish>,
    /// Did the map say last that it leaves? And has it left?
    pub is_leaving: bool,
    pub has_left: bool,
    /// Where the ring puts each slot; nothing is given away before `gives_from`.
    pub placed: Placed,
    pub gives_from: Ms,
    /// Writes that have what they waited for, and wait for the lease: slot, `since`, name.
    pub late: Vec<(u16, u64, u64)>,
}

impl Node {
    /// One of `nodes`, some of which the map may not list.
    pub fn new(
        ix: NodeIx,
        incarnation: u64,
        map: Arc<ClusterMap>,
        nodes: usize,
        lease_ms: Ms,
    ) -> Self {
        let slots = map.rows.len();
        Node {
            ix,
            incarnation,
            is_alive: true,
            paused_until: 0,
            hangs_until: 0,
            hangs_midway: None,
            watch: Watch::new(),
            standing: Standing::default(),
            clock_offset: 10_000,
            clock_permille: 0,
            epoch: 0,
            map,
            lease: Lease::new(lease_ms),
            beat_at: 0,
            leading: None,
            term: 0,
            leader: None,
            heard_leader_at: 0,
            election_wait: 0,
            heard: vec![0; nodes],
            status_at: 0,
            seen: vec![0; nodes],
            forgotten: vec![0; nodes],
            alone_since: None,
            began_at: 0,
            sought_at: 0,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            followed: Followed::default(),
            begun: vec![0; slots],
            near: BTreeSet::new(),
            linked: vec![0; nodes],
            pending: BTreeMap::new(),
            waiting: BTreeMap::new(),
            wish: None,
            is_leaving: false,
            has_left: false,
            placed: Placed::default(),
            gives_from: 0,
            late: Vec::new(),
        }
    }

    /// What its clock shows at a virtual time.
    pub fn clock(&self, now: Ms) -> Ms {
        let drift = now as i64 * self.clock_permille / 1_000;
        (now + self.clock_offset).saturating_add_signed(drift)
    }

    /// Since when it may serve without a break, if it may at `clock`.
    pub fn lease_since(&self, clock: Ms) -> Ms {
        match &self.leading {
            Some(leading) => leading.speaks_since.unwrap_or(clock),
            None => self.lease.since(),
        }
    }

    /// Was it told to leave, or does its map say that it does?
    pub fn is_leaving(&self) -> bool {
        self.is_leaving || self.wish.is_some_and(|wish| wish.leaving)
    }

    pub fn is_member(&self) -> bool {
        self.map.member(self.ix).incarnation == self.incarnation
    }

    /// The slots of which it holds anything or the map says that it should, in order: a row means
    /// nothing for any other.
    pub fn near(&self) -> Vec<u16> {
        self.near.iter().copied().collect()
    }

    /// It holds something of a slot, or a new row of it has come.
    pub fn note(&mut self, slot: u16) {
        let at = usize::from(slot);
        let holds = self.slots[at].holding != Holding::None || self.slots[at].fan.is_some();
        match holds || self.map.rows[at].names(self.ix) {
            true => self.near.insert(slot),
            false => self.near.remove(&slot),
        };
    }

    /// A handshake has named a start of another node.
    pub fn see(&mut self, other: NodeIx, start: u64) {
        let seen = &mut self.seen[usize::from(other.0)];
        *seen = (*seen).max(start);
    }

    /// Does it know that a start of another node has ended?
    pub fn knows_end(&self, other: NodeIx, start: u64) -> bool {
        let at = usize::from(other.0);
        self.seen[at] > start || self.forgotten[at] >= start
    }

    /// It knows of no map any more. What somebody who is no member reads of one binds nobody.
    pub fn forget_map(&mut self, unfounded: Arc<ClusterMap>) {
        (self.map, self.epoch, self.leading) = (unfounded, 0, None);
    }

    /// A copy is proposed as in sync while the row has this stamp.
    pub fn proposed(&mut self, slot: u16, stamp: u64) {
        let epoch = self.epoch;
        let proposed = &mut self.slots[usize::from(slot)].proposed;
        if proposed.0 != stamp {
            *proposed = (stamp, epoch);
        }
    }

    /// Has a map come since a copy was proposed as in sync, and does the row not say yet what
    /// became of that?
    pub fn is_newer_than_proposal(&self, slot: u16) -> bool {
        let (stamp, epoch) = self.slots[usize::from(slot)].proposed;
        stamp == self.map.row(slot).stamp && epoch < self.epoch
    }

    /// The instance of the shard is gone, with all it held; a mistake lets it keep some.
    pub fn empty_slots(&mut self, keeps: impl Fn(&Row, &Slot) -> bool) {
        self.followed = Followed::default();
        for (row, held) in self.map.rows.iter().zip(&mut self.slots) {
            held.holding = match keeps(row, held) {
                true => Holding::primary(row.since),
                false => Holding::None,
            };
            held.data.clear();
            (held.own, held.handed) = (Data::default(), 0);
        }
    }

    /// Everything in memory is gone; the process is another one.
    pub fn restart(&mut self, incarnation: u64, unfounded: Arc<ClusterMap>, lease_ms: Ms) {
        let (offset, permille) = (self.clock_offset, self.clock_permille);
        let standing = std::mem::take(&mut self.standing);
        *self = Node::new(self.ix, incarnation, unfounded, self.heard.len(), lease_ms);
        (self.clock_offset, self.clock_permille) = (offset, permille);
        self.standing = standing;
    }
}
