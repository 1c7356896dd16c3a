//! The accepting end of a control connection, on the Supervisor's thread.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::Control;
use crate::peer::{Connection, WriterHandle};
use crate::version::of_control;
use crate::wire::Message as Wire;

/// Messages of one connection that may wait to be handled; it is not read from beyond that.
const WAITING_MAX: usize = 64;

/// An accepted control connection. Dropping it closes it.
#[derive(Debug)]
pub struct Accepted {
    /// The peer's start that it belongs to.
    pub incarnation: u64,
    /// Tells it from others of the same start.
    pub number: u64,
    writer: Rc<WriterHandle>,
    reading: JoinHandle<()>,
}

/// Where answers go.
#[derive(Clone, Debug)]
pub struct Reply(Rc<WriterHandle>);

impl Reply {
    /// Sends an answer. A connection that is gone needs none, and a peer whose version lacks it
    /// gets none.
    pub fn send(&self, message: Control) {
        if of_control(&message) <= self.0.version() {
            let _ = self.0.send(&Wire::Control(message));
        }
    }
}

impl Accepted {
    /// Serves a connection on the current thread; `heard` is given each message, and a permit to be
    /// dropped when it has been dealt with.
    pub fn serve(
        connection: Connection,
        incarnation: u64,
        number: u64,
        heard: impl Fn(Control, OwnedSemaphorePermit) + 'static,
    ) -> Self {
        let (mut reader, writer) = connection.split();
        let writer = Rc::new(writer);
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        let reading = actix_rt::spawn(async move {
            while let Ok(Some(Wire::Control(message))) = reader.next().await {
                match room.clone().acquire_owned().await {
                    Ok(permit) => heard(message, permit),
                    Err(_) => return,
                }
            }
        });
        Accepted { incarnation, number, writer, reading }
    }

    /// The protocol version of the connection.
    pub fn version(&self) -> u16 {
        self.writer.version()
    }

    /// Is the peer still at the other end?
    pub fn is_open(&self) -> bool {
        !self.reading.is_finished()
    }

    /// Where answers to what came by this connection go.
    pub fn reply(&self) -> Reply {
        Reply(self.writer.clone())
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
