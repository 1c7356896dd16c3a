//! The table of commands: what COMMAND tells, and who plans each.

use super::args::Args;
use super::plan::{Planned, Planner};
use super::{client_command, cluster, describe, expiry, info, keyspace, session, strings};

/// A command.
#[derive(Debug)]
pub struct Command {
    /// Its name, in small letters.
    pub name: &'static str,
    /// Arguments, the name included; negative: at least so many.
    pub arity: i64,
    /// A set of the flags below.
    pub flags: u16,
    /// First key, last key (negative: from the end) and step; 0 for no keys.
    pub keys: (usize, isize, usize),
    /// Its group in Redis's documentation.
    pub group: &'static str,
    /// The version of Redis that brought it.
    pub since: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Plans it.
    pub plan: fn(&mut Planner<'_>, Args<'_>) -> Planned,
}

const NONE: u16 = 0;
const READ: u16 = 1;
const WRITE: u16 = 1 << 1;
const OOM: u16 = 1 << 2;
const NOSCRIPT: u16 = 1 << 3;
const LOADING: u16 = 1 << 4;
const STALE: u16 = 1 << 5;
const FAST: u16 = 1 << 6;
const NO_AUTH: u16 = 1 << 7;
const BUSY: u16 = 1 << 8;
const KEYSPACE: u16 = 1 << 9;
const STRING: u16 = 1 << 10;
const CONNECTION: u16 = 1 << 11;
const DANGEROUS: u16 = 1 << 12;

impl Command {
    /// Does it take so many arguments, its name included?
    pub fn takes(&self, arguments: usize) -> bool {
        let arguments = arguments as i64;
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }

    /// May it come before the password?
    pub fn is_before_auth(&self) -> bool {
        self.flags & NO_AUTH != 0
    }

    /// Names of its flags.
    pub fn flag_names(&self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(u16, &str); 9] = [
            (WRITE, "write"),
            (READ, "readonly"),
            (OOM, "denyoom"),
            (NOSCRIPT, "noscript"),
            (LOADING, "loading"),
            (STALE, "stale"),
            (FAST, "fast"),
            (NO_AUTH, "no_auth"),
            (BUSY, "allow_busy"),
        ];
        let flags = self.flags;
        NAMES.into_iter().filter(move |(flag, _)| flags & flag != 0).map(|(_, name)| name)
    }

    /// Names of its categories.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(u16, &str); 6] = [
            (KEYSPACE, "@keyspace"),
            (READ, "@read"),
            (WRITE, "@write"),
            (STRING, "@string"),
            (FAST, "@fast"),
            (CONNECTION, "@connection"),
        ];
        let flags = self.flags;
        let slow = (flags & FAST == 0).then_some("@slow");
        let dangerous = (flags & DANGEROUS != 0).then_some("@dangerous");
        let named = NAMES.into_iter().filter(move |(flag, _)| flags & flag != 0);
        named.map(|(_, name)| name).chain(slow).chain(dangerous)
    }
}

/// What a name is.
pub enum Known {
    /// A command, and its place in the table.
    Command(usize, &'static Command),
    /// One of Redis's that a cache of strings has no use for.
    Unsupported,
    /// Nothing.
    No,
}

/// Looks a name up, in capitals or not, beginning with the place where the one before was found:
/// mostly it is the same.
pub fn find_after(last: usize, name: &[u8]) -> Known {
    match COMMANDS.get(last) {
        Some(command) if name.eq_ignore_ascii_case(command.name.as_bytes()) => {
            Known::Command(last, command)
        }
        _ => find(name),
    }
}

/// Looks a name up, in capitals or not.
pub fn find(name: &[u8]) -> Known {
    let mut word = [0; WORD];
    if let Some(small) = word.get_mut(..name.len()) {
        small.copy_from_slice(name);
        small.make_ascii_lowercase();
        if let Ok(at) = WORDS.binary_search(&u128::from_be_bytes(word)) {
            return Known::Command(at, &COMMANDS[at]);
        }
    }
    let mut others = UNSUPPORTED.split_ascii_whitespace();
    let is_redis = others.any(|other| name.eq_ignore_ascii_case(other.as_bytes()));
    if is_redis { Known::Unsupported } else { Known::No }
}

/// All commands, by name.
pub fn all() -> &'static [Command] {
    &COMMANDS
}

