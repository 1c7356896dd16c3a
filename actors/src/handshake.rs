//! The handshake between two nodes, as a pure state machine.
//!
//! ```text
//! dialler  -> Hello     { magic, newest, oldest, cluster, id, to, incarnation, digest, purpose, nonce }
//! listener -> Challenge { incarnation, nonce, version, proof }      or Refused { code }
//! dialler  -> Proof     { proof }
//! listener -> Welcome                                      or Refused { code }
//! ```
//! A proof is HMAC-SHA256 under the shared secret over a label and the bytes of Hello and
//! Challenge. Both sides put a fresh nonce in, so a recorded handshake is worth nothing. Nothing
//! else is decoded on a connection before its proof was verified. What is said before the proof
//! tells a stranger no more than a code, and with [`Refusal::Version`] the own versions.
//!
//! The listener chooses the newest version that both understand. What a Hello begins with, up to
//! `oldest`, stays as it is for ever; what a newer version adds comes last, and a listener that
//! does not know that version passes over it. In version 1 neither `oldest` nor `version` are
//! there: who speaks to it says version 1 and no other.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::version::{RANGES_SINCE, Versions};

/// The largest message of a handshake, in bytes.
pub const HANDSHAKE_MAX: usize = 1024;

/// Random bytes that make each handshake its own.
pub type Nonce = [u8; 32];

const MAGIC: &[u8; 4] = b"LRT1";

/// Who a node says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The node's id.
    pub id: String,
    /// This start of the node.
    pub incarnation: u64,
    /// Digest of the placement that its cluster file gives.
    pub digest: u64,
    /// The protocol versions that it understands.
    pub versions: Versions,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Requests and replication, between worker threads.
    Data,
    /// Heartbeats and agreement, between Supervisors.
    Control,
    /// A node that the other side may not list says who it is. It need not know whom it reaches,
    /// and its digest is of the settings alone.
    Enrol,
}

/// The first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who dials.
    pub from: Identity,
    /// The id of the node it means to reach; empty for whoever is there.
    pub to: String,
    /// What the connection is for.
    pub purpose: Purpose,
    nonce: Nonce,
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are not a message of a handshake.
    #[error("what was received is no lariat handshake")]
    Malformed,
    /// The other side refused.
    #[error("the other node refused: {0}")]
    Refused(Refusal),
    /// This side refuses.
    #[error("{0}")]
    Refuse(Refusal),
}

/// Why one side refuses the other. The number travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No protocol version that both understand.
    #[error("it speaks protocol version {theirs}, this node {ours}: upgrade the older one")]
    Version {
        /// What the other node understands.
        theirs: Versions,
        /// What this node understands.
        ours: Versions,
    },
    /// Another cluster's name.
    #[error("it belongs to a cluster of another name")]
    Cluster,
    /// An id that is not a member.
    #[error("its id is not a member of this cluster")]
    UnknownId,
    /// It meant to reach another node; two addresses of the cluster file are mixed up.
    #[error("it meant to reach another node: check the peer addresses of the cluster file")]
    WrongNode,
    /// An incarnation below the highest known: a process that has been replaced.
    #[error("a newer start of that node is known")]
    OldIncarnation,
    /// Its cluster file gives another placement.
    #[error("its cluster file lists other nodes, weights, zones, copies or virtual nodes")]
    Placement,
    /// The proof does not fit the secret.
    #[error("its secret differs")]
    Secret,
    /// The node that was reached has that very id.
    #[error("the node that was reached has its id")]
    SameId,
}

/// Those that are no more than a number, which is one more than the index here: 0 is the version.
const REFUSALS: [Refusal; 7] = [
    Refusal::Cluster,
    Refusal::UnknownId,
    Refusal::WrongNode,
    Refusal::OldIncarnation,
    Refusal::Placement,
    Refusal::Secret,
    Refusal::SameId,
];

/// The dialling side, between its Hello and the Challenge.
#[derive(Debug)]
pub struct Dialler<'a> {
    secret: &'a [u8],
    versions: Versions,
    hello: Vec<u8>,
}

impl<'a> Dialler<'a> {
    /// Begins a handshake with the node `to`; gives the Hello to send.
    pub fn start(
        me: &Identity,
        to: &str,
        purpose: Purpose,
        secret: &'a [u8],
        nonce: Nonce,
    ) -> (Self, Vec<u8>) {
        let hello = encode_hello(me, to, purpose, &nonce);
        (Dialler { secret, versions: me.versions, hello: hello.clone() }, hello)
    }

