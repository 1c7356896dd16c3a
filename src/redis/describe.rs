//! Commands about the commands, the settings and the time.

use lariat_actors::op::FailureKind;

use super::args::{Args, SYNTAX, unknown_subcommand, wrong_arguments, wrong_subcommand};
use super::finish::failure_text;
use super::gateway::{Kind, wall_ms};
use super::glob::{Glob, PATTERN_MAX};
use super::help::help;
use super::number::integer;
use super::plan::{Planned, Planner};
use super::reply::Replies;
use super::table::{self, Command};

/// The version of Redis whose behaviour this has.
pub const REDIS_VERSION: &str = "7.2.4";

/// Entries that SLOWLOG GET shows if nothing else is said.
const SLOWLOG_DEFAULT: i64 = 10;

/// Bytes of what COMMAND says of the commands that it is given: many times what there is.
const TOLD_MAX: usize = 1 << 20;

/// `COMMAND [COUNT | DOCS | INFO | LIST | GETKEYS]`
pub fn command(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let all = table::all();
    if args.len() == 1 {
        let out = p.reply();
        out.array(all.len());
        all.iter().for_each(|command| describe(command, out));
        return Ok(());
    }
    let named = (2..args.len()).map(|at| table::named(&args[at]));
    match &args[1].to_ascii_lowercase()[..] {
        b"count" if args.len() == 2 => p.reply().integer(all.len() as i64),
        b"info" => {
            let chosen: Vec<Option<&Command>> =
                if args.len() == 2 { all.iter().map(Some).collect() } else { named.collect() };
            let out = p.reply();
            out.array(chosen.len());
            let most = out.len() + TOLD_MAX;
            for command in chosen {
                match command {
                    Some(command) => describe(command, out),
                    None => out.null(),
                }
                within(most, out)?;
            }
        }
        b"docs" => {
            let chosen: Vec<&Command> =
                if args.len() == 2 { all.iter().collect() } else { named.flatten().collect() };
            let out = p.reply();
            out.map(chosen.len());
            let most = out.len() + TOLD_MAX;
            for command in chosen {
                within(most, out)?;
                out.bulk(command.name.as_bytes());
                out.map(3);
                for (key, text) in [
                    ("summary", command.summary),
                    ("since", command.since),
                    ("group", command.group),
                ] {
                    out.bulk(key.as_bytes());
                    out.bulk(text.as_bytes());
                }
            }
        }
        b"list" => return list(p, args),
        b"getkeys" if args.len() > 2 => return keys_of(p, args),
        b"help" => return help(p, args),
        b"count" => return Err(wrong_arguments("command|count")),
        b"getkeys" => return Err(wrong_arguments("command|getkeys")),
        _ => return Err(unknown_subcommand(args)),
    }
    Ok(())
}

