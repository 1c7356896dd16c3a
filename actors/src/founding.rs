//! The first map: who founds the cluster, and with whom.
//!
//! A node that has no map founds nothing while a map may exist that it has not heard of. So every
//! node of the cluster file has to answer that it has none, or its port has to refuse; those that
//! answer have to be a majority of the file; and all of them have to agree to the same founder, the
//! first of them in the file. A node agrees to one founder at a time, for a bounded time, and only after it has
//! listened for two leases and a tenth of each: members of a live cluster dial listed nodes for ever,
//! so one would have been heard of by then.

use std::collections::BTreeSet;

use crate::lease::waited_out;
use crate::map::{NodeIx, VOTERS_MAX};
use crate::op::Ms;

/// How long a node stands by a founder after it was asked last.
pub const PROMISE_MS: Ms = 2_000;

/// How long a founder counts on a promise, from when it asked: less than it lasts.
pub const COUNTS_MS: Ms = 1_000;

/// How long a node listens before it founds a cluster, or agrees to a founder: a request for a
/// connection that was sent before it could answer is given up after a lease, and the next comes
/// within another, or where leases are short within [`COMES_AGAIN_MS`].
pub fn listens_ms(lease_ms: Ms) -> Ms {
    (2 * waited_out(lease_ms)).max(lease_ms + COMES_AGAIN_MS)
}

/// The longest wait between two connection requests to a node (150 ms), and some time to shake hands.
const COMES_AGAIN_MS: Ms = 200;

/// What is known of another node of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It neither answers nor refuses.
    Silent {
        /// For how long.
        for_ms: Ms,
    },
    /// Its port refuses, or an operator says that it will not come back.
    Absent,
    /// It says that it has no map.
    WithoutMap,
    /// It has a map.
    WithMap,
}

/// What a node without a map does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask to join the cluster of a node that has a map.
    Join,
    /// Ask all of these to agree, and found the cluster with them; this node is one of them.
    Found(Vec<NodeIx>),
    /// Wait for the first of those that answer to found it.
    WaitFor(NodeIx),
    /// Wait for these, which are silent.
    Silent(Vec<NodeIx>),
    /// Wait until a majority of the file answers.
    TooFew {
        /// How many do, this node included.
        answer: usize,
        /// How many are needed.
        needed: usize,
    },
    /// Wait until it has listened for long enough.
    Listen,
    /// Wait for others to found it: this node is not in the cluster file.
    Outside,
}

/// The times and the policy that decide.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The lease.
    pub lease_ms: Ms,
    /// With `minority = "available"`: the silence after which a node counts as absent.
    pub silence_max_ms: Option<Ms>,
}

/// The next step of node `me`, which has listened for `listening_ms`. `known` has one entry a node
/// of the file; that of `me` is ignored.
pub fn step(me: NodeIx, known: &[Known], listening_ms: Ms, rules: Rules) -> Step {
    let others = || {
        let all = known.iter().enumerate().map(|(node, known)| (NodeIx(node as u16), *known));
        all.filter(|(node, _)| *node != me)
    };
    if others().any(|(_, known)| known == Known::WithMap) {
        return Step::Join;
    }
    if listening_ms <= listens_ms(rules.lease_ms) {
        return Step::Listen;
    }
    let is_silent = |known: Known| match known {
        Known::Silent { for_ms } => rules.silence_max_ms.is_none_or(|max| for_ms <= max),
        _ => false,
    };
    let silent: Vec<NodeIx> =
        others().filter(|(_, known)| is_silent(*known)).map(|(node, _)| node).collect();
    if !silent.is_empty() {
        return Step::Silent(silent);
    }
    let answers = |node: NodeIx| known[usize::from(node.0)] == Known::WithoutMap || node == me;
    let with: Vec<NodeIx> =
        (0..known.len() as u16).map(NodeIx).filter(|&node| answers(node)).collect();
    // Whoever chose availability founds with whom there is.
    let needed = if rules.silence_max_ms.is_some() { 1 } else { known.len() / 2 + 1 };
    if with.len() < needed {
        return Step::TooFew { answer: with.len(), needed };
    }
    match with[0] {
        first if first == me => Step::Found(with),
        first => Step::WaitFor(first),
    }
}

/// [`step`] where nodes may have joined that are not in the file, which lists the first `listed` of
/// `known`. They found nothing and nobody waits for them; but whoever hears of a map, from them too,
/// joins it.
pub fn step_beside(
    me: NodeIx,
    known: &[Known],
    listed: usize,
    listening_ms: Ms,
    rules: Rules,
) -> Step {
    let (file, _) = known.split_at(listed.min(known.len()));
    let is_other = |node: usize| node != usize::from(me.0);
    if known.iter().enumerate().any(|(node, k)| is_other(node) && *k == Known::WithMap) {
        return Step::Join;
    }
    if usize::from(me.0) >= listed {
        return Step::Outside;
    }
    step(me, file, listening_ms, rules)
}

/// Does a node agree to a founder? `agreed` is the start it has agreed to before, if that is not
/// known to be gone.
pub fn agrees(
    has_map: bool,
    listening_ms: Ms,
    lease_ms: Ms,
    agreed: Option<(NodeIx, u64)>,
    founder: (NodeIx, u64),
) -> bool {
    let is_free = agreed.is_none_or(|other| other == founder);
    !has_map && listening_ms > listens_ms(lease_ms) && is_free
}

