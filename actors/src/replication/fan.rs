//! The primary's side of one slot: its writes on their way to every copy that the row names.
//!
//! Towards each copy the fan keeps what the copy has not acknowledged and sends it again, in
//! order, after a reconnect. A copy in sync is *needed*: an answer waits for it. An importing copy
//! is needed from the moment it acknowledged the end of its import, and the primary asks for it to
//! be counted as in sync once it has also acknowledged every write sent before that moment.
//!
//! A needed copy is waited for until an agreed row comes without it, and not a moment less: the
//! request to take it out may be lost, and the request to count it as in sync may have been
//! agreed. Rows are adopted in the order of their stamps, so any row that still names the copy
//! says that neither has happened yet, or that rows in between were skipped in which the copy's
//! shard had lost the slot and got it back: then the copy refuses what comes and is taken out, and
//! until it says so itself the map may call in sync what holds nothing. Losing the primary in these
//! milliseconds is losing both copies.
//!
//! `E` is what a write did, `P` names what waits for a confirmation. Effects are return values:
//! what to send is pushed to `out` in the order in which it has to leave.

mod giving;

use std::collections::VecDeque;

use crate::map::{Ask, NodeIx, Row};
use crate::op::Ms;
use giving::Giving;

/// What a write did, as far as the fan has to know.
pub trait Weigh: Clone {
    /// Bytes that keeping it for sending again takes.
    fn weight(&self) -> u64;
}

/// What has to be sent to a copy, or fetched for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Out<E> {
    /// Tell it that this node was promoted, and what it held before.
    Open {
        /// The `since` of the primary before.
        old_since: u64,
        /// The last write under it.
        old_n: u64,
    },
    /// Tell it that an import begins.
    Begin {
        /// Number of the import.
        import: u64,
        /// The last write before it.
        n0: u64,
    },
    /// Fetch the first chunk of this import from the shard.
    Fetch {
        /// Number of the import.
        import: u64,
    },
    /// Send it a write.
    Write {
        /// Number of the import; 0 after an Open.
        import: u64,
        /// Number of the write.
        n: u64,
        /// What it did.
        effect: E,
    },
}

/// Where a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It was opened and has not answered.
    Opening,
    /// Its import has to begin once its link is up.
    Waiting,
    /// It is being imported.
    Importing,
    /// It follows.
    Live,
    /// It holds something else or another start of its node: the row has to lose it.
    Failed,
}

/// The writes of one slot under one `since`.
#[derive(Clone, Debug)]
pub struct Fan<E, P> {
    since: u64,
    stamp: u64,
    n: u64,
    imports: u64,
    /// What a promoted primary held before: `since` and last write.
    old: Option<(u64, u64)>,
    giving: Option<Giving>,
    sides: Vec<Side<E, P>>,
}

#[derive(Clone, Debug)]
struct Side<E, P> {
    node: NodeIx,
    in_sync: bool,
    needed: bool,
    phase: Phase,
    link_up: bool,
    import: u64,
    acked: u64,
    /// The number of the last write when the end of the import was acknowledged.
    imported_at: Option<u64>,
    unacked: VecDeque<Unacked<E, P>>,
    bytes: u64,
    progress_at: Ms,
}

#[derive(Clone, Debug)]
struct Unacked<E, P> {
    n: u64,
    /// `None` when an import carries the write, so that only its end confirms it.
    effect: Option<E>,
    waits: Option<P>,
}

impl<E: Weigh, P: Copy> Fan<E, P> {
    /// The fan of a primary under `since`; `old` is what it held before if it was promoted, and
    /// `None` if the slot starts empty. [`Fan::adopt`] names the copies.
    pub fn new(since: u64, old: Option<(u64, u64)>) -> Self {
        Fan { since, stamp: 0, n: 0, imports: 0, old, giving: None, sides: Vec::new() }
    }

    /// The `since` it numbers under.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// The stamp of the row it follows.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// Number of the last write.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Copies that an answer with `acks = all` waits for.
    pub fn needed(&self) -> usize {
        self.sides.iter().filter(|side| side.needed).count()
    }

