//! HELP of the commands that have parts.

use super::args::{Args, wrong_arguments};
use super::plan::{Planned, Planner};

/// What each has here, and what it does.
const PARTS: [(&str, &[&str]); 8] = [
    (
        "client",
        &[
            "GETNAME",
            "    The name of this connection.",
            "ID",
            "    The number of this connection.",
            "INFO",
            "    The line of this connection in CLIENT LIST.",
            "KILL <address>",
            "    End the connection from this address.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    End connections: ID, ADDR, LADDR, TYPE, USER, SKIPME (YES|NO).",
            "LIST [TYPE <type> | ID <id> [<id> ...]]",
            "    The connections of this port.",
            "NO-EVICT (ON|OFF)",
            "    Nothing: clients are not evicted.",
            "NO-TOUCH (ON|OFF)",
            "    Whether reads of this connection are uses.",
            "REPLY (ON|OFF|SKIP)",
            "    Which replies this connection wants.",
            "SETINFO (LIB-NAME|LIB-VER) <text>",
            "    Name the library of this connection, or its version.",
            "SETNAME <name>",
            "    Name this connection.",
        ],
    ),
    (
        "cluster",
        &[
            "COUNTKEYSINSLOT <slot>",
            "    How many keys this node has in a slot.",
            "GETKEYSINSLOT <slot> <count>",
            "    Keys that this node has in a slot.",
            "INFO",
            "    The state of the cluster.",
            "KEYSLOT <key>",
            "    The slot of a key.",
            "MYID",
            "    The id of this node.",
            "NODES",
            "    The nodes and their slots, a line for each.",
            "SHARDS",
            "    The nodes and their slots, a map for each.",
            "SLOTS",
            "    Ranges of slots and their nodes.",
        ],
    ),
    (
        "command",
        &[
            "(no subcommand)",
            "    All commands.",
            "COUNT",
            "    How many there are.",
            "DOCS [<command> ...]",
            "    What they do.",
            "GETKEYS <command> [<arg> ...]",
            "    Which arguments of a command are keys.",
            "INFO [<command> ...]",
            "    Arity, flags, places of keys and categories.",
            "LIST [FILTERBY (MODULE <name> | ACLCAT <category> | PATTERN <pattern>)]",
            "    Their names.",
        ],
    ),
    (
        "config",
        &["GET <pattern> [<pattern> ...]", "    Settings; they are changed in the cluster file."],
    ),
    ("function", &["FLUSH [ASYNC|SYNC]", "    Nothing: there are no functions."]),
    (
        "memory",
        &["USAGE <key> [SAMPLES <count>]", "    About how many bytes the entry is charged."],
    ),
    (
        "object",
        &[
            "ENCODING <key>",
            "    How Redis would store the value: int, embstr or raw.",
            "FREQ <key>",
            "    An error: there is no LFU.",
            "IDLETIME <key>",
            "    An error: the order of use is kept, not its times.",
            "REFCOUNT <key>",
            "    1 for what is there.",
        ],
    ),
    (
        "slowlog",
        &[
            "GET [<count>]",
            "    The latest commands that took long (default: 10, -1: all).",
            "LEN",
            "    How many are kept.",
            "RESET",
            "    Forget them.",
        ],
    ),
];

/// `HELP` as the part of a command.
pub fn help(p: &mut Planner<'_>, args: Args<'_>) -> Planned {
    let name = args.name();
    if args.len() != 2 {
        return Err(wrong_arguments(&format!("{name}|help")));
    }
    let of_name = PARTS.iter().find(|(command, _)| *command == name);
    let lines = of_name.map_or(&[][..], |(_, lines)| lines);
    let out = p.reply();
    out.array(lines.len() + 3);
    let name = name.to_uppercase();
    out.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| out.simple(line));
    out.simple("HELP");
    out.simple("    Prints this help.");
    Ok(())
}
