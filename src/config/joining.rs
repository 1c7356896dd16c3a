//! A node that is not in the cluster file of the others: what it says of itself.

use std::collections::BTreeMap;

use super::reader::Reader;
use super::{address, valid_name};
use crate::settings::{MemberSpec, NodeConfig};

/// Is this where a member can be asked?
pub(super) fn member_address(text: &str) -> Result<(), String> {
    let has_port = |text: &str| !text.ends_with(":0");
    match address(text) {
        Ok(()) if !has_port(text) => Err(format!("invalid address '{text}', expected a port")),
        other => other,
    }
}

/// The node of a file that does not list it, from the environment; `None` when the file does.
pub(super) fn own_node(
    r: &mut Reader,
    environment: &BTreeMap<String, String>,
    id: Option<&str>,
    nodes: &[NodeConfig],
) -> Option<NodeConfig> {
    let Some(id) = id else {
        r.mistake_outside(
            "--join",
            "--id is missing, expected an id that no other node has".into(),
        );
        return None;
    };
    if nodes.iter().any(|node| node.member.id == id) {
        return None;
    }
    if let Err(problem) = valid_name(id) {
        r.mistake_outside("--id", problem);
    }
    let mut own = |name: &str, is_needed: bool| {
        let value = environment.get(name).cloned().unwrap_or_default();
        let key = format!("environment {name}");
        match value.is_empty() {
            true if is_needed => r.mistake_outside(
                &key,
                format!(
                    "missing, expected the address of '{id}', which is not listed, or a [[nodes]] entry of its own"
                ),
            ),
            true => {}
            false => {
                if let Err(problem) = address(&value) {
                    r.mistake_outside(&key, problem);
                }
                let of_other = |node: &&NodeConfig| {
                    let m = &node.member;
                    [&m.http, &m.peer, &node.redis, &node.redis_cluster].contains(&&value)
                };
                if let Some(other) = nodes.iter().find(of_other) {
                    let other = &other.member.id;
                    r.mistake_outside(&key, format!("'{value}' is used by '{other}' too, expected an address of its own"));
                }
            }
        }
        value
    };
    let (http, peer) = (own("LARIAT_HTTP", true), own("LARIAT_PEER", true));
    let (redis, redis_cluster) = (own("LARIAT_REDIS", false), own("LARIAT_REDIS_CLUSTER", false));
    let others_have = nodes.iter().any(|node| !node.redis_cluster.is_empty());
    if others_have && redis_cluster.is_empty() {
        let message = format!(
            "missing, expected the address of '{id}' for cluster-aware Redis clients, as the others have one"
        );
        r.mistake_outside("environment LARIAT_REDIS_CLUSTER", message);
    }
    let zone = String::new();
    let member = MemberSpec { id: id.to_string(), http, peer, weight: 1.0, zone };
    let (redis_bind, redis_cluster_bind) = (redis.clone(), redis_cluster.clone());
    Some(NodeConfig {
        redis,
        redis_bind,
        redis_cluster,
        redis_cluster_bind,
        ..NodeConfig::new(member)
    })
}
