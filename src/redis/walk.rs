//! Commands that ask many slots, or ask again: they run alone, between batches.

use std::collections::VecDeque;

use bytes::Bytes;
use lariat_actors::client::{CallOptions, Client};
use lariat_actors::map::{ClusterMap, NodeIx};
use lariat_actors::op::{
    Acks, Answer, CacheId, Failure, FailureKind, Ms, Op, Reply, Request, ScanPosition,
};
use lariat_actors::slot::{SLOTS, Slot};

use super::cursor::{Position, sign};
use super::finish::failure_text;
use super::gateway::Gateway;
use super::glob::Glob;
use super::reply::Replies;
use super::session::LastWrite;
use super::sieve::Sieve;

/// Slots asked at a time: few at first, more while they turn out empty.
const WINDOW_FIRST: usize = 16;
const WINDOW_MAX: usize = 1_024;

/// Batches of one SCAN: enough for every slot of a cache that is all but empty.
const BATCHES_MAX: usize = 24;

/// Bytes of keys, and of entries that were looked at for nothing, after which a node leaves out the rest
/// of its slots of a batch: some 4,000 entries of each shard. SCAN ends there, whatever it has found.
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// Keys that a slot gives at a time.
const KEYS_PER_STEP: u32 = 1_000;

/// Bytes of keys that one KEYS may come to.
const KEYS_BYTES_MAX: usize = 32 << 20;

/// How often SET with NX and GET is tried while others put and delete.
const PUT_OR_GET_TRIES: usize = 100;

/// A command that runs alone.
#[derive(Debug)]
pub struct Slow {
    work: Work,
    /// Does the client want no reply?
    pub is_silent: bool,
}

/// What it does.
#[derive(Debug)]
pub enum Work {
    /// Put if absent, and the value that is there otherwise.
    PutOrGet {
        /// The slot.
        slot: Slot,
        /// The key.
        key: Bytes,
        /// The put.
        op: Op,
    },
    /// SCAN.
    Scan {
        /// Where to go on.
        from: Position,
        /// About how many keys.
        count: usize,
        /// Which keys.
        pattern: Option<Glob>,
        /// Is a type asked for that anything has?
        is_string: bool,
    },
    /// KEYS.
    Keys {
        /// Which keys.
        pattern: Glob,
    },
    /// RANDOMKEY.
    RandomKey,
    /// DBSIZE.
    Size,
    /// FLUSHDB, FLUSHALL.
    Flush {
        /// Every database?
        all: bool,
    },
    /// WAIT.
    Wait {
        /// What copies are to have.
        last: LastWrite,
        /// For how long at most; 0: as long as a request may take.
        timeout_ms: Ms,
    },
    /// CLUSTER COUNTKEYSINSLOT.
    CountInSlot(Slot),
    /// CLUSTER GETKEYSINSLOT.
    KeysInSlot(Slot, usize),
}

impl Slow {
    /// A command whose reply is wanted.
    pub fn new(work: Work) -> Self {
        Slow { work, is_silent: false }
    }

    /// Bytes of memory that its pattern takes while it runs.
    pub fn weight(&self) -> usize {
        match &self.work {
            Work::Keys { pattern } | Work::Scan { pattern: Some(pattern), .. } => pattern.weight(),
            _ => 0,
        }
    }

    /// Runs it and writes its reply.
    pub async fn run(self, gateway: &Gateway, cache: CacheId, worker: usize, out: &mut Replies) {
        let mark = out.mark();
        let walk = Walk { gateway, client: &gateway.client, cache, worker };
        if let Err(failure) = walk.run(self.work, out).await {
            out.truncate(mark);
            out.error(failure_text(failure));
        }
        if self.is_silent {
            out.truncate(mark);
        }
    }
}

struct Walk<'a> {
    gateway: &'a Gateway,
    client: &'a Client,
    cache: CacheId,
    worker: usize,
}

