#![allow(clippy::unwrap_used)]
//! What takes long is done in slices: room for large values, what was wiped, filling copies.

use std::cell::Cell;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::bench::*;
use super::direct::Direct;
use super::*;
use crate::admission::Gate;
use crate::map::Row;
use crate::op::{FailureKind, Op, Reply, ScanPosition};
use crate::router::messages::{Acked, LinkEvent, LinkNews, SetLinks};
use crate::slot::slot_of;
use crate::spec::NodeSpec;
use crate::wire::{AckItem, ReplicationItem, WireEffect, WireEntry};

/// A node whose cache without copies is bound by bytes, and keys of its own for 20,000 small entries.
fn with_room_for_4_mib() -> (Node, Vec<String>) {
    let mut spec = spec();
    spec.caches[1].max_bytes = 4 << 20;
    let node = Node::start_with(&spec);
    let keys = (0..).map(|i| format!("key-{i}"));
    let keys = keys.filter(|key| node.row(key).primary == ME).take(20_000).collect();
    (node, keys)
}

#[test]
fn what_a_large_put_leaves_over_the_limit_is_paid_in_turns_and_before_the_next_message() {
    run(async {
        let (node, keys) = with_room_for_4_mib();
        for key in &keys {
            assert!(node.ask(put_in(ALONE, key)).await.is_ok());
        }
        let stats = || node.shared.stats().caches[1].1.clone();
        assert_eq!(stats().evictions.total(), 0, "the small ones have room");

        let turns = Rc::new(Cell::new(0));
        let counting = turns.clone();
        let neighbour = neighbour(move || counting.set(counting.get() + 1));
        let mut large = put_in(ALONE, &keys[0]);
        let Op::Put(put) = &mut large.op else { unreachable!() };
        put.value = Bytes::from(vec![0; 3_600_000]);
        let (stored, next) = (node.send(large, 5_000), node.send(get(&keys[0]), 5_000));
        let stored = stored.await.unwrap();
        assert!(stored.is_ok(), "{stored:?}");
        assert!(next.await.unwrap().is_ok());
        let (evicted, turns) = (stats().evictions.total(), turns.get());
        assert!(stats().bytes.total() <= 4 << 20, "the next message finds the limit kept");
        assert!(evicted > 5_000, "{evicted} had to go");
        assert!(turns >= evicted / TURN as u64 - 1, "{turns} turns beside {evicted} evictions");
        neighbour.abort();
    });
}

#[test]
fn what_a_large_put_leaves_over_the_limit_is_paid_in_turns_before_the_next_request_of_its_batch() {
    run(async {
        let (node, keys) = with_room_for_4_mib();
        let turns = Rc::new(Cell::new(0));
        let counting = turns.clone();
        let neighbour = neighbour(move || counting.set(counting.get() + 1));
        for is_routed in [false, true] {
            for key in &keys {
                assert!(node.ask(put_in(ALONE, key)).await.is_ok());
            }
            let evicted = || node.shared.stats().caches[1].1.evictions.total();
            let before = (evicted(), turns.get());
            let mut large = put_in(ALONE, &keys[0]);
            let Op::Put(put) = &mut large.op else { unreachable!() };
            put.value = Bytes::from(vec![0; 3_600_000]);
            let look = |key| request(ALONE, key, Op::Peek);
            let batch = vec![large, look(&keys[1]), look(&keys[0]), put_in(ALONE, &keys[1])];
            let answers = if is_routed {
                routed(&node, batch, u64::MAX).await
            } else {
                direct(&node, batch, u64::MAX).await
            };
            let found = |answer: &Answer| matches!(answer, Ok(Reply::Entry(Some(_))));
            assert_eq!(answers.len(), 4);
            assert!(!found(&answers[1]), "it was the least recently used when the put had room");
            assert!(found(&answers[2]) && answers[3].is_ok());
            let (evicted, turns) = (evicted() - before.0, turns.get() - before.1);
            assert!(evicted > 5_000, "{evicted} had to go");
            assert!(turns >= evicted / TURN as u64 - 1, "{turns} turns beside {evicted} evictions");
        }
        neighbour.abort();
    });
}

