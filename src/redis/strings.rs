//! Commands on the value of a key.

use lariat_actors::decimal::{self, DecimalError};
use lariat_actors::op::{Op, Precondition, Put, Ttl};
use lariat_actors::slot::slot_of;

use super::args::{Args, NOT_A_FLOAT, Refusal, SYNTAX, wrong_arguments};
use super::expiry::{self, Unit, When};
use super::finish::Finish;
use super::help::help;
use super::plan::{Planned, Planner};
use super::walk::{Slow, Work};

/// Offsets beyond this are refused whatever the cache allows, as Redis does.
const STRING_MAX: i64 = 512 << 20;

const STRING_TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

fn put(args: Args<'_>, value: usize, ttl: Ttl, when: Precondition, return_previous: bool) -> Op {
    Op::Put(Put { value: args.keep(value), content_type: None, ttl, when, return_previous })
}

/// `GET key`
pub fn get(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let op = p.get();
    p.ask(args.share(1), op);
    p.finish(Finish::Value)
}

/// `MGET key...`
pub fn mget(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    for at in 1..args.len() {
        let op = p.get();
        p.ask(args.share(at), op);
    }
    p.finish(Finish::Values)
}

/// What SET and GETEX say after the value.
#[derive(Default)]
struct Options {
    absent: bool,
    present: bool,
    get: bool,
    keep: bool,
    persist: bool,
    /// Where the time stands, and what it means.
    expiry: Option<(usize, Unit, When)>,
}

impl Options {
    fn read(args: Args<'_>, from: usize, is_set: bool) -> Result<Options, Refusal> {
        let mut options = Options::default();
        let mut at = from;
        while at < args.len() {
            let o = &mut options;
            let timeless = !o.keep && !o.persist && o.expiry.is_none();
            let unit = expiry::option(&args[at]);
            if is_set && args.is(at, "nx") && !o.present {
                o.absent = true;
            } else if is_set && args.is(at, "xx") && !o.absent {
                o.present = true;
            } else if is_set && args.is(at, "get") {
                o.get = true;
            } else if is_set && args.is(at, "keepttl") && !o.persist && o.expiry.is_none() {
                o.keep = true;
            } else if !is_set && args.is(at, "persist") && !o.keep && o.expiry.is_none() {
                o.persist = true;
            } else if let Some((unit, when)) = unit.filter(|_| timeless && at + 1 < args.len()) {
                o.expiry = Some((at + 1, unit, when));
                at += 1;
            } else {
                return Err(SYNTAX.into());
            }
            at += 1;
        }
        Ok(options)
    }

