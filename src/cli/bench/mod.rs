//! `lariat bench`: load for a node over HTTP, or for any server that speaks Redis's or memcached's
//! language.
//!
//! A thread has a runtime and some of the connections ([`connection`]); what they ask for is
//! [`load`], when they send it is [`pace`], what comes of it is a [`tally`] for each thread.

mod connection;
mod http;
mod load;
mod memcached;
mod pace;
mod protocol;
mod report;
mod resp;
mod tally;

use std::cell::RefCell;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use lariat::units::{format_size, parse_duration_ms, parse_size};
use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use ureq::http::Method;

use self::connection::{Run, drive};
use self::http::{Http, split_url};
use self::load::Load;
use self::memcached::{Memcached, TTL_MAX_MS};
use self::pace::Pace;
use self::protocol::Protocol;
use self::resp::Resp;
use self::tally::Tally;
use super::To;
use super::client::{Client, encode};

/// How long a run takes when nothing is said.
const DURATION_MS: u64 = 10_000;

/// Requests under way on each connection while the cache is filled. Over HTTP it is one: a node
/// closes a connection with more than some 100 KiB of requests ahead.
const FILL_PIPELINE: usize = 32;

/// The largest value.
const VALUE_MAX: u64 = 512 << 20;

/// How often the progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  lariat bench --fill                            HTTP, a request at a time on 50 connections
  lariat bench --redis 127.0.0.1:6401 -P 16      any server that speaks Redis's language
  lariat bench --rate 20000 -d 30s --zipf 0.99   open loop: load that does not wait";

/// What a run is like.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Speak Redis's language to HOST:PORT instead of HTTP to a node; repeatable, connections take turns
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = address)]
    redis: Vec<String>,
    /// Speak memcached's text protocol to HOST:PORT instead; repeatable
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = address, conflicts_with = "redis")]
    memcached: Vec<String>,
    /// The database to select, with --redis
    #[arg(long, value_name = "N", default_value_t = 0, requires = "redis")]
    database: u32,
    /// Connections
    #[arg(short, long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: u64,
    /// Requests under way at a time on each connection
    #[arg(short = 'P', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pipeline: u64,
    /// Open loop: so many requests a second in all, sent when they are due whatever was answered; latency counts from then
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// Send requests for this time, like 10s [default: 10s]
    #[arg(short, long, value_name = "TIME", conflicts_with = "requests", value_parser = parse_duration_ms)]
    duration: Option<u64>,
    /// Send so many requests instead
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How many keys there are
    #[arg(short, long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..1_000_000_000_000))]
    keys: u64,
    /// Ask for keys by Zipf's law with this exponent, like 0.99; without it every key is as likely as any other
    #[arg(long, value_name = "EXPONENT", value_parser = exponent)]
    zipf: Option<f64>,
    /// How many gets for how many sets
    #[arg(long, value_name = "GET:SET", default_value = "9:1", value_parser = ratio)]
    ratio: f64,
    /// Bytes of a value, or the least and the most, like 16B-64KiB: then each size between is as likely as any other
    #[arg(long, value_name = "SIZE", default_value = "64B", value_parser = sizes)]
    value_size: (usize, usize),
    /// What every key begins with; twelve digits follow
    #[arg(long, value_name = "TEXT", default_value = "key:")]
    prefix: String,
    /// The time to live of what is set, like 60s
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    ttl: Option<u64>,
    /// Set every key once before the measurement
    #[arg(long)]
    fill: bool,
    /// Where chance begins: the same seed asks for the same keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads that send, each with its share of the connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    #[command(flatten)]
    to: To,
}

