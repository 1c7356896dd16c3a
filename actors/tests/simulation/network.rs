//! What nodes say to each other, and the connections that carry it.

use std::collections::BTreeSet;

use lariat_actors::map::{Ask, NodeIx};
use lariat_actors::op::Ms;

use super::node::{Effect, Op};

/// A message. Control messages may be lost, doubled and reordered; what goes over a connection
/// arrives in order or not at all, and nothing after the first loss.
#[derive(Clone, Debug)]
pub enum Message {
    /// The leader's heartbeat: everything up to `commit` is agreed.
    Lead {
        era: u64,
        term: u64,
        commit: u64,
        sent: Ms,
    },
    Led {
        term: u64,
        incarnation: u64,
        sent: Ms,
    },
    /// A newer term is known.
    Stale {
        term: u64,
    },
    Beat {
        incarnation: u64,
        seq: u64,
        has_lease: bool,
    },
    Answer {
        incarnation: u64,
        seq: u64,
        epoch: u64,
    },
    NotMember {
        incarnation: u64,
    },
    Join {
        incarnation: u64,
    },
    Ask {
        era: u64,
        slot: u16,
        stamp: u64,
        ask: Ask,
    },
    /// A start of the sender is to leave, or to stay after all.
    Leave {
        incarnation: u64,
        leaving: bool,
    },
    /// Somebody whom no file lists is to be listed, at this index if he runs with it.
    List {
        joiner: usize,
        needs: Option<NodeIx>,
    },
    /// A start of a node has ended.
    Forget {
        node: NodeIx,
        start: u64,
    },
    // Over connections:
    /// With the epoch of the sender's map.
    Do {
        op: Op,
        epoch: u64,
    },
    /// The sender of `Do` learns what became of it.
    Done {
        op: u64,
        answer: Answer,
    },
    /// Of the cluster with this id.
    Follow {
        cluster: u64,
        slot: u16,
        since: u64,
        stamp: u64,
        what: Follow,
    },
    Ack {
        slot: u16,
        since: u64,
        import: u64,
        n: u64,
        complete: bool,
    },
    /// What was handed over under this stamp until now is there.
    Handed {
        slot: u16,
        stamp: u64,
    },
    Nack {
        slot: u16,
        since: u64,
        import: u64,
    },
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    Maybe,
    /// It was not applied, and never will be.
    No,
    /// Nor was it here, but somebody else may.
    NotOwner,
}

/// What a primary tells a copy.
#[derive(Clone, Debug)]
pub enum Follow {
    Open {
        old_since: u64,
        old_n: u64,
    },
    Begin {
        import: u64,
        n0: u64,
    },
    Chunk {
        import: u64,
        after: u64,
        entries: Vec<(u8, Vec<u64>)>,
        last: bool,
    },
    Write {
        import: u64,
        n: u64,
        effect: Effect,
    },
    /// Entries that live on the primary alone.
    Hand {
        import: u64,
        entries: Vec<(u8, Vec<u64>)>,
        first: bool,
        last: bool,
    },
}

impl Follow {
    /// The import that it belongs to.
    pub fn import(&self) -> u64 {
        match *self {
            Follow::Open { .. } => 0,
            Follow::Begin { import, .. }
            | Follow::Chunk { import, .. }
            | Follow::Write { import, .. }
            | Follow::Hand { import, .. } => import,
        }
    }
}

/// The connection that one node dialled to another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection {
    /// Its number; 0 while there is none.
    pub id: u64,
    /// Nothing arrives over it any more, but neither end knows.
    pub is_doomed: bool,
    /// When the last message of each direction arrives: dialler to acceptor, and back.
    pub arrives: [Ms; 2],
}

#[derive(Debug)]
pub struct Network {
    nodes: usize,
    connections: Vec<Connection>,
    /// By dialler: to whom it has no connection.
    closed: Vec<BTreeSet<NodeIx>>,
    /// Are packets from one node to another lost?
    cut: Vec<bool>,
    next_id: u64,
}

impl Network {
    pub fn new(nodes: usize) -> Self {
        let all = 0..nodes as u16;
        let others = |me: u16| all.clone().filter(|&node| node != me).map(NodeIx).collect();
        Network {
            nodes,
            closed: all.clone().map(others).collect(),
            connections: vec![Connection::default(); nodes * nodes],
            cut: vec![false; nodes * nodes],
            next_id: 1,
        }
    }

    fn at(&self, from: NodeIx, to: NodeIx) -> usize {
        usize::from(from.0) * self.nodes + usize::from(to.0)
    }

    pub fn connection(&mut self, dialler: NodeIx, acceptor: NodeIx) -> &mut Connection {
        let at = self.at(dialler, acceptor);
        &mut self.connections[at]
    }

    pub fn is_open(&self, dialler: NodeIx, acceptor: NodeIx) -> bool {
        self.connections[self.at(dialler, acceptor)].id != 0
    }

    /// To whom a node has no connection.
    pub fn closed(&self, dialler: NodeIx) -> Vec<NodeIx> {
        self.closed[usize::from(dialler.0)].iter().copied().collect()
    }

    pub fn is_cut(&self, from: NodeIx, to: NodeIx) -> bool {
        self.cut[self.at(from, to)]
    }

    pub fn cut(&mut self, from: NodeIx, to: NodeIx, cut: bool) {
        let at = self.at(from, to);
        self.cut[at] = cut;
    }

    pub fn heal(&mut self) {
        self.cut.fill(false);
    }

    /// Can both talk to each other?
    pub fn connects(&self, a: NodeIx, b: NodeIx) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    pub fn dial(&mut self, dialler: NodeIx, acceptor: NodeIx) {
        let id = self.next_id;
        self.next_id += 1;
        *self.connection(dialler, acceptor) = Connection { id, ..Connection::default() };
        self.closed[usize::from(dialler.0)].remove(&acceptor);
    }

    /// The connection with this number is gone; returns whether it was there.
    pub fn close(&mut self, dialler: NodeIx, acceptor: NodeIx, id: u64) -> bool {
        let connection = self.connection(dialler, acceptor);
        let was_there = connection.id == id;
        if was_there {
            connection.id = 0;
            self.closed[usize::from(dialler.0)].insert(acceptor);
        }
        was_there
    }
}
