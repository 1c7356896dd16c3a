//! When a node asks for an election.

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{AsyncContext, Context};

use super::governing::Governing;
use super::{Supervisor, TICK_MS};
use crate::agreement::{ELECTION_SPREAD_MS, LEASE_MS};
use crate::lease::waited_out;
use crate::op::Ms;

const _: () = assert!(TICK_MS < ELECTION_SPREAD_MS);

/// How much longer than a lease a node waits for its leader, so that not all ask at once.
fn election_wait() -> Ms {
    rand::random_range(0..=ELECTION_SPREAD_MS)
}

impl Supervisor {
    /// Asks for an election when the leader has been silent for too long.
    pub(super) fn elect(&mut self, now: Ms, ctx: &mut Context<Self>) {
        let Some(Governing { era: Some(era), .. }) = &mut self.governing else { return };
        let silence = era.agreement.leader_silence_ms();
        if silence <= waited_out(LEASE_MS) {
            era.election_wait = None;
            return;
        }
        // Another for each silence: with one that is kept the same node would be elected every time.
        let wait = era.election_wait.get_or_insert_with(election_wait);
        let is_due = now >= era.elect_at && silence > waited_out(LEASE_MS) + *wait;
        if era.is_electing || !is_due {
            return;
        }
        era.is_electing = true;
        let agreement = era.agreement.clone();
        let me = agreement.me();
        let electing = async move { agreement.elect().await };
        ctx.spawn(electing.into_actor(self).map(move |result, supervisor, _ctx| {
            let now = supervisor.shared.clock.now();
            let node = supervisor.shared.id.clone();
            if let Some(era) = supervisor.era_of(me) {
                era.is_electing = false;
                era.election_wait = None;
                era.elect_at = now + election_wait();
                match result {
                    Ok(()) => {
                        tracing::info!(%node, "the coordinator is silent, asking for an election")
                    }
                    Err(error) => tracing::debug!(%node, %error, "no election"),
                }
            }
        }));
    }
}
