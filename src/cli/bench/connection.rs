//! One connection: sends what is due, reads what comes, and is made anew when it breaks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::load::{Asks, Load};
use super::pace::Pace;
use super::protocol::{Outcome, Protocol, Writer};
use super::tally::Tally;

/// Requests are written when they are so many bytes, even if more of them are due.
const WRITE_BYTES: usize = 1 << 20;

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;

/// How long a server may say nothing while it owes replies.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a connection tries to be made again after it broke, and its rest between two tries.
const RECONNECT_MAX: Duration = Duration::from_secs(10);
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// How long one try may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What all connections of a run share.
#[derive(Debug)]
pub struct Run {
    /// Where connections go, in turn.
    pub addresses: Vec<String>,
    /// The language.
    pub protocol: Protocol,
    /// What every key begins with.
    pub prefix: String,
    /// What is asked for.
    pub load: Load,
    /// What every value is the beginning of.
    pub value: Bytes,
    /// When it is sent.
    pub pace: Pace,
    /// How many requests may be under way on one connection.
    pub pipeline: usize,
    /// One for each connection, rung when something is due.
    pub bells: Vec<Notify>,
    /// Requests that are done with, for the progress bar.
    pub done: AtomicU64,
    /// Does the run end, because a connection failed or all are done?
    pub is_done: AtomicBool,
}

/// A request that is under way.
#[derive(Debug)]
struct Pending {
    is_get: bool,
    /// When it was sent, or when it should have been.
    from: Instant,
}

/// What a connection still has to do; survives its socket.
struct Work<'a> {
    run: &'a Run,
    number: u64,
    asks: Asks,
    sent: u64,
    share: u64,
    pending: VecDeque<Pending>,
    out: Vec<u8>,
    input: BytesMut,
    tally: &'a RefCell<Tally>,
}

/// Runs a connection to its end.
///
/// # Errors
/// When there is nobody to connect to, or what answers speaks another language.
pub async fn drive(run: Arc<Run>, number: u64, tally: Rc<RefCell<Tally>>) -> Result<()> {
    let (run, tally) = (&*run, &*tally);
    let mut work = Work {
        run,
        number,
        asks: run.load.of(number, run.pace.connections),
        sent: 0,
        share: run.pace.share(number),
        pending: VecDeque::new(),
        out: Vec::new(),
        input: BytesMut::new(),
        tally,
    };
    let mut turn = number as usize;
    let mut stream = connect(run, &mut turn, Duration::ZERO).await?;
    loop {
        let host = run.addresses[turn % run.addresses.len()].clone();
        match work.serve(&mut stream, &host).await? {
            Ended::Done => break,
            Ended::Broken(why) => {
                let lost = work.pending.len() as u64;
                if lost > 0 {
                    tally.borrow_mut().refuse(format!("connection-lost {host}: {why}"), lost);
                    run.done.fetch_add(lost, Relaxed);
                }
                work.pending.clear();
                work.out.clear();
                work.input.clear();
                turn += 1;
                stream = connect(run, &mut turn, RECONNECT_MAX).await?;
            }
        }
    }
    tally.borrow_mut().unsent += work.unsent();
    Ok(())
}

/// Connects to the address whose turn it is, or to the next that answers within the time.
async fn connect(run: &Run, turn: &mut usize, patience: Duration) -> Result<TcpStream> {
    let until = Instant::now() + patience;
    loop {
        let address = &run.addresses[*turn % run.addresses.len()];
        let tried = match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => greet(run, stream).await,
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(anyhow!("no answer within {} s", CONNECT_MAX.as_secs())),
        };
        match tried {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= until || run.is_done.load(Relaxed) => {
                return Err(error).with_context(|| format!("cannot connect to {address}"));
            }
            Err(_) => {
                *turn += 1;
                sleep(RECONNECT_PAUSE).await;
            }
        }
    }
}

/// Says what has to be said first.
async fn greet(run: &Run, mut stream: TcpStream) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    let mut out = Vec::new();
    let mut replies = run.protocol.greeting(&mut out);
    stream.write_all(&out).await?;
    let mut input = BytesMut::new();
    while replies > 0 {
        match run.protocol.reply(&input).map_err(not_spoken)? {
            Some(reply) => {
                if let Outcome::Refused(text) = reply.outcome {
                    bail!("the server refuses: {text}");
                }
                input.advance(reply.length);
                replies -= 1;
            }
            None => {
                let read = timeout(CONNECT_MAX, stream.read_buf(&mut input)).await;
                if read.context("it says nothing")?? == 0 {
                    bail!("the server closed the connection");
                }
            }
        }
    }
    Ok(stream)
}