    fn ttl(&self, args: Args<'_>, otherwise: Ttl) -> Result<Ttl, Refusal> {
        match self.expiry {
            Some((at, unit, when)) => expiry::positive(args, at, unit, when),
            None if self.keep => Ok(Ttl::Keep),
            None if self.persist => Ok(Ttl::Never),
            None => Ok(otherwise),
        }
    }
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
pub fn set(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let options = Options::read(args, 3, true)?;
    let ttl = options.ttl(args, Ttl::Default)?;
    let when = match (options.absent, options.present) {
        (true, _) => Precondition::absent(),
        (_, true) => Precondition::present(),
        _ => Precondition::none(),
    };
    let op = put(args, 2, ttl, when, options.get);
    let key = args.share(1);
    if options.get && options.absent {
        p.session.writes(slot_of(&key));
        let (slot, look) = (slot_of(&key), p.get());
        return p.slow(Slow::new(Work::PutOrGet { slot, key, op, look }));
    }
    p.ask(key, op);
    p.finish(if options.get { Finish::Previous } else { Finish::Stored })
}

/// `SETNX key value`
pub fn setnx(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    p.ask(args.share(1), put(args, 2, Ttl::Default, Precondition::absent(), false));
    p.finish(Finish::Flag)
}

/// `SETEX key seconds value`
pub fn setex(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    set_for(p, args, Unit::Seconds)
}

/// `PSETEX key milliseconds value`
pub fn psetex(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    set_for(p, args, Unit::Milliseconds)
}

fn set_for(p: &mut Planner<'_>, args: Args<'_>, unit: Unit) -> Planned {
    let ttl = expiry::positive(args, 2, unit, When::FromNow)?;
    p.ask(args.share(1), put(args, 3, ttl, Precondition::none(), false));
    p.finish(Finish::Stored)
}

/// `GETSET key value`
pub fn getset(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    p.ask(args.share(1), put(args, 2, Ttl::Default, Precondition::none(), true));
    p.finish(Finish::Previous)
}

/// `GETDEL key`
pub fn getdel(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    p.ask(args.share(1), Op::Delete { when: Precondition::none(), return_value: true });
    p.finish(Finish::Previous)
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`
pub fn getex(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let options = Options::read(args, 2, false)?;
    if options.expiry.is_none() && !options.persist {
        return get(p, args);
    }
    match options.ttl(args, Ttl::Never) {
        Ok(ttl) => {
            p.ask(args.share(1), Op::GetTouch { ttl });
            p.finish(Finish::Value)
        }
        // Redis looks for the key before it looks at the time.
        Err(Refusal(text)) => {
            p.ask(args.share(1), Op::Range { start: 1, end: 0, touch: false });
            p.finish(Finish::RefusedIfPresent(text))
        }
    }
}

/// `MSET key value...`: each key is written atomically, all of them are not.
pub fn mset(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    if args.len().is_multiple_of(2) {
        return Err(wrong_arguments("mset"));
    }
    for at in (1..args.len()).step_by(2) {
        p.ask(args.share(at), put(args, at + 1, Ttl::Default, Precondition::none(), false));
    }
    p.finish(Finish::AllStored)
}

/// `MSETNX key value...`: keys of one slot, all or none.
pub fn msetnx(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    if args.len().is_multiple_of(2) {
        return Err(wrong_arguments("msetnx"));
    }
    let places = (1..args.len()).step_by(2);
    let slot = one_slot(places.clone().map(|at| &args[at]))?;
    let entries = places.map(|at| (args.share(at), args.keep(at + 1))).collect();
    p.ask_slot(slot, args.share(1), Op::PutAllAbsent { entries });
    p.finish(Finish::Flag)
}

/// The slot of keys that must have one in common.
pub fn one_slot<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> Result<u16, Refusal> {
    let slot = keys.next().map_or(0, slot_of);
    if keys.any(|key| slot_of(key) != slot) {
        return Err("CROSSSLOT Keys in request don't hash to the same slot".into());
    }
    Ok(slot)
}

/// `APPEND key value`
pub fn append(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    p.ask(args.share(1), Op::Append { suffix: args.share(2), when: Precondition::none() });
    p.finish(Finish::Length)
}

/// `STRLEN key`
pub fn strlen(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let touch = !p.session.no_touch;
    p.ask(args.share(1), Op::Range { start: 1, end: 0, touch });
    p.finish(Finish::Length)
}

/// `GETRANGE key start end`, and SUBSTR
pub fn getrange(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let (start, end) = (args.integer(2)?, args.integer(3)?);
    let touch = !p.session.no_touch;
    p.ask(args.share(1), Op::Range { start, end, touch });
    p.finish(Finish::Part)
}

/// `SETRANGE key offset value`
pub fn setrange(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let offset = args.integer(2)?;
    if offset < 0 {
        return Err("ERR offset is out of range".into());
    }
    let bytes = args.share(3);
    if !bytes.is_empty() && offset.saturating_add(bytes.len() as i64) > STRING_MAX {
        return Err(STRING_TOO_LONG.into());
    }
    p.ask(args.share(1), Op::SetRange { offset: offset as u64, bytes });
    p.finish(Finish::Length)
}

/// `INCR key`
pub fn incr(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    add(p, args, 1)
}

/// `DECR key`
pub fn decr(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    add(p, args, -1)
}

/// `INCRBY key number`
pub fn incrby(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let by = args.integer(2)?;
    add(p, args, by)
}

/// `DECRBY key number`
pub fn decrby(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let by = args.integer(2)?;
    let by = by.checked_neg().ok_or("ERR decrement would overflow")?;
    add(p, args, by)
}

fn add(p: &mut Planner<'_>, args: Args<'_>, by: i64) -> Planned {
    let when = Precondition::none();
    p.ask(args.share(1), Op::Incr { by, initial: 0, ttl: Ttl::Default, when });
    p.finish(Finish::Number)
}

/// `INCRBYFLOAT key number`
pub fn incrbyfloat(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    match decimal::check(&args[2]) {
        Err(DecimalError::Malformed) => return Err(NOT_A_FLOAT.into()),
        Ok(()) | Err(DecimalError::TooLarge) => {}
    }
    p.ask(args.share(1), Op::AddDecimal { by: args.share(2) });
    p.finish(Finish::Decimal)
}

/// `OBJECT ENCODING | REFCOUNT | IDLETIME | FREQ key`
pub fn object(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let finish = match &args[1].to_ascii_lowercase()[..] {
        b"help" => return help(p, args),
        b"encoding" => Finish::Encoding,
        b"refcount" => Finish::References,
        b"idletime" => Finish::RefusedIfPresent(
            "ERR idle times are not kept: entries stand in the exact order of their use".into(),
        ),
        b"freq" => Finish::RefusedIfPresent("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.".into()),
        _ => return Err(super::args::unknown_subcommand(args)),
    };
    if args.len() != 3 {
        let name = args.text(1).to_lowercase();
        return Err(wrong_arguments(&format!("object|{name}")));
    }
    p.check_slot_of(&args[2])?;
    // Whether a value is longer than this decides how Redis would store it.
    let end = if matches!(finish, Finish::Encoding) { 44 } else { -1 };
    p.ask(args.share(2), Op::Range { start: 0, end, touch: false });
    p.finish(finish)
}

/// `MEMORY USAGE key [SAMPLES n]`
pub fn memory(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    if args.is(1, "help") {
        return help(p, args);
    }
    if !args.is(1, "usage") {
        return Err(super::args::unknown_subcommand(args));
    }
    match args.len() {
        3 => {}
        5 if args.is(3, "samples") => {
            if args.integer(4)? < 0 {
                return Err(SYNTAX.into());
            }
        }
        0..3 => return Err(wrong_arguments("memory|usage")),
        _ => return Err(SYNTAX.into()),
    }
    p.check_slot_of(&args[2])?;
    let key = args.share(2);
    let finish = Finish::Usage(key.len() as u64);
    p.ask(key, Op::Range { start: 1, end: 0, touch: false });
    p.finish(finish)
}
