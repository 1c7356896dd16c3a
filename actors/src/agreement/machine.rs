//! What is agreed on, as openraft sees it: applies entries to the [`Machine`], and keeps the
//! latest snapshot in memory.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{
    EmptyNode, Entry, EntryPayload, LogId, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    StorageError, StoredMembership,
};

use super::{Machine, RaftId, Types};

type Result<T> = std::result::Result<T, StorageError<RaftId>>;

/// The machine and how far it is; clones share it.
#[derive(Clone)]
pub(super) struct Applier {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    machine: Box<dyn Machine>,
    applied: Option<LogId<RaftId>>,
    membership: StoredMembership<RaftId, EmptyNode>,
    snapshot: Option<Snapshot<Types>>,
    snapshots: u64,
}

impl Applier {
    pub(super) fn new(machine: Box<dyn Machine>) -> Self {
        let inner = Inner {
            machine,
            applied: None,
            membership: StoredMembership::default(),
            snapshot: None,
            snapshots: 0,
        };
        Applier { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("the machine does not panic")
    }
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<RaftId>>, StoredMembership<RaftId, EmptyNode>)> {
        let inner = self.lock();
        Ok((inner.applied, inner.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let mut inner = self.lock();
        let mut results = Vec::new();
        for entry in entries {
            inner.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(change) => inner.machine.apply(entry.log_id.index, &change),
                EntryPayload::Membership(membership) => {
                    inner.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            results.push(());
        }
        Ok(results)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Bytes>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<RaftId, EmptyNode>,
        snapshot: Box<Bytes>,
    ) -> Result<()> {
        let mut inner = self.lock();
        let epoch = meta.last_log_id.map_or(0, |id| id.index);
        inner.machine.restore(epoch, &snapshot);
        inner.applied = meta.last_log_id;
        inner.membership = meta.last_membership.clone();
        inner.snapshot = Some(Snapshot { meta: meta.clone(), snapshot });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>> {
        Ok(self.lock().snapshot.clone())
    }
}

impl RaftSnapshotBuilder<Types> for Applier {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>> {
        // openraft builds in a task of its own while entries go on being applied: the bytes and
        // what they contain are taken under one lock.
        let mut inner = self.lock();
        inner.snapshots += 1;
        let applied = inner.applied.map_or(0, |id| id.index);
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                last_log_id: inner.applied,
                last_membership: inner.membership.clone(),
                snapshot_id: format!("{applied}-{}", inner.snapshots),
            },
            snapshot: Box::new(Bytes::from(inner.machine.snapshot())),
        };
        inner.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }
}
