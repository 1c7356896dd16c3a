#![allow(clippy::unwrap_used)]
//! What both ends of a link do when it is full, or ends again and again, over real sockets.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use super::asking::PARTS_MAX;
use super::inbound::{ANSWERS_BYTES, Inbound};
use super::link::SendItems;
use super::*;
use crate::op::{Answer, Applied, FailureKind, Ms, Op, Put, Reply, Request, Version};
use crate::router::messages::{Call, CallReply, SetLinks};
use crate::shard::bench::*;
use crate::wire::{PeerAnswer, ReplicationItem, WireEffect};
use crate::wire_map::request_to_wire;

const FOR_LONG_MS: Ms = 60_000;

/// Listens on a port of the system's choice.
fn bind() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    (listener.local_addr().unwrap().to_string(), listener)
}

/// Sends a request through the Router.
fn route(node: &Node, request: Request) -> oneshot::Receiver<Answer> {
    let (sender, answer) = oneshot::channel();
    let deadline = node.shared.clock.now() + FOR_LONG_MS;
    let (requests, reply) = (vec![request], CallReply::One(sender));
    node.router.do_send(Call { requests, deadline, max_reply_bytes: u64::MAX, reply, bytes: None });
    answer
}

#[test]
fn as_many_requests_as_the_window_has_wait_for_a_peer_and_one_above_is_refused() {
    run(async {
        let (node, other) = (Node::start(), Node::start_as("other"));
        let (address, listener) = bind();
        // It answers heartbeats and nothing else.
        let serve = |accepted: Accepted| {
            let (mut reader, writer) = accepted.connection.split();
            actix_rt::spawn(async move {
                while let Ok(Some(message)) = reader.next().await {
                    if let Message::Beat { seq } = message {
                        writer.send(&Message::BeatAnswer { seq, epoch: 1 }).unwrap();
                    }
                }
            });
        };
        let _listening = listen(listener, other.params(), serve, |error| panic!("{error}"));
        node.router.do_send(SetLinks(vec![None, Some(node.link(OTHER, address))]));
        let counters = &node.shared.counters;
        node.wait_until("the link is up", || counters.peer_connects.get() == 1).await;
        let key = node.key_where(|row| row.primary == OTHER);
        let mut waiting: Vec<_> = (0..PARTS_MAX).map(|_| route(&node, get(&key))).collect();
        let all = PARTS_MAX as u64;
        node.wait_until("all are sent", || counters.peer_requests.get() == all).await;
        assert_eq!(counters.overloaded.get(), 0);
        let refused = failed(FailureKind::Overloaded, Applied::No);
        assert_eq!(route(&node, put(&key)).await.unwrap(), refused);
        assert_eq!(counters.overloaded.get(), 1);
        assert_eq!(counters.peer_requests.get(), all, "it was not sent");
        assert!(waiting.iter_mut().all(|answer| answer.try_recv().is_err()));
    });
}

#[test]
fn answers_beyond_what_a_connection_holds_wait_and_arrive() {
    run(async {
        const VALUE_BYTES: usize = 8 << 20;
        let (node, other) = (Node::start(), Node::start_as("other"));
        let key = node.key();
        let mut large = put_in(ALONE, &key);
        if let Op::Put(Put { value, .. }) = &mut large.op {
            *value = Bytes::from(vec![b'v'; VALUE_BYTES]);
        }
        assert!(node.ask(large).await.is_ok());
        let (address, listener) = bind();
        let (shared, router) = (node.shared.clone(), node.router.clone());
        let serve = move |accepted: Accepted| {
            Inbound::serve(shared.clone(), OTHER, router.clone(), accepted.connection);
        };
        let _listening = listen(listener, node.params(), serve, |error| panic!("{error}"));
        let params = other.params();
        let (_, connection) = connect(&address, "me", Purpose::Data, &params).await.unwrap();
        let (mut reader, writer) = connection.split();
        // More than may be queued for a connection before it is given up.
        let count = (QUEUE_MAX_BYTES / VALUE_BYTES) as u64 + 8;
        let get = request(ALONE, &key, Op::Get { any: false });
        for id in 0..count {
            let requests = vec![request_to_wire(&node.shared, &get)];
            let (timeout_ms, max_reply_bytes, epoch) = (FOR_LONG_MS as u32, u64::MAX, 5);
            let message = Message::Do { id, timeout_ms, max_reply_bytes, epoch, requests };
            writer.send(&message).unwrap();
        }
        for expected in 0..count {
            match reader.next().await.unwrap() {
                Some(Message::Done { id, first: 0, answers, last: true }) => {
                    assert_eq!(id, expected);
                    let [PeerAnswer::Answer(Ok(Reply::Entry(Some(entry))))] = &answers[..] else {
                        panic!("no entry")
                    };
                    assert_eq!(entry.value.len(), VALUE_BYTES);
                }
                other => panic!("{:?}", other.map(|_| "another message")),
            }
        }
        writer.send(&Message::Beat { seq: 3 }).unwrap();
        let beat = reader.next().await.unwrap();
        assert!(matches!(beat, Some(Message::BeatAnswer { seq: 3, .. })));
    });
}

