//! The log and the vote, in memory: a process that ends takes them with it and comes back as
//! somebody else, so nothing has to survive it.
//!
//! Written by openraft's core only; the tasks that replicate read it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{Entry, EntryPayload, LogId, LogState, RaftLogReader, StorageError, Vote};

use super::{RaftId, Types};

type Result<T> = std::result::Result<T, StorageError<RaftId>>;

/// Most bytes of changes in one message of replication, except that one change always goes.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// The log; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<u64, Entry<Types>>,
    purged: Option<LogId<RaftId>>,
    vote: Option<Vote<RaftId>>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds the log")
    }

    /// The changes after an index.
    pub(super) fn changes_after(&self, index: u64) -> Vec<(u64, Bytes)> {
        let inner = self.lock();
        let entries = inner.entries.range(index + 1..);
        let change = |(index, entry): (&u64, &Entry<Types>)| match &entry.payload {
            EntryPayload::Normal(change) => Some((*index, change.clone())),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        entries.filter_map(change).collect()
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>> {
        Ok(self.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry<Types>>> {
        let mut bytes = 0;
        let inner = self.lock();
        let fits = |entry: &&Entry<Types>| {
            let first = bytes == 0;
            // Every entry counts for something, so that only the first one finds 0.
            bytes += 1 + change_bytes(entry);
            first || bytes <= APPEND_BYTES_MAX
        };
        Ok(inner.entries.range(start..end).map(|(_, e)| e).take_while(fits).cloned().collect())
    }
}

fn change_bytes(entry: &Entry<Types>) -> usize {
    match &entry.payload {
        EntryPayload::Normal(change) => change.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>> {
        let inner = self.lock();
        let last = inner.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: last.or(inner.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<RaftId>) -> Result<()> {
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<RaftId>>> {
        Ok(self.lock().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<()>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        self.lock().entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId<RaftId>) -> Result<()> {
        self.lock().entries.split_off(&since.index);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId<RaftId>) -> Result<()> {
        let mut inner = self.lock();
        inner.entries = inner.entries.split_off(&(upto.index + 1));
        inner.purged = Some(upto);
        Ok(())
    }
}
