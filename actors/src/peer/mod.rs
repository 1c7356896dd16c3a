//! Connections between nodes: dialling, accepting, the handshake, and frames in both directions.
//!
//! The rules are in [`crate::handshake`], [`crate::codec`] and [`crate::wire`]; here are the
//! sockets. [`link::PeerLink`] is the dialling end, [`inbound::Inbound`] the accepting one.
//!
//! Bounds: handshakes have a deadline and at most [`HANDSHAKES_MAX`] are under way per accept
//! loop; a frame is refused by its length before it is read; a writer queues at most
//! [`QUEUE_MAX_BYTES`], and closes when the other side takes nothing for [`WRITE_DEADLINE`].

pub mod accepting;
pub mod asking;
mod backoff;
pub mod inbound;
mod items;
pub mod link;
mod whom;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

pub use backoff::Backoff;
pub use whom::Whom;
pub use writer::{QUEUE_MAX_BYTES, Room, SendError, WRITE_DEADLINE, WriterHandle};

use crate::codec::{self, FrameError};
use crate::handshake::{
    self, Dialler, HANDSHAKE_MAX, HandshakeError, Identity, Listener, Nonce, Purpose, Refusal,
};
use crate::version::Versions;
use crate::wire::{self, Message, WireError};

/// How long a handshake may take.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(2);

/// Handshakes under way at a time, per accept loop. A further connection takes the place of the
/// one that has been at it for longest, so that silent ones can't keep a peer out.
pub const HANDSHAKES_MAX: usize = 256;

/// Bytes that a reader asks the socket for at a time.
const READ_STEP: usize = 64 * 1024;

/// Who a peer has proven to be.
pub type PeerIdentity = Identity;

/// What both ends of a connection need to know.
#[derive(Clone)]
pub struct Params {
    /// The cluster's name.
    pub cluster: String,
    /// This node's id.
    pub id: String,
    /// Tells this start of the node.
    pub incarnation: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Digest of the placement.
    pub digest: u64,
    /// Tells the protocol versions that this node understands in its cluster.
    pub versions: Arc<dyn Fn() -> Versions + Send + Sync>,
    /// Digest of the settings that every node of the cluster has to have, whatever its file lists.
    pub settings: u64,
    /// The shared secret.
    pub secret: Arc<[u8]>,
    /// The largest frame after the handshake, in bytes.
    pub max_frame: usize,
    /// How long an address may leave a connection request without an answer: a lease, since a way there and
    /// back that takes longer than that carries none. The system alone would ask again only after
    /// seconds, and a host that has just come up would wait for that.
    pub connect_max: Duration,
    /// The highest known incarnation of a member, `None` for an id that is not one.
    pub known: KnownMembers,
}

/// Looks up the highest known incarnation of a member.
pub type KnownMembers = Arc<dyn Fn(&str) -> Option<u64> + Send + Sync>;

impl Params {
    fn identity(&self, purpose: Purpose) -> Identity {
        Identity {
            cluster: self.cluster.clone(),
            id: self.id.clone(),
            incarnation: (self.incarnation)(),
            digest: if purpose == Purpose::Enrol { self.settings } else { self.digest },
            versions: (self.versions)(),
        }
    }
}

impl fmt::Debug for Params {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a connection was not established.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address could not be reached; the port may refuse.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The handshake failed.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    /// The other side was too slow.
    #[error("no handshake within {} s", HANDSHAKE_DEADLINE.as_secs())]
    Timeout,
    /// The map does not list the node any more.
    #[error("it is not known who is to be dialled")]
    Nobody,
    /// Too many others were at their handshake.
    #[error("{HANDSHAKES_MAX} later connections came before its handshake was done")]
    Crowded,
}

/// Why an accepted connection was closed before it was served.
pub type AcceptError = ConnectError;

impl ConnectError {
    /// Did the nodes talk and not agree? An operator has to mend that.
    pub fn is_handshake(&self) -> bool {
        matches!(self, ConnectError::Handshake(_))
    }
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The connection ended inside a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// A frame is not one.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A message is not one.
    #[error("{0}")]
    Wire(#[from] WireError),
}

/// A connection that a peer has dialled.
#[derive(Debug)]
pub struct Accepted {
    /// Who the peer has proven to be.
    pub identity: PeerIdentity,
    /// The highest start of a member of its id that was known before it proved that it is there.
    pub known: Option<u64>,
    /// The start of this node that it shook hands with.
    pub mine: u64,
    /// What the connection is for.
    pub purpose: Purpose,
    /// The connection.
    pub connection: Connection,
}

/// A connection that has shaken hands.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    max_frame: usize,
    version: u16,
}

