//! One binary that drives real nodes over real sockets, in this process and as processes of their
//! own. Ports are chosen by the system; every wait has a deadline.

#![allow(clippy::unwrap_used, missing_docs)]

mod acks;
mod bench;
mod cli;
mod cli_commands;
mod cli_drain;
mod cli_join;
mod cluster;
mod debug;
mod embed;
mod failure;
mod founding;
mod hostile_http;
mod hostile_peer;
mod http;
mod joining;
mod leaving;
mod links;
mod moving;
mod nodes;
mod openapi;
mod pages;
mod panics;
mod polite;
mod process;
mod redis;
mod rest;
mod rolling;
mod split;
mod steering;
mod support;
