//! What an operator hears of the map, and what is counted.

use super::machine::Applied;
use crate::client::MemberState;
use crate::map::{Change, ClusterMap, NodeIx, Summary};
use crate::shared::Shared;

/// Logs and counts what agreed changes did.
///
/// `is_short` remembers whether copies were missing.
pub(super) fn tell(shared: &Shared, map: &ClusterMap, applied: &Applied, is_short: &mut bool) {
    let (node, epoch) = (&shared.id, map.epoch);
    let name = |node: &NodeIx| map.members.get(usize::from(node.0)).map_or("?", |m| m.id.as_str());
    for change in &applied.changes {
        match change {
            Change::Found { starts, .. } => {
                tracing::info!(%node, epoch, members = starts.len(), "the cluster is founded, every slot starts empty");
            }
            Change::Admit { node: member, incarnation } => {
                tracing::info!(%node, epoch, member = name(member), incarnation, "a node has joined, it is filled next");
            }
            Change::Remove { node: member, incarnation } => {
                shared.counters.members_removed.add(1);
                match applied.summary == Summary::default() {
                    _ if applied.left.contains(&(*member, *incarnation)) => {
                        tracing::info!(%node, epoch, member = name(member), incarnation, "a node has left, others have all its slots")
                    }
                    true => {
                        tracing::info!(%node, epoch, member = name(member), incarnation, "a node that held nothing is no member any more")
                    }
                    false => {
                        tracing::warn!(%node, epoch, member = name(member), incarnation, "a node is gone, its slots go to their copies")
                    }
                }
            }
            Change::Silence { node: member, .. } => {
                tracing::warn!(%node, epoch, member = name(member), "a node is silent, nobody waits for its copies any more");
            }
            Change::Leave { node: member, leaving: true, .. } => {
                tracing::info!(%node, epoch, member = name(member), "a node leaves, its slots go to others");
            }
            Change::Leave { node: member, leaving: false, .. } => {
                tracing::info!(%node, epoch, member = name(member), "a node stays after all");
            }
            Change::Version { version } => {
                tracing::info!(%node, epoch, version, "every node understands this protocol version, the cluster speaks it from now on and refuses nodes that do not");
            }
            Change::Pause { paused: true } => {
                tracing::info!(%node, epoch, "slots that have all their copies stay where they are from now on");
            }
            Change::Pause { paused: false } => {
                tracing::info!(%node, epoch, "slots move to where the ring wants them again");
            }
            Change::Weight { node: member, weight } => {
                tracing::info!(%node, epoch, member = name(member), weight, "a node has another weight");
            }
            Change::Zone { node: member, zone } => {
                tracing::info!(%node, epoch, member = name(member), zone, "a node is in another zone");
            }
            Change::List { node: index, details } => {
                tracing::info!(%node, epoch, member = details.id, index = index.0, peer = details.peer, "a node that is not in the cluster file is listed");
            }
            Change::Heal => {
                tracing::info!(%node, epoch, "nobody can have a majority beside this cluster any more, it is not split from anything");
            }
            Change::Row { .. } => {}
        }
    }
    let summary = &applied.summary;
    let under_replicated = map.under_replicated();
    if summary.promoted > 0 {
        tracing::info!(%node, epoch, slots = summary.promoted, "copies in sync have become primaries");
    }
    if summary.lost > 0 {
        shared.counters.slots_lost.add(u64::from(summary.lost));
        tracing::error!(%node, epoch, slots = summary.lost, "slots have lost their last copy and start empty");
    }
    let was_short = std::mem::replace(is_short, under_replicated > 0);
    if was_short && !*is_short {
        tracing::info!(%node, epoch, "every slot has all its copies");
    }
}

/// Publishes the state of a member as seen from here, and logs what changed. That one is down which
/// `has_left` is nothing to worry about.
pub(super) fn note_state(
    shared: &Shared,
    map: &ClusterMap,
    member: NodeIx,
    state: MemberState,
    has_left: bool,
) {
    let before = shared.member_state(member);
    if before == state {
        return;
    }
    shared.set_member_state(member, state);
    if shared.is_stopping() || member == shared.me {
        return;
    }
    let (node, peer) = (&shared.id, &map.member(member).id);
    let is_new = usize::from(member.0) >= shared.listed && map.member(member).known == 0;
    match state {
        MemberState::Up => tracing::info!(%node, %peer, "peer is up"),
        MemberState::Down if has_left => {
            tracing::info!(%node, %peer, "peer is down, it had left")
        }
        MemberState::Down if is_new => {
            tracing::info!(%node, %peer, "peer is listed and not there yet")
        }
        MemberState::Down => tracing::warn!(%node, %peer, "peer is down"),
        MemberState::Suspect => tracing::info!(%node, %peer, "peer is silent"),
        MemberState::Joining => tracing::info!(%node, %peer, "peer is there and is no member yet"),
        MemberState::Leaving => {}
    }
}