    /// Takes the answer to the Hello; gives the listener's incarnation, the version that is spoken
    /// from now on, and the Proof to send.
    ///
    /// # Errors
    /// A refusal, a malformed answer, or a proof that does not fit the secret.
    pub fn challenged(&self, answer: &[u8]) -> Result<(u64, u16, Vec<u8>), HandshakeError> {
        let mut reader = Reader(answer);
        refused(&mut reader, 2, self.versions)?;
        let incarnation = reader.u64()?;
        let _nonce: Nonce = reader.array()?;
        let version = match self.versions.newest {
            RANGES_SINCE.. => reader.u16()?,
            alone => alone,
        };
        if self.versions.agreed(Versions::only(version)).is_none() {
            return Err(HandshakeError::Malformed);
        }
        let unsigned = &answer[..answer.len() - reader.0.len()];
        let proof: [u8; 32] = reader.array()?;
        reader.end()?;
        verify(self.secret, b"lariat listener", &self.hello, unsigned, &proof)?;
        let mut message = vec![3];
        message.extend_from_slice(&sign(self.secret, b"lariat dialler", &self.hello, unsigned));
        Ok((incarnation, version, message))
    }

    /// Takes the answer to the Proof.
    ///
    /// # Errors
    /// A refusal or a malformed answer.
    pub fn welcomed(&self, answer: &[u8]) -> Result<(), HandshakeError> {
        let mut reader = Reader(answer);
        refused(&mut reader, 4, self.versions)?;
        reader.end()
    }
}

/// The accepting side, between its Challenge and the Proof.
#[derive(Debug)]
pub struct Listener<'a> {
    secret: &'a [u8],
    hello: Vec<u8>,
    challenge: Vec<u8>,
    from: Identity,
    purpose: Purpose,
    version: u16,
}

impl<'a> Listener<'a> {
    /// Takes a Hello; gives the Challenge to send. `known` gives the highest known incarnation of
    /// a member (0: none yet), `None` for an id that is not a member; `settings` is the digest that a
    /// node that enrols has to have.
    ///
    /// # Errors
    /// What is wrong with the Hello; a refusal is to be sent ([`refusal`]).
    pub fn start(
        me: &Identity,
        hello: &[u8],
        secret: &'a [u8],
        nonce: Nonce,
        settings: u64,
        known: impl FnOnce(&str) -> Option<u64>,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let (Hello { from, to, purpose, .. }, version) = decode_hello(hello, me.versions)?;
        let refuse = |refusal| Err(HandshakeError::Refuse(refusal));
        if from.cluster != me.cluster {
            return refuse(Refusal::Cluster);
        }
        let enrols = purpose == Purpose::Enrol;
        if enrols && from.id == me.id {
            return refuse(Refusal::SameId);
        }
        if !(to == me.id || enrols && to.is_empty()) || from.id == me.id {
            return refuse(Refusal::WrongNode);
        }
        match known(&from.id) {
            None if !enrols => return refuse(Refusal::UnknownId),
            Some(highest) if from.incarnation < highest => return refuse(Refusal::OldIncarnation),
            _ => {}
        }
        if from.digest != if enrols { settings } else { me.digest } {
            return refuse(Refusal::Placement);
        }
        let mut challenge = vec![2];
        challenge.extend_from_slice(&me.incarnation.to_le_bytes());
        challenge.extend_from_slice(&nonce);
        if from.versions.newest >= RANGES_SINCE {
            challenge.extend_from_slice(&version.to_le_bytes());
        }
        let mut message = challenge.clone();
        message.extend_from_slice(&sign(secret, b"lariat listener", hello, &challenge));
        let hello = hello.to_vec();
        Ok((Listener { secret, hello, challenge, from, purpose, version }, message))
    }

    /// The version that is spoken from now on.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Takes the Proof; gives who the dialler is, what it wants, and the Welcome to send.
    ///
    /// # Errors
    /// A malformed proof or one that does not fit the secret.
    pub fn proven(self, message: &[u8]) -> Result<(Identity, Purpose, Vec<u8>), HandshakeError> {
        let mut reader = Reader(message);
        refused(&mut reader, 3, self.from.versions)?;
        let proof: [u8; 32] = reader.array()?;
        reader.end()?;
        verify(self.secret, b"lariat dialler", &self.hello, &self.challenge, &proof)?;
        Ok((self.from, self.purpose, vec![4]))
    }
}

/// The message that tells the other side why it is refused; `None` when nothing should be said.
pub fn refusal(error: &HandshakeError) -> Option<Vec<u8>> {
    let HandshakeError::Refuse(refusal) = error else { return None };
    if let Refusal::Version { ours, .. } = refusal {
        let mut message = vec![0, 0];
        if ours.newest >= RANGES_SINCE {
            message.extend_from_slice(&ours.oldest.to_le_bytes());
            message.extend_from_slice(&ours.newest.to_le_bytes());
        }
        return Some(message);
    }
    let code = 1 + REFUSALS.iter().position(|r| r == refusal)?;
    Some(vec![0, code as u8])
}

