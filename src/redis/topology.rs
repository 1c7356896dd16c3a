//! The cluster as cluster-aware clients are told, encoded once for each map and shared.
//!
//! Primaries only: clients fix a node's role by the first range it appears in, and here every node
//! is primary of some slots and holds copies of others.

use std::fmt::Write;

use lariat_actors::client::{Client, MemberState};
use lariat_actors::map::{ClusterMap, NodeIx};
use lariat_actors::slot::Slot;
use sha2::{Digest, Sha256};

use super::gateway::host_and_port;
use super::reply::{Protocol, Replies};

/// What the answers depend on.
#[derive(Debug, PartialEq, Eq)]
pub struct Sight {
    /// The map's epoch.
    pub epoch: u64,
    /// The state of each member.
    pub states: Vec<MemberState>,
    /// May this node serve? Without a lease what it knows may be old.
    pub has_lease: bool,
}

/// The answers to CLUSTER SLOTS, SHARDS, NODES and INFO under one map.
#[derive(Debug)]
pub struct Topology {
    of: Sight,
    slots: [Vec<u8>; 2],
    shards: [Vec<u8>; 2],
    /// CLUSTER NODES.
    pub nodes: String,
    /// CLUSTER INFO.
    pub info: String,
}

struct Node {
    id: String,
    host: String,
    port: u16,
    peer_port: u16,
    is_me: bool,
    state: MemberState,
    /// First and last slots that it is primary of.
    ranges: Vec<(Slot, Slot)>,
}

impl Topology {
    /// What clients are told under this map.
    pub fn new(client: &Client, map: &ClusterMap, of: Sight) -> Self {
        let cluster = &client.cluster().name;
        let mut nodes: Vec<Node> = map
            .members
            .iter()
            .zip(&of.states)
            .enumerate()
            .map(|(index, (member, &state))| {
                let (host, port) = host_and_port(&member.redis).unwrap_or_default();
                let peer_port =
                    member.peer.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                Node {
                    id: node_id(cluster, &member.id),
                    host,
                    port,
                    peer_port: peer_port.unwrap_or(0),
                    is_me: NodeIx(index as u16) == client.me(),
                    state,
                    ranges: Vec::new(),
                }
            })
            .collect();
        for (slot, row) in map.rows.iter().enumerate() {
            let slot = slot as Slot;
            let Some(node) = nodes.get_mut(usize::from(row.primary.0)) else { continue };
            match node.ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot => *last = slot,
                _ => node.ranges.push((slot, slot)),
            }
        }
        let both = |write: &dyn Fn(&mut Replies)| {
            [Protocol::Resp2, Protocol::Resp3].map(|protocol| {
                let mut out = Replies::new(protocol);
                write(&mut out);
                out.pieces().flatten().copied().collect()
            })
        };
        Topology {
            slots: both(&|out| write_slots(&nodes, out)),
            shards: both(&|out| write_shards(&nodes, out)),
            nodes: nodes.iter().map(|node| node_line(node, map.epoch)).collect(),
            info: info(&nodes, &of),
            of,
        }
    }

    /// Is it what clients are to be told now?
    pub fn is_of(&self, sight: &Sight) -> bool {
        self.of == *sight
    }

    /// The reply to CLUSTER SLOTS.
    pub fn slots(&self, protocol: Protocol) -> &[u8] {
        &self.slots[usize::from(protocol == Protocol::Resp3)]
    }

    /// The reply to CLUSTER SHARDS.
    pub fn shards(&self, protocol: Protocol) -> &[u8] {
        &self.shards[usize::from(protocol == Protocol::Resp3)]
    }
}

