//! One connection: read, plan, ask, write, in that order.
//!
//! Everything complete in one read becomes one batch, and its replies leave in one write. While
//! replies are written nothing is read, so a client that does not read holds at most the replies
//! of one read, which count as bytes under way, and is disconnected when it takes them too slowly
//! ([`super::send`]).

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lariat_actors::client::Permit;
use lariat_actors::op::{Answer, FailureKind, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::args::Args;
use super::clients::Client;
use super::finish::{failure_text, finish, refuse_values, value_bytes};
use super::gateway::{Gateway, REPLIES_MAX};
use super::input::{Commands, Input, READ_BYTES, SMALL_READ_BYTES};
use super::parser::{Limits, ProtocolError};
use super::pause::Pause;
use super::plan::{Batch, Planner};
use super::reply::{Protocol, Replies};
use super::send::{Unsent, send};
use super::session::Session;
use super::walk::Slow;

/// The least bytes a second that a client has to send of what counts as under way, as over HTTP.
const COMES_PER_SECOND: u64 = 64 * 1024;

/// Commands for which a connection keeps room while it waits.
const KEPT_COMMANDS: usize = 64;

/// Commands and requests of one batch.
const COMMANDS_MAX: usize = 1_024;
const REQUESTS_MAX: usize = 1_024;

/// Replies are written when there are so many bytes, even if the read has more commands.
const WRITE_BYTES: usize = 1 << 20;

/// How long a client may go on sending after an error that ends the connection, so that it reads
/// the error.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// The same for one that has sent more than is answered, when the connection is to end.
const UNREAD_LINGER: Duration = Duration::from_millis(100);

/// One connection.
pub struct Connection {
    stream: TcpStream,
    gateway: Arc<Gateway>,
    worker: usize,
    session: Session,
    input: Input,
    pause: Pause,
    /// Since when what comes in has counted as under way, and how much has come since.
    counted: Option<(Instant, u64)>,
    /// Counts what is asked and answered until the replies are sent.
    under_way: Option<Permit>,
    commands: Commands,
    batch: Batch,
    out: Replies,
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client closed it, or asked for it, or is a browser.
    Closed,
    /// It was asked to end: CLIENT KILL, or the node stops.
    Asked,
    /// What came is not the protocol.
    Protocol(ProtocolError),
    /// The client does not read, or does not send the rest of what counts as under way.
    Stalled,
    /// Too many bytes are under way.
    Overloaded,
    /// The socket.
    Io(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Io(error)
    }
}

impl From<Unsent> for End {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Stalled => End::Stalled,
            Unsent::Io(error) => End::Io(error),
        }
    }
}

impl Connection {
    /// A connection of this client on this worker.
    pub fn new(
        stream: TcpStream,
        gateway: Arc<Gateway>,
        worker: usize,
        client: Arc<Client>,
    ) -> Self {
        let session = Session::new(client, &gateway);
        Connection {
            stream,
            gateway,
            worker,
            session,
            input: Input::default(),
            pause: Pause::new(),
            counted: None,
            under_way: None,
            commands: Commands::default(),
            batch: Batch::default(),
            out: Replies::default(),
        }
    }

    /// Serves it until it ends.
    pub async fn serve(mut self) {
        let client = self.session.client.clone();
        // One future for all reads: making it anew for each would enter a list and leave it again.
        let mut ended = pin!(client.ended());
        let end = loop {
            if let Err(end) = self.turn(ended.as_mut()).await {
                break end;
            }
        };
        let over = async move {
            let late = tokio::time::sleep(LINGER_MAX);
            tokio::select! { () = ended => {}, () = late => {} }
        };
        match &end {
            End::Protocol(error) => {
                self.out.clear(0);
                self.out.error(&format!("ERR Protocol error: {error}"));
                self.count();
                self.part(over).await;
            }
            End::Overloaded => {
                self.out.clear(0);
                self.out.error("TRYAGAIN too many requests or bytes in flight");
                self.count();
                self.part(over).await;
            }
            End::Stalled => self.gateway.counts.stalled.add(1),
            End::Io(error) => {
                tracing::debug!(node = %self.gateway.client.id(), %error, "a redis connection broke")
            }
            End::Closed | End::Asked => {
                // It has sent more than was read: replies may still be on their way to it.
                if self.stream.try_read(&mut [0]).is_ok_and(|read| read > 0) {
                    self.part(tokio::time::sleep(UNREAD_LINGER)).await;
                }
            }
        }
        tracing::debug!(node = %self.gateway.client.id(), client = %self.session.client.peer, ?end, "redis connection ended");
    }

