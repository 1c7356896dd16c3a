//! Whom to dial.

use std::fmt;
use std::sync::Arc;

use super::{ConnectError, Connection, Params, PeerIdentity, connect};
use crate::handshake::Purpose;

/// Whom to dial, looked up anew each time: the id and the address of a node.
#[derive(Clone)]
pub struct Whom(Arc<dyn Fn() -> Option<(String, String)> + Send + Sync>);

impl Whom {
    /// What `look` says; `None` while no such node is known.
    pub fn new(look: impl Fn() -> Option<(String, String)> + Send + Sync + 'static) -> Self {
        Whom(Arc::new(look))
    }

    /// The id and the address now.
    pub fn look(&self) -> Option<(String, String)> {
        (self.0)()
    }

    /// Dials the node that is meant now.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(
        &self,
        purpose: Purpose,
        params: &Params,
    ) -> Result<(PeerIdentity, Connection), ConnectError> {
        let (id, address) = self.look().ok_or(ConnectError::Nobody)?;
        connect(&address, &id, purpose, params).await
    }

    /// The address, for people.
    pub fn address(&self) -> String {
        self.look().map_or_else(|| "(none)".into(), |(_, address)| address)
    }
}

impl fmt::Debug for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Whom").field(&(self.0)()).finish()
    }
}
