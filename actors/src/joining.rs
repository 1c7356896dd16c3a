//! Nodes that are not in the cluster file: how they come to be listed in the map.
//!
//! Such a node knows the cluster's name, its secret, and the address of some member. It tells that
//! member who it is, again and again until the map lists it. Whoever is asked looks at its own map:
//! what is missing there goes to the coordinator, which has it agreed on. So nobody keeps anything
//! for a node that joins, and everything may get lost.
//!
//! Once it is listed it has an index, like everybody, and starts as a node of the file does. It
//! keeps its place: when it comes back, under the same id, it is another start of the same member.

use serde::{Deserialize, Serialize};

use crate::map::{Change, ClusterMap, Details, MEMBERS_MAX, Member, NodeIx};
use crate::op::Ms;

/// The longest text in the details of a node, in bytes.
const TEXT_MAX: usize = 255;

/// What a map says to a node that wants to be listed.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// It is listed, as what it says it is.
    Listed(NodeIx),
    /// It is not, and this would list it.
    List(Change),
    /// Others have to be listed first.
    Wait,
    /// It cannot be.
    Refused(Refused),
}

/// Why a node is not listed. The order is the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// The map lists as many as it may, and a start of each is a member.
    #[error("the cluster has {MEMBERS_MAX} members, and takes no more")]
    Full,
    /// A start of a node of this id, and other details, is a member.
    #[error(
        "a node of this id is a member, with other addresses, zone or weight: stop that one, or choose another id"
    )]
    Alive,
    /// The id is one of the cluster file.
    #[error(
        "the cluster file of the others lists this id: start it from that file, without --join"
    )]
    InFile,
    /// The map lists it, or somebody else, where this process does not expect it.
    #[error("its place in the list of members is another one")]
    Elsewhere,
    /// What it says of itself makes no sense.
    #[error(
        "its id, addresses, zone or weight make no sense: the id and an address for peers are needed"
    )]
    Malformed,
    /// The nodes of the cluster file serve cluster-aware Redis clients, and it does not.
    #[error(
        "the others serve cluster-aware Redis clients, who would not find its slots: expected redis_cluster, or LARIAT_REDIS_CLUSTER, to be set"
    )]
    WithoutRedis,
}

/// Is a node that says this of itself listed, and if not, what would list it? The first `listed`
/// nodes of the map are those of the cluster file. A process that has an index already needs that
/// one.
pub fn look(map: &ClusterMap, listed: usize, details: &Details, needs: Option<NodeIx>) -> Look {
    if !is_sound(details) {
        return Look::Refused(Refused::Malformed);
    }
    let serves_redis = |member: &Member| !member.redis.is_empty();
    let (file, _) = map.members.split_at(listed.min(map.members.len()));
    // Whoever was listed without it, or runs, goes on without it.
    let was_without = map.find(&details.id).is_some_and(|node| !serves_redis(map.member(node)));
    let is_new = needs.is_none() && !was_without;
    if is_new && details.redis.is_empty() && file.iter().any(serves_redis) {
        return Look::Refused(Refused::WithoutRedis);
    }
    let list = |node| Look::List(Change::List { node, details: details.clone() });
    let end = NodeIx(map.members.len() as u16);
    if let Some(node) = map.find(&details.id) {
        let member = map.member(node);
        return match needs {
            _ if usize::from(node.0) < listed => Look::Refused(Refused::InFile),
            Some(needed) if needed != node => Look::Refused(Refused::Elsewhere),
            _ if member.details() == *details => Look::Listed(node),
            // It runs, and an operator may have changed what it said when it started.
            Some(_) if is_at(member, details) => Look::Listed(node),
            _ if member.is_present() => Look::Refused(Refused::Alive),
            _ => list(node),
        };
    }
    match needs {
        Some(needed) if needed < end => Look::Refused(Refused::Elsewhere),
        Some(needed) if needed > end => Look::Wait,
        _ if map.members.len() < MEMBERS_MAX => list(end),
        _ => replaceable(map, listed).map_or(Look::Refused(Refused::Full), list),
    }
}

