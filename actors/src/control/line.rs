//! The dialling end of a control connection: one task a peer, on the Supervisor's thread.
//!
//! It dials for ever, says what became of each attempt, and carries orders while connected. An
//! order that comes while there is no connection is dropped: whoever gave it asks again.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Control;
use crate::handshake::{HandshakeError, Purpose, Refusal};
use crate::peer::{ConnectError, Connection, Params, Whom, WriterHandle};
use crate::version::of_control;
use crate::wire::Message as Wire;

/// Orders that may wait for a line. A further one is dropped.
pub const ORDERS_MAX: usize = 1_024;

/// Requests that wait for answers on one connection. The oldest are given up by their senders.
const REQUESTS_MAX: usize = 256;

/// The longest wait between two attempts, without its half that is left to chance. Short, because a
/// refusing port tells that a node died, and because a cluster is founded by those who were dialled by none
/// ([`crate::founding::listens_ms`]).
const WAIT_MAX: Duration = Duration::from_millis(100);

/// What a line is told to do.
#[derive(Debug)]
pub enum Order {
    /// Send a message.
    Send(Control),
    /// Send a request of the agreement; the answer's sender is dropped when there will be none.
    Request {
        /// The request.
        request: Bytes,
        /// Where the answer goes.
        answer: oneshot::Sender<Bytes>,
    },
    /// This node is another start: close the connection and shake hands anew.
    Redial,
}

/// What happened on a line.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It is connected.
    Up {
        /// The peer's start.
        incarnation: u64,
        /// The protocol version of the connection.
        version: u16,
    },
    /// A message came.
    Heard(Control),
    /// The connection is gone.
    Lost,
    /// An attempt failed.
    Failed {
        /// Does the peer's port refuse connections? Then no process listens there.
        refused: bool,
        /// Does the peer know a newer start of this node?
        outdated: bool,
        /// Does the peer not know this node?
        unknown: bool,
    },
}

/// Whom a line connects to, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to dial it.
    pub whom: Whom,
    /// How to shake hands.
    pub params: Params,
}

/// Runs a line until its orders end. `tell` is given this node's own start as the peer knows it,
/// and what happened.
pub async fn run(
    target: Target,
    mut orders: mpsc::Receiver<Order>,
    tell: impl Fn(u64, Event) + Clone + 'static,
) {
    let mut wait = Duration::ZERO;
    loop {
        let mine = (target.params.incarnation)();
        match target.whom.connect(Purpose::Control, &target.params).await {
            Ok((identity, connection)) => {
                // What was ordered while it was dialled is late.
                while let Ok(order) = orders.try_recv() {
                    drop(order);
                }
                // One of those orders may have been to dial again as another start.
                if (target.params.incarnation)() != mine {
                    continue;
                }
                let (incarnation, version) = (identity.incarnation, connection.version());
                tell(mine, Event::Up { incarnation, version });
                let (goes_on, heard) = talk(mine, connection, &mut orders, tell.clone()).await;
                tell(mine, Event::Lost);
                if !goes_on {
                    return;
                }
                if heard {
                    wait = Duration::ZERO;
                    continue;
                }
            }
            Err(error) => {
                let refused = matches!(&error,
                    ConnectError::Io(io) if io.kind() == ErrorKind::ConnectionRefused);
                let says = |refusal| {
                    matches!(&error,
                        ConnectError::Handshake(HandshakeError::Refused(said)) if *said == refusal)
                };
                let (outdated, unknown) = (says(Refusal::OldIncarnation), says(Refusal::UnknownId));
                tell(mine, Event::Failed { refused, outdated, unknown });
            }
        }
        // It failed, or the peer shook hands and said nothing: one that does so again and again is not
        // dialled without a pause.
        wait = (wait * 2).clamp(Duration::from_millis(10), WAIT_MAX);
        let spread = rand::random_range(0..=wait.as_millis() as u64 / 2);
        let until = tokio::time::Instant::now() + wait + Duration::from_millis(spread);
        // Orders are dropped meanwhile.
        while let Ok(order) = tokio::time::timeout_at(until, orders.recv()).await {
            if order.is_none() {
                return;
            }
        }
    }
}

/// Carries orders and answers over one connection. Tells whether there may be more orders, and whether
/// the peer said anything.
async fn talk(
    mine: u64,
    connection: Connection,
    orders: &mut mpsc::Receiver<Order>,
    tell: impl Fn(u64, Event) + Clone + 'static,
) -> (bool, bool) {
    let (mut reader, writer) = connection.split();
    let heard = Rc::<Cell<bool>>::default();
    let hears = heard.clone();
    let (answered, mut answers) = mpsc::channel(REQUESTS_MAX);
    let mut reading = actix_rt::spawn(async move {
        while let Ok(Some(message)) = reader.next().await {
            hears.set(true);
            match message {
                Wire::Control(Control::RaftAnswer { id, answer }) => {
                    if answered.send((id, answer)).await.is_err() {
                        return;
                    }
                }
                Wire::Control(message) => tell(mine, Event::Heard(message)),
                // Not what this connection is for.
                _ => return,
            }
        }
    });
    let mut waiting: HashMap<u64, oneshot::Sender<Bytes>> = HashMap::new();
    let mut next_id = 0;
    let goes_on = loop {
        tokio::select! {
            _ = &mut reading => break true,
            Some((id, answer)) = answers.recv() => {
                if let (Some(sender), Some(answer)) = (waiting.remove(&id), answer) {
                    // Whoever asked may have given up.
                    let _ = sender.send(answer);
                }
            }
            order = orders.recv() => match order {
                None => break false,
                Some(Order::Redial) => break true,
                Some(Order::Send(message)) => {
                    if !send(&writer, message) {
                        break true;
                    }
                }
                Some(Order::Request { request, answer }) => {
                    waiting.retain(|_, sender| !sender.is_closed());
                    if waiting.len() == REQUESTS_MAX {
                        continue;
                    }
                    next_id += 1;
                    waiting.insert(next_id, answer);
                    if !send(&writer, Control::Raft { id: next_id, request }) {
                        break true;
                    }
                }
            }
        }
    };
    reading.abort();
    (goes_on, heard.get())
}

/// Sends a message; false when the connection is worthless. One that the peer's version lacks is
/// lost.
fn send(writer: &WriterHandle, message: Control) -> bool {
    of_control(&message) > writer.version() || writer.send(&Wire::Control(message)).is_ok()
}