/// The name of the command at a place.
pub fn name_at(place: usize) -> &'static str {
    COMMANDS.get(place).map_or("", |command| command.name)
}

#[allow(clippy::too_many_arguments)]
const fn row(
    name: &'static str,
    arity: i64,
    flags: u16,
    keys: (usize, isize, usize),
    group: &'static str,
    since: &'static str,
    summary: &'static str,
    plan: fn(&mut Planner<'_>, Args<'_>) -> Planned,
) -> Command {
    Command { name, arity, flags, keys, group, since, summary, plan }
}

#[rustfmt::skip]
const TABLE: [Command; 65] = [
    row("append", 3, WRITE | OOM | FAST | STRING, (1, 1, 1), "string", "2.0.0", "append to the value of a key", strings::append),
    row("asking", 1, FAST | CONNECTION, (0, 0, 0), "cluster", "3.0.0", "accepted for cluster clients, changes nothing", session::cluster_mode),
    row("auth", -2, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | BUSY | CONNECTION, (0, 0, 0), "connection", "1.0.0", "say the password", session::auth),
    row("client", -2, NONE, (0, 0, 0), "connection", "2.4.0", "about connections", client_command::client),
    row("cluster", -2, NONE, (0, 0, 0), "cluster", "3.0.0", "about the cluster", cluster::cluster),
    row("command", -1, LOADING | STALE | CONNECTION, (0, 0, 0), "server", "2.8.13", "about commands", describe::command),
    row("config", -2, NONE, (0, 0, 0), "server", "2.0.0", "read settings", describe::config),
    row("copy", -3, WRITE | OOM | KEYSPACE, (1, 2, 1), "generic", "6.2.0", "copy a key within its slot", keyspace::copy),
    row("dbsize", 1, READ | FAST | KEYSPACE, (0, 0, 0), "server", "1.0.0", "count the keys", keyspace::dbsize),
    row("decr", 2, WRITE | OOM | FAST | STRING, (1, 1, 1), "string", "1.0.0", "take one from a number", strings::decr),
    row("decrby", 3, WRITE | OOM | FAST | STRING, (1, 1, 1), "string", "1.0.0", "take from a number", strings::decrby),
    row("del", -2, WRITE | KEYSPACE, (1, -1, 1), "generic", "1.0.0", "delete keys", keyspace::del),
    row("echo", 2, LOADING | STALE | FAST | CONNECTION, (0, 0, 0), "connection", "1.0.0", "the text again", session::echo),
    row("exists", -2, READ | FAST | KEYSPACE, (1, -1, 1), "generic", "1.0.0", "count which keys are there", keyspace::exists),
    row("expire", -3, WRITE | FAST | KEYSPACE, (1, 1, 1), "generic", "1.0.0", "set the time to live in seconds", expiry::expire),
    row("expireat", -3, WRITE | FAST | KEYSPACE, (1, 1, 1), "generic", "1.2.0", "set the end of life in seconds since 1970", expiry::expireat),
    row("expiretime", 2, READ | FAST | KEYSPACE, (1, 1, 1), "generic", "7.0.0", "the end of life in seconds since 1970", expiry::expiretime),
    row("flushall", -1, WRITE | KEYSPACE | DANGEROUS, (0, 0, 0), "server", "1.0.0", "delete everything in all databases", keyspace::flushall),
    row("flushdb", -1, WRITE | KEYSPACE | DANGEROUS, (0, 0, 0), "server", "1.0.0", "delete everything in the selected database", keyspace::flushdb),
    row("function", -2, NONE, (0, 0, 0), "scripting", "7.0.0", "nothing but FUNCTION FLUSH", keyspace::function),
    row("get", 2, READ | FAST | STRING, (1, 1, 1), "string", "1.0.0", "the value of a key", strings::get),
    row("getdel", 2, WRITE | FAST | STRING, (1, 1, 1), "string", "6.2.0", "the value of a key, which is deleted", strings::getdel),
    row("getex", -2, WRITE | FAST | STRING, (1, 1, 1), "string", "6.2.0", "the value of a key, with a new time to live", strings::getex),
    row("getrange", 4, READ | STRING, (1, 1, 1), "string", "2.4.0", "a part of the value of a key", strings::getrange),
    row("getset", 3, WRITE | OOM | FAST | STRING, (1, 1, 1), "string", "1.0.0", "set a value and get the old one", strings::getset),
    row("hello", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | BUSY | CONNECTION, (0, 0, 0), "connection", "6.0.0", "choose the version of the protocol", session::hello),
    row("incr", 2, WRITE | OOM | FAST | STRING, (1, 1, 1), "string", "1.0.0", "add one to a number", strings::incr),
    row("incrby", 3, WRITE | OOM | FAST | STRING, (1, 1, 1), "string", "1.0.0", "add to a number", strings::incrby),
    row("incrbyfloat", 3, WRITE | OOM | FAST | STRING, (1, 1, 1), "string", "2.6.0", "add to a decimal number", strings::incrbyfloat),
    row("info", -1, LOADING | STALE | DANGEROUS, (0, 0, 0), "server", "1.0.0", "about this node", info::info),
    row("keys", 2, READ | KEYSPACE | DANGEROUS, (0, 0, 0), "generic", "1.0.0", "list the keys that match a pattern", keyspace::keys),
    row("memory", -2, NONE, (0, 0, 0), "server", "4.0.0", "bytes of an entry", strings::memory),
    row("mget", -2, READ | FAST | STRING, (1, -1, 1), "string", "1.0.0", "the values of keys", strings::mget),
    row("mset", -3, WRITE | OOM | STRING, (1, -1, 2), "string", "1.0.1", "set values of keys", strings::mset),
    row("msetnx", -3, WRITE | OOM | STRING, (1, -1, 2), "string", "1.0.1", "set values of keys of one slot if none is there", strings::msetnx),
    row("object", -2, NONE, (0, 0, 0), "generic", "2.2.3", "how Redis would store a value", strings::object),
    row("persist", 2, WRITE | FAST | KEYSPACE, (1, 1, 1), "generic", "2.2.0", "take the time to live away", expiry::persist),
    row("pexpire", -3, WRITE | FAST | KEYSPACE, (1, 1, 1), "generic", "2.6.0", "set the time to live in milliseconds", expiry::pexpire),
    row("pexpireat", -3, WRITE | FAST | KEYSPACE, (1, 1, 1), "generic", "2.6.0", "set the end of life in milliseconds since 1970", expiry::pexpireat),
    row("pexpiretime", 2, READ | FAST | KEYSPACE, (1, 1, 1), "generic", "7.0.0", "the end of life in milliseconds since 1970", expiry::pexpiretime),
    row("ping", -1, FAST | CONNECTION, (0, 0, 0), "connection", "1.0.0", "is anybody there?", session::ping),
    row("psetex", 4, WRITE | OOM | STRING, (1, 1, 1), "string", "2.6.0", "set a value with a time to live in milliseconds", strings::psetex),
    row("pttl", 2, READ | FAST | KEYSPACE, (1, 1, 1), "generic", "2.6.0", "the time to live in milliseconds", expiry::pttl),
    row("quit", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | BUSY | CONNECTION, (0, 0, 0), "connection", "1.0.0", "close the connection", session::quit),
    row("randomkey", 1, READ | KEYSPACE, (0, 0, 0), "generic", "1.0.0", "some key", keyspace::randomkey),
    row("readonly", 1, LOADING | STALE | FAST | CONNECTION, (0, 0, 0), "cluster", "3.0.0", "accepted for cluster clients, changes nothing", session::cluster_mode),
    row("readwrite", 1, LOADING | STALE | FAST | CONNECTION, (0, 0, 0), "cluster", "3.0.0", "accepted for cluster clients, changes nothing", session::cluster_mode),
    row("rename", 3, WRITE | KEYSPACE, (1, 2, 1), "generic", "1.0.0", "rename a key within its slot", keyspace::rename),
    row("renamenx", 3, WRITE | FAST | KEYSPACE, (1, 2, 1), "generic", "1.0.0", "rename a key within its slot if the new one is not there", keyspace::renamenx),
    row("reset", 1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | BUSY | CONNECTION, (0, 0, 0), "connection", "6.2.0", "begin the connection anew", session::reset),
    row("scan", -2, READ | KEYSPACE, (0, 0, 0), "generic", "2.8.0", "list keys, some at a time", keyspace::scan),
    row("select", 2, LOADING | STALE | FAST | CONNECTION, (0, 0, 0), "connection", "1.0.0", "choose a database", session::select),
    row("set", -3, WRITE | OOM | STRING, (1, 1, 1), "string", "1.0.0", "set the value of a key", strings::set),
    row("setex", 4, WRITE | OOM | STRING, (1, 1, 1), "string", "2.0.0", "set a value with a time to live in seconds", strings::setex),
    row("setnx", 3, WRITE | OOM | FAST | STRING, (1, 1, 1), "string", "1.0.0", "set a value if the key is not there", strings::setnx),
    row("setrange", 4, WRITE | OOM | STRING, (1, 1, 1), "string", "2.2.0", "write into the value of a key", strings::setrange),
    row("slowlog", -2, NONE, (0, 0, 0), "server", "2.2.12", "what took long", describe::slowlog),
    row("strlen", 2, READ | FAST | STRING, (1, 1, 1), "string", "2.2.0", "the length of the value of a key", strings::strlen),
    row("substr", 4, READ | STRING, (1, 1, 1), "string", "1.0.0", "a part of the value of a key", strings::getrange),
    row("time", 1, LOADING | STALE | FAST, (0, 0, 0), "server", "2.6.0", "the time of day", describe::time),
    row("touch", -2, READ | FAST | KEYSPACE, (1, -1, 1), "generic", "3.2.1", "use keys", keyspace::touch),
    row("ttl", 2, READ | FAST | KEYSPACE, (1, 1, 1), "generic", "1.0.0", "the time to live in seconds", expiry::ttl),
    row("type", 2, READ | FAST | KEYSPACE, (1, 1, 1), "generic", "1.0.0", "the type of a key", keyspace::type_of),
    row("unlink", -2, WRITE | FAST | KEYSPACE, (1, -1, 1), "generic", "4.0.0", "delete keys", keyspace::del),
    row("wait", 3, NOSCRIPT | CONNECTION, (0, 0, 0), "generic", "3.0.0", "how many copies have the last write", keyspace::wait),
];