    /// Copies that the row calls in sync.
    pub fn copies_in_sync(&self) -> impl Iterator<Item = NodeIx> + '_ {
        self.sides.iter().filter(|side| side.in_sync).map(|side| side.node)
    }

    /// Bytes kept for sending again.
    pub fn bytes(&self) -> u64 {
        self.sides.iter().map(|side| side.bytes).sum()
    }

    /// Is every copy in sync?
    pub fn is_complete(&self) -> bool {
        self.sides.iter().all(|side| side.in_sync)
    }

    /// Is every copy in sync, and has it acknowledged everything? Then nothing is asked for,
    /// unless the slot is given away.
    pub fn is_quiet(&self) -> bool {
        self.giving.is_none() && self.is_complete() && self.sides.iter().all(Side::is_quiet)
    }

    /// Where a copy stands.
    pub fn phase(&self, node: NodeIx) -> Option<Phase> {
        self.sides.iter().find(|side| side.node == node).map(|side| side.phase)
    }

    /// An agreed row of this `since` with a newer stamp names the copies. Calls `released` for
    /// everything that waited for one that is no copy any more.
    pub fn adopt(
        &mut self,
        row: &Row,
        now: Ms,
        link_up: impl Fn(NodeIx) -> bool,
        mut released: impl FnMut(P),
        out: &mut Vec<(NodeIx, Out<E>)>,
    ) {
        if row.since != self.since || row.stamp <= self.stamp {
            return;
        }
        self.stamp = row.stamp;
        self.giving = None;
        self.sides.retain_mut(|side| {
            let still = row.in_sync().contains(&side.node);
            // A copy in sync that is importing now was out in between.
            let stays = still || (row.importing().contains(&side.node) && !side.in_sync);
            if stays {
                side.in_sync = still;
                side.needed |= still;
            } else {
                side.unacked.iter().filter_map(|write| write.waits).for_each(&mut released);
            }
            stays
        });
        let known = |sides: &[Side<E, P>], node| sides.iter().any(|side| side.node == node);
        for &node in row.in_sync() {
            if !known(&self.sides, node) {
                // Only a promotion brings copies in sync that this primary did not fill.
                let phase = if self.old.is_some() { Phase::Opening } else { Phase::Failed };
                self.sides.push(Side::new(node, true, phase, link_up(node), now));
                self.open(self.sides.len() - 1, out);
            }
        }
        for &node in row.importing() {
            if !known(&self.sides, node) {
                self.sides.push(Side::new(node, false, Phase::Waiting, link_up(node), now));
                self.begin(self.sides.len() - 1, out);
            }
        }
    }

    /// Takes the next write. `waits` is given to the caller again, by [`Fan::acked`] or
    /// [`Fan::adopt`], once for each of [`Fan::needed`] copies.
    pub fn write(
        &mut self,
        effect: &E,
        waits: Option<P>,
        now: Ms,
        out: &mut Vec<(NodeIx, Out<E>)>,
    ) -> u64 {
        self.n += 1;
        let n = self.n;
        for side in &mut self.sides {
            let waits = waits.filter(|_| side.needed);
            let carried = matches!(side.phase, Phase::Waiting | Phase::Failed);
            if carried && waits.is_none() {
                continue;
            }
            if side.unacked.is_empty() {
                side.progress_at = now;
            }
            if carried {
                side.unacked.push_back(Unacked { n, effect: None, waits });
                continue;
            }
            if side.link_up {
                let import = side.import;
                out.push((side.node, Out::Write { import, n, effect: effect.clone() }));
            }
            side.bytes += effect.weight();
            side.unacked.push_back(Unacked { n, effect: Some(effect.clone()), waits });
        }
        n
    }

    /// The link to a node is up, to the same start of it as before or to another one.
    pub fn link_up(&mut self, node: NodeIx, same_start: bool, out: &mut Vec<(NodeIx, Out<E>)>) {
        let Some(at) = self.position(node) else { return };
        let side = &mut self.sides[at];
        side.link_up = true;
        match side.phase {
            Phase::Opening | Phase::Live if !same_start => side.fail(),
            Phase::Opening => self.open(at, out),
            Phase::Live => side.resend(out),
            Phase::Waiting => self.begin(at, out),
            Phase::Importing | Phase::Failed => {}
        }
    }

    /// The link to a node is gone: an import is lost with it, other writes are kept.
    pub fn link_lost(&mut self, node: NodeIx) {
        let Some(at) = self.position(node) else { return };
        self.hand_lost(node);
        let side = &mut self.sides[at];
        side.link_up = false;
        if side.phase == Phase::Importing {
            side.phase = Phase::Waiting;
            side.drop_effects();
        }
    }

    /// A copy has everything up to `n`, and the end of its import if `complete`. Calls `confirmed`
    /// for everything that waited for it. Returns whether the acknowledgement counts: one of an
    /// earlier `since` or import is late.
    pub fn acked(
        &mut self,
        node: NodeIx,
        (since, import, n): (u64, u64, u64),
        complete: bool,
        now: Ms,
        mut confirmed: impl FnMut(P),
    ) -> bool {
        let last = self.n;
        let Some(at) = self.position(node) else { return false };
        let side = &mut self.sides[at];
        let expects = !matches!(side.phase, Phase::Waiting | Phase::Failed);
        if since != self.since || import != side.import || !expects {
            return false;
        }
        side.progress_at = now;
        side.acked = side.acked.max(n);
        if complete && side.phase == Phase::Importing {
            (side.needed, side.imported_at) = (true, Some(last));
        }
        if complete {
            side.phase = Phase::Live;
        }
        while let Some(write) = side.unacked.front()
            && write.n <= n
            && (write.effect.is_some() || side.phase == Phase::Live)
        {
            let write = side.unacked.pop_front().expect("the front was just seen");
            side.bytes -= write.effect.map_or(0, |effect| effect.weight());
            write.waits.into_iter().for_each(&mut confirmed);
        }
        true
    }

    /// A copy refused something: the row has to lose it. One of an earlier import is late.
    pub fn refused(&mut self, node: NodeIx, since: u64, import: u64) {
        let Some(at) = self.position(node) else { return };
        let side = &mut self.sides[at];
        if since == self.since && import == side.import && side.phase != Phase::Waiting {
            side.fail();
        }
    }

    /// Is a chunk of this import still wanted? Counts as progress.
    pub fn wants_chunk(&mut self, node: NodeIx, import: u64, now: Ms) -> bool {
        let Some(at) = self.position(node) else { return false };
        let side = &mut self.sides[at];
        let wanted = side.phase == Phase::Importing && side.import == import;
        if wanted {
            side.progress_at = now;
        }
        wanted
    }

    /// What to ask the coordinator for, with the stamp to name. Asked again until a row answers, and
    /// only with a lease: without one this node may be the one that is cut off. For the same
    /// reason the silence of a copy counts from `lease_since` at the earliest.
    pub fn asks(&self, now: Ms, lease_since: Ms, failure_timeout_ms: Ms) -> Vec<(u64, Ask)> {
        let ask = |side: &Side<E, P>| {
            let silent_since = side.progress_at.max(lease_since);
            let is_stuck = !side.is_quiet() && now > silent_since + failure_timeout_ms;
            if side.phase == Phase::Failed || is_stuck {
                return Some(Ask::Out(side.node));
            }
            let caught_up = side.imported_at.is_some_and(|n| side.acked >= n);
            (!side.in_sync && caught_up).then_some(Ask::InSync(side.node))
        };
        let give = self.ask_to_give(now);
        self.sides.iter().filter_map(ask).chain(give).map(|ask| (self.stamp, ask)).collect()
    }

    /// Everything that waits, each once for every copy: this node is the slot's primary no more.
    pub fn into_waiting(self) -> impl Iterator<Item = P> {
        self.sides.into_iter().flat_map(|side| side.unacked).filter_map(|write| write.waits)
    }

    fn position(&self, node: NodeIx) -> Option<usize> {
        self.sides.iter().position(|side| side.node == node)
    }

    fn open(&mut self, at: usize, out: &mut Vec<(NodeIx, Out<E>)>) {
        let side = &self.sides[at];
        if let (true, Phase::Opening, Some((old_since, old_n))) =
            (side.link_up, side.phase, self.old)
        {
            out.push((side.node, Out::Open { old_since, old_n }));
            side.resend(out);
        }
    }

    fn begin(&mut self, at: usize, out: &mut Vec<(NodeIx, Out<E>)>) {
        let side = &mut self.sides[at];
        if !side.link_up || side.phase != Phase::Waiting {
            return;
        }
        self.imports += 1;
        (side.phase, side.import, side.acked) = (Phase::Importing, self.imports, 0);
        let import = side.import;
        out.push((side.node, Out::Begin { import, n0: self.n }));
        out.push((side.node, Out::Fetch { import }));
    }
}

impl<E: Weigh, P: Copy> Side<E, P> {
    fn new(node: NodeIx, in_sync: bool, phase: Phase, link_up: bool, now: Ms) -> Self {
        Side {
            node,
            in_sync,
            needed: in_sync,
            phase,
            link_up,
            import: 0,
            acked: 0,
            imported_at: None,
            unacked: VecDeque::new(),
            bytes: 0,
            progress_at: now,
        }
    }

    /// Does it follow, with everything acknowledged?
    fn is_quiet(&self) -> bool {
        self.phase == Phase::Live && self.unacked.is_empty()
    }

    fn resend(&self, out: &mut Vec<(NodeIx, Out<E>)>) {
        let (node, import) = (self.node, self.import);
        out.extend(self.unacked.iter().filter_map(|write| {
            let effect = write.effect.clone()?;
            Some((node, Out::Write { import, n: write.n, effect }))
        }));
    }

    fn fail(&mut self) {
        self.phase = Phase::Failed;
        self.drop_effects();
    }

    /// Only what waits is kept: an import carries the rest.
    fn drop_effects(&mut self) {
        self.bytes = 0;
        self.unacked.retain_mut(|write| {
            write.effect = None;
            write.waits.is_some()
        });
    }
}
