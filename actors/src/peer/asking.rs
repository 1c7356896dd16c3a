//! What a link has asked of its peer and has no answer to: the requests of each part, frame by
//! frame, and a window of how much that may be.
//!
//! A part is sent in frames that a peer takes whatever they carry. The next leaves when the one
//! before is answered, and not at all if the peer does not decide some of it: so the requests for
//! one key stay in their order, and what was never sent can be sent to somebody else.

use std::collections::HashMap;
use std::vec::IntoIter;

use super::link::Forward;
use crate::op::{Ms, Request};
use crate::shard::messages::{Item, PartAnswer};
use crate::wire::PeerAnswer;

/// Parts that may wait for one peer: as many as requests may wait for an owner. The peer takes as
/// many before it stops reading.
pub const PARTS_MAX: usize = 10_000;

/// Bytes of requests that may wait for one peer, beside a single part that has more.
pub const WINDOW_BYTES: usize = 64 << 20;

/// Bytes after which a frame of requests is closed: far below what a peer takes.
pub const FRAME_BYTES: usize = 1 << 20;

/// What a peer was asked on one connection.
#[derive(Debug, Default)]
pub struct Asking {
    parts: HashMap<u64, Asked>,
    next_id: u64,
    /// Bytes of all parts but the oversized one.
    bytes: usize,
    /// Is a part under way that has more than the window?
    has_oversized: bool,
}

/// A part that the peer has not answered in full.
#[derive(Debug)]
pub struct Asked {
    /// The ticket.
    pub ticket: u64,
    /// The part of the ticket.
    pub part: u32,
    /// When the caller stops waiting.
    pub deadline: Ms,
    /// Gets beyond this many bytes of replies are left out.
    pub max_reply_bytes: u64,
    /// The caller's index of each request, in the order they were given.
    indexes: Vec<u32>,
    /// How many were sent before the frame under way.
    before: usize,
    /// How many were sent.
    sent: usize,
    /// Those that were not.
    rest: IntoIter<Item>,
    /// Did the peer say of some that it does not decide them?
    is_refused: bool,
    bytes: usize,
}

impl Asking {
    /// Takes a part, or gives it back when the window has no room for it. One that has more than
    /// the window waits for no other of its kind, but for nothing else: on a busy link the window
    /// is never empty. Follow with [`Asking::send`].
    ///
    /// # Errors
    /// The part.
    pub fn admit(&mut self, forward: Forward, now: Ms) -> Result<Asked, Forward> {
        let bytes: usize = forward.items.iter().map(|item| item.request.weight()).sum();
        let is_oversized = bytes > WINDOW_BYTES;
        let fits = match is_oversized {
            true => !self.has_oversized,
            false => self.bytes + bytes <= WINDOW_BYTES,
        };
        if self.parts.len() == PARTS_MAX || !fits {
            return Err(forward);
        }
        match is_oversized {
            true => self.has_oversized = true,
            false => self.bytes += bytes,
        }
        let Forward { ticket, part, items, timeout_ms, max_reply_bytes } = forward;
        Ok(Asked {
            ticket,
            part,
            deadline: now.saturating_add(timeout_ms),
            max_reply_bytes,
            indexes: items.iter().map(|item| item.index).collect(),
            before: 0,
            sent: 0,
            rest: items.into_iter(),
            is_refused: false,
            bytes,
        })
    }

    /// The next frame of a part, and its number.
    pub fn send(&mut self, mut asked: Asked) -> (u64, Vec<Request>) {
        let requests = asked.next_frame();
        let id = self.next_id;
        self.next_id += 1;
        self.parts.insert(id, asked);
        (id, requests)
    }

    /// The part whose frame under way has this number.
    pub fn get(&mut self, id: u64) -> Option<&mut Asked> {
        self.parts.get_mut(&id)
    }

    /// A frame was answered in full: gives its part if something of it was not sent. Then follows
    /// [`Asking::send`] or [`Asking::close`].
    pub fn answered(&mut self, id: u64) -> Option<Asked> {
        let asked = self.parts.remove(&id)?;
        if asked.is_sent() {
            self.give_back(asked.bytes);
            return None;
        }
        Some(asked)
    }

    /// Nothing more of a part is sent: gives the callers' indexes of what was not.
    pub fn close(&mut self, asked: Asked) -> impl Iterator<Item = u32> + use<> {
        self.give_back(asked.bytes);
        asked.rest.map(|item| item.index)
    }

    /// The connection is lost: ticket and part of each, and how many of its requests were sent.
    pub fn lose(&mut self) -> impl Iterator<Item = (u64, u32, usize)> {
        (self.bytes, self.has_oversized) = (0, false);
        self.parts.drain().map(|(_, asked)| (asked.ticket, asked.part, asked.sent))
    }

