//! What clients that know the slots are told while nodes die.

use std::collections::BTreeMap;

use lariat::actors::client::MemberState;
use lariat::actors::map::NodeIx;
use lariat::actors::slot::SLOTS;

use super::cluster::Three;
use super::resp::Resp;
use crate::support::{run, wait_until};

/// The flags, the state of the link and the number of slots of each node of CLUSTER NODES, by its
/// address.
fn nodes(told: &str) -> BTreeMap<String, (String, String, usize)> {
    let lines = told.lines().filter(|line| line.contains("connected"));
    let each = lines.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let slots = words[8..].iter().map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1
        });
        let address = words[1].split_once('@').unwrap().0.to_string();
        (address, (words[2].to_string(), words[7].to_string(), slots.sum()))
    });
    each.collect()
}

#[test]
fn a_failover_shows_up_at_once() {
    run(async {
        let three = Three::start().await;
        let first = three.nodes[0].client();
        let (dead, port) = (three.key_of(2), three.cluster[2].port().to_string());
        let mut client = Resp::connect(three.cluster[0]);
        let mut single = Resp::connect(three.single[0]);
        let moved = client.settled(&format!("GET {dead}"));
        assert!(moved.starts_with("-MOVED") && moved.contains(&port), "{moved}");
        three.nodes[2].stop_now().await;
        wait_until("its silence is noticed", || async {
            first.member_state(NodeIx(2)) != MemberState::Up
        })
        .await;
        let has_slots = || first.map().rows.iter().any(|row| row.primary == NodeIx(2));
        let (reply, size) = (client.text(&format!("GET {dead}")), single.text("DBSIZE"));
        assert!(!reply.contains(&port), "{reply}");
        assert!(size.starts_with("-CLUSTERDOWN") || !has_slots(), "{size}");
        let seen = nodes(&client.text("CLUSTER NODES"));
        assert!(seen[&three.cluster[2].to_string()].0.contains("fail"), "{seen:?}");

        wait_until("others have its slots", || async { !has_slots() }).await;
        assert!(!client.text("CLUSTER SLOTS").contains(&port));
        let seen = nodes(&client.text("CLUSTER NODES"));
        let of = |node: usize| &seen[&three.cluster[node].to_string()];
        assert_eq!(of(0).2 + of(1).2, usize::from(SLOTS));
        assert_eq!((&of(2).0[..2], of(2).2), ("ma", 0));
        wait_until("it is known to be gone", || async {
            first.member_state(NodeIx(2)) == MemberState::Down
        })
        .await;
        let seen = nodes(&client.text("CLUSTER NODES"));
        let expected = ("master,fail".to_string(), "disconnected".to_string(), 0);
        assert_eq!(seen[&three.cluster[2].to_string()], expected);
        let info = client.text("CLUSTER INFO");
        for line in ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_size:2"] {
            assert!(info.contains(line), "{info}");
        }
        assert!(client.text("CLUSTER SHARDS").contains("$4\r\nfail\r\n"));
        // Its keys are where the answers say.
        let taken_by = three.primary_of(&dead);
        let reply = client.settled(&format!("GET {dead}"));
        match taken_by {
            0 => assert_eq!(reply, "$-1\r\n"),
            other => assert!(reply.ends_with(&format!("{}\r\n", three.cluster[other])), "{reply}"),
        }

        three.nodes[1].stop_now().await;
        wait_until("the last one is cut off", || async { !first.has_lease() }).await;
        assert!(client.text("CLUSTER INFO").contains("cluster_state:fail"));
        three.stop().await;
    });
}