impl Walk<'_> {
    async fn run(&self, work: Work, out: &mut Replies) -> Result<(), Failure> {
        match work {
            Work::PutOrGet { slot, key, op } => self.put_or_get(slot, key, op, out).await,
            Work::Scan { from, count, pattern, is_string } => {
                self.scan(from, count, pattern, is_string, out).await
            }
            Work::Keys { pattern } => {
                let mut found = Vec::new();
                let mut bytes = 0;
                self.each_key(Some(&pattern), &self.slots(), |key| {
                    bytes += key.len();
                    found.push(key);
                    bytes <= KEYS_BYTES_MAX
                })
                .await?;
                if bytes > KEYS_BYTES_MAX {
                    return Err(FailureKind::ReplyTooLarge.not_applied());
                }
                write_keys(&found, out).await;
                Ok(())
            }
            Work::RandomKey => self.random_key(out).await,
            Work::Size => {
                out.integer(self.size().await? as i64);
                Ok(())
            }
            Work::Flush { all } => self.flush(all, out).await,
            Work::Wait { last, timeout_ms } => {
                out.integer(self.confirmed(last, timeout_ms).await as i64);
                Ok(())
            }
            Work::CountInSlot(slot) => {
                let mut count = 0;
                self.each_key(None, self.shown(&slot), |_| {
                    count += 1;
                    true
                })
                .await?;
                out.integer(count);
                Ok(())
            }
            Work::KeysInSlot(slot, most) => {
                let (mut found, mut bytes) = (Vec::new(), 0);
                self.each_key(None, self.shown(&slot), |key| {
                    if found.len() < most {
                        bytes += key.len();
                        found.push(key);
                    }
                    found.len() < most && bytes <= KEYS_BYTES_MAX
                })
                .await?;
                if bytes > KEYS_BYTES_MAX {
                    return Err(FailureKind::ReplyTooLarge.not_applied());
                }
                write_keys(&found, out).await;
                Ok(())
            }
        }
    }

    async fn ask(&self, requests: Vec<Request>) -> Vec<Answer> {
        let max_reply_bytes = Some(BATCH_BYTES_MAX);
        let options = CallOptions { max_reply_bytes, ..Gateway::options(self.worker) };
        self.client.call(requests, options).await
    }

    async fn ask_one(&self, slot: Slot, key: Bytes, op: Op) -> Answer {
        let request = Request { cache: self.cache, slot, key, op, acks: None };
        self.client.call_one(request, Gateway::options(self.worker)).await
    }

    /// A put that is refused because something is there, and a look that finds nothing any more,
    /// can both be true: then the put is tried again, which is allowed because it was refused.
    async fn put_or_get(
        &self,
        slot: Slot,
        key: Bytes,
        op: Op,
        out: &mut Replies,
    ) -> Result<(), Failure> {
        for _ in 0..PUT_OR_GET_TRIES {
            if let Reply::Written(_) = self.ask_one(slot, key.clone(), op.clone()).await? {
                out.null();
                return Ok(());
            }
            if let Reply::Entry(Some(entry)) =
                self.ask_one(slot, key.clone(), Op::Get { any: false }).await?
            {
                out.value(entry.value);
                return Ok(());
            }
        }
        Err(FailureKind::Overloaded.not_applied())
    }

    /// How many copies have a write. A write that stores nothing goes the same way after it, and is
    /// answered when every copy in sync has confirmed it: then they have what came before.
    async fn confirmed(&self, last: LastWrite, timeout_ms: Ms) -> usize {
        let LastWrite { cache, slot, since } = last;
        let op = Op::PutAllAbsent { entries: Vec::new() };
        let request = Request { cache, slot, key: Bytes::new(), op, acks: Some(Acks::All) };
        let most = self.client.cluster().request_timeout_ms;
        let timeout_ms = if timeout_ms == 0 { most } else { timeout_ms.min(most) };
        let options = CallOptions { timeout_ms: Some(timeout_ms), ..Gateway::options(self.worker) };
        match self.client.call_one(request, options).await {
            // Another primary may not have the write.
            Ok(Reply::Written(barrier)) if Some(barrier.since) == since => {
                self.gateway.copies(cache, slot)
            }
            _ => 0,
        }
    }

    /// The slots that this port shows.
    fn slots(&self) -> Vec<Slot> {
        let map = self.client.map();
        (0..SLOTS).filter(|&slot| self.is_shown(&map, slot)).collect()
    }

    /// This slot, if this port shows it.
    fn shown<'s>(&self, slot: &'s Slot) -> &'s [Slot] {
        let is_shown = self.is_shown(&self.client.map(), *slot);
        if is_shown { std::slice::from_ref(slot) } else { &[] }
    }

    fn is_shown(&self, map: &ClusterMap, slot: Slot) -> bool {
        self.gateway.serves(map.row(slot).primary)
    }

    fn scan_request(&self, slot: Slot, from: ScanPosition, prefix: &Bytes, limit: u32) -> Request {
        let op = Op::Scan { from, prefix: prefix.clone(), limit };
        Request { cache: self.cache, slot, key: Bytes::new(), op, acks: None }
    }

    /// Visits every key of these slots that matches, if it has to, until `visit` says that it is
    /// enough.
    async fn each_key(
        &self,
        pattern: Option<&Glob>,
        slots: &[Slot],
        mut visit: impl FnMut(Bytes) -> bool,
    ) -> Result<(), Failure> {
        let prefix = prefix(pattern);
        let mut sieve = Sieve::new(pattern);
        let mut open: VecDeque<(Slot, ScanPosition)> =
            slots.iter().map(|&slot| (slot, ScanPosition::START)).collect();
        let mut window = WINDOW_MAX;
        while !open.is_empty() {
            let asked: Vec<(Slot, ScanPosition)> = open.drain(..window.min(open.len())).collect();
            let requests = asked
                .iter()
                .map(|&(slot, from)| self.scan_request(slot, from, &prefix, KEYS_PER_STEP));
            let answers = self.ask(requests.collect()).await;
            let (mut more, mut answered) = (Vec::new(), 0);
            for ((slot, from), answer) in asked.into_iter().zip(answers) {
                match answer {
                    Ok(Reply::Keys { keys, next }) => {
                        answered += 1;
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
            more.into_iter().rev().for_each(|slot| open.push_front(slot));
            // About as many as are answered.
            window = (answered * 2).clamp(1, WINDOW_MAX);
        }
        Ok(())
    }

    async fn scan(
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
        let mut window = WINDOW_FIRST;
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
            window = (window * 4).min(WINDOW_MAX);
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

    async fn random_key(&self, out: &mut Replies) -> Result<(), Failure> {
        let slots = self.slots();
        let begin = random_below(slots.len());
        let turned: Vec<Slot> = [&slots[begin..], &slots[..begin]].concat();
        let (mut window, mut at) = (WINDOW_FIRST, 0);
        while at < turned.len() {
            let part = &turned[at..turned.len().min(at + window)];
            let mut found = Vec::new();
            self.each_key(None, part, |key| {
                found.push(key);
                found.len() < KEYS_PER_STEP as usize
            })
            .await?;
            if !found.is_empty() {
                out.bulk(&found[random_below(found.len())]);
                return Ok(());
            }
            at += part.len();
            window = (window * 4).min(WINDOW_MAX);
        }
        out.null();
        Ok(())
    }

    /// Entries of the cache, over the primaries that this port shows.
    async fn size(&self) -> Result<u64, Failure> {
        let name = &self.client.caches()[usize::from(self.cache.0)].name;
        let nodes = if self.gateway.is_cluster() {
            vec![Some(self.client.stats())]
        } else {
            let map = self.client.map();
            let nodes = self.client.cluster_stats().await;
            let is_missing =
                |node: NodeIx| nodes.get(usize::from(node.0)).is_none_or(Option::is_none);
            if map.rows.iter().any(|row| is_missing(row.primary)) {
                return Err(FailureKind::NotReady.not_applied());
            }
            nodes
        };
        let caches = nodes.iter().flatten().flat_map(|node| &node.caches);
        let of_cache = caches.filter(|(cache, _)| cache == name);
        Ok(of_cache.map(|(_, stats)| stats.entries.primary).sum())
    }

    async fn flush(&self, all: bool, out: &mut Replies) -> Result<(), Failure> {
        let known = &self.gateway.databases;
        let caches: Vec<CacheId> =
            if all { known.iter().flatten().copied().collect() } else { vec![self.cache] };
        let slots = self.slots();
        let mut failed = None;
        for cache in caches {
            for window in slots.chunks(WINDOW_MAX) {
                let request = |&slot: &Slot| Request {
                    cache,
                    slot,
                    key: Bytes::new(),
                    op: Op::Clear,
                    acks: None,
                };
                let answers = self.ask(window.iter().map(request).collect()).await;
                failed = answers.into_iter().find_map(Result::err).or(failed);
            }
        }
        match failed {
            // Some slots are empty, so it is not as if nothing was done.
            Some(failure) => Err(failure.kind.maybe()),
            None => {
                out.simple("OK");
                Ok(())
            }
        }
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
