//! What a run came to, for people and for programs.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::tally::Tally;
use super::{Measured, Options};

/// Prints the figures of a run.
pub fn print(options: &Options, measured: &Measured) {
    if options.to.json {
        println!("{}", as_json(options, measured));
    } else {
        as_text(options, measured);
    }
}

/// Tells the errors of a run, if there were any.
pub fn errors(tally: &Tally) {
    for (kind, (count, first)) in &tally.errors {
        eprintln!("lariat: {count} requests failed: {kind}, the first with '{first}'");
    }
    if tally.unsent > 0 {
        eprintln!(
            "warning: {} requests were due and not sent before the end: the true latencies are higher",
            tally.unsent
        );
    }
}

fn as_text(options: &Options, measured: &Measured) {
    let (tally, seconds) = (&measured.tally, measured.took.as_secs_f64());
    let requests = tally.requests();
    println!("requests   {requests} in {seconds:.2} s");
    println!("throughput {:.0} requests/s{}", per_second(requests, seconds), wanted(options));
    let bytes = |bytes| per_second(bytes, seconds) / f64::from(1 << 20);
    let (sent, received) = (bytes(tally.sent_bytes), bytes(tally.received_bytes));
    println!("bytes      {sent:.1} MiB/s sent, {received:.1} MiB/s received");
    let gets = tally.hits + tally.misses;
    if gets > 0 {
        println!("gets       {gets}, {:.2} % hits", hit_ratio(tally) * 100.0);
    }
    println!("sets       {}", tally.sets);
    println!("errors     {}", tally.failed());
    for (name, latencies) in
        [("get", &tally.get_us), ("set", &tally.set_us), ("all", &tally.all_us())]
    {
        if !latencies.is_empty() {
            println!("{name:10} {}", line(latencies));
        }
    }
}

fn wanted(options: &Options) -> String {
    options.rate.map(|rate| format!(" of {rate} wanted")).unwrap_or_default()
}

fn line(latencies: &Histogram<u64>) -> String {
    let at = |q: f64| latencies.value_at_quantile(q);
    format!(
        "p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, max {} us",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        latencies.max()
    )
}

fn as_json(options: &Options, measured: &Measured) -> Value {
    let (tally, seconds) = (&measured.tally, measured.took.as_secs_f64());
    let requests = tally.requests();
    let errors: serde_json::Map<String, Value> =
        tally.errors.iter().map(|(kind, (count, _))| (kind.clone(), json!(count))).collect();
    json!({
        "protocol": options.name(),
        "loop": if options.rate.is_some() { "open" } else { "closed" },
        "connections": options.connections,
        "pipeline": options.pipeline,
        "threads": options.threads,
        "rate": options.rate,
        "keys": options.keys,
        "zipf": options.zipf,
        "get_share": options.ratio,
        "value_bytes": [options.value_size.0, options.value_size.1],
        "seed": options.seed,
        "seconds": seconds,
        "requests": requests,
        "requests_per_second": per_second(requests, seconds),
        "hits": tally.hits,
        "misses": tally.misses,
        "hit_ratio": hit_ratio(tally),
        "sets": tally.sets,
        "failed": tally.failed(),
        "errors": errors,
        "unsent": tally.unsent,
        "sent_bytes": tally.sent_bytes,
        "received_bytes": tally.received_bytes,
        "latency_us": latency(&tally.all_us()),
        "get_latency_us": latency(&tally.get_us),
        "set_latency_us": latency(&tally.set_us),
    })
}

fn latency(latencies: &Histogram<u64>) -> Value {
    let at = |q: f64| latencies.value_at_quantile(q);
    json!({
        "count": latencies.len(),
        "mean": latencies.mean(),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p999": at(0.999),
        "p9999": at(0.9999),
        "max": latencies.max(),
    })
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn hit_ratio(tally: &Tally) -> f64 {
    let gets = tally.hits + tally.misses;
    if gets == 0 { 0.0 } else { tally.hits as f64 / gets as f64 }
}
