//! Hostile input on the peer port of real nodes, from strangers and from somebody who knows the
//! secret: the connection is closed, nothing changes or panics, memory is bounded, and nodes and
//! clients go on meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lariat::actors::codec;
use lariat::actors::control::{Control, Enrol, Enrolled, Standing};
use lariat::actors::handshake::{Dialler, Identity, Purpose};
use lariat::actors::joining::Refused;
use lariat::actors::map::{Ask, Details, NodeIx};
use lariat::actors::op::{Applied, Failure, Reply};
use lariat::actors::version::Versions;
use lariat::actors::wire::{self, Message};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::cli::free_ports;
use crate::panics;
use crate::process::Process;
use crate::support::{
    Cluster, PATIENCE, SECRET, Shape, allow_open_files, call, counter, put_op, run, wait_until,
};

/// A connection to the peer port.
struct Stranger(TcpStream);

impl Stranger {
    fn connect(cluster: &Cluster, node: usize) -> Stranger {
        let map = cluster.client(node).map();
        Self::at(&map.member(NodeIx(node as u16)).peer)
    }

    fn at(peer: &str) -> Stranger {
        let stream = TcpStream::connect(peer).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Stranger(stream)
    }

    fn send(&mut self, bytes: &[u8]) {
        // The other side may have closed already, which is what the tests then look for.
        let _ = self.0.write_all(bytes);
    }

    /// Asserts that the other side closes, after at most a refusal, and returns what it sent.
    fn closed(mut self, what: &str) -> Vec<u8> {
        let mut answer = Vec::new();
        match self.0.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("{what}: left open"),
            // A reset is a close as well.
            _ => answer,
        }
    }

    fn frame(&mut self) -> Vec<u8> {
        self.try_frame().unwrap()
    }

    fn try_frame(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut frame)?;
        Ok(frame)
    }
}

fn framed(content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    codec::put(&mut frame, |into| into.extend_from_slice(content));
    frame
}

/// What node-2 would say of itself.
fn identity(cluster: &Cluster) -> Identity {
    identity_of(cluster, 1)
}

fn identity_of(cluster: &Cluster, node: usize) -> Identity {
    let map = cluster.client(0).map();
    let member = &map.members[node];
    Identity {
        cluster: "test".into(),
        id: member.id.clone(),
        incarnation: member.incarnation,
        digest: map.digest(),
        versions: Versions::CURRENT,
    }
}

/// Shakes hands with node-1; returns the connection and the two frames that were sent.
fn shake(cluster: &Cluster, nonce: u8) -> (Stranger, [Vec<u8>; 2]) {
    shake_as(&identity(cluster), cluster, 0, Purpose::Data, nonce)
}

fn shake_as(
    me: &Identity,
    cluster: &Cluster,
    node: usize,
    purpose: Purpose,
    nonce: u8,
) -> (Stranger, [Vec<u8>; 2]) {
    let mut stranger = Stranger::connect(cluster, node);
    let to = cluster.client(node).map().members[node].id.clone();
    let (dialler, hello) = Dialler::start(me, &to, purpose, SECRET, [nonce; 32]);
    stranger.send(&framed(&hello));
    let (_, _, proof) = dialler.challenged(&stranger.frame()).unwrap();
    stranger.send(&framed(&proof));
    dialler.welcomed(&stranger.frame()).unwrap();
    (stranger, [framed(&hello), framed(&proof)])
}

/// Asserts that writes with all copies go through each node, once its links are there.
async fn serves(cluster: &Cluster, round: usize) {
    for node in 0..3 {
        // A node that came back is filled and is the primary of nothing.
        let map = cluster.client(node).map();
        for other in (0..3).filter(|&other| map.slots_of(NodeIx(other as u16)).0 > 0) {
            let key = cluster.key_at(other, &format!("others-{round}-{node}-"));
            wait_until("a write goes through", || async {
                match call(&cluster.client(node), &key, put_op("x")).await {
                    Ok(Reply::Written(_)) => true,
                    Err(Failure { applied: Applied::No, .. }) => false,
                    other => panic!("{node}: {other:?}"),
                }
            })
            .await;
        }
    }
}

