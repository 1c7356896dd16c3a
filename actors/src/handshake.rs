//! The handshake between two nodes, as a pure state machine.
//!
//! ```text
//! dialler  -> Hello     { magic, version, cluster, id, to, incarnation, digest, purpose, nonce }
//! listener -> Challenge { incarnation, nonce, proof }      or Refused { code }
//! dialler  -> Proof     { proof }
//! listener -> Welcome                                      or Refused { code }
//! ```
//! A proof is HMAC-SHA256 under the shared secret over a label and the bytes of Hello and
//! Challenge. Both sides put a fresh nonce in, so a recorded handshake is worth nothing. Nothing
//! else is decoded on a connection before its proof was verified. What is said before the proof
//! tells a stranger no more than a code.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::wire::PROTOCOL_VERSION;

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
    /// Another protocol version.
    #[error("its protocol version differs (this node speaks {PROTOCOL_VERSION})")]
    Version,
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

const REFUSALS: [Refusal; 8] = [
    Refusal::Version,
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
        (Dialler { secret, hello: hello.clone() }, hello)
    }

    /// Takes the answer to the Hello; gives the listener's incarnation and the Proof to send.
    ///
    /// # Errors
    /// A refusal, a malformed answer, or a proof that does not fit the secret.
    pub fn challenged(&self, answer: &[u8]) -> Result<(u64, Vec<u8>), HandshakeError> {
        let mut reader = Reader(answer);
        refused(&mut reader, 2)?;
        let incarnation = reader.u64()?;
        let _nonce: Nonce = reader.array()?;
        let unsigned = &answer[..answer.len() - reader.0.len()];
        let proof: [u8; 32] = reader.array()?;
        reader.end()?;
        verify(self.secret, b"lariat listener", &self.hello, unsigned, &proof)?;
        let mut message = vec![3];
        message.extend_from_slice(&sign(self.secret, b"lariat dialler", &self.hello, unsigned));
        Ok((incarnation, message))
    }

    /// Takes the answer to the Proof.
    ///
    /// # Errors
    /// A refusal or a malformed answer.
    pub fn welcomed(&self, answer: &[u8]) -> Result<(), HandshakeError> {
        let mut reader = Reader(answer);
        refused(&mut reader, 4)?;
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
        let Hello { from, to, purpose, .. } = decode_hello(hello)?;
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
        let mut message = challenge.clone();
        message.extend_from_slice(&sign(secret, b"lariat listener", hello, &challenge));
        Ok((Listener { secret, hello: hello.to_vec(), challenge, from, purpose }, message))
    }

    /// Takes the Proof; gives who the dialler is, what it wants, and the Welcome to send.
    ///
    /// # Errors
    /// A malformed proof or one that does not fit the secret.
    pub fn proven(self, message: &[u8]) -> Result<(Identity, Purpose, Vec<u8>), HandshakeError> {
        let mut reader = Reader(message);
        refused(&mut reader, 3)?;
        let proof: [u8; 32] = reader.array()?;
        reader.end()?;
        verify(self.secret, b"lariat dialler", &self.hello, &self.challenge, &proof)?;
        Ok((self.from, self.purpose, vec![4]))
    }
}

/// The message that tells the other side why it is refused; `None` when nothing should be said.
pub fn refusal(error: &HandshakeError) -> Option<Vec<u8>> {
    let HandshakeError::Refuse(refusal) = error else { return None };
    let code = REFUSALS.iter().position(|r| r == refusal)?;
    Some(vec![0, code as u8])
}