fn refused(reader: &mut Reader<'_>, expected: u8, ours: Versions) -> Result<(), HandshakeError> {
    match reader.u8()? {
        0 => {
            let refusal = match reader.u8()? {
                // Only version 1 does not say what it speaks.
                0 if reader.0.is_empty() => Refusal::Version { theirs: Versions::only(1), ours },
                0 => {
                    let theirs = Versions { oldest: reader.u16()?, newest: reader.u16()? };
                    Refusal::Version { theirs, ours }
                }
                code => *REFUSALS.get(usize::from(code) - 1).ok_or(HandshakeError::Malformed)?,
            };
            Err(HandshakeError::Refused(refusal))
        }
        kind if kind == expected => Ok(()),
        _ => Err(HandshakeError::Malformed),
    }
}

fn mac(secret: &[u8], label: &[u8], hello: &[u8], challenge: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(label);
    mac.update(&(hello.len() as u64).to_le_bytes());
    mac.update(hello);
    mac.update(challenge);
    mac
}

fn sign(secret: &[u8], label: &[u8], hello: &[u8], challenge: &[u8]) -> [u8; 32] {
    mac(secret, label, hello, challenge).finalize().into_bytes().into()
}

/// Compares in constant time.
fn verify(
    secret: &[u8],
    label: &[u8],
    hello: &[u8],
    challenge: &[u8],
    proof: &[u8; 32],
) -> Result<(), HandshakeError> {
    mac(secret, label, hello, challenge)
        .verify_slice(proof)
        .map_err(|_| HandshakeError::Refuse(Refusal::Secret))
}

fn encode_hello(me: &Identity, to: &str, purpose: Purpose, nonce: &Nonce) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&me.versions.newest.to_le_bytes());
    if me.versions.newest >= RANGES_SINCE {
        bytes.extend_from_slice(&me.versions.oldest.to_le_bytes());
    }
    for text in [&me.cluster, &me.id, to] {
        // Names are at most 64 bytes; a longer one is cut and refused by the other side.
        let text = &text.as_bytes()[..text.len().min(255)];
        bytes.push(text.len() as u8);
        bytes.extend_from_slice(text);
    }
    bytes.extend_from_slice(&me.incarnation.to_le_bytes());
    bytes.extend_from_slice(&me.digest.to_le_bytes());
    bytes.push(match purpose {
        Purpose::Data => 0,
        Purpose::Control => 1,
        Purpose::Enrol => 2,
    });
    bytes.extend_from_slice(nonce);
    bytes
}

/// A Hello, and the version that both sides speak from now on.
fn decode_hello(bytes: &[u8], ours: Versions) -> Result<(Hello, u16), HandshakeError> {
    let mut reader = Reader(bytes);
    if reader.u8()? != 1 || reader.array::<4>()? != *MAGIC {
        return Err(HandshakeError::Malformed);
    }
    let newest = reader.u16()?;
    let versions = match newest.min(ours.newest) {
        RANGES_SINCE.. => Versions { oldest: reader.u16()?, newest },
        _ => Versions::only(newest),
    };
    let Some(version) = ours.agreed(versions) else {
        // What follows may look different in another version.
        let refusal = Refusal::Version { theirs: versions, ours };
        return Err(HandshakeError::Refuse(refusal));
    };
    let (cluster, id, to) = (reader.text()?, reader.text()?, reader.text()?);
    let (incarnation, digest) = (reader.u64()?, reader.u64()?);
    let purpose = match reader.u8()? {
        0 => Purpose::Data,
        1 => Purpose::Control,
        2 => Purpose::Enrol,
        _ => return Err(HandshakeError::Malformed),
    };
    let nonce = reader.array()?;
    if versions.newest <= ours.newest {
        reader.end()?;
    }
    let from = Identity { cluster, id, incarnation, digest, versions };
    Ok((Hello { from, to, purpose, nonce }, version))
}

/// Takes fields off the front of a message.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(HandshakeError::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u8(&mut self) -> Result<u8, HandshakeError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, HandshakeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, HandshakeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, HandshakeError> {
        let length = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(HandshakeError::Malformed)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| HandshakeError::Malformed)
    }

    fn end(&self) -> Result<(), HandshakeError> {
        if self.0.is_empty() { Ok(()) } else { Err(HandshakeError::Malformed) }
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