/// Asserts that nothing in the nodes has panicked.
fn no_panics(cluster: &Cluster) {
    for node in 0..3 {
        assert_eq!(counter(&cluster.client(node), "shard_panics"), 0, "of node {node}");
    }
    panics::assert_none();
}

#[test]
fn strangers_on_the_peer_port_are_turned_away() {
    panics::watch();
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let me = identity(&cluster);
        let hello =
            |me: &Identity, to| framed(&Dialler::start(me, to, Purpose::Data, SECRET, [7; 32]).1);
        let good = hello(&me, "node-1");
        let mut version = good.clone();
        // Of 98 to 99.
        version[codec::LENGTH_BYTES + 5] = 99;
        version[codec::LENGTH_BYTES + 7] = 98;
        let (kept, [replayed_hello, replayed_proof]) = shake(&cluster, 1);
        drop(kept);
        let mut random = SmallRng::seed_from_u64(5);
        let noise: Vec<u8> = (0..1 << 20).map(|_| random.random()).collect();
        let other = |change: fn(&mut Identity)| {
            let mut other = me.clone();
            change(&mut other);
            hello(&other, "node-1")
        };
        let rows: Vec<(&str, Vec<u8>)> = vec![
            ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
            ("a megabyte of noise", noise),
            ("a frame over the limit", framed(&[1; 1025])),
            ("the largest length", vec![0xFF; 4]),
            ("an empty frame", framed(&[])),
            ("a hello with a byte too many", framed(&[&good[4..], &[0]].concat())),
            ("a hello cut short", framed(&good[4..good.len() - 1])),
            ("another protocol version", version),
            ("another cluster", other(|me| me.cluster = "else".into())),
            ("an id that is no member", other(|me| me.id = "node-9".into())),
            ("meant for another node", hello(&me, "node-3")),
            ("an incarnation from the past", other(|me| me.incarnation -= 1)),
            ("another placement", other(|me| me.digest ^= 1)),
            ("a replayed handshake", [replayed_hello, replayed_proof].concat()),
            ("a proof made without the secret", [&good[..], &framed(&[3; 33])].concat()),
        ];
        let refused = counter(&cluster.client(0), "peer_handshakes_refused");
        let count = rows.len() as u64;
        for (round, (what, bytes)) in rows.into_iter().enumerate() {
            let mut stranger = Stranger::connect(&cluster, 0);
            stranger.send(&bytes);
            serves(&cluster, round).await;
            let answer = stranger.closed(what);
            assert!(answer.len() < 200, "{what}: {} bytes came back", answer.len());
        }
        let client = cluster.client(0);
        wait_until("each is counted", || async {
            counter(&client, "peer_handshakes_refused") == refused + count
        })
        .await;
        cluster.wait_equal_copies().await;
        no_panics(&cluster);
        cluster.stop().await;
    });
}

#[test]
fn nonsense_from_somebody_who_knows_the_secret_ends_the_connection() {
    panics::watch();
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let mut beat = Vec::new();
        wire::encode(&Message::Beat { seq: 1 }, &mut beat);
        let mut random = SmallRng::seed_from_u64(6);
        let noise: Vec<u8> = (0..1 << 20).map(|_| random.random()).collect();
        let over_the_limit = ((16u32 << 20) + (4 << 20) + 1).to_le_bytes().to_vec();
        let rows: Vec<(&str, Vec<u8>)> = vec![
            ("a frame over the limit", over_the_limit),
            ("a kind of message that is not there", framed(&[250])),
            ("a message with a byte too many", framed(&[&beat[..], &[0]].concat())),
            ("a message cut short", framed(&beat[..beat.len() - 1])),
            ("a megabyte of noise", noise),
            ("an empty frame", framed(&[])),
        ];
        for (round, (what, bytes)) in rows.into_iter().enumerate() {
            let (mut stranger, _) = shake(&cluster, round as u8);
            stranger.send(&bytes);
            serves(&cluster, round).await;
            stranger.closed(what);
        }
        cluster.wait_equal_copies().await;
        no_panics(&cluster);
        cluster.stop().await;
    });
}

