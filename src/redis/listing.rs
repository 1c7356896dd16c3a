//! Commands that list keys, slot after slot.

use bytes::Bytes;
use lariat_actors::op::{Failure, FailureKind, Op, Reply, Request, ScanPosition};
use lariat_actors::slot::{SLOTS, Slot};

use super::cursor::{Position, sign};
use super::glob::Glob;
use super::reply::Replies;
use super::sieve::Sieve;
use super::walk::Walk;
use super::window::{KEYS_PER_STEP, WINDOW_FIRST, keys_per_slot};

/// Batches of one SCAN: enough for every slot of a cache that is all but empty.
const BATCHES_MAX: usize = 24;

/// Bytes of keys that one KEYS may come to.
const KEYS_BYTES_MAX: usize = 32 << 20;

/// What is found counts as under way in steps of so many bytes.
const FOUND_STEP: usize = 64 << 10;

impl Walk<'_> {
    fn scan_request(&self, slot: Slot, from: ScanPosition, prefix: &Bytes, limit: u32) -> Request {
        let op = Op::Scan { from, prefix: prefix.clone(), limit };
        Request { cache: self.cache, slot, key: Bytes::new(), op, acks: None }
    }

    /// Writes the keys of these slots that match, at most `most` of them. They count as under way
    /// while they are gathered.
    pub async fn list(
        &self,
        pattern: Option<&Glob>,
        slots: &[Slot],
        window: usize,
        most: usize,
        out: &mut Replies,
    ) -> Result<(), Failure> {
        let overloaded = FailureKind::Overloaded.not_applied();
        let mut room = self.client.inflight().try_take(0).ok_or(overloaded)?;
        let (mut found, mut bytes, mut counted, mut fits) = (Vec::new(), 0, 0, true);
        self.each_key(pattern, slots, window, |key| {
            if found.len() < most {
                bytes += key.len();
                found.push(key);
                let held = bytes + found.len() * size_of::<Bytes>();
                if held >= counted + FOUND_STEP {
                    fits = room.grow((held - counted) as u64);
                    counted = held;
                }
            }
            fits && found.len() < most && bytes <= KEYS_BYTES_MAX
        })
        .await?;
        if !fits {
            return Err(overloaded);
        }
        if bytes > KEYS_BYTES_MAX {
            return Err(FailureKind::ReplyTooLarge.not_applied());
        }
        write_keys(&found, out).await;
        Ok(())
    }

    /// Visits every key of these slots that matches, if it has to, until `visit` says that it is
    /// enough. So many slots are asked at a time.
    pub async fn each_key(
        &self,
        pattern: Option<&Glob>,
        slots: &[Slot],
        window: usize,
        mut visit: impl FnMut(Bytes) -> bool,
    ) -> Result<(), Failure> {
        let prefix = prefix(pattern);
        let mut sieve = Sieve::new(pattern);
        for window in slots.chunks(window) {
            let mut open: Vec<(Slot, ScanPosition)> =
                window.iter().map(|&slot| (slot, ScanPosition::START)).collect();
            while !open.is_empty() {
                let limit = keys_per_slot(open.len());
                let requests =
                    open.iter().map(|&(slot, from)| self.scan_request(slot, from, &prefix, limit));
                let answers = self.ask(requests.collect()).await;
                let mut more = Vec::new();
                for ((slot, from), answer) in open.into_iter().zip(answers) {
                    match answer {
                        Ok(Reply::Keys { keys, next }) => {
                            more.extend(next.map(|next| (slot, next)));
                            for key in keys {
                                if sieve.fits(&key).await && !visit(key) {
                                    return Ok(());
                                }
                            }
                        }
                        // Its batch was full: it is asked again.
                        Err(Failure { kind: FailureKind::ReplyTooLarge, .. }) => {
                            more.push((slot, from));
                        }
                        Err(failure) => return Err(failure),
                        Ok(_) => return Err(FailureKind::NotReady.not_applied()),
                    }
                }
                open = more;
            }
        }
        Ok(())
    }

    /// SCAN: a page, and where to go on.
    pub async fn scan(
        &self,
        from: Position,
        count: usize,
        pattern: Option<Glob>,
        is_string: bool,
        out: &mut Replies,
    ) -> Result<(), Failure> {
        let prefix = prefix(pattern.as_ref());
        let mut sieve = Sieve::new(pattern.as_ref());
        let (mut found, mut seen) = (Vec::new(), 0);
        let mut at = from.slot;
        let mut begin = self.resume(from).await?;
        let window_max = self.window(self.cache);
        let mut window = WINDOW_FIRST.min(window_max);
        let map = self.client.map();
        let mut cursor = 0;
        'batches: for batch in 0.. {
            let slots: Vec<Slot> =
                (at..SLOTS).filter(|&slot| self.is_shown(&map, slot)).take(window).collect();
            let Some(&last) = slots.last() else { break };
            if batch == BATCHES_MAX {
                cursor = Position { slot: at, ..Position::default() }.cursor();
                break;
            }
            let limit = (count - seen).min(KEYS_PER_STEP as usize) as u32;
            let first = |slot| if slot == at { begin } else { ScanPosition::START };
            let requests =
                slots.iter().map(|&slot| self.scan_request(slot, first(slot), &prefix, limit));
            let answers = self.ask(requests.collect()).await;
            for (&slot, answer) in slots.iter().zip(answers) {
                let (keys, next) = match answer {
                    Ok(Reply::Keys { keys, next }) => (keys, next),
                    Err(Failure { kind: FailureKind::ReplyTooLarge, .. }) => {
                        (Vec::new(), Some(ScanPosition::START))
                    }
                    Err(failure) => return Err(failure),
                    Ok(_) => return Err(FailureKind::NotReady.not_applied()),
                };
                seen += keys.len();
                for key in keys {
                    if sieve.fits(&key).await {
                        found.push(key);
                    }
                }
                if let Some(next) = next {
                    cursor = Position::within(slot, next).cursor();
                    break 'batches;
                }
                if seen >= count {
                    let next = (slot + 1..SLOTS).find(|&slot| self.is_shown(&map, slot));
                    cursor = next.map_or(0, u64::from);
                    break 'batches;
                }
            }
            at = last + 1;
            begin = ScanPosition::START;
            window = (window * 4).min(window_max);
        }
        if !is_string {
            found.clear();
        }
        out.array(2);
        out.bulk(cursor.to_string().as_bytes());
        write_keys(&found, out).await;
        Ok(())
    }

    /// The whole position within a slot that a cursor means: its table has to be the one it was.
    async fn resume(&self, from: Position) -> Result<ScanPosition, Failure> {
        if from.bucket == 0 {
            return Ok(ScanPosition::START);
        }
        let op = Op::Scan { from: ScanPosition::START, prefix: Bytes::new(), limit: 0 };
        match self.ask_one(from.slot, Bytes::new(), op).await? {
            Reply::Keys { next: Some(at), .. } if sign(at.layout) == from.sign => {
                Ok(ScanPosition { layout: at.layout, bucket: from.bucket })
            }
            _ => Ok(ScanPosition::START),
        }
    }

    /// RANDOMKEY: of the first slots with keys from a random one on.
    pub async fn random_key(&self, out: &mut Replies) -> Result<(), Failure> {
        let slots = self.slots();
        let begin = random_below(slots.len());
        let turned: Vec<Slot> = [&slots[begin..], &slots[..begin]].concat();
        let window_max = self.window(self.cache);
        let (mut window, mut at) = (WINDOW_FIRST.min(window_max), 0);
        while at < turned.len() {
            let part = &turned[at..turned.len().min(at + window)];
            let mut found = Vec::new();
            self.each_key(None, part, part.len(), |key| {
                found.push(key);
                found.len() < KEYS_PER_STEP as usize
            })
            .await?;
            if !found.is_empty() {
                out.bulk(&found[random_below(found.len())]);
                return Ok(());
            }
            at += part.len();
            window = (window * 4).min(window_max);
        }
        out.null();
        Ok(())
    }
}

/// What keys begin with that match, if they have to.
fn prefix(pattern: Option<&Glob>) -> Bytes {
    pattern.map_or(Bytes::new(), |pattern| Bytes::copy_from_slice(pattern.prefix()))
}

async fn write_keys(keys: &[Bytes], out: &mut Replies) {
    let mut sieve = Sieve::new(None);
    out.array(keys.len());
    for key in keys {
        sieve.handled(key).await;
        out.bulk(key);
    }
}

/// A number below `end`, which is more than 0 for anything to be below it.
fn random_below(end: usize) -> usize {
    use std::hash::{BuildHasher, RandomState};
    // Each one is keyed anew by the operating system's randomness and a counter.
    let number = RandomState::new().hash_one(0u8);
    (number as usize).checked_rem(end).unwrap_or(0)
}
