//! SLOWLOG: the last commands that took long, as a ring.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use super::reply::Replies;

/// Entries that are kept.
const ENTRIES_MAX: usize = 128;

/// Arguments and bytes of an argument that an entry shows.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_MAX: usize = 128;

/// What stands for a password.
const REDACTED: &[u8] = b"(redacted)";

/// What took long.
#[derive(Debug)]
pub struct SlowLog {
    threshold: Duration,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    next: i64,
}

#[derive(Debug)]
struct Entry {
    id: i64,
    at_s: i64,
    took: Duration,
    arguments: Vec<Vec<u8>>,
    address: String,
    name: String,
}

impl SlowLog {
    /// Keeps what takes this many milliseconds or more.
    pub fn new(threshold_ms: u64) -> Self {
        SlowLog { threshold: Duration::from_millis(threshold_ms), ring: Mutex::default() }
    }

    /// The threshold.
    pub fn threshold(&self) -> Duration {
        self.threshold
    }

    /// Notes a command, how many others were asked with it, and how long all took.
    pub fn note<'a>(
        &self,
        took: Duration,
        words: impl ExactSizeIterator<Item = &'a [u8]>,
        others: usize,
        client: (String, String),
    ) {
        let all = words.len();
        let mut arguments = without_passwords(words.take(ARGUMENTS_MAX));
        if all > ARGUMENTS_MAX {
            let more = all - ARGUMENTS_MAX + 1;
            arguments[ARGUMENTS_MAX - 1] = format!("... ({more} more arguments)").into_bytes();
        }
        if others > 0 {
            arguments.push(format!("... ({others} more commands with it)").into_bytes());
        }
        let at_s = (super::gateway::wall_ms() / 1_000) as i64;
        let mut ring = self.ring.lock().expect("no holder of this lock panics");
        let id = ring.next;
        ring.next += 1;
        let (address, name) = client;
        ring.entries.truncate(ENTRIES_MAX - 1);
        ring.entries.push_front(Entry { id, at_s, took, arguments, address, name });
    }

    /// Writes the latest entries, at most `most` of them.
    pub fn write(&self, most: usize, out: &mut Replies) {
        let ring = self.ring.lock().expect("no holder of this lock panics");
        out.array(ring.entries.len().min(most));
        for entry in ring.entries.iter().take(most) {
            out.array(6);
            out.integer(entry.id);
            out.integer(entry.at_s);
            out.integer(entry.took.as_micros() as i64);
            out.array(entry.arguments.len());
            entry.arguments.iter().for_each(|argument| out.bulk(argument));
            out.bulk(entry.address.as_bytes());
            out.bulk(entry.name.as_bytes());
        }
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.ring.lock().expect("no holder of this lock panics").entries.len()
    }

    /// Forgets them; numbers go on.
    pub fn clear(&self) {
        self.ring.lock().expect("no holder of this lock panics").entries.clear();
    }
}

/// The words as they are shown. What AUTH is told is not, nor are the two words after AUTH in HELLO,
/// well-formed or not.
fn without_passwords<'a>(words: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut is_hello, mut hidden) = (false, 0);
    let one = |(at, word): (usize, &[u8])| {
        if hidden > 0 {
            hidden -= 1;
            return REDACTED.to_vec();
        }
        let is_auth = word.eq_ignore_ascii_case(b"auth");
        if at == 0 {
            is_hello = word.eq_ignore_ascii_case(b"hello");
            hidden = if is_auth { usize::MAX } else { 0 };
        } else if is_hello && is_auth {
            hidden = 2;
        }
        shown(word)
    };
    words.enumerate().map(one).collect()
}

fn shown(argument: &[u8]) -> Vec<u8> {
    if argument.len() <= ARGUMENT_MAX {
        return argument.to_vec();
    }
    let mut cut = argument[..ARGUMENT_MAX].to_vec();
    cut.extend(format!("... ({} more bytes)", argument.len() - ARGUMENT_MAX).bytes());
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_ones() {
        let log = SlowLog::new(10);
        let words: [&[u8]; 2] = [b"GET", b"k"];
        for _ in 0..ENTRIES_MAX + 5 {
            log.note(Duration::from_micros(7), words.iter().copied(), 0, Default::default());
        }
        assert_eq!(log.len(), ENTRIES_MAX);
        let mut out = Replies::default();
        log.write(1, &mut out);
        let text: Vec<u8> = out.pieces().flatten().copied().collect();
        assert!(text.starts_with(b"*1\r\n*6\r\n:132\r\n"));
        log.clear();
        assert_eq!(log.len(), 0);
    }

    #[test]
    fn long_commands_are_cut() {
        let log = SlowLog::new(0);
        let long = [b'x'; 200];
        let words = vec![&long[..]; 40];
        log.note(Duration::ZERO, words.into_iter(), 2, Default::default());
        let ring = log.ring.lock().expect("no holder panics");
        let shown = &ring.entries[0].arguments;
        assert_eq!(shown.len(), 33);
        assert!(shown[0].ends_with(b"... (72 more bytes)"));
        assert_eq!(shown[31], b"... (9 more arguments)");
        assert_eq!(shown[32], b"... (2 more commands with it)");
    }

    #[test]
    fn passwords_are_not_kept() {
        for (line, expected) in [
            ("AUTH secret", "AUTH (redacted)"),
            ("auth default secret", "auth (redacted) (redacted)"),
            ("AUTH a secret b", "AUTH (redacted) (redacted) (redacted)"),
            ("HELLO 3 AUTH default secret", "HELLO 3 AUTH (redacted) (redacted)"),
            (
                "hello 3 SETNAME me auth default secret SETNAME me",
                "hello 3 SETNAME me auth (redacted) (redacted) SETNAME me",
            ),
            ("HELLO AUTH secret", "HELLO AUTH (redacted)"),
            ("HELLO 3 SETNAME me", "HELLO 3 SETNAME me"),
            ("SET auth value", "SET auth value"),
        ] {
            let kept = without_passwords(line.split(' ').map(str::as_bytes)).join(&b' ');
            assert_eq!(String::from_utf8_lossy(&kept), expected);
        }
    }
}
