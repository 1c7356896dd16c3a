//! Connections that peers dial: who serves them.

use std::cell::Cell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use actix::Addr;

use super::inbound::Inbound;
use super::{AcceptError, Accepted, Params, listen};
use crate::handshake::Purpose;
use crate::op::Ms;
use crate::router::Router;
use crate::router::messages::Opened;
use crate::shared::Shared;
use crate::supervisor::{ControlAccepted, EnrolAccepted, PeerSeen, Supervisor};

/// Refused peers are logged once in this time, and always counted.
const REFUSALS_LOGGED_EVERY_MS: Ms = 1_000;

/// Accepts peers on a worker thread until `stopped`: data connections are served here, control
/// connections are passed on to the Supervisor's thread.
pub(crate) fn accept(
    shared: Arc<Shared>,
    params: Params,
    supervisor: Addr<Supervisor>,
    router: Addr<Router>,
    listener: TcpListener,
    stopped: tokio::sync::oneshot::Receiver<()>,
) {
    let refused = shared.clone();
    let last_told: Rc<Cell<Option<Ms>>> = Rc::default();
    let on_refused = move |error: &AcceptError| {
        refused.counters.peer_handshakes_refused.add(1);
        // Whoever can reach the port must not be able to fill the log.
        let now = refused.clock.now();
        if last_told.get().is_none_or(|told| now >= told + REFUSALS_LOGGED_EVERY_MS) {
            last_told.set(Some(now));
            let refused_so_far = refused.counters.peer_handshakes_refused.get();
            tracing::warn!(node = %refused.id, %error, refused_so_far, "refused a connection from a peer");
        }
    };
    let on_connection = move |accepted: Accepted| {
        let Accepted { identity, known, mine, purpose, connection } = accepted;
        if purpose == Purpose::Enrol {
            let id = identity.id;
            match connection.detach() {
                Ok(connection) => supervisor.do_send(EnrolAccepted { id, known, connection }),
                Err(error) => {
                    tracing::warn!(node = %shared.id, %error, "cannot pass a connection on")
                }
            }
            return;
        }
        let Some(peer) = shared.find(&identity.id) else { return };
        let (incarnation, version) = (identity.incarnation, connection.version());
        supervisor.do_send(PeerSeen { peer, incarnation, version });
        match purpose {
            Purpose::Data if mine == shared.incarnation() => {
                let inbound = Inbound::serve(shared.clone(), peer, router.clone(), connection);
                router.do_send(Opened { inbound, incarnation: mine });
            }
            Purpose::Control => match connection.detach() {
                Ok(connection) => {
                    supervisor.do_send(ControlAccepted { peer, incarnation, mine, connection });
                }
                Err(error) => {
                    tracing::warn!(node = %shared.id, %error, "cannot pass a peer's connection on")
                }
            },
            // It belongs to a start of this node that is over.
            Purpose::Data | Purpose::Enrol => {}
        }
    };
    let listening = listen(listener, params, on_connection, on_refused);
    actix_rt::spawn(async move {
        // Ends when the sender is dropped: the node stops accepting.
        let _ = stopped.await;
        drop(listening);
    });
}
