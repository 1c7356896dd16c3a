//! Becoming listed, before a node that is not in the cluster file starts: it asks members until the
//! map lists it, and learns who else there is. From then on it starts as a node of the file does.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::thread;
use std::time::{Duration, Instant};

use super::{StartError, copies};
use crate::control::enrolling::Enrolling;
use crate::control::{Enrol, Enrolled, Standing};
use crate::handshake::{HandshakeError, Refusal};
use crate::joining::Refused;
use crate::map::Member;
use crate::peer::{ConnectError, Params};
use crate::spec::{Joining, NodeSpec, max_frame};

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Questions to one member before the next is tried.
const ASKS_MAX: usize = 20;

/// Between two lines in the log about what is waited for.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// How long an earlier start of this node, with other addresses, may take to be taken out.
const ALIVE_PATIENCE: Duration = Duration::from_secs(10);

/// The nodes of the cluster file, and all others, this node among them.
type Lists = (Vec<Member>, Vec<Member>);

/// What one member said.
enum Said {
    Listed(Lists),
    /// Try again, or another one.
    Later(String),
    Never(String),
}

/// Has a node that is not in the cluster file listed; gives its specification with the nodes of the
/// file, and the nodes that are not in it. Waits for as long as it takes; blocks.
pub(super) fn enrol(spec: NodeSpec) -> Result<(NodeSpec, Vec<Member>), StartError> {
    let Some(joining) = spec.joining.clone() else { return Ok((spec, Vec::new())) };
    // The caller's thread may have a runtime of its own.
    let asked = thread::scope(|scope| scope.spawn(|| ask_until_listed(&spec, &joining)).join());
    let failed = || StartError::Threads("the thread that asks to join panicked".into());
    let (listed, added) = asked.map_err(|_| failed())??;
    tracing::info!(node = %spec.id, members = listed.len() + added.len(), "this node is listed");
    let members = listed.iter().map(Member::details).collect();
    Ok((NodeSpec { members, ..spec }, added))
}

fn ask_until_listed(spec: &NodeSpec, joining: &Joining) -> Result<Lists, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let params = params(spec);
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (mut said_at, mut alive_since) = (None::<Instant>, None::<Instant>);
        loop {
            for address in &joining.ask {
                if joining.cancelled.load(Acquire) {
                    return Err(StartError::Cancelled);
                }
                let not_joined = |why| Err(StartError::NotJoined { address: address.clone(), why });
                let why = match ask(address, joining, &params, &mut alive_since).await {
                    Said::Listed(lists) => return Ok(lists),
                    Said::Never(why) => return not_joined(why),
                    Said::Later(why) => why,
                };
                if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                    said_at = Some(Instant::now());
                    tracing::info!(node = %spec.id, %address, %why, "waiting to join the cluster");
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    })
}

/// Asks one member until it says yes or no, or the next should be tried.
async fn ask(
    address: &str,
    joining: &Joining,
    params: &Params,
    alive_since: &mut Option<Instant>,
) -> Said {
    let mut member = match Enrolling::connect(address, "", params).await {
        Ok(member) => member,
        Err(ConnectError::Handshake(error)) => return Said::Never(explain(&error)),
        Err(error) => return Said::Later(error.to_string()),
    };
    let enrol = Enrol {
        details: joining.details.clone(),
        index: None,
        standing: Standing::default(),
        added: Vec::new(),
    };
    let mut why = String::new();
    for _ in 0..ASKS_MAX {
        if joining.cancelled.load(Acquire) {
            break;
        }
        let Some((standing, answer)) = member.ask(enrol.clone()).await else {
            return Said::Later("it gave no answer".into());
        };
        match answer {
            Enrolled::Listed { listed, added } => return Said::Listed((listed, added)),
            Enrolled::Refused(refused @ Refused::Alive) => {
                // Perhaps this node itself a moment ago, and nobody has noticed its end yet.
                let since = *alive_since.get_or_insert_with(Instant::now);
                if since.elapsed() > ALIVE_PATIENCE {
                    return Said::Never(refused.to_string());
                }
                why = refused.to_string();
            }
            Enrolled::Refused(refused) => return Said::Never(refused.to_string()),
            Enrolled::NotYet => {
                why = match (standing.cluster_id, standing.has_lease) {
                    (0, _) => "no cluster is founded yet",
                    (_, false) => "no majority of the cluster answers",
                    (_, true) => "the cluster has not agreed yet",
                }
                .into();
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Said::Later(why)
}

fn explain(error: &HandshakeError) -> String {
    match error {
        HandshakeError::Refused(Refusal::Placement) => {
            "its replication_factor, that of a cache, its virtual_nodes, acks, min_copies, lease, failure_timeout or minority differs from this node's, expected the others' settings; a node that their file lists is started without --join"
                .into()
        }
        HandshakeError::Refused(Refusal::SameId) => {
            "it has the id of this node, expected another --id, or the address of another member"
                .into()
        }
        HandshakeError::Malformed => {
            "what was received is no lariat handshake, expected the address for peers of a member"
                .into()
        }
        other => other.to_string(),
    }
}

/// How to shake hands before there is a map. No start of this node runs yet.
fn params(spec: &NodeSpec) -> Params {
    let versions = spec.versions;
    Params {
        cluster: spec.cluster.name.clone(),
        id: spec.id.clone(),
        incarnation: Arc::new(|| u64::MAX),
        digest: 0,
        versions: Arc::new(move || versions),
        settings: spec.cluster.digest(copies(spec)),
        secret: spec.cluster.secret.clone().into(),
        max_frame: max_frame(&spec.caches),
        connect_max: Duration::from_millis(spec.cluster.lease_ms),
        known: Arc::new(|_| None),
    }
}
