//! openraft's messages on the caller's [`Carrier`], and the note of what was acknowledged.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use openraft::error::{
    Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable as Unreached,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, Snapshot, Vote};

use super::wire::{self, Answer, Envelope, Request};
use super::{AgreementError, HEARTBEAT_MS, RaftId, SNAPSHOT_TIMEOUT_MS, Shared, Types};

type RpcError = RPCError<RaftId, EmptyNode, RaftError<RaftId>>;

/// Makes a [`Wire`] to each node that openraft names.
pub(super) struct Wires(pub Arc<Shared>);

impl RaftNetworkFactory<Types> for Wires {
    type Network = Wire;

    async fn new_client(&mut self, target: RaftId, _node: &EmptyNode) -> Wire {
        Wire { shared: self.0.clone(), target }
    }
}

/// The way to one other node.
pub(super) struct Wire {
    shared: Arc<Shared>,
    target: RaftId,
}

impl Wire {
    async fn ask(&self, request: Request) -> Result<Answer, RpcError> {
        // `Unreachable` makes openraft wait before it tries again; after any other error it tries
        // again at once, which spins while the carrier refuses.
        let unreached = |error| Unreached::new(&error).into();
        self.shared.ask(self.target, request).await.map_err(unreached)
    }

    /// The answer is one to another kind of request. No node of ours sends that.
    fn misfit() -> Unreached {
        Unreached::new(&AgreementError::Malformed("the answer fits another request".into()))
    }
}

impl RaftNetwork<Types> for Wire {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, RpcError> {
        let (vote, sent) = (request.vote, self.shared.now());
        if self.shared.is_silent.load(Relaxed) {
            return Err(Unreached::new(&AgreementError::Unreachable).into());
        }
        let Answer::Append(answer) = self.ask(Request::Append(request)).await? else {
            return Err(Self::misfit().into());
        };
        // Whatever it says of the log, anything but a higher vote means that the node accepted
        // this leader, and so votes for nobody for a lease from then on.
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.shared.acknowledged(vote, self.target, sent);
        }
        Ok(answer)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<RaftId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<RaftId>, RpcError> {
        match self.ask(Request::Vote(request)).await? {
            Answer::Vote(answer) => Ok(answer),
            _ => Err(Self::misfit().into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<RaftId>,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<RaftId>, StreamingError<Types, Fatal<RaftId>>> {
        let unreached = |error: &AgreementError| StreamingError::Unreachable(Unreached::new(error));
        let sent = self.shared.now();
        let request =
            Request::Snapshot { vote, meta: snapshot.meta, data: (*snapshot.snapshot).clone() };
        let timeout = Duration::from_millis(SNAPSHOT_TIMEOUT_MS);
        let answer = tokio::select! {
            answer = tokio::time::timeout(timeout, self.shared.ask(self.target, request)) => answer,
            closed = cancel => return Err(closed.into()),
        };
        match answer.unwrap_or(Err(AgreementError::Unreachable)) {
            Ok(Answer::Snapshot(answer)) => {
                if answer.vote == vote {
                    self.shared.acknowledged(vote, self.target, sent);
                }
                Ok(answer)
            }
            Ok(_) => Err(Self::misfit().into()),
            Err(error) => Err(unreached(&error)),
        }
    }

    /// How long a node that could not be reached is left alone. openraft's default, half a second,
    /// is longer than a lease.
    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(HEARTBEAT_MS)))
    }
}

impl Shared {
    /// Sends a request and decodes its answer.
    pub(super) async fn ask(&self, to: RaftId, request: Request) -> Result<Answer, AgreementError> {
        let bytes = wire::encode(&Envelope { cluster: self.cluster, to, request })?;
        let answer = self.carrier.send(to, bytes).await.map_err(|_| AgreementError::Unreachable)?;
        wire::decode(&answer)
    }
}
