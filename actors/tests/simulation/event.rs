//! What happens in a run.

use lariat_actors::map::{Change, NodeIx};
use lariat_actors::op::Ms;

use super::enrolling::{Question, Said};
use super::network::Message;
use super::stalls::Decided;

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
    /// A process, or the thread of its shard, runs again, if nothing has come in between.
    GoOn {
        node: NodeIx,
    },
    /// The thread of a shard runs again.
    Woke {
        node: NodeIx,
    },
    /// A shard that hung goes on with a write.
    Apply {
        node: NodeIx,
        incarnation: u64,
        decided: Decided,
    },
    /// The thread of a shard makes another instance of it.
    Make {
        node: NodeIx,
        incarnation: u64,
    },
    /// The first map is in use, and the first fault is still to come.
    Quiet,
    NextFault,
    Heal,
    /// A link that flaps is cut again.
    Flap {
        node: NodeIx,
    },
    /// A process starts that no file lists.
    Appear {
        joiner: usize,
    },
    /// It asks to be listed.
    Enrol {
        joiner: usize,
        life: u64,
    },
    /// A member is asked.
    Asked {
        node: NodeIx,
        question: Question,
    },
    /// It is answered.
    Told {
        joiner: usize,
        life: u64,
        said: Said,
    },
    /// A process is to die, and to start again after this time.
    Die {
        node: NodeIx,
        incarnation: u64,
        down_ms: Ms,
    },
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
            Event::Deliver { to, .. } => Some(*to),
            Event::Tick { node } | Event::Commit { node, .. } | Event::Asked { node, .. } => {
                Some(*node)
            }
            _ => self.of_thread(),
        }
    }

    /// The node the thread of whose shard has to run for it.
    pub fn of_thread(&self) -> Option<NodeIx> {
        match self {
            Event::Deliver { to, over: Some(_), .. } | Event::Stale { to, .. } => Some(*to),
            Event::Fetch { node, .. }
            | Event::GiveUp { node, .. }
            | Event::Rows { node, .. }
            | Event::Woke { node }
            | Event::Apply { node, .. }
            | Event::Make { node, .. } => Some(*node),
            _ => None,
        }
    }
}
