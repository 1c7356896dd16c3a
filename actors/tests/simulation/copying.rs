//! Writes and imports on their way to the copies of a slot, and what a copy does with them.

use lariat_actors::holding::{Holding, may_follow};
use lariat_actors::map::{Ask, NodeIx};
use lariat_actors::replication::Copy;
use lariat_actors::replication::fan::Out;

use super::data::KEYS;
use super::giving::taken_over;
use super::network::{Follow, Message};
use super::node::{Effect, apply};
use super::report::Bug;
use super::world::{Event, World};

impl World {
    /// Sends what a fan wants sent.
    pub fn emit(&mut self, node: NodeIx, slot: u16, out: Vec<(NodeIx, Out<Effect>)>) {
        let me = self.node(node);
        let incarnation = me.incarnation;
        let Some((since, stamp)) =
            me.slots[usize::from(slot)].fan.as_ref().map(|fan| (fan.since(), fan.stamp()))
        else {
            return;
        };
        for (to, what) in out {
            let what = match what {
                Out::Open { old_since, old_n } => Follow::Open { old_since, old_n },
                Out::Begin { import, n0 } => Follow::Begin { import, n0 },
                Out::Write { import, n, effect } => Follow::Write { import, n, effect },
                Out::Fetch { import } => {
                    let fetch =
                        Event::Fetch { node, incarnation, slot, since, to, import, from: 0 };
                    let delay = self.random.between(0, 4);
                    self.after(delay, fetch);
                    continue;
                }
            };
            self.replicate(node, to, (slot, since, stamp), what);
        }
    }

    /// Tells a copy what its primary wants of it.
    pub fn replicate(
        &mut self,
        node: NodeIx,
        to: NodeIx,
        (slot, since, stamp): (u16, u64, u64),
        what: Follow,
    ) {
        let cluster = self.node(node).map.cluster_id;
        self.send_over(node, node, to, Message::Follow { cluster, slot, since, stamp, what });
    }

    pub fn fetch(
        &mut self,
        node: NodeIx,
        slot: u16,
        since: u64,
        to: NodeIx,
        import: u64,
        from: u8,
    ) {
        let clock = self.clock(node);
        let until = from + 1 + self.random.below(u64::from(KEYS)) as u8;
        let me = self.node(node);
        let incarnation = me.incarnation;
        let held = &mut me.slots[usize::from(slot)];
        let Some(fan) = &mut held.fan else { return };
        if fan.since() != since
            || !held.holding.is_primary(since)
            || !fan.wants_chunk(to, import, clock)
        {
            return;
        }
        let range = held.data.range(from..until);
        let entries = range.map(|(key, value)| (*key, value.clone())).collect();
        let (after, last, stamp) = (fan.n(), until >= KEYS, fan.stamp());
        let what = Follow::Chunk { import, after, entries, last };
        self.replicate(node, to, (slot, since, stamp), what);
        if !last {
            let slow = if self.random.percent(10) { 400 } else { 10 };
            let delay = self.random.between(1, slow);
            self.after(
                delay,
                Event::Fetch { node, incarnation, slot, since, to, import, from: until },
            );
        }
    }

