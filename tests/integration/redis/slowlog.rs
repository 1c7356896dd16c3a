//! SLOWLOG: what is named, and what is not kept.

use super::connections::start;
use super::resp::{Resp, command};
use crate::support::run;

#[test]
fn slow_commands_are_in_the_slow_log() {
    run(async {
        let (node, address) = start(|config| config.redis.slowlog_threshold_ms = 0).await;
        let mut client = Resp::connect(address);
        client.text("SET key value");
        let log = client.text("SLOWLOG GET");
        assert!(log.contains("$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n"), "{log}");
        assert_eq!(client.text("SLOWLOG RESET"), "+OK\r\n");
        node.shutdown().await;
    });
}

#[test]
fn the_slow_log_names_what_ran_alone_in_its_read() {
    run(async {
        let (node, address) = start(|config| config.redis.slowlog_threshold_ms = 0).await;
        let mut client = Resp::connect(address);
        let lines =
            [&["PING"][..], &["KEYS", "nosuch"], &["GET", "a"], &["MGET", "a", "b"], &["GET", "b"]];
        client.send_raw(&lines.map(command).concat());
        lines.iter().for_each(|_| drop(client.reply()));
        let log = client.text("SLOWLOG GET");
        // The latest comes first.
        let expected = [
            "*4\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\n$29\r\n... (2 more commands with it)\r\n",
            "*2\r\n$4\r\nKEYS\r\n$6\r\nnosuch\r\n",
            "*1\r\n$4\r\nPING\r\n",
        ];
        let places = expected.map(|entry| log.find(entry));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in {log}");
        node.shutdown().await;
    });
}

#[test]
fn the_slow_log_does_not_keep_passwords() {
    run(async {
        let (node, address) = start(|config| {
            config.http.token = Some("secret".into());
            config.redis.slowlog_threshold_ms = 0;
        })
        .await;
        let mut client = Resp::connect(address);
        for line in ["HELLO 2 AUTH default secret", "AUTH default secret", "AUTH secret"] {
            assert!(!client.text(line).starts_with('-'), "{line}");
        }
        let log = client.text("SLOWLOG GET");
        assert_eq!(log.matches("$10\r\n(redacted)\r\n").count(), 5, "{log}");
        assert!(!log.contains("secret"), "{log}");
        node.shutdown().await;
    });
}
