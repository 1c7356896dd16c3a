//! The Redis ports: the same replies as redis-server, hostile input, clusters.

mod cluster;
mod compare;
mod connections;
mod resp;