/// What the shard says of a batch past its Router.
async fn direct(node: &Node, requests: Vec<Request>, max_reply_bytes: u64) -> Vec<Answer> {
    let (reply, decisions) = oneshot::channel();
    let (writing, pass) = (None, Arc::new(Gate::default()).admit(1).unwrap());
    node.shard.do_send(Direct { requests, max_reply_bytes, writing, reply, pass });
    decisions.await.unwrap().answers
}

/// What the Router says of one.
async fn routed(node: &Node, requests: Vec<Request>, max_reply_bytes: u64) -> Vec<Answer> {
    let (reply, answers) = oneshot::channel();
    let (deadline, bytes) = (node.shared.clock.now() + 20_000, None);
    let reply = CallReply::Many(reply);
    node.router.do_send(Call { requests, deadline, max_reply_bytes, reply, bytes });
    answers.await.unwrap()
}

#[test]
fn what_lived_on_a_primary_alone_is_gone_at_once_however_much_it_is_and_dropped_in_slices() {
    run(async {
        let node = Node::start();
        let key = node.key();
        let slot = slot_of(key.as_bytes());
        let mut shard = node.instance();
        let turn = shard.enter();
        let names: Vec<String> = (0..1_000).map(|i| format!("{{{key}}}{i}")).collect();
        for name in &names {
            let decided = shard.decide(&turn, &put_in(ALONE, name));
            assert!(matches!(decided, Decided::Applied(Ok(_), 5)));
        }
        node.change_row(6, &key, |row| {
            *row = Row::new(OTHER, 6, false);
            assert!(row.import(ME) && row.complete(ME));
        });
        shard.enter();
        let alone = usize::from(ALONE.0);
        let lru = &shard.caches[alone].lru;
        assert_eq!((lru.slot_len(slot), lru.len()), (0, 1_000), "nothing was dropped meanwhile");
        // It is the primary again before anything has been dropped.
        node.change_row(7, &key, |row| *row = Row::new(ME, 7, false));
        let turn = shard.enter();
        for name in &names {
            let read = shard.decide(&turn, &request(ALONE, name, Op::Get { any: false }));
            assert!(matches!(read, Decided::Answer(Ok(Reply::Entry(None)))), "{name}");
        }
        let decided = shard.decide(&turn, &put_in(ALONE, &names[0]));
        assert!(matches!(decided, Decided::Applied(Ok(_), 7)));
        let CacheShard { lru, stats } = &mut shard.caches[alone];
        let slots = &shard.slots;
        while !lru.drop_wiped(TURN, &mut |removal| count_removal(stats, slots, removal)) {}
        assert_eq!((lru.len(), stats.entries.total(), stats.lost.primary), (1, 1, 1_000));
        assert_eq!(stats.bytes.total(), lru.bytes());
    });
}

#[test]
fn a_cleared_slot_is_counted_no_more_at_once_and_dropped_in_slices() {
    run(async {
        let node = Node::start();
        let key = node.key();
        let slot = slot_of(key.as_bytes());
        let mut shard = node.instance();
        let turn = shard.enter();
        let names: Vec<String> = (0..1_000).map(|i| format!("{{{key}}}{i}")).collect();
        for name in names.iter().chain([&key]) {
            assert!(matches!(shard.decide(&turn, &put_in(ALONE, name)), Decided::Applied(..)));
        }
        let alone = usize::from(ALONE.0);
        let before = shard.caches[alone].stats.clone();
        let decided = shard.decide(&turn, &request(ALONE, &key, Op::Clear));
        let all = Reply::Cleared { entries: 1_001 };
        assert!(matches!(decided, Decided::Applied(Ok(reply), 5) if reply == all));
        let CacheShard { lru, stats } = &shard.caches[alone];
        assert_eq!((lru.slot_len(slot), lru.len()), (0, 1_001), "nothing was dropped meanwhile");
        assert_eq!((stats.entries.total(), stats.bytes.total()), (0, 0));
        assert_eq!((stats.cleared.primary, before.entries.primary), (1_001, 1_001));
        let decided = shard.decide(&turn, &request(ALONE, &key, Op::Clear));
        let nothing = Reply::Cleared { entries: 0 };
        assert!(matches!(decided, Decided::Applied(Ok(reply), 5) if reply == nothing));
        assert!(matches!(shard.decide(&turn, &put_in(ALONE, &names[0])), Decided::Applied(..)));
        let CacheShard { lru, stats } = &mut shard.caches[alone];
        let slots = &shard.slots;
        let mut turns = 1;
        while !lru.drop_wiped(100, &mut |removal| count_removal(stats, slots, removal)) {
            turns += 1;
            assert_eq!((stats.entries.total(), lru.len()), (1, 1_002 - (turns - 1) * 100));
        }
        assert_eq!((turns, lru.len(), stats.entries.total()), (11, 1, 1));
        assert_eq!((stats.bytes.total(), stats.bytes.primary), (lru.bytes(), lru.bytes()));
        assert_eq!((stats.lost.total(), stats.evictions.total()), (0, 0));
    });
}

