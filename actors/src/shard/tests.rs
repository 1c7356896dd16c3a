#![allow(clippy::unwrap_used)]
//! What a shard and its Router do under the rows they adopt and the lease they have.

use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::bench::*;
use super::messages::{HeldAs, Panic, Reset};
use super::*;
use crate::holding::Holding;
use crate::map::{Change, Row};
use crate::op::{Acks, Applied, FailureKind, Op, Reply, Request};
use crate::router::messages::{FanoutWrite, MapChanged};
use crate::slot::slot_of;
use crate::wire::{AckItem, AgedEntry, ReplicationItem, WireEffect, WireEntry};

#[test]
fn without_a_lease_a_request_waits_and_is_refused_at_its_deadline() {
    run(async {
        let node = Node::start();
        let key = node.key();
        assert!(node.ask(put(&key)).await.is_ok());
        node.lease(0);
        let refused = failed(FailureKind::NoQuorum, Applied::No);
        assert_eq!(node.ask(put(&key)).await, refused);
        assert_eq!(node.ask(get(&key)).await, refused);
        assert_eq!(node.shared.counters.no_quorum.get(), 2);
        let waits = node.send(get(&key), 5_000);
        node.held(&key).await;
        node.lease(FOREVER);
        node.router.do_send(MapChanged);
        assert!(is_hit(&waits.await.unwrap()), "it goes on with the lease");
    });
}

#[test]
fn a_slot_of_another_node_is_waited_for_and_not_decided() {
    run(async {
        let node = Node::start();
        let key = node.key_where(|row| row.primary == OTHER);
        assert_eq!(node.ask(put(&key)).await, failed(FailureKind::NotReady, Applied::No));
        assert_eq!(node.held(&key).await, HeldAs::Nothing);
    });
}

#[test]
fn a_slot_starts_empty_once_whatever_becomes_of_the_shard() {
    run(async {
        let mut node = Node::start();
        let key = node.key();
        assert!(node.ask(put(&key)).await.is_ok());
        node.replace_shard();
        assert_eq!(node.ask(get(&key)).await, failed(FailureKind::NotReady, Applied::No));
        assert_eq!(node.held(&key).await, HeldAs::Nothing);
        assert!(node.shared.counters.slots_lost_here.get() > 0, "the coordinator has to know");
        node.change_row(6, &key, |row| *row = Row::new(ME, 6, true));
        assert_eq!(node.ask(get(&key)).await, Ok(Reply::Entry(None)));
        assert_eq!(node.held(&key).await, HeldAs::Primary { since: 6, n: 0 });
    });
}

#[test]
fn a_shard_whose_gate_is_closed_decides_nothing_and_adopts_nothing() {
    run(async {
        let node = Node::start();
        let key = node.key();
        assert!(node.ask(put(&key)).await.is_ok());
        node.serving.store(false, Relaxed);
        assert_eq!(node.ask(get(&key)).await, failed(FailureKind::NotReady, Applied::No));
        node.change_row(6, &key, |row| *row = Row::new(ME, 6, true));
        assert_eq!(node.ask(get(&key)).await, failed(FailureKind::NotReady, Applied::No));
        assert_eq!(node.held(&key).await, HeldAs::Primary { since: 5, n: 1 });
    });
}

#[test]
fn a_shard_that_panics_closes_its_gate_and_answers_nothing_that_it_had() {
    run(async {
        let node = Node::start();
        let key = node.key();
        node.held(&key).await;
        node.shard.do_send(Panic);
        let dropped = node.send(get(&key), 5_000).await;
        assert!(dropped.is_err(), "its client hears that the shard crashed");
        assert!(!node.serving.load(Relaxed));
    });
}

#[test]
fn a_row_that_names_another_primary_ends_serving_and_drops_what_was_held() {
    run(async {
        let node = Node::start();
        let key = node.key();
        assert!(node.ask(put(&key)).await.is_ok());
        let entries = || node.shared.stats().caches[0].1.entries.total();
        assert_eq!(entries(), 1);
        node.change_row(6, &key, |row| *row = Row::new(OTHER, 6, false));
        assert_eq!(node.ask(get(&key)).await, failed(FailureKind::NotReady, Applied::No));
        assert_eq!(node.held(&key).await, HeldAs::Nothing);
        node.wait_until("the entry is gone", || entries() == 0).await;
        assert_eq!(node.shared.stats().caches[0].1.lost.primary, 1);
    });
}

