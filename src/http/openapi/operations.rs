//! The table of operations: path, methods, parameters, bodies and every status that is answered.

use super::model::{Body, Method, Operation, Parameter, Place, Reply};

/// Groups of operations, and what they are about.
pub const TAGS: &[(&str, &str)] = &[
    ("entries", "One entry of a cache. `{key}` is one percent-encoded segment, decoded once."),
    ("caches", "Whole caches: batches, listing, clearing, policy and counters."),
    ("cluster", "Nodes, slots and who holds them."),
    ("operations", "Health, metrics and documentation."),
];

/// What a header of a response says.
pub fn header_help(name: &str) -> &'static str {
    match name {
        "ETag" => {
            "The version of what is described, strong. Any change, of the TTL too, changes it"
        }
        "Lariat-TTL" => "Milliseconds left; absent for a permanent entry",
        "Lariat-Node" => "The node that answered",
        "Lariat-Epoch" => "What made the primary of the key's slot primary",
        "Cache-Status" => "Whether there was an entry (RFC 9211)",
        "Cache-Control" => "How long a client may keep the response",
        _ => "",
    }
}

pub(super) const fn path(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, place: Place::Path, schema: r#"{"type":"string"}"#, description }
}

pub(super) const fn query(
    name: &'static str,
    schema: &'static str,
    description: &'static str,
) -> Parameter {
    Parameter { name, place: Place::Query, schema, description }
}

const fn header(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, place: Place::Header, schema: r#"{"type":"string"}"#, description }
}

const CACHE: Parameter = path("cache", "A declared cache");
const KEY: Parameter = path("key", "The key, percent-encoded; `~` with `key_base64`");
const KEY_BASE64: Parameter = query(
    "key_base64",
    r#"{"type":"string"}"#,
    "The key in base64url without padding, when the path says `~`",
);
const ACKS: Parameter = query(
    "acks",
    r#"{"enum":["all","async"]}"#,
    "How many copies the write waits for, instead of the cache's policy",
);
const IF_MATCH: Parameter = header("If-Match", "Tags or `*`: the entry must be one of them");
const IF_NONE_MATCH: Parameter =
    header("If-None-Match", "Tags or `*`: the entry must be none of them");

pub(super) const fn reply(status: u16, description: &'static str, body: Option<Body>) -> Reply {
    Reply { status, description, body, headers: &[] }
}

const fn ok(body: Body) -> Reply {
    reply(200, "Done", Some(body))
}

const ENTRY_HEADERS: &[&str] =
    &["ETag", "Lariat-TTL", "Lariat-Node", "Lariat-Epoch", "Cache-Status", "Cache-Control"];
const WRITE_HEADERS: &[&str] = &["ETag", "Lariat-Node", "Lariat-Epoch"];
const READ: &[Method] = &[Method::Get, Method::Head];
pub(super) const POST: &[Method] = &[Method::Post];
pub(super) const DELETE: &[Method] = &[Method::Delete];
const GUARDED: &[u16] = &[400, 401, 403];

