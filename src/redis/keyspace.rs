//! Commands on keys, whatever their value, and on the whole of a cache.

use lariat_actors::op::{Op, Precondition};

use super::args::{Args, SYNTAX, wrong_subcommand};
use super::cursor::Position;
use super::expiry;
use super::finish::Finish;
use super::glob::Glob;
use super::help::help;
use super::plan::{Planned, Planner};
use super::strings::one_slot;
use super::walk::{Slow, Work};

/// Databases that Redis has, in cluster mode too, where only the first is of use.
const DATABASES: i64 = 16;

/// Keys that SCAN looks for if nothing else is said.
const COUNT_DEFAULT: usize = 10;

/// Keys that one SCAN looks for at most.
const COUNT_MAX: usize = 10_000;

/// `DEL key...` and UNLINK
pub fn del(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    for at in 1..args.len() {
        let when = Precondition::none();
        p.ask(args.share(at), Op::Delete { when, return_value: false });
    }
    p.finish(Finish::Count)
}

/// `EXISTS key...`
pub fn exists(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    look(p, args, false)
}

/// `TOUCH key...`
pub fn touch(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    look(p, args, true)
}

fn look(p: &mut Planner<'_>, args: Args<'_>, touch: bool) -> Planned {
    for at in 1..args.len() {
        p.ask(args.share(at), Op::Range { start: 1, end: 0, touch });
    }
    p.finish(Finish::Count)
}

/// `TYPE key`
pub fn type_of(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    p.ask(args.share(1), Op::Range { start: 1, end: 0, touch: false });
    p.finish(Finish::Type)
}

/// `RENAME key newkey`: keys of one slot.
pub fn rename(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    copy_within_slot(p, args, true, true, Finish::Renamed)
}

/// `RENAMENX key newkey`: keys of one slot.
pub fn renamenx(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    copy_within_slot(p, args, false, true, Finish::RenamedIfAbsent)
}

/// `COPY key newkey [DB number] [REPLACE]`: keys of one slot, in one database.
pub fn copy(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let mut replace = false;
    let mut database = p.session.database as i64;
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "replace") {
            replace = true;
        } else if args.is(at, "db") && at + 1 < args.len() {
            database = args.integer(at + 1)?;
            at += 1;
        } else {
            return Err(SYNTAX.into());
        }
        at += 1;
    }
    if p.gateway.is_cluster() && (1..DATABASES).contains(&database) {
        return Err("ERR Copying to another database is not allowed in cluster mode".into());
    }
    let known = usize::try_from(database).is_ok_and(|at| at < p.gateway.databases.len());
    if !known {
        return Err("ERR DB index is out of range".into());
    }
    if database != p.session.database as i64 {
        return Err("ERR copying to another database is not supported".into());
    }
    if args[1] == args[2] {
        return Err("ERR source and destination objects are the same".into());
    }
    copy_within_slot(p, args, replace, false, Finish::Flag)
}

fn copy_within_slot(
    p: &mut Planner<'_>,
    args: Args<'_>,
    replace: bool,
    remove: bool,
    finish: Finish,
) -> Planned {
    let slot = one_slot([&args[1], &args[2]].into_iter())?;
    p.ask_slot(slot, args.share(1), Op::Copy { to: args.share(2), replace, remove });
    p.finish(finish)
}

/// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE type]`
pub fn scan(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let cursor = std::str::from_utf8(&args[1]).ok().and_then(|text| text.parse::<u64>().ok());
    let from = Position::parse(cursor.ok_or("ERR invalid cursor")?);
    let (mut count, mut pattern, mut is_string) = (COUNT_DEFAULT, None, true);
    let mut at = 2;
    while at < args.len() {
        if at + 1 == args.len() {
            return Err(SYNTAX.into());
        }
        if args.is(at, "count") {
            let given = args.integer(at + 1)?;
            if given < 1 {
                return Err(SYNTAX.into());
            }
            count = usize::try_from(given).unwrap_or(COUNT_MAX).min(COUNT_MAX);
        } else if args.is(at, "match") {
            pattern = Some(Glob::new(&args[at + 1])?);
        } else if args.is(at, "type") {
            is_string = args.is(at + 1, "string");
        } else {
            return Err(SYNTAX.into());
        }
        at += 2;
    }
    p.slow(Slow::new(Work::Scan { from, count, pattern, is_string }))
}

/// `KEYS pattern`
pub fn keys(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    p.slow(Slow::new(Work::Keys { pattern: Glob::new(&args[1])? }))
}

/// `RANDOMKEY`
pub fn randomkey(p: &mut Planner<'_>, _args: Args<'_>) -> Planned {
    p.slow(Slow::new(Work::RandomKey))
}

/// `DBSIZE`
pub fn dbsize(p: &mut Planner<'_>, _args: Args<'_>) -> Planned {
    p.slow(Slow::new(Work::Size))
}

/// `FLUSHDB [ASYNC | SYNC]`
pub fn flushdb(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    flush(p, args, false)
}

/// `FLUSHALL [ASYNC | SYNC]`
pub fn flushall(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    flush(p, args, true)
}

fn flush(p: &mut Planner<'_>, args: Args<'_>, all: bool) -> Planned {
    let fine = args.len() == 1 || args.len() == 2 && (args.is(1, "async") || args.is(1, "sync"));
    if !fine {
        return Err(SYNTAX.into());
    }
    p.slow(Slow::new(Work::Flush { all }))
}

/// `WAIT replicas timeout`: how many copies have the last write of this connection. Where it wrote
/// nothing, every copy in sync has all that it wrote, whatever the key.
pub fn wait(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    args.integer(1)?;
    let timeout_ms = expiry::timeout(args, 2)?;
    match p.session.sent(p.gateway) {
        Some(last) => p.slow(Slow::new(Work::Wait { last, timeout_ms })),
        None => {
            let copies = p.gateway.fewest_copies(p.session.cache);
            p.reply().integer(copies as i64);
            Ok(())
        }
    }
}

/// `FUNCTION FLUSH [ASYNC | SYNC]`: there are none.
pub fn function(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    if args.is(1, "help") {
        return help(p, args);
    }
    if !args.is(1, "flush") {
        return Err("ERR functions are not supported: there is nothing but FUNCTION FLUSH".into());
    }
    if args.len() > 3 {
        return Err(wrong_subcommand(args));
    }
    if args.len() == 3 && !args.is(2, "async") && !args.is(2, "sync") {
        return Err("ERR FUNCTION FLUSH only supports SYNC|ASYNC option".into());
    }
    p.ok()
}