#[test]
fn a_copy_is_cleared_in_the_same_way() {
    run(async {
        let node = Node::start();
        let key = node.key_where(|row| row.primary == OTHER);
        let slot = slot_of(key.as_bytes());
        let mut shard = node.instance();
        let mut follow = |item: ReplicationItem| {
            let turn = shard.enter();
            let answer = shard.follow(turn.map.row(slot), item, turn.now);
            assert!(!matches!(answer, Some(AckItem::Nack { .. })), "{answer:?}");
            let CacheShard { lru, stats } = &shard.caches[0];
            assert_eq!(lru.slot_bytes(slot), stats.bytes.replica);
            (lru.slot_len(slot), lru.len(), stats.entries.replica, stats.cleared.replica)
        };
        let (cache, since, import) = (node.shared.cache_hashes[0], node.row(&key).since, 1);
        let entry = |i: u32| WireEntry {
            cache,
            key: Bytes::from(format!("{{{key}}}{i}")),
            value: Bytes::from_static(b"value"),
            content_type: None,
            ttl_ms: None,
            version: crate::op::Version(1),
        };
        follow(ReplicationItem::Begin { slot, since, stamp: 5, import, n0: 0 });
        let (entries, after, last) = ((0..50).map(entry).collect(), 0, true);
        let filled = ReplicationItem::Chunk { slot, since, import, after, entries, last };
        assert_eq!(follow(filled), (50, 50, 50, 0));
        let write = |n, effect| ReplicationItem::Write { slot, since, import, n, effect };
        assert_eq!(follow(write(1, WireEffect::Clear { cache })), (0, 50, 0, 50));
        assert_eq!(follow(write(2, WireEffect::Put(entry(7)))), (1, 51, 1, 50));
    });
}

#[test]
fn a_copy_is_filled_at_the_pace_that_is_set() {
    run(async {
        let node = Node::start_with(&NodeSpec { import_rate: 1 << 20, ..spec() });
        let key = node.key();
        let (slot, copy) = (slot_of(key.as_bytes()), OTHER);
        // No other slot has a copy that is to be filled.
        node.change(6, |map| {
            for (_, row) in map.rows.iter_mut().enumerate().filter(|(at, _)| *at != slot.into()) {
                row.stamp = 6;
                row.remove(OTHER);
            }
        });
        let mut bytes = 0;
        for i in 0..1_000 {
            let name = format!("{{{key}}}{i}");
            bytes += (name.len() + "value".len()) as u64;
            assert!(node.ask(put(&name)).await.is_ok());
        }
        let (import_bytes, clock) = (&node.shared.counters.import_bytes, &node.shared.clock);
        node.router.do_send(SetLinks(vec![None, Some(node.link(copy, "127.0.0.1:1".into()))]));
        let began = clock.now();
        node.router.do_send(LinkNews { peer: copy, event: LinkEvent::Up { incarnation: 77 } });
        while import_bytes.get() < bytes {
            let (since, import, n, complete) = (node.row(&key).since, 1, 0, false);
            let item = AckItem::Ack { slot, since, import, n, complete };
            node.router.do_send(Acked { peer: copy, items: vec![item] });
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(clock.now() < began + 20_000, "{} of {bytes} bytes", import_bytes.get());
        }
        // 1 KiB each, of which the first 128 KiB go at once and the last on credit.
        let took = clock.now() - began;
        assert!(took > 600, "{took} ms");
    });
}