/// The id of a node for clients: the first 40 hex digits of SHA-256(cluster name, node id).
pub fn node_id(cluster: &str, node: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(cluster.as_bytes());
    hash.update([0]);
    hash.update(node.as_bytes());
    hash.finalize().iter().take(20).fold(String::new(), |mut hex, byte| {
        // Writing into a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn write_slots(nodes: &[Node], out: &mut Replies) {
    let mut ranges: Vec<(Slot, Slot, &Node)> = nodes
        .iter()
        .flat_map(|node| node.ranges.iter().map(move |&(first, last)| (first, last, node)))
        .collect();
    ranges.sort_unstable_by_key(|(first, ..)| *first);
    out.array(ranges.len());
    for (first, last, node) in ranges {
        out.array(3);
        out.integer(i64::from(first));
        out.integer(i64::from(last));
        out.array(4);
        out.bulk(node.host.as_bytes());
        out.integer(i64::from(node.port));
        out.bulk(node.id.as_bytes());
        out.map(0);
    }
}

fn write_shards(nodes: &[Node], out: &mut Replies) {
    out.array(nodes.len());
    for node in nodes {
        out.map(2);
        out.bulk(b"slots");
        out.array(2 * node.ranges.len());
        for &(first, last) in &node.ranges {
            out.integer(i64::from(first));
            out.integer(i64::from(last));
        }
        out.bulk(b"nodes");
        out.array(1);
        out.map(7);
        out.bulk(b"id");
        out.bulk(node.id.as_bytes());
        out.bulk(b"port");
        out.integer(i64::from(node.port));
        let health = if node.state == MemberState::Down { "fail" } else { "online" };
        let host = &node.host[..];
        for (key, value) in [("ip", host), ("endpoint", host), ("role", "master")] {
            out.bulk(key.as_bytes());
            out.bulk(value.as_bytes());
        }
        out.bulk(b"replication-offset");
        out.integer(0);
        out.bulk(b"health");
        out.bulk(health.as_bytes());
    }
}

fn node_line(node: &Node, epoch: u64) -> String {
    let flags = match (node.is_me, node.state) {
        (true, _) => "myself,master",
        (false, MemberState::Down) => "master,fail",
        (false, MemberState::Suspect) => "master,fail?",
        (false, _) => "master",
    };
    let link = if node.state == MemberState::Down { "disconnected" } else { "connected" };
    let mut line = format!(
        "{} {}:{}@{} {flags} - 0 0 {epoch} {link}",
        node.id, node.host, node.port, node.peer_port
    );
    for (first, last) in &node.ranges {
        // Writing into a string does not fail.
        let _ =
            if first == last { write!(line, " {first}") } else { write!(line, " {first}-{last}") };
    }
    line + "\n"
}

fn info(nodes: &[Node], sight: &Sight) -> String {
    let slots_of = |node: &Node| -> u32 {
        node.ranges.iter().map(|(first, last)| u32::from(last - first) + 1).sum()
    };
    let of_state = |state| nodes.iter().filter(|n| n.state == state).map(slots_of).sum::<u32>();
    let assigned: u32 = nodes.iter().map(slots_of).sum();
    let (failed, silent) = (of_state(MemberState::Down), of_state(MemberState::Suspect));
    let state = if failed == 0 && sight.has_lease { "ok" } else { "fail" };
    let epoch = sight.epoch;
    let size = nodes.iter().filter(|node| !node.ranges.is_empty()).count();
    [
        ("cluster_state", state.to_string()),
        ("cluster_slots_assigned", assigned.to_string()),
        ("cluster_slots_ok", (assigned - failed - silent).to_string()),
        ("cluster_slots_pfail", silent.to_string()),
        ("cluster_slots_fail", failed.to_string()),
        ("cluster_known_nodes", nodes.len().to_string()),
        ("cluster_size", size.to_string()),
        ("cluster_current_epoch", epoch.to_string()),
        ("cluster_my_epoch", epoch.to_string()),
    ]
    .iter()
    .map(|(key, value)| format!("{key}:{value}\r\n"))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(state: MemberState, ranges: &[(Slot, Slot)]) -> Node {
        Node {
            id: String::new(),
            host: String::new(),
            port: 0,
            peer_port: 0,
            is_me: false,
            state,
            ranges: ranges.to_vec(),
        }
    }

    #[test]
    fn info_tells_of_nodes_that_are_silent_or_gone_and_of_a_node_that_is_cut_off() {
        let told = |states: [MemberState; 2], has_lease| {
            let sight = Sight { epoch: 7, states: states.to_vec(), has_lease };
            let nodes = [node(states[0], &[(0, 9)]), node(states[1], &[(10, 16_383)])];
            let info = info(&nodes, &sight);
            let of = |key: &str| {
                let line = info.lines().find_map(|line| line.strip_prefix(key));
                line.expect("every key is told").trim_start_matches(':').to_string()
            };
            ["cluster_state", "cluster_slots_ok", "cluster_slots_pfail", "cluster_slots_fail"]
                .map(of)
        };
        let (up, suspect, down) = (MemberState::Up, MemberState::Suspect, MemberState::Down);
        assert_eq!(told([up, up], true), ["ok", "16384", "0", "0"]);
        assert_eq!(told([up, up], false), ["fail", "16384", "0", "0"]);
        assert_eq!(told([suspect, up], true), ["ok", "16374", "10", "0"]);
        assert_eq!(told([down, up], true), ["fail", "16374", "0", "10"]);
    }

    #[test]
    fn a_node_id_is_forty_hex_digits_of_cluster_and_node() {
        let id = node_id("demo", "node-1");
        assert_eq!(id.len(), 40);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(id, node_id("demo", "node-2"));
        assert_ne!(id, node_id("demonode", "-1"));
    }
}
