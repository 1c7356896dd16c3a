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
