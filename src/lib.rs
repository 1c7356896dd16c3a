//! Lariat: a distributed in-memory LRU cache made of actors.
//!
//! ```
//! # #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)] struct User { name: String }
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! use std::time::Duration;
//! use lariat::{CacheConfig, Node};
//!
//! let node = Node::builder().cache("users", CacheConfig::new().capacity(10_000)).start().await?;
//! let users = node.cache("users")?;
//! users.put("user:1", &User { name: "Ada".into() }).ttl(Duration::from_secs(60)).await?;
//! let user: Option<User> = users.get("user:1").await?;
//! assert_eq!(user, Some(User { name: "Ada".into() }));
//! node.shutdown().await;
//! # Ok::<(), lariat::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

#[cfg(any(feature = "http", feature = "redis"))]
mod backlog;
mod builder;
pub mod cache;
mod cache_config;
#[cfg(feature = "config-file")]
pub mod config;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod node;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "http", feature = "redis"))]
mod secret;
pub mod settings;
pub mod units;

pub use builder::Builder;
pub use cache::{Cache, Entry, Write, Written};
pub use cache_config::CacheConfig;
pub use error::Error;
pub use lariat_actors as actors;
pub use lariat_actors::op::{Acks, Applied, Version};
pub use lariat_actors::spec::Minority;
pub use node::Node;
pub use settings::MemberSpec;

/// The ETag of a version: 16 hex digits in quotes.
pub fn etag(version: Version) -> String {
    format!("\"{:016x}\"", version.0)
}