    /// A part of so many bytes is over.
    fn give_back(&mut self, bytes: usize) {
        match bytes > WINDOW_BYTES {
            true => self.has_oversized = false,
            false => self.bytes -= bytes,
        }
    }
}

impl Asked {
    fn next_frame(&mut self) -> Vec<Request> {
        let mut bytes = 0;
        let mut requests = Vec::with_capacity(self.rest.len());
        while bytes < FRAME_BYTES
            && let Some(item) = self.rest.next()
        {
            bytes += item.request.weight();
            requests.push(item.request);
        }
        (self.before, self.sent) = (self.sent, self.sent + requests.len());
        requests
    }

    /// Was all of it sent?
    fn is_sent(&self) -> bool {
        self.sent == self.indexes.len()
    }

    /// May the rest be sent? Not if the peer does not decide what was before it.
    pub fn goes_on(&self, now: Ms) -> bool {
        !self.is_refused && now < self.deadline
    }

    /// Takes in answers to the frame under way, from its `first` request on.
    pub fn take(&mut self, first: usize, answers: Vec<PeerAnswer>) -> Vec<(u32, PartAnswer)> {
        let indexes = self.indexes[self.before..self.sent].iter().skip(first);
        let taken = indexes.zip(answers).map(|(&index, answer)| {
            let bytes = match &answer {
                PeerAnswer::Answer(Ok(reply)) => reply.payload_bytes() as u64,
                PeerAnswer::Answer(Err(_)) | PeerAnswer::NotOwner { .. } => 0,
            };
            self.max_reply_bytes = self.max_reply_bytes.saturating_sub(bytes);
            let answer = match answer {
                PeerAnswer::Answer(answer) => PartAnswer::Done(answer),
                PeerAnswer::NotOwner { epoch } => {
                    self.is_refused = true;
                    PartAnswer::NotOwner { epoch, request: None }
                }
            };
            (index, answer)
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;
    use crate::op::{CacheId, FailureKind, Op, Reply};

    /// A part of requests that bring along this many bytes each.
    fn part(sizes: &[usize]) -> Forward {
        let item = |(index, &size): (usize, &usize)| {
            let op = Op::AddDecimal { by: Bytes::from(vec![b'0'; size]) };
            let (cache, key) = (CacheId(0), Bytes::new());
            Item { index: index as u32, request: Request { cache, slot: 0, key, op, acks: None } }
        };
        let items = sizes.iter().enumerate().map(item).collect();
        Forward { ticket: 7, part: 3, items, timeout_ms: 100, max_reply_bytes: 50 }
    }

    /// What one request weighs besides what it brings along.
    fn overhead() -> usize {
        part(&[0]).items[0].request.weight()
    }

    fn not_found() -> PeerAnswer {
        PeerAnswer::Answer(Ok(Reply::NotFound))
    }

    #[test]
    fn parts_up_to_the_limit_are_taken_and_one_above_is_given_back() {
        let mut asking = Asking::default();
        for _ in 0..PARTS_MAX {
            let asked = asking.admit(part(&[1]), 0).unwrap();
            asking.send(asked);
        }
        assert!(asking.admit(part(&[1]), 0).is_err());
        assert!(asking.answered(0).is_none());
        assert!(asking.admit(part(&[1]), 0).is_ok(), "an answer makes room");
    }

    #[test]
    fn bytes_up_to_the_limit_are_taken_and_one_above_is_given_back() {
        let mut asking = Asking::default();
        let half = WINDOW_BYTES / 2 - overhead();
        let asked = asking.admit(part(&[half]), 0).unwrap();
        let (first, _) = asking.send(asked);
        assert!(asking.admit(part(&[half + 1]), 0).is_err());
        let asked = asking.admit(part(&[half]), 0).unwrap();
        asking.send(asked);
        assert!(asking.admit(part(&[0]), 0).is_err());
        assert!(asking.answered(first).is_none());
        assert!(asking.admit(part(&[half]), 0).is_ok(), "an answer makes room");
        let mut lost = Asking::default();
        let whole = WINDOW_BYTES - overhead();
        let asked = lost.admit(part(&[whole]), 0).unwrap();
        lost.send(asked);
        assert!(lost.admit(part(&[0]), 0).is_err());
        assert_eq!(lost.lose().collect::<Vec<_>>(), [(7, 3, 1)]);
        assert!(lost.admit(part(&[whole]), 0).is_ok(), "the next connection begins anew");
    }

    #[test]
    fn a_part_larger_than_the_window_goes_beside_the_others_one_at_a_time() {
        let mut asking = Asking::default();
        let asked = asking.admit(part(&[1]), 0).unwrap();
        let (other, _) = asking.send(asked);
        let above = WINDOW_BYTES - overhead() + 1;
        let asked = asking.admit(part(&[above]), 0).expect("something is always under way");
        let (first, _) = asking.send(asked);
        assert!(asking.admit(part(&[above]), 0).is_err());
        let rest = WINDOW_BYTES - overhead() - 1;
        assert!(asking.admit(part(&[rest]), 0).is_err(), "the window is that of the others");
        let asked = asking.admit(part(&[rest - overhead()]), 0).expect("it is not in their way");
        asking.send(asked);
        assert!(asking.admit(part(&[0]), 0).is_err());
        assert!(asking.answered(first).is_none());
        assert!(asking.admit(part(&[0]), 0).is_err(), "it gives back what it took");
        assert!(asking.answered(other).is_none());
        let asked = asking.admit(part(&[above, 1]), 0).expect("it is the next one's turn");
        let (id, _) = asking.send(asked);
        let asked = asking.answered(id).expect("some of it was not sent");
        assert_eq!(asking.close(asked).collect::<Vec<_>>(), [1]);
        let asked = asking.admit(part(&[above]), 0).expect("one that is given up is over too");
        asking.send(asked);
        assert_eq!(asking.lose().count(), 2);
        assert!(asking.admit(part(&[above]), 0).is_ok(), "the next connection begins anew");
    }

    #[test]
    fn a_part_leaves_in_frames_one_after_the_other() {
        let mut asking = Asking::default();
        let full = FRAME_BYTES - overhead();
        let asked = asking.admit(part(&[full, full - 1, 1, 5]), 0).unwrap();
        let (id, requests) = asking.send(asked);
        assert_eq!(requests.len(), 1, "a frame is closed when it is full");
        let answers = asking.get(id).unwrap().take(0, vec![not_found()]);
        assert!(matches!(answers[..], [(0, PartAnswer::Done(Ok(Reply::NotFound)))]));
        let asked = asking.answered(id).unwrap();
        assert!(asked.goes_on(99) && !asked.goes_on(100), "until the deadline");
        let (next, requests) = asking.send(asked);
        assert_eq!(requests.len(), 2, "one that is not full takes another request");
        assert!(next > id && asking.get(id).is_none());
        let key = Reply::Keys { keys: vec![Bytes::from(vec![b'k'; 20])], next: None };
        let failed = FailureKind::Overloaded.not_applied();
        let both = vec![PeerAnswer::Answer(Err(failed)), PeerAnswer::Answer(Ok(key))];
        let asked = asking.get(next).unwrap();
        let indexes: Vec<u32> = asked.take(0, both).iter().map(|(index, _)| *index).collect();
        assert_eq!((indexes, asked.max_reply_bytes), (vec![1, 2], 30));
        let asked = asking.answered(next).unwrap();
        let (last, requests) = asking.send(asked);
        assert_eq!(requests.len(), 1);
        assert!(asking.answered(last).is_none(), "nothing is left");
    }

    #[test]
    fn a_part_may_wait_for_ever() {
        let forward = Forward { timeout_ms: Ms::MAX, ..part(&[1]) };
        assert_eq!(Asking::default().admit(forward, 5).unwrap().deadline, Ms::MAX);
    }

    #[test]
    fn nothing_follows_what_the_peer_does_not_decide() {
        let mut asking = Asking::default();
        let asked = asking.admit(part(&[FRAME_BYTES, FRAME_BYTES, 1]), 0).unwrap();
        let (id, _) = asking.send(asked);
        let answers = asking.get(id).unwrap().take(0, vec![PeerAnswer::NotOwner { epoch: 4 }]);
        assert!(matches!(answers[..], [(0, PartAnswer::NotOwner { epoch: 4, request: None })]));
        let asked = asking.answered(id).unwrap();
        assert!(!asked.goes_on(0));
        assert_eq!(asking.close(asked).collect::<Vec<_>>(), [1, 2]);
        let asked = asking.admit(part(&[WINDOW_BYTES - overhead()]), 0);
        asking.send(asked.expect("nothing is open any more"));
    }

    #[test]
    fn more_answers_than_requests_change_nothing() {
        let mut asking = Asking::default();
        let asked = asking.admit(part(&[FRAME_BYTES, 1]), 0).unwrap();
        let (id, _) = asking.send(asked);
        let asked = asking.get(id).unwrap();
        assert_eq!(asked.take(0, vec![not_found(), not_found()]).len(), 1);
        assert!(asked.take(5, vec![not_found()]).is_empty());
    }
}
