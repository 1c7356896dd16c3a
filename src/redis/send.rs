//! Writing replies to a client, which has to take them at some pace.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::reply::Replies;

/// Pieces that go to the system at a time: a large value is one between what comes before and
/// after it.
const PIECES_MAX: usize = 8;

/// Bytes that a client takes in a second, over a whole write.
const PACE: usize = 1 << 20;

/// Why replies were not sent to the end.
#[derive(Debug)]
pub enum Unsent {
    /// The client does not read, or reads too slowly.
    Stalled,
    /// The socket.
    Io(io::Error),
}

impl From<io::Error> for Unsent {
    fn from(error: io::Error) -> Self {
        Unsent::Io(error)
    }
}

/// Sends all replies. The client may take nothing for `stall`, and has that long and a second for
/// every [`PACE`] bytes for all of them: one that takes a byte now and then does not hold them.
///
/// # Errors
/// When the client is too slow, or the socket breaks.
pub async fn send(stream: &TcpStream, replies: &Replies, stall: Duration) -> Result<(), Unsent> {
    let whole = stall + Duration::from_secs((replies.len() / PACE) as u64);
    send_within(stream, replies, stall, whole).await
}

async fn send_within(
    stream: &TcpStream,
    replies: &Replies,
    stall: Duration,
    whole: Duration,
) -> Result<(), Unsent> {
    let mut until = None;
    let mut pieces = replies.pieces().filter(|piece| !piece.is_empty());
    loop {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&mut pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        let mut rest = &mut slices[..count];
        while !rest.is_empty() {
            let sent = match &*rest {
                [one] => stream.try_write(one),
                many => stream.try_write_vectored(many),
            };
            match sent {
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let until = *until.get_or_insert_with(|| Instant::now() + whole);
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Unsent::Stalled);
                    }
                    let writable = tokio::time::timeout(stall.min(left), stream.writable());
                    writable.await.map_err(|_| Unsent::Stalled)??;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream as Blocking};

    use bytes::Bytes;

    use super::*;

    /// Far more than sockets take in by themselves.
    fn much() -> Replies {
        let mut replies = Replies::default();
        let value = Bytes::from(vec![b'x'; 16 << 20]);
        (0..8).for_each(|_| replies.value(value.clone()));
        replies
    }

    /// Sends much to a client that does what `client` does.
    fn sent(
        stall: Duration,
        whole: Duration,
        client: impl FnOnce(Blocking) -> Blocking + Send + 'static,
    ) -> Result<(), Unsent> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let there =
            Blocking::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        let (here, _) = listener.accept().expect("somebody connects");
        here.set_nonblocking(true).expect("sockets can be");
        let reader = std::thread::spawn(move || client(there));
        let sent = actix_rt::System::new().block_on(async {
            let here = TcpStream::from_std(here).expect("a runtime is there");
            send_within(&here, &much(), stall, whole).await
        });
        drop(reader.join().expect("the client does not panic"));
        sent
    }

    fn read_all(mut stream: Blocking, pause: Duration) -> Blocking {
        let mut room = vec![0; 64 << 10];
        while stream.read(&mut room).is_ok_and(|read| read > 0) {
            std::thread::sleep(pause);
        }
        stream
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_client_that_reads_gets_all() {
        sent(LONG, LONG, |stream| read_all(stream, Duration::ZERO)).expect("all is taken");
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up() {
        let sent = sent(Duration::from_millis(50), LONG, |stream| stream);
        assert!(matches!(sent, Err(Unsent::Stalled)), "{sent:?}");
    }

    #[test]
    fn a_client_that_takes_a_little_now_and_then_is_given_up() {
        let client = |stream| read_all(stream, Duration::from_millis(5));
        let sent = sent(LONG, Duration::from_millis(500), client);
        assert!(matches!(sent, Err(Unsent::Stalled)), "{sent:?}");
    }
}
