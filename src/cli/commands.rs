//! The short commands.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lariat::settings::Config;
use lariat::units::format_duration;
use serde_json::{Value, json};
use ureq::http::Method;

use super::To;
use super::client::{Client, encode};

/// `lariat check`
pub fn check(file: &Path) -> Result<ExitCode> {
    match Config::load(Some(file), &environment(), None) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            let (nodes, caches) = (config.nodes.len(), config.caches.len());
            println!("{}: ok, {nodes} nodes, {caches} caches", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// `lariat config`
pub fn config(file: Option<&Path>, id: Option<&str>) -> Result<ExitCode> {
    let config = match Config::load(file, &environment(), id) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(ExitCode::FAILURE);
        }
    };
    if let Some(id) = id
        && config.node(id).is_none()
    {
        bail!("--id '{id}' is not listed");
    }
    let shown = |key: &str| match (
        id,
        config.nodes.iter().position(|n| Some(n.member.id.as_str()) == id),
    ) {
        (Some(_), Some(index)) => {
            !key.starts_with("nodes[") || key.starts_with(&format!("nodes[{index}]"))
        }
        _ => true,
    };
    let rows: Vec<_> = config.origins.iter().filter(|origin| shown(&origin.key)).collect();
    let width = |of: fn(&lariat::settings::Origin) -> &str| {
        rows.iter().map(|o| of(o).len()).max().unwrap_or(0)
    };
    let (keys, values) = (width(|o| &o.key), width(|o| &o.value));
    for origin in rows {
        println!("{:keys$}  {:values$}  {}", origin.key, origin.value, origin.from);
    }
    Ok(ExitCode::SUCCESS)
}

/// `lariat get`
pub fn get(to: &To, key: &str) -> Result<ExitCode> {
    let client = Client::new(to);
    let answer = client.send(Method::GET, &client.entry(key), None)?;
    match answer.status {
        200 => {
            let header = |name: &str| answer.header(name).map(str::to_string);
            let (etag, content_type) = (header("etag"), header("content-type"));
            let ttl: Option<u64> = answer.header("lariat-ttl").and_then(|ms| ms.parse().ok());
            let value = answer.bytes()?;
            if to.json {
                let mut shown =
                    json!({"key": key, "etag": etag, "content_type": content_type, "ttl_ms": ttl});
                // As batches over HTTP have it.
                match std::str::from_utf8(&value) {
                    Ok(text) => shown["value"] = json!(text),
                    Err(_) => shown["value_base64"] = json!(STANDARD.encode(&value)),
                }
                println!("{shown}");
            } else {
                let mut out = std::io::stdout().lock();
                out.write_all(&value)?;
                if std::io::IsTerminal::is_terminal(&out) {
                    writeln!(out)?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        404 if is_absent(&answer) => Ok(absent(key)),
        _ => Err(answer.problem()),
    }
}

/// `lariat put`
pub fn put(
    to: &To,
    key: &str,
    value: Option<String>,
    file: Option<PathBuf>,
    ttl: Option<String>,
) -> Result<ExitCode> {
    let bytes = match (value, file) {
        (_, Some(file)) => {
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
        }
        (Some(value), None) if value != "-" => value.into_bytes(),
        _ => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read stdin")?;
            bytes
        }
    };
    let client = Client::new(to);
    let mut path = client.entry(key);
    if let Some(ttl) = ttl {
        let separator = if path.contains('?') { '&' } else { '?' };
        path = format!("{path}{separator}ttl={ttl}");
    }
    let answer = client.send(Method::PUT, &path, Some(("application/octet-stream", &bytes)))?;
    match answer.status {
        201 | 204 => {
            let what = if answer.status == 201 { "created" } else { "replaced" };
            if to.json {
                println!("{}", json!({"key": key, "result": what, "etag": answer.header("etag")}));
            } else {
                println!("{what}");
            }
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(answer.problem()),
    }
}

/// `lariat delete`
pub fn delete(to: &To, key: &str) -> Result<ExitCode> {
    let client = Client::new(to);
    let answer = client.send(Method::DELETE, &client.entry(key), None)?;
    match answer.status {
        204 => {
            println!(
                "{}",
                if to.json {
                    json!({"key": key, "result": "deleted"}).to_string()
                } else {
                    "deleted".into()
                }
            );
            Ok(ExitCode::SUCCESS)
        }
        404 if is_absent(&answer) => Ok(absent(key)),
        _ => Err(answer.problem()),
    }
}

/// `lariat ttl`
pub fn ttl(to: &To, key: &str, set: Option<String>) -> Result<ExitCode> {
    let client = Client::new(to);
    let path = client.entry(key);
    let path = match path.split_once('?') {
        Some((path, query)) => format!("{path}/ttl?{query}"),
        None => format!("{path}/ttl"),
    };
    let answer = match set.as_deref() {
        None => client.send(Method::GET, &path, None)?,
        Some("none") => client.send(Method::DELETE, &path, None)?,
        Some(ttl) => {
            let body = json!({ "ttl": ttl }).to_string();
            client.send(Method::PUT, &path, Some(("application/json", body.as_bytes())))?
        }
    };
    match answer.status {
        200 | 204 => {
            let body =
                if answer.status == 200 { answer.json()? } else { json!({ "ttl_ms": null }) };
            match body["ttl_ms"].as_u64() {
                _ if to.json => println!("{body}"),
                Some(ms) => println!("{}", format_duration(ms)),
                None => println!("permanent"),
            }
            Ok(ExitCode::SUCCESS)
        }
        404 if is_absent(&answer) => Ok(absent(key)),
        _ => Err(answer.problem()),
    }
}

/// `lariat locate`
pub fn locate(to: &To, key: &str) -> Result<ExitCode> {
    let client = Client::new(to);
    let answer = client.send(Method::GET, &format!("/v1/cluster/locate/{}", encode(key)), None)?;
    if answer.status != 200 {
        return Err(answer.problem());
    }
    let body = answer.json()?;
    if to.json {
        println!("{body}");
        return Ok(ExitCode::SUCCESS);
    }
    let replicas: Vec<&str> =
        body["replicas"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let replicas = if replicas.is_empty() { "none".to_string() } else { replicas.join(", ") };
    println!(
        "slot {}, primary {}, replicas {replicas}",
        body["slot"],
        body["primary"].as_str().unwrap_or("?")
    );
    Ok(ExitCode::SUCCESS)
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars().collect()
}

fn is_absent(answer: &super::client::Answer) -> bool {
    answer.header("cache-status").is_some_and(|status| status.contains("fwd=miss"))
}

fn absent(key: &str) -> ExitCode {
    eprintln!("lariat: no entry '{key}'");
    ExitCode::FAILURE
}
