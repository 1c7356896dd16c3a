//! Panics of nodes in this process: a hook keeps those that no test asked for.

use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::{Mutex, Once, PoisonError};

/// What panicked on threads of nodes: thread, place, message.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps panics from now on.
pub fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            note(info);
            before(info);
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    // The names of tests are paths, and their runtimes have threads of tokio's.
    let name = thread.name().unwrap_or("no name");
    let is_test = name.contains("::") || name.starts_with("tokio");
    let message = info.to_string();
    if !is_test && !message.contains("was asked to panic") {
        SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {message}"));
    }
}

/// Asserts that no node of any test has panicked since the first [`watch`].
pub fn assert_none() {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(seen.is_empty(), "nodes have panicked:\n{}", seen.join("\n"));
}
