//! The fan-out: writes of this thread's shards on their way to their copies.
//!
//! For each slot that a shard of this thread decides there is one [`Fan`]. A slot's writes and
//! the chunks of its imports leave by one Router on one link a copy, so they arrive in the
//! primary's order. Fans begin, change and end with the rows that the shards adopt, in the order of
//! the shards' writes. What a crashed shard had passed on is still sent, until a row ends its fan.
//!
//! Bounds: the window (bytes kept until copies confirm them, over all fans of the thread), beyond
//! which shards refuse writes with copies, and those of [`super::importing`].

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Acquire;

use actix::Addr;

use super::gates::CopyGates;
use super::importing::Turns;
use super::links::Links;
use super::messages::{Acked, Fanout, LinkEvent, RowChange, Rows};
use super::saying::Late;
use super::waiting::{Waiting, Write};
use crate::map::{Ask, NodeIx, Row};
use crate::op::Acks;
use crate::peer::QUEUE_MAX_BYTES;
use crate::peer::link::{CutLink, PeerLink};
use crate::replication::fan::{Fan, Out, Phase};
use crate::replication::{Effect, Refusal};
use crate::shared::{Counter, Shared};
use crate::slot::Slot;
use crate::supervisor::{AskRows, Supervisor};
use crate::wire::{AckItem, ReplicationItem};
use crate::wire_map::effect_to_wire;

/// The largest window: a connection takes as much at once, beside requests.
const WINDOW_MAX_BYTES: u64 = (QUEUE_MAX_BYTES / 2) as u64;

/// Everything the Router knows of the copies of its shards' slots.
#[derive(Debug)]
pub struct Fans {
    pub(super) shared: Arc<Shared>,
    /// The cluster that the fans' rows are of.
    cluster_id: u64,
    gates: Rc<CopyGates>,
    supervisor: Addr<Supervisor>,
    pub(super) fans: HashMap<Slot, SlotFan>,
    pub(super) links: Links,
    pub(super) turns: Turns,
    pub(super) waiting: Waiting,
    pub(super) late: Vec<Late>,
    /// Slots whose fans may have to ask for something.
    restless: HashSet<Slot>,
    /// What is asked for at the end of this message.
    asks: Vec<(Slot, u64, Ask)>,
    pub(super) window_bytes: u64,
    pub(super) window_max: u64,
    told_bytes: u64,
    told_imports: u64,
}

/// The fan of one slot.
#[derive(Debug)]
pub(super) struct SlotFan {
    pub fan: Fan<Effect, Write>,
    /// The gate of the shard's instance that began it.
    serving: Arc<AtomicBool>,
    is_restless: bool,
    /// The stamp under which something was asked for at once.
    asked: u64,
}

impl Fans {
    /// The gates of this thread.
    pub fn gates(&self) -> Rc<CopyGates> {
        self.gates.clone()
    }

    pub fn new(shared: Arc<Shared>, gates: Rc<CopyGates>, supervisor: Addr<Supervisor>) -> Self {
        // Half of the budget may wait for copies; the rest is for bodies and responses.
        let share = shared.inflight.limit() / 2 / shared.workers as u64;
        // All of it may have to be sent again at once.
        let window_max = share.min(WINDOW_MAX_BYTES);
        Fans {
            waiting: Waiting::new(shared.clone()),
            late: Vec::new(),
            turns: Turns::new(shared.import_rate / shared.shard_threads() as u64),
            shared,
            cluster_id: 0,
            gates,
            supervisor,
            fans: HashMap::new(),
            links: Links::default(),
            restless: HashSet::new(),
            asks: Vec::new(),
            window_bytes: 0,
            window_max,
            told_bytes: 0,
            told_imports: 0,
        }
    }

    /// The link to the member after those that it has links to; `None` for this node, and for one
    /// without an address.
    pub fn add_link(&mut self, link: Option<Addr<PeerLink>>) {
        self.links.add(link);
    }

    /// Members that it has been given links to.
    pub fn linked(&self) -> usize {
        self.links.len()
    }