/// Every operation of the gateway.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/caches/{cache}/entries/{key}",
        methods: READ,
        id: "get_entry",
        tag: "entries",
        summary: "Read a value; HEAD does not count as use, hit or miss and takes no `touch`",
        parameters: &[
            CACHE,
            KEY,
            KEY_BASE64,
            query(
                "consistency",
                r#"{"enum":["primary","any"]}"#,
                "`any`: an in-sync copy on the node that was asked may answer",
            ),
            query("touch", r#"{"type":"string"}"#, "Gives the entry this new TTL, like `60s`"),
            IF_MATCH,
            IF_NONE_MATCH,
        ],
        body: None,
        replies: &[
            Reply {
                status: 200,
                description: "The value",
                body: Some(Body::Bytes),
                headers: ENTRY_HEADERS,
            },
            Reply {
                status: 304,
                description: "As `If-None-Match` says",
                body: None,
                headers: ENTRY_HEADERS,
            },
        ],
        errors: &[400, 401, 403, 404, 412, 414, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/entries/{key}",
        methods: &[Method::Put],
        id: "put_entry",
        tag: "entries",
        summary: "Store a value, replacing value, type and deadline",
        parameters: &[
            CACHE,
            KEY,
            KEY_BASE64,
            query(
                "ttl",
                r#"{"type":"string"}"#,
                "Like `60s`; `none`: permanent; `keep`: the deadline it has; default: the cache's",
            ),
            ACKS,
            query("return", r#"{"const":"previous"}"#, "Answer with the value that was replaced"),
            IF_MATCH,
            IF_NONE_MATCH,
        ],
        body: Some(Body::Bytes),
        replies: &[
            Reply {
                status: 200,
                description: "Replaced; the value that was there",
                body: Some(Body::Bytes),
                headers: WRITE_HEADERS,
            },
            Reply { status: 201, description: "Created", body: None, headers: WRITE_HEADERS },
            Reply { status: 204, description: "Replaced", body: None, headers: WRITE_HEADERS },
        ],
        errors: &[400, 401, 403, 404, 408, 412, 413, 414, 415, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/entries/{key}",
        methods: &[Method::Delete],
        id: "delete_entry",
        tag: "entries",
        summary: "Remove an entry",
        parameters: &[
            CACHE,
            KEY,
            KEY_BASE64,
            ACKS,
            query("return", r#"{"const":"value"}"#, "Answer with the value that was removed"),
            IF_MATCH,
            IF_NONE_MATCH,
        ],
        body: None,
        replies: &[
            reply(200, "Removed; the value that was there", Some(Body::Bytes)),
            reply(204, "Removed", None),
        ],
        errors: &[400, 401, 403, 404, 412, 414, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/entries/{key}/ttl",
        methods: &[Method::Get],
        id: "get_ttl",
        tag: "entries",
        summary: "Milliseconds left; not a use",
        parameters: &[CACHE, KEY, KEY_BASE64, IF_MATCH, IF_NONE_MATCH],
        body: None,
        replies: &[
            Reply {
                status: 200,
                description: "Null: permanent",
                body: Some(Body::Json("Ttl")),
                headers: WRITE_HEADERS,
            },
            Reply {
                status: 304,
                description: "As `If-None-Match` says",
                body: None,
                headers: WRITE_HEADERS,
            },
        ],
        errors: &[400, 401, 403, 404, 412, 414, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/entries/{key}/ttl",
        methods: &[Method::Put],
        id: "set_ttl",
        tag: "entries",
        summary: "Give an entry a new deadline",
        parameters: &[CACHE, KEY, KEY_BASE64, ACKS, IF_MATCH, IF_NONE_MATCH],
        body: Some(Body::Json("NewTtl")),
        replies: &[Reply {
            status: 200,
            description: "Set",
            body: Some(Body::Json("Ttl")),
            headers: WRITE_HEADERS,
        }],
        errors: &[400, 401, 403, 404, 408, 412, 413, 414, 415, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/entries/{key}/ttl",
        methods: &[Method::Delete],
        id: "make_permanent",
        tag: "entries",
        summary: "Take an entry's deadline away",
        parameters: &[CACHE, KEY, KEY_BASE64, ACKS, IF_MATCH, IF_NONE_MATCH],
        body: None,
        replies: &[Reply {
            status: 204,
            description: "Permanent",
            body: None,
            headers: WRITE_HEADERS,
        }],
        errors: &[400, 401, 403, 404, 412, 414, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/entries/{key}/incr",
        methods: POST,
        id: "incr",
        tag: "entries",
        summary: "Add to a 64-bit integer stored as decimal text; the deadline is kept",
        parameters: &[CACHE, KEY, KEY_BASE64, ACKS, IF_MATCH, IF_NONE_MATCH],
        body: Some(Body::Json("Incr")),
        replies: &[Reply {
            status: 200,
            description: "The sum",
            body: Some(Body::Json("Number")),
            headers: WRITE_HEADERS,
        }],
        errors: &[400, 401, 403, 404, 408, 409, 412, 413, 414, 415, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/entries/{key}/append",
        methods: POST,
        id: "append",
        tag: "entries",
        summary: "Append to a value; an absent entry counts as empty; the deadline is kept",
        parameters: &[CACHE, KEY, KEY_BASE64, ACKS, IF_MATCH, IF_NONE_MATCH],
        body: Some(Body::Bytes),
        replies: &[Reply {
            status: 200,
            description: "Bytes of the value now",
            body: Some(Body::Json("Length")),
            headers: WRITE_HEADERS,
        }],
        errors: &[400, 401, 403, 404, 408, 412, 413, 414, 415, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/entries",
        methods: READ,
        id: "list_keys",
        tag: "caches",
        summary: "List keys by slot; a page may be empty with a cursor; not a use",
        parameters: &[
            CACHE,
            query("prefix", r#"{"type":"string"}"#, "Only keys that begin so"),
            query(
                "prefix_base64",
                r#"{"type":"string"}"#,
                "The prefix in base64url without padding",
            ),
            query(
                "limit",
                r#"{"type":"integer","minimum":1,"maximum":1000}"#,
                "Keys of a page; 100",
            ),
            query("cursor", r#"{"type":"string"}"#, "Where the page before ended"),
        ],
        body: None,
        replies: &[ok(Body::Json("Page"))],
        errors: &[400, 401, 403, 404, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches/{cache}/batch",
        methods: POST,
        id: "batch",
        tag: "caches",
        summary: "Many operations in one request; in order for a key, not atomic",
        parameters: &[CACHE],
        body: Some(Body::Json("Batch")),
        replies: &[reply(
            200,
            "One result for each operation, in order",
            Some(Body::Json("Results")),
        )],
        errors: &[400, 401, 403, 404, 408, 413, 415, 503],
    },
    Operation {
        path: "/v1/caches/{cache}/clear",
        methods: POST,
        id: "clear",
        tag: "caches",
        summary: "Remove every entry of a cache on all nodes",
        parameters: &[CACHE],
        body: None,
        replies: &[reply(204, "Cleared", None)],
        errors: &[400, 401, 403, 404, 500, 503, 504],
    },
    Operation {
        path: "/v1/caches",
        methods: READ,
        id: "list_caches",
        tag: "caches",
        summary: "Policy and counters of every cache",
        parameters: &[NODE_SELF],
        body: None,
        replies: &[ok(Body::Json("Caches"))],
        errors: GUARDED,
    },
    Operation {
        path: "/v1/caches/{cache}",
        methods: READ,
        id: "get_cache",
        tag: "caches",
        summary: "Policy and counters of a cache",
        parameters: &[CACHE, NODE_SELF],
        body: None,
        replies: &[ok(Body::Json("CacheWithMissing"))],
        errors: &[400, 401, 403, 404],
    },
    Operation {
        path: "/v1/cluster",
        methods: READ,
        id: "get_cluster",
        tag: "cluster",
        summary: "The nodes as this one sees them",
        parameters: &[NODE_SELF],
        body: None,
        replies: &[ok(Body::Json("Cluster"))],
        errors: GUARDED,
    },
    Operation {
        path: "/v1/cluster/map",
        methods: READ,
        id: "get_map",
        tag: "cluster",
        summary: "Where every slot is, for clients that route for themselves",
        parameters: &[IF_NONE_MATCH],
        body: None,
        replies: &[
            Reply {
                status: 200,
                description: "The map",
                body: Some(Body::Json("Map")),
                headers: &["ETag"],
            },
            Reply {
                status: 304,
                description: "Still at this epoch",
                body: None,
                headers: &["ETag"],
            },
        ],
        errors: GUARDED,
    },
    Operation {
        path: "/v1/cluster/locate/{key}",
        methods: READ,
        id: "locate",
        tag: "cluster",
        summary: "Where a key lives, whether there is an entry or not",
        parameters: &[KEY, KEY_BASE64],
        body: None,
        replies: &[ok(Body::Json("Location"))],
        errors: &[400, 401, 403, 414],
    },
    Operation {
        path: "/v1/cluster/nodes/{id}",
        methods: READ,
        id: "get_node",
        tag: "cluster",
        summary: "One node as this one sees it",
        parameters: &[path("id", "The id of a node")],
        body: None,
        replies: &[ok(Body::Json("Node"))],
        errors: &[400, 401, 403, 404],
    },
    Operation {
        path: "/v1/cluster/nodes/{id}/drain",
        methods: POST,
        id: "drain_node",
        tag: "cluster",
        summary: "Have a node give all its slots to others and leave the cluster",
        parameters: &[path("id", "The id of a node")],
        body: None,
        replies: &[reply(
            202,
            "Asked for; the node's slots are counted in `/v1/cluster/nodes/{id}`",
            None,
        )],
        errors: &[400, 401, 403, 404, 409, 503],
    },
    Operation {
        path: "/v1/cluster/nodes/{id}/drain",
        methods: DELETE,
        id: "keep_node",
        tag: "cluster",
        summary: "Have a node that is leaving stay after all, until it has left",
        parameters: &[path("id", "The id of a node")],
        body: None,
        replies: &[reply(202, "Asked for; slots come back as the ring wants them", None)],
        errors: &[400, 401, 403, 404, 409, 503],
    },
    Operation {
        path: "/v1/cluster/nodes/{id}/forget",
        methods: POST,
        id: "forget_node",
        tag: "cluster",
        summary: "Declare a node dead that will not come back; works without a majority",
        parameters: &[path("id", "The id of another node than the one that is asked")],
        body: None,
        replies: &[reply(202, "Told to all nodes that this one reaches", None)],
        errors: &[400, 401, 403, 404, 409],
    },
    health(
        "/health",
        "health",
        "Can this node serve? The same as `/health/ready`",
        &[READY, NOT_READY],
    ),
    health("/health/ready", "ready", "Can this node serve?", &[READY, NOT_READY]),
    health("/health/live", "live", "Is the process there?", &[READY]),
    page("/metrics", "metrics", "Counters in Prometheus' text format", &[TEXT]),
    page("/openapi.json", "openapi", "This document", &[JSON]),
    page("/docs", "docs", "Swagger UI", &[HTML]),
    page("/docs/errors", "errors", "What each error code means", &[HTML]),
    Operation {
        parameters: &[path("file", "A file of Swagger UI")],
        errors: &[400, 401, 403, 404],
        ..page("/docs/{file}", "docs_file", "Files of Swagger UI", &[ok(Body::Bytes)])
    },
];

const TEXT: Reply = ok(Body::Text("text/plain"));
const JSON: Reply = ok(Body::Json("OpenApi"));
const HTML: Reply = ok(Body::Text("text/html"));
const NODE_SELF: Parameter = query(
    "node",
    r#"{"const":"self"}"#,
    "This node's own counters instead of those of all nodes: asks nobody",
);
const READY: Reply = reply(200, "It is", Some(Body::Json("Health")));
const NOT_READY: Reply = reply(503, "It is not, and why", Some(Body::Json("Health")));

const fn health(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    replies: &'static [Reply],
) -> Operation {
    Operation {
        path,
        methods: READ,
        id,
        tag: "operations",
        summary,
        parameters: &[],
        body: None,
        replies,
        errors: &[400],
    }
}

const fn page(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    replies: &'static [Reply],
) -> Operation {
    Operation {
        path,
        methods: READ,
        id,
        tag: "operations",
        summary,
        parameters: &[],
        body: None,
        replies,
        errors: GUARDED,
    }
}
