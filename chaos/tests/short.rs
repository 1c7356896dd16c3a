//! A short run against real processes.
//!
//! `LARIAT_BIN` names the binary, otherwise it is looked for beside this test; without one the
//! test steps aside, or fails where `LARIAT_REQUIRE` has `lariat`. So do faults of clocks without libfaketime, or fail where it
//! has `faketime`. `LARIAT_CHAOS_SECONDS` is how long each fault's clients work.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use lariat_chaos::check::{Violation, check};
use lariat_chaos::clock;
use lariat_chaos::fault::Harm;
use lariat_chaos::history::{Door, Event};
use lariat_chaos::links::Cut;
use lariat_chaos::plant::{Bug, plant};
use lariat_chaos::run::{Plan, run};

/// Those that take seconds; the others are for longer runs.
const FAULTS: &[Harm] = &[
    Harm::None,
    Harm::Kill,
    Harm::Coordinator,
    Harm::Restart,
    Harm::Pause1,
    Harm::Panic,
    Harm::TwoInSequence,
    Harm::Cut,
    Harm::CutOneWay,
    Harm::Bridge,
    Harm::Flap,
    Harm::Rolling,
    Harm::DrainBack,
    Harm::KillCoordinating,
    Harm::Join,
    Harm::KillJoining,
    Harm::Clock,
];

fn lariat() -> Option<PathBuf> {
    let named = std::env::var_os("LARIAT_BIN").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("lariat"));
    named.or_else(beside).filter(|path| path.is_file())
}

fn plan(lariat: PathBuf, harm: Harm) -> Plan {
    let seconds = std::env::var("LARIAT_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Plan {
        lariat,
        nodes: 3,
        time: Duration::from_secs(seconds.unwrap_or(8)),
        harm,
        cut: Cut::Silence,
        pace: Duration::from_millis(4),
        burns: false,
        acks: "all",
        kills: None,
        seed: 1,
        doors: &[Door::Http],
        evidence: None,
    }
}

#[test]
fn a_failed_run_names_the_directory_with_its_evidence() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let place = tempfile::tempdir().expect("there is a place for temporary files");
    // Its nodes end at once.
    let plan =
        Plan { evidence: Some(place.path().into()), ..plan("/bin/false".into(), Harm::Kill) };
    let error = runtime.block_on(run(&plan)).expect_err("the nodes end by themselves");
    let told = format!("{error:#}");
    let kept = place.path().read_dir().expect("it is there").flatten().next();
    let kept = kept.expect("the directory is kept").path();
    assert!(told.contains(&*kept.to_string_lossy()), "{told}");
    for file in ["cluster.toml", "node-1.log", "history.jsonl", "run.json"] {
        assert!(kept.join(file).is_file(), "{file} is missing");
    }
}

#[test]
fn clients_of_a_harmed_cluster_see_nothing_wrong() {
    let Some(lariat) = lariat() else {
        step_aside("lariat", "no lariat binary beside this test and none in LARIAT_BIN");
        return;
    };
    let mut faults = FAULTS.to_vec();
    if clock::library().is_none() {
        step_aside("faketime", clock::MISSING);
        faults.retain(|harm| !harm.alters_clocks());
    }
    let redis =
        Plan { doors: &[Door::Redis, Door::RedisCluster], ..plan(lariat.clone(), Harm::Kill) };
    let plans = faults.into_iter().map(|harm| plan(lariat.clone(), harm));
    let plans = Mutex::new(plans.chain([redis]));
    // Clusters wait more than they work: two at a time.
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let next = || plans.lock().expect("nobody panics over it").next();
                while let Some(plan) = next() {
                    sees_nothing_wrong(&plan);
                }
            });
        }
    });
}

/// What is needed is missing: says so, and fails where `LARIAT_REQUIRE` (names with commas) has it.
fn step_aside(name: &str, why: &str) {
    let required = std::env::var("LARIAT_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|one| one == name);
    assert!(!is_required, "{why}, and LARIAT_REQUIRE has {name}");
    println!("{why}: what needs it is left out");
}

fn sees_nothing_wrong(plan: &Plan) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let outcome = runtime.block_on(run(plan)).expect("the run ends and its fault happened");
    let (harm, evidence) = (plan.harm, &outcome.evidence);
    assert_eq!(outcome.violations, [], "{harm:?}, evidence in {evidence:?}");
    assert!(outcome.row.acknowledged > 100, "{:?}", outcome.row);
    if harm == Harm::Kill {
        planted_bugs_are_found(&outcome.history, plan.seed);
    }
}

/// Whoever finds nothing in a history has to find what was altered in it.
fn planted_bugs_are_found(history: &[Event], seed: u64) {
    for bug in Bug::ALL {
        let mut planted = history.to_vec();
        let key = plant(&mut planted, bug, seed).expect("there is an event that fits");
        let found = check(&planted);
        let is_it = |violation: &Violation| violation.fault == bug.shows_as();
        assert!(found.iter().any(is_it), "{bug:?} of {key}: {found:?}");
        assert!(found.iter().all(|violation| violation.key == key), "{bug:?} of {key}: {found:?}");
    }
}
