//! Kills, pauses and restarts the nodes of a cluster and checks what its clients saw.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use lariat_chaos::fault::Harm;
use lariat_chaos::history::Door;
use lariat_chaos::links::Cut;
use lariat_chaos::report::Row;
use lariat_chaos::run::{Plan, run};
use lariat_chaos::{check, clock, history, redis};
use serde_json::json;

/// Kills, pauses and restarts the nodes of a cluster and checks what its clients saw.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Harm a Lariat cluster under load. Exit 0: no violation, and each fault happened.
    Run(RunArguments),
    /// Check a history again.
    Check {
        /// JSON lines, as `run --history` writes them.
        file: PathBuf,
    },
    /// Kill primaries of a real Redis Cluster.
    Redis {
        /// How many.
        #[arg(long, default_value_t = 5)]
        kills: usize,
        /// Its cluster-node-timeout in ms.
        #[arg(long, default_value_t = 15_000)]
        node_timeout: u64,
    },
}

#[derive(Args)]
struct RunArguments {
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How long clients work, for each fault.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What is done, each to a cluster of its own.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kill")]
    fault: Vec<Harm>,
    /// Every fault there is, one after the other; of clocks, where there is libfaketime.
    #[arg(long, conflicts_with = "fault")]
    every: bool,
    /// When a write is acknowledged.
    #[arg(long, default_value = "all", value_parser = ["all", "async"])]
    acks: String,
    /// A pause between two turns of one of the eleven clients, in ms; longer for long runs.
    #[arg(long, default_value_t = 4)]
    pace: u64,
    /// Use all the CPU there is meanwhile.
    #[arg(long)]
    burn: bool,
    /// How links are cut.
    #[arg(long, value_enum, default_value = "silence")]
    cut: Cut,
    /// Through which ports clients ask.
    #[arg(long, value_enum, default_value = "http")]
    door: Doors,
    /// How often each fault is done; otherwise until the time is over.
    #[arg(long)]
    kills: Option<usize>,
    /// Chooses the first victim and what each client does; how they interleave is the machine's.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The lariat binary; otherwise the one beside this program.
    #[arg(long, env = "LARIAT_BIN")]
    lariat: Option<PathBuf>,
    /// Write what the clients saw to this file, with the fault's name before its extension.
    #[arg(long)]
    history: Option<PathBuf>,
    /// Where a failed run leaves history, logs and cluster file; otherwise in the system's
    /// directory for temporary files.
    #[arg(long)]
    evidence: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Doors {
    /// HTTP.
    Http,
    /// The Redis protocol: one big server on each node.
    Redis,
    /// The Redis protocol, following MOVED.
    RedisCluster,
    /// All three, one chosen for each operation.
    Mixed,
}

impl Doors {
    fn all(self) -> &'static [Door] {
        match self {
            Doors::Http => &[Door::Http],
            Doors::Redis => &[Door::Redis],
            Doors::RedisCluster => &[Door::RedisCluster],
            Doors::Mixed => &[Door::Http, Door::Redis, Door::RedisCluster],
        }
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Run(arguments) => run_all(&arguments),
        What::Check { file } => check_again(&file),
        What::Redis { kills, node_timeout } => kill_redis(kills, node_timeout),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lariat-chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(arguments: &RunArguments) -> Result<bool> {
    let lariat = match &arguments.lariat {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("lariat"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows: Vec<Row> = Vec::new();
    let mut found = Vec::new();
    let mut is_good = true;
    let every = Harm::value_variants();
    for harm in if arguments.every { every } else { &arguments.fault } {
        if arguments.every && harm.alters_clocks() && clock::library().is_none() {
            eprintln!("lariat-chaos: {harm:?}: {}: left out", clock::MISSING);
            continue;
        }
        let plan = Plan {
            lariat: lariat.clone(),
            nodes: arguments.nodes,
            time: Duration::from_secs(arguments.seconds),
            harm: *harm,
            cut: arguments.cut,
            pace: Duration::from_millis(arguments.pace),
            burns: arguments.burn,
            acks: if arguments.acks == "all" { "all" } else { "async" },
            kills: arguments.kills,
            seed: arguments.seed,
            doors: arguments.door.all(),
            evidence: arguments.evidence.clone(),
        };
        let outcome = match runtime.block_on(run(&plan)) {
            Ok(outcome) => outcome,
            Err(error) => {
                eprintln!("lariat-chaos: {harm:?}: {error:#}");
                is_good = false;
                continue;
            }
        };
        if let Some(path) = &arguments.history {
            let path = path.with_extension(format!("{harm:?}.jsonl").to_lowercase());
            history::write(&outcome.history, BufWriter::new(File::create(path)?))?;
        }
        for violation in outcome.violations.iter().take(20) {
            eprintln!("  {:?} {}: {}", violation.fault, violation.key, violation.detail);
        }
        if let Some(evidence) = &outcome.evidence {
            eprintln!("  evidence in {}", evidence.display());
        }
        is_good &= outcome.violations.is_empty();
        found.extend(outcome.violations);
        rows.push(outcome.row);
    }
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let commit = commit.unwrap_or_default();
    let line = std::env::args().collect::<Vec<_>>().join(" ");
    if arguments.json {
        let seed = arguments.seed;
        let all = json!({ "command": line, "seed": seed, "commit": commit, "rows": rows, "violations": found });
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        println!("\n`{line}`, seed {}, commit {commit}\n\n{}", arguments.seed, Row::HEAD);
        for row in &rows {
            println!("{}", row.markdown());
        }
        for steadiness in rows.iter().filter_map(|row| row.steadiness.as_ref()) {
            println!("\n{}", steadiness.line());
        }
    }
    Ok(is_good)
}

fn check_again(file: &PathBuf) -> Result<bool> {
    let open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let events = history::read(BufReader::new(open))?;
    let violations = check::check(&events);
    for violation in &violations {
        println!("{:?} {}: {}", violation.fault, violation.key, violation.detail);
    }
    println!("{} operations, {} violations", events.len(), violations.len());
    Ok(violations.is_empty())
}

fn kill_redis(kills: usize, node_timeout: u64) -> Result<bool> {
    let outcome = redis::run(kills, node_timeout)?;
    let summary = outcome.gaps.summary().context("no kill was asked for")?;
    println!(
        "{kills} kills, node timeout {node_timeout} ms: {:.0} / {:.0} / {:.0} ms without writes \
         (p50 / p99 / max), {} writes acknowledged, {} lost",
        summary.p50_ms, summary.p99_ms, summary.max_ms, outcome.acknowledged, outcome.lost
    );
    Ok(true)
}
