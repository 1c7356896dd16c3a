//! Where requests go.
//!
//! Requests for one key stay in their order, so all that is routed at a time goes by one [`View`]: with a
//! look for each, a lease or a shard that comes in between would send the later ones ahead of the
//! earlier, which wait.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use actix::Context;

use super::ticket::Origin;
use super::{Parked, Router};
use crate::map::{ClusterMap, NodeIx};
use crate::op::{Op, Request};
use crate::shard::messages::Item;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Target {
    Shard(usize),
    Peer(NodeIx),
    /// Nobody whom this node may ask can decide it now.
    Nobody,
}

/// What decides where requests go, at one moment.
struct View {
    has_lease: bool,
    map: Arc<ClusterMap>,
    /// Others have taken over what the map says to be this node's.
    has_left: bool,
    /// Which shards are there.
    open: Vec<bool>,
}

impl Router {
    fn view(&self) -> View {
        let shared = &self.shared;
        let has_lease = shared.lease.is_valid(shared.clock.now());
        let shards = shared.registry.get().map(|registry| &registry.shards[..]);
        let open = match shards {
            Some(shards) => shards.iter().map(|s| s.load().serving.load(Acquire)).collect(),
            None => vec![false; shared.shards],
        };
        let (map, has_left) = (shared.map.load_full(), shared.left.load(Relaxed));
        View { has_lease, map, has_left, open }
    }

    /// Where a request goes now; a batch that a peer forwarded is not forwarded again.
    fn target(&self, view: &View, request: &Request, may_forward: bool) -> Target {
        let has_lease = view.has_lease;
        let (row, me) = (view.map.row(request.slot), self.shared.me);
        let reads_any = matches!(request.op, Op::Get { any: true })
            && self.shared.is_replicated(request.cache)
            && row.in_sync().contains(&me);
        match row.primary {
            primary if !view.has_left && (primary == me || reads_any && has_lease) => {
                let shard = self.shared.shard_of(request.slot);
                // A shard that has ended is made again; what comes meanwhile waits for it.
                let may_decide = has_lease && view.open[shard];
                if may_decide { Target::Shard(shard) } else { Target::Nobody }
            }
            primary if may_forward => self.way(request.slot, primary),
            _ => Target::Nobody,
        }
    }

    /// Sends requests to their owners, one message each; those without one wait, or go back to
    /// the peer that forwarded them.
    pub(super) fn route(&mut self, id: u64, items: Vec<Item>, ctx: &mut Context<Self>) {
        let view = self.view();
        self.route_by(&view, id, items, ctx);
    }

    fn route_by(&mut self, view: &View, id: u64, items: Vec<Item>, ctx: &mut Context<Self>) {
        let Some(ticket) = self.ticket(id) else { return };
        let may_forward = matches!(ticket.origin, Origin::Caller(_));
        let mut groups: Vec<(Target, Vec<Item>)> = Vec::new();
        for item in items {
            let target = self.target(view, &item.request, may_forward);
            match groups.iter_mut().find(|(t, _)| *t == target) {
                Some((_, group)) => group.push(item),
                None => groups.push((target, vec![item])),
            }
        }
        for (target, group) in groups {
            match target {
                Target::Shard(shard) => self.send_to_shard(id, shard, group, ctx),
                Target::Peer(peer) => self.send_to_peer(id, peer, group),
                Target::Nobody if may_forward => self.park(id, group),
                Target::Nobody => self.hand_back(id, group),
            }
        }
    }

    /// Tries what is parked once more; requests of one ticket stay together and in their order.
    pub(super) fn unpark(&mut self, ctx: &mut Context<Self>) {
        let mut parked = std::mem::take(&mut self.parked);
        parked.retain(|parked| self.ticket(parked.ticket).is_some());
        let view = self.view();
        let goes =
            |parked: &Parked| self.target(&view, &parked.item.request, true) != Target::Nobody;
        let (go, stay): (Vec<_>, Vec<_>) = parked.into_iter().partition(goes);
        self.parked = stay;
        let mut parked = go.into_iter().peekable();
        while let Some(Parked { ticket, item }) = parked.next() {
            let mut items = vec![item];
            while let Some(same) = parked.next_if(|next| next.ticket == ticket) {
                items.push(same.item);
            }
            self.route_by(&view, ticket, items, ctx);
            self.settle(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::AtomicBool;

    use tokio::sync::oneshot;

    use super::*;
    use crate::op::{Precondition, Reply, Ttl};
    use crate::router::messages::{Call, CallReply};
    use crate::shard::bench::*;

    #[test]
    fn requests_for_one_key_stay_in_order_while_the_lease_comes_and_goes() {
        run(async {
            let node = Node::start();
            let key = node.key();
            let (shared, is_over) = (node.shared.clone(), Arc::new(AtomicBool::new(false)));
            let seen = is_over.clone();
            let flips = std::thread::spawn(move || {
                for until in [FOREVER, 0].into_iter().cycle() {
                    if seen.load(Relaxed) {
                        break;
                    }
                    shared.lease.publish(until, 1);
                }
                shared.lease.publish(FOREVER, 1);
            });
            for _ in 0..200 {
                let (reply, answers) = oneshot::channel();
                let incr = |_| {
                    let (ttl, when) = (Ttl::Never, Precondition::none());
                    request(ALONE, &key, Op::Incr { by: 1, initial: 0, ttl, when })
                };
                let requests = (0..200).map(incr).collect();
                let deadline = node.shared.clock.now() + 20_000;
                let reply = CallReply::Many(reply);
                let (max_reply_bytes, bytes) = (u64::MAX, None);
                node.router.do_send(Call { requests, deadline, max_reply_bytes, reply, bytes });
                let answers = answers.await.unwrap();
                let numbers = answers.iter().filter_map(|answer| match answer {
                    Ok(Reply::Number { value, .. }) => Some(*value),
                    // The lease was out when it had been applied.
                    _ => None,
                });
                assert!(numbers.is_sorted(), "{answers:?}");
            }
            is_over.store(true, Relaxed);
            flips.join().unwrap();
        });
    }
}