/// The start of a node that a process says has ended when it asks to be listed: it is at that node's
/// addresses, where no two can be, and has no start yet. `known` is the newest start of the node that was
/// known before the process proved that it is there; a later one may be its own, and the question be late.
pub fn ended(
    map: &ClusterMap,
    listed: usize,
    details: &Details,
    known: u64,
) -> Option<(NodeIx, u64)> {
    let node = map.find(&details.id).filter(|node| usize::from(node.0) >= listed)?;
    let member = map.member(node);
    let was_before = member.is_present() && member.incarnation <= known;
    (was_before && is_at(member, details)).then_some((node, member.incarnation))
}

/// How long a cluster may serve without listing a node that runs and asks for it.
const UNLISTED_MAX_MS: Ms = 10_000;

/// What a node that runs is told by one that did not know it, and how it stands itself.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// It is listed where it expects it.
    pub is_listed: bool,
    /// Its place, or its id, is somebody else's.
    pub is_elsewhere: bool,
    /// Does the other one have a lease?
    pub serves: bool,
    /// Does this node have a map?
    pub has_map: bool,
    /// Does it have a lease?
    pub has_lease: bool,
}

/// Can only a new process mend that a node is not listed? `since` is when it was first told so in a
/// row, and is kept up here.
pub fn must_end(since: &mut Option<Ms>, told: Told, now: Ms) -> bool {
    let Told { is_listed, is_elsewhere, serves, has_map, has_lease } = told;
    // One with a map may have lost its place while it was cut off.
    let is_out = is_elsewhere && serves && !has_lease;
    if !is_out && (has_map || !serves || is_listed) {
        *since = None;
        return false;
    }
    is_out || now > *since.get_or_insert(now) + UNLISTED_MAX_MS
}

/// The node whose place somebody else may take: of those that joined and are no members, the one
/// whose last start is the oldest.
fn replaceable(map: &ClusterMap, listed: usize) -> Option<NodeIx> {
    let gone = map.members.iter().enumerate().skip(listed).filter(|(_, m)| !m.is_present());
    gone.min_by_key(|(_, member)| member.known).map(|(node, _)| NodeIx(node as u16))
}

fn is_at(member: &Member, details: &Details) -> bool {
    let of =
        |details: &Details| (details.http.clone(), details.peer.clone(), details.redis.clone());
    of(&member.details()) == of(details)
}

