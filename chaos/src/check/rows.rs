//! Which slot a key is in, and on which nodes a slot was. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::cluster::number;

/// Slots that there are.
const SLOTS: u16 = 16_384;

/// The slot of a key without braces: CRC16 (XMODEM), as in the Redis Cluster specification. Counted
/// here and not asked for, so that the nodes under test do not choose what they are excused for.
pub fn slot_of(key: &str) -> u16 {
    let mut crc = 0_u16;
    for byte in key.bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % SLOTS
}

/// The rows of a node's map at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rows(Vec<Range>);

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Range {
    first: u16,
    last: u16,
    nodes: Vec<usize>,
}

impl Rows {
    /// Reads the answer of `GET /v1/cluster/map`; none if it is something else.
    pub fn read(map: &Value) -> Option<Rows> {
        let ids = map["nodes"].as_array()?;
        // A member's place in this list is not its number here: others joined in between.
        let numbers: Vec<Option<usize>> =
            ids.iter().map(|node| number(node["id"].as_str()?)).collect();
        let node = |place: &Value| *numbers.get(usize::try_from(place.as_u64()?).ok()?)?;
        let range = |range: &Value| {
            let slot = |place: usize| u16::try_from(range[place].as_u64()?).ok();
            let copies = range[3].as_array()?.iter().map(node);
            let nodes = std::iter::once(node(&range[2])).chain(copies).collect::<Option<_>>()?;
            Some(Range { first: slot(0)?, last: slot(1)?, nodes })
        };
        map["ranges"].as_array()?.iter().map(range).collect::<Option<_>>().map(Rows)
    }

    /// The nodes that a slot is on: its primary, the copies in sync, then those that are being
    /// filled.
    pub fn nodes(&self, slot: u16) -> &[usize] {
        let range = self.0.iter().find(|range| (range.first..=range.last).contains(&slot));
        range.map_or(&[], |range| &range.nodes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of("123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of(""), 0);
    }

    #[test]
    fn rows_name_nodes_by_their_ids_and_not_by_their_places() {
        let ids = ["node-1", "node-4", "node-2"].map(|id| json!({ "id": id, "url": "http://x" }));
        let map = json!({
            "epoch": 7,
            "nodes": ids,
            "ranges": [[0, 9, 1, [0]], [10, 16_383, 0, [2, 1]]],
        });
        let rows = Rows::read(&map).expect("it is a map");
        assert_eq!((rows.nodes(0), rows.nodes(9)), (&[3, 0][..], &[3, 0][..]));
        assert_eq!((rows.nodes(10), rows.nodes(16_383)), (&[0, 1, 3][..], &[0, 1, 3][..]));
        assert!(rows.nodes(16_384).is_empty());
        assert_eq!(Rows::read(&json!({ "status": 503 })), None);
        let unknown = json!({ "nodes": [{ "id": "node-1" }], "ranges": [[0, 1, 0, [1]]] });
        assert_eq!(Rows::read(&unknown), None);
    }
}
