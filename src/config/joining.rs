//! A node that is not in the cluster file of the others: what it says of itself.

use std::collections::BTreeMap;

use super::reader::Reader;
use crate::settings::check::{address, valid_name};
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
    let key = |name: &str| format!("nodes[{}].{name}", nodes.len());
    let id = r.text_or(&key("id"), None, Some(id.to_string()), "--id", valid_name);
    let mut own = |name: &str, variable: &str, is_needed: bool| {
        let value = environment.get(variable).filter(|value| !value.is_empty());
        let from = format!("environment {variable}");
        if is_needed && value.is_none() {
            r.mistake_outside(
                &from,
                format!(
                    "missing, expected the address of '{id}', which is not listed, or a [[nodes]] entry of its own"
                ),
            );
        }
        r.text_or(&key(name), Some(""), value.cloned(), &from, address)
    };
    let (http, peer) = (own("http", "LARIAT_HTTP", true), own("peer", "LARIAT_PEER", true));
    let redis = own("redis", "LARIAT_REDIS", false);
    let redis_cluster = own("redis_cluster", "LARIAT_REDIS_CLUSTER", false);
    let others_have = nodes.iter().any(|node| !node.redis_cluster.is_empty());
    if others_have && redis_cluster.is_empty() {
        let message = format!(
            "missing, expected the address of '{id}' for cluster-aware Redis clients, as the others have one"
        );
        r.mistake_outside("environment LARIAT_REDIS_CLUSTER", message);
    }
    let zone = String::new();
    let member = MemberSpec { id, http, peer, weight: 1.0, zone };
    let (redis_bind, redis_cluster_bind) = (redis.clone(), redis_cluster.clone());
    Some(NodeConfig {
        redis,
        redis_bind,
        redis_cluster,
        redis_cluster_bind,
        ..NodeConfig::new(member)
    })
}
