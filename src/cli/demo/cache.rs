//! What one cache does: answers on every node, forgets what was used longest ago, expires.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ureq::http::Method;

use super::place::{SMALL, expect, text};
use super::story::Story;
use crate::cli::client::{Client, encode};

/// Puts on one node and reads on the others.
pub fn put_and_read(say: &Story, node: &[Client]) -> Result<()> {
    say.title("Any node answers any request")?;
    let key = "user:ada";
    let located =
        node[0].send(Method::GET, &format!("/v1/cluster/locate/{}", encode(key)), None)?;
    let place = located.json()?;
    say.step(
        &format!("where is {key}?"),
        &format!(
            "slot {}, primary {}, replica {}",
            place["slot"],
            text(&place["primary"]),
            text(&place["replicas"][0])
        ),
    )?;
    let put = node[0].send(
        Method::PUT,
        &format!("{}?ttl=60s", node[0].entry(key)),
        Some(("text/plain", b"Ada Lovelace")),
    )?;
    expect(&put, 201, "put")?;
    say.step("put it on node-1, for 60 s", "201 created, on the primary and its replica")?;
    for (index, client) in node.iter().enumerate().skip(1) {
        let got = client.send(Method::GET, &client.entry(key), None)?;
        expect(&got, 200, "get")?;
        let ttl = got.header("lariat-ttl").unwrap_or("?").to_string();
        let value = String::from_utf8_lossy(&got.bytes()?).into_owned();
        if value != "Ada Lovelace" {
            bail!("node-{} answered '{value}'", index + 1);
        }
        say.step(&format!("get it from node-{}", index + 1), &format!("'{value}', {ttl} ms left"))?;
    }
    Ok(())
}

/// Fills a small cache beyond its capacity.
pub fn evict(say: &Story, small: &Client) -> Result<()> {
    say.title("Full caches forget what was used longest ago")?;
    // One hash tag: all keys in one slot, so on one node and its replica.
    let key = |i: usize| format!("{{page}}{i}");
    for i in 0..SMALL {
        expect(
            &small.send(Method::PUT, &small.entry(&key(i)), Some(("text/plain", b"x")))?,
            201,
            "put",
        )?;
    }
    say.step(
        &format!("put {} to {} into a cache of {SMALL} entries", key(0), key(SMALL - 1)),
        "it is full",
    )?;
    let get = |i: usize| -> Result<bool> {
        Ok(small.send(Method::GET, &small.entry(&key(i)), None)?.status == 200)
    };
    if !get(0)? {
        bail!("{} is gone too early", key(0));
    }
    say.step(&format!("get {}", key(0)), "hit: now it is the most recently used")?;
    expect(
        &small.send(Method::PUT, &small.entry(&key(SMALL)), Some(("text/plain", b"x")))?,
        201,
        "put",
    )?;
    say.step(&format!("put one more, {}", key(SMALL)), "something has to go")?;
    let (kept, gone) = (get(0)?, !get(1)?);
    say.step(
        &format!("get {} and {}", key(0), key(1)),
        &format!(
            "{} and {}",
            if kept { "hit" } else { "miss" },
            if gone { "miss: it was the least recently used" } else { "hit" }
        ),
    )?;
    if !(kept && gone) {
        bail!("the eviction was not of the least recently used entry");
    }
    Ok(())
}

/// Puts an entry with a deadline and reads it until it is gone.
pub fn expire(say: &Story, client: &Client) -> Result<()> {
    say.title("Entries expire on time")?;
    let path = client.entry("flash");
    expect(
        &client.send(
            Method::PUT,
            &format!("{path}?ttl=400ms"),
            Some(("text/plain", b"gone soon")),
        )?,
        201,
        "put",
    )?;
    say.step("put flash, for 400 ms", "201 created")?;
    let started = Instant::now();
    let mut shown = false;
    loop {
        let got = client.send(Method::GET, &path, None)?;
        match got.status {
            200 if started.elapsed() < Duration::from_secs(5) => {
                if !shown {
                    say.step(
                        "get flash",
                        &format!("hit, {} ms left", got.header("lariat-ttl").unwrap_or("?")),
                    )?;
                    shown = true;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            404 => break,
            status => bail!("get of an expiring entry answered {status}"),
        }
    }
    let after = started.elapsed().as_millis();
    if after < 380 {
        bail!("the entry was gone after {after} ms already");
    }
    say.step("get flash, again and again", &format!("miss after {after} ms"))
}
