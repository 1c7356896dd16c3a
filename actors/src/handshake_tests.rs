#![allow(clippy::unwrap_used)]
use super::*;

fn node(id: &str) -> Identity {
    let versions = Versions::CURRENT;
    Identity { cluster: "demo".into(), id: id.into(), incarnation: 100, digest: 7, versions }
}

/// Runs a handshake of `from` with node b; both sides' secrets are given.
fn shake(from: &Identity, to: &str, secrets: [&[u8]; 2]) -> Result<Identity, HandshakeError> {
    let (dialler, hello) = Dialler::start(from, to, Purpose::Control, secrets[0], [1; 32]);
    let known = |id: &str| (id == "a").then_some(100);
    let (listener, challenge) = Listener::start(&node("b"), &hello, secrets[1], [2; 32], 9, known)?;
    let (incarnation, version, proof) = dialler.challenged(&challenge)?;
    assert_eq!((incarnation, version), (100, listener.version()));
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
        let (listener, challenge) = Listener::start(&node("b"), &hello, b"s", [2; 32], 9, known)?;
        let (.., proof) = dialler.challenged(&challenge)?;
        listener.proven(&proof).map(|(identity, purpose, _)| (identity, purpose))
    };
    let new = Identity { digest: 9, ..node("new") };
    for to in ["", "b"] {
        assert_eq!(enrol(&new, to, b"s"), Ok((new.clone(), Purpose::Enrol)));
    }
    let old = Identity { id: "a".into(), incarnation: 99, ..new.clone() };
    let cases = [
        (Identity { cluster: "other".into(), ..new.clone() }, "", Refusal::Cluster),
        (Identity { digest: 7, ..new.clone() }, "", Refusal::Placement),
        (Identity { id: "b".into(), ..new.clone() }, "", Refusal::SameId),
        (new.clone(), "c", Refusal::WrongNode),
        (old, "", Refusal::OldIncarnation),
    ];
    for (from, to, refusal) in cases {
        assert_eq!(enrol(&from, to, b"s"), Err(HandshakeError::Refuse(refusal)));
    }
    assert_eq!(enrol(&new, "", b"wrong"), Err(HandshakeError::Refuse(Refusal::Secret)));
}

#[test]
fn a_recorded_handshake_is_worth_nothing() {
    let (dialler, hello) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
    let start = |nonce| Listener::start(&node("b"), &hello, b"s", nonce, 9, |_| Some(0)).unwrap();
    let (first, challenge) = start([2; 32]);
    let (_, _, proof) = dialler.challenged(&challenge).unwrap();
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

/// The version on which a dialler and a listener of these versions agree.
fn settle(dialler: Versions, listener: Versions) -> Result<u16, HandshakeError> {
    let (a, b) =
        (Identity { versions: dialler, ..node("a") }, Identity { versions: listener, ..node("b") });
    let (dialler, hello) = Dialler::start(&a, "b", Purpose::Data, b"s", [1; 32]);
    let started = Listener::start(&b, &hello, b"s", [2; 32], 9, |_| Some(0));
    let (listener, challenge) = match started {
        Ok(started) => started,
        // What the dialler learns of it.
        Err(error) => return dialler.challenged(&refusal(&error).unwrap()).map(|_| 0),
    };
    let (_, version, proof) = dialler.challenged(&challenge)?;
    assert_eq!(version, listener.version());
    let (from, _, welcome) = listener.proven(&proof)?;
    assert_eq!(from, a);
    dialler.welcomed(&welcome).map(|()| version)
}

#[test]
fn two_nodes_speak_the_newest_version_that_both_understand() {
    let versions = |oldest, newest| Versions { oldest, newest };
    assert_eq!(settle(versions(1, 2), versions(1, 2)), Ok(2));
    assert_eq!(settle(versions(1, 1), versions(1, 2)), Ok(1));
    assert_eq!(settle(versions(2, 3), versions(1, 2)), Ok(2));
    assert_eq!(settle(versions(1, 2), versions(2, 3)), Ok(2));
    for (ours, theirs) in [((1, 2), (3, 4)), ((3, 4), (1, 2)), ((1, 1), (2, 2))] {
        let (ours, theirs) = (versions(ours.0, ours.1), versions(theirs.0, theirs.1));
        let refusal = Refusal::Version { theirs, ours };
        assert_eq!(settle(ours, theirs), Err(HandshakeError::Refused(refusal)));
    }
}

#[test]
fn version_1_knows_no_ranges_and_is_known_by_what_it_does_not_say() {
    let (ours, theirs) = (Versions::CURRENT, Versions::only(1));
    let refusal = Refusal::Version { theirs, ours };
    assert_eq!(settle(ours, theirs), Err(HandshakeError::Refused(refusal)));
    assert_eq!(settle(Versions::only(1), theirs), Ok(1), "so it is dialled as this");
}

#[test]
fn a_hello_without_a_common_version_is_refused_whatever_follows() {
    let (_, mut hello) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
    (hello[5], hello[7]) = (9, 8);
    hello.truncate(10);
    let error = decode_hello(&hello, Versions::CURRENT).unwrap_err();
    let theirs = Versions { oldest: 8, newest: 9 };
    let refused = Refusal::Version { theirs, ours: Versions::CURRENT };
    assert_eq!(error, HandshakeError::Refuse(refused));
    assert_eq!(refusal(&error), Some(vec![0, 0, 1, 0, 2, 0]));
}

#[test]
fn what_a_newer_version_adds_to_a_hello_is_passed_over() {
    let newer = Identity { versions: Versions { oldest: 1, newest: 3 }, ..node("a") };
    let (_, mut hello) = Dialler::start(&newer, "b", Purpose::Data, b"s", [1; 32]);
    hello.extend_from_slice(b"news");
    let (decoded, version) = decode_hello(&hello, Versions::CURRENT).unwrap();
    assert_eq!((decoded.from, version), (newer, 2));
}

#[test]
fn a_version_that_was_not_offered_is_malformed() {
    let (dialler, _) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
    let mut challenge = vec![2; 41];
    challenge.extend_from_slice(&[3, 0]);
    challenge.extend_from_slice(&[0; 32]);
    assert_eq!(dialler.challenged(&challenge), Err(HandshakeError::Malformed));
}

#[test]
fn a_hello_cut_anywhere_or_with_more_after_it_is_malformed() {
    let (_, hello) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
    for length in 0..hello.len() {
        let cut = decode_hello(&hello[..length], Versions::CURRENT);
        assert_eq!(cut, Err(HandshakeError::Malformed));
    }
    let mut longer = hello.clone();
    longer.push(0);
    let longer = decode_hello(&longer, Versions::CURRENT);
    assert_eq!(longer, Err(HandshakeError::Malformed));
}

#[test]
fn a_refusal_reaches_the_dialler_by_name() {
    let (dialler, _) = Dialler::start(&node("a"), "b", Purpose::Data, b"s", [1; 32]);
    for refused in REFUSALS {
        let message = refusal(&HandshakeError::Refuse(refused)).unwrap();
        assert_eq!(dialler.challenged(&message), Err(HandshakeError::Refused(refused)));
    }
}