fn is_sound(details: &Details) -> bool {
    let Details { id, http, peer, redis, weight, zone } = details;
    let is_short = |text: &String| text.len() <= TEXT_MAX;
    !id.is_empty()
        && !peer.is_empty()
        && [id, http, peer, redis, zone].into_iter().all(is_short)
        && (0.01..=100.0).contains(weight)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::map::tests::member;

    fn details(id: &str) -> Details {
        Details { id: id.into(), peer: format!("{id}:7"), ..member(0, "").details() }
    }

    /// Three nodes of a file, all members.
    fn founded() -> ClusterMap {
        let map = ClusterMap::from_members(0, (0..3).map(|i| member(i, "")).collect(), 16, 2);
        let starts = (0..3).map(|node| (NodeIx(node), 10)).collect();
        map.apply(1, &[Change::Found { cluster_id: 7, starts }]).0
    }

    fn after(map: &ClusterMap, change: Change) -> ClusterMap {
        map.apply(map.epoch + 1, &[change]).0
    }

    /// The map once this node is listed, and its index.
    fn list(map: &ClusterMap, id: &str) -> (ClusterMap, NodeIx) {
        let Look::List(change) = look(map, 3, &details(id), None) else { panic!("{id}") };
        let map = after(map, change);
        let Look::Listed(node) = look(&map, 3, &details(id), None) else { panic!("{id}") };
        (map, node)
    }

    #[test]
    fn a_node_that_nobody_knows_is_listed_last_and_stays_there() {
        let (map, first) = list(&founded(), "x");
        let (map, second) = list(&map, "y");
        assert_eq!((first, second), (NodeIx(3), NodeIx(4)));
        assert!(!map.member(first).is_present() && map.member(first).id == "x");
        assert_eq!(map.rows, founded().rows, "being listed moves nothing");
    }

    #[test]
    fn of_two_that_are_listed_at_once_the_second_comes_after_the_first() {
        let map = founded();
        let change = |id: &str| Change::List { node: NodeIx(3), details: details(id) };
        let map = map.apply(2, &[change("x"), change("y"), change("x")]).0;
        assert_eq!((map.members.len(), map.members[3].id.as_str()), (4, "x"));
        let late = after(&map, change("y"));
        assert_eq!(late.members, map.members, "what was proposed before the first was listed");
        let Look::List(again) = look(&map, 3, &details("y"), None) else { panic!() };
        assert_eq!(after(&map, again).find("y"), Some(NodeIx(4)));
    }

    #[test]
    fn a_member_keeps_its_details_until_it_is_gone() {
        let (map, node) = list(&founded(), "x");
        let map = after(&map, Change::Admit { node, incarnation: 20 });
        let moved = Details { peer: "elsewhere:7".into(), ..details("x") };
        assert_eq!(look(&map, 3, &moved, None), Look::Refused(Refused::Alive));
        let change = Change::List { node, details: moved.clone() };
        assert_eq!(after(&map, change.clone()).members, map.members);
        let map = after(&map, Change::Remove { node, incarnation: 20 });
        assert_eq!(look(&map, 3, &moved, None), Look::List(change.clone()));
        let map = after(&map, change);
        assert_eq!(look(&map, 3, &moved, None), Look::Listed(node));
        let old = Change::Admit { node, incarnation: 20 };
        assert!(!after(&map, old).member(node).is_present(), "its old start never comes back");
    }

    #[test]
    fn a_process_without_a_start_says_that_the_one_before_has_ended_and_no_later_one() {
        let (map, node) = list(&founded(), "x");
        assert_eq!(ended(&map, 3, &details("x"), u64::MAX), None, "no start is a member");
        let map = after(&map, Change::Admit { node, incarnation: 20 });
        assert_eq!(ended(&map, 3, &details("x"), 20), Some((node, 20)));
        let late = ended(&map, 3, &details("x"), 19);
        assert_eq!(late, None, "the start may be its own");
        let elsewhere = Details { peer: "elsewhere:7".into(), ..details("x") };
        assert_eq!(ended(&map, 3, &elsewhere, 20), None);
        assert_eq!(ended(&map, 3, &details("y"), 20), None);
        let in_file = map.member(NodeIx(1)).details();
        assert_eq!(ended(&map, 3, &in_file, 10), None, "nodes of the file show their starts");
    }

    #[test]
    fn an_id_of_the_file_is_not_for_others() {
        let taken = look(&founded(), 3, &details("node-1"), None);
        assert_eq!(taken, Look::Refused(Refused::InFile));
    }

    #[test]
    fn a_node_that_cluster_aware_clients_would_not_find_is_refused() {
        let mut map = founded();
        map.members[1].redis = "b:6".into();
        let refused = look(&map, 3, &details("x"), None);
        assert_eq!(refused, Look::Refused(Refused::WithoutRedis));
        let found = Details { redis: "x:6".into(), ..details("x") };
        assert!(matches!(look(&map, 3, &found, None), Look::List(_)));
        // One that was listed before this was asked for may come back.
        let without = founded();
        let (mut map, node) = list(&without, "x");
        map.members[1].redis = "b:6".into();
        assert_eq!(look(&map, 3, &details("x"), None), Look::Listed(node));
        // What nodes have that joined obliges nobody.
        let with = Details { redis: "y:6".into(), ..details("y") };
        let Look::List(change) = look(&without, 3, &with, None) else { panic!("it is new") };
        assert!(matches!(look(&after(&without, change), 3, &details("z"), None), Look::List(_)));
    }

    #[test]
    fn a_process_that_has_an_index_gets_that_one_or_none() {
        let map = founded();
        let at = |map: &ClusterMap, id: &str, node| look(map, 3, &details(id), Some(NodeIx(node)));
        assert_eq!(at(&map, "y", 4), Look::Wait);
        assert!(matches!(at(&map, "x", 3), Look::List(_)));
        let (map, _) = list(&map, "x");
        assert!(matches!(at(&map, "y", 4), Look::List(_)));
        assert_eq!(at(&map, "x", 3), Look::Listed(NodeIx(3)));
        assert_eq!(at(&map, "x", 4), Look::Refused(Refused::Elsewhere));
        assert_eq!(at(&map, "y", 3), Look::Refused(Refused::Elsewhere));
    }

    #[test]
    fn the_list_is_bounded_and_who_is_gone_makes_room() {
        let mut map = founded();
        for i in 3..MEMBERS_MAX as u64 {
            let (listed, node) = list(&map, &format!("x{i}"));
            map = listed;
            map.members[usize::from(node.0)].start(1_000 + i);
        }
        assert_eq!(look(&map, 3, &details("new"), None), Look::Refused(Refused::Full));
        let beyond = Change::List { node: NodeIx(MEMBERS_MAX as u16), details: details("new") };
        assert_eq!(after(&map, beyond).members.len(), MEMBERS_MAX);
        // One of the file leaves its place to nobody.
        map.members[0].incarnation = 0;
        assert_eq!(look(&map, 3, &details("new"), None), Look::Refused(Refused::Full));
        map.members[9].incarnation = 0;
        map.members[5].incarnation = 0;
        let (map, node) = list(&map, "new");
        assert_eq!((node, map.members.len()), (NodeIx(5), MEMBERS_MAX));
        assert_eq!(map.find("x5"), None);
        let older = Change::Admit { node, incarnation: 1_005 };
        assert!(!after(&map, older).member(node).is_present(), "that start was somebody else's");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong = [
            Details { id: String::new(), ..details("x") },
            Details { peer: String::new(), ..details("x") },
            Details { weight: f64::NAN, ..details("x") },
            Details { weight: 0.0, ..details("x") },
            Details { zone: "z".repeat(256), ..details("x") },
        ];
        for details in wrong {
            let refused = Look::Refused(Refused::Malformed);
            assert_eq!(look(&founded(), 3, &details, None), refused, "{details:?}");
        }
    }

    #[test]
    fn what_an_operator_changed_of_a_node_that_runs_stays_and_its_addresses_count() {
        let map = founded();
        let Look::List(list) = look(&map, 3, &details("x"), None) else { panic!("it is new") };
        let map = after(&map, list);
        let heavy = Change::Weight { node: NodeIx(3), weight: 9.0 };
        let map = after(&map, heavy);
        let here = Some(NodeIx(3));
        assert_eq!(look(&map, 3, &details("x"), here), Look::Listed(NodeIx(3)));
        assert!(matches!(look(&map, 3, &details("x"), None), Look::List(_)), "a new process");
        let moved = Details { peer: "elsewhere:7".into(), ..details("x") };
        assert!(matches!(look(&map, 3, &moved, here), Look::List(_)));
    }

    #[test]
    fn a_node_ends_when_it_is_not_listed_for_long_or_another_has_its_place() {
        let without_map = Told {
            is_listed: false,
            is_elsewhere: false,
            serves: true,
            has_map: false,
            has_lease: false,
        };
        let listed = Told { is_listed: true, ..without_map };
        let mut since = None;
        // It is taken out and comes back now and then: each time it is listed.
        for now in [1, 60_000, 120_000] {
            assert!(!must_end(&mut since, listed, now));
        }
        assert!(!must_end(&mut since, without_map, 130_000));
        assert!(!must_end(&mut since, without_map, 140_000));
        assert!(must_end(&mut since, without_map, 140_001));
        assert!(!must_end(&mut since, listed, 140_002));
        assert!(!must_end(&mut since, without_map, 150_003), "it counts anew");
        let elsewhere = Told { is_elsewhere: true, has_map: true, ..without_map };
        assert!(must_end(&mut None, elsewhere, 1), "its place went while it was cut off");
        let served = Told { has_lease: true, ..elsewhere };
        assert!(!must_end(&mut None, served, 1), "the other one's map is older");
        assert!(!must_end(&mut None, Told { serves: false, ..elsewhere }, 1));
    }
}
