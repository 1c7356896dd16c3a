//! The clock of versions: a hybrid logical clock (Kulkarni et al., 2014) of 48 bits of
//! milliseconds and 16 bits of counter. Pure: the wall clock is an argument.

use crate::op::{Ms, Version};

/// How far ahead of the wall clock a received version may push this clock, in milliseconds. A
/// broken clock elsewhere cannot push it further.
pub const FORWARD_JUMP_MAX_MS: Ms = 60_000;

const COUNTER_BITS: u32 = 16;

/// Gives versions that strictly increase and are at least any version observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HybridClock {
    last: u64,
}

impl HybridClock {
    /// The next version. A wall clock that went backwards changes nothing: the counter goes on,
    /// and when it is used up it carries into the milliseconds.
    pub fn next(&mut self, wall: Ms) -> Version {
        self.last = (self.last + 1).max(wall << COUNTER_BITS);
        Version(self.last)
    }

    /// Takes note of a version that was received; one that is too far ahead counts as
    /// [`FORWARD_JUMP_MAX_MS`] ahead.
    pub fn observe(&mut self, version: Version, wall: Ms) {
        let most = (wall + FORWARD_JUMP_MAX_MS) << COUNTER_BITS;
        self.last = self.last.max(version.0.min(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn versions_strictly_increase_whatever_the_clocks_do(
            events in prop::collection::vec((any::<bool>(), 0u64..1 << 40, any::<u64>()), 1..200)
        ) {
            let mut clock = HybridClock::default();
            let mut last = Version(0);
            for (observe, wall, version) in events {
                if observe {
                    clock.observe(Version(version), wall);
                } else {
                    let next = clock.next(wall);
                    prop_assert!(next > last);
                    last = next;
                }
            }
        }
    }

    #[test]
    fn a_wall_clock_that_jumps_ahead_and_back_is_followed_once() {
        let mut clock = HybridClock::default();
        let (before, ahead) = (clock.next(1_000), clock.next(9_000_000));
        let after = clock.next(1_020);
        assert!(before < ahead && after.0 == ahead.0 + 1);
    }

    /// Nodes that take turns as the primary, and see each other's versions as copies do.
    #[test]
    fn versions_rise_over_promotions_while_wall_clocks_are_less_than_the_cap_apart() {
        for apart in [0, 1_000, FORWARD_JUMP_MAX_MS] {
            let mut clocks = [HybridClock::default(); 2];
            let mut last = Version(0);
            for turn in 0..20u64 {
                // The first node's clock is ahead.
                let walls = [100_000 + turn + apart, 100_000 + turn];
                let primary = (turn % 2) as usize;
                let version = clocks[primary].next(walls[primary]);
                assert!(version > last, "{apart} ms apart, turn {turn}");
                clocks[1 - primary].observe(version, walls[1 - primary]);
                last = version;
            }
        }
    }

    #[test]
    fn a_version_follows_what_was_observed() {
        let mut clock = HybridClock::default();
        clock.observe(Version((1_005 << 16) + 7), 1_000);
        assert_eq!(clock.next(1_000), Version((1_005 << 16) + 8));
    }

    #[test]
    fn a_forward_jump_is_capped() {
        let mut clock = HybridClock::default();
        clock.observe(Version(u64::MAX), 1_000);
        assert_eq!(clock.next(1_000).0 >> 16, 1_000 + FORWARD_JUMP_MAX_MS);
    }

    #[test]
    fn a_used_up_counter_carries_into_the_milliseconds() {
        let mut clock = HybridClock::default();
        clock.observe(Version((5 << 16) | 0xFFFF), 5);
        assert_eq!(clock.next(5), Version(6 << 16));
    }
}
