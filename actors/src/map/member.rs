//! A node as the map names it.

use serde::{Deserialize, Serialize};

use crate::ring::RingNode;

/// Most nodes that a map lists, those of the cluster file included.
pub const MEMBERS_MAX: usize = 256;

/// Stands for a node that a map does not list.
pub(super) static NOBODY: Member = Member {
    id: String::new(),
    incarnation: 0,
    known: 0,
    http: String::new(),
    peer: String::new(),
    redis: String::new(),
    weight: 1.0,
    zone: String::new(),
    leaving: false,
};

/// A node as the map names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its start; 0 while no start of it is a member.
    pub incarnation: u64,
    /// The newest start of it that was ever a member.
    pub known: u64,
    /// Advertised HTTP address.
    pub http: String,
    /// Advertised peer address.
    pub peer: String,
    /// Where it serves cluster-aware Redis clients; empty when it does not.
    pub redis: String,
    /// Its share of the slots relative to others.
    pub weight: f64,
    /// Its failure zone.
    pub zone: String,
    /// Is its start on its way out? It is given nothing and gives away what it has.
    pub leaving: bool,
}

/// What a node says of itself, or the cluster file of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// Its id.
    pub id: String,
    /// Advertised HTTP address.
    pub http: String,
    /// Advertised peer address.
    pub peer: String,
    /// Where it serves cluster-aware Redis clients; empty when it does not.
    pub redis: String,
    /// Its share of the slots relative to others.
    pub weight: f64,
    /// Its failure zone.
    pub zone: String,
}

/// Members as version 1 of the protocol has them; what came later travels in
/// [`crate::wire::Agreed`] beside them.
pub(super) mod first {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Details, Member};

    #[derive(Serialize, Deserialize)]
    struct First {
        id: String,
        incarnation: u64,
        known: u64,
        http: String,
        peer: String,
        weight: f64,
        zone: String,
        leaving: bool,
    }

    pub fn serialize<S: Serializer>(members: &[Member], to: S) -> Result<S::Ok, S::Error> {
        let first = |member: &Member| {
            let Member { id, incarnation, known, http, peer, redis: _, weight, zone, leaving } =
                member.clone();
            First { id, incarnation, known, http, peer, weight, zone, leaving }
        };
        to.collect_seq(members.iter().map(first))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Member>, D::Error> {
        let member = |first: First| {
            let First { id, incarnation, known, http, peer, weight, zone, leaving } = first;
            let details = Details { id, http, peer, redis: String::new(), weight, zone };
            Member { incarnation, known, leaving, ..Member::new(details) }
        };
        Ok(Vec::deserialize(from)?.into_iter().map(member).collect())
    }
}

impl Member {
    /// A node of which no start is a member.
    pub fn new(details: Details) -> Self {
        let Details { id, http, peer, redis, weight, zone } = details;
        let (incarnation, known, leaving) = (0, 0, false);
        Member { id, incarnation, known, http, peer, redis, weight, zone, leaving }
    }

    /// Is a start of it a member?
    pub fn is_present(&self) -> bool {
        self.incarnation != 0
    }

    /// What it says of itself.
    pub fn details(&self) -> Details {
        Details {
            id: self.id.clone(),
            http: self.http.clone(),
            peer: self.peer.clone(),
            redis: self.redis.clone(),
            weight: self.weight,
            zone: self.zone.clone(),
        }
    }

    pub(super) fn on_ring(&self) -> RingNode {
        RingNode { id: self.id.clone(), weight: self.weight, zone: self.zone.clone() }
    }

    pub(crate) fn start(&mut self, incarnation: u64) {
        self.incarnation = incarnation;
        self.leaving = false;
        self.known = self.known.max(incarnation);
    }
}