#[test]
fn a_write_waits_for_the_copy_in_sync() {
    run(async {
        let node = Node::start();
        let key = node.key();
        node.bring_copy_in_sync(&key).await;
        let mut waits = node.send(put(&key), 5_000);
        assert_eq!(node.held(&key).await, HeldAs::Primary { since: 5, n: 1 });
        assert!(waits.try_recv().is_err(), "the copy has not confirmed");
        node.ack(&key, 1, 1);
        assert!(waits.await.unwrap().is_ok());
    });
}

#[test]
fn a_write_that_nobody_waits_for_any_more_is_answered_only_with_a_lease() {
    run(async {
        for is_renewed in [true, false] {
            let node = Node::start();
            let key = node.key();
            node.bring_copy_in_sync(&key).await;
            let mut waits = node.send(put(&key), 5_000);
            node.held(&key).await;
            node.lease(0);
            node.change_row(7, &key, |row| assert!(row.remove(OTHER)));
            let at_once = tokio::time::timeout(Duration::from_millis(200), &mut waits).await;
            assert!(at_once.is_err(), "without a lease nobody can say: {at_once:?}");
            match is_renewed {
                true => node.lease(FOREVER),
                false => node.change_row(8, &key, |row| *row = Row::new(OTHER, 8, false)),
            }
            let (answer, unknown) =
                (waits.await.unwrap(), failed(FailureKind::OutcomeUnknown, Applied::Maybe));
            assert!(if is_renewed { answer.is_ok() } else { answer == unknown }, "{answer:?}");
        }
    });
}

#[test]
fn a_write_whose_copies_went_is_in_doubt_when_too_few_are_left_that_have_it() {
    run(async {
        for min_copies in [1, 2] {
            let mut spec = spec();
            spec.cluster.min_copies = min_copies;
            let node = Node::start_of(&spec);
            node.found(node.shared.incarnation(), 77);
            node.lease(FOREVER);
            let key = node.key();
            node.bring_copy_in_sync(&key).await;
            let waits = node.send(put(&key), 5_000);
            node.held(&key).await;
            node.change_row(7, &key, |row| assert!(row.remove(OTHER)));
            let (answer, unknown) =
                (waits.await.unwrap(), failed(FailureKind::OutcomeUnknown, Applied::Maybe));
            assert!(if min_copies == 1 { answer.is_ok() } else { answer == unknown }, "{answer:?}");
        }
    });
}

#[test]
fn a_write_that_waits_when_its_slot_is_taken_away_is_in_doubt() {
    run(async {
        let node = Node::start();
        let key = node.key();
        node.bring_copy_in_sync(&key).await;
        let waits = node.send(put(&key), 5_000);
        node.held(&key).await;
        node.change_row(7, &key, |row| *row = Row::new(OTHER, 7, false));
        let answer = waits.await.unwrap();
        assert_eq!(answer, failed(FailureKind::OutcomeUnknown, Applied::Maybe));
        node.ack(&key, 1, 1);
        node.held(&key).await;
        assert_eq!(node.shared.counters.outcome_unknown.get(), 1);
        assert_eq!(node.shared.counters.replication_unacked_bytes.get(), 0);
    });
}

#[test]
fn a_waiting_write_of_a_crashed_shard_stays_unknown_until_the_row_changes() {
    run(async {
        let mut node = Node::start();
        let key = node.key();
        node.bring_copy_in_sync(&key).await;
        let mut waits = node.send(put(&key), 5_000);
        node.held(&key).await;
        node.replace_shard();
        node.held(&key).await;
        assert!(waits.try_recv().is_err(), "the copy may still confirm it");
        node.change_row(7, &key, |row| *row = Row::new(OTHER, 7, false));
        let answer = waits.await.unwrap();
        assert_eq!(answer, failed(FailureKind::OutcomeUnknown, Applied::Maybe));
    });
}

