//! `lariat replay`: an access trace as get, and put on a miss.
//!
//! One request at a time is exact: the misses are those of the trace. Values are made from their
//! key and verified on each hit.

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use ureq::http::Method;

use super::To;
use super::client::Client;

/// Bytes of a value whose size the trace does not say.
const VALUE_BYTES: usize = 64;

/// The largest size that a trace may say.
const VALUE_MAX: usize = 1 << 30;

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Replays a trace.
pub fn run(to: &To, file: &Path, concurrency: usize, clear: bool) -> Result<ExitCode> {
    let trace = read(file)?;
    let client = Client::new(to);
    if clear {
        let answer = client.send(Method::POST, &format!("{}/clear", client.cache()), None)?;
        if answer.status != 204 {
            return Err(answer.problem());
        }
    }
    let answer = client.send(Method::GET, &client.cache(), None)?;
    if answer.status != 200 {
        return Err(answer.problem());
    }
    let entries = answer.json()?["entries"].as_u64().unwrap_or(0);
    if entries > 0 {
        eprintln!(
            "warning: the cache holds {entries} entries already: use --clear for exact misses"
        );
    }
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(trace.len() as u64)
            .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta}")?)
    } else {
        ProgressBar::hidden()
    };
    let counts = Counts::default();
    let next = AtomicU64::new(0);
    let latencies = Mutex::new(Histogram::<u64>::new(3)?);
    let started = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..concurrency)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let client = Client::new(to);
                    let mut mine = Histogram::<u64>::new(3)?;
                    while let Some((key, size)) = trace.get(next.fetch_add(1, Relaxed) as usize) {
                        let before = Instant::now();
                        request(&client, key, *size, &counts)?;
                        mine.record(before.elapsed().as_micros() as u64)?;
                        bar.inc(1);
                    }
                    latencies.lock().expect("no holder of this lock panics").add(&mine)?;
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("a replaying thread does not panic")?;
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let latencies = latencies.into_inner().expect("no holder of this lock panics");
    report(to, &counts, started.elapsed(), &latencies);
    Ok(ExitCode::SUCCESS)
}

fn request(client: &Client, key: &str, size: usize, counts: &Counts) -> Result<()> {
    let path = client.entry(key);
    let answer = client.send(Method::GET, &path, None)?;
    match answer.status {
        200 => {
            if answer.bytes()? != value(key, size) {
                bail!("key '{key}': the value that came back is not the one that was put");
            }
            counts.hits.fetch_add(1, Relaxed);
        }
        404 if answer.header("cache-status").is_some() => {
            // Read to its end, so that the connection is used again.
            answer.bytes()?;
            let body = value(key, size);
            let answer =
                client.send(Method::PUT, &path, Some(("application/octet-stream", &body)))?;
            if !matches!(answer.status, 201 | 204) {
                return Err(answer.problem().context(format!("put '{key}'")));
            }
            answer.bytes()?;
            counts.misses.fetch_add(1, Relaxed);
        }
        _ => return Err(answer.problem().context(format!("get '{key}'"))),
    }
    Ok(())
}

fn report(to: &To, counts: &Counts, took: Duration, latencies: &Histogram<u64>) {
    let (hits, misses) = (counts.hits.load(Relaxed), counts.misses.load(Relaxed));
    let requests = hits + misses;
    let ratio = if requests == 0 { 0.0 } else { hits as f64 / requests as f64 };
    let per_second = requests as f64 / took.as_secs_f64();
    let at = |q: f64| latencies.value_at_quantile(q);
    if to.json {
        println!(
            "{}",
            json!({
                "requests": requests, "hits": hits, "misses": misses, "hit_ratio": ratio,
                "seconds": took.as_secs_f64(), "requests_per_second": per_second,
                "latency_us": {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": latencies.max()},
            })
        );
        return;
    }
    println!("requests   {requests}");
    println!("hits       {hits}");
    println!("misses     {misses}");
    println!("hit ratio  {:.2} %", ratio * 100.0);
    println!("throughput {per_second:.0} requests/s in {:.1} s", took.as_secs_f64());
    println!(
        "latency    p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, max {} us",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        latencies.max()
    );
}

fn read(file: &Path) -> Result<Vec<(String, usize)>> {
    let name = file.display();
    let reader: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = std::fs::File::open(file).with_context(|| format!("cannot open {name}"))?;
        Box::new(BufReader::new(file))
    };
    let mut trace = Vec::new();
    for (number, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("{name}:{}", number + 1))?;
        let (key, size) =
            parse(&line).with_context(|| format!("{name}:{}: '{line}'", number + 1))?;
        trace.push((key.to_string(), size));
    }
    Ok(trace)
}

/// A key, and a size after the last comma if only digits stand there.
fn parse(line: &str) -> Result<(&str, usize)> {
    let line = line.trim_end_matches('\r');
    let (key, size) = match line.rsplit_once(',') {
        Some((key, size)) if !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit()) => {
            (key, size.parse().ok().filter(|&n| n <= VALUE_MAX).context("the size is too large")?)
        }
        _ => (line, VALUE_BYTES),
    };
    if key.is_empty() {
        bail!("the line has no key");
    }
    Ok((key, size))
}

/// The value of a key: its bytes, over and over, each time shifted by its place.
fn value(key: &str, size: usize) -> Vec<u8> {
    key.bytes().cycle().take(size).enumerate().map(|(at, b)| b.wrapping_add(at as u8)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_size_stands_after_the_last_comma_and_only_digits_are_one() {
        assert_eq!(parse("key").unwrap(), ("key", 64));
        assert_eq!(parse("key,100").unwrap(), ("key", 100));
        assert_eq!(parse("a,b,7\r").unwrap(), ("a,b", 7));
        assert_eq!(parse("a,b").unwrap(), ("a,b", 64));
        assert_eq!(parse("a,").unwrap(), ("a,", 64));
        for bad in ["", ",5", "k,99999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_depend_on_their_key_and_size() {
        assert_eq!(value("k", 64), value("k", 64));
        assert_ne!(value("k", 64), value("l", 64));
        assert_eq!(value("k", 7).len(), 7);
    }
}
