//! What can go wrong for an embedding app.

use lariat_actors::op::{Applied, Failure, FailureKind, Version};

use crate::settings::Mistakes;

/// An error of a node or of an operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Mistakes in the settings, all of them. Nothing was started.
    #[error("{0}")]
    Config(#[from] Mistakes),
    /// An address could not be bound. Nothing was started.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The node's threads could not be started, or the cluster that it joins refuses it.
    #[error("{0}")]
    Start(String),
    /// No cache of this name is declared.
    #[error("cache '{0}' is not declared")]
    CacheNotFound(String),
    /// A value could not be serialised. Nothing was sent.
    #[error("the value for key '{key}' cannot be serialised: {source}")]
    Encode {
        /// The key.
        key: String,
        /// What serde said.
        source: serde_json::Error,
    },
    /// A stored value is not of the type asked for. It stays.
    #[error("the value of key '{key}' is no {expected} (content type {})",
            content_type.as_deref().unwrap_or("unknown"))]
    Decode {
        /// The key.
        key: String,
        /// The type asked for.
        expected: &'static str,
        /// The stored content type.
        content_type: Option<String>,
    },
    /// The entry is not as the write required it. Not applied.
    #[error("the entry is not as required (version: {})",
            .current.map_or("absent".into(), crate::etag))]
    PreconditionFailed {
        /// The version that is there; `None` when absent.
        current: Option<Version>,
    },
    /// The operation got no reply; see [`Error::applied`] and [`Error::is_retryable`].
    #[error("{}", .0.kind)]
    Failed(Failure),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl Error {
    /// Whether a write that ended in this error took effect.
    pub fn applied(&self) -> Applied {
        match self {
            Error::Failed(failure) => failure.applied,
            _ => Applied::No,
        }
    }

    /// May the same operation succeed later, and is it certain that it was not applied?
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Failed(failure) => {
                failure.applied == Applied::No
                    && matches!(
                        failure.kind,
                        FailureKind::NotReady
                            | FailureKind::NoQuorum
                            | FailureKind::NotEnoughReplicas
                            | FailureKind::Overloaded
                    )
            }
            _ => false,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match (failure.kind, failure.applied) {
            (FailureKind::Stopped, Applied::No) => Error::Stopped,
            _ => Error::Failed(failure),
        }
    }
}
