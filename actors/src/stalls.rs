//! Waits for a worker thread that hangs, and how they end.
//!
//! What is sent straight to a shard or a Router of another thread has no timer: if that thread
//! hangs nobody there answers it, or sees its deadline. So whoever waits for another thread can be
//! woken by the Supervisor, when it sees that a shard there does not answer.
//!
//! Waiting costs a lock that only callers of one thread share, twice.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};

use slab::Slab;

use crate::shared::Shared;

/// The worker threads of a node, as those see them that wait for their answers.
#[derive(Debug)]
pub struct Stalls(Vec<Thread>);

#[derive(Debug)]
struct Thread {
    /// Has it been seen to hang, and not to be awake since?
    hangs: AtomicBool,
    /// How often it was seen to hang.
    seen: AtomicU64,
    /// Who waits for it: by the worker thread that asked, and last those on none.
    waiting: Vec<Mutex<Slab<Waker>>>,
}

impl Thread {
    fn waiting(&self, from: usize) -> MutexGuard<'_, Slab<Waker>> {
        self.waiting[from].lock().expect("no holder of this lock panics")
    }
}

impl Stalls {
    /// None of these worker threads hangs.
    pub fn new(workers: usize) -> Self {
        let lanes = || (0..=workers).map(|_| Mutex::default()).collect();
        let thread = || Thread { hangs: false.into(), seen: 0.into(), waiting: lanes() };
        Stalls((0..workers).map(|_| thread()).collect())
    }

    /// A worker thread hangs: ends the waits for it that have begun. Follows the closing of the
    /// gate of the shard that showed it, so that no other is sent there.
    pub fn tell(&self, worker: usize) {
        let Some(thread) = self.0.get(worker) else { return };
        // 1. A wait that begins has looked at this number before it was sent.
        // 2. It leaves its waker, and looks at the number again.
        // Whichever comes first of that and of what follows, it sees the number or is woken.
        thread.hangs.store(true, Release);
        thread.seen.fetch_add(1, Release);
        for from in 0..thread.waiting.len() {
            let wakers: Vec<Waker> =
                thread.waiting(from).iter().map(|(_, waker)| waker.clone()).collect();
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// A worker thread has done something again.
    pub fn woke(&self, worker: usize) {
        if let Some(thread) = self.0.get(worker) {
            thread.hangs.store(false, Release);
        }
    }

    /// Does a worker thread hang, as far as is known? Asked after [`Wait::begin`].
    pub fn hangs(&self, worker: usize) -> bool {
        self.0.get(worker).is_some_and(|thread| thread.hangs.load(Acquire))
    }
}

/// One wait for a worker thread. It begins before anything is sent there.
#[derive(Debug)]
pub struct Wait {
    shared: Arc<Shared>,
    worker: usize,
    from: usize,
    /// How often the thread had been seen to hang.
    seen: u64,
    key: Option<usize>,
}

impl Wait {
    /// A wait of a caller on the worker thread `from` for another one; `None` on that thread
    /// itself, where nobody is awake to be told.
    pub fn begin(shared: &Arc<Shared>, worker: usize, from: Option<usize>) -> Option<Self> {
        let from = from.map_or(shared.workers, |from| from % shared.workers);
        let thread = shared.stalls.0.get(worker).filter(|_| from != worker)?;
        let seen = thread.seen.load(Acquire);
        Some(Wait { shared: shared.clone(), worker, from, seen, key: None })
    }

    /// Has the thread been seen to hang since? If not, the task is woken when it is.
    pub fn is_over(&mut self, cx: &Context<'_>) -> bool {
        let thread = &self.shared.stalls.0[self.worker];
        let mut waiting = thread.waiting(self.from);
        match self.key {
            Some(key) => waiting[key].clone_from(cx.waker()),
            None => self.key = Some(waiting.insert(cx.waker().clone())),
        }
        drop(waiting);
        thread.seen.load(Acquire) != self.seen
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.stalls.0[self.worker].waiting(self.from).remove(key);
        }
    }
}