    /// One read and everything that it completes.
    async fn turn(&mut self, ended: Pin<&mut impl Future<Output = ()>>) -> Result<(), End> {
        self.read(ended).await?;
        loop {
            let (bytes, error) = self.understand();
            if self.commands.is_empty() && error.is_none() {
                return Ok(());
            }
            self.answer(bytes).await?;
            self.write().await?;
            if self.session.is_closing {
                return Err(End::Closed);
            }
            if let Some(error) = error {
                return Err(End::Protocol(error));
            }
            if self.session.client.is_ending() {
                return Err(End::Asked);
            }
        }
    }

    async fn read(&mut self, mut ended: Pin<&mut impl Future<Output = ()>>) -> Result<(), End> {
        if self.input.is_idle() {
            self.wait(ended.as_mut()).await?;
        }
        let limits = self.limits();
        let space = self.input.space(&limits, self.gateway.client.inflight());
        let (mut space, is_counted) = space.ok_or(End::Overloaded)?;
        self.counted = is_counted.then(|| self.counted.unwrap_or((Instant::now(), 0)));
        let most = space.limit();
        let late = late(self.counted, self.gateway.stall_timeout);
        let read = tokio::select! {
            biased;
            read = self.stream.read_buf(&mut space) => read?,
            () = &mut ended => return Err(End::Asked),
            () = late => return Err(End::Stalled),
        };
        if read == 0 {
            return Err(End::Closed);
        }
        if let Some((_, come)) = &mut self.counted {
            *come += read as u64;
        }
        self.input.note(read, most);
        self.pause.end();
        self.gateway.counts.bytes_in.add(read as u64);
        Ok(())
    }

    /// Waits until the client sends more.
    async fn wait(&mut self, mut ended: Pin<&mut impl Future<Output = ()>>) -> Result<(), End> {
        loop {
            let (stream, pause) = (&self.stream, &mut self.pause);
            tokio::select! {
                biased;
                ready = poll_fn(|cx| stream.poll_read_ready(cx)) => return Ok(ready?),
                () = &mut ended => return Err(End::Asked),
                () = poll_fn(|cx| pause.poll_long(cx)) => {
                    // It may be a while until it sends more: large buffers are not kept for that.
                    self.input.forget();
                    self.out.clear(SMALL_READ_BYTES);
                    self.commands.forget(KEPT_COMMANDS);
                    self.batch.forget(KEPT_COMMANDS);
                }
            }
        }
    }

    fn limits(&self) -> Limits {
        let early = !self.session.is_authenticated;
        if early { Limits::UNAUTHENTICATED } else { self.gateway.limits }
    }

    /// Takes complete commands out of the input: their bytes, and the error after them.
    fn understand(&mut self) -> (Bytes, Option<ProtocolError>) {
        // The password changes the limits for what comes after it.
        let most = if self.session.is_authenticated { COMMANDS_MAX } else { 1 };
        let limits = self.limits();
        self.input.understand(&limits, most, &mut self.commands)
    }

    /// Plans the commands, which are parts of these bytes, and writes their replies into `out`.
    async fn answer(&mut self, bytes: Bytes) -> Result<(), End> {
        let mut commands = std::mem::take(&mut self.commands);
        let mut at = 0;
        while at < commands.len() && !self.session.is_closing {
            let (first, began) = (at, Instant::now());
            self.batch.clear();
            // Most commands are one request.
            self.batch.requests.reserve((commands.len() - at).min(REQUESTS_MAX));
            while at < commands.len() {
                let args = commands.args(at, &bytes);
                if commands.is_typed(at) && is_http(args) {
                    self.session.is_closing = true;
                    break;
                }
                let session = &mut self.session;
                Planner { gateway: &self.gateway, session, batch: &mut self.batch }.plan(args);
                at += 1;
                // Replies that are known at once are bounded too.
                let is_full = self.batch.requests.len() >= REQUESTS_MAX
                    || self.batch.texts.len() >= WRITE_BYTES;
                if is_full || self.batch.slow.is_some() || self.session.is_closing {
                    break;
                }
            }
            self.session.sent(&self.gateway);
            self.ask(bytes.len() + commands.bytes_apart()).await;
            let slow = self.batch.slow.take();
            let asked = at - usize::from(slow.is_some());
            let now = self.note(began, &commands, first..asked, &bytes);
            if let Some(slow) = slow {
                self.run(slow).await;
                self.note(now, &commands, asked..at, &bytes);
            }
            if self.out.len() >= WRITE_BYTES {
                self.write().await?;
            }
        }
        self.count();
        // Neither a value that is stored nor a long reply is to be held here until the next read.
        self.batch.clear();
        commands.clear();
        self.commands = commands;
        Ok(())
    }

