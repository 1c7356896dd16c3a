//! One fault, done several times to a cluster under load, and the verdict.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::check::allowance::{Allowance, Strike};
use crate::check::{self, Violation};
use crate::cluster::{Cluster, Shape};
use crate::digests;
use crate::evidence;
use crate::fault::{Harm, inflict};
use crate::history::{Door, Event};
use crate::links::Cut;
use crate::load::{self, Load};
use crate::polite;
use crate::report::{Gaps, Row};
use crate::steady::{Burn, Counted, Steadiness};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary.
    pub lariat: PathBuf,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// How long clients work at least, and how long harm is repeated without `kills`.
    pub time: Duration,
    /// What is done.
    pub harm: Harm,
    /// How links are cut, by faults that cut some.
    pub cut: Cut,
    /// Sent with each put and set in the file.
    pub acks: &'static str,
    /// How often the harm is done; otherwise until `time` is over.
    pub kills: Option<usize>,
    /// A pause between two turns of one client.
    pub pace: Duration,
    /// Use all the CPU there is meanwhile.
    pub burns: bool,
    /// Chooses the first victim, and what each client does to which key at which node.
    pub seed: u64,
    /// Through which ports clients ask.
    pub doors: &'static [Door],
    /// Where a failed run leaves its evidence, instead of the system's place for such things.
    pub evidence: Option<PathBuf>,
}

/// What came out.
#[derive(Debug)]
pub struct Outcome {
    /// Figures for the table.
    pub row: Row,
    /// What must not happen and did.
    pub violations: Vec<Violation>,
    /// What was done to whom.
    pub strikes: Vec<Strike>,
    /// Everything the clients saw.
    pub history: Vec<Event>,
    /// Where the evidence is, if there are violations.
    pub evidence: Option<PathBuf>,
}

/// Starts a cluster, harms it under load and judges what the clients saw.
///
/// # Errors
/// A fault that did not happen, or a cluster that did not become whole. The message names the
/// directory with the evidence.
pub async fn run(plan: &Plan) -> Result<Outcome> {
    println!("{:?}, acks {}: starting {} nodes", plan.harm, plan.acks, plan.nodes);
    let mut cluster = Cluster::prepare(&Shape {
        lariat: plan.lariat.clone(),
        nodes: plan.nodes,
        acks: plan.acks,
        has_links: plan.harm.cuts_links(),
        has_clocks: plan.harm.alters_clocks(),
        doors: plan.doors,
        place: plan.evidence.clone(),
    })?;
    let done = harm_and_judge(&mut cluster, plan).await;
    if done.as_ref().is_ok_and(|outcome| outcome.violations.is_empty()) {
        return done;
    }
    let kept = evidence::keep(&mut cluster, plan, &done).await?;
    match done {
        Ok(outcome) => Ok(Outcome { evidence: Some(kept), ..outcome }),
        Err(error) => Err(error.context(format!("evidence in {}", kept.display()))),
    }
}

async fn harm_and_judge(cluster: &mut Cluster, plan: &Plan) -> Result<Outcome> {
    let Plan { harm, acks, .. } = *plan;
    cluster.start().await?;
    let load = Load::start(&cluster.client, plan.seed, plan.pace);
    let counted = Counted::read(cluster).await?;
    let burn = plan.burns.then(Burn::start);
    let begun = Instant::now();
    let mut gaps = Gaps::default();
    let mut runs = 0;
    let mut seen = Vec::new();
    let mut strikes = Vec::new();
    while plan.kills.map_or(begun.elapsed() < plan.time, |kills| runs < kills) {
        let round = usize::try_from(plan.seed)?.wrapping_add(runs);
        cluster.ensure_no_evictions().await?;
        let harmed = inflict(cluster, harm, (round, plan.seed, plan.cut)).await?;
        seen.extend(harmed.violations);
        for gap in harmed.gaps {
            println!(
                "  {:>5.1} s: {harm:?}, {} ms without writes",
                begun.elapsed().as_secs_f64(),
                gap.as_millis()
            );
            gaps.add(gap);
        }
        strikes.extend(harmed.strikes);
        runs += 1;
        // Clients get some work done on the whole cluster.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(plan.time.saturating_sub(begun.elapsed())).await;
    load.stop().await;
    drop(burn);
    cluster.wait_until_whole().await?;
    let counted = (counted, Counted::read(cluster).await?);
    println!("  reading everything once more");
    load::read_all(&cluster.client, plan.seed).await?;
    let history = cluster.client.history();
    let mut violations = check::check(&history);
    violations.extend(seen);
    if harm.answers_all() {
        violations.extend(polite::unanswered(&history));
    }
    let is_steady = harm == Harm::None;
    let steadiness = is_steady.then(|| Steadiness::between(&counted.0, &counted.1, &history));
    violations.extend(steadiness.as_ref().and_then(Steadiness::violation));
    println!("  comparing copies");
    violations.extend(digests::compare(cluster, &history).await?);
    cluster.ensure_no_evictions().await?;
    let row = Row { steadiness, ..Row::new(harm, acks, runs, &history, &violations, &gaps) };
    let allowance = Allowance { is_async: acks == "async", strikes };
    violations.retain(|violation| !allowance.explains(violation));
    Ok(Outcome { row, violations, strikes: allowance.strikes, history, evidence: None })
}
