//! Commands that ask many slots, or ask again: they run alone, between batches.

use bytes::Bytes;
use lariat_actors::client::{CallOptions, Client};
use lariat_actors::map::{ClusterMap, NodeIx};
use lariat_actors::op::{Acks, Answer, CacheId, Failure, FailureKind, Ms, Op, Reply, Request};
use lariat_actors::slot::{SLOTS, Slot};

use super::cursor::Position;
use super::finish::failure_text;
use super::gateway::Gateway;
use super::glob::Glob;
use super::reply::Replies;
use super::session::LastWrite;
use super::window::window_of;

/// Bytes of keys, and of entries that were looked at for nothing, after which a node leaves out the rest
/// of its slots of a batch: some 4,000 entries of each shard, however unlike its slots are.
const BATCH_BYTES_MAX: u64 = 1 << 20;

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
        /// The look at what is there.
        look: Op,
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

/// A command that runs: for whom, and where.
pub struct Walk<'a> {
    gateway: &'a Gateway,
    /// The node.
    pub client: &'a Client,
    /// The cache behind the selected database.
    pub cache: CacheId,
    worker: usize,
}

impl Walk<'_> {
    async fn run(&self, work: Work, out: &mut Replies) -> Result<(), Failure> {
        match work {
            Work::PutOrGet { slot, key, op, look } => {
                self.put_or_get(slot, key, [op, look], out).await
            }
            Work::Scan { from, count, pattern, is_string } => {
                self.scan(from, count, pattern, is_string, out).await
            }
            Work::Keys { pattern } => {
                let window = self.window(self.cache);
                self.list(Some(&pattern), &self.slots(), window, usize::MAX, out).await
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
                self.each_key(None, self.shown(&slot), 1, |_| {
                    count += 1;
                    true
                })
                .await?;
                out.integer(count);
                Ok(())
            }
            Work::KeysInSlot(slot, most) => self.list(None, self.shown(&slot), 1, most, out).await,
        }
    }

    /// Asks these, and lets others have their turn.
    pub async fn ask(&self, requests: Vec<Request>) -> Vec<Answer> {
        let max_reply_bytes = Some(BATCH_BYTES_MAX);
        let options = CallOptions { max_reply_bytes, ..Gateway::options(self.worker) };
        let answers = self.client.call(requests, options).await;
        // By itself the thread looks at its sockets only after some thirty of these.
        tokio::task::yield_now().await;
        answers
    }

    /// Asks one.
    pub async fn ask_one(&self, slot: Slot, key: Bytes, op: Op) -> Answer {
        let request = Request { cache: self.cache, slot, key, op, acks: None };
        self.client.call_one(request, Gateway::options(self.worker)).await
    }

    /// A put that is refused because something is there, and a look that finds nothing any more,
    /// can both be true: then the put is tried again, which is allowed because it was refused.
    async fn put_or_get(
        &self,
        slot: Slot,
        key: Bytes,
        [op, look]: [Op; 2],
        out: &mut Replies,
    ) -> Result<(), Failure> {
        for _ in 0..PUT_OR_GET_TRIES {
            if let Reply::Written(_) = self.ask_one(slot, key.clone(), op.clone()).await? {
                out.null();
                return Ok(());
            }
            if let Reply::Entry(Some(entry)) = self.ask_one(slot, key.clone(), look.clone()).await?
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
    pub fn slots(&self) -> Vec<Slot> {
        let map = self.client.map();
        (0..SLOTS).filter(|&slot| self.is_shown(&map, slot)).collect()
    }

    /// This slot, if this port shows it.
    fn shown<'s>(&self, slot: &'s Slot) -> &'s [Slot] {
        let is_shown = self.is_shown(&self.client.map(), *slot);
        if is_shown { std::slice::from_ref(slot) } else { &[] }
    }

    /// Does this port show the slot?
    pub fn is_shown(&self, map: &ClusterMap, slot: Slot) -> bool {
        self.gateway.serves(map.row(slot).primary)
    }

    /// How many slots to ask at a time, by how full those are that this node is primary of.
    pub fn window(&self, cache: CacheId) -> usize {
        let stats = self.client.stats();
        let of_cache = stats.caches.get(usize::from(cache.0));
        let me = self.client.me();
        let mine = self.client.map().rows.iter().filter(|row| row.primary == me).count();
        window_of(of_cache.map_or(0, |(_, stats)| stats.entries.primary), mine as u64)
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
            for window in slots.chunks(self.window(cache)) {
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