    /// Notes commands that were asked together, if they took long: the first of those that asked
    /// for most. Gives the time.
    fn note(&self, began: Instant, all: &Commands, which: Range<usize>, bytes: &Bytes) -> Instant {
        let (now, client, log) = (Instant::now(), &self.session.client, &self.gateway.slowlog);
        client.active_ms.store((now - client.since).as_millis() as u64, Relaxed);
        if now - began >= log.threshold() && !which.is_empty() {
            let asked = |at: &usize| self.batch.steps.get(at - which.start).map(|s| s.requests);
            let most = which.clone().rev().max_by_key(asked).unwrap_or(which.start);
            let who = (client.peer.to_string(), client.said().name.clone());
            log.note(now - began, all.args(most, bytes).iter(), which.len() - 1, who);
        }
        now
    }

    /// Runs what runs alone and writes its reply, if there is room for both.
    async fn run(&mut self, slow: Slow) {
        self.out.protocol = self.session.protocol;
        let (cache, mark) = (self.session.cache, self.out.mark());
        let (before, is_silent) = (self.out.len(), slow.is_silent);
        let mut fits = self.takes(slow.weight());
        if fits {
            slow.run(&self.gateway, cache, self.worker, &mut self.out).await;
            fits = self.takes(self.out.len() - before);
        }
        if !fits {
            // Nothing that changes anything has a long pattern or reply.
            self.out.truncate(mark);
            if !is_silent {
                self.out.error(failure_text(FailureKind::Overloaded.not_applied()));
            }
        }
    }

    /// Counts more bytes as under way if they are more than any connection may hold; false, and
    /// nothing counted, when there are too many.
    fn takes(&mut self, bytes: usize) -> bool {
        bytes <= READ_BYTES || self.grow(bytes as u64)
    }

    /// Counts what was done since the last time.
    fn count(&mut self) {
        let counts = &self.gateway.counts;
        self.session.run.end(counts);
        counts.take_errors(&mut self.batch.texts);
        counts.take_errors(&mut self.out);
    }

    /// Asks the shards what the batch needs and writes what they say.
    async fn ask(&mut self, input: usize) {
        // Nothing may be lost with the buffer.
        let alike = self.batch.alike().filter(|_| self.out.len() == 0);
        let requests = std::mem::take(&mut self.batch.requests);
        let count = requests.len();
        // The batches of one read share its input.
        let input = if self.under_way.is_none() { input } else { 0 };
        let is_admitted = self.grow((input + count * size_of::<Request>()) as u64);
        let options = Gateway::options(self.worker);
        let mut answers: Vec<Answer> = match (is_admitted, count) {
            (_, 0) => Vec::new(),
            (false, _) => vec![Err(FailureKind::Overloaded.not_applied()); count],
            (true, 1) => {
                let client = &self.gateway.client;
                let mut answers = Vec::with_capacity(1);
                for request in requests {
                    answers.push(client.call_one(request, options).await);
                }
                answers
            }
            _ => match alike {
                Some(protocol) => self.call_writing(requests, protocol).await,
                None => self.call(requests).await,
            },
        };
        let written = count - answers.len();
        let values = answers.iter().map(value_bytes).sum();
        if values > 0 && !self.grow(values) {
            refuse_values(&mut answers);
        }
        let texts = self.batch.texts.len();
        let is_long = texts > READ_BYTES;
        let is_told = !is_long || self.grow(texts as u64);
        let before = self.out.len() as u64;
        let mut answers = answers.drain(..);
        for step in &self.batch.steps[written..] {
            self.out.protocol = step.protocol;
            let mark = self.out.mark();
            let (texts, out) = (&self.batch.texts, &mut self.out);
            if is_told || !step.finish.is_long_text() {
                finish(&step.finish, step.requests, &mut answers, texts, out);
            } else {
                out.error(failure_text(FailureKind::Overloaded.not_applied()));
            }
            if step.is_silent {
                self.out.truncate(mark);
            }
        }
        drop(answers);
        // What is around values, and replies without any: they are small, and told in any case.
        let counted = values + if is_long && is_told { texts as u64 } else { 0 };
        let rest = (self.out.len() as u64 - before).saturating_sub(counted);
        self.grow(rest);
    }