#[test]
fn what_a_member_asks_of_the_coordinator_in_vain_does_no_harm() {
    panics::watch();
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        cluster.wait_whole().await;
        let map = cluster.client(0).map();
        let (row, last) = (*map.row(0), u16::MAX);
        let vain = [
            (last, row.stamp, Ask::Keep),
            (0, row.stamp, Ask::Import(row.in_sync()[0])),
            (0, row.stamp, Ask::Give(NodeIx(last))),
            (0, row.stamp, Ask::Out(NodeIx(last))),
        ];
        // Whoever coordinates takes it in, and answers a heartbeat after it; unless the member
        // itself, whose connection this one replaces, was faster with a new one.
        let coordinator = usize::from(cluster.client(0).coordinator().unwrap().0);
        let me = identity_of(&cluster, (coordinator + 1) % 3);
        let asks = encoded(Control::AskRows { asks: vain.to_vec() });
        let beat = encoded(Control::Beat { seq: 1, has_lease: true });
        let is_heard = |nonce| {
            let (mut stranger, _) = shake_as(&me, &cluster, coordinator, Purpose::Control, nonce);
            stranger.send(&[&asks[..], &beat].concat());
            stranger.try_frame().is_ok()
        };
        assert!((0..50).any(is_heard), "one of fifty is heard");
        serves(&cluster, 0).await;
        assert_eq!(cluster.client(0).map().epoch, map.epoch, "nothing was agreed");
        no_panics(&cluster);
        cluster.stop().await;
    });
}

/// Shakes hands with node-1 as a node that nobody knows.
fn enrol(cluster: &Cluster) -> Stranger {
    let mut stranger = Stranger::connect(cluster, 0);
    let digest = cluster.client(0).settings();
    let me = Identity { id: "new".into(), digest, incarnation: u64::MAX, ..identity(cluster) };
    let nonce = rand::random();
    let (dialler, hello) = Dialler::start(&me, "", Purpose::Enrol, SECRET, nonce);
    stranger.send(&framed(&hello));
    let (.., proof) = dialler.challenged(&stranger.frame()).unwrap();
    stranger.send(&framed(&proof));
    dialler.welcomed(&stranger.frame()).unwrap();
    stranger
}

fn encoded(message: Control) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(&Message::Control(message), &mut bytes);
    framed(&bytes)
}

#[test]
fn whoever_enrols_can_do_nothing_else_and_nonsense_lists_nobody() {
    panics::watch();
    run(async {
        let cluster = Cluster::start(Shape::default()).await;
        let details = |id: &str| Details {
            id: id.into(),
            http: String::new(),
            peer: "127.0.0.1:1".into(),
            redis: String::new(),
            weight: 1.0,
            zone: String::new(),
        };
        let says = |details| {
            let standing = Standing::default();
            encoded(Control::Enrol(Enrol { details, index: None, standing, added: Vec::new() }))
        };
        let start = cluster.client(0).map().member(NodeIx(1)).incarnation;
        let forget = Control::Forget { node: NodeIx(1), incarnation: start };
        let list = Control::List { details: details("new"), needs: None };
        let mut beat = Vec::new();
        wire::encode(&Message::Beat { seq: 1 }, &mut beat);
        let rows: Vec<(&str, Vec<u8>)> = vec![
            ("an order of a member", encoded(forget)),
            ("what members tell the coordinator", encoded(list)),
            ("a message of data links", framed(&beat)),
            ("noise", framed(&[250; 64])),
        ];
        for (round, (what, bytes)) in rows.into_iter().enumerate() {
            let mut stranger = enrol(&cluster);
            stranger.send(&bytes);
            stranger.closed(what);
            serves(&cluster, round).await;
        }
        let refused = |details| {
            let mut stranger = enrol(&cluster);
            stranger.send(&says(details));
            match wire::decode(&stranger.frame()) {
                Ok(Message::Control(Control::Enrolled { answer, .. })) => answer,
                other => panic!("{other:?}"),
            }
        };
        let malformed = [
            Details { weight: f64::NAN, ..details("new") },
            Details { weight: 1e300, ..details("new") },
            Details { zone: "z".repeat(100_000), ..details("new") },
            details(""),
        ];
        for details in malformed {
            let shown = format!("{details:?}");
            assert_eq!(refused(details), Enrolled::Refused(Refused::Malformed), "{shown:.200}");
        }
        assert_eq!(refused(details("node-2")), Enrolled::Refused(Refused::InFile));
        // More of them than are listened to: the oldest go, the newest is answered.
        let mut crowd: Vec<Stranger> = (0..40).map(|_| enrol(&cluster)).collect();
        let mut newest = crowd.pop().unwrap();
        newest.send(&says(details("node-3")));
        newest.frame();
        for oldest in crowd.into_iter().take(8) {
            oldest.closed("one of too many");
        }
        let map = cluster.client(0).map();
        assert_eq!((map.members.len(), map.member(NodeIx(1)).incarnation), (3, start));
        no_panics(&cluster);
        cluster.stop().await;
    });
}