#[test]
fn a_message_of_scans_ends_with_the_slot_after_which_enough_was_looked_at() {
    run(async {
        let node = Node::start();
        let tags = (0..).map(|i| format!("{{tag-{i}}}")).filter(|tag| node.row(tag).primary == ME);
        let tags: Vec<String> = tags.take(30).collect();
        for tag in &tags {
            for i in 0..400 {
                assert!(node.ask(put_in(ALONE, &format!("{tag}{i}"))).await.is_ok());
            }
        }
        let (from, prefix) = (ScanPosition::START, Bytes::from_static(b"nothing"));
        let scan = |tag: &String| {
            request(ALONE, tag, Op::Scan { from, prefix: prefix.clone(), limit: 1_000 })
        };
        let answered = async |max_reply_bytes: u64| {
            let mut requests: Vec<Request> = tags.iter().map(scan).collect();
            requests.push(put_in(ALONE, &tags[0]));
            let direct = direct(&node, requests.clone(), max_reply_bytes).await;
            let routed = routed(&node, requests, max_reply_bytes).await;
            assert!(direct.last().unwrap().is_ok() && routed.last().unwrap().is_ok(), "a write");
            let left_out = Err(FailureKind::ReplyTooLarge.not_applied());
            let mut failed = direct.iter().chain(&routed).filter(|answer| answer.is_err());
            assert!(failed.all(|answer| *answer == left_out));
            let scanned = |answer: &&Answer| matches!(answer, Ok(Reply::Keys { .. }));
            let count = |answers: &[Answer]| answers.iter().filter(scanned).count();
            assert_eq!(count(&direct), count(&routed));
            count(&direct)
        };
        assert_eq!(answered(u64::MAX).await, 30);
        assert_eq!(answered(1 << 20).await, SCAN_BUCKETS.div_ceil(400));
    });
}

#[test]
fn threads_without_shards_have_no_part_of_the_rate() {
    for (workers, shards, threads) in [(1, 1, 1), (4, 1, 1), (4, 4, 4), (2, 5, 2)] {
        let spec = NodeSpec { workers, shards, ..spec() };
        let shared = crate::node::share(&spec, Vec::new()).unwrap();
        assert_eq!(shared.shard_threads(), threads, "{workers} workers, {shards} shards");
    }
}

#[test]
fn the_rest_of_the_thread_has_turns_while_what_was_wiped_is_dropped() {
    run(async {
        let node = Node::start();
        let key = node.key();
        for i in 0..10 * TURN {
            assert!(node.ask(put(&format!("{{{key}}}{i}"))).await.is_ok());
        }
        let entries = || node.shared.stats().caches[0].1.entries.total();
        assert_eq!(entries(), 10 * TURN as u64);
        let (shared, seen) =
            (node.shared.clone(), Rc::new(std::cell::RefCell::new(BTreeSet::new())));
        let noting = seen.clone();
        let neighbour = neighbour(move || {
            noting.borrow_mut().insert(shared.stats().caches[0].1.entries.total());
        });
        node.change_row(6, &key, |row| *row = Row::new(OTHER, 6, false));
        node.wait_until("all are gone", || entries() == 0).await;
        assert!(seen.borrow().len() > 5, "between all and none: {:?}", seen.borrow());
        neighbour.abort();
    });
}

#[test]
fn a_batch_that_goes_on_has_no_lease_but_the_one_that_it_began_with() {
    run(async {
        let node = Node::start();
        let mut shard = node.instance();
        let begun = node.shared.clock.now();
        node.lease(begun + 1);
        let mut turn = shard.enter();
        let gate = turn.is_open;
        node.lease(FOREVER);
        node.wait_until("the first lease is over", || node.shared.clock.now() > begun + 1).await;
        shard.look_on(&mut turn);
        assert!(turn.now > turn.lease_until, "a newer lease may belong to a newer map");
        assert!(gate && turn.is_open);
        shard.serving.store(false, Release);
        shard.look_on(&mut turn);
        assert!(!turn.is_open);
    });
}
