//! The Redis ports: the same replies as redis-server, hostile input, clusters.

mod clients;
mod cluster;
pub mod compare;
mod connections;
mod gets;
mod hostile;
mod listing;
mod metrics;
mod resp;
mod rust_client;
mod slowlog;
mod tools;
mod trouble;
mod wait;
