//! Kills aimed at a moment of a move, which may be over within milliseconds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::check::allowance::Strike;
use crate::cluster::{Cluster, name};
use crate::polite::LOOK;
use crate::strike;

/// A move that does not end, one way or the other, is not going on.
const MOVES_WITHIN: Duration = Duration::from_secs(40);

/// What shows that a move goes on: how many slots a node has in one role.
#[derive(Clone, Copy, Debug)]
pub enum Moving {
    /// The node's slots are being filled, until it is the primary of so many.
    Filling(f64),
    /// The node gives its slots away: it is the primary of fewer than these, and of some.
    Giving(f64),
}

impl Moving {
    fn role(self) -> &'static str {
        match self {
            Moving::Filling(_) => "importing",
            Moving::Giving(_) => "primary",
        }
    }

    fn goes_on(self, slots: f64) -> bool {
        match self {
            Moving::Filling(_) => slots > 0.0,
            Moving::Giving(of) => slots > 0.0 && slots < of,
        }
    }

    fn is_over(self, primary: f64) -> bool {
        match self {
            Moving::Filling(share) => primary >= share,
            Moving::Giving(_) => primary == 0.0,
        }
    }
}

/// Kills `victim` while slots of `node` move. What the node says of its move is over by the time
/// that the victim would be dead, so the victim is stopped first: if the move goes on by what the
/// others say then, it is killed as it stands, and otherwise goes on and is tried again.
///
/// Gives what was done to the victim, and whether it was killed: the move may be over first.
pub async fn kill_while(
    cluster: &mut Cluster,
    victim: usize,
    node: usize,
    moving: Moving,
) -> Result<(Vec<Strike>, bool)> {
    let begun = Instant::now();
    let (role, mut strikes) = (moving.role(), Vec::new());
    loop {
        ensure!(begun.elapsed() < MOVES_WITHIN, "no end to {moving:?} of {}", name(node));
        // A node that has just been started does not answer yet.
        if !cluster.slots(node, role).await.is_ok_and(|slots| moving.goes_on(slots)) {
            if cluster.slots(node, "primary").await.is_ok_and(|slots| moving.is_over(slots)) {
                return Ok((strikes, false));
            }
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let mut strike = strike::now(cluster, victim);
        let process = cluster.processes[victim].as_ref().context("the victim runs")?;
        process.freeze(MOVES_WITHIN).await.with_context(|| name(victim))?;
        let told = cluster.told(node, &[node, victim]).await;
        let slots = told[format!("slots_{role}")].as_f64().unwrap_or_default();
        let process = cluster.processes[victim].as_mut().context("the victim runs")?;
        strike.has_ended = moving.goes_on(slots);
        if strike.has_ended {
            process.kill()?;
            println!("  {} died, {} {role} in {slots} slots", name(victim), name(node));
        } else {
            process.signal(Signal::CONT)?;
        }
        strike::after(&mut strike, cluster).await;
        let is_killed = strike.has_ended;
        strikes.push(strike);
        if is_killed {
            return Ok((strikes, true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_goes_on_while_slots_are_on_their_way() {
        let (filling, giving) = (Moving::Filling(9.0), Moving::Giving(9.0));
        assert_eq!([0.0, 1.0].map(|slots| filling.goes_on(slots)), [false, true]);
        assert_eq!(
            [0.0, 1.0, 8.0, 9.0].map(|slots| giving.goes_on(slots)),
            [false, true, true, false]
        );
        assert_eq!([8.0, 9.0, 10.0].map(|primary| filling.is_over(primary)), [false, true, true]);
        assert_eq!([0.0, 1.0].map(|primary| giving.is_over(primary)), [true, false]);
    }
}
