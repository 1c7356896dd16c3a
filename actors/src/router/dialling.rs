//! The links of a thread: one to each member, and to those that are listed later; and the connections
//! that peers have dialled.

use actix::{Addr, AsyncContext, Context, Handler};

use super::Router;
use super::messages::{Dial, Opened};
use crate::map::NodeIx;
use crate::peer::inbound::CloseInbound;
use crate::peer::link::{LinkConfig, PeerLink};

impl Router {
    /// Makes the links that are missing.
    pub(super) fn dial(&mut self, ctx: &mut Context<Self>) {
        let Some(Dial { params, all }) = &self.dialling else { return };
        let members = self.shared.map.load().members.len();
        for node in self.fans.linked()..members {
            let peer = NodeIx(node as u16);
            let link = self.shared.whom(peer).map(|whom| {
                let (shared, params, router) = (self.shared.clone(), params.clone(), ctx.address());
                let config = LinkConfig { shared, peer, whom, params, router };
                crate::actor::start(PeerLink::new(config))
            });
            all.lock().expect("no holder of this lock panics").extend(link.clone());
            self.fans.add_link(link);
        }
    }
}

impl Handler<Dial> for Router {
    type Result = ();
    fn handle(&mut self, dial: Dial, ctx: &mut Context<Self>) {
        self.dialling = Some(dial);
        self.dial(ctx);
    }
}

impl Handler<Opened> for Router {
    type Result = ();
    fn handle(&mut self, opened: Opened, _ctx: &mut Context<Self>) {
        self.inbounds.retain(Addr::connected);
        let Opened { inbound, incarnation } = opened;
        // Those before it were closed when the node became another start.
        if incarnation == self.shared.incarnation() {
            self.inbounds.push(inbound);
        } else {
            inbound.do_send(CloseInbound);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;
    use crate::handshake::Purpose;
    use crate::peer::inbound::Inbound;
    use crate::peer::{self, Accepted, Reader, WriterHandle};
    use crate::router::messages::Reset;
    use crate::shard::bench::{Node, OTHER, run};
    use crate::wire::Message as Wire;

    /// A connection that a peer has made to a node: who serves it, and the peer's end.
    struct Dialled {
        inbound: Addr<Inbound>,
        theirs: (Reader, WriterHandle),
    }

    async fn dial(node: &Node, from: &Node) -> Dialled {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<Accepted>();
        let on_connection = move |accepted| tell.send(accepted).unwrap();
        let params = node.params();
        let _listening = peer::listen(listener, params, on_connection, |error| panic!("{error}"));
        let id = node.shared.id.clone();
        let dialled = peer::connect(&address, &id, Purpose::Data, &from.params()).await;
        let connection = told.recv().await.unwrap().connection;
        let (shared, router) = (node.shared.clone(), node.router.clone());
        let inbound = Inbound::serve(shared, OTHER, router, connection);
        Dialled { inbound, theirs: dialled.unwrap().1.split() }
    }

    impl Dialled {
        /// Is the connection served? Otherwise it has been closed.
        async fn is_served(&mut self) -> bool {
            let (reader, writer) = &mut self.theirs;
            if writer.send(&Wire::Beat { seq: 1 }).is_err() {
                return false;
            }
            match reader.next().await {
                Ok(Some(answer)) => matches!(answer, Wire::BeatAnswer { seq: 1, .. }),
                Ok(None) | Err(_) => false,
            }
        }
    }

    #[test]
    fn connections_to_a_start_that_is_over_are_closed_also_those_that_come_late() {
        run(async {
            let (node, other) = (Node::start_as("me"), Node::start_as("other"));
            let start = node.shared.incarnation();
            let mut early = dial(&node, &other).await;
            node.router.do_send(Opened { inbound: early.inbound.clone(), incarnation: start });
            assert!(early.is_served().await);
            let mut late = dial(&node, &other).await;
            // It was made to the start before, and the Router hears of that first.
            node.shared.set_incarnation(start + 1);
            node.router.do_send(Reset);
            node.router.do_send(Opened { inbound: late.inbound.clone(), incarnation: start });
            let mut new = dial(&node, &other).await;
            let incarnation = start + 1;
            node.router.do_send(Opened { inbound: new.inbound.clone(), incarnation });
            for old in [&mut early, &mut late] {
                let is_closed = || !old.inbound.connected();
                node.wait_until("a connection to the start before is closed", is_closed).await;
                assert!(!old.is_served().await);
            }
            assert!(new.is_served().await);
        });
    }
}
