//! `lariat drain`: a node leaves its cluster, or stays after all.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use ureq::http::Method;

use super::To;
use super::client::{Client, encode};

/// Between two looks at how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Asks for it, and waits until it is so.
pub fn run(to: &To, id: &str, cancel: bool, wait: bool) -> Result<ExitCode> {
    let client = Client::new(to);
    let path = format!("/v1/cluster/nodes/{}", encode(id));
    let method = if cancel { Method::DELETE } else { Method::POST };
    let answer = client.send(method, &format!("{path}/drain"), None)?;
    if answer.status != 202 {
        return Err(answer.problem());
    }
    if !wait {
        return tell(to, id, if cancel { "stays" } else { "leaves" });
    }
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
            let slots = |role: &str| node[role].as_u64().unwrap_or(0);
            let (primary, replica) = (slots("slots_primary"), slots("slots_replica"));
            let mut err = std::io::stderr();
            write!(err, "\r\x1b[K{id}: {primary} slots as primary and {replica} copies left")?;
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
