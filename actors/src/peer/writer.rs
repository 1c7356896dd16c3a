//! The sending direction of a connection: a queue bounded in bytes and a task that writes it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::codec;
use crate::wire::{self, Message};

/// Bytes that may wait to be written. Beyond it the connection is closed. What is sent to a peer is
/// bounded by windows (of replication, imports and requests) and answers wait for room, so that
/// only a peer that does not read gets here.
pub const QUEUE_MAX_BYTES: usize = 256 << 20;

/// How long a write may make no progress.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes written at a time, so that progress can be seen.
const WRITE_STEP: usize = 256 * 1024;

/// Why a message was not queued. The connection is worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The other side does not read.
    #[error("{QUEUE_MAX_BYTES} bytes wait to be sent")]
    Full,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
}

/// A handle on the sending direction. Dropping it closes the connection once what is queued has
/// been written.
#[derive(Debug)]
pub struct WriterHandle {
    queue: Rc<Queue>,
    version: u16,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: RefCell<Vec<u8>>,
    /// Bytes that wait, those included that the task has in hand.
    unwritten: Cell<usize>,
    state: RefCell<State>,
    /// There is something to do for the task.
    wake: Notify,
    /// Fewer bytes wait, or the connection is closed.
    written: Notify,
}

/// Tells when a connection has room for more.
#[derive(Clone, Debug)]
pub struct Room(Rc<Queue>);

impl Room {
    /// Waits until at most `bytes` bytes wait to be written, or the connection is closed.
    pub async fn below(&self, bytes: usize) {
        loop {
            let written = self.0.written.notified();
            if self.0.unwritten.get() <= bytes || *self.0.state.borrow() == State::Closed {
                return;
            }
            written.await;
        }
    }
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Open,
    /// The handle is gone: write the rest and close.
    Closing,
    Closed,
}

impl WriterHandle {
    /// Starts the writing task on the current thread.
    pub(super) fn start(stream: OwnedWriteHalf, version: u16) -> Self {
        Self::with_deadline(stream, version, WRITE_DEADLINE)
    }

    pub(super) fn with_deadline(
        mut stream: OwnedWriteHalf,
        version: u16,
        deadline: Duration,
    ) -> Self {
        let queue = Rc::<Queue>::default();
        let mine = queue.clone();
        actix_rt::spawn(async move {
            let mut writing = Vec::new();
            loop {
                std::mem::swap(&mut *mine.bytes.borrow_mut(), &mut writing);
                if writing.is_empty() {
                    if *mine.state.borrow() == State::Closing {
                        break;
                    }
                    mine.wake.notified().await;
                    continue;
                }
                if !write(&mut stream, &writing, deadline, &mine).await {
                    break;
                }
                writing.clear();
                // A burst must not keep its memory.
                writing.shrink_to(WRITE_STEP);
            }
            *mine.state.borrow_mut() = State::Closed;
            // Nothing waits any more: whoever waits for room sends next, and learns of the end.
            mine.unwritten.set(0);
            mine.written.notify_waiters();
            // The other direction sees the end of the connection.
            let _ = stream.shutdown().await;
        });
        WriterHandle { queue, version }
    }

    /// The protocol version of the connection: what it lacks is not to be sent.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Queues a message; everything queued leaves in as few writes as possible.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn send(&self, message: &Message) -> Result<(), SendError> {
        if *self.queue.state.borrow() != State::Open {
            return Err(SendError::Closed);
        }
        let unwritten = &self.queue.unwritten;
        if unwritten.get() > QUEUE_MAX_BYTES {
            return Err(SendError::Full);
        }
        let mut bytes = self.queue.bytes.borrow_mut();
        let before = bytes.len();
        codec::put(&mut bytes, |into| wire::encode(message, into));
        unwritten.set(unwritten.get() + bytes.len() - before);
        self.queue.wake.notify_one();
        Ok(())
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.queue.unwritten.get()
    }

    /// For waiting until fewer do.
    pub fn room(&self) -> Room {
        Room(self.queue.clone())
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        let mut state = self.queue.state.borrow_mut();
        if *state == State::Open {
            *state = State::Closing;
        }
        self.queue.wake.notify_one();
    }
}

/// Writes everything; false when the socket failed or took nothing for the deadline.
async fn write(
    stream: &mut OwnedWriteHalf,
    bytes: &[u8],
    deadline: Duration,
    queue: &Queue,
) -> bool {
    for step in bytes.chunks(WRITE_STEP) {
        let mut left = step;
        while !left.is_empty() {
            match timeout(deadline, stream.write(left)).await {
                Ok(Ok(written)) if written > 0 => {
                    left = &left[written..];
                    queue.unwritten.set(queue.unwritten.get() - written);
                    queue.written.notify_waiters();
                }
                _ => return false,
            }
        }
    }
    true
}
