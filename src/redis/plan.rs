//! From commands to requests: what one read of a connection comes to.
//!
//! A command is planned without waiting. It adds requests to the batch of its read and says how
//! their answers become its reply, or has its reply at once, or is slow: then everything before it
//! is answered first and it runs alone.

use std::ops::Range;

use bytes::Bytes;
use lariat_actors::op::{Op, Request};
use lariat_actors::slot::slot_of;

use super::args::{Args, Refusal, TEXT_MAX};
use super::finish::Finish;
use super::gateway::Gateway;
use super::reply::{Protocol, Replies};
use super::session::Session;
use super::table::{self, Command, Known};
use super::walk::Slow;

/// What a planned command comes to.
pub type Planned = Result<(), Refusal>;

/// The commands of one read, in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// What shards are asked, in the order of commands.
    pub requests: Vec<Request>,
    /// One for each command.
    pub steps: Vec<Step>,
    /// Replies that are known already.
    pub texts: Replies,
    /// The command after these, if it has to run alone.
    pub slow: Option<Slow>,
    finish: Option<Finish>,
}

/// How one command is answered.
#[derive(Debug)]
pub struct Step {
    /// What its answers become.
    pub finish: Finish,
    /// How many of the requests are its own.
    pub requests: usize,
    /// In which version.
    pub protocol: Protocol,
    /// Does the client want to hear it?
    pub is_silent: bool,
}

impl Batch {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.steps.clear();
        self.texts.clear(4_096);
    }

    /// The version of the replies, if each command asks for one value and has a reply like every
    /// other's.
    pub fn alike(&self) -> Option<Protocol> {
        let protocol = self.steps.first()?.protocol;
        let is_like_it = |step: &Step| {
            matches!(step.finish, Finish::Value) && step.protocol == protocol && !step.is_silent
        };
        let all = self.requests.len() == self.steps.len() && self.steps.iter().all(is_like_it);
        all.then_some(protocol)
    }

    /// Begins anew, and keeps room for some commands.
    pub fn forget(&mut self, commands: usize) {
        self.clear();
        self.steps.shrink_to(commands);
        self.texts.clear(1_024);
    }
}

/// Plans commands of one connection.
pub struct Planner<'a> {
    /// The gateway.
    pub gateway: &'a Gateway,
    /// The connection's state.
    pub session: &'a mut Session,
    /// Where plans go.
    pub batch: &'a mut Batch,
}

impl Planner<'_> {
    /// Plans one command. Afterwards `batch.slow` may hold what has to run before the next one.
    pub fn plan(&mut self, args: Args<'_>) {
        self.batch.texts.protocol = self.session.protocol;
        let requests = self.batch.requests.len();
        let mark = self.batch.texts.mark();
        let planned = self.dispatch(args);
        if let Err(refusal) = planned {
            self.batch.requests.truncate(requests);
            self.batch.texts.truncate(mark);
            self.batch.finish = None;
            self.batch.slow = None;
            self.batch.texts.error(&refusal.0);
        }
        let is_silent = self.session.is_silent();
        if let Some(slow) = &mut self.batch.slow {
            slow.is_silent = is_silent;
            return;
        }
        let texts = Range { start: mark.0, end: self.batch.texts.mark().0 };
        let finish = self.batch.finish.take().unwrap_or(Finish::Text(texts));
        let requests = self.batch.requests.len() - requests;
        // HELLO answers in the version it asks for, which it set while it was planned.
        let protocol = self.batch.texts.protocol;
        self.batch.steps.push(Step { finish, requests, protocol, is_silent });
    }

    fn dispatch(&mut self, args: Args<'_>) -> Planned {
        let found = table::find_after(self.session.last(), &args[0]);
        let place = if let Known::Command(place, _) = found { Some(place) } else { None };
        self.session.run.add(place, &self.gateway.counts);
        let (place, command) = match found {
            Known::Command(place, command) => (place, command),
            Known::Unsupported => {
                let name = args.text(0).to_uppercase();
                return Err(format!("ERR {name} is not supported: this is a cache of strings, without transactions, scripts and channels").into());
            }
            Known::No => return Err(unknown(args)),
        };
        if !command.takes(args.len()) {
            return Err(super::args::wrong_arguments(command.name));
        }
        if !self.session.is_authenticated && !command.is_before_auth() {
            return Err("NOAUTH Authentication required.".into());
        }
        self.session.note(place);
        if command.keys.0 > 0 && self.gateway.is_cluster() {
            self.gateway.check_slots(command.key_places(args.len()).map(|at| &args[at]))?;
        }
        (command.plan)(self, args)
    }

    /// Is the key this node's, if that matters? For keys that the table does not know of.
    pub fn check_slot_of(&self, key: &[u8]) -> Planned {
        if self.gateway.is_cluster() {
            self.gateway.check_slots([key].into_iter())?;
        }
        Ok(())
    }

    /// Reads a value: a use, unless the client says that its reads are none.
    pub fn get(&self) -> Op {
        if self.session.no_touch { Op::Peek } else { Op::Get { any: false } }
    }

    /// Asks the shard of a key.
    pub fn ask(&mut self, key: Bytes, op: Op) {
        let slot = slot_of(&key);
        self.ask_slot(slot, key, op);
    }

    /// The same when the slot is known.
    pub fn ask_slot(&mut self, slot: u16, key: Bytes, op: Op) {
        if op.is_write() {
            self.session.writes(slot);
        }
        let cache = self.session.cache;
        self.batch.requests.push(Request { cache, slot, key, op, acks: None });
    }

    /// Says what the answers become.
    pub fn finish(&mut self, finish: Finish) -> Planned {
        self.batch.finish = Some(finish);
        Ok(())
    }

    /// Runs alone.
    pub fn slow(&mut self, slow: Slow) -> Planned {
        self.batch.slow = Some(slow);
        Ok(())
    }

    /// Where a reply that is known at once goes.
    pub fn reply(&mut self) -> &mut Replies {
        &mut self.batch.texts
    }

    /// `+OK`
    pub fn ok(&mut self) -> Planned {
        self.reply().simple("OK");
        Ok(())
    }
}

impl Command {
    /// Where the keys of a command with so many arguments are.
    pub fn key_places(&self, arguments: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let (first, last, step) = self.keys;
        let last =
            if last < 0 { arguments.saturating_sub(last.unsigned_abs()) } else { last as usize };
        (first..=last.min(arguments - 1)).step_by(step.max(1))
    }
}

fn unknown(args: Args<'_>) -> Refusal {
    let name = args.text(0);
    let mut given = String::new();
    for argument in args.iter().skip(1) {
        if given.len() >= TEXT_MAX {
            break;
        }
        let left = TEXT_MAX - given.len();
        let text = String::from_utf8_lossy(&argument[..argument.len().min(left)]);
        given.push_str(&format!("'{text}' "));
    }
    format!("ERR unknown command '{name}', with args beginning with: {given}").into()
}
