//! The dialling end of a connection on which a node that is not in the cluster file says who it is.

use std::time::Duration;

use tokio::time::timeout;

use super::{Control, Enrol, Enrolled, Standing};
use crate::handshake::Purpose;
use crate::peer::{self, ConnectError, Params, Reader, WriterHandle};
use crate::wire::Message as Wire;

/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// A connection to somebody who is asked to have this node listed. Dropping it closes it.
#[derive(Debug)]
pub struct Enrolling {
    /// The start of whoever is at the other end.
    pub incarnation: u64,
    /// The protocol version that both ends speak.
    pub version: u16,
    reader: Reader,
    writer: WriterHandle,
}

impl Enrolling {
    /// Dials `address`; `to` is the id of the node that is meant, empty for whoever is there.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(address: &str, to: &str, params: &Params) -> Result<Self, ConnectError> {
        let (identity, connection) = peer::connect(address, to, Purpose::Enrol, params).await?;
        let version = connection.version();
        let (reader, writer) = connection.split();
        Ok(Enrolling { incarnation: identity.incarnation, version, reader, writer })
    }

    /// Says who this node is; gives how the other one stands, and its answer. `None` when there was
    /// none: the connection is worthless then.
    pub async fn ask(&mut self, enrol: Enrol) -> Option<(Standing, Enrolled)> {
        self.writer.send(&Wire::Control(Control::Enrol(enrol))).ok()?;
        match timeout(ANSWER_DEADLINE, self.reader.next()).await {
            Ok(Ok(Some(Wire::Control(Control::Enrolled { standing, answer })))) => {
                Some((standing, answer))
            }
            _ => None,
        }
    }
}
