//! The actors of Lariat: a `router` holding the `ring` sends messages to `shard`s holding an
//! `lru`, under a `supervisor` keeping the cluster `map`, over `peer` links.
//!
//! This crate is the cache itself: no HTTP, no command line, no files.

#![forbid(unsafe_code)]

pub mod actor;
pub mod admission;
#[cfg(feature = "agreement")]
pub mod agreement;
pub mod answers;
pub mod apply;
pub mod client;
pub mod clock;
pub mod codec;
pub mod control;
pub mod coordinator;
pub mod decimal;
pub mod founding;
pub mod handshake;
pub mod holding;
pub mod joining;
pub mod lease;
pub mod lru;
pub mod map;
pub mod node;
pub mod op;
pub mod peer;
pub mod recency;
pub mod replication;
pub mod ring;
pub mod router;
pub mod shard;
pub mod shared;
pub mod slot;
pub mod spec;
pub mod stalls;
pub mod stats;
pub mod supervisor;
pub mod threads;
pub mod time;
pub mod update;
pub mod version;
pub mod wire;
pub mod wire_map;
