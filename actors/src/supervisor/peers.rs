//! What a Supervisor knows of the other nodes.

use crate::client::MemberState;
use crate::control::Standing;
use crate::founding::Known;
use crate::map::Member;
use crate::op::Ms;
use crate::version::Spoken;

/// Another node, as seen over the line that this node dialled to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Its id, by the newest map.
    pub id: String,
    /// The highest start of it that is known.
    pub seen: u64,
    /// The protocol version that this start speaks with this node.
    pub version: u16,
    /// The start that it is connected to.
    pub up: Option<u64>,
    /// When it was last heard, or when this node began to listen.
    pub heard_at: Ms,
    /// Did its port refuse the last attempt?
    pub refused: bool,
    /// What it said of itself over the connection that there is.
    pub standing: Option<Standing>,
    /// The start of it that agreed to this node as the founder, and when it was asked.
    pub agreed: Option<(u64, Ms)>,
    /// The newest start that was declared dead, by an operator or by a process that comes after it.
    pub forgotten: u64,
    /// The newest start that has left the cluster politely.
    pub left: u64,
}

impl Peer {
    /// Is a start of it known to have ended?
    pub fn is_over(&self, incarnation: u64) -> bool {
        self.seen > incarnation || self.forgotten >= incarnation
    }

    /// Has the newest start that is known of it left politely?
    pub fn has_left(&self) -> bool {
        self.left > 0 && self.left >= self.seen
    }

    /// What is known of the versions that it speaks.
    pub fn spoken(&self) -> Spoken {
        let is_dead = self.forgotten > 0 && self.forgotten >= self.seen;
        Spoken { start: self.seen, version: self.version, is_dead }
    }

    /// For the founding of a cluster. One that was forgotten and has not been heard since counts as
    /// absent.
    pub fn known(&self, now: Ms) -> Known {
        match (self.up, self.standing) {
            (Some(_), Some(Standing { cluster_id: 0, .. })) => Known::WithoutMap,
            (Some(_), Some(_)) => Known::WithMap,
            _ if self.refused || (self.forgotten > 0 && self.forgotten >= self.seen) => {
                Known::Absent
            }
            _ => Known::Silent { for_ms: now.saturating_sub(self.heard_at) },
        }
    }

    /// Its state for people.
    pub fn state(&self, member: &Member, now: Ms, lease_ms: Ms) -> MemberState {
        let is_silent = now.saturating_sub(self.heard_at) > lease_ms;
        match (member.is_present(), self.up) {
            (true, Some(start)) if start == member.incarnation && !is_silent => {
                match member.leaving {
                    true => MemberState::Leaving,
                    false => MemberState::Up,
                }
            }
            (true, _) => MemberState::Suspect,
            // It forwards what it is asked until its process ends.
            (false, Some(start)) if !is_silent && start == self.left => MemberState::Leaving,
            (false, Some(_)) if !is_silent => MemberState::Joining,
            (false, _) => MemberState::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(incarnation: u64) -> Member {
        Member {
            id: "b".into(),
            incarnation,
            known: incarnation,
            http: String::new(),
            peer: String::new(),
            redis: String::new(),
            weight: 1.0,
            zone: String::new(),
            leaving: false,
        }
    }

    #[test]
    fn a_peer_is_up_only_as_the_start_that_the_map_names() {
        let peer = Peer { up: Some(7), heard_at: 100, ..Peer::default() };
        assert_eq!(peer.state(&member(7), 300, 250), MemberState::Up);
        assert_eq!(peer.state(&member(7), 351, 250), MemberState::Suspect);
        assert_eq!(peer.state(&member(6), 300, 250), MemberState::Suspect);
        assert_eq!(peer.state(&member(0), 300, 250), MemberState::Joining);
        assert_eq!(Peer::default().state(&member(0), 300, 250), MemberState::Down);
    }

    #[test]
    fn a_peer_that_has_left_is_leaving_until_it_ends_and_a_newer_start_is_another() {
        let left = Peer { seen: 7, up: Some(7), heard_at: 100, left: 7, ..Peer::default() };
        assert_eq!(left.state(&member(0), 300, 250), MemberState::Leaving);
        let gone = Peer { up: None, ..left.clone() };
        assert_eq!((gone.state(&member(0), 300, 250), gone.has_left()), (MemberState::Down, true));
        let back = Peer { seen: 8, up: Some(8), ..left };
        assert_eq!(
            (back.state(&member(0), 300, 250), back.has_left()),
            (MemberState::Joining, false)
        );
    }

    #[test]
    fn a_forgotten_peer_is_absent_until_a_newer_start_is_heard() {
        let mut peer = Peer { seen: 7, heard_at: 100, ..Peer::default() };
        assert_eq!(peer.known(150), Known::Silent { for_ms: 50 });
        peer.forgotten = 7;
        assert_eq!(peer.known(150), Known::Absent);
        assert!(peer.is_over(7) && !peer.is_over(8));
        peer.seen = 8;
        assert_eq!(peer.known(150), Known::Silent { for_ms: 50 });
        (peer.up, peer.standing) = (Some(8), Some(Standing::default()));
        assert_eq!(peer.known(150), Known::WithoutMap);
        assert!(peer.is_over(7));
    }
}
