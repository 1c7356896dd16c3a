//! A node dies and comes back: its keys stay, and its copies are made anew.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use ureq::http::Method;

use super::place::{Place, expect, text};
use super::story::Story;
use crate::cli::client::{Client, encode};

/// Keys that are put before the kill.
const KEYS: usize = 100;

/// How long a write may fail after the kill, and how long the node may be without copies afterwards.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long slots may take to be where they were before the kill.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Kills a node with entries on it, reads them from the others, and brings it back.
pub fn tell(say: &Story, place: &Place) -> Result<()> {
    say.title("A node dies, its keys stay")?;
    let clients: Vec<Client> = (0..3).map(|node| place.client(node, "default")).collect();
    for n in 0..KEYS {
        let path = clients[n % 3].entry(&key(n));
        expect(&clients[n % 3].send(Method::PUT, &path, Some(("text/plain", b"x")))?, 201, "put")?;
    }
    let victim = index_of(&locate(&clients[0], &key(0))?)?;
    let mut its_keys = Vec::new();
    for n in 0..KEYS {
        if index_of(&locate(&clients[0], &key(n))?)? == victim {
            its_keys.push(n);
        }
    }
    let name = format!("node-{}", victim + 1);
    say.step(
        &format!("put {} to {}", key(0), key(KEYS - 1)),
        &format!("{} of them have {name} as their primary", its_keys.len()),
    )?;
    let before = shares(&clients[0])?;
    let survivors: Vec<&Client> =
        clients.iter().enumerate().filter(|(node, _)| *node != victim).map(|(_, c)| c).collect();
    place.kill(victim)?;
    let killed = Instant::now();
    say.step(&format!("kill -9 {name}"), "gone without a word")?;
    let path = survivors[0].entry(&key(its_keys[0]));
    while survivors[0].send(Method::PUT, &path, Some(("text/plain", b"y")))?.status != 204 {
        if killed.elapsed() > WRITE_TIMEOUT {
            bail!("no write to {} succeeded in {} s", key(its_keys[0]), WRITE_TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let after = killed.elapsed().as_millis();
    say.step(
        &format!("put {} again", key(its_keys[0])),
        &format!("done {after} ms after the kill"),
    )?;
    let mut there = 0;
    for n in 0..KEYS {
        let client = survivors[n % survivors.len()];
        there += usize::from(client.send(Method::GET, &client.entry(&key(n)), None)?.status == 200);
    }
    say.step("get all of them from the other two", &format!("{there} of {KEYS} are there"))?;
    if there != KEYS {
        bail!("{} of {KEYS} keys are gone", KEYS - there);
    }
    let located = locate(survivors[0], &key(its_keys[0]))?;
    let heir = text(&located["primary"]);
    if heir == name {
        bail!("{name} is dead and still the primary of {}", key(its_keys[0]));
    }
    say.step(
        &format!("where is {} now?", key(its_keys[0])),
        &format!("primary {heir}: its copy was promoted"),
    )?;
    back(say, place, victim, survivors[0], &before)
}

/// Starts the node again and waits until it is filled and every node has the slots it had.
fn back(
    say: &Story,
    place: &Place,
    victim: usize,
    other: &Client,
    shares_before: &[Share],
) -> Result<()> {
    say.title("It comes back and is filled again")?;
    let name = format!("node-{}", victim + 1);
    let before = member(other, &name)?["incarnation"].as_u64();
    let started = Instant::now();
    place.start(victim)?;
    say.step(&format!("start {name} again"), "empty, and somebody else to the others")?;
    // The others may still see it as it was; its new start is what counts.
    loop {
        place.wait_whole()?;
        let node = member(other, &name)?;
        let held = node["slots_primary"].as_u64().unwrap_or(0)
            + node["slots_replica"].as_u64().unwrap_or(0);
        if node["incarnation"].as_u64() != before && held > 0 {
            break;
        }
        if started.elapsed() > WRITE_TIMEOUT {
            bail!("{name} was not filled again within {} s", WRITE_TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = started.elapsed().as_millis();
    say.step("wait until no copy is missing", &format!("0 slots short of a copy after {took} ms"))?;
    while shares(other)? != shares_before {
        if started.elapsed() > REBALANCE_TIMEOUT {
            bail!("slots were not where they were within {} s", REBALANCE_TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = started.elapsed().as_millis();
    say.step("wait until slots are rebalanced", &format!("as before the kill after {took} ms"))?;
    show(say, other)
}

/// What a node says of all nodes.
pub fn show(say: &Story, client: &Client) -> Result<()> {
    let cluster = cluster(client)?;
    for node in cluster["nodes"].as_array().into_iter().flatten() {
        let (name, state) = (text(&node["id"]), text(&node["state"]));
        if state != "up" {
            bail!("{name} is {state}");
        }
        let mark = if node["id"] == cluster["coordinator"] { ", coordinator" } else { "" };
        say.step(
            &name,
            &format!(
                "{state}, primary of {} slots, replica of {}{mark}",
                node["slots_primary"], node["slots_replica"]
            ),
        )?;
    }
    Ok(())
}

fn key(n: usize) -> String {
    format!("session:{n}")
}

fn cluster(client: &Client) -> Result<Value> {
    let answer = client.send(Method::GET, "/v1/cluster", None)?;
    expect(&answer, 200, "cluster")?;
    answer.json()
}

/// Slots that a node is primary of, and those it has as a replica.
type Share = (Option<u64>, Option<u64>);

/// The shares of all nodes.
fn shares(client: &Client) -> Result<Vec<Share>> {
    let cluster = cluster(client)?;
    let nodes = cluster["nodes"].as_array().into_iter().flatten();
    let share = |node: &Value| (node["slots_primary"].as_u64(), node["slots_replica"].as_u64());
    Ok(nodes.map(share).collect())
}

fn member(client: &Client, name: &str) -> Result<Value> {
    let answer = client.send(Method::GET, &format!("/v1/cluster/nodes/{name}"), None)?;
    expect(&answer, 200, "node")?;
    answer.json()
}

fn locate(client: &Client, key: &str) -> Result<Value> {
    let path = format!("/v1/cluster/locate/{}", encode(key));
    let answer = client.send(Method::GET, &path, None)?;
    expect(&answer, 200, "locate")?;
    answer.json()
}

/// The place of a located key's primary among the nodes.
fn index_of(located: &Value) -> Result<usize> {
    let name = text(&located["primary"]);
    match name.strip_prefix("node-").and_then(|n| n.parse::<usize>().ok()) {
        Some(n @ 1..=3) => Ok(n - 1),
        _ => bail!("'{name}' is no node of the demo"),
    }
}
