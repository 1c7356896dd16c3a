//! The actors of Lariat: a `router` holding the `ring` sends messages to `shard`s holding an
//! `lru`, under a `supervisor` keeping the cluster `map`, over `peer` links.
//!
//! This crate is the cache itself: no HTTP, no command line, no files.

pub mod client;
pub mod map;
pub mod op;
pub mod slot;
pub mod spec;
pub mod stats;
