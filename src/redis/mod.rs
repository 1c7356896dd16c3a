//! The Redis gateway: the protocol of Redis on two ports.
//!
//! A [`connection`] reads into its [`input`], where the [`parser`] finds commands; the [`table`] knows
//! who plans each; a plan ([`plan`]) is requests to shards and a way from their answers to the reply
//! ([`finish`]); what asks many slots runs alone ([`walk`]). Connections live on the worker threads
//! that hold the shards, and everything that one read completes is one batch.
//!
//! What a command does is decided in the shard. Here it is only said in another language.

mod args;
mod client_command;
mod clients;
mod cluster;
mod connection;
mod counts;
mod cursor;
mod describe;
mod expiry;
mod finish;
mod gateway;
mod glob;
mod help;
mod info;
mod input;
mod keyspace;
mod large;
mod listing;
mod number;
mod parser;
mod pause;
mod plan;
mod reply;
mod send;
mod server;
mod session;
mod sieve;
mod slowlog;
mod strings;
mod table;
mod topology;
mod walk;
mod window;

pub use counts::Ports;
pub use gateway::Kind;
pub use server::Server;