/// Runs it, and prints what came of it. Exit 1 if any request got an error.
pub fn run(options: &Options) -> Result<ExitCode> {
    options.check_node()?;
    if options.fill {
        let filled = options.phase(true)?;
        if filled.tally.failed() > 0 {
            report::errors(&filled.tally);
            bail!("the cache could not be filled: {} sets failed", filled.tally.failed());
        }
    }
    let measured = options.phase(false)?;
    report::print(options, &measured);
    report::errors(&measured.tally);
    Ok(if measured.tally.failed() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What came of a run, and how long it took.
#[derive(Debug)]
struct Measured {
    tally: Tally,
    took: Duration,
}

impl Options {
    /// Is the cache there? An answer of its own is clearer than a million errors.
    fn check_node(&self) -> Result<()> {
        if self.name() != "http" {
            return Ok(());
        }
        let client = Client::new(&self.to);
        let answer = client.send(Method::GET, &client.cache(), None)?;
        if answer.status != 200 {
            return Err(answer.problem());
        }
        Ok(())
    }

    /// The name of the language.
    fn name(&self) -> &'static str {
        match (self.redis.is_empty(), self.memcached.is_empty()) {
            (false, _) => "resp",
            (_, false) => "memcached",
            _ => "http",
        }
    }

    /// The language and the addresses.
    fn target(&self) -> Result<(Protocol, Vec<String>)> {
        let token = self.to.token.clone();
        if !self.redis.is_empty() {
            let resp = Resp { password: token, database: self.database, ttl_ms: self.ttl };
            return Ok((Protocol::Resp(resp), self.redis.clone()));
        }
        if !self.memcached.is_empty() {
            if self.ttl.is_some_and(|ms| ms > TTL_MAX_MS) {
                bail!("--ttl: memcached counts at most 30 days from now");
            }
            let memcached = Memcached { ttl_ms: self.ttl };
            return Ok((Protocol::Memcached(memcached), self.memcached.clone()));
        }
        let urls = self.to.nodes.iter().map(|url| split_url(url)).collect::<Result<Vec<_>>>()?;
        let base = urls.first().map(|(_, base)| base.clone()).unwrap_or_default();
        if let Some((host, _)) = urls.iter().find(|(_, other)| *other != base) {
            bail!("--node: {host} has another path than the first node");
        }
        let ttl = self.ttl.map(|ms| format!("{ms}ms"));
        let http = Http::new(&base, &self.to.cache, token.as_deref(), ttl.as_deref());
        Ok((Protocol::Http(http), urls.into_iter().map(|(host, _)| host).collect()))
    }

    /// Fills the cache, or measures.
    fn phase(&self, fills: bool) -> Result<Measured> {
        let (protocol, addresses) = self.target()?;
        let is_http = matches!(protocol, Protocol::Http(_));
        let load = Load {
            keys: self.keys,
            zipf: self.zipf,
            gets: self.ratio,
            sizes: self.value_size,
            seed: self.seed,
            fills,
        };
        let requests = if fills { Some(self.keys) } else { self.requests };
        let time = Duration::from_millis(self.duration.unwrap_or(DURATION_MS));
        let start = Instant::now();
        let run = Arc::new(Run {
            addresses,
            protocol,
            prefix: if is_http { encode(&self.prefix) } else { self.prefix.clone() },
            value: load.value(),
            load,
            pace: Pace {
                start,
                until: requests.is_none().then_some(start + time),
                requests,
                rate: if fills { None } else { self.rate },
                connections: self.connections,
            },
            pipeline: match (fills, is_http) {
                (true, true) => 1,
                (true, false) => FILL_PIPELINE,
                (false, _) => self.pipeline as usize,
            },
            bells: (0..self.connections).map(|_| Notify::new()).collect(),
            done: AtomicU64::new(0),
            is_done: AtomicBool::new(false),
        });
        let tally = self.send(&run, if fills { "filling" } else { "requests" })?;
        Ok(Measured { tally, took: start.elapsed() })
    }

    /// Sends from all threads until all is done.
    fn send(&self, run: &Arc<Run>, what: &str) -> Result<Tally> {
        let threads = self.threads.min(self.connections);
        let bar = progress(run, what)?;
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn(move || {
                        let mine = (thread..self.connections).step_by(threads as usize);
                        let sent = send_from(run, mine);
                        if sent.is_err() {
                            run.end();
                        }
                        sent
                    })
                })
                .collect();
            if run.pace.rate.is_some() {
                scope.spawn(|| run.pace.ring(&run.bells, &run.is_done));
            }
            while !bar.is_hidden() && senders.iter().any(|sender| !sender.is_finished()) {
                show(&bar, run);
                std::thread::sleep(PROGRESS_EVERY);
            }
            bar.finish_and_clear();
            let mut sum = Tally::default();
            let mut failed = None;
            for sender in senders {
                match sender.join().expect("a sending thread does not panic") {
                    Ok(tally) => sum.add(tally),
                    Err(error) => failed = Some(error),
                }
            }
            run.end();
            failed.map_or(Ok(sum), Err)
        })
    }
}

