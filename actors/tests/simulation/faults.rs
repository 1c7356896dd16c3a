//! What goes wrong in a run, and when.

use super::random::Random;

/// How often each fault happens in a run.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A process dies and starts again a little later.
    pub kills: u64,
    /// The process that leads dies and starts again a little later.
    pub leader_kills: u64,
    /// Two die at the same moment, besides.
    pub double_kills: u64,
    /// A process stands still and wakes up.
    pub pauses: u64,
    /// Packets between two sides of the cluster are lost, one way or both.
    pub partitions: u64,
    /// Do partitions leave bridges: nodes that still reach both sides? A coordinator on one takes
    /// out everybody whom it cannot reach, which may be two at once.
    pub bridges: bool,
    /// A connection breaks and comes back.
    pub breaks: u64,
    /// A shard loses what it holds.
    pub shard_crashes: u64,
    /// A control message is lost, or comes twice, in per cent.
    pub loss_percent: u64,
    /// Control messages that are late by up to a second, in per cent.
    pub late_percent: u64,
    /// Do clocks run at different speeds, up to 2 % apart?
    pub drift: bool,
    /// Must the cluster be fully replicated before the next fault begins?
    pub one_at_a_time: bool,
}

impl Faults {
    pub const fn none() -> Self {
        Faults {
            kills: 0,
            leader_kills: 0,
            double_kills: 0,
            pauses: 0,
            partitions: 0,
            bridges: false,
            breaks: 0,
            shard_crashes: 0,
            loss_percent: 0,
            late_percent: 0,
            drift: false,
            one_at_a_time: true,
        }
    }
}

/// One fault of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    LeaderKill,
    DoubleKill,
    Pause,
    Partition,
    Break,
    ShardCrash,
}

/// The faults of a run in a random order.
pub fn schedule(faults: &Faults, random: &mut Random) -> Vec<Fault> {
    let kinds = [
        (Fault::Kill, faults.kills),
        (Fault::LeaderKill, faults.leader_kills),
        (Fault::DoubleKill, faults.double_kills),
        (Fault::Pause, faults.pauses),
        (Fault::Partition, faults.partitions),
        (Fault::Break, faults.breaks),
        (Fault::ShardCrash, faults.shard_crashes),
    ];
    let mut all: Vec<Fault> =
        kinds.iter().flat_map(|&(fault, count)| (0..count).map(move |_| fault)).collect();
    for i in (1..all.len()).rev() {
        all.swap(i, random.below(i as u64 + 1) as usize);
    }
    all
}
