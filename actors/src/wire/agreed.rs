//! What is agreed on, as bytes: entries of the log, and the map as a whole.
//!
//! A map is written as the protocol version that it names has it, because a snapshot goes to every
//! member alike: version 1 has the fields that [`ClusterMap`] serialises, and what came later
//! follows them in [`Later`].

use serde::{Deserialize, Serialize};

use super::{WireError, decode_within, encode_whole};
use crate::map::{Change, ClusterMap, NodeIx};
use crate::version::FIRST_VERSION;

/// What is agreed on: an entry of the log, or a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub enum Agreed {
    /// Changes to the map. The epoch of the map that they make is the entry's index and `base`.
    Changes(Vec<Change>),
    /// The map as it is.
    Map(MapState),
}

/// A map, and what is added to an entry's index to make its epoch: agreement that begins anew
/// continues the epochs of the map that it begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapState {
    /// What is added to an index.
    pub base: u64,
    /// The map.
    pub map: ClusterMap,
}

/// What version 1 of the protocol does not know of a map.
#[derive(Serialize, Deserialize)]
struct Later {
    version: u16,
    moves_paused: bool,
    /// Where each member serves cluster-aware Redis clients, if the map says it.
    redis: Vec<String>,
    split_from: Vec<NodeIx>,
}

impl Later {
    fn of(map: &ClusterMap) -> Self {
        let redis = map.members.iter().map(|member| member.redis.clone()).collect();
        let split_from = map.split_from.clone();
        Later { version: map.version, moves_paused: map.moves_paused, redis, split_from }
    }

    fn put_into(self, map: &mut ClusterMap) {
        let Later { version, moves_paused, redis, split_from } = self;
        (map.version, map.moves_paused, map.split_from) = (version, moves_paused, split_from);
        for (member, redis) in map.members.iter_mut().zip(redis) {
            member.redis = redis;
        }
    }
}

/// The bytes' own type, for writing; the order of the variants is the wire's.
#[derive(Serialize)]
enum Written<'a> {
    Changes(&'a [Change]),
    Map(&'a MapState),
    MapAndLater(&'a MapState, Later),
}

/// The same, for reading.
#[derive(Deserialize)]
enum Read {
    Changes(Vec<Change>),
    Map(MapState),
    MapAndLater(MapState, Later),
}

/// The bytes of something agreed.
pub fn encode_agreed(agreed: &Agreed) -> Vec<u8> {
    let written = match agreed {
        Agreed::Changes(changes) => Written::Changes(changes),
        Agreed::Map(state) if state.map.version == FIRST_VERSION => Written::Map(state),
        Agreed::Map(state) => Written::MapAndLater(state, Later::of(&state.map)),
    };
    encode_whole(&written)
}

/// What was agreed, from its bytes.
///
/// # Errors
/// [`WireError`] for anything but exactly one such value.
pub fn decode_agreed(bytes: &[u8]) -> Result<Agreed, WireError> {
    Ok(match decode_within::<{ 64 << 20 }, _>(bytes)? {
        Read::Changes(changes) => Agreed::Changes(changes),
        Read::Map(state) => Agreed::Map(state),
        Read::MapAndLater(mut state, later) => {
            later.put_into(&mut state.map);
            Agreed::Map(state)
        }
    })
}