static COMMANDS: [Command; 65] = TABLE;

/// Those parts of OBJECT and MEMORY that have a key, which clients of clusters send to its node.
#[rustfmt::skip]
static PARTS: [Command; 5] = [
    row("memory|usage", -3, READ, (2, 2, 1), "server", "4.0.0", "bytes of an entry", strings::memory),
    row("object|encoding", 3, READ | KEYSPACE, (2, 2, 1), "generic", "2.2.3", "how Redis would store a value", strings::object),
    row("object|freq", 3, READ | KEYSPACE, (2, 2, 1), "generic", "4.0.0", "refused: there is no LFU", strings::object),
    row("object|idletime", 3, READ | KEYSPACE, (2, 2, 1), "generic", "2.2.3", "refused: times of use are not kept", strings::object),
    row("object|refcount", 3, READ | KEYSPACE, (2, 2, 1), "generic", "2.2.3", "1 for what is there", strings::object),
];

/// The parts of a command that clients are told of.
pub fn parts(command: &str) -> impl Iterator<Item = &'static Command> + Clone {
    let is_part = move |part: &&Command| {
        part.name.strip_prefix(command).is_some_and(|rest| rest.starts_with('|'))
    };
    PARTS.iter().filter(is_part)
}

/// The command of this name, or the part of one (`memory|usage`).
pub fn named(name: &[u8]) -> Option<&'static Command> {
    match find(name) {
        Known::Command(_, command) => Some(command),
        _ => PARTS.iter().find(|part| name.eq_ignore_ascii_case(part.name.as_bytes())),
    }
}

