//! The allocator of the `lariat` binary, and how long it keeps memory that is free.
//!
//! The one place of the workspace with unsafe code: `mi_option_set_default` has no safe wrapper.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// mimalloc's `mi_option_purge_delay`, which the crate has no name for.
const PURGE_DELAY: c_int = 15;

/// For how many milliseconds free memory is kept. With mimalloc's own second a node has a fifth more
/// resident than `max_bytes` while large values come and go; the less, the more of them are put into memory that the
/// system has to clear again (docs/performance.md has both).
const KEPT_MS: c_long = 30;

/// Has memory that is free given back to the system soon, unless `MIMALLOC_PURGE_DELAY` says when.
/// To be called before there are other threads.
pub fn give_back_soon() {
    // SAFETY: the function stores a number in a static table after checking the index. It may not run
    // beside others that use the table; no other thread has been started.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT_MS) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn purge_delay() -> c_long {
        // SAFETY: a number is read from a static table after the index was checked; nothing writes to it.
        unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
    }

    /// Run by the other test, in a process of its own for each delay that is to come of it.
    #[test]
    fn the_delay_is_what_is_expected() {
        let Ok(expected) = std::env::var("LARIAT_EXPECTED_DELAY") else { return };
        give_back_soon();
        assert_eq!(purge_delay().to_string(), expected);
    }

    #[test]
    fn free_memory_is_kept_for_as_long_as_the_environment_says_or_the_default() {
        let tests = std::env::current_exe().expect("this program");
        let name = "allocator::tests::the_delay_is_what_is_expected";
        for (named, expected) in [(Some("4321"), 4321), (None, KEPT_MS)] {
            let mut child = Command::new(&tests);
            child.args(["--exact", name]).env("LARIAT_EXPECTED_DELAY", expected.to_string());
            match named {
                Some(named) => child.env("MIMALLOC_PURGE_DELAY", named),
                None => child.env_remove("MIMALLOC_PURGE_DELAY"),
            };
            let output = child.output().expect("it starts");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{expected}: {said}");
        }
    }
}
