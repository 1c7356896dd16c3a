//! The state of one connection, and the commands that change it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lariat_actors::op::CacheId;
use lariat_actors::slot::Slot;

use super::args::{Args, Refusal, SYNTAX, wrong_arguments};
use super::clients::Client;
use super::counts::Run;
use super::gateway::Gateway;
use super::number::integer;
use super::plan::{Planned, Planner};
use super::reply::Protocol;

/// Bytes of what a client calls itself or its library.
const NAME_MAX: usize = 256;

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    /// What others see of it.
    pub client: Arc<Client>,
    /// The version of the protocol.
    pub protocol: Protocol,
    /// The selected database.
    pub database: usize,
    /// The cache behind it.
    pub cache: CacheId,
    /// Was the password said, if there is one?
    pub is_authenticated: bool,
    /// Does the client want replies?
    pub reply_mode: ReplyMode,
    /// CLIENT NO-TOUCH: are its reads no uses?
    pub no_touch: bool,
    /// Close after the replies so far.
    pub is_closing: bool,
    /// What was written last.
    pub last_write: Option<LastWrite>,
    /// Commands that are not counted yet.
    pub run: Run,
}

/// The last write of a connection, for WAIT.
#[derive(Clone, Copy, Debug)]
pub struct LastWrite {
    /// The cache.
    pub cache: CacheId,
    /// The slot; of several keys that of the last.
    pub slot: Slot,
    /// `since` of the slot when the write was sent: under the same one the primary is the same.
    /// `None` as long as it is not sent.
    pub since: Option<u64>,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// All.
    On,
    /// None.
    Off,
    /// Not to the command after this one.
    SkipNext,
    /// Not to this command.
    Skip,
}

impl Session {
    /// A new connection.
    pub fn new(client: Arc<Client>, gateway: &Gateway) -> Self {
        Session {
            client,
            protocol: Protocol::Resp2,
            database: 0,
            cache: CacheId(0),
            is_authenticated: gateway.token.is_none(),
            reply_mode: ReplyMode::On,
            no_touch: false,
            is_closing: false,
            last_write: None,
            run: Run::default(),
        }
    }

    /// Is the reply to the command that was just planned to be left out?
    pub fn is_silent(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::Skip;
                false
            }
            ReplyMode::Skip => {
                self.reply_mode = ReplyMode::On;
                true
            }
        }
    }

    /// Notes that a slot of the selected cache is about to be written.
    pub fn writes(&mut self, slot: Slot) {
        self.last_write = Some(LastWrite { cache: self.cache, slot, since: None });
    }

    /// The last write, which is sent now if it was not yet.
    pub fn sent(&mut self, gateway: &Gateway) -> Option<LastWrite> {
        let last = self.last_write.as_mut()?;
        if last.since.is_none() {
            last.since = Some(gateway.client.map().row(last.slot).since);
        }
        Some(*last)
    }

    /// Notes the last command, by its place in the table.
    pub fn note(&self, place: usize) {
        self.client.command.store(place, Relaxed);
    }

    /// Place of the command before, in the table.
    pub fn last(&self) -> usize {
        self.client.command.load(Relaxed)
    }

    fn select(&mut self, database: usize, cache: CacheId) {
        (self.database, self.cache) = (database, cache);
        self.client.database.store(database, Relaxed);
    }

    fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        let number = if protocol == Protocol::Resp3 { 3 } else { 2 };
        self.client.protocol.store(number, Relaxed);
    }

    fn authenticate(
        &mut self,
        gateway: &Gateway,
        user: &[u8],
        password: &[u8],
    ) -> Result<(), Refusal> {
        let right = match &gateway.token {
            Some(token) => crate::secret::is_same(password, token.as_bytes()),
            None => true,
        };
        if user == b"default" && right {
            self.is_authenticated = true;
            return Ok(());
        }
        Err("WRONGPASS invalid username-password pair or user is disabled.".into())
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
pub fn hello(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let mut version = None;
    let mut name = None;
    if args.len() > 1 {
        let number =
            integer(&args[1]).ok_or("ERR Protocol version is not an integer or out of range")?;
        version = Some(match number {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err("NOPROTO unsupported protocol version".into()),
        });
    }
    let mut credentials = None;
    let mut at = 2;
    while at < args.len() {
        let more = args.len() - 1 - at;
        if args.is(at, "auth") && more >= 2 {
            credentials = Some((at + 1, at + 2));
            at += 3;
        } else if args.is(at, "setname") && more >= 1 {
            name = Some(client_name("Client names", &args[at + 1])?);
            at += 2;
        } else {
            return Err(format!("ERR Syntax error in HELLO option '{}'", args.text(at)).into());
        }
    }
    if let Some((user, password)) = credentials {
        p.session.authenticate(p.gateway, &args[user], &args[password])?;
    }
    if !p.session.is_authenticated {
        return Err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time".into());
    }
    if let Some(name) = name {
        p.session.client.said().name = name;
    }
    if let Some(version) = version {
        p.session.speak(version);
        p.batch.texts.protocol = version;
    }
    let mode = if p.gateway.is_cluster() { "cluster" } else { "standalone" };
    let (protocol, id) = (p.session.protocol, p.session.client.id);
    let out = p.reply();
    out.map(7);
    for (key, value) in [("server", "redis"), ("version", super::describe::REDIS_VERSION)] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"proto");
    out.integer(if protocol == Protocol::Resp3 { 3 } else { 2 });
    out.bulk(b"id");
    out.integer(id as i64);
    for (key, value) in [("mode", mode), ("role", "master")] {
        out.bulk(key.as_bytes());
        out.bulk(value.as_bytes());
    }
    out.bulk(b"modules");
    out.array(0);
    Ok(())
}