impl Connection {
    /// The protocol version that both ends speak.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The two directions; the writer's task runs on the current thread.
    pub fn split(self) -> (Reader, WriterHandle) {
        let (read, write) = self.stream.into_split();
        let reader = Reader { stream: read, buffer: self.buffer, max_frame: self.max_frame };
        (reader, WriterHandle::start(write, self.version))
    }
}

/// A connection on its way to another thread.
#[derive(Debug)]
pub struct Detached {
    stream: std::net::TcpStream,
    buffer: BytesMut,
    max_frame: usize,
    version: u16,
}

impl Connection {
    /// Takes the connection off the current thread.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn detach(self) -> std::io::Result<Detached> {
        let Connection { stream, buffer, max_frame, version } = self;
        Ok(Detached { stream: stream.into_std()?, buffer, max_frame, version })
    }
}

impl Detached {
    /// Puts the connection on the current thread.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn attach(self) -> std::io::Result<Connection> {
        let Detached { stream, buffer, max_frame, version } = self;
        Ok(Connection { stream: TcpStream::from_std(stream)?, buffer, max_frame, version })
    }
}

/// The receiving direction of a connection.
#[derive(Debug)]
pub struct Reader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    max_frame: usize,
}

impl Reader {
    /// The next message; `None` when the other side closed between two frames.
    ///
    /// # Errors
    /// Anything after which the connection is worthless.
    pub async fn next(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            if let Some(frame) = codec::take(&mut self.buffer, self.max_frame)? {
                return Ok(Some(wire::decode(&frame)?));
            }
            // Room grows as bytes arrive, whatever length was announced.
            self.buffer.reserve(READ_STEP);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ReadError::Truncated) };
            }
        }
    }
}

/// Dials the node `to` at `address` and shakes hands. The address is looked up anew each time, and
/// all that it stands for are tried in turn. A node of an older version that cannot choose one is
/// dialled again, as one of its own version.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(
    address: &str,
    to: &str,
    purpose: Purpose,
    params: &Params,
) -> Result<(PeerIdentity, Connection), ConnectError> {
    let me = params.identity(purpose);
    let older = |error: &ConnectError| match error {
        ConnectError::Handshake(HandshakeError::Refused(Refusal::Version { theirs, ours })) => {
            let common = ours.agreed(*theirs).map(Versions::only);
            common.filter(|common| common.newest < ours.newest)
        }
        _ => None,
    };
    timeout(HANDSHAKE_DEADLINE, async {
        match connect_as(&me, address, to, purpose, params).await {
            Err(error) => match older(&error) {
                Some(versions) => {
                    let me = Identity { versions, ..me };
                    connect_as(&me, address, to, purpose, params).await
                }
                None => Err(error),
            },
            connected => connected,
        }
    })
    .await
    .map_err(|_| ConnectError::Timeout)?
}

/// Connects to the first that answers of the addresses that `address` stands for.
async fn dial(address: &str, max: Duration) -> std::io::Result<TcpStream> {
    let mut failed = std::io::Error::new(ErrorKind::NotFound, "the name stands for no address");
    for address in lookup_host(address).await? {
        match timeout(max, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            // Somebody may be there all the same where another address did not answer at all.
            Ok(Err(error)) if failed.kind() != ErrorKind::TimedOut => failed = error,
            Ok(Err(_)) => {}
            Err(_) => {
                let why =
                    format!("no answer to a connection request within {} ms", max.as_millis());
                failed = std::io::Error::new(ErrorKind::TimedOut, why);
            }
        }
    }
    Err(failed)
}

