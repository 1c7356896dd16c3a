//! When a client that pauses has its large buffers taken away: no timer is set for each read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// A client that sends much at a time keeps its buffers over a pause of this length, and not over
/// one of twice that.
const KEPT_FOR: Duration = Duration::from_millis(100);

/// What has come since the timer was set.
#[derive(Debug, PartialEq)]
enum Seen {
    Something,
    Nothing,
    /// Nothing in all that time: there is nothing to wait for.
    Paused,
}

/// The timer of one connection.
#[derive(Debug)]
pub struct Pause {
    timer: Pin<Box<Sleep>>,
    seen: Seen,
}

impl Pause {
    /// Of a client that may begin at once.
    pub fn new() -> Self {
        Pause { timer: Box::pin(sleep(KEPT_FOR)), seen: Seen::Something }
    }

    /// The client has sent something.
    pub fn end(&mut self) {
        self.seen = Seen::Something;
    }

    /// Ready once for each pause.
    pub fn poll_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.seen != Seen::Paused {
            ready!(self.timer.as_mut().poll(cx));
            if self.seen.is_long() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(Instant::now() + KEPT_FOR);
        }
        Poll::Pending
    }
}

impl Seen {
    /// The timer has run out: is it a long pause by now?
    fn is_long(&mut self) -> bool {
        *self = match self {
            Seen::Something => Seen::Nothing,
            Seen::Nothing | Seen::Paused => Seen::Paused,
        };
        *self == Seen::Paused
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_pause_is_long_once_and_only_if_nothing_came() {
        let mut pause = Pause::new();
        for _ in 0..2 {
            // Something came in each time but the last.
            for _ in 0..3 {
                pause.end();
                assert!(!pause.seen.is_long());
            }
            poll_fn(|cx| pause.poll_long(cx)).await;
            let again = poll_fn(|cx| Poll::Ready(pause.poll_long(cx))).await;
            assert!(again.is_pending(), "it was said already");
        }
    }
}
