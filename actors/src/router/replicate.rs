//! The Router's messages about replication: from its shards, its links and their peers.

use actix::{Context, Handler};

use super::Router;
#[cfg(test)]
use super::messages::SetLinks;
use super::messages::{Acked, Chunk, Fanout, LinkEvent, LinkNews, Rows};

#[cfg(test)]
impl Handler<SetLinks> for Router {
    type Result = ();
    fn handle(&mut self, message: SetLinks, _ctx: &mut Context<Self>) {
        message.0.into_iter().for_each(|link| self.fans.add_link(link));
    }
}

impl Handler<Rows> for Router {
    type Result = ();
    fn handle(&mut self, rows: Rows, ctx: &mut Context<Self>) {
        if rows.incarnation > self.incarnation {
            // A shard was faster than the news that this node is another start.
            self.restart(rows.incarnation);
        }
        if rows.incarnation == self.incarnation {
            self.fans.rows(rows);
            self.keep_pace(ctx);
        }
    }
}

impl Handler<Fanout> for Router {
    type Result = ();
    fn handle(&mut self, fanout: Fanout, _ctx: &mut Context<Self>) {
        self.fans.fan_out(fanout);
    }
}

impl Handler<Chunk> for Router {
    type Result = ();
    fn handle(&mut self, chunk: Chunk, ctx: &mut Context<Self>) {
        self.fans.chunk(chunk);
        self.keep_pace(ctx);
    }
}

impl Handler<Acked> for Router {
    type Result = ();
    fn handle(&mut self, acked: Acked, ctx: &mut Context<Self>) {
        self.fans.acked(acked);
        self.keep_pace(ctx);
    }
}

impl Handler<LinkNews> for Router {
    type Result = ();
    fn handle(&mut self, news: LinkNews, ctx: &mut Context<Self>) {
        self.fans.link_news(news.peer, news.event);
        self.keep_pace(ctx);
        if matches!(news.event, LinkEvent::Up { .. }) {
            self.unpark(ctx);
        }
    }
}
