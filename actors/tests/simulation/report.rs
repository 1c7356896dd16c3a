//! What is planted in a run, and what it came to.

use super::cost::Cost;

/// A mistake that is planted on purpose, to see it caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    LeaseFromReceipt,
    CopyCallsItselfInSync,
    FreshShardKeepsItsRows,
    PutTriedAgainAfterMaybe,
    WokenCoordinatorAnswers,
    PromotedWithoutComparing,
    LateImportAccepted,
    NoWaitForTheLease,
    VotesAtOnce,
    ServesWhileGiving,
    GivesBeforeItIsSettled,
    ResumesOnAnyMap,
    CallersMapForFanOut,
    PromotedThoughNotInSync,
    NoWaitForProposedCopy,
    ClockStandsStillWithTheProcess,
    HandedBeforeAll,
    LeavesBeforeItHoldsNothing,
}

impl Bug {
    pub const ALL: [Bug; 18] = [
        Bug::HandedBeforeAll,
        Bug::LeavesBeforeItHoldsNothing,
        Bug::LeaseFromReceipt,
        Bug::CopyCallsItselfInSync,
        Bug::FreshShardKeepsItsRows,
        Bug::PutTriedAgainAfterMaybe,
        Bug::WokenCoordinatorAnswers,
        Bug::PromotedWithoutComparing,
        Bug::LateImportAccepted,
        Bug::NoWaitForTheLease,
        Bug::VotesAtOnce,
        Bug::ServesWhileGiving,
        Bug::GivesBeforeItIsSettled,
        Bug::ResumesOnAnyMap,
        Bug::CallersMapForFanOut,
        Bug::PromotedThoughNotInSync,
        Bug::NoWaitForProposedCopy,
        Bug::ClockStandsStillWithTheProcess,
    ];
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub acknowledged: u64,
    pub refused: u64,
    pub maybe: u64,
    pub lost: u64,
    pub lost_slots: u64,
    pub removed: u64,
    pub promoted: u64,
    /// Slots that primaries wanted to give away, and those that were.
    pub own_lost: u64,
    /// Nodes that were told to end, those that left, and those that did not in time.
    pub leaves: u64,
    pub left: u64,
    pub overdue: u64,
    pub gives: u64,
    pub given: u64,
    pub elections: u64,
    pub epochs: u64,
    pub cost: Cost,
}

impl Report {
    pub fn add(&mut self, other: &Report) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.maybe += other.maybe;
        self.lost += other.lost;
        self.lost_slots += other.lost_slots;
        self.removed += other.removed;
        self.promoted += other.promoted;
        self.leaves += other.leaves;
        self.left += other.left;
        self.overdue += other.overdue;
        self.own_lost += other.own_lost;
        self.gives += other.gives;
        self.given += other.given;
        self.elections += other.elections;
        self.epochs += other.epochs;
        self.cost.add(&other.cost);
    }
}
