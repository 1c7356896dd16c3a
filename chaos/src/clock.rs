//! Wall clocks that jump. Nodes run with libfaketime, which adds to the time that the C library gives
//! what a file says, one file a node; the tool rewrites it, and within a second the clock has jumped.
//!
//! Only the wall clock is altered. What lasts is measured by clocks that nobody sets: leases and
//! deadlines by `CLOCK_BOOTTIME`, mere patience by `CLOCK_MONOTONIC`. Of these libfaketime reaches the
//! second alone, since the first is not asked of the C library; it would take them apart as no machine
//! does. A node that stands still while these clocks go on is what pauses show.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, name};
use crate::fault::Harmed;
use crate::polite::{Writers, keys_of_all};
use crate::probe::victim;
use crate::steady::{Counted, Steadiness};

/// What is said where there is no libfaketime.
pub const MISSING: &str = "there is no libfaketimeMT.so.1 (apt-get install faketime)";
/// In seconds.
pub const HOUR: i64 = 3_600;

/// How many seconds two clocks are ahead, the victim's and the next node's, step by step: by an hour,
/// two hours apart, and to and fro by more than a lease and less than a minute, which is as far as the
/// version of another node is followed.
const STEPS: [[i64; 2]; 9] =
    [[HOUR, 0], [HOUR, -HOUR], [0, -HOUR], [-HOUR, 0], [0, 0], [5, 0], [0, 5], [5, 0], [0, 0]];
/// How long clients go on under each step.
const HELD: Duration = Duration::from_millis(500);
/// How long a clock may take to jump.
const JUMPS_WITHIN: Duration = Duration::from_secs(20);
/// A node that takes longer to tell its time is asked again: the smallest jump is five seconds.
const TELLS_WITHIN: Duration = Duration::from_secs(2);
/// Clocks that are closer than this tell the same.
const MARGIN_MS: i64 = 500;
const LOOK: Duration = Duration::from_millis(20);

/// The library, if the system has it.
pub fn library() -> Option<PathBuf> {
    let debian = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let places = [&*debian, "/usr/lib64", "/usr/lib", "/usr/local/lib"];
    let paths = places.map(|place| Path::new(place).join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.is_file())
}

/// The files by which the nodes' wall clocks go.
#[derive(Debug)]
pub struct Clocks {
    library: PathBuf,
    directory: PathBuf,
}

impl Clocks {
    /// Clocks of so many nodes, all of them right, with their files in this directory.
    ///
    /// # Errors
    /// There is no libfaketime.
    pub fn prepare(directory: &Path, nodes: usize) -> Result<Clocks> {
        let library = library().context(MISSING)?;
        let clocks = Clocks { library, directory: directory.to_owned() };
        (0..nodes).try_for_each(|node| clocks.set(node, 0))?;
        Ok(clocks)
    }

    /// Lets a node that is started by this command go by its file.
    pub fn rule(&self, node: usize, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file(node))
            // The file is read again by the first who asks for the time in a new second.
            .env("FAKETIME_CACHE_DURATION", "0")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            // Times of files are not its business.
            .env("NO_FAKE_STAT", "1");
    }

    /// A node's clock is so many seconds ahead from its next look at its file on.
    pub fn set(&self, node: usize, ahead_s: i64) -> Result<()> {
        let (file, new) = (self.file(node), self.file(node).with_extension("new"));
        std::fs::write(&new, format!("{ahead_s:+}\n"))?;
        // Nobody reads half of it.
        std::fs::rename(&new, &file).with_context(|| format!("cannot write {}", file.display()))
    }

    fn file(&self, node: usize) -> PathBuf {
        self.directory.join(format!("{}.clock", name(node)))
    }
}

/// Removes what the library shares with further processes that a process might start. It is made as
/// the process starts, nobody opens it later, and whoever is killed would leave it behind.
pub fn tidy(process: u32) {
    for file in [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")] {
        // It may have been removed before.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(file));
    }
}

