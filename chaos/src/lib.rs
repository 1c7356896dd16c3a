//! Chaos with real processes: a cluster is started, its nodes are killed, paused, restarted and cut
//! off while clients write and read, and what the clients saw is checked afterwards.
//!
//! `cluster` owns the processes and `links` the proxies between them; `fault` and `cut` do the harm
//! and prove that it happened, `clock` lets wall clocks jump, `polite` has nodes join and leave,
//! `strike` notes who was hit and where slots were then; `steady` is what a cluster does that nobody
//! harms. `load` and `probe` are the clients, `http` and `resp` their languages, `history` is what
//! they saw. `check` is pure and judges it, `digests` compares the copies that are left, `plant`
//! alters it to see that `check` notices, `report` counts, `evidence` is what a failed run leaves
//! behind. `redis` does the same kill to a real Redis Cluster, for comparison.

#![forbid(unsafe_code)]

pub mod aim;
pub mod check;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod cut;
pub mod digests;
pub mod evidence;
pub mod fault;
pub mod history;
pub mod http;
pub mod links;
pub mod load;
pub mod plant;
pub mod polite;
pub mod probe;
pub mod process;
pub mod redis;
pub mod report;
pub mod resp;
pub mod run;
pub mod steady;
pub mod strike;
