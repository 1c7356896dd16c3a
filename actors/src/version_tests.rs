#![allow(clippy::unwrap_used)]
//! The version before, frozen: its frames are understood, and what is said to it is what it said.

use std::collections::HashMap;

use super::*;
use crate::handshake::{Dialler, HandshakeError, Identity, Listener, Purpose, Refusal};
use crate::map::{Ask, Member, NodeIx, Row};
use crate::wire::{Agreed, MapState, decode, decode_agreed, encode, encode_agreed};

const VERSION_1: &str = include_str!("../tests/golden/version-1.txt");
const NOW: &str = include_str!("../tests/golden/wire.txt");

/// The frames of version 1 by name.
fn frozen() -> HashMap<&'static str, Vec<u8>> {
    let lines = VERSION_1.lines().skip(1);
    let frame = |hex: &str| {
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digits).collect()
    };
    lines.map(|line| line.split_once(' ').unwrap()).map(|(name, hex)| (name, frame(hex))).collect()
}

/// What version 1 agreed on.
fn agreed() -> [(&'static str, Agreed); 3] {
    let (node, incarnation) = (NodeIx(2), 1_795_630_591_345);
    let asks = [Ask::Import(node), Ask::InSync(node), Ask::Out(node), Ask::Give(node), Ask::Keep];
    let rows = asks.into_iter().chain([Ask::Lost(node)]);
    let rows = rows.map(|ask| Change::Row { slot: 16_383, stamp: 300, ask });
    let changes = vec![
        Change::Found { cluster_id: 5, starts: vec![(NodeIx(0), 10), (node, incarnation)] },
        Change::Admit { node, incarnation },
        Change::Remove { node, incarnation },
        Change::Silence { node, incarnation },
        Change::Leave { node, incarnation, leaving: true },
    ];
    [
        ("agreed_changes", Agreed::Changes(changes)),
        ("agreed_rows", Agreed::Changes(rows.collect())),
        ("agreed_map", Agreed::Map(MapState { base: 2, map: map() })),
    ]
}

fn map() -> ClusterMap {
    let member = |i: u64| Member {
        id: format!("node-{i}"),
        incarnation: 10 * i,
        known: 7 + 10 * i,
        http: "127.0.0.1:8081".into(),
        peer: "127.0.0.1:7201".into(),
        redis: String::new(),
        weight: 1.5,
        zone: "a".into(),
        leaving: i == 2,
    };
    let mut row = Row::new(NodeIx(1), 12, true);
    (row.stamp, row.from) = (300, 11);
    assert!(row.import(NodeIx(2)) && row.import(NodeIx(0)) && row.complete(NodeIx(0)));
    let rows = vec![row, Row::new(NodeIx(0), 0, false)];
    let members = (0..3).map(member).collect();
    let empty = ClusterMap::from_members(5, vec![member(0)], 128, 3);
    ClusterMap { epoch: 301, split: true, members, rows, ..empty }
}

#[test]
fn the_messages_of_version_1_are_still_those_of_this_build() {
    let now: Vec<&str> = NOW.lines().collect();
    for line in VERSION_1.lines().skip(1) {
        let name = line.split_once(' ').unwrap().0;
        let is_message =
            !["data_", "control_", "refused_", "agreed_", "raft_"].iter().any(|other| {
                name.starts_with(other) && !["control_beat", "raft_answer"].contains(&name)
            });
        if !is_message {
            continue;
        }
        assert!(now.contains(&line), "{name} has changed");
        let message = decode(&frozen()[name]).unwrap();
        let mut again = Vec::new();
        encode(&message, &mut again);
        assert_eq!(again, frozen()[name], "{name}");
    }
}

#[test]
fn what_version_1_agreed_on_is_understood_and_written_as_it_was() {
    for (name, agreed) in agreed() {
        assert_eq!(decode_agreed(&frozen()[name]).unwrap(), agreed, "{name}");
        assert_eq!(encode_agreed(&agreed), frozen()[name], "{name}");
    }
}

#[test]
fn a_map_of_a_newer_version_keeps_what_version_1_lacks() {
    let split_from = vec![NodeIx(0), NodeIx(2)];
    let map = ClusterMap { version: 2, moves_paused: true, split_from, ..map() };
    let state = MapState { base: 2, map };
    let bytes = encode_agreed(&Agreed::Map(state.clone()));
    assert_ne!(bytes, frozen()["agreed_map"]);
    assert_eq!(decode_agreed(&bytes).unwrap(), Agreed::Map(state));
}

#[test]
fn the_handshake_of_version_1_is_followed_to_the_byte_on_both_sides() {
    let frozen = frozen();
    let node = |id: &str, incarnation, versions| Identity {
        cluster: "demo".into(),
        id: id.into(),
        incarnation,
        digest: 7,
        versions,
    };
    for (name, purpose) in [("data", Purpose::Data), ("control", Purpose::Control)] {
        let part = |part: &str| &frozen[format!("{name}_{part}").as_str()];
        // As version 1 it says what that said, and as this build it answers it.
        let old = node("a", 100, Versions::only(1));
        let (dialler, hello) = Dialler::start(&old, "b", purpose, b"secret", [1; 32]);
        assert_eq!(&hello, part("hello"), "{name}");
        let now = node("b", 200, Versions::CURRENT);
        let started = Listener::start(&now, part("hello"), b"secret", [2; 32], 9, |_| Some(0));
        let (listener, challenge) = started.unwrap();
        assert_eq!((&challenge, listener.version()), (part("challenge"), 1));
        let (incarnation, version, proof) = dialler.challenged(part("challenge")).unwrap();
        assert_eq!((incarnation, version, &proof), (200, 1, part("proof")));
        let (from, _, welcome) = listener.proven(part("proof")).unwrap();
        assert_eq!((from, &welcome), (old, part("welcome")));
        dialler.welcomed(part("welcome")).unwrap();
    }
    let (dialler, _) =
        Dialler::start(&node("a", 1, Versions::CURRENT), "b", Purpose::Data, b"s", [1; 32]);
    let (theirs, ours) = (Versions::only(1), Versions::CURRENT);
    let version = Refusal::Version { theirs, ours };
    let refused = [version, Refusal::Cluster, Refusal::UnknownId, Refusal::WrongNode];
    let refused = refused.into_iter().chain([Refusal::OldIncarnation, Refusal::Placement]);
    for (code, refusal) in refused.chain([Refusal::Secret]).enumerate() {
        let frame = &frozen[format!("refused_{code}").as_str()];
        assert_eq!(dialler.challenged(frame), Err(HandshakeError::Refused(refusal)));
    }
}

#[cfg(feature = "agreement")]
#[test]
fn the_agreement_of_version_1_is_spoken_to_the_byte() {
    use crate::agreement::wire::tests::{again, samples};
    for (name, bytes) in samples() {
        assert_eq!(bytes, frozen()[name], "{name}");
        assert_eq!(again(name, &bytes), bytes, "{name}");
    }
}

fn members(known: [u64; 3], incarnations: [u64; 3]) -> ClusterMap {
    let mut map = map();
    for (member, (known, incarnation)) in
        map.members.iter_mut().zip(known.into_iter().zip(incarnations))
    {
        (member.known, member.incarnation) = (known, incarnation);
    }
    map
}

fn met(start: u64, version: u16) -> Spoken {
    Spoken { start, version, is_dead: false }
}

#[test]
fn a_cluster_speaks_what_every_member_understands() {
    let map = members([5, 6, 7], [5, 6, 7]);
    assert_eq!(rises_to(&map, 3, &[met(5, 3), met(6, 3), met(7, 3)]), 3);
    assert_eq!(rises_to(&map, 3, &[met(5, 3), met(6, 2), met(7, 3)]), 2);
    assert_eq!(rises_to(&map, 3, &[met(5, 3), met(6, 1), met(7, 3)]), 1);
    assert_eq!(rises_to(&map, 3, &[met(5, 3), met(6, 3)]), 1, "one was not met");
    assert_eq!(rises_to(&map, 3, &[met(5, 3), met(6, 3), met(4, 3)]), 1, "only an older start");
    let risen = ClusterMap { version: 2, ..map };
    assert_eq!(rises_to(&risen, 3, &[met(5, 3), met(6, 1), met(7, 3)]), 2, "it never falls");
}

#[test]
fn a_node_that_is_out_for_the_moment_counts_until_it_is_declared_dead() {
    let map = members([5, 6, 7], [5, 6, 0]);
    let spoken = |last| [met(5, 2), met(6, 2), last];
    assert_eq!(rises_to(&map, 2, &spoken(met(7, 2))), 2);
    assert_eq!(rises_to(&map, 2, &spoken(met(7, 1))), 1);
    assert_eq!(rises_to(&map, 2, &spoken(met(0, 0))), 1, "nobody knows what it is");
    assert_eq!(rises_to(&map, 2, &spoken(Spoken { is_dead: true, ..met(7, 1) })), 2);
    let never = members([5, 6, 0], [5, 6, 0]);
    assert_eq!(rises_to(&never, 2, &spoken(met(0, 0))), 2, "it is no part of this cluster");
    assert_eq!(rises_to(&never, 2, &spoken(met(9, 1))), 1, "it would join as it is");
}