impl Run {
    /// Ends it: connections send nothing more.
    fn end(&self) {
        self.is_done.store(true, Relaxed);
        self.bells.iter().for_each(Notify::notify_one);
    }
}

/// Drives some connections on this thread.
fn send_from(run: &Arc<Run>, connections: impl Iterator<Item = u64>) -> Result<Tally> {
    let tally = Rc::new(RefCell::new(Tally::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut driven = JoinSet::new();
        for number in connections {
            driven.spawn_local(drive(run.clone(), number, tally.clone()));
        }
        while let Some(ended) = driven.join_next().await {
            ended.expect("a connection does not panic")?;
        }
        anyhow::Ok(())
    })?;
    Ok(tally.take())
}

fn progress(run: &Run, what: &str) -> Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let length = match (run.pace.requests, run.pace.until) {
        (Some(requests), _) => requests,
        (None, until) => until.map_or(0, |until| (until - run.pace.start).as_millis() as u64),
    };
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}")?;
    Ok(ProgressBar::new(length).with_style(style).with_prefix(what.to_string()))
}

fn show(bar: &ProgressBar, run: &Run) {
    let (done, took) = (run.done.load(Relaxed), run.pace.start.elapsed());
    let per_second = done as f64 / took.as_secs_f64().max(0.001);
    bar.set_position(if run.pace.requests.is_some() { done } else { took.as_millis() as u64 });
    bar.set_message(format!("{done} done, {per_second:.0}/s"));
}

fn address(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let is_one = parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_one { Ok(text.into()) } else { Err("expected host:port".into()) }
}

fn exponent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|exponent| (0.01..=10.0).contains(exponent));
    number.ok_or("expected a number from 0.01 to 10, like 0.99".into())
}

fn ratio(text: &str) -> Result<f64, String> {
    let parts = text
        .split_once(':')
        .and_then(|(gets, sets)| Some((gets.parse::<u32>().ok()?, sets.parse::<u32>().ok()?)));
    match parts {
        Some((gets, sets)) if gets > 0 || sets > 0 => {
            Ok(f64::from(gets) / (f64::from(gets) + f64::from(sets)))
        }
        _ => Err("expected gets:sets, like 9:1 or 1:0".into()),
    }
}

fn sizes(text: &str) -> Result<(usize, usize), String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let size = |text: &str| {
        let size = parse_size(text).map_err(|error| error.to_string())?;
        if size > VALUE_MAX {
            return Err(format!("'{text}' is more than {}", format_size(VALUE_MAX)));
        }
        Ok(size as usize)
    };
    let (least, most) = (size(least)?, size(most)?);
    if least > most {
        return Err("the first size is larger than the second".into());
    }
    Ok((least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_sizes_and_exponents_are_read_and_others_refused() {
        assert_eq!((ratio("9:1"), ratio("0:1"), ratio("1:0")), (Ok(0.9), Ok(0.0), Ok(1.0)));
        assert_eq!(sizes("64B"), Ok((64, 64)));
        assert_eq!(sizes("16B-64KiB"), Ok((16, 65_536)));
        assert_eq!(exponent("0.99"), Ok(0.99));
        for bad in ["", "9", "9:", "0:0", "-1:1", "9:1:1"] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
        for bad in ["64", "2B-1B", "1GiB", "0B", "1B-"] {
            assert!(sizes(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(exponent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_has_a_port() {
        for good in ["localhost:6379", "[::1]:6379"] {
            assert_eq!(address(good), Ok(good.into()));
        }
        for bad in ["localhost", ":6379", "a:b", "a:99999"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