#[test]
fn a_write_without_enough_copies_in_sync_is_refused_before_it_is_applied() {
    run(async {
        let mut spec = spec();
        spec.cluster.min_copies = 2;
        let mut node = Node::start();
        let mut shared = crate::node::share(&spec, Vec::new()).unwrap();
        shared.map = ArcSwap::new(node.shared.map.load_full());
        shared.set_incarnation(node.shared.incarnation());
        shared.lease.publish(FOREVER, 1);
        node.shared = Arc::new(shared);
        let mut shard = node.instance();
        let key = node.key();
        let mut ask = |request: Request| {
            let turn = shard.enter();
            match shard.decide(&turn, &request) {
                Decided::Answer(answer) | Decided::Applied(answer, _) => answer,
                Decided::AfterCopies(answer, _) => answer,
                Decided::Wait => panic!("this node decides the slot"),
            }
        };
        let refused = failed(FailureKind::NotEnoughReplicas, Applied::No);
        assert_eq!(ask(put(&key)), refused);
        assert_eq!(ask(get(&key)), Ok(Reply::Entry(None)));
        assert!(ask(Request { acks: Some(Acks::Async), ..put(&key) }).is_ok());
        assert!(ask(put_in(ALONE, &key)).is_ok(), "this cache has no copies");
    });
}

#[test]
fn an_applied_write_counts_only_while_lease_gate_and_row_hold() {
    run(async {
        let node = Node::start();
        let key = node.key();
        let mut shard = node.instance();
        let turn = shard.enter();
        let decided = shard.decide(&turn, &put_in(ALONE, &key));
        assert!(matches!(decided, Decided::Applied(Ok(_), 5)), "nobody is waited for");
        let holds = |shard: &Shard| shard.still_holds(&shard.look(), slot_of(key.as_bytes()), 5);
        assert!(holds(&shard));
        node.lease(0);
        assert!(!holds(&shard), "the lease ended");
        node.lease(FOREVER);
        node.serving.store(false, Relaxed);
        assert!(!holds(&shard), "the gate was closed");
        node.serving.store(true, Relaxed);
        node.change_row(6, &key, |row| *row = Row::new(ME, 6, true));
        assert!(!holds(&shard), "the slot began anew");
    });
}

#[test]
fn a_write_with_no_copy_to_wait_for_is_in_doubt_if_the_node_may_not_serve_after_it() {
    run(async {
        let node = Node::start();
        let key = node.key();
        node.held(&key).await;
        for (n, holds) in [(1, true), (2, false)] {
            let (reply, answer) = oneshot::channel();
            let effect = crate::replication::Effect::Clear { cache: CACHE };
            let (slot, since, acks) = (slot_of(key.as_bytes()), 5, Acks::All);
            let write = FanoutWrite { slot, since, n, effect, acks, answer: 0, holds };
            let origin = FanoutOrigin::Single(reply, Ok(Reply::NotFound), FOREVER);
            node.router.do_send(Fanout { origin, writes: vec![write] });
            assert_eq!(answer.await.unwrap().is_ok(), holds);
        }
    });
}

#[test]
fn another_start_of_the_node_holds_nothing_until_a_map_names_it() {
    run(async {
        let node = Node::start();
        let key = node.key();
        assert!(node.ask(put(&key)).await.is_ok());
        let before = node.shared.incarnation();
        node.shared.set_incarnation(before + 1);
        node.shard.do_send(Reset);
        node.router.do_send(crate::router::messages::Reset);
        assert_eq!(node.held(&key).await, HeldAs::Nothing);
        assert_eq!(node.ask(get(&key)).await, failed(FailureKind::NotReady, Applied::No));
        node.change(7, |map| {
            let change = Change::Admit { node: ME, incarnation: before + 1 };
            *map = map.apply(7, &[change]).0;
        });
        let fresh = node.key_where(|row| row.primary == ME && row.since == 7);
        assert_eq!(node.ask(get(&fresh)).await, Ok(Reply::Entry(None)));
        assert!(node.ask(put(&fresh)).await.is_ok());
    });
}

