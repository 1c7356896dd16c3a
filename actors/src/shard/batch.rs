//! The part of a batch that concerns one shard, as a Router sends it.

use actix::{Context, Handler};

use super::messages::{Batch, Item, PartAnswer, ReplyTo};
use super::rows::Turn;
use super::{Decided, Shard, reply_bytes};
use crate::admission::Pass;
use crate::op::FailureKind;
use crate::router::messages::{Fanout, FanoutOrigin, FanoutWrite};
use crate::slot::Slot;

/// A batch of which some is decided, all of it by the same map and lease: nothing else happens to the shard
/// before the last of it.
struct Deciding {
    turn: Turn,
    left: std::vec::IntoIter<Item>,
    answers: Vec<(u32, PartAnswer)>,
    writes: Vec<FanoutWrite>,
    /// Answers that are true only if the node may still serve in the end.
    applied: Vec<(usize, Slot, u64)>,
    bytes: u64,
    max_reply_bytes: u64,
    reply: ReplyTo,
    _pass: Pass,
}

impl Handler<Batch> for Shard {
    type Result = ();
    fn handle(&mut self, batch: Batch, ctx: &mut Context<Self>) {
        let Batch { items, reply, max_reply_bytes, pass } = batch;
        let batch = Deciding {
            turn: self.enter(),
            answers: Vec::with_capacity(items.len()),
            left: items.into_iter(),
            writes: Vec::new(),
            applied: Vec::new(),
            bytes: 0,
            max_reply_bytes,
            reply,
            _pass: pass,
        };
        self.decide_batch(batch, ctx);
    }
}

impl Shard {
    fn decide_batch(&mut self, mut batch: Deciding, ctx: &mut Context<Self>) {
        while let Some(item) = batch.left.as_slice().first() {
            if self.owes(&item.request) {
                self.pay_and(ctx, move |shard, ctx| {
                    shard.look_on(&mut batch.turn);
                    shard.decide_batch(batch, ctx);
                });
                return;
            }
            let Some(item) = batch.left.next() else { break };
            if batch.bytes > batch.max_reply_bytes && !item.request.op.is_write() {
                let failure = FailureKind::ReplyTooLarge.not_applied();
                batch.answers.push((item.index, PartAnswer::Done(Err(failure))));
                continue;
            }
            batch.bytes += self.look_bytes(&item.request);
            let answer = match self.decide(&batch.turn, &item.request) {
                Decided::Answer(answer) => PartAnswer::Done(answer),
                Decided::Applied(answer, since) => {
                    batch.applied.push((batch.answers.len(), item.request.slot, since));
                    PartAnswer::Done(answer)
                }
                Decided::AfterCopies(answer, mut write) => {
                    write.answer = batch.answers.len();
                    batch.writes.push(write);
                    PartAnswer::Done(answer)
                }
                Decided::Wait => {
                    let (epoch, request) = (batch.turn.map.epoch, Some(item.request));
                    PartAnswer::NotOwner { epoch, request }
                }
            };
            if let PartAnswer::Done(answer) = &answer {
                batch.bytes += reply_bytes(answer);
            }
            batch.answers.push((item.index, answer));
        }
        self.publish();
        self.settle(ctx);
        self.answer_batch(batch);
    }

    fn answer_batch(&self, batch: Deciding) {
        let Deciding { mut answers, mut writes, applied, reply, .. } = batch;
        if !(applied.is_empty() && writes.is_empty()) {
            let after = self.look();
            for (answer, slot, since) in applied {
                if !self.still_holds(&after, slot, since) {
                    answers[answer].1 = PartAnswer::Done(Err(self.shared.unknown()));
                }
            }
            for write in &mut writes {
                write.holds = self.still_holds(&after, write.slot, write.since);
            }
        }
        if writes.is_empty() {
            reply.answer(answers);
        } else {
            let origin = FanoutOrigin::Part(reply, answers);
            self.router.do_send(Fanout { origin, writes });
        }
    }
}
