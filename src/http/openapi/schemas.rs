//! Schemas of the JSON bodies.

use serde_json::{Value, json};

/// A schema given as JSON text in the table of operations.
pub fn of_text(text: &str) -> Value {
    serde_json::from_str(text).expect("the schemas of the table are JSON")
}

/// An object with exactly these properties, of which `optional` may be absent.
fn object(properties: Value, optional: &[&str]) -> Value {
    let required: Vec<String> = properties
        .as_object()
        .into_iter()
        .flat_map(|properties| properties.keys())
        .filter(|name| !optional.contains(&name.as_str()))
        .cloned()
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn count_or_null() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0 })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn integer_or_text() -> Value {
    json!({ "oneOf": [
        { "type": "integer" },
        { "type": "string", "pattern": "^[+-]?[0-9]+$" },
    ] })
}

/// All of them, by name.
pub fn all() -> Value {
    json!({
        "Problem": problem(),
        "Ttl": object(json!({ "ttl_ms": count_or_null() }), &[]),
        "NewTtl": json!({ "oneOf": [
            object(json!({ "ttl": text() }), &[]),
            object(json!({ "ttl_ms": { "type": "integer", "minimum": 1 } }), &[]),
        ] }),
        "Incr": object(
            json!({
                "by": integer_or_text(),
                "initial": integer_or_text(),
                "ttl": text(),
                "ttl_ms": { "type": "integer", "minimum": 1 },
            }),
            &["by", "initial", "ttl", "ttl_ms"],
        ),
        "Number": object(
            json!({
                "value": { "type": "integer" },
                "value_string": { "type": "string", "pattern": "^-?[0-9]+$" },
                "ttl_ms": count_or_null(),
            }),
            &[],
        ),
        "Length": object(json!({ "length": count() }), &[]),
        "Key": key(),
        "Page": object(
            json!({
                "keys": list(reference("Key")),
                "cursor": { "type": ["string", "null"] },
            }),
            &[],
        ),
        "Batch": object(
            json!({
                "ops": { "type": "array", "maxItems": 1000, "items": reference("BatchOperation") },
                "encoding": { "const": "base64" },
            }),
            &["encoding"],
        ),
        "BatchOperation": batch_operation(),
        "Results": object(json!({ "results": list(reference("BatchResult")) }), &[]),
        "BatchResult": batch_result(),
        "Cache": cache(json!({})),
        "CacheWithMissing": cache(json!({ "missing": list(text()) })),
        "Caches": object(
            json!({ "caches": list(reference("Cache")), "missing": list(text()) }),
            &[],
        ),
        "Node": node(),
        "Cluster": object(
            json!({
                "name": text(),
                "cluster_id": text(),
                "epoch": count(),
                "protocol_version": count(),
                "split": { "type": "boolean" },
                "coordinator": { "type": ["string", "null"] },
                "has_lease": { "type": "boolean" },
                "under_replicated_slots": count_or_null(),
                "imports_in_flight": count(),
                "moves": reference("Moves"),
                "nodes": list(reference("Node")),
            }),
            &[],
        ),
        "Moves": object(
            json!({
                "paused": { "type": "boolean" },
                "slots_left": count_or_null(),
                "importing": count(),
                "bytes_per_second": count(),
                "eta_ms": count_or_null(),
            }),
            &[],
        ),
        "Map": map(),
        "Location": object(
            json!({
                "slot": { "type": "integer", "minimum": 0, "maximum": 16383 },
                "tag": text(),
                "tag_base64": text(),
                "primary": text(),
                "replicas": list(text()),
                "epoch": count(),
            }),
            &["tag", "tag_base64"],
        ),
        "Health": object(
            json!({
                "status": { "enum": ["live", "ready", "not_ready"] },
                "reason": text(),
            }),
            &["reason"],
        ),
        "OpenApi": { "type": "object", "required": ["openapi", "info", "paths"] },
    })
}

fn problem() -> Value {
    let codes: Vec<&str> = crate::http::error::Code::ALL.iter().map(|code| code.text()).collect();
    object(
        json!({
            "type": { "type": "string", "pattern": "^/docs/errors#[a-z_]+$" },
            "title": text(),
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": text(),
            "code": { "enum": codes },
            "applied": { "enum": ["no", "maybe"] },
        }),
        &["applied"],
    )
}

fn key() -> Value {
    json!({ "oneOf": [
        object(json!({ "key": text() }), &[]),
        object(json!({ "key_base64": { "type": "string", "pattern": "^[A-Za-z0-9_-]+$" } }), &[]),
    ] })
}

fn batch_operation() -> Value {
    object(
        json!({
            "op": { "enum": ["get", "put", "delete"] },
            "key": text(),
            "key_base64": text(),
            "value": text(),
            "value_base64": text(),
            "content_type": text(),
            "ttl": text(),
            "ttl_ms": { "type": "integer", "minimum": 1 },
            "if_match": text(),
            "if_none_match": text(),
        }),
        &[
            "key",
            "key_base64",
            "value",
            "value_base64",
            "content_type",
            "ttl",
            "ttl_ms",
            "if_match",
            "if_none_match",
        ],
    )
}

fn batch_result() -> Value {
    let codes: Vec<&str> = crate::http::error::Code::ALL.iter().map(|code| code.text()).collect();
    object(
        json!({
            "status": { "type": "integer", "minimum": 200, "maximum": 599 },
            "etag": { "type": "string", "pattern": "^\"[0-9a-f]{16}\"$" },
            "value": text(),
            "value_base64": text(),
            "content_type": text(),
            "ttl_ms": count_or_null(),
            "code": { "enum": codes },
            "detail": text(),
            "applied": { "enum": ["no", "maybe"] },
        }),
        &["etag", "value", "value_base64", "content_type", "ttl_ms", "code", "detail", "applied"],
    )
}

fn cache(more: Value) -> Value {
    let mut properties = json!({
        "name": text(),
        "capacity": count(),
        "max_bytes": count(),
        "default_ttl_ms": count_or_null(),
        "max_value": count(),
        "max_key": count(),
        "replication_factor": count(),
        "acks": { "enum": ["all", "async"] },
        "entries": count(),
        "bytes": count(),
        "hits": count(),
        "misses": count(),
        "puts": count(),
        "deletes": count(),
        "evictions": count(),
        "expirations": count(),
        "replicas": object(
            json!({
                "entries": count(),
                "bytes": count(),
                "evictions": count(),
                "expirations": count(),
            }),
            &[],
        ),
    });
    for (name, schema) in more.as_object().into_iter().flatten() {
        properties[name.as_str()] = schema.clone();
    }
    object(properties, &[])
}

fn node() -> Value {
    object(
        json!({
            "id": text(),
            "state": { "enum": ["joining", "up", "suspect", "leaving", "down"] },
            "http": text(),
            "peer": text(),
            "zone": text(),
            "weight": { "type": "number" },
            "incarnation": count(),
            "uptime_ms": count_or_null(),
            "slots_primary": count(),
            "slots_replica": count(),
            "slots_importing": count(),
            "entries": count_or_null(),
            "bytes": count_or_null(),
        }),
        &[],
    )
}

fn map() -> Value {
    let range = json!({
        "type": "array",
        "prefixItems": [count(), count(), count(), list(count())],
        "minItems": 4,
        "maxItems": 4,
        "description": "First slot, last slot, primary, replicas; nodes by their place in `nodes`",
    });
    object(
        json!({
            "epoch": count(),
            "nodes": list(object(json!({ "id": text(), "url": text() }), &[])),
            "ranges": list(range),
        }),
        &[],
    )
}
