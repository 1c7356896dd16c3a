//! One node of the file: what it knows of the others, whom it has agreed to, what it follows.

use lariat_actors::founding::Known;
use lariat_actors::map::NodeIx;
use lariat_actors::op::Ms;

/// A start of a node.
pub type Start = (NodeIx, u64);

/// Another node, as seen over the connection that this one dialled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// The start it is connected to.
    pub up: Option<u64>,
    /// The newest start that is known.
    pub seen: u64,
    pub heard_at: Ms,
    pub refused: bool,
    /// What it said over this connection: the founding whose map it has, or none.
    pub standing: Option<Option<usize>>,
    /// The start that agreed to this node, and when that was asked.
    pub agreed: Option<(u64, Ms)>,
}

impl Peer {
    pub fn known(&self, now: Ms) -> Known {
        match (self.up, self.standing) {
            (Some(_), Some(None)) => Known::WithoutMap,
            (Some(_), Some(Some(_))) => Known::WithMap,
            _ if self.refused => Known::Absent,
            _ => Known::Silent { for_ms: now.saturating_sub(self.heard_at) },
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self, refused: bool) {
        (self.up, self.standing, self.agreed, self.refused) = (None, None, None, refused);
    }
}

#[derive(Debug)]
pub struct Node {
    pub start: u64,
    pub is_alive: bool,
    pub paused_until: Ms,
    /// What its clock shows beyond the virtual time.
    pub ahead: Ms,
    pub began_at: Ms,
    pub agreed_to: Option<(Start, Ms)>,
    /// The founding whose log it follows, and since when it waits for a map of it.
    pub follows: Option<(usize, Ms)>,
    /// The founding whose map it has.
    pub map: Option<usize>,
    pub asked_at: Ms,
    pub joined_at: Ms,
    pub peers: Vec<Peer>,
}

impl Node {
    pub fn new(nodes: u16) -> Self {
        Node {
            start: 0,
            is_alive: false,
            paused_until: 0,
            ahead: 1_000,
            began_at: 0,
            agreed_to: None,
            follows: None,
            map: None,
            asked_at: 0,
            joined_at: 0,
            peers: vec![Peer::default(); usize::from(nodes)],
        }
    }

    /// The process starts, or goes on as another start. What it knows of the others stays only if
    /// it is the same process.
    pub fn begin(&mut self, start: u64, clock: Ms, same_process: bool) {
        self.start = start;
        self.is_alive = true;
        self.began_at = clock;
        (self.agreed_to, self.follows, self.map) = (None, None, None);
        for peer in &mut self.peers {
            if !same_process {
                *peer = Peer { heard_at: clock, ..Peer::default() };
            }
            // Connections belong to a start.
            peer.lost(false);
        }
    }

    pub fn hears_of_map(&self) -> bool {
        self.peers.iter().any(|peer| matches!(peer.standing, Some(Some(_))))
    }
}