#[test]
fn an_import_pushes_out_what_is_colder_and_nothing_else() {
    run(async {
        let node = Node::start();
        let slot = slot_of(node.key_where(|row| row.primary == OTHER).as_bytes());
        let mut shard = node.instance();
        let (capacity, max_bytes, shards, seed) = (100, 1 << 20, 1, 42);
        let shared_seed = SharedSeed::global_fixed();
        let config = LruConfig { capacity, max_bytes, shards, seed, shared_seed };
        shard.caches[0].lru = Lru::new(config);
        let cache = node.shared.cache_hashes[0];
        let entry = |name: &str, i: u32| WireEntry {
            cache,
            key: Bytes::from(format!("{name}-{i}")),
            value: Bytes::from_static(b"value"),
            content_type: None,
            ttl_ms: None,
            version: crate::op::Version(1),
        };
        let (since, import, after, last) = (5, 1, 0, false);
        let take = |shard: &mut Shard, item: ReplicationItem| {
            let turn = shard.enter();
            let answer = shard.follow(turn.map.row(slot), item, turn.now);
            assert!(!matches!(answer, Some(AckItem::Nack { .. })), "{answer:?}");
        };
        let aged = |name: &str, count: u32, age_ms: Ms| {
            let aged = |i| AgedEntry { entry: entry(name, i), age_ms };
            let entries = (0..count).map(aged).collect();
            ReplicationItem::AgedChunk { slot, since, import, after, entries, last }
        };
        let there = |shard: &Shard, name: &str, count: u32| {
            let is_there = |i: &u32| {
                let key = entry(name, *i).key;
                shard.caches[0].lru.peek(slot, &key, node.shared.clock.now()).is_some()
            };
            (0..count).filter(is_there).count()
        };
        take(&mut shard, ReplicationItem::Begin { slot, since, stamp: 5, import, n0: 0 });
        take(&mut shard, aged("warm", 100, 10_000));
        take(&mut shard, aged("cold", 50, 3_600_000));
        assert_eq!((there(&shard, "warm", 100), there(&shard, "cold", 50)), (100, 0));
        let stats = &shard.caches[0].stats;
        let counted = (stats.entries.replica, stats.evictions.replica, stats.bytes.replica);
        assert_eq!(counted, (100, 50, shard.caches[0].lru.bytes()));
        take(&mut shard, aged("hot", 30, 100));
        assert_eq!((there(&shard, "warm", 100), there(&shard, "hot", 30)), (70, 30));
        // A peer of an older version says no ages: what it sends is as good as just used.
        let entries = (0..20).map(|i| entry("ageless", i)).collect();
        take(&mut shard, ReplicationItem::Chunk { slot, since, import, after, entries, last });
        assert_eq!((there(&shard, "warm", 100), there(&shard, "hot", 30)), (50, 30));
        assert_eq!(there(&shard, "ageless", 20), 20);
    });
}

#[test]
fn a_copy_follows_whoever_its_rules_allow_and_a_promoted_one_serves() {
    run(async {
        let node = Node::start();
        let key = node.key_where(|row| row.primary == OTHER);
        let slot = slot_of(key.as_bytes());
        let mut shard = node.instance();
        let follow = |shard: &mut Shard, item| {
            let turn = shard.enter();
            shard.follow(turn.map.row(slot), item, turn.now)
        };
        let entry = WireEntry {
            cache: node.shared.cache_hashes[0],
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from_static(b"value"),
            content_type: None,
            ttl_ms: None,
            version: crate::op::Version(1),
        };
        let (since, import) = (5, 1);
        let begin = ReplicationItem::Begin { slot, since, stamp: 5, import, n0: 0 };
        assert_eq!(follow(&mut shard, begin), None);
        let (entries, last) = (Vec::new(), true);
        let chunk = ReplicationItem::Chunk { slot, since, import, after: 0, entries, last };
        let ack = |n| Some(AckItem::Ack { slot, since, import, n, complete: true });
        assert_eq!(follow(&mut shard, chunk), ack(0));
        let effect = WireEffect::Put(entry);
        let write = ReplicationItem::Write { slot, since, import, n: 1, effect };
        assert_eq!(follow(&mut shard, write.clone()), ack(1));
        assert_eq!(follow(&mut shard, write), ack(1), "what it has it skips");

        let any = request(CACHE, &key, Op::Get { any: true });
        let turn = shard.enter();
        assert!(matches!(shard.decide(&turn, &any), Decided::Wait), "it is not in sync");
        node.change_row(6, &key, |row| assert!(row.complete(ME)));
        let turn = shard.enter();
        let Decided::Answer(read) = shard.decide(&turn, &any) else { panic!("it is in sync") };
        assert!(is_hit(&read));

        node.change_row(7, &key, |row| *row = Row::new(ME, 7, false));
        let turn = shard.enter();
        assert_eq!(shard.slots.get(slot).holding(), Holding::primary(7));
        let Decided::Answer(read) = shard.decide(&turn, &get(&key)) else { panic!("it serves") };
        assert!(is_hit(&read));
        let late = ReplicationItem::Begin { slot, since, stamp: 5, import: 2, n0: 1 };
        let refused = follow(&mut shard, late);
        assert!(matches!(refused, Some(AckItem::Nack { .. })), "a primary follows nobody");
    });
}