/// The first voters of a cluster that `me` founds with these `others`, who have agreed to it: an odd
/// number where there are more than two, at most [`VOTERS_MAX`], and the founder is one. Who does not
/// vote joins.
pub fn first_voters<Id: Copy + Ord>(me: Id, others: &BTreeSet<Id>) -> BTreeSet<Id> {
    let all = others.len() + 1;
    let count = all - usize::from(all > 2 && all.is_multiple_of(2));
    others.iter().copied().take(count.min(VOTERS_MAX) - 1).chain([me]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { lease_ms: 250, silence_max_ms: None };
    const SILENT: Known = Known::Silent { for_ms: 60_000 };

    fn nodes(of: &[u16]) -> Vec<NodeIx> {
        of.iter().copied().map(NodeIx).collect()
    }

    fn next(me: u16, known: &[Known]) -> Step {
        step(NodeIx(me), known, 551, RULES)
    }

    #[test]
    fn the_first_that_answers_founds_with_all_that_do() {
        use Known::{Absent, WithoutMap};
        assert_eq!(next(0, &[WithoutMap; 3]), Step::Found(nodes(&[0, 1, 2])));
        assert_eq!(next(2, &[WithoutMap; 3]), Step::WaitFor(NodeIx(0)));
        assert_eq!(next(1, &[Absent, SILENT, WithoutMap]), Step::Found(nodes(&[1, 2])));
        let few = Step::TooFew { answer: 2, needed: 3 };
        assert_eq!(next(1, &[Absent, SILENT, WithoutMap, Absent, Absent]), few);
    }

    #[test]
    fn a_silent_node_blocks_it_and_is_named() {
        let known = [Known::WithoutMap, SILENT, Known::WithoutMap];
        assert_eq!(next(0, &known), Step::Silent(nodes(&[1])));
        let patient = Rules { silence_max_ms: Some(1_000), ..RULES };
        assert_eq!(step(NodeIx(0), &known, 551, patient), Step::Found(nodes(&[0, 2])));
        let known = [Known::WithoutMap, Known::Silent { for_ms: 1_000 }, Known::WithoutMap];
        assert_eq!(step(NodeIx(0), &known, 551, patient), Step::Silent(nodes(&[1])));
    }

    #[test]
    fn whoever_hears_of_a_map_joins_it_whatever_else_it_knows() {
        let known = [Known::WithoutMap, SILENT, Known::WithMap];
        assert_eq!(step(NodeIx(0), &known, 0, RULES), Step::Join);
    }

    #[test]
    fn nothing_is_founded_before_two_leases_of_listening() {
        assert_eq!(step(NodeIx(0), &[Known::WithoutMap; 3], 550, RULES), Step::Listen);
        let founder = (NodeIx(0), 7);
        assert!(!agrees(false, 550, 250, None, founder));
        assert!(agrees(false, 551, 250, None, founder));
    }

    #[test]
    fn whoever_is_not_in_the_file_founds_nothing_and_is_not_waited_for_but_heard_of() {
        use Known::{Absent, WithMap, WithoutMap};
        let beside = |me, known: &[Known]| step_beside(NodeIx(me), known, 3, 551, RULES);
        for other in [WithoutMap, SILENT, Absent] {
            let known = [WithoutMap, WithoutMap, WithoutMap, other, other];
            assert_eq!(beside(0, &known), Step::Found(nodes(&[0, 1, 2])));
            assert_eq!(beside(3, &known), Step::Outside);
        }
        // Two that joined do not make up for two of the file.
        let known = [WithoutMap, Absent, Absent, WithoutMap, WithoutMap];
        assert_eq!(beside(0, &known), Step::TooFew { answer: 1, needed: 2 });
        let known = [WithoutMap, WithoutMap, SILENT, SILENT, WithMap];
        assert_eq!((beside(0, &known), beside(3, &known)), (Step::Join, Step::Join));
        // What a node that runs knows of itself does not count.
        let known = [WithoutMap, WithoutMap, WithoutMap, WithMap];
        assert_eq!(beside(3, &known), Step::Outside);
    }

    #[test]
    fn a_node_agrees_to_one_founder_and_to_none_once_it_has_a_map() {
        let founder = (NodeIx(0), 7);
        assert!(agrees(false, 1_000, 250, Some(founder), founder));
        assert!(!agrees(false, 1_000, 250, Some((NodeIx(0), 6)), founder));
        assert!(!agrees(false, 1_000, 250, Some((NodeIx(1), 7)), founder));
        assert!(!agrees(true, 1_000, 250, None, founder));
    }

    #[test]
    fn the_first_voters_are_odd_in_number_and_the_founder_is_one_whatever_its_start() {
        let counts = [1, 2, 3, 3, 5, 5, 5, 5, 5];
        for (all, wanted) in (1_u16..).zip(counts) {
            for me in 0..all {
                let others = (0..all).filter(|&id| id != me).collect();
                let voters = first_voters(me, &others);
                assert_eq!((voters.len(), voters.contains(&me)), (wanted, true), "{me} of {all}");
            }
        }
    }

    #[test]
    fn two_groups_that_do_not_see_each_other_cannot_both_found() {
        for size in 3..=7_usize {
            for group in 0..1_u32 << size {
                let founds = |mask: u32| {
                    let in_it = |node: usize| mask & (1 << node) != 0;
                    let known: Vec<Known> = (0..size)
                        .map(|n| if in_it(n) { Known::WithoutMap } else { Known::Absent })
                        .collect();
                    (0..size)
                        .filter(|&n| in_it(n))
                        .any(|me| matches!(next(me as u16, &known), Step::Found(_)))
                };
                assert!(!(founds(group) && founds(!group & ((1 << size) - 1))), "{group:b}");
            }
        }
    }
}
