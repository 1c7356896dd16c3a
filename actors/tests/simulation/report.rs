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
    LeaverIsFilled,
    SilentForEver,
    QuorumFromReceipt,
    GapTaken,
    RowsOfAnOlderStart,
    AnswersWhoeverAsks,
    GateLeftOpen,
    NoSecondLook,
    GivesBeforeAsyncIsThere,
    FloorForgotten,
    ForgetsWhatItGives,
    SilentVotersCountAsEnded,
    GoesOnWithoutItsMajority,
    AnotherStartKeepsItsSlots,
    FoundsBesideTheSilent,
    StartsBeforeItIsListed,
    LateQuestionEndsANewStart,
    FollowsAnyCluster,
}

impl Bug {
    pub const ALL: [Bug; 36] = [
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
        Bug::HandedBeforeAll,
        Bug::LeavesBeforeItHoldsNothing,
        Bug::LeaverIsFilled,
        Bug::SilentForEver,
        Bug::QuorumFromReceipt,
        Bug::GapTaken,
        Bug::RowsOfAnOlderStart,
        Bug::AnswersWhoeverAsks,
        Bug::GateLeftOpen,
        Bug::NoSecondLook,
        Bug::GivesBeforeAsyncIsThere,
        Bug::FloorForgotten,
        Bug::ForgetsWhatItGives,
        Bug::SilentVotersCountAsEnded,
        Bug::GoesOnWithoutItsMajority,
        Bug::AnotherStartKeepsItsSlots,
        Bug::FoundsBesideTheSilent,
        Bug::StartsBeforeItIsListed,
        Bug::LateQuestionEndsANewStart,
        Bug::FollowsAnyCluster,
    ];
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub acknowledged: u64,
    pub refused: u64,
    pub maybe: u64,
    /// Writes that were refused because too few copies were in sync.
    pub too_few: u64,
    pub lost: u64,
    pub lost_slots: u64,
    /// Writes that waited for no copy and were acknowledged, and those that went with their primary.
    pub async_acknowledged: u64,
    pub async_lost: u64,
    pub removed: u64,
    pub promoted: u64,
    /// Shards that hung for so long that another was made.
    pub gates_closed: u64,
    /// Entries kept in one copy that a new primary was not handed.
    pub own_lost: u64,
    /// Nodes that were told to leave, those that left, those that stayed after all, those that took
    /// too long, and the longest way out.
    pub leaves: u64,
    pub left: u64,
    pub stayed: u64,
    pub overdue: u64,
    pub leave_max_ms: u64,
    /// Copies that were filled, and those that were missing when members came and went.
    pub filled: u64,
    pub needed: u64,
    /// Slots that primaries wanted to give away, and those that were.
    pub gives: u64,
    pub given: u64,
    /// Nodes that died while a slot was on its way from or to them, or while they led.
    pub killed_at_moves: u64,
    /// Times that a flapping link was cut.
    pub flaps: u64,
    /// Nodes that dropped what they held because most of the voters had ended, clusters that were
    /// founded anew, and acknowledged writes that went with the one before.
    pub majority_lost: u64,
    pub founded_anew: u64,
    pub gone_before: u64,
    /// Voters of two that went on when the other had ended.
    pub went_on_alone: u64,
    /// Nodes that started because a map lists them and no file does, and processes that died before.
    pub enrolled: u64,
    pub died_joining: u64,
    pub elections: u64,
    pub epochs: u64,
    pub cost: Cost,
}

impl Report {
    pub fn add(&mut self, other: &Report) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.maybe += other.maybe;
        self.too_few += other.too_few;
        self.lost += other.lost;
        self.lost_slots += other.lost_slots;
        self.async_acknowledged += other.async_acknowledged;
        self.async_lost += other.async_lost;
        self.removed += other.removed;
        self.promoted += other.promoted;
        self.gates_closed += other.gates_closed;
        self.leaves += other.leaves;
        self.left += other.left;
        self.stayed += other.stayed;
        self.overdue += other.overdue;
        self.leave_max_ms = self.leave_max_ms.max(other.leave_max_ms);
        self.filled += other.filled;
        self.needed += other.needed;
        self.own_lost += other.own_lost;
        self.gives += other.gives;
        self.given += other.given;
        self.killed_at_moves += other.killed_at_moves;
        self.flaps += other.flaps;
        self.majority_lost += other.majority_lost;
        self.founded_anew += other.founded_anew;
        self.gone_before += other.gone_before;
        self.went_on_alone += other.went_on_alone;
        self.enrolled += other.enrolled;
        self.died_joining += other.died_joining;
        self.elections += other.elections;
        self.epochs += other.epochs;
        self.cost.add(&other.cost);
    }
}
