//! Protocol versions: which ones this build understands, what each brought, and which one a cluster
//! speaks.
//!
//! - **A connection** speaks the newest version that both ends understand; the handshake settles it.
//!   A message that its version lacks is not sent over it ([`of_control`]).
//! - **A cluster** speaks the version that its map names ([`crate::map::ClusterMap::version`]). A change that it
//!   lacks is not proposed ([`of_change`]), and the map is written as that version has it. It rises
//!   by an agreed change when every node is known to understand more ([`rises_to`]), and never
//!   falls: from then on a node that does not understand it is refused by the handshake.
//!
//! Whoever adds a variant to a type of the wire puts it last and names here the version that brings
//! it. All of them may be read at any time; it is only sending and proposing that waits.

use std::fmt;

use crate::control::Control;
use crate::map::{Change, ClusterMap};

/// The newest version that this build speaks. 2 brought ranges of versions to the handshake, the
/// version of the map, pausing moves, weights and zones at run time, nodes that are not in the
/// cluster file, and whom a split map was split from.
pub const PROTOCOL_VERSION: u16 = 2;

/// The oldest version that this build understands.
pub const OLDEST_VERSION: u16 = 1;

/// The version that a map has before its members have agreed to a newer one.
pub const FIRST_VERSION: u16 = 1;

/// The version that brought ranges to the handshake. Before it a node spoke a single version.
pub const RANGES_SINCE: u16 = 2;

/// The version that brought ages to the entries of imports, and the cluster's id to what is
/// replicated. Before it both are sent without, and a member of another cluster is not told apart.
pub const REPLICATION_SINCE: u16 = 2;

/// The versions that a node understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u16,
    /// The newest, which it speaks with whoever understands it.
    pub newest: u16,
}

impl Versions {
    /// Those of this build.
    pub const CURRENT: Versions = Versions { oldest: OLDEST_VERSION, newest: PROTOCOL_VERSION };

    /// One version and no other.
    pub fn only(version: u16) -> Self {
        Versions { oldest: version, newest: version }
    }

    /// The version that two nodes speak with each other, if there is one.
    pub fn agreed(self, other: Versions) -> Option<u16> {
        let version = self.newest.min(other.newest);
        (version >= self.oldest.max(other.oldest)).then_some(version)
    }

    /// What is left of them in a cluster whose map has this version.
    pub fn within(self, map_version: u16) -> Self {
        Versions { oldest: self.oldest.max(map_version), newest: self.newest }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.oldest == self.newest {
            true => write!(f, "{}", self.newest),
            false => write!(f, "{} to {}", self.oldest, self.newest),
        }
    }
}

/// The version that brought a change of the map.
pub fn of_change(change: &Change) -> u16 {
    match change {
        Change::Found { .. }
        | Change::Admit { .. }
        | Change::Remove { .. }
        | Change::Silence { .. }
        | Change::Row { .. }
        | Change::Leave { .. } => 1,
        Change::Pause { .. }
        | Change::Weight { .. }
        | Change::Zone { .. }
        | Change::List { .. }
        | Change::Heal => 2,
        // Whoever understands a version understands that it is spoken.
        Change::Version { version } => *version,
    }
}

/// The version that brought a message between Supervisors.
pub fn of_control(message: &Control) -> u16 {
    match message {
        Control::Raft { .. }
        | Control::Beat { .. }
        | Control::Join
        | Control::AskRows { .. }
        | Control::Status
        | Control::Agree { .. }
        | Control::Forget { .. }
        | Control::RaftAnswer { .. }
        | Control::Answer { .. }
        | Control::Gone
        | Control::Standing(_)
        | Control::Agreed { .. }
        | Control::Leave { .. } => 1,
        Control::Want { .. }
        | Control::Enrol(_)
        | Control::Enrolled { .. }
        | Control::List { .. } => 2,
    }
}

/// What is known of a node: of the newest start of it that was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    /// That start; 0 when none was met.
    pub start: u64,
    /// The newest version that it speaks with this node.
    pub version: u16,
    /// Did an operator declare it dead?
    pub is_dead: bool,
}

/// The version to which a map may rise, by what is known of each of its nodes.
///
/// A node that is out for the moment counts as what it was: it may come back as that. So does one
/// that is no member yet and was met. Nodes that were never met nor members do not count, and those that an
/// operator declared dead do not come back. While the version of one that counts is not known the
/// map stays as it is.
pub fn rises_to(map: &ClusterMap, newest: u16, spoken: &[Spoken]) -> u16 {
    let mut version = newest;
    for (index, member) in map.members.iter().enumerate() {
        let met = spoken.get(index).copied().unwrap_or_default();
        let was_never_met = met.start == 0 && member.known == 0;
        let is_over = met.is_dead && !member.is_present();
        if was_never_met || is_over {
            continue;
        }
        let is_known = met.start >= member.known;
        version = version.min(if is_known { met.version } else { map.version });
    }
    version.max(map.version)
}

#[cfg(test)]
#[path = "version_tests.rs"]
mod tests;
