//! How much of a listing goes into one message, for the shards' threads to have their turns.

/// Slots asked at a time: few at first, more while they turn out empty.
pub const WINDOW_FIRST: usize = 16;
const WINDOW_MAX: usize = 1_024;

/// Entries that are looked at, or removed, for one message: a shard's thread has others to serve.
const ENTRIES_PER_MESSAGE: u64 = 1_024;

/// Keys that a slot gives at a time.
pub const KEYS_PER_STEP: u32 = 1_000;

/// How many slots are asked at a time on a node that has so many entries in `mine` slots, for one
/// message to be about [`ENTRIES_PER_MESSAGE`]; a slot is some work too. One that has no slots
/// knows nothing.
pub fn window_of(entries: u64, mine: u64) -> usize {
    let slots = (ENTRIES_PER_MESSAGE * mine).checked_div(entries + mine);
    slots.map_or(WINDOW_FIRST, |slots| (slots as usize).clamp(1, WINDOW_MAX))
}

/// How many keys each of so many slots gives: twice what one message is to be, so that slots which
/// are about as full as others give all, and those that are much fuller don't make it long.
pub fn keys_per_slot(slots: usize) -> u32 {
    (2 * ENTRIES_PER_MESSAGE as u32 / slots as u32).clamp(1, KEYS_PER_STEP)
}

#[cfg(test)]
mod tests {
    use lariat_actors::slot::SLOTS;

    use super::*;

    #[test]
    fn a_message_is_about_as_many_entries_however_full_slots_are() {
        let all = u64::from(SLOTS);
        for (mine, each) in [(all, 0), (all, 1), (all, 60), (all / 3, 1_000), (1, 1_000_000)] {
            let window = window_of(mine * each, mine);
            assert!((1..=WINDOW_MAX).contains(&window));
            let visited = window as u64 * each;
            assert!(visited <= ENTRIES_PER_MESSAGE || window == 1, "{visited} of {each} each");
            assert!(window as u64 * (each + 1) > ENTRIES_PER_MESSAGE / 2, "{window} for {each}");
            // Nor are they many more where slots are not alike.
            let most = window as u64 * u64::from(keys_per_slot(window));
            assert!(most <= 2 * ENTRIES_PER_MESSAGE, "{most} for {each}");
        }
        assert_eq!(window_of(0, 0), WINDOW_FIRST);
        assert_eq!(keys_per_slot(1), KEYS_PER_STEP);
    }
}