fn refused(reader: &mut Reader<'_>, expected: u8) -> Result<(), HandshakeError> {
    match reader.u8()? {
        0 => {
            let code = usize::from(reader.u8()?);
            let refusal = REFUSALS.get(code).ok_or(HandshakeError::Malformed)?;
            Err(HandshakeError::Refused(*refusal))
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
    bytes.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
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

fn decode_hello(bytes: &[u8]) -> Result<Hello, HandshakeError> {
    let mut reader = Reader(bytes);
    if reader.u8()? != 1 || reader.array::<4>()? != *MAGIC {
        return Err(HandshakeError::Malformed);
    }
    if u16::from_le_bytes(reader.array()?) != PROTOCOL_VERSION {
        // What follows may look different in another version.
        return Err(HandshakeError::Refuse(Refusal::Version));
    }
    let (cluster, id, to) = (reader.text()?, reader.text()?, reader.text()?);
    let (incarnation, digest) = (reader.u64()?, reader.u64()?);
    let purpose = match reader.u8()? {
        0 => Purpose::Data,
        1 => Purpose::Control,
        2 => Purpose::Enrol,
        _ => return Err(HandshakeError::Malformed),
    };
    let nonce = reader.array()?;
    reader.end()?;
    Ok(Hello { from: Identity { cluster, id, incarnation, digest }, to, purpose, nonce })
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(id: &str) -> Identity {
        Identity { cluster: "demo".into(), id: id.into(), incarnation: 100, digest: 7 }
    }

    /// Runs a handshake of `from` with node b; both sides' secrets are given.
    fn shake(from: &Identity, to: &str, secrets: [&[u8]; 2]) -> Result<Identity, HandshakeError> {
        let (dialler, hello) = Dialler::start(from, to, Purpose::Control, secrets[0], [1; 32]);
        let known = |id: &str| (id == "a").then_some(100);
        let (listener, challenge) =
            Listener::start(&node("b"), &hello, secrets[1], [2; 32], 9, known)?;
        let (incarnation, proof) = dialler.challenged(&challenge)?;
        assert_eq!(incarnation, 100);
        let (identity, purpose, welcome) = listener.proven(&proof)?;
        assert_eq!(purpose, Purpose::Control);
        dialler.welcomed(&welcome)?;
        Ok(identity)
    }

    #[test]
    fn two_nodes_with_one_secret_agree() {
        assert_eq!(shake(&node("a"), "b", [b"s", b"s"]), Ok(node("a")));
    }

    #[test]
    fn each_mismatch_is_refused_by_name() {
        let cases = [
            (Identity { cluster: "other".into(), ..node("a") }, "b", Refusal::Cluster),
            (node("a"), "c", Refusal::WrongNode),
            (node("b"), "b", Refusal::WrongNode),
            (node("stranger"), "b", Refusal::UnknownId),
            (Identity { incarnation: 99, ..node("a") }, "b", Refusal::OldIncarnation),
            (Identity { digest: 8, ..node("a") }, "b", Refusal::Placement),
        ];
        for (from, to, refusal) in cases {
            assert_eq!(shake(&from, to, [b"s", b"s"]), Err(HandshakeError::Refuse(refusal)));
        }
        let secret = Err(HandshakeError::Refuse(Refusal::Secret));
        assert_eq!(shake(&node("a"), "b", [b"wrong", b"s"]), secret);
    }

    #[test]
    fn who_enrols_may_be_unknown_and_reach_anybody_and_has_the_same_settings() {
        let enrol = |from: &Identity, to: &str, secret: &'static [u8]| {
            let (dialler, hello) = Dialler::start(from, to, Purpose::Enrol, secret, [1; 32]);
            let known = |id: &str| (id == "a").then_some(100);
            let (listener, challenge) =
                Listener::start(&node("b"), &hello, b"s", [2; 32], 9, known)?;
            let (_, proof) = dialler.challenged(&challenge)?;
            listener.proven(&proof).map(|(identity, purpose, _)| (identity, purpose))
        };
        let new = Identity { digest: 9, ..node("new") };
        for to in ["", "b"] {
            assert_eq!(enrol(&new, to, b"s"), Ok((new.clone(), Purpose::Enrol)));
        }
        let cases = [
            (Identity { cluster: "other".into(), ..new.clone() }, "", Refusal::Cluster),
            (Identity { digest: 7, ..new.clone() }, "", Refusal::Placement),
            (Identity { id: "b".into(), ..new.clone() }, "", Refusal::SameId),
            (new.clone(), "c", Refusal::WrongNode),
            (
                Identity { id: "a".into(), incarnation: 99, ..new.clone() },
                "",
                Refusal::OldIncarnation,
            ),
        ];
        for (from, to, refusal) in cases {
            assert_eq!(enrol(&from, to, b"s"), Err(HandshakeError::Refuse(refusal)));
        }
        assert_eq!(enrol(&new, "", b"wrong"), Err(HandshakeError::Refuse(Refusal::Secret)));
    }

    #[test]
    fn a_recorded_handshake_is_worth_nothing() {
        let (dialler, hello) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
        let start =
            |nonce| Listener::start(&node("b"), &hello, b"s", nonce, 9, |_| Some(0)).unwrap();
        let (first, challenge) = start([2; 32]);
        let (_, proof) = dialler.challenged(&challenge).unwrap();
        assert!(first.proven(&proof).is_ok());
        let (again, _) = start([3; 32]);
        assert_eq!(again.proven(&proof), Err(HandshakeError::Refuse(Refusal::Secret)));
    }

    #[test]
    fn a_listeners_own_proof_cannot_be_sent_back_to_it() {
        let (_, hello) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
        let (listener, challenge) =
            Listener::start(&node("b"), &hello, b"s", [2; 32], 9, |_| Some(0)).unwrap();
        let mut proof = vec![3];
        proof.extend_from_slice(&challenge[challenge.len() - 32..]);
        assert_eq!(listener.proven(&proof), Err(HandshakeError::Refuse(Refusal::Secret)));
    }

    #[test]
    fn a_hello_of_another_version_is_refused_whatever_follows() {
        let (_, mut hello) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
        hello[5] += 1;
        hello.truncate(8);
        let error = decode_hello(&hello).unwrap_err();
        assert_eq!(error, HandshakeError::Refuse(Refusal::Version));
        assert_eq!(refusal(&error), Some(vec![0, 0]));
    }

    #[test]
    fn a_hello_cut_anywhere_or_with_more_after_it_is_malformed() {
        let (_, hello) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
        for length in 0..hello.len() {
            assert_eq!(decode_hello(&hello[..length]), Err(HandshakeError::Malformed));
        }
        let mut longer = hello.clone();
        longer.push(0);
        assert_eq!(decode_hello(&longer), Err(HandshakeError::Malformed));
    }

    #[test]
    fn a_refusal_reaches_the_dialler_by_name() {
        let (dialler, _) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
        for refused in REFUSALS {
            let message = refusal(&HandshakeError::Refuse(refused)).unwrap();
            assert_eq!(dialler.challenged(&message), Err(HandshakeError::Refused(refused)));
        }
    }
}