    pub fn follow(
        &mut self,
        from: NodeIx,
        to: NodeIx,
        cluster: u64,
        (slot, since, stamp): (u16, u64, u64),
        what: Follow,
    ) -> Result<(), String> {
        if !self.node(to).watch.is_open {
            return Ok(());
        }
        let (takes_any, me) = (self.has_bug(Bug::FollowsAnyCluster), self.node(to));
        let (map, start) = (me.map.clone(), me.incarnation);
        if !(takes_any || me.followed.may_take(&map, to, start, cluster)) {
            let import = what.import();
            self.send_over(from, to, from, Message::Nack { slot, since, import });
            return Ok(());
        }
        if let Follow::Hand { import, entries, first, last } = what {
            self.hand(from, to, (slot, since, stamp), import, entries, (first, last));
            return Ok(());
        }
        let compares = !self.has_bug(Bug::PromotedWithoutComparing);
        let takes_late = self.has_bug(Bug::LateImportAccepted);
        let claims = self.has_bug(Bug::CopyCallsItselfInSync);
        let takes_gaps = self.has_bug(Bug::GapTaken);
        let me = self.node(to);
        let row = map.row(slot);
        let held = &mut me.slots[usize::from(slot)];
        let is_copy = matches!(held.holding, Holding::Copy(_));
        let mut copy = match held.holding {
            Holding::None => Copy::default(),
            Holding::Copy(copy) => copy,
            Holding::Primary { .. } => match taken_over(held, (since, stamp), &what) {
                Some(copy) => {
                    held.own.clear();
                    held.holding = Holding::Copy(copy);
                    copy
                }
                // It has not heard yet that it is the primary no more.
                None => {
                    let import = 0;
                    self.send_over(from, to, from, Message::Nack { slot, since, import });
                    return Ok(());
                }
            },
        };
        let before = match held.holding {
            Holding::Copy(copy) if is_copy => copy,
            _ => Copy::default(),
        };
        let (mut wipes, mut applied) = (false, None);
        let (import, verdict) = match what {
            Follow::Open { old_since, old_n } => {
                let open =
                    may_follow(row, to, stamp).and_then(|()| copy.open(since, old_since, old_n));
                let open = if compares || since <= copy.since {
                    open
                } else {
                    copy = Copy { since, import: 0, n: 0, complete: true, stamp };
                    Ok(())
                };
                if open.is_ok() {
                    copy.stamp = stamp;
                }
                (0, open.map(|()| true))
            }
            Follow::Begin { import, n0 } => {
                let begin = may_follow(row, to, stamp).and_then(|()| copy.begin(since, import, n0));
                let begin = if begin.is_err() && takes_late && import > 0 {
                    copy = Copy { since, import, n: n0, complete: false, stamp };
                    Ok(())
                } else {
                    begin
                };
                if begin.is_ok() {
                    wipes = held.holding != Holding::None;
                    copy.stamp = stamp;
                    held.data.clear();
                    held.own.clear();
                }
                (import, begin.map(|()| false))
            }
            Follow::Chunk { import, after, entries, last } => {
                let chunk = copy.chunk(since, import, after, last);
                if chunk.is_ok() {
                    held.data.extend(entries);
                }
                (import, chunk.map(|()| true))
            }
            Follow::Hand { .. } => return Ok(()),
            Follow::Write { import, n, effect } => {
                if takes_gaps && (since, import) == (copy.since, copy.import) && n > copy.n {
                    copy.n = n - 1;
                }
                let write = copy.write(since, import, n);
                if write == Ok(true) {
                    apply(&mut held.data, &effect);
                    applied = Some((since, import, n));
                }
                (import, write.map(|_| true))
            }
        };
        if copy != Copy::default() {
            held.holding = Holding::Copy(copy);
            me.note(slot);
        }
        let data = me.slots[usize::from(slot)].data.clone();
        if (before.since, before.import) != (copy.since, copy.import) {
            self.numbers.begin(to, slot, &copy);
        }
        if let Some(at) = applied {
            self.numbers.apply(to, slot, at)?;
        }
        let latest = self.agreed.latest().row(slot);
        if wipes && latest.since == since && latest.in_sync().contains(&to) {
            return Err(format!("slot {slot}: an import wipes {to:?}, which is in sync"));
        }
        let message = match verdict {
            Ok(false) if claims => {
                self.ask_coordinator(to, slot, stamp, Ask::InSync(to));
                return Ok(());
            }
            Ok(false) => return Ok(()),
            Ok(true) => {
                if copy.complete && !claims {
                    self.oracle.copy(slot, since, copy.n, &data)?;
                }
                Message::Ack { slot, since, import, n: copy.n, complete: copy.complete }
            }
            Err(_) => Message::Nack { slot, since, import },
        };
        self.send_over(from, to, from, message);
        Ok(())
    }
}