async fn connect_as(
    me: &Identity,
    address: &str,
    to: &str,
    purpose: Purpose,
    params: &Params,
) -> Result<(PeerIdentity, Connection), ConnectError> {
    let mut stream = dial(address, params.connect_max).await?;
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    let (dialler, hello) = Dialler::start(me, to, purpose, &params.secret, nonce());
    send(&mut stream, &hello).await?;
    let challenge = receive(&mut stream, &mut buffer).await?;
    let (incarnation, version, proof) = match dialler.challenged(&challenge) {
        Ok(proof) => proof,
        Err(error) => return Err(error.into()),
    };
    send(&mut stream, &proof).await?;
    dialler.welcomed(&receive(&mut stream, &mut buffer).await?)?;
    let peer = Identity { id: to.to_string(), incarnation, ..me.clone() };
    Ok((peer, Connection { stream, buffer, max_frame: params.max_frame, version }))
}

/// Shakes hands on an accepted connection.
///
/// # Errors
/// See [`ConnectError`]; the dialler has been told where it may know.
pub async fn accept(mut stream: TcpStream, params: &Params) -> Result<Accepted, AcceptError> {
    timeout(HANDSHAKE_DEADLINE, async {
        stream.set_nodelay(true)?;
        let mut buffer = BytesMut::new();
        let hello = receive(&mut stream, &mut buffer).await?;
        let (me, mut known) = (params.identity(Purpose::Data), None);
        let look_up = |id: &str| {
            known = (params.known)(id);
            known
        };
        let (secret, settings) = (&params.secret, params.settings);
        let started = Listener::start(&me, &hello, secret, nonce(), settings, look_up);
        let (listener, challenge) = match started {
            Ok(started) => started,
            Err(error) => return Err(refuse(&mut stream, error).await),
        };
        let version = listener.version();
        send(&mut stream, &challenge).await?;
        let proof = receive(&mut stream, &mut buffer).await?;
        match listener.proven(&proof) {
            Ok((identity, purpose, welcome)) => {
                send(&mut stream, &welcome).await?;
                let max_frame = params.max_frame;
                let connection = Connection { stream, buffer, max_frame, version };
                Ok(Accepted { identity, known, mine: me.incarnation, purpose, connection })
            }
            Err(error) => Err(refuse(&mut stream, error).await),
        }
    })
    .await
    .map_err(|_| ConnectError::Timeout)?
}

async fn refuse(stream: &mut TcpStream, error: HandshakeError) -> ConnectError {
    if let Some(message) = handshake::refusal(&error) {
        // The connection is closed next, whether or not this arrives.
        let _ = send(stream, &message).await;
    }
    error.into()
}

async fn send(stream: &mut TcpStream, content: &[u8]) -> std::io::Result<()> {
    let mut frame = Vec::with_capacity(content.len() + codec::LENGTH_BYTES);
    codec::put(&mut frame, |into| into.extend_from_slice(content));
    stream.write_all(&frame).await
}

async fn receive(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Bytes, ConnectError> {
    loop {
        match codec::take(buffer, HANDSHAKE_MAX) {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(_) => return Err(HandshakeError::Malformed.into()),
        }
        buffer.reserve(HANDSHAKE_MAX + codec::LENGTH_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}

fn nonce() -> Nonce {
    rand::random()
}

/// An accept loop; dropping it stops accepting and lets accepted connections be.
#[derive(Debug)]
pub struct Listening(tokio::task::JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Accepts peers on the current thread until dropped. Connections that were refused are reported
/// to `on_refused`. At most [`HANDSHAKES_MAX`] handshakes are under way.
pub fn listen(
    listener: TcpListener,
    params: Params,
    on_connection: impl Fn(Accepted) + Clone + 'static,
    on_refused: impl Fn(&AcceptError) + Clone + 'static,
) -> Listening {
    Listening(actix_rt::spawn(async move {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return on_refused(&error.into()),
        };
        let mut handshakes: VecDeque<tokio::task::JoinHandle<()>> = VecDeque::new();
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: try again when some may have been closed.
                    on_refused(&error.into());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            handshakes.retain(|handshake| !handshake.is_finished());
            if handshakes.len() == HANDSHAKES_MAX
                && let Some(oldest) = handshakes.pop_front()
            {
                oldest.abort();
                on_refused(&AcceptError::Crowded);
            }
            let (params, on_connection, on_refused) =
                (params.clone(), on_connection.clone(), on_refused.clone());
            handshakes.push_back(actix_rt::spawn(async move {
                match accept(stream, &params).await {
                    Ok(accepted) => on_connection(accepted),
                    Err(error) => on_refused(&error),
                }
            }));
        }
    }))
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod tests;
