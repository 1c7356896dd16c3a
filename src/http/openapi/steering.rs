//! The operations that change the cluster while it runs.

use super::model::{Method, Operation};
use super::operations::{DELETE, POST, path, query, reply};

const PATCH: &[Method] = &[Method::Patch];

pub const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/cluster/moves/pause",
        methods: POST,
        id: "pause_moves",
        tag: "cluster",
        summary: "Have slots that have all their copies stay where they are; repair and leaving go on",
        parameters: &[],
        body: None,
        replies: &[reply(202, "Asked for; `moves` in `/v1/cluster` says when it is so", None)],
        errors: &[400, 401, 403, 409, 503],
    },
    Operation {
        path: "/v1/cluster/moves/pause",
        methods: DELETE,
        id: "resume_moves",
        tag: "cluster",
        summary: "Have slots move to where the ring wants them again",
        parameters: &[],
        body: None,
        replies: &[reply(202, "Asked for; `moves` in `/v1/cluster` counts what is left", None)],
        errors: &[400, 401, 403, 409, 503],
    },
    Operation {
        path: "/v1/cluster/nodes/{id}",
        methods: PATCH,
        id: "set_node",
        tag: "cluster",
        summary: "Give a node another weight, another zone, or both, for as long as the cluster lives",
        parameters: &[
            path("id", "The id of a node"),
            query(
                "weight",
                r#"{"type":"number","minimum":0.01,"maximum":100}"#,
                "Its share of the slots relative to others",
            ),
            query(
                "zone",
                r#"{"type":"string","maxLength":255}"#,
                "Its failure zone; empty for none",
            ),
        ],
        body: None,
        replies: &[reply(202, "Asked for; slots move when the cluster has agreed to it", None)],
        errors: &[400, 401, 403, 404, 409, 503],
    },
];
