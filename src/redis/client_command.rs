//! `CLIENT`: about this connection and the others.

use std::collections::HashSet;
use std::sync::Arc;

use super::args::{Args, Refusal, SYNTAX, unknown_subcommand, wrong_arguments};
use super::clients::Client;
use super::help::help;
use super::plan::{Planned, Planner};
use super::session::{ReplyMode, client_name};

/// `CLIENT ID | GETNAME | SETNAME | SETINFO | INFO | LIST | KILL | NO-EVICT | NO-TOUCH | REPLY`
pub fn client(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let name = args[1].to_ascii_lowercase();
    let length = args.len();
    let fits = match &name[..] {
        b"id" | b"getname" | b"info" => length == 2,
        b"setname" | b"no-evict" | b"no-touch" | b"reply" => length == 3,
        b"setinfo" => length == 4,
        b"kill" => length >= 3,
        b"list" => true,
        b"help" => return help(p, args),
        _ => return Err(unknown_subcommand(args)),
    };
    if !fits {
        let name = args.text(1).to_lowercase();
        return Err(wrong_arguments(&format!("client|{name}")));
    }
    match &name[..] {
        b"id" => {
            let id = p.session.client.id;
            p.reply().integer(id as i64);
        }
        b"getname" => {
            let name = p.session.client.said().name.clone();
            match &name[..] {
                "" => p.reply().null(),
                name => p.reply().bulk(name.as_bytes()),
            }
        }
        b"setname" => {
            let name = client_name("Client names", &args[2])?;
            p.session.client.said().name = name;
            return p.ok();
        }
        b"setinfo" => return set_info(p, args),
        b"info" => {
            let line = p.session.client.line();
            p.reply().verbatim(&line);
        }
        b"list" => return list(p, args),
        b"kill" => return kill(p, args),
        b"reply" => return reply(p, args),
        b"no-touch" => {
            p.session.no_touch = on_or_off(args)?;
            return p.ok();
        }
        _ => {
            // Clients are not evicted here.
            on_or_off(args)?;
            return p.ok();
        }
    }
    Ok(())
}

fn on_or_off(args: Args<'_>) -> Result<bool, Refusal> {
    match (args.is(2, "on"), args.is(2, "off")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(SYNTAX.into()),
    }
}

fn set_info(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let option = args.text(2);
    let is_library = args.is(2, "lib-name");
    if !is_library && !args.is(2, "lib-ver") {
        return Err(format!("ERR Unrecognized option '{option}'").into());
    }
    let text = client_name(&option, &args[3])?;
    let mut said = p.session.client.said();
    if is_library {
        said.library = text;
    } else {
        said.version = text;
    }
    drop(said);
    p.ok()
}

fn list(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let all = p.gateway.clients.all();
    let chosen: Vec<Arc<Client>> = if args.len() == 2 {
        all
    } else if args.len() == 4 && args.is(2, "type") {
        match &args[3].to_ascii_lowercase()[..] {
            b"normal" => all,
            _ if is_other_type(&args.text(3)) => Vec::new(),
            _ => return Err(unknown_type(&args.text(3))),
        }
    } else if args.len() > 3 && args.is(2, "id") {
        let mut ids = HashSet::new();
        for at in 3..args.len() {
            ids.insert(args.integer(at).map_err(|_| Refusal::from("ERR Invalid client ID"))? as u64);
        }
        all.into_iter().filter(|client| ids.contains(&client.id)).collect()
    } else {
        return Err(SYNTAX.into());
    };
    let text: String = chosen.iter().map(|client| client.line()).collect();
    p.reply().verbatim(&text);
    Ok(())
}

/// Is it a type of clients that there are none of here?
fn is_other_type(name: &str) -> bool {
    ["master", "replica", "slave", "pubsub"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn unknown_type(name: &str) -> Refusal {
    format!("ERR Unknown client type '{name}'").into()
}

/// `CLIENT KILL address` or `CLIENT KILL [ID n] [ADDR a] [LADDR a] [USER u] [TYPE t] [SKIPME y]`
fn kill(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    if args.len() == 3 {
        let address = args.text(2);
        let all = p.gateway.clients.all();
        let found = all.iter().find(|client| client.peer.to_string() == address);
        let found = found.ok_or("ERR No such client")?;
        end(p, found);
        return p.ok();
    }
    if args.len().is_multiple_of(2) {
        let filters = read_filters(args)?;
        let me = p.session.client.id;
        let chosen: Vec<Arc<Client>> =
            p.gateway.clients.all().into_iter().filter(|client| filters.fit(client, me)).collect();
        chosen.iter().for_each(|client| end(p, client));
        p.reply().integer(chosen.len() as i64);
        return Ok(());
    }
    Err(SYNTAX.into())
}

fn end(p: &mut Planner<'_>, client: &Client) {
    if client.id == p.session.client.id {
        p.session.is_closing = true;
    } else {
        client.end();
    }
}

#[derive(Default)]
struct Filters {
    id: Option<u64>,
    peer: Option<String>,
    local: Option<String>,
    nobody: bool,
    includes_me: bool,
}

impl Filters {
    fn fit(&self, client: &Client, me: u64) -> bool {
        let same = |wanted: &Option<String>, address: std::net::SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| *wanted == address.to_string())
        };
        !self.nobody
            && self.id.is_none_or(|id| id == client.id)
            && same(&self.peer, client.peer)
            && same(&self.local, client.local)
            && (self.includes_me || client.id != me)
    }
}

fn read_filters(args: Args<'_>) -> Result<Filters, Refusal> {
    let mut filters = Filters::default();
    for at in (2..args.len()).step_by(2) {
        let value = args.text(at + 1);
        match &args[at].to_ascii_lowercase()[..] {
            b"id" => {
                let id = args.integer(at + 1).ok().filter(|&id| id > 0);
                let id = id.ok_or("ERR client-id should be greater than 0")?;
                filters.id = Some(id as u64);
            }
            b"addr" => filters.peer = Some(value.into_owned()),
            b"laddr" => filters.local = Some(value.into_owned()),
            b"user" if value == "default" => {}
            b"user" => return Err(format!("ERR No such user '{value}'").into()),
            b"type" if value.eq_ignore_ascii_case("normal") => {}
            b"type" if is_other_type(&value) => filters.nobody = true,
            b"type" => return Err(unknown_type(&value)),
            b"skipme" if value.eq_ignore_ascii_case("yes") => filters.includes_me = false,
            b"skipme" if value.eq_ignore_ascii_case("no") => filters.includes_me = true,
            _ => return Err(SYNTAX.into()),
        }
    }
    Ok(filters)
}

fn reply(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    match &args[2].to_ascii_lowercase()[..] {
        b"on" => {
            p.session.reply_mode = ReplyMode::On;
            return p.ok();
        }
        b"off" => p.session.reply_mode = ReplyMode::Off,
        b"skip" if p.session.reply_mode != ReplyMode::Off => {
            p.session.reply_mode = ReplyMode::SkipNext;
        }
        b"skip" => {}
        _ => return Err(SYNTAX.into()),
    }
    Ok(())
}
