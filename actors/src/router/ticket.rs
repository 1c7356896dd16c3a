//! Tickets: what the Router remembers of a batch until each request of it is answered.
//!
//! The Router holds no futures. It keeps a ticket, sends parts to shards and links, and they send
//! results back; a result whose ticket is gone is late and dropped.

use actix::Addr;

use crate::admission::Permit;
use crate::map::NodeIx;
use crate::op::{Answer, Applied, Failure, FailureKind, Ms};
use crate::peer::inbound::Inbound;
use crate::router::messages::CallReply;
use crate::shard::messages::{Item, PartAnswer};

/// Who asked.
#[derive(Debug)]
pub enum Origin {
    /// A client of this node.
    Caller(CallReply),
    /// A peer that forwarded the batch.
    Peer {
        /// The connection it came by.
        from: Addr<Inbound>,
        /// The peer's number for it.
        id: u64,
    },
}

/// One batch under way.
#[derive(Debug)]
pub struct Ticket {
    /// Who asked.
    pub origin: Origin,
    /// When the asker stops waiting.
    pub deadline: Ms,
    /// Gets beyond this many bytes of replies are left out.
    pub max_reply_bytes: u64,
    /// The bytes under way with it, if nobody else counts them.
    pub bytes: Option<Permit>,
    /// One state per request.
    states: Vec<State>,
    /// Requests not answered yet.
    open: usize,
    /// What was sent to peers, kept for trying again what may be tried again.
    sent: Vec<Kept>,
    next_part: u32,
}

/// A part that went to a peer.
#[derive(Debug)]
struct Kept {
    part: u32,
    peer: NodeIx,
    items: Vec<Item>,
}

#[derive(Debug)]
enum State {
    /// Not sent to anyone: nothing can have been applied.
    Unsent { write: bool },
    /// Sent with this part.
    Sent { write: bool, part: u32 },
    /// Answered.
    Answered(PartAnswer),
}

impl Ticket {
    /// A ticket for requests of which these are writes.
    pub fn new(
        origin: Origin,
        deadline: Ms,
        max_reply_bytes: u64,
        writes: impl Iterator<Item = bool>,
    ) -> Self {
        let states: Vec<State> = writes.map(|write| State::Unsent { write }).collect();
        let open = states.len();
        let (sent, next_part, bytes) = (Vec::new(), 0, None);
        Ticket { origin, deadline, max_reply_bytes, bytes, states, open, sent, next_part }
    }

    /// Is every request answered?
    pub fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Marks these requests as sent; gives the number of the new part.
    pub fn send(&mut self, indexes: impl Iterator<Item = u32>) -> u32 {
        let part = self.next_part;
        self.next_part += 1;
        for index in indexes {
            let state = &mut self.states[index as usize];
            if let State::Unsent { write } | State::Sent { write, .. } = *state {
                *state = State::Sent { write, part };
            }
        }
        part
    }

    /// Keeps the requests of a part that went to a peer.
    pub fn keep(&mut self, part: u32, peer: NodeIx, items: Vec<Item>) {
        self.sent.push(Kept { part, peer, items });
    }

    /// Takes the kept requests of a part.
    pub fn take_kept(&mut self, part: u32) -> Vec<Item> {
        match self.sent.iter().position(|kept| kept.part == part) {
            Some(at) => self.sent.swap_remove(at).items,
            None => Vec::new(),
        }
    }

    /// Some of the kept requests of a part, by their indexes. All stay: places among them say
    /// what was sent.
    pub fn kept(&self, part: u32, mut indexes: Vec<u32>) -> Vec<Item> {
        if indexes.is_empty() {
            return Vec::new();
        }
        indexes.sort_unstable();
        let is_wanted = |item: &&Item| indexes.binary_search(&item.index).is_ok();
        let kept = self.sent.iter().find(|kept| kept.part == part);
        kept.iter().flat_map(|kept| &kept.items).filter(is_wanted).cloned().collect()
    }

    /// Keeps nothing of a part that has all its answers: a request that nobody decides is sent
    /// again and again.
    pub fn done_with(&mut self, part: u32) {
        let Some(at) = self.sent.iter().position(|kept| kept.part == part) else { return };
        let kept = &self.sent[at];
        if !kept.items.iter().any(|item| self.waits_for(item.index, part)) {
            self.sent.swap_remove(at);
        }
    }

    /// The peer that a part went to.
    pub fn asked(&self, part: u32) -> Option<NodeIx> {
        self.sent.iter().find(|kept| kept.part == part).map(|kept| kept.peer)
    }

    /// Is this request still waiting for this part? A later answer changes nothing.
    pub fn waits_for(&self, index: u32, part: u32) -> bool {
        matches!(self.states.get(index as usize), Some(State::Sent { part: p, .. }) if *p == part)
    }