fn not_spoken(what: String) -> anyhow::Error {
    anyhow!("the server speaks another language: {what}")
}

/// How a socket ended.
enum Ended {
    /// Everything is done.
    Done,
    /// It broke, or the server closed it.
    Broken(String),
}

impl Work<'_> {
    async fn serve(&mut self, stream: &mut TcpStream, host: &str) -> Result<Ended> {
        let run = self.run;
        let mut writer = Writer::new(&run.protocol, host, &run.prefix, &run.value);
        let mut heard = Instant::now();
        let mut silence = pin!(sleep(SILENCE_MAX));
        let bell = &run.bells[self.number as usize];
        loop {
            self.fill(&mut writer);
            if self.pending.is_empty() && self.is_over() {
                return Ok(Ended::Done);
            }
            let interest = match self.out.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            tokio::select! {
                biased;
                ready = stream.ready(interest) => match ready {
                    Ok(ready) => {
                        let moved = self.transfer(stream, ready.is_writable(), ready.is_readable());
                        if let Err(error) = moved {
                            return Ok(Ended::Broken(error.to_string()));
                        }
                        heard = Instant::now();
                    }
                    Err(error) => return Ok(Ended::Broken(error.to_string())),
                },
                () = bell.notified() => {}
                () = &mut silence => {
                    if !self.pending.is_empty() && heard.elapsed() >= SILENCE_MAX {
                        let seconds = SILENCE_MAX.as_secs();
                        return Ok(Ended::Broken(format!("no reply for {seconds} s")));
                    }
                    silence.as_mut().reset(tokio::time::Instant::now() + SILENCE_MAX);
                }
            }
            if self.understand()? {
                return Ok(Ended::Broken("the server closes it".into()));
            }
        }
    }

    fn is_over(&self) -> bool {
        self.sent >= self.share
            || self.run.pace.is_over(Instant::now())
            || self.run.is_done.load(Relaxed)
    }

    /// Writes what is due: in a closed loop a whole pipeline when the last one is answered.
    fn fill(&mut self, writer: &mut Writer<'_>) {
        let pace = &self.run.pace;
        if pace.rate.is_none() && !self.pending.is_empty() || self.is_over() {
            return;
        }
        let now = Instant::now();
        while self.pending.len() < self.run.pipeline
            && self.sent < self.share
            && self.out.len() < WRITE_BYTES
        {
            let from = pace.due(self.number, self.sent).unwrap_or(now);
            if from > now {
                break;
            }
            let ask = self.asks.next();
            writer.ask(ask, &mut self.out);
            self.pending.push_back(Pending { is_get: ask.set.is_none(), from });
            self.sent += 1;
        }
    }

    /// Writes and reads what can be without waiting.
    fn transfer(&mut self, stream: &TcpStream, writes: bool, reads: bool) -> io::Result<()> {
        let wait = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => Ok(0),
            _ => Err(error),
        };
        if writes && !self.out.is_empty() {
            let written = stream.try_write(&self.out).or_else(wait)?;
            self.out.drain(..written);
            self.tally.borrow_mut().sent_bytes += written as u64;
        }
        if reads {
            self.input.reserve(READ_BYTES);
            let read = match stream.try_read_buf(&mut self.input) {
                Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                read => read.or_else(wait),
            }?;
            self.tally.borrow_mut().received_bytes += read as u64;
        }
        Ok(())
    }

    /// Counts the replies that came; was one of them the last of this connection?
    fn understand(&mut self) -> Result<bool> {
        let (mut tally, now) = (self.tally.borrow_mut(), Instant::now());
        let mut count = 0;
        let mut is_last = false;
        while !self.input.is_empty() {
            let Some(reply) = self.run.protocol.reply(&self.input).map_err(not_spoken)? else {
                break;
            };
            let pending = self.pending.pop_front().context("a reply that nobody asked for")?;
            tally.count(pending.is_get, now - pending.from, reply.outcome);
            self.input.advance(reply.length);
            is_last |= reply.is_last;
            count += 1;
        }
        self.run.done.fetch_add(count, Relaxed);
        Ok(is_last)
    }

    /// Requests of an open loop that were due and were not sent when the time was over.
    fn unsent(&self) -> u64 {
        match self.run.pace.rate {
            Some(_) if !self.run.is_done.load(Relaxed) => self.share - self.sent,
            _ => 0,
        }
    }
}
