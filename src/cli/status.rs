//! `lariat status`: the cluster as a table.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, Color, Table};
use lariat::units::format_duration;
use serde_json::{Value, json};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use ureq::http::Method;

use super::To;
use super::client::Client;
use super::steering;

/// A look that takes longer has failed. A node asks the others for a second at most before it
/// answers.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Prints the cluster once, or each second. A watch tells what failed and goes on, as the cluster
/// may come back; but if the first look fails, the address is probably wrong.
pub fn run(to: &To, watch: bool) -> Result<ExitCode> {
    let client = if watch { Client::within(to, LOOK_MAX) } else { Client::new(to) };
    let mut seen = Ok(look(&client, to.json)?);
    loop {
        let printed = match seen {
            Ok(text) => print(&text, watch && !to.json),
            // Whoever reads JSON reads nothing else.
            Err(error) if to.json => writeln!(std::io::stderr(), "{}", failure(&error)),
            Err(error) => print(&failure(&error), true),
        };
        match printed {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            printed => printed?,
        }
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_secs(1));
        seen = look(&client, to.json);
    }
}

/// What is printed of the cluster as it is now.
fn look(client: &Client, json: bool) -> Result<String> {
    let cluster = fetch(client, "/v1/cluster")?;
    let caches = fetch(client, "/v1/caches")?;
    Ok(match json {
        true => json!({ "cluster": cluster, "caches": caches["caches"] }).to_string(),
        false => render(&cluster, &caches),
    })
}

/// Prints it, in the place of what was there if a terminal shows it.
fn print(text: &str, replaces: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let clear = if replaces && out.is_terminal() { "\x1b[2J\x1b[H" } else { "" };
    writeln!(out, "{clear}{text}")
}

/// One line: when, as the nodes' logs write it, and what.
fn failure(error: &anyhow::Error) -> String {
    let mut line = String::new();
    // A string takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    format!("{line} {error:#}")
}

fn fetch(client: &Client, path: &str) -> Result<Value> {
    let answer = client.send(Method::GET, path, None)?;
    if answer.status == 200 { answer.json() } else { Err(answer.problem()) }
}

fn render(cluster: &Value, caches: &Value) -> String {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let silent: Vec<&str> =
        caches["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let silent = match &silent[..] {
        [] => String::new(),
        silent => format!("\nwithout what {} would count: no answer", silent.join(", ")),
    };
    format!(
        "{}\n{}\n{}{silent}",
        summary(cluster, colour),
        nodes_table(cluster, colour),
        caches_table(caches),
    )
}

/// What an operator looks for first: is the cluster whole, and who says so?
fn summary(cluster: &Value, colour: bool) -> String {
    let split = if cluster["split"] == true { ", founded by a minority" } else { "" };
    let lease = if cluster["has_lease"] == true { "has a lease" } else { "has no lease" };
    let mut lines = format!(
        "cluster {}, epoch {}, coordinator {}{split}; the node asked {lease}",
        text(&cluster["name"]),
        cluster["epoch"],
        cluster["coordinator"].as_str().unwrap_or("unknown"),
    );
    let imports = &cluster["imports_in_flight"];
    let (health, ansi) = match cluster["under_replicated_slots"].as_u64() {
        Some(0) => ("every slot has all its copies".to_string(), "32"),
        Some(1) => (format!("1 slot has a copy missing; {imports} imports in flight"), "33"),
        Some(n) => (format!("{n} slots have a copy missing; {imports} imports in flight"), "33"),
        None => ("the node asked reaches no majority: what follows may be old".to_string(), "31"),
    };
    lines.push('\n');
    lines.push_str(&if colour { format!("\x1b[{ansi}m{health}\x1b[0m") } else { health });
    let moves = &cluster["moves"];
    if moves["paused"] == true || moves["slots_left"].as_u64().is_some_and(|left| left > 0) {
        lines.push('\n');
        lines.push_str(&steering::describe(moves));
    }
    lines
}

fn nodes_table(cluster: &Value, colour: bool) -> Table {
    let mut table =
        table(["node", "state", "up for", "primary", "replica", "importing", "entries", "bytes"]);
    for node in cluster["nodes"].as_array().into_iter().flatten() {
        let state = text(&node["state"]);
        let cell = match state.as_str() {
            "up" if colour => Cell::new(state).fg(Color::Green),
            "down" if colour => Cell::new(state).fg(Color::Red),
            _ if colour => Cell::new(state).fg(Color::Yellow),
            _ => Cell::new(state),
        };
        let uptime =
            node["uptime_ms"].as_u64().map_or("-".into(), |ms| format_duration(ms / 1000 * 1000));
        let coordinates = node["id"] == cluster["coordinator"];
        let mark = if coordinates { " *" } else { "" };
        table.add_row([
            Cell::new(format!("{}{mark}", text(&node["id"]))),
            cell,
            Cell::new(uptime).set_alignment(CellAlignment::Right),
            number(&node["slots_primary"]),
            number(&node["slots_replica"]),
            number(&node["slots_importing"]),
            number(&node["entries"]),
            number(&node["bytes"]),
        ]);
    }
    table
}

fn caches_table(caches: &Value) -> Table {
    let mut table =
        table(["cache", "entries", "bytes", "hits", "misses", "hit ratio", "evicted", "expired"]);
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
    table
}

/// Without lines between columns: eight of them fit into 80 characters.
fn table(header: [&str; 8]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_string()
}

fn number(value: &Value) -> Cell {
    let text = value.as_u64().map_or("-".to_string(), |n| n.to_string());
    Cell::new(text).set_alignment(CellAlignment::Right)
}