    /// Makes a request unsent again; nothing of it was applied.
    pub fn unsend(&mut self, index: u32) {
        if let Some(state) = self.states.get_mut(index as usize)
            && let State::Sent { write, .. } = *state
        {
            *state = State::Unsent { write };
        }
    }

    /// Answers one request, once.
    pub fn answer(&mut self, index: u32, answer: PartAnswer) {
        if let Some(state) = self.states.get_mut(index as usize)
            && !matches!(state, State::Answered(_))
        {
            *state = State::Answered(answer);
            self.open -= 1;
        }
    }

    /// Answers what still waits for this part; writes with `maybe`.
    pub fn fail_part(&mut self, part: u32, kind: FailureKind) {
        self.fail_where(|p| p == Some(part), |_| kind);
    }

    /// Answers everything that is open. What was never sent was not applied; returns how much
    /// that was.
    pub fn fail_all(&mut self, unsent: FailureKind, sent: FailureKind) -> usize {
        let is_unsent = |state: &&State| matches!(state, State::Unsent { .. });
        let count = self.states.iter().filter(is_unsent).count();
        self.fail_where(|_| true, |was_sent| if was_sent { sent } else { unsent });
        count
    }

    fn fail_where(
        &mut self,
        which: impl Fn(Option<u32>) -> bool,
        kind: impl Fn(bool) -> FailureKind,
    ) {
        for state in &mut self.states {
            let (write, part) = match *state {
                State::Unsent { write } => (write, None),
                State::Sent { write, part } => (write, Some(part)),
                State::Answered(_) => continue,
            };
            if which(part) {
                let applied = if write && part.is_some() { Applied::Maybe } else { Applied::No };
                let failure = Failure { kind: kind(part.is_some()), applied };
                *state = State::Answered(PartAnswer::Done(Err(failure)));
                self.open -= 1;
            }
        }
    }

    /// Sends the answers to who asked. Every request must be answered.
    pub fn deliver(mut self) {
        // Whoever has the answers may send as much again.
        self.bytes = None;
        let answers = self.states.into_iter().map(|state| match state {
            State::Answered(answer) => answer,
            State::Unsent { .. } | State::Sent { .. } => {
                PartAnswer::Done(Err(FailureKind::NotReady.not_applied()))
            }
        });
        // A caller that hung up wants no answer.
        match self.origin {
            Origin::Caller(CallReply::One(reply)) => {
                let first = answers.map(decided).next();
                let _ = reply.send(first.unwrap_or(Err(FailureKind::NotReady.not_applied())));
            }
            Origin::Caller(CallReply::Many(reply)) => {
                let _ = reply.send(answers.map(decided).collect());
            }
            Origin::Peer { from, id } => {
                let answers = answers.collect();
                from.do_send(crate::peer::inbound::Served { id, answers });
            }
        }
    }
}

fn decided(answer: PartAnswer) -> Answer {
    match answer {
        PartAnswer::Done(answer) => answer,
        PartAnswer::NotOwner { .. } => Err(FailureKind::NotReady.not_applied()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::op::{CacheId, Op, Request};

    fn items(count: u32) -> Vec<Item> {
        let op = Op::Get { any: false };
        let request = Request { cache: CacheId(0), slot: 0, key: Bytes::new(), op, acks: None };
        (0..count).map(|index| Item { index, request: request.clone() }).collect()
    }

    fn ticket(count: u32) -> Ticket {
        let origin = Origin::Caller(CallReply::Many(oneshot::channel().0));
        Ticket::new(origin, 0, 0, (0..count).map(|_| true))
    }

    #[test]
    fn nothing_is_kept_of_a_part_without_open_requests() {
        let mut ticket = ticket(2);
        for _ in 0..100 {
            let part = ticket.send([0, 1].into_iter());
            ticket.keep(part, NodeIx(1), items(2));
            ticket.unsend(0);
            ticket.done_with(part);
            assert_eq!(ticket.kept(part, vec![1]).len(), 1, "one is still open");
            ticket.unsend(1);
            ticket.done_with(part);
            assert!(ticket.sent.is_empty());
        }
    }

    #[test]
    fn some_of_what_is_kept_comes_in_its_order_and_all_of_it_stays() {
        let mut ticket = ticket(5);
        let part = ticket.send([1, 2, 4].into_iter());
        let kept = items(5).into_iter().filter(|item| item.index % 3 != 0);
        ticket.keep(part, NodeIx(1), kept.collect());
        let indexes = |items: Vec<Item>| items.iter().map(|item| item.index).collect::<Vec<_>>();
        assert_eq!(indexes(ticket.kept(part, vec![4, 3, 2])), [2, 4]);
        assert!(ticket.kept(part + 1, vec![1]).is_empty());
        assert_eq!(indexes(ticket.take_kept(part)), [1, 2, 4]);
    }
}
