#![allow(clippy::unwrap_used)]
//! Both ends of a connection over real sockets.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use super::*;
use crate::handshake::Refusal;

fn params(id: &str, secret: &[u8]) -> Params {
    Params {
        cluster: "test".into(),
        id: id.into(),
        incarnation: Arc::new(|| 10),
        digest: 1,
        versions: Arc::new(|| Versions::CURRENT),
        settings: 2,
        secret: secret.into(),
        max_frame: 64 * 1024,
        connect_max: Duration::from_millis(250),
        known: Arc::new(|id| ["a", "b"].contains(&id).then_some(10)),
    }
}

fn run(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

type Accepted = Rc<RefCell<Vec<(PeerIdentity, Connection)>>>;

/// Listens as b; gives the address, what was accepted, what was refused, and the guard.
fn listening(secret: &[u8]) -> (String, Accepted, Rc<RefCell<Vec<String>>>, Listening) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (accepted, refused) = (Accepted::default(), Rc::<RefCell<Vec<String>>>::default());
    let (a, r) = (accepted.clone(), refused.clone());
    let guard = listen(
        listener,
        params("b", secret),
        move |accepted| a.borrow_mut().push((accepted.identity, accepted.connection)),
        move |error| r.borrow_mut().push(error.to_string()),
    );
    (address, accepted, refused, guard)
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn messages_arrive_in_order_in_both_directions() {
    run(async {
        let (address, accepted, _, _guard) = listening(b"secret");
        let (peer, connection) =
            connect(&address, "b", Purpose::Data, &params("a", b"secret")).await.unwrap();
        assert_eq!((peer.id.as_str(), peer.incarnation), ("b", 10));
        wait_until("the connection is accepted", || !accepted.borrow().is_empty()).await;
        let (peer, other) = accepted.borrow_mut().pop().unwrap();
        assert_eq!(peer.id, "a");
        let ends = [connection.split(), other.split()];
        for (_reader, writer) in &ends {
            for seq in 0..1_000 {
                writer.send(&Message::Beat { seq }).unwrap();
            }
        }
        for (mut reader, _writer) in ends {
            for seq in 0..1_000 {
                assert_eq!(reader.next().await.unwrap(), Some(Message::Beat { seq }));
            }
        }
    });
}

#[test]
fn a_wrong_secret_is_refused_on_either_side() {
    run(async {
        let (address, accepted, refused, _guard) = listening(b"secret");
        let error =
            connect(&address, "b", Purpose::Data, &params("a", b"other")).await.unwrap_err();
        // The listener proves itself first: the dialler notices.
        assert!(matches!(error, ConnectError::Handshake(HandshakeError::Refuse(Refusal::Secret))));
        let error =
            connect(&address, "c", Purpose::Data, &params("a", b"secret")).await.unwrap_err();
        assert!(matches!(
            error,
            ConnectError::Handshake(HandshakeError::Refused(Refusal::WrongNode))
        ));
        wait_until("both are reported", || refused.borrow().len() == 2).await;
        assert!(accepted.borrow().is_empty());
    });
}

#[test]
fn strangers_are_turned_away_and_the_next_peer_is_served() {
    run(async {
        let (address, accepted, refused, _guard) = listening(b"secret");
        let mut hello = Vec::new();
        codec::put(&mut hello, |into| {
            let identity = params("a", b"secret").identity(Purpose::Data);
            into.extend(Dialler::start(&identity, "b", Purpose::Data, b"secret", [0; 32]).1);
        });
        let mut with_version_9 = hello.clone();
        with_version_9[codec::LENGTH_BYTES + 5] = 9;
        let mut twice = hello.clone();
        twice.extend(&hello);
        let cases: [(&str, Vec<u8>); 7] = [
            ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
            ("random", (0..200).map(|i| (i * 37 % 251) as u8).collect()),
            ("oversized", [&2_000u32.to_le_bytes()[..], &[1; 2_000]].concat()),
            ("largest length", vec![0xFF; 64]),
            ("empty frame", vec![0; 4]),
            ("another version", with_version_9),
            ("a hello instead of a proof", twice),
        ];
        let count = cases.len();
        for (name, bytes) in cases {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut answer = Vec::new();
            // Closed by the listener, with at most a challenge or a refusal before.
            let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
            assert!(closed.is_ok(), "{name}: the connection stays open");
            assert!(answer.len() < 200, "{name}: {} bytes came back", answer.len());
        }
        wait_until("all are reported", || refused.borrow().len() == count).await;
        connect(&address, "b", Purpose::Data, &params("a", b"secret")).await.unwrap();
        wait_until("a peer is accepted", || accepted.borrow().len() == 1).await;
    });
}

#[test]
fn connections_that_say_nothing_do_not_keep_a_peer_out() {
    run(async {
        let (address, accepted, refused, _guard) = listening(b"secret");
        let mut idle = Vec::new();
        for _ in 0..HANDSHAKES_MAX + 44 {
            idle.push(TcpStream::connect(&address).await.unwrap());
        }
        wait_until("the oldest make room", || refused.borrow().len() >= 44).await;
        // The peer takes a place as well, long before the deadline of the silent ones.
        connect(&address, "b", Purpose::Data, &params("a", b"secret")).await.unwrap();
        let crowded = AcceptError::Crowded.to_string();
        assert!(refused.borrow().iter().all(|cause| *cause == crowded), "{:?}", refused.borrow());
        wait_until("a peer is accepted", || accepted.borrow().len() == 1).await;
    });
}

#[test]
fn a_frame_over_the_limit_and_a_cut_frame_end_the_connection_with_their_cause() {
    run(async {
        for (bytes, cause) in [
            (70_000u32.to_le_bytes().to_vec(), "a frame of 70000 bytes exceeds the limit of 65536"),
            (vec![9, 0, 0, 0, 1], "the connection ended inside a frame"),
            (vec![1, 0, 0, 0, 200], "cannot decode a message"),
        ] {
            let (address, accepted, _, _guard) = listening(b"secret");
            let dialled =
                connect(&address, "b", Purpose::Data, &params("a", b"secret")).await.unwrap().1;
            wait_until("the connection is accepted", || !accepted.borrow().is_empty()).await;
            let (mut reader, _writer) = accepted.borrow_mut().pop().unwrap().1.split();
            let mut stream = dialled.stream;
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let error = reader.next().await.unwrap_err().to_string();
            assert!(error.contains(cause), "{error}");
        }
    });
}

#[test]
fn a_peer_that_does_not_read_is_given_up() {
    run(async {
        let (address, accepted, _, _guard) = listening(b"secret");
        let dialled =
            connect(&address, "b", Purpose::Data, &params("a", b"secret")).await.unwrap().1;
        wait_until("the connection is accepted", || !accepted.borrow().is_empty()).await;
        let (_read, write) = dialled.stream.into_split();
        let writer = WriterHandle::with_deadline(write, 1, Duration::from_millis(50));
        let large = crate::wire::WireEffect::Delete {
            cache: 1,
            key: vec![0; 60_000].into(),
            version: crate::op::Version(1),
        };
        let item = crate::wire::ReplicationItem::Write {
            slot: 1,
            since: 1,
            import: 1,
            n: 1,
            effect: large,
        };
        let message = Message::Replicate { items: vec![item] };
        for _ in 0..1_000 {
            if writer.send(&message).is_err() {
                break;
            }
        }
        wait_until("the connection is given up", || {
            writer.send(&message) == Err(SendError::Closed)
        })
        .await;
        // Whoever waits for room goes on, and would wait anew for ever if something still waited.
        writer.room().below(0).await;
        assert_eq!(writer.queued(), 0);
    });
}

#[test]
fn waits_between_attempts_grow_to_a_second_and_start_anew_after_a_success() {
    let mut backoff = Backoff::default();
    let waits: Vec<u64> = (0..12).map(|_| backoff.next(u64::MAX).as_millis() as u64).collect();
    assert!(waits[0] >= 10 && waits[0] <= 20);
    assert!(waits.iter().all(|&ms| ms <= 1_000) && waits[11] >= 500);
    backoff.reset();
    assert!(backoff.next(0) <= Duration::from_millis(20));
}

#[test]
fn a_peer_of_version_1_is_dialled_as_version_1() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let older = Params { versions: Arc::new(|| Versions::only(1)), ..params("b", b"s") };
        let accepted = Rc::<RefCell<Vec<u16>>>::default();
        let a = accepted.clone();
        let _guard = listen(
            listener,
            older,
            move |accepted| a.borrow_mut().push(accepted.connection.version()),
            |_| {},
        );
        let (_, connection) =
            connect(&address, "b", Purpose::Data, &params("a", b"s")).await.unwrap();
        assert_eq!(connection.version(), 1);
        wait_until("it is accepted", || *accepted.borrow() == [1]).await;
        // In a cluster that speaks version 2 there is nothing to say to it.
        let risen = Versions::CURRENT.within(2);
        let newer = Params { versions: Arc::new(move || risen), ..params("a", b"s") };
        let error = connect(&address, "b", Purpose::Data, &newer).await.unwrap_err();
        let said = "the other node refused: it speaks protocol version 1, this node 2: upgrade the older one";
        assert_eq!(error.to_string(), said);
    });
}

#[test]
fn an_address_that_leaves_a_request_without_an_answer_is_given_up_soon() {
    run(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts: once its queue is full the system drops what comes, as a host that is down.
        let mut queued = Vec::new();
        while let Ok(connected) =
            timeout(Duration::from_millis(250), TcpStream::connect(address)).await
        {
            queued.push(connected.unwrap());
            assert!(queued.len() < 100);
        }
        let dialled =
            connect(&address.to_string(), "b", Purpose::Control, &params("a", b"s")).await;
        let Err(ConnectError::Io(error)) = dialled else { panic!("{dialled:?}") };
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    });
}
