//! `lariat drain` of a node that cannot leave.

use crate::cli::{free_ports, lariat, text};
use crate::cli_join::{Process, is_whole, node, wait_until, write_three};

#[test]
fn a_drain_that_does_not_end_is_given_up_and_says_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cluster.toml");
    let ports: [u16; 6] = free_ports();
    write_three(&file, "stuck", &ports);
    let url = format!("http://127.0.0.1:{}", ports[4]);
    let mut nodes = ["n1", "n2", "n3"].map(|id| Process::start(&mut node(&file, id)));
    wait_until("the cluster is whole", || is_whole(&url, 3));
    // Without a majority nothing is agreed on, this neither.
    nodes[..2].iter_mut().for_each(|node| assert_eq!(node.signal("-KILL"), None));

    let stuck = lariat(&["drain", "n3", "--timeout", "300ms", "--node", &url]);
    assert_eq!((stuck.status.code(), &stuck.stdout[..]), (Some(1), &b""[..]));
    let said = text(&stuck.stderr);
    let (left, rest) = said
        .strip_prefix("lariat: node 'n3' has ")
        .and_then(|said| said.split_once(' '))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(left.parse::<u64>().unwrap() > 0, "{said}");
    let expected = "slots left after 300ms and goes on leaving: see lariat status, or take it back \
                    with lariat drain n3 --cancel\n";
    assert_eq!(rest, expected);

    let no_unit = lariat(&["drain", "n3", "--timeout", "300", "--node", &url]);
    assert_eq!(no_unit.status.code(), Some(2));
    assert!(text(&no_unit.stderr).contains("'300' is no duration"), "{}", text(&no_unit.stderr));
}