/// `AUTH [user] password`
pub fn auth(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    match args.len() {
        2 if p.gateway.token.is_none() => Err("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?".into()),
        2 => {
            p.session.authenticate(p.gateway, b"default", &args[1])?;
            p.ok()
        }
        3 => {
            p.session.authenticate(p.gateway, &args[1], &args[2])?;
            p.ok()
        }
        _ => Err(SYNTAX.into()),
    }
}

/// `SELECT number`
pub fn select(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let number = args.integer(1)?;
    if p.gateway.is_cluster() {
        if number == 0 {
            return p.ok();
        }
        return Err("ERR SELECT is not allowed in cluster mode".into());
    }
    let known = usize::try_from(number).ok().filter(|&at| at < p.gateway.databases.len());
    let number = known.ok_or("ERR DB index is out of range")?;
    let cache = p.gateway.databases[number]
        .ok_or_else(|| format!("ERR DB index is out of range: no cache has redis_db = {number}"))?;
    p.session.select(number, cache);
    p.ok()
}

/// `PING [text]`
pub fn ping(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    match args.len() {
        1 => p.reply().simple("PONG"),
        2 => p.reply().bulk(&args[1]),
        _ => return Err(wrong_arguments("ping")),
    }
    Ok(())
}

/// `ECHO text`
pub fn echo(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    p.reply().bulk(&args[1]);
    Ok(())
}

/// `QUIT`
pub fn quit(p: &mut Planner<'_>, _args: Args<'_>) -> Planned {
    p.session.is_closing = true;
    p.ok()
}

/// `RESET`
pub fn reset(p: &mut Planner<'_>, _args: Args<'_>) -> Planned {
    p.session.speak(Protocol::Resp2);
    p.batch.texts.protocol = Protocol::Resp2;
    p.session.select(0, CacheId(0));
    p.session.is_authenticated = p.gateway.token.is_none();
    p.session.reply_mode = ReplyMode::On;
    p.session.no_touch = false;
    p.session.client.said().name.clear();
    p.reply().simple("RESET");
    Ok(())
}

/// `READONLY`, `READWRITE` and `ASKING`, which change nothing here: a slot is never half moved as
/// clients see it, and reads go to primaries.
pub fn cluster_mode(p: &mut Planner<'_>, _args: Args<'_>) -> Planned {
    if !p.gateway.is_cluster() {
        return Err("ERR This instance has cluster support disabled".into());
    }
    p.ok()
}

/// A name for CLIENT LIST: printable, without spaces, and of [`NAME_MAX`] bytes at most. `what` is
/// how an error calls it.
pub fn client_name(what: &str, name: &[u8]) -> Result<String, Refusal> {
    if name.len() > NAME_MAX {
        return Err(format!("ERR {what} cannot be longer than {NAME_MAX} bytes.").into());
    }
    match std::str::from_utf8(name) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.to_string()),
        _ => {
            Err(format!("ERR {what} cannot contain spaces, newlines or special characters.").into())
        }
    }
}