#[test]
fn silent_and_slow_connections_do_not_keep_a_peer_out() {
    panics::watch();
    run(async {
        allow_open_files();
        let mut cluster = Cluster::start(Shape::default()).await;
        let mut idle: Vec<Stranger> = (0..2_000).map(|_| Stranger::connect(&cluster, 0)).collect();
        serves(&cluster, 0).await;
        // A peer that has to shake hands while all of them are there.
        cluster.kill(1).await;
        cluster.restart(1).await;
        cluster.wait_connected().await;
        cluster.wait_whole().await;
        assert_eq!(cluster.client(0).map().cluster_id, cluster.client(1).map().cluster_id);
        serves(&cluster, 1).await;
        // A hello that comes a byte at a time is given up at the deadline of handshakes.
        let mut slow = Stranger::connect(&cluster, 0);
        let hello = framed(
            &Dialler::start(&identity(&cluster), "node-1", Purpose::Data, SECRET, [9; 32]).1,
        );
        let mut sent = 0;
        wait_until("the slow one is given up", || {
            sent += 1;
            let next = hello.get(sent - 1).copied().unwrap_or(0);
            let failed = slow.0.write_all(&[next]).is_err();
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                failed
            }
        })
        .await;
        for (i, stranger) in idle.drain(..).enumerate() {
            stranger.closed(&format!("silent connection {i}"));
        }
        serves(&cluster, 2).await;
        no_panics(&cluster);
        cluster.stop().await;
    });
}

/// What a node may have kept of all that strangers sent, and what its allocator holds back.
const GROWTH_MAX: u64 = 32 << 20;

#[test]
fn what_strangers_send_costs_a_bounded_memory_and_no_panic() {
    let [http, peer]: [u16; 2] = free_ports();
    // The other node never runs; without one that is listed nobody is listened to.
    let other = format!(
        "[[nodes]]\nid = \"node-2\"\nhttp = \"127.0.0.1:{http}\"\npeer = \"127.0.0.1:{peer}\"\n"
    );
    let mut node = Process::start_with(1_000, &other);
    node.wait_until("it goes on alone", || node.run(&["put", "k", "v"]).status.success());
    let before = node.resident_bytes();
    let mut random = SmallRng::seed_from_u64(7);
    let noise: Vec<u8> = (0..1 << 20).map(|_| random.random()).collect();
    let begun = framed(&[1; 1024])[..1_000].to_vec();
    let lengths = [&[0xFF; 4][..], &[0, 4, 0, 0], &[1, 4, 0, 0], &[0; 4]];
    let peer = node.peer.to_string();
    // Each has begun a frame as large as may be and says no more.
    let silent: Vec<Stranger> = (0..400)
        .map(|_| {
            let mut stranger = Stranger::at(&peer);
            stranger.send(&begun);
            stranger
        })
        .collect();
    let mut sent = 0;
    while sent < 2 * GROWTH_MAX {
        for length in lengths {
            let mut stranger = Stranger::at(&peer);
            stranger.send(length);
            stranger.send(&noise);
            stranger.closed("noise after a length");
            sent += noise.len() as u64;
        }
    }
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes more after {sent} bytes");
    assert_eq!(node.run(&["get", "k"]).stdout, b"v");
    drop(silent);
    node.has_not_panicked();
}
