//! `lariat status`: the cluster as a table.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Color, Table};
use lariat::units::format_duration;
use serde_json::Value;
use ureq::http::Method;

use super::To;
use super::client::Client;

/// Prints the cluster once, or each second.
pub fn run(to: &To, watch: bool) -> Result<ExitCode> {
    let client = Client::new(to);
    loop {
        let cluster = fetch(&client, "/v1/cluster")?;
        let caches = fetch(&client, "/v1/caches")?;
        if to.json {
            println!("{}", serde_json::json!({ "cluster": cluster, "caches": caches["caches"] }));
        } else {
            let text = render(&cluster, &caches);
            if watch && std::io::stdout().is_terminal() {
                print!("\x1b[2J\x1b[H");
            }
            println!("{text}");
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn fetch(client: &Client, path: &str) -> Result<Value> {
    let answer = client.send(Method::GET, path, None)?;
    if answer.status == 200 { answer.json() } else { Err(answer.problem()) }
}

fn render(cluster: &Value, caches: &Value) -> String {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let number = |value: &Value| {
        let text = value.as_u64().map_or("-".to_string(), |n| n.to_string());
        Cell::new(text).set_alignment(CellAlignment::Right)
    };
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let mut nodes = Table::new();
    nodes.load_style(UTF8_FULL_CONDENSED);
    nodes.set_header([
        "node",
        "state",
        "http",
        "up for",
        "primary of",
        "replica of",
        "entries",
        "bytes",
    ]);
    for node in cluster["nodes"].as_array().into_iter().flatten() {
        let state = text(&node["state"]);
        let cell = match state.as_str() {
            "up" if colour => Cell::new(state).fg(Color::Green),
            "down" if colour => Cell::new(state).fg(Color::Red),
            _ => Cell::new(state),
        };
        let uptime =
            node["uptime_ms"].as_u64().map_or("-".into(), |ms| format_duration(ms / 1000 * 1000));
        nodes.add_row([
            Cell::new(text(&node["id"])),
            cell,
            Cell::new(text(&node["http"])),
            Cell::new(uptime).set_alignment(CellAlignment::Right),
            number(&node["slots_primary"]),
            number(&node["slots_replica"]),
            number(&node["entries"]),
            number(&node["bytes"]),
        ]);
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "cache",
        "entries",
        "bytes",
        "hits",
        "misses",
        "hit ratio",
        "evictions",
        "expirations",
    ]);
    for cache in caches["caches"].as_array().into_iter().flatten() {
        let (hits, misses) =
            (cache["hits"].as_u64().unwrap_or(0), cache["misses"].as_u64().unwrap_or(0));
        let ratio = match hits + misses {
            0 => "-".to_string(),
            all => format!("{:.1} %", hits as f64 * 100.0 / all as f64),
        };
        table.add_row([
            Cell::new(text(&cache["name"])),
            number(&cache["entries"]),
            number(&cache["bytes"]),
            number(&cache["hits"]),
            number(&cache["misses"]),
            Cell::new(ratio).set_alignment(CellAlignment::Right),
            number(&cache["evictions"]),
            number(&cache["expirations"]),
        ]);
    }
    format!(
        "cluster {}, epoch {}, {} slots with a copy missing\n{nodes}\n{table}",
        text(&cluster["name"]),
        cluster["epoch"],
        cluster["under_replicated_slots"],
    )
}
