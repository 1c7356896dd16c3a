//! `lariat moves` and `lariat set`: what operators change of a cluster that runs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use lariat::units::format_duration;
use serde_json::Value;
use ureq::http::Method;

use super::To;
use super::client::{Client, encode};

/// Between two looks whether the cluster has agreed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long agreeing is waited for.
const AGREE_PATIENCE: Duration = Duration::from_secs(10);

/// What is to become of moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Turn {
    /// Slots that have all their copies stay where they are
    Pause,
    /// Slots move to where the ring wants them again
    Resume,
}

/// Pauses or resumes moves, and prints what is left of them.
pub fn moves(to: &To, turn: Option<Turn>) -> Result<ExitCode> {
    let client = Client::new(to);
    if let Some(turn) = turn {
        let method = if turn == Turn::Pause { Method::POST } else { Method::DELETE };
        ask(&client, method, "/v1/cluster/moves/pause")?;
        let paused = turn == Turn::Pause;
        wait_until(&client, "/v1/cluster", |cluster| cluster["moves"]["paused"] == paused)?;
    }
    let moves = look(&client, "/v1/cluster")?["moves"].take();
    match to.json {
        true => println!("{moves}"),
        false => println!("{}", describe(&moves)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives a node another weight, another zone, or both.
pub fn set(to: &To, id: &str, weight: Option<f64>, zone: Option<&str>) -> Result<ExitCode> {
    let client = Client::new(to);
    let weight_part = weight.map(|weight| format!("weight={weight}"));
    let zone_part = zone.map(|zone| format!("zone={}", encode(zone)));
    let query: Vec<String> = weight_part.into_iter().chain(zone_part).collect();
    let path = format!("/v1/cluster/nodes/{}", encode(id));
    ask(&client, Method::PATCH, &format!("{path}?{}", query.join("&")))?;
    let node = wait_until(&client, &path, |node| {
        weight.is_none_or(|weight| node["weight"].as_f64() == Some(weight))
            && zone.is_none_or(|zone| node["zone"] == zone)
    })?;
    match to.json {
        true => println!("{node}"),
        false => println!("{id} has weight {} and is in zone {}", node["weight"], node["zone"]),
    }
    Ok(ExitCode::SUCCESS)
}

/// What is left of moves, in a line.
pub fn describe(moves: &Value) -> String {
    let count = |name: &str| moves[name].as_u64();
    let Some(left) = count("slots_left") else {
        return "the node asked reaches no majority: it does not know what is left to be moved"
            .into();
    };
    let slots = match left {
        1 => "1 slot is".to_string(),
        _ => format!("{left} slots are"),
    };
    if moves["paused"] == true {
        return match left {
            0 => "moves are paused; every slot is where the ring wants it".into(),
            _ => format!("moves are paused; {slots} not where the ring wants them"),
        };
    }
    if left == 0 {
        return "every slot is where the ring wants it".into();
    }
    let speed = count("bytes_per_second").unwrap_or(0) / 1_000;
    let rest = match count("eta_ms") {
        Some(ms) => format!("about {} left", format_duration(ms.div_ceil(1_000) * 1_000)),
        None => "how long it takes is not known yet".into(),
    };
    let importing = count("importing").unwrap_or(0);
    format!("{slots} on the way, {importing} copies being filled, {speed} kB/s, {rest}")
}

fn ask(client: &Client, method: Method, path: &str) -> Result<()> {
    let answer = client.send(method, path, None)?;
    if answer.status == 202 { Ok(()) } else { Err(answer.problem()) }
}

fn look(client: &Client, path: &str) -> Result<Value> {
    let answer = client.send(Method::GET, path, None)?;
    if answer.status == 200 { answer.json() } else { Err(answer.problem()) }
}

/// Waits until the cluster has agreed, as the asked node sees it.
fn wait_until(client: &Client, path: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let until = Instant::now() + AGREE_PATIENCE;
    loop {
        let seen = look(client, path)?;
        if is_so(&seen) {
            return Ok(seen);
        }
        if Instant::now() > until {
            bail!(
                "asked for, but not agreed within {} s: see `lariat status`",
                AGREE_PATIENCE.as_secs()
            );
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_is_said_in_a_line() {
        let moves = |paused, left, eta| {
            let (importing, bytes_per_second) = (256, 2_500_000);
            describe(&json!({"paused": paused, "slots_left": left, "importing": importing,
                "bytes_per_second": bytes_per_second, "eta_ms": eta}))
        };
        let known = "4321 slots are on the way, 256 copies being filled, 2500 kB/s, about 7s left";
        assert_eq!(moves(false, json!(4_321), json!(6_400)), known);
        let unknown = moves(false, json!(1), json!(null));
        assert!(unknown.starts_with("1 slot is") && unknown.ends_with("not known yet"));
        assert_eq!(moves(false, json!(0), json!(0)), "every slot is where the ring wants it");
        assert!(moves(true, json!(5), json!(null)).starts_with("moves are paused; 5 slots are"));
        assert!(moves(true, json!(null), json!(null)).contains("no majority"));
    }
}
