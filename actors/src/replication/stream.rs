//! The primary's side towards one copy of one slot.

use std::collections::VecDeque;

use super::Effect;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The copy's state is unknown or lost; an import has to begin once the link is up.
    Unsynced,
    /// An import is under way.
    Importing,
    /// The copy acknowledged the end of its import.
    Live,
}

/// What a stream wants sent or fetched, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    /// Tell the copy that an import begins.
    Begin {
        /// Number of the import.
        import: u64,
        /// The last write before it.
        n0: u64,
    },
    /// Tell the copy that the import is over and has no entries.
    EmptyImport {
        /// Number of the import.
        import: u64,
        /// The last write before it.
        n0: u64,
    },
    /// Fetch the first chunk of this import from the shard.
    FetchChunk {
        /// Number of the import.
        import: u64,
    },
    /// Send a write.
    Write {
        /// Number of the import.
        import: u64,
        /// Number of the write.
        n: u64,
        /// What it did.
        effect: Effect,
    },
}

/// Writes of one slot on their way to one copy. `P` names what waits for a confirmation.
#[derive(Debug)]
pub struct Stream<P> {
    since: u64,
    import: u64,
    phase: Phase,
    /// Number of the last write that was handed in.
    n: u64,
    unacked: VecDeque<Unacked<P>>,
    bytes: u64,
}

#[derive(Debug)]
struct Unacked<P> {
    n: u64,
    /// `None` when an import carries the write, so that only its end confirms it.
    effect: Option<Effect>,
    bytes: u64,
    waits: Option<P>,
}

impl<P: Copy> Stream<P> {
    /// A stream under `since`; the slot's last write so far has number `n`.
    pub fn new(since: u64, n: u64) -> Self {
        Stream { since, import: 0, phase: Phase::Unsynced, n, unacked: VecDeque::new(), bytes: 0 }
    }

    /// The primary's `since`.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The import under way or the last one.
    pub fn import(&self) -> u64 {
        self.import
    }

    /// Bytes kept for sending again.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Is there nothing the copy has not confirmed?
    pub fn is_quiet(&self) -> bool {
        self.unacked.is_empty() && self.phase != Phase::Importing
    }

    /// Takes write `n`. It is sent now if the link is up; `waits` is reported by [`Stream::ack`]
    /// once the copy has it.
    pub fn write(
        &mut self,
        n: u64,
        effect: Effect,
        waits: Option<P>,
        link_up: bool,
        out: &mut Vec<Out>,
    ) {
        debug_assert_eq!(n, self.n + 1, "a primary numbers its writes without gaps");
        if self.phase == Phase::Unsynced && link_up {
            self.begin_import(out);
        }
        self.n = n;
        if self.phase == Phase::Unsynced {
            self.unacked.push_back(Unacked { n, effect: None, bytes: 0, waits });
            return;
        }
        let bytes = effect.window_bytes();
        self.bytes += bytes;
        if link_up {
            out.push(Out::Write { import: self.import, n, effect: effect.clone() });
        }
        self.unacked.push_back(Unacked { n, effect: Some(effect), bytes, waits });
    }

    /// The link is up. If the node on the other side is the one that was there before
    /// (`same_incarnation`), a live stream goes on where it was; otherwise the copy is imported.
    pub fn link_up(&mut self, same_incarnation: bool, out: &mut Vec<Out>) {
        if self.phase == Phase::Live && same_incarnation {
            let import = self.import;
            out.extend(self.unacked.iter().filter_map(|write| {
                let effect = write.effect.clone()?;
                Some(Out::Write { import, n: write.n, effect })
            }));
            return;
        }
        self.give_up();
        if self.n > 0 {
            self.begin_import(out);
        }
    }

    /// The link is gone: an import under way is lost, a live stream keeps its writes.
    pub fn link_lost(&mut self) {
        if self.phase == Phase::Importing {
            self.give_up();
        }
    }

    /// Forgets the writes that are kept for sending again: the copy has to be imported anew.
    /// What waits for them is reported when that import ends.
    pub fn give_up(&mut self) {
        self.phase = Phase::Unsynced;
        self.bytes = 0;
        for write in &mut self.unacked {
            write.effect = None;
            write.bytes = 0;
        }
        self.unacked.retain(|write| write.waits.is_some());
    }

    /// Is a chunk of this import still wanted?
    pub fn wants_chunk(&self, import: u64) -> bool {
        self.phase == Phase::Importing && self.import == import
    }

    /// The copy has everything up to `n` of this import, and the import's end if `complete`.
    /// Calls `confirmed` for each waiting write that the copy now has. An acknowledgement of an
    /// earlier `since` or import is late and changes nothing; returns whether it counted.
    pub fn ack(
        &mut self,
        since: u64,
        import: u64,
        n: u64,
        complete: bool,
        mut confirmed: impl FnMut(P),
    ) -> bool {
        if (since, import) != (self.since, self.import) || self.phase == Phase::Unsynced {
            return false;
        }
        if complete {
            self.phase = Phase::Live;
        }
        while let Some(write) = self.unacked.front() {
            let carried = write.effect.is_none();
            if write.n > n || (carried && self.phase != Phase::Live) {
                break;
            }
            let write = self.unacked.pop_front().expect("the front was just seen");
            self.bytes -= write.bytes;
            if let Some(waits) = write.waits {
                confirmed(waits);
            }
        }
        true
    }

    /// The copy refused something of this import: it has to be imported again, at once if the
    /// link is up. `held_import` is the import that the copy holds under the same `since` (0 when
    /// it follows another one); the next import gets a higher number. A refusal of an earlier
    /// import is late and changes nothing.
    pub fn refused(
        &mut self,
        since: u64,
        import: u64,
        held_import: u64,
        link_up: bool,
        out: &mut Vec<Out>,
    ) {
        if (since, import) == (self.since, self.import) && self.phase != Phase::Unsynced {
            self.give_up();
            self.import = self.import.max(held_import);
            if link_up {
                self.begin_import(out);
            }
        }
    }

    /// Takes everything that waits, for an answer that the outcome is unknown.
    pub fn take_waiting(&mut self) -> Vec<P> {
        self.unacked.iter_mut().filter_map(|write| write.waits.take()).collect()
    }

    fn begin_import(&mut self, out: &mut Vec<Out>) {
        self.import += 1;
        self.phase = Phase::Importing;
        let (import, n0) = (self.import, self.n);
        out.push(Out::Begin { import, n0 });
        if n0 == 0 {
            // Before its first write a primary holds nothing: no chunk has to be fetched.
            out.push(Out::EmptyImport { import, n0 });
        } else {
            out.push(Out::FetchChunk { import });
        }
    }
}
