#![allow(clippy::unwrap_used)]
//! Two nodes over real sockets, under maps made by hand: imports, writes with copies, promotion.

use std::net::TcpListener;

use super::bench::*;
use super::messages::{Give, HeldAs};
use super::*;
use crate::map::{Change, ClusterMap, NodeIx};
use crate::op::{Ms, Op};
use crate::peer::inbound::Inbound;
use crate::peer::{self, Listening};
use crate::router::messages::{Opened, SetLinks};
use crate::slot::{SLOTS, slot_of};

const KEYS: usize = 100;

struct Pair {
    a: Node,
    b: Node,
    _listening: [Listening; 2],
}

impl Pair {
    /// Both nodes are connected, with the first map and leases.
    fn start() -> Pair {
        Pair::start_where(true)
    }

    /// The same, and one of them may not have heard of the map yet.
    fn start_where(both_know: bool) -> Pair {
        let (a, b) = (Node::start_as("me"), Node::start_as("other"));
        for node in if both_know { vec![&a, &b] } else { vec![&a] } {
            node.found(a.shared.incarnation(), b.shared.incarnation());
            node.lease(FOREVER);
        }
        let ((at_a, guard_a), (at_b, guard_b)) = (listen(&a, OTHER), listen(&b, ME));
        a.router.do_send(SetLinks(vec![None, Some(a.link(OTHER, at_b))]));
        b.router.do_send(SetLinks(vec![Some(b.link(ME, at_a)), None]));
        Pair { a, b, _listening: [guard_a, guard_b] }
    }

    fn change(&self, epoch: u64, change: impl Fn(&mut ClusterMap)) {
        self.a.change(epoch, &change);
        self.b.change(epoch, &change);
    }

    /// Waits until every slot's copy is imported, and counts them all as in sync.
    async fn bring_copies_in_sync(&self, epoch: u64) {
        let completed = |node: &Node| node.shared.counters.imports_completed.get();
        let all = || completed(&self.a) + completed(&self.b) == u64::from(SLOTS);
        self.a.wait_until("all copies are imported", all).await;
        self.change(epoch, |map| {
            for row in &mut map.rows {
                let copy = row.importing()[0];
                assert!(row.complete(copy));
                row.stamp = epoch;
            }
        });
    }
}

/// Accepts the connections of its peer.
fn listen(node: &Node, peer: NodeIx) -> (String, Listening) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (shared, router) = (node.shared.clone(), node.router.clone());
    let on_connection = move |accepted: peer::Accepted| {
        let connection = accepted.connection;
        let inbound = Inbound::serve(shared.clone(), peer, router.clone(), connection);
        router.do_send(Opened { inbound, incarnation: shared.incarnation() });
    };
    (address, peer::listen(listener, node.params(), on_connection, |error| panic!("{error}")))
}

async fn ask(node: &Node, request: crate::op::Request) -> Answer {
    const TIMEOUT_MS: Ms = 10_000;
    node.send(request, TIMEOUT_MS).await.unwrap()
}

#[test]
fn what_was_acknowledged_is_served_by_the_promoted_copy() {
    run(async {
        let pair = Pair::start();
        let keys: Vec<String> = (0..KEYS).map(|i| format!("key-{i}")).collect();
        let (early, late) = keys.split_at(KEYS / 2);
        for key in early {
            assert!(ask(&pair.a, put(key)).await.is_ok(), "written or forwarded");
        }
        pair.bring_copies_in_sync(6).await;
        for key in late {
            assert!(ask(&pair.a, put(key)).await.is_ok(), "the copy confirmed");
        }
        let gone = pair.a.shared.incarnation();
        pair.a.lease(0);
        let promoted = keys.iter().find(|key| pair.a.row(key).primary == ME).unwrap();
        pair.b.change(7, |map| {
            *map = map.apply(7, &[Change::Remove { node: ME, incarnation: gone }]).0;
        });
        for key in &keys {
            assert!(is_hit(&ask(&pair.b, get(key)).await), "{key}");
        }
        assert_eq!(pair.b.held(promoted).await, HeldAs::Primary { since: 7, n: 0 });
        assert!(pair.b.shared.counters.slots_promoted.get() > 0);
    });
}

