//! The command line: arguments, what each command does, and how errors are told.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage.

mod bench;
mod client;
mod commands;
mod demo;
mod drain;
mod node;
mod replay;
mod status;
mod steering;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use lariat::actors::map::WEIGHTS;
use lariat::actors::op::Ms;
use lariat::units::{UnitError, parse_duration_ms};

/// A distributed in-memory LRU cache made of actors.
#[derive(Debug, Parser)]
#[command(version, about, after_help = "Start here: lariat demo")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start three nodes on loopback and walk through what the cache does
    Demo {
        /// End after the last step instead of serving until Ctrl-C
        #[arg(long)]
        exit: bool,
        /// HTTP ports are N to N+2, peer ports N+2000 to N+2002
        #[arg(long, value_name = "N", default_value_t = 5001, value_parser = clap::value_parser!(u16).range(1024..=63000))]
        base_port: u16,
    },
    /// Run one node
    Node {
        /// The cluster file; without one a single node on loopback runs
        #[arg(long, value_name = "FILE")]
        cluster: Option<PathBuf>,
        /// Which of the file's nodes this is; may be left out when there is one
        #[arg(long)]
        id: Option<String>,
        /// Join a running cluster whose file does not list this node: ask the member at this peer
        /// address; repeatable, tried in turn. The node's own addresses come from LARIAT_HTTP,
        /// LARIAT_PEER, LARIAT_REDIS and LARIAT_REDIS_CLUSTER, or from an entry of its own in FILE
        #[arg(long, value_name = "HOST:PORT", requires = "id", value_delimiter = ',')]
        join: Vec<String>,
    },
    /// Check a cluster file; print every mistake with its line
    Check {
        /// The cluster file
        #[arg(long, value_name = "FILE")]
        cluster: PathBuf,
    },
    /// Print the settings in force and where each comes from
    Config {
        /// The cluster file
        #[arg(long, value_name = "FILE")]
        cluster: Option<PathBuf>,
        /// Which of the file's nodes
        #[arg(long)]
        id: Option<String>,
    },
    /// Print the value of a key; exit 1 when there is none
    Get {
        /// The key
        key: String,
        #[command(flatten)]
        to: To,
    },
    /// Store a value
    Put {
        /// The key
        key: String,
        /// The value; read from stdin when it is - or left out
        value: Option<String>,
        /// Read the value from a file
        #[arg(long, value_name = "FILE", conflicts_with = "value")]
        file: Option<PathBuf>,
        /// Expire after this time, like 60s; none: never; keep: when the entry before would have
        #[arg(long, value_parser = put_ttl)]
        ttl: Option<String>,
        #[command(flatten)]
        to: To,
    },
    /// Remove a key; exit 1 when there is none
    Delete {
        /// The key
        key: String,
        #[command(flatten)]
        to: To,
    },
    /// Print the time a key has left, or set it
    Ttl {
        /// The key
        key: String,
        /// The new time to live, like 60s; none: never
        #[arg(long, value_parser = ttl)]
        set: Option<String>,
        #[command(flatten)]
        to: To,
    },
    /// Print which nodes hold a key
    Locate {
        /// The key
        key: String,
        #[command(flatten)]
        to: To,
    },
    /// Print the state of the cluster
    Status {
        /// Print it again each second; a look that fails is told, and the next one follows
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        to: To,
    },
    /// Have a node give all its slots to others and leave the cluster
    Drain {
        /// The node's id
        id: String,
        /// Have it stay after all
        #[arg(long)]
        cancel: bool,
        /// Do not wait until it has left
        #[arg(long)]
        no_wait: bool,
        /// Wait no longer than this, like 60s; the node goes on leaving, or comes back, all the same
        #[arg(long, value_name = "TIME", default_value = "10m", conflicts_with = "no_wait", value_parser = parse_duration_ms)]
        timeout: Ms,
        #[command(flatten)]
        to: To,
    },
    /// Print how far slots are from where they should be; pause that, or resume it
    Moves {
        /// Without it nothing is changed
        turn: Option<steering::Turn>,
        #[command(flatten)]
        to: To,
    },
    /// Give a node another weight or zone, for as long as the cluster lives
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
    Set {
        /// The node's id
        id: String,
        /// Its share of the slots relative to others, 0.01 to 100
        #[arg(long, group = "what", value_parser = weight)]
        weight: Option<f64>,
        /// Its failure zone; empty for none
        #[arg(long, group = "what")]
        zone: Option<String>,
        #[command(flatten)]
        to: To,
    },
    /// Replay an access trace: get, and put on a miss
    Replay {
        /// One key a line, optionally ,SIZE after the last comma; - for stdin
        file: PathBuf,
        /// Requests under way at a time; more than 1 gives up exactness
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        concurrency: u16,
        /// Clear the cache first
        #[arg(long)]
        clear: bool,
        #[command(flatten)]
        to: To,
    },
    /// Put load on a node, or on any server that speaks Redis's language, and time the answers
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Options),
}

/// Which nodes and which cache a client command talks to.
#[derive(Clone, Debug, Args)]
struct To {
    /// A node's URL; repeatable, tried in turn when a connection is refused
    #[arg(
        long = "node",
        value_name = "URL",
        env = "LARIAT_NODE",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:5001"
    )]
    nodes: Vec<String>,
    /// The named cache
    #[arg(long, default_value = "default")]
    cache: String,
    /// Machine-readable output
    #[arg(long)]
    json: bool,
    /// The bearer token, if the nodes want one
    #[arg(long, env = "LARIAT_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A time to live, as the nodes take it.
fn ttl(text: &str) -> Result<String, UnitError> {
    if text != "none" {
        parse_duration_ms(text)?;
    }
    Ok(text.into())
}

/// The same for a put, which may keep what the entry has.
fn put_ttl(text: &str) -> Result<String, UnitError> {
    if text == "keep" { Ok(text.into()) } else { ttl(text) }
}

/// A weight, as the nodes take it.
fn weight(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| WEIGHTS.contains(number));
    let expected = || format!("expected a number from {} to {}", WEIGHTS.start(), WEIGHTS.end());
    number.ok_or_else(expected)
}

/// Parses the arguments and does what they say.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match cli.command {
        Command::Demo { exit, base_port } => demo::run(exit, base_port),
        Command::Node { cluster, id, join } => node::run(cluster, id, &join),
        Command::Check { cluster } => commands::check(&cluster),
        Command::Config { cluster, id } => commands::config(cluster.as_deref(), id.as_deref()),
        Command::Get { key, to } => commands::get(&to, &key),
        Command::Put { key, value, file, ttl, to } => commands::put(&to, &key, value, file, ttl),
        Command::Delete { key, to } => commands::delete(&to, &key),
        Command::Ttl { key, set, to } => commands::ttl(&to, &key, set),
        Command::Locate { key, to } => commands::locate(&to, &key),
        Command::Status { watch, to } => status::run(&to, watch),
        Command::Drain { id, cancel, no_wait, timeout, to } => {
            drain::run(&to, &id, cancel, (!no_wait).then_some(timeout))
        }
        Command::Moves { turn, to } => steering::moves(&to, turn),
        Command::Set { id, weight, zone, to } => steering::set(&to, &id, weight, zone.as_deref()),
        Command::Replay { file, concurrency, clear, to } => {
            replay::run(&to, &file, concurrency.into(), clear)
        }
        Command::Bench(options) => bench::run(&options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lariat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
