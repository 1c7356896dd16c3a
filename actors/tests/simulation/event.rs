//! What happens in a run.

use lariat_actors::map::{Change, NodeIx};

use super::network::Message;

#[derive(Debug)]
pub enum Event {
    /// `over` names the connection, by its dialler and number; control messages have none.
    Deliver {
        from: NodeIx,
        to: NodeIx,
        over: Option<(NodeIx, u64)>,
        message: Message,
    },
    /// Something that came over a connection which has broken since.
    Stale {
        from: NodeIx,
        to: NodeIx,
        incarnation: u64,
        message: Message,
    },
    Tick {
        node: NodeIx,
    },
    Request,
    Lost {
        dialler: NodeIx,
        acceptor: NodeIx,
        id: u64,
    },
    Commit {
        node: NodeIx,
        incarnation: u64,
        term: u64,
        changes: Vec<Change>,
    },
    Fetch {
        node: NodeIx,
        incarnation: u64,
        slot: u16,
        since: u64,
        to: NodeIx,
        import: u64,
        from: u8,
    },
    GiveUp {
        node: NodeIx,
        incarnation: u64,
        op: u64,
    },
    /// The shards of a node hear of its newest map.
    Rows {
        node: NodeIx,
        incarnation: u64,
    },
    /// The first map is in use, and the first fault is still to come.
    Quiet,
    NextFault,
    Heal,
    Restart {
        node: NodeIx,
    },
    /// A node that was told to leave is to stay after all.
    Stay {
        node: NodeIx,
        incarnation: u64,
    },
    /// A node has waited for long enough until it has left.
    DrainOver {
        node: NodeIx,
        incarnation: u64,
    },
    /// The process of a node that leaves ends.
    End {
        node: NodeIx,
        incarnation: u64,
    },
}

impl Event {
    /// The node whose process has to run for it.
    pub fn of_process(&self) -> Option<NodeIx> {
        match self {
            Event::Deliver { to, .. } | Event::Stale { to, .. } => Some(*to),
            Event::Tick { node } | Event::Commit { node, .. } | Event::Fetch { node, .. } => {
                Some(*node)
            }
            Event::GiveUp { node, .. } | Event::Rows { node, .. } => Some(*node),
            _ => None,
        }
    }
}