    pub fn link(&self, peer: NodeIx) -> Option<&Addr<PeerLink>> {
        self.links.get(peer).map(|link| &link.addr)
    }

    pub fn is_up(&self, peer: NodeIx) -> bool {
        self.links.is_up(peer)
    }

    pub fn peers_up(&self) -> Vec<NodeIx> {
        self.links.all().filter(|(_, link)| link.up).map(|(peer, _)| peer).collect()
    }

    /// Takes in rows that a shard has adopted.
    pub fn rows(&mut self, rows: Rows) {
        self.cluster_id = rows.cluster_id;
        for news in rows.rows {
            let slot = news.slot;
            match news.what {
                RowChange::Begins { old } => {
                    self.end(slot);
                    let (fan, serving) = (Fan::new(news.row.since, old), rows.serving.clone());
                    let fan = SlotFan { fan, serving, is_restless: false, asked: 0 };
                    self.fans.insert(slot, fan);
                    self.adopt(slot, &news.row);
                }
                RowChange::Retarget => self.adopt(slot, &news.row),
                RowChange::Ends => {
                    let is_ours = news.row.primary == self.shared.me;
                    let stays = |held: &SlotFan| is_ours && held.fan.since() == news.row.since;
                    if self.fans.get(&slot).is_some_and(|held| !stays(held)) {
                        self.end(slot);
                    }
                }
            }
        }
        self.say_late();
        self.flush();
    }