#[test]
fn a_copy_in_sync_that_equals_the_promoted_primary_goes_on_without_an_import() {
    run(async {
        let pair = Pair::start();
        pair.bring_copies_in_sync(6).await;
        let key = pair.a.key();
        assert!(ask(&pair.a, put(&key)).await.is_ok());
        let begun = pair.b.shared.counters.imports_begun.get();
        // The old primary gives the slot away and stays as a copy.
        let slot = slot_of(key.as_bytes());
        let give = |map: &mut ClusterMap| {
            let stamp = map.row(slot).stamp;
            let ask = crate::map::Ask::Give(OTHER);
            *map = map.apply(7, &[Change::Row { slot, stamp, ask }]).0;
        };
        pair.a.change(7, give);
        pair.a.held(&key).await;
        pair.b.change(7, give);
        assert!(is_hit(&ask(&pair.b, get(&key)).await));
        assert!(ask(&pair.b, put(&key)).await.is_ok(), "the old primary confirms it");
        assert_eq!(
            pair.a.held(&key).await,
            HeldAs::Copy { since: 7, n: 1, complete: true },
            "opened with exactly what it had"
        );
        assert_eq!(pair.b.shared.counters.imports_begun.get(), begun);
        let any = request(CACHE, &key, Op::Get { any: true });
        assert!(is_hit(&ask(&pair.a, any).await), "a copy in sync may answer");
    });
}

#[test]
fn a_slot_that_is_given_away_may_be_taken_over_before_its_old_primary_hears_of_it() {
    run(async {
        let pair = Pair::start();
        pair.bring_copies_in_sync(6).await;
        let (key, slot) = (pair.a.key(), slot_of(pair.a.key().as_bytes()));
        assert!(ask(&pair.a, put(&key)).await.is_ok());
        let begun = pair.b.shared.counters.imports_begun.get();
        let stamp = pair.a.row(&key).stamp;
        pair.a.shard.do_send(Give { slots: vec![(slot, stamp, OTHER)] });
        let parked = pair.a.send(get(&key), 10_000);
        // Only the new primary hears of the map.
        let give = |map: &mut ClusterMap| {
            let ask = crate::map::Ask::Give(OTHER);
            *map = map.apply(7, &[Change::Row { slot, stamp, ask }]).0;
        };
        pair.b.change(7, give);
        assert!(ask(&pair.b, put(&key)).await.is_ok(), "the old primary confirms it");
        let copy = HeldAs::Copy { since: 7, n: 1, complete: true };
        assert_eq!(pair.a.held(&key).await, copy);
        pair.a.change(7, give);
        assert!(is_hit(&parked.await.unwrap()), "what waited was answered by the new primary");
        assert_eq!(pair.a.held(&key).await, copy);
        assert_eq!(pair.b.shared.counters.imports_begun.get(), begun);
    });
}

/// A cluster that is founded anew counts its epochs anew: what a copy took of the one before would pass for
/// newer than all its rows.
#[test]
fn what_a_start_took_before_any_map_named_it_goes_if_it_becomes_a_member_elsewhere() {
    run(async {
        for cluster_id in [1, 2] {
            // The primary has heard of a start that has not heard of the map itself.
            let pair = Pair::start_where(false);
            let (a, b) = (&pair.a, &pair.b);
            let filled = || a.shared.counters.imports_completed.get() > 0;
            a.wait_until("copies are filled", filled).await;
            let mut filled = Vec::new();
            for key in (0..500).map(|i| format!("key-{i}")) {
                if let HeldAs::Copy { complete: true, .. } = b.held(&key).await {
                    filled.push(key);
                }
            }
            let key = filled.first().unwrap();
            let starts = [a.shared.incarnation(), b.shared.incarnation()];
            let epoch = if cluster_id == 1 { 5 } else { 1 };
            b.found_in(cluster_id, epoch, starts);
            let refused = || a.shared.counters.replication_refused.get();
            if cluster_id == 1 {
                assert!(matches!(b.held(key).await, HeldAs::Copy { complete: true, .. }));
                assert_eq!(refused(), 0);
                continue;
            }
            for key in &filled {
                assert_eq!(b.held(key).await, HeldAs::Nothing, "{key}");
            }
            let answer = a.send(put(key), 10_000);
            a.wait_until("its primary is refused", || refused() > 0).await;
            drop(answer);
            assert_eq!(b.held(key).await, HeldAs::Nothing);
        }
    });
}
