//! `lariat drain`: a node leaves its cluster, or stays after all.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use lariat::actors::op::Ms;
use lariat::units::format_duration;
use serde_json::{Value, json};
use ureq::http::Method;

use super::To;
use super::client::{Client, encode};

/// Between two looks at how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long the asked node may take for an answer, also of whoever waits for less.
const ANSWER_MIN: Duration = Duration::from_secs(5);

/// Asks for it, and waits until it is so, for as long as is given.
pub fn run(to: &To, id: &str, cancel: bool, wait_ms: Option<Ms>) -> Result<ExitCode> {
    let begun = Instant::now();
    let limit = wait_ms.map_or(ANSWER_MIN, Duration::from_millis);
    let client = Client::within(to, limit.max(ANSWER_MIN));
    let path = format!("/v1/cluster/nodes/{}", encode(id));
    let method = if cancel { Method::DELETE } else { Method::POST };
    let answer = client.send(method, &format!("{path}/drain"), None)?;
    if answer.status != 202 {
        return Err(answer.problem());
    }
    let Some(wait_ms) = wait_ms else {
        return tell(to, id, if cancel { "stays" } else { "leaves" });
    };
    let mut progress = Progress::new();
    loop {
        let answer = client.send(Method::GET, &path, None)?;
        if answer.status != 200 {
            return Err(answer.problem());
        }
        let node = answer.json()?;
        let is_leaving = node["state"] == "leaving";
        let has_left = node["incarnation"] == 0;
        match cancel {
            true if has_left => {
                bail!("node '{id}' has left already; start it again to have it back")
            }
            true if !is_leaving => break tell(to, id, "stays"),
            false if has_left => {
                progress.end()?;
                break tell(to, id, "has left");
            }
            _ if begun.elapsed() >= limit => {
                progress.end()?;
                let waited = format_duration(wait_ms);
                if cancel {
                    bail!("node '{id}' still leaves after {waited}: see lariat status");
                }
                let (primary, copies) = slots(&node);
                bail!(
                    "node '{id}' has {} slots left after {waited} and goes on leaving: see lariat \
                     status, or take it back with lariat drain {id} --cancel",
                    primary + copies
                );
            }
            _ => {}
        }
        progress.show(id, &node)?;
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn tell(to: &To, id: &str, result: &str) -> Result<ExitCode> {
    match to.json {
        true => println!("{}", json!({ "node": id, "result": result })),
        false => println!("{id} {result}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Slots of which a node is the primary, and copies that it has.
fn slots(node: &Value) -> (u64, u64) {
    let count = |role: &str| node[role].as_u64().unwrap_or(0);
    (count("slots_primary"), count("slots_replica"))
}

/// One line that is written over, on a terminal.
struct Progress {
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Progress { is_shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, id: &str, node: &Value) -> Result<()> {
        if self.is_shown {
            let (primary, copies) = slots(node);
            let mut err = std::io::stderr();
            write!(err, "\r\x1b[K{id}: {primary} slots as primary and {copies} copies left")?;
            err.flush()?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_shown) {
            write!(std::io::stderr(), "\r\x1b[K")?;
        }
        Ok(())
    }
}
