//! Times to live: the options of SET and GETEX, and the EXPIRE and TTL families.

use lariat_actors::op::{DeadlineTest, Ms, Op, Ttl};

use super::args::{Args, Refusal};
use super::finish::Finish;
use super::gateway::wall_ms;
use super::plan::{Planned, Planner};

/// Longer than this is kept as this: 30 years, in milliseconds.
const TTL_MAX_MS: i64 = 30 * 365 * 24 * 60 * 60 * 1000;

/// What a time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What a time begins at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Now.
    FromNow,
    /// 1970.
    At,
}

/// What EX, PX, EXAT and PXAT mean.
pub fn option(word: &[u8]) -> Option<(Unit, When)> {
    Some(match &word.to_ascii_lowercase()[..] {
        b"ex" => (Unit::Seconds, When::FromNow),
        b"px" => (Unit::Milliseconds, When::FromNow),
        b"exat" => (Unit::Seconds, When::At),
        b"pxat" => (Unit::Milliseconds, When::At),
        _ => return None,
    })
}

/// A time that a command sets together with a value: more than zero, though it may be over.
pub fn positive(args: Args<'_>, at: usize, unit: Unit, when: When) -> Result<Ttl, Refusal> {
    let given = args.integer(at)?;
    if given <= 0 {
        return Err(invalid(args));
    }
    from_now(args, given, unit, when)
}

fn from_now(args: Args<'_>, given: i64, unit: Unit, when: When) -> Result<Ttl, Refusal> {
    let scale = if unit == Unit::Seconds { 1_000 } else { 1 };
    let now = wall_ms() as i64;
    let left = given.checked_mul(scale).and_then(|ms| match when {
        // Redis keeps the time of day at which it ends, and that has to fit.
        When::FromNow => ms.checked_add(now).map(|_| ms),
        When::At => Some(ms.saturating_sub(now)),
    });
    let left = left.ok_or_else(|| invalid(args))?;
    Ok(Ttl::After(left.clamp(0, TTL_MAX_MS) as Ms))
}

fn invalid(args: Args<'_>) -> Refusal {
    format!("ERR invalid expire time in '{}' command", args.name()).into()
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub fn expire(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    set_deadline(p, args, Unit::Seconds, When::FromNow)
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub fn pexpire(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    set_deadline(p, args, Unit::Milliseconds, When::FromNow)
}

/// `EXPIREAT key seconds [NX | XX | GT | LT]`
pub fn expireat(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    set_deadline(p, args, Unit::Seconds, When::At)
}

/// `PEXPIREAT key milliseconds [NX | XX | GT | LT]`
pub fn pexpireat(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    set_deadline(p, args, Unit::Milliseconds, When::At)
}

fn set_deadline(p: &mut Planner<'_>, args: Args<'_>, unit: Unit, when: When) -> Planned {
    let test = deadline_test(args)?;
    let ttl = from_now(args, args.integer(2)?, unit, when)?;
    p.ask(args.share(1), Op::Expire { ttl, when: test });
    p.finish(Finish::Flag)
}

fn deadline_test(args: Args<'_>) -> Result<DeadlineTest, Refusal> {
    let (mut absent, mut present, mut later, mut earlier) = (false, false, false, false);
    for at in 3..args.len() {
        match &args[at].to_ascii_lowercase()[..] {
            b"nx" => absent = true,
            b"xx" => present = true,
            b"gt" => later = true,
            b"lt" => earlier = true,
            _ => return Err(format!("ERR Unsupported option {}", args.text(at)).into()),
        }
    }
    if absent && (present || later || earlier) {
        return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
    }
    if later && earlier {
        return Err("ERR GT and LT options at the same time are not compatible".into());
    }
    Ok(match (absent, present, later, earlier) {
        (true, ..) => DeadlineTest::Absent,
        (_, _, true, _) => DeadlineTest::Later,
        (_, true, _, true) => DeadlineTest::PresentAndEarlier,
        (_, _, _, true) => DeadlineTest::Earlier,
        (_, true, ..) => DeadlineTest::Present,
        _ => DeadlineTest::Any,
    })
}

/// `PERSIST key`
pub fn persist(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    p.ask(args.share(1), Op::Expire { ttl: Ttl::Never, when: DeadlineTest::Present });
    p.finish(Finish::Flag)
}

/// `TTL key`
pub fn ttl(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    look(p, args, true, None)
}

/// `PTTL key`
pub fn pttl(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    look(p, args, false, None)
}

/// `EXPIRETIME key`
pub fn expiretime(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    look(p, args, true, Some(wall_ms()))
}

/// `PEXPIRETIME key`
pub fn pexpiretime(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    look(p, args, false, Some(wall_ms()))
}

fn look(p: &mut Planner<'_>, args: Args<'_>, seconds: bool, from: Option<Ms>) -> Planned {
    p.ask(args.share(1), Op::Range { start: 1, end: 0, touch: false });
    p.finish(Finish::Ttl { seconds, from })
}

/// A timeout in milliseconds.
pub fn timeout(args: Args<'_>, at: usize) -> Result<Ms, Refusal> {
    let given = args
        .integer(at)
        .map_err(|_| Refusal::from("ERR timeout is not an integer or out of range"))?;
    Ms::try_from(given).map_err(|_| "ERR timeout is negative".into())
}
