//! The `lariat` command.

use std::process::ExitCode;

mod allocator;
mod cli;

fn main() -> ExitCode {
    allocator::give_back_soon();
    use_small_pages();
    allow_open_files();
    cli::run()
}

/// Keeps the kernel from backing the heap with huge pages, for which mimalloc asks: clearing one
/// stalls a shard for milliseconds while its cache grows, and a quarter of the memory goes unused
/// (docs/performance.md). Where it is refused, the node works all the same.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Lifts the limit of open files from the customary 1,024 to what the system allows at most: every
/// connection takes one, and `max_connections` is 10,000 by default.
fn allow_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}