/// The command that these are the first words of; a part of one, if it has parts.
pub fn spoken(first: &[u8], second: Option<&[u8]>) -> Option<&'static Command> {
    let command = named(first)?;
    let mut parts = parts(command.name).peekable();
    match second {
        Some(second) if parts.peek().is_some() => parts.find(|part| {
            let name = part.name.split_once('|').map_or("", |(_, name)| name);
            second.eq_ignore_ascii_case(name.as_bytes())
        }),
        _ => Some(command),
    }
}

/// The longest name of a command.
const WORD: usize = 16;

/// The names as numbers in the order of the table, so that looking one up compares no strings.
static WORDS: [u128; 65] = {
    let mut words = [0; 65];
    let mut at = 0;
    while at < words.len() {
        let name = TABLE[at].name.as_bytes();
        let (mut word, mut byte) = ([0; WORD], 0);
        while byte < name.len() {
            word[byte] = name[byte];
            byte += 1;
        }
        words[at] = u128::from_be_bytes(word);
        at += 1;
    }
    words
};

/// Names of commands that Redis 7.2 has and this does not.
const UNSUPPORTED: &str = "
    acl bgrewriteaof bgsave bitcount bitfield bitfield_ro bitop bitpos blmove blmpop blpop
    brpop brpoplpush bzmpop bzpopmax bzpopmin debug discard dump eval eval_ro evalsha
    evalsha_ro exec failover fcall fcall_ro geoadd geodist geohash geopos georadius
    georadius_ro georadiusbymember georadiusbymember_ro geosearch geosearchstore getbit hdel
    hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset
    hsetnx hstrlen hvals lastsave latency lcs lindex linsert llen lmove lmpop lolwut lpop
    lpos lpush lpushx lrange lrem lset ltrim migrate module monitor move multi pfadd pfcount
    pfdebug pfmerge pfselftest psubscribe psync publish pubsub punsubscribe replconf
    replicaof restore restore-asking role rpop rpoplpush rpush rpushx sadd save scard script
    sdiff sdiffstore setbit shutdown sinter sintercard sinterstore sismember slaveof
    smembers smismember smove sort sort_ro spop spublish srandmember srem sscan ssubscribe
    subscribe sunion sunionstore sunsubscribe swapdb sync unsubscribe unwatch waitaof watch xack
    xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange
    xsetid xtrim zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore
    zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore
    zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange
    zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_found_in_capitals_or_not() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for (place, command) in all().iter().enumerate() {
            let shouted = command.name.to_uppercase();
            for name in [command.name, &shouted].map(str::as_bytes) {
                let found = [find(name), find_after(place, name), find_after(place + 1, name)];
                assert!(found.iter().all(|found| {
                    matches!(found, Known::Command(at, c) if *at == place && c.name == command.name)
                }));
            }
        }
        for other in ["LPUSH", "waitaof", "GeoRadiusByMember_ro"] {
            assert!(matches!(find(other.as_bytes()), Known::Unsupported), "{other}");
        }
        assert!(matches!(find(b"nothing"), Known::No));
        assert!(matches!(find(&[b'x'; 5_000]), Known::No));
    }
}
