//! Mistakes that are planted one at a time: the simulation has to find each, and nothing without.

use super::faults::Faults;
use super::report::Bug;
use super::world::Shape;
use super::{MANY, run};

/// Every mistake is found by the first few hundred seeds of its configuration.
const SEEDS_MAX: u64 = 600;

const FIVE: Shape = Shape {
    nodes: 5,
    joining: 0,
    copies: 3,
    slots: 12,
    length_ms: 25_000,
    settle_ms: 8_000,
    request_every_ms: 4,
    async_percent: 0,
    min_copies: 1,
};

const THREE: Shape = Shape { nodes: 3, copies: 2, slots: 8, length_ms: 12_000, ..FIVE };

/// Every fault, one after the other.
const IN_TURN: Faults =
    Faults { pauses: 4, kills: 3, partitions: 3, shard_crashes: 2, bridges: true, ..MANY };

/// All at once, and many broken connections: imports are under way only while something is amiss.
const RESTLESS: Faults = Faults { breaks: 30, kills: 6, one_at_a_time: false, ..IN_TURN };

/// Nodes that stand still and die while others do.
const QUICK: Faults = Faults { kills: 6, pauses: 6, one_at_a_time: false, ..Faults::none() };

const CUTS: Faults = Faults { partitions: 6, pauses: 4, kills: 2, bridges: true, ..Faults::none() };

/// Heartbeats and answers get lost so often that nodes are taken out that still have a lease.
const LOSSY: Faults =
    Faults { loss_percent: 40, late_percent: 20, one_at_a_time: false, ..Faults::none() };

/// Slots wander, and nodes die and stand still meanwhile.
const WANDERING: Faults = Faults { gives_permille: 20, ..IN_TURN };

/// Slots wander, while connections break and copies lack what is to be sent again.
const TORN: Faults = Faults { breaks: 20, ..WANDERING };

/// Nodes leave, stay after all, and start again.
const LEAVING: Faults = Faults { moves: true, rollings: 3, stays: 2, ..Faults::none() };

/// Shards hang, and wake when their slots are elsewhere.
const HANGING: Faults = Faults { stalls: 4, ..Faults::none() };

/// Slots wander, and whoever has to do with that dies.
const AIMED: Faults = Faults { gives_permille: 5, kills_at_moves: 4, ..Faults::none() };

/// Most of the voters end at once.
const ENDING: Faults = Faults { majorities: 3, drift: true, ..Faults::none() };

/// Nodes that no file lists die while they join, and what they ask and are told comes late.
const DOOMED: Faults =
    Faults { joiner_deaths_percent: 20, loss_percent: 10, late_percent: 20, ..Faults::none() };

fn configuration(bug: Bug) -> (Shape, Faults) {
    match bug {
        Bug::SilentVotersCountAsEnded => (THREE, CUTS),
        Bug::GoesOnWithoutItsMajority
        | Bug::AnotherStartKeepsItsSlots
        | Bug::FoundsBesideTheSilent => (FIVE, ENDING),
        // A start that nobody has heard of yet is sent what was meant for the one before.
        Bug::FollowsAnyCluster => (THREE, Faults { kills: 8, one_at_a_time: false, ..ENDING }),
        Bug::StartsBeforeItIsListed => (super::JOINING, DOOMED),
        // A member stands still while it is asked, and has no lease when it wakes.
        Bug::LateQuestionEndsANewStart => {
            (super::JOINING, Faults { pauses: 12, one_at_a_time: false, ..DOOMED })
        }
        Bug::LateImportAccepted => (FIVE, RESTLESS),
        // Whoever fills a copy dies before it has all.
        Bug::PromotedThoughNotInSync => (
            Shape { copies: 2, ..FIVE },
            Faults { kills: 4, kills_at_moves: 8, one_at_a_time: false, ..Faults::none() },
        ),
        Bug::NoWaitForTheLease => (FIVE, LOSSY),
        Bug::ServesWhileGiving | Bug::ResumesOnAnyMap => (THREE, WANDERING),
        Bug::HandedBeforeAll | Bug::LeavesBeforeItHoldsNothing | Bug::LeaverIsFilled => {
            (THREE, LEAVING)
        }
        Bug::SilentForEver => {
            (super::WHILE_LEAVING, Faults { one_at_a_time: false, ..super::LEAVING })
        }
        Bug::CallersMapForFanOut
        | Bug::NoWaitForProposedCopy
        | Bug::ClockStandsStillWithTheProcess => (FIVE, QUICK),
        // An acknowledgement counts that was late, while its sender elects another.
        Bug::QuorumFromReceipt => (THREE, Faults { late_percent: 10, ..CUTS }),
        Bug::GapTaken => (THREE, Faults { breaks: 12, ..Faults::none() }),
        Bug::RowsOfAnOlderStart | Bug::AnswersWhoeverAsks => (THREE, IN_TURN),
        Bug::GateLeftOpen => (THREE, HANGING),
        // Where nobody has a copy nobody is waited for.
        Bug::NoSecondLook => (Shape { copies: 1, ..THREE }, HANGING),
        Bug::GivesBeforeItIsSettled | Bug::GivesBeforeAsyncIsThere => {
            (Shape { async_percent: 50, ..THREE }, TORN)
        }
        Bug::FloorForgotten => (Shape { min_copies: 2, ..THREE }, IN_TURN),
        Bug::ForgetsWhatItGives => (THREE, AIMED),
        Bug::LeaseFromReceipt
        | Bug::CopyCallsItselfInSync
        | Bug::FreshShardKeepsItsRows
        | Bug::PutTriedAgainAfterMaybe
        | Bug::WokenCoordinatorAnswers
        | Bug::PromotedWithoutComparing
        | Bug::VotesAtOnce => (FIVE, IN_TURN),
    }
}

/// What is wrong with a run. Two nodes that are gone at once may take acknowledged writes along; one
/// must not, where there are copies.
fn wrong(shape: Shape, faults: Faults, bug: Option<Bug>, seed: u64) -> Option<String> {
    let only_leave = faults == LEAVING;
    match run(shape, faults, bug, seed, false) {
        Err(why) => Some(why),
        Ok(report) if report.lost > 0 && faults.one_at_a_time && shape.copies > 1 => {
            Some(format!("{} acknowledged writes lost", report.lost))
        }
        // Nobody dies here that has not given everything away, and nothing keeps anybody from it.
        Ok(report) if report.own_lost > 0 && only_leave => {
            Some(format!("{} entries kept in one copy lost", report.own_lost))
        }
        Ok(report) if report.overdue > 0 && only_leave => {
            Some(format!("{} nodes did not leave in time", report.overdue))
        }
        Ok(_) => None,
    }
}

fn are_caught(bugs: &[Bug]) {
    for &bug in bugs {
        let (shape, faults) = configuration(bug);
        let caught =
            (0..SEEDS_MAX).find_map(|seed| Some((seed, wrong(shape, faults, Some(bug), seed)?)));
        let Some((seed, why)) = caught else { panic!("{bug:?} was not caught") };
        println!("{bug:?}: seed {seed}: {}", why.lines().next().unwrap_or_default());
        for seed in 0..=seed {
            if let Some(why) = wrong(shape, faults, None, seed) {
                panic!("without {bug:?}: seed {seed}: {why}");
            }
        }
    }
}

/// In two parts, for two cores.
#[test]
fn planted_mistakes_are_caught() {
    are_caught(&Bug::ALL[..Bug::ALL.len() / 3]);
}

#[test]
fn other_planted_mistakes_are_caught() {
    are_caught(&Bug::ALL[Bug::ALL.len() / 3..]);
}