    /// Counts more bytes as under way; false, and nothing counted, when there are too many.
    fn grow(&mut self, bytes: u64) -> bool {
        match &mut self.under_way {
            Some(permit) => permit.grow(bytes),
            None => {
                self.under_way = self.gateway.client.inflight().try_take(bytes);
                self.under_way.is_some()
            }
        }
    }

    /// Asks for values whose replies are written where the values are, as far as one shard can.
    /// Gives the answers that have no reply yet: those to the last requests.
    async fn call_writing(&mut self, requests: Vec<Request>, protocol: Protocol) -> Vec<Answer> {
        let options = Gateway::options(self.worker);
        self.out.protocol = protocol;
        let writing = self.out.lend();
        let mut answers = self.gateway.client.call_writing(requests, options, writing);
        let rest = (&mut answers).await;
        // A shard that crashed has kept it.
        let Some(written) = answers.into_written() else { return rest };
        let count = written.count;
        self.out.take_back(written);
        if count > 0 && !self.grow(self.out.len() as u64) {
            self.out.clear(READ_BYTES);
            let refused = failure_text(FailureKind::Overloaded.not_applied());
            (0..count).for_each(|_| self.out.error(refused));
        }
        rest
    }

    /// Asks in pieces: a shard's thread is not to be held for long, and replies are bounded over
    /// all of them.
    async fn call(&self, requests: Vec<Request>) -> Vec<Answer> {
        let (client, mut options) = (&self.gateway.client, Gateway::options(self.worker));
        if requests.len() <= REQUESTS_MAX {
            return client.call(requests, options).await;
        }
        let mut answers: Vec<Answer> = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter();
        let mut left = REPLIES_MAX;
        while requests.len() > 0 {
            options.max_reply_bytes = Some(left);
            let some = client.call(requests.by_ref().take(REQUESTS_MAX).collect(), options).await;
            let bytes: u64 = some.iter().map(value_bytes).sum();
            left = left.saturating_sub(bytes);
            answers.extend(some);
        }
        answers
    }

    /// Sends `out` as the last thing. Closing a socket with unread input would take it back, so
    /// what is still coming is read and thrown away until `over`.
    async fn part(&mut self, over: impl Future<Output = ()>) {
        if self.write().await.is_err() || self.stream.shutdown().await.is_err() {
            return;
        }
        let rest = async {
            loop {
                if !self.stream.read_buf(self.input.scrap()).await.is_ok_and(|read| read > 0) {
                    return;
                }
            }
        };
        tokio::select! {
            () = rest => {}
            () = over => {}
        }
    }

    /// Sends `out`; what was under way for it is over.
    async fn write(&mut self) -> Result<(), End> {
        let sent = send(&self.stream, &self.out, self.gateway.stall_timeout).await;
        self.under_way = None;
        sent?;
        self.gateway.counts.bytes_out.add(self.out.len() as u64);
        self.out.clear(READ_BYTES);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.gateway.clients.leave(self.session.client.id);
    }
}

/// A browser that was tricked into sending commands says so in its first line.
fn is_http(args: Args<'_>) -> bool {
    let verbs = ["post", "put", "patch", "head", "options", "delete", "connect", "trace", "host:"];
    let is_version = |text: &[u8]| text.starts_with(b"HTTP/1.");
    verbs.iter().any(|verb| args.is(0, verb)) || args.len() == 3 && is_version(&args[2])
}

/// When what is counted as under way has come in too slowly: it has as long as a client that reads
/// nothing, and a second for each [`COMES_PER_SECOND`] that have come since it was counted.
async fn late(counted: Option<(Instant, u64)>, patience: Duration) {
    let Some((since, come)) = counted else { return std::future::pending().await };
    let earned = Duration::from_millis(come * 1_000 / COMES_PER_SECOND);
    tokio::time::sleep_until((since + patience + earned).into()).await;
}