fn within(most: usize, out: &Replies) -> Planned {
    if out.len() > most {
        return Err(failure_text(FailureKind::ReplyTooLarge.not_applied()).into());
    }
    Ok(())
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`
fn list(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let filter = match args.len() {
        2 => None,
        5 if args.is(2, "filterby") => Some(args[3].to_ascii_lowercase()),
        _ => return Err(SYNTAX.into()),
    };
    let all =
        table::all().iter().flat_map(|one| std::iter::once(one).chain(table::parts(one.name)));
    let chosen: Vec<&Command> = match filter.as_deref() {
        None => all.collect(),
        Some(b"pattern") => {
            let pattern = Glob::without_case(&args[4])?;
            all.filter(|command| pattern.matches(command.name.as_bytes())).collect()
        }
        Some(b"aclcat") => {
            let wanted = |category: &str| args[4].eq_ignore_ascii_case(&category.as_bytes()[1..]);
            all.filter(|command| command.categories().any(wanted)).collect()
        }
        // There are no modules.
        Some(b"module") => Vec::new(),
        Some(_) => return Err(SYNTAX.into()),
    };
    let out = p.reply();
    out.array(chosen.len());
    chosen.iter().for_each(|command| out.bulk(command.name.as_bytes()));
    Ok(())
}

fn keys_of(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let arguments = args.len() - 2;
    let second = (arguments > 1).then(|| &args[3]);
    let command = table::spoken(&args[2], second).ok_or("ERR Invalid command specified")?;
    if command.keys.0 == 0 {
        return Err("ERR The command has no key arguments".into());
    }
    if !command.takes(arguments) {
        return Err("ERR Invalid number of arguments specified for command".into());
    }
    let places = command.key_places(arguments);
    let out = p.reply();
    out.array(places.clone().count());
    places.for_each(|at| out.bulk(&args[2 + at]));
    Ok(())
}

fn describe(command: &Command, out: &mut Replies) {
    let (first, last, step) = command.keys;
    out.array(10);
    out.bulk(command.name.as_bytes());
    out.integer(command.arity);
    out.set(command.flag_names().count());
    command.flag_names().for_each(|flag| out.simple(flag));
    out.integer(first as i64);
    out.integer(last as i64);
    out.integer(step as i64);
    out.set(command.categories().count());
    command.categories().for_each(|category| out.simple(category));
    out.set(0);
    out.set(0);
    let parts = table::parts(command.name);
    match parts.clone().count() {
        0 => out.set(0),
        count => out.array(count),
    }
    parts.for_each(|part| describe(part, out));
}

/// `TIME`
pub fn time(p: &mut Planner<'_>, _args: Args<'_>) -> Planned {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_else(|_| std::time::Duration::from_millis(wall_ms()));
    let out = p.reply();
    out.array(2);
    out.bulk(now.as_secs().to_string().as_bytes());
    out.bulk(now.subsec_micros().to_string().as_bytes());
    Ok(())
}

/// `CONFIG GET pattern...`: settings that tools ask for, as they are here.
pub fn config(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    match &args[1].to_ascii_lowercase()[..] {
        b"get" if args.len() > 2 => {}
        b"help" => return help(p, args),
        b"get" => return Err(wrong_arguments("config|get")),
        b"set" if args.len() < 4 => return Err(wrong_arguments("config|set")),
        b"rewrite" if args.len() > 2 => return Err(wrong_arguments("config|rewrite")),
        b"resetstat" if args.len() > 2 => return Err(wrong_arguments("config|resetstat")),
        b"set" | b"rewrite" | b"resetstat" => {
            return Err("ERR settings are those of the cluster file: change it and restart".into());
        }
        _ => return Err(unknown_subcommand(args)),
    }
    let gateway = p.gateway;
    let spec = &gateway.client.caches()[usize::from(p.session.cache.0)];
    let slow = gateway.slowlog.threshold().as_micros();
    let yes = |is: bool| if is { "yes" } else { "no" }.to_string();
    let settings: [(&str, String); 14] = [
        ("appendonly", "no".to_string()),
        ("bind", gateway.address.ip().to_string()),
        ("cluster-enabled", yes(gateway.kind == Kind::Cluster)),
        ("databases", gateway.databases.len().to_string()),
        ("maxclients", gateway.max_connections.to_string()),
        ("maxmemory", spec.max_bytes.to_string()),
        ("maxmemory-policy", "allkeys-lru".to_string()),
        ("port", gateway.address.port().to_string()),
        ("proto-max-bulk-len", gateway.limits.bulk.to_string()),
        ("save", String::new()),
        ("slowlog-log-slower-than", slow.to_string()),
        ("slowlog-max-len", "128".to_string()),
        ("tcp-keepalive", "0".to_string()),
        ("timeout", "0".to_string()),
    ];
    if (2..args.len()).map(|at| args[at].len()).sum::<usize>() > PATTERN_MAX {
        return Err(format!("ERR patterns are longer than {PATTERN_MAX} bytes").into());
    }
    let mut is_chosen = [false; 14];
    for at in 2..args.len() {
        let pattern = Glob::without_case(&args[at])?;
        for (chosen, (name, _)) in is_chosen.iter_mut().zip(&settings) {
            *chosen |= pattern.matches(name.as_bytes());
        }
    }
    let chosen = settings.iter().zip(is_chosen).filter(|(_, is_chosen)| *is_chosen);
    let out = p.reply();
    out.map(chosen.clone().count());
    for ((name, value), _) in chosen {
        out.bulk(name.as_bytes());
        out.bulk(value.as_bytes());
    }
    Ok(())
}

/// `SLOWLOG GET [count] | LEN | RESET`
pub fn slowlog(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    match &args[1].to_ascii_lowercase()[..] {
        b"get" if args.len() <= 3 => {
            let most = if args.len() == 3 {
                integer(&args[2])
                    .filter(|&count| count >= -1)
                    .ok_or("ERR count should be greater than or equal to -1")?
            } else {
                SLOWLOG_DEFAULT
            };
            let gateway = p.gateway;
            gateway.slowlog.write(usize::try_from(most).unwrap_or(usize::MAX), p.reply());
            Ok(())
        }
        b"len" if args.len() == 2 => {
            let length = p.gateway.slowlog.len();
            p.reply().integer(length as i64);
            Ok(())
        }
        b"reset" if args.len() == 2 => {
            p.gateway.slowlog.clear();
            p.ok()
        }
        b"help" => help(p, args),
        b"get" => Err(wrong_subcommand(args)),
        b"len" => Err(wrong_arguments("slowlog|len")),
        b"reset" => Err(wrong_arguments("slowlog|reset")),
        _ => Err(unknown_subcommand(args)),
    }
}
