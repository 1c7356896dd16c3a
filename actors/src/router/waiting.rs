//! Answers that wait for copies to confirm writes.
//!
//! Each copy that a write waits for reports it once: confirmed, or in doubt because the slot was
//! taken from this node. An answer leaves when everything it waits for has been reported.

use std::sync::Arc;

use slab::Slab;

use super::messages::FanoutOrigin;
use crate::op::{Answer, Failure, FailureKind, Ms};
use crate::shard::messages::PartAnswer;
use crate::shared::Shared;

/// A write in an answer that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// What [`Waiting::open`] gave.
    pub key: usize,
    /// Which of its answers the write belongs to.
    pub answer: usize,
}

/// The answers that wait, of one worker thread.
#[derive(Debug)]
pub struct Waiting {
    shared: Arc<Shared>,
    all: Slab<One>,
}

#[derive(Debug)]
struct One {
    /// `None` once it was answered at its deadline.
    origin: Option<FanoutOrigin>,
    open: usize,
}

impl Waiting {
    pub fn new(shared: Arc<Shared>) -> Self {
        Waiting { shared, all: Slab::new() }
    }

    /// Keeps an answer until it is confirmed once, and once more for everything added.
    pub fn open(&mut self, origin: FanoutOrigin) -> usize {
        self.all.insert(One { origin: Some(origin), open: 1 })
    }

    /// The answer waits for `more` reports.
    pub fn add(&mut self, key: usize, more: usize) {
        if let Some(one) = self.all.get_mut(key) {
            one.open += more;
        }
    }

    /// Something that the answer waited for is there.
    pub fn confirm(&mut self, key: usize) {
        let Some(one) = self.all.get_mut(key) else { return };
        one.open -= 1;
        if one.open == 0
            && let Some(origin) = self.all.remove(key).origin
        {
            deliver(origin);
        }
    }

    /// What a write waited for will not come: it may be lost or not. That was one report.
    pub fn doubt(&mut self, write: Write) {
        self.mark(write);
        self.confirm(write.key);
    }

    /// Nothing can be said of a write.
    pub fn mark(&mut self, write: Write) {
        let Some(One { origin: Some(origin), .. }) = self.all.get_mut(write.key) else { return };
        match origin {
            FanoutOrigin::Single(_, answer, _) => *answer = fail(&self.shared, answer),
            FanoutOrigin::Part(_, answers) => {
                if let Some((_, PartAnswer::Done(answer))) = answers.get_mut(write.answer) {
                    *answer = fail(&self.shared, answer);
                }
            }
        }
    }

    /// Answers single requests whose caller stops waiting; the others have tickets.
    pub fn expire(&mut self, now: Ms) {
        for (_, one) in &mut self.all {
            if let Some(FanoutOrigin::Single(_, answer, deadline)) = &mut one.origin
                && *deadline <= now
            {
                *answer = Err(FailureKind::DeadlineExceeded.maybe());
                self.shared.counters.deadline_exceeded.add(1);
                one.origin.take().into_iter().for_each(deliver);
            }
        }
    }
}

fn fail(shared: &Shared, before: &Answer) -> Answer {
    let unknown: Failure = match before {
        Err(failure) => *failure,
        Ok(_) => shared.unknown(),
    };
    Err(unknown)
}

fn deliver(origin: FanoutOrigin) {
    match origin {
        // A caller that hung up wants no answer.
        FanoutOrigin::Single(reply, answer, _) => drop(reply.send(answer)),
        FanoutOrigin::Part(reply, answers) => reply.answer(answers),
    }
}