    /// Ends every fan: this node is another start. The links dial again with it.
    pub fn reset(&mut self) {
        let slots: Vec<Slot> = self.fans.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.end(slot));
        self.say_late();
        self.restless.clear();
        for (_, link) in self.links.all_mut() {
            link.lose();
            link.addr.do_send(CutLink);
        }
        self.flush();
    }

    /// Sends writes to their copies and answers once those that are waited for have confirmed.
    pub fn fan_out(&mut self, fanout: Fanout) {
        let now = self.shared.clock.now();
        // Kept once for this call itself: an answer that waits for nobody leaves at its end.
        let key = self.waiting.open(fanout.origin);
        for write in fanout.writes {
            let waits = Write { key, answer: write.answer };
            let all = write.acks == Acks::All;
            let is_there = |held: &SlotFan| held.fan.since() == write.since;
            if !self.fans.get(&write.slot).is_some_and(is_there) {
                self.waiting.mark(waits);
                continue;
            }
            let needed = self.change(write.slot, |fan, out| {
                let needed = if all { fan.needed() } else { 0 };
                let n = fan.write(&write.effect, all.then_some(waits), now, out);
                debug_assert_eq!(n, write.n, "the shard counts the same writes");
                needed
            });
            match needed.unwrap_or(0) {
                0 if !write.holds => self.waiting.mark(waits),
                needed => self.waiting.add(key, needed),
            }
        }
        self.flush();
        self.waiting.confirm(key);
    }

    pub fn acked(&mut self, acked: Acked) {
        let mut confirmed = Vec::new();
        for item in acked.items {
            match item {
                AckItem::Ack { slot, since, import, n, complete } => {
                    let at = (since, import, n);
                    self.ack(acked.peer, slot, at, complete, &mut confirmed);
                }
                AckItem::Handed { slot, stamp, .. } => self.handed(acked.peer, slot, stamp),
                AckItem::Nack { slot, since, import, held_since, held_n, reason, .. } => {
                    self.shared.counters.replication_refused.add(1);
                    let is_gap = reason == Refusal::Gap;
                    self.shared.counters.replication_gaps.add(u64::from(is_gap));
                    tracing::debug!(node = %self.shared.id, slot, since, import, held_since, held_n,
                        ?reason, "copy refused replication");
                    self.change(slot, |fan, _| fan.refused(acked.peer, since, import));
                    self.end_import(acked.peer, slot, import);
                    self.ask_at_once(slot);
                }
            }
        }
        self.shared.counters.replication_confirmed.add(confirmed.len() as u64);
        confirmed.into_iter().for_each(|(slot, since, write)| self.say(slot, since, write));
        self.flush();
    }

    pub fn link_news(&mut self, peer: NodeIx, event: LinkEvent) {
        let Some(link) = self.links.get_mut(peer) else { return };
        let slots: Vec<Slot> = self.fans.keys().copied().collect();
        match event {
            LinkEvent::Up { incarnation } => {
                let same = std::mem::replace(&mut link.incarnation, incarnation) == incarnation;
                link.up = true;
                let mut resent = 0;
                for slot in slots {
                    self.change(slot, |fan, out| {
                        fan.link_up(peer, same, out);
                        resent +=
                            out.iter().filter(|(_, o)| matches!(o, Out::Write { .. })).count();
                    });
                }
                self.shared.counters.replication_writes_resent.add(resent as u64);
            }
            LinkEvent::Lost => {
                link.lose();
                for slot in slots {
                    self.change(slot, |fan, _| fan.link_lost(peer));
                }
            }
        }
        self.flush();
    }

    /// Asks again for what has not been agreed yet, and answers what is past its deadline.
    pub fn tick(&mut self) {
        let now = self.shared.clock.now();
        self.tend_imports();
        self.say_late();
        for slot in std::mem::take(&mut self.restless) {
            let Some(held) = self.fans.get_mut(&slot) else { continue };
            held.is_restless = !held.fan.is_quiet();
            if held.is_restless {
                self.restless.insert(slot);
                self.ask(slot);
            }
        }
        self.waiting.expire(now);
        self.flush();
    }

    fn ack(
        &mut self,
        peer: NodeIx,
        slot: Slot,
        at: (u64, u64, u64),
        complete: bool,
        confirmed: &mut Vec<(Slot, u64, Write)>,
    ) {
        let now = self.shared.clock.now();
        let Some(was) = self.fans.get(&slot).and_then(|held| held.fan.phase(peer)) else {
            self.count_late(slot, at);
            return;
        };
        let counts = self.change(slot, |fan, _| {
            fan.acked(peer, at, complete, now, |write| confirmed.push((slot, at.0, write)))
        });
        let import = at.1;
        if counts != Some(true) {
            self.count_late(slot, at);
        } else if complete && was == Phase::Importing {
            self.shared.counters.imports_completed.add(1);
            self.end_import(peer, slot, import);
        } else {
            self.go_on_importing(peer, slot, import);
        }
        let wants_more = |fan: &Fan<_, _>| !fan.is_complete() || fan.is_giving();
        if self.fans.get(&slot).is_some_and(|held| wants_more(&held.fan)) {
            self.ask_at_once(slot);
        }
    }

    /// An acknowledgement belongs to an earlier primary, copy or import.
    fn count_late(&self, slot: Slot, (since, import, n): (u64, u64, u64)) {
        self.shared.counters.late_answers.add(1);
        tracing::debug!(node = %self.shared.id, slot, since, import, n, "late acknowledgement");
    }

    /// A row names the copies of a slot.
    fn adopt(&mut self, slot: Slot, row: &Row) {
        let now = self.shared.clock.now();
        let up: Vec<NodeIx> = row.replicas().filter(|&copy| self.is_up(copy)).collect();
        let mut released = Vec::new();
        self.change(slot, |fan, out| {
            let is_up = |copy: NodeIx| up.contains(&copy);
            fan.adopt(row, now, is_up, |write| released.push(write), out);
        });
        // The row that lost the copy may be older than one that took the slot from this node.
        released.into_iter().for_each(|write| self.say(slot, row.since, write));
    }

    fn end(&mut self, slot: Slot) {
        let Some(SlotFan { fan, .. }) = self.fans.remove(&slot) else { return };
        self.window_bytes -= fan.bytes();
        self.links.forget_slot(slot);
        fan.into_waiting().for_each(|write| self.waiting.doubt(write));
    }

    /// Is the gate open of the instance that decided the slot's writes?
    pub(super) fn is_serving(&self, slot: Slot) -> bool {
        self.fans.get(&slot).is_some_and(|held| held.serving.load(Acquire))
    }

    /// The copies of a slot that its row calls in sync, if it is decided here.
    pub(super) fn copies_in_sync(&self, slot: Slot) -> Vec<NodeIx> {
        self.fans.get(&slot).map_or(Vec::new(), |held| held.fan.copies_in_sync().collect())
    }

    /// Changes a fan, and sends or fetches what it wants.
    pub(super) fn change<R>(
        &mut self,
        slot: Slot,
        change: impl FnOnce(&mut Fan<Effect, Write>, &mut Vec<(NodeIx, Out<Effect>)>) -> R,
    ) -> Option<R> {
        let held = self.fans.get_mut(&slot)?;
        let (before, mut out) = (held.fan.bytes(), Vec::new());
        let result = change(&mut held.fan, &mut out);
        self.window_bytes = self.window_bytes + held.fan.bytes() - before;
        if !held.is_restless && !held.fan.is_quiet() {
            held.is_restless = true;
            self.restless.insert(slot);
        }
        let place = (held.fan.since(), held.fan.stamp());
        for (peer, want) in out {
            self.emit(peer, slot, place, want);
        }
        Some(result)
    }

    fn emit(&mut self, peer: NodeIx, slot: Slot, (since, stamp): (u64, u64), want: Out<Effect>) {
        let Some(link) = self.links.get_mut(peer) else { return };
        match want {
            Out::Open { old_since, old_n } => {
                link.items.push(ReplicationItem::Open { slot, since, stamp, old_since, old_n });
            }
            Out::Begin { import, n0 } => {
                self.shared.counters.imports_begun.add(1);
                // An import of the same slot before it has lost its turn.
                link.active.remove(&slot);
                link.items.push(ReplicationItem::Begin { slot, since, stamp, import, n0 });
            }
            Out::Fetch { import } => self.begin_import(peer, slot, import),
            Out::Write { import, n, effect } => {
                self.shared.counters.replication_writes_sent.add(1);
                let effect = effect_to_wire(&self.shared, &effect, self.shared.clock.now());
                link.items.push(ReplicationItem::Write { slot, since, import, n, effect });
            }
        }
    }

    /// Asks as soon as there is something to ask for, once under each row.
    pub(super) fn ask_at_once(&mut self, slot: Slot) {
        if self.fans.get(&slot).is_some_and(|held| held.asked != held.fan.stamp()) {
            self.ask(slot);
        }
    }

    /// Collects what a fan asks the coordinator for. Without a lease this node may be the one that
    /// is cut off, and a shard that ended has no say in who holds its slots.
    fn ask(&mut self, slot: Slot) {
        let now = self.shared.clock.now();
        let Some(held) = self.fans.get_mut(&slot) else { return };
        if !self.shared.lease.is_valid(now) || !held.serving.load(Acquire) {
            return;
        }
        let timeout = self.shared.cluster.failure_timeout_ms;
        let asks = held.fan.asks(now, self.shared.lease.since(), timeout);
        if !asks.is_empty() {
            held.asked = held.fan.stamp();
        }
        self.back_off(slot, &asks);
        self.asks.extend(asks.into_iter().map(|(stamp, ask)| (slot, stamp, ask)));
    }

    /// Hands what has piled up to the links and to the Supervisor, one message each.
    pub(super) fn flush(&mut self) {
        if self.turns.is_due {
            self.read_chunks();
        }
        self.links.flush(self.cluster_id);
        if !self.asks.is_empty() {
            self.supervisor.do_send(AskRows { asks: std::mem::take(&mut self.asks) });
        }
        self.gates.set_full(self.window_bytes > self.window_max);
        let counters = &self.shared.counters;
        tell(&counters.replication_unacked_bytes, &mut self.told_bytes, self.window_bytes);
        tell(&counters.imports_in_flight, &mut self.told_imports, self.links.imports());
    }
}

/// Brings this thread's share of a gauge up to date.
fn tell(gauge: &Counter, told: &mut u64, now: u64) {
    match now >= *told {
        true => gauge.add(now - *told),
        false => gauge.sub(*told - now),
    }
    *told = now;
}