/// A node's clock is so many seconds ahead from its next look on, or from its next start.
pub fn set(cluster: &Cluster, node: usize, ahead_s: i64) -> Result<()> {
    cluster.clocks.as_ref().context("the nodes' clocks are the machine's")?.set(node, ahead_s)
}

/// Waits until a node says itself that its clock is so many seconds ahead.
///
/// # Errors
/// It does not say so in time: the clock did not jump.
pub async fn ensure_jumped(cluster: &Cluster, node: usize, ahead_s: i64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let asked = now_ms()?;
        let told = cluster.client.wall_clock_ms(node, TELLS_WITHIN).await;
        let answered = now_ms()?;
        if told.is_some_and(|told| is_ahead(told, asked..=answered, ahead_s)) {
            return Ok(());
        }
        let seen = told.map_or("it is not told".to_owned(), |told| {
            format!("it is {} ms ahead", told - answered)
        });
        ensure!(
            begun.elapsed() < JUMPS_WITHIN,
            "the clock of {} did not jump to {ahead_s} s ahead: {seen}",
            name(node)
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Lets the clocks of two nodes jump to and fro. That costs nobody an answer, and no member its place.
/// The time without writes is the longest between two writes of one key.
pub async fn swing(cluster: &Cluster, round: usize) -> Result<Harmed> {
    let one = victim(cluster, round, None).await?;
    let both = [one, (one + 1) % cluster.processes.len()];
    let before = Counted::read(cluster).await?;
    let writers = Writers::start(&cluster.client, &keys_of_all(cluster, round).await?);
    for step in STEPS {
        for (node, ahead_s) in both.into_iter().zip(step) {
            set(cluster, node, ahead_s)?;
        }
        for (node, ahead_s) in both.into_iter().zip(step) {
            ensure_jumped(cluster, node, ahead_s).await?;
        }
        tokio::time::sleep(HELD).await;
    }
    let gap = writers.stop().await;
    let after = Counted::read(cluster).await?;
    let violations = Steadiness::between(&before, &after, &[]).violation().into_iter().collect();
    Ok(Harmed { gaps: vec![gap], violations, strikes: Vec::new() })
}

/// Does a clock that was read between two looks at ours go so many seconds ahead of it?
fn is_ahead(told_ms: i64, ours_ms: RangeInclusive<i64>, ahead_s: i64) -> bool {
    let right_ms = told_ms - ahead_s * 1_000;
    (ours_ms.start() - MARGIN_MS..=ours_ms.end() + MARGIN_MS).contains(&right_ms)
}

fn now_ms() -> Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("it is before 1970")?;
    Ok(i64::try_from(since.as_millis())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_if_it_was_read_between_two_looks_at_ours() {
        let ours = || 1_000_000..=1_002_000;
        assert!(is_ahead(1_001_000, ours(), 0) && is_ahead(1_006_000, ours(), 5));
        assert!(is_ahead(1_001_000 - HOUR * 1_000, ours(), -HOUR));
        assert!(!is_ahead(1_001_000, ours(), 5) && !is_ahead(1_006_000, ours(), 0));
        assert!(!is_ahead(1_001_000, ours(), HOUR));
    }

    #[test]
    fn a_program_has_the_time_that_its_file_says() {
        if library().is_none() {
            println!("{MISSING}: nothing is tested");
            return;
        }
        let directory = tempfile::tempdir().expect("a directory is made");
        let clocks = Clocks::prepare(directory.path(), 2).expect("the library is there");
        clocks.set(1, -HOUR).expect("it is written");
        for (node, ahead_s) in [(0, 0), (1, -HOUR)] {
            let mut command = Command::new("date");
            clocks.rule(node, command.arg("+%s%3N"));
            let asked = now_ms().expect("it is after 1970");
            let told = command.output().expect("there is a date").stdout;
            let told = String::from_utf8_lossy(&told).trim().parse().expect("it is a number");
            let answered = now_ms().expect("it is after 1970");
            assert!(is_ahead(told, asked..=answered, ahead_s), "{told}, ours {asked}");
        }
    }
}