#[test]
fn replication_beyond_what_a_connection_holds_waits_and_arrives_in_order() {
    run(async {
        const KEY_BYTES: usize = 8 << 20;
        let (node, other) = (Node::start(), Node::start_as("other"));
        let (address, listener) = bind();
        let arrived = Rc::<Cell<u64>>::default();
        let counts = arrived.clone();
        let serve = move |accepted: Accepted| {
            let (mut reader, writer) = accepted.connection.split();
            let counts = counts.clone();
            actix_rt::spawn(async move {
                while let Ok(Some(message)) = reader.next().await {
                    let (Message::Replicate { items } | Message::ReplicateOf { items, .. }) =
                        message
                    else {
                        continue;
                    };
                    for item in items {
                        let ReplicationItem::Write { n, .. } = item else { panic!("{item:?}") };
                        assert_eq!(n, counts.get());
                        counts.set(n + 1);
                    }
                    // Who says nothing for long is given up, and beats wait behind all that.
                    writer.send(&Message::BeatAnswer { seq: 0, epoch: 1 }).unwrap();
                }
            });
        };
        let _listening = listen(listener, other.params(), serve, |error| panic!("{error}"));
        let link = node.link(OTHER, address);
        let counters = &node.shared.counters;
        node.wait_until("the link is up", || counters.peer_connects.get() == 1).await;
        let count = (QUEUE_MAX_BYTES / KEY_BYTES) as u64 + 8;
        let key = Bytes::from(vec![b'k'; KEY_BYTES]);
        let item = |n| ReplicationItem::Write {
            slot: 1,
            since: 5,
            import: 0,
            n,
            effect: WireEffect::Delete { cache: 1, key: key.clone(), version: Version(n) },
        };
        link.do_send(SendItems { cluster_id: 1, items: (0..count).map(item).collect() });
        node.wait_until("all has arrived", || arrived.get() == count).await;
        assert_eq!(counters.peer_connections_lost.get(), 0);
    });
}

#[test]
fn there_is_room_at_the_limit_and_none_one_above() {
    run(async {
        let (address, listener) = bind();
        let (node, other) = (Node::start(), Node::start_as("other"));
        let serve = |accepted: Accepted| {
            let (mut reader, writer) = accepted.connection.split();
            actix_rt::spawn(async move {
                while let Ok(Some(_)) = reader.next().await {}
                drop(writer);
            });
        };
        let _listening = listen(listener, other.params(), serve, |error| panic!("{error}"));
        let params = node.params();
        let (_, connection) = connect(&address, "other", Purpose::Data, &params).await.unwrap();
        let (_reader, writer) = connection.split();
        writer.send(&Message::Beat { seq: 1 }).unwrap();
        let (queued, room) = (writer.queued(), writer.room());
        assert!(queued > 0 && queued < ANSWERS_BYTES);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(pin!(room.below(queued)).poll(&mut cx), Poll::Ready(()));
        assert_eq!(pin!(room.below(queued - 1)).poll(&mut cx), Poll::Pending);
        timeout(Duration::from_secs(10), room.below(0)).await.expect("it is written");
        assert_eq!(writer.queued(), 0);
    });
}

#[test]
fn a_peer_that_shakes_hands_and_closes_is_dialled_after_growing_waits() {
    run(async {
        let (address, listener) = bind();
        let (node, other) = (Node::start(), Node::start_as("other"));
        // The shortest waits before the fifth attempt are 10, 20, 40 and 80 ms together: this timer
        // comes before them, however slow the machine is.
        let came_first = Rc::<Cell<bool>>::default();
        let comes = came_first.clone();
        actix_rt::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            comes.set(true);
        });
        tokio::task::yield_now().await;
        let at_fifth = Rc::<Cell<Option<bool>>>::default();
        let (dialled, seen) = (Rc::<Cell<usize>>::default(), at_fifth.clone());
        let close = move |accepted: Accepted| {
            dialled.set(dialled.get() + 1);
            if dialled.get() == 5 {
                seen.set(Some(came_first.get()));
            }
            drop(accepted);
        };
        let _listening = listen(listener, other.params(), close, |_| {});
        let _link = node.link(OTHER, address);
        node.wait_until("it is dialled five times", || at_fifth.get().is_some()).await;
        assert_eq!(at_fifth.get(), Some(true), "dialled again without waits");
    });
}
