//! Hostile input: for each its reply, and what becomes of the connection.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::connections::start;
use super::resp::{Resp, command};
use crate::support::{run, wait_until};

use After::{Ends, Serves, Waits};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    /// It answers the next command.
    Serves,
    /// It waits for the rest of what came.
    Waits,
    /// The node closes it.
    Ends,
}

/// Sends each input on a connection of its own and checks the reply to its last byte.
fn check(address: SocketAddr, table: &[(&[u8], &str, After)]) {
    for (input, reply, after) in table {
        let shown = input[..input.len().min(60)].escape_ascii();
        println!("{shown}");
        let mut client = Resp::connect(address);
        client.send_raw(input);
        match after {
            Ends => client.ends_after(reply.as_bytes()),
            Serves => {
                client.send(&["ECHO", "still here"]);
                client.reads_exactly(format!("{reply}$10\r\nstill here\r\n").as_bytes());
            }
            Waits => {
                client.reads_exactly(reply.as_bytes());
                assert!(client.is_silent(Duration::from_millis(20)), "{shown}");
            }
        }
    }
}

#[test]
fn bytes_that_are_no_command_have_their_error_and_end_the_connection() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let long = "x".repeat(70_000);
        let long_count = format!("*{}", "1".repeat(70_000));
        let long_length = format!("*1\r\n${}", "1".repeat(70_000));
        let count = "-ERR Protocol error: invalid multibulk length\r\n";
        let length = "-ERR Protocol error: invalid bulk length\r\n";
        let line_end = "-ERR Protocol error: expected CRLF after an argument\r\n";
        let quotes = "-ERR Protocol error: unbalanced quotes in request\r\n";
        check(
            address,
            &[
                (b"*x\r\n", count, Ends),
                (b"*1\n", count, Ends),
                (b"*+1\r\n", count, Ends),
                (b"*65537\r\n", count, Ends),
                (b"*2147483648\r\n", count, Ends),
                (b"*9223372036854775808\r\n", count, Ends),
                (b"*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n", Ends),
                (
                    b"*1\r\n*1\r\n$4\r\nPING\r\n",
                    "-ERR Protocol error: expected '$', got '*'\r\n",
                    Ends,
                ),
                (b"*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n", Ends),
                (b"*1\r\n\xff", "-ERR Protocol error: expected '$', got '?'\r\n", Ends),
                (b"*1\r\n$-1\r\n", length, Ends),
                (b"*1\r\n$-5\r\n", length, Ends),
                (b"*1\r\n$ 4\r\nPING\r\n", length, Ends),
                (b"*1\r\n$0x4\r\nPING\r\n", length, Ends),
                (b"*1\r\n$99999999999\r\n", length, Ends),
                (b"*1\r\n$18446744073709551615\r\n", length, Ends),
                (b"*1\r\n$4\r\nPINGxx", line_end, Ends),
                (b"*1\r\n$3\r\nPING\r\n", line_end, Ends),
                (b"*1\r\n$4\r\nPING\n\n", line_end, Ends),
                (b"set k \"a\r\n", quotes, Ends),
                (b"set k 'a\r\n", quotes, Ends),
                (b"set k \"a\"b\r\n", quotes, Ends),
                (long.as_bytes(), "-ERR Protocol error: too big inline request\r\n", Ends),
                (
                    long_count.as_bytes(),
                    "-ERR Protocol error: too big mbulk count string\r\n",
                    Ends,
                ),
                (
                    long_length.as_bytes(),
                    "-ERR Protocol error: too big bulk count string\r\n",
                    Ends,
                ),
                // What came before is answered, what comes after is not looked at.
                (b"PING\r\n*x\r\nPING\r\n", &format!("+PONG\r\n{count}"), Ends),
                (b"QUIT\r\nPING\r\n", "+OK\r\n", Ends),
                // Browsers that were tricked.
                (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", Ends),
                (b"POST /k HTTP/1.1\r\n\r\nSET k v\r\n", "", Ends),
                (b"PING\r\nHost: a\r\nSET k v\r\n", "+PONG\r\n", Ends),
            ],
        );
        let mut client = Resp::connect(address);
        assert_eq!(client.text("EXISTS k"), ":0\r\n");
        wait_until("nothing is under way", || async { node.client().inflight().used() == 0 }).await;
        node.shutdown().await;
    });
}

#[test]
fn odd_but_whole_commands_are_answered_and_the_connection_goes_on() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let long_key = "k".repeat(9_000);
        let syntax = "-ERR syntax error\r\n";
        let integer = "-ERR value is not an integer or out of range\r\n";
        let arguments =
            |name: &str| format!("-ERR wrong number of arguments for '{name}' command\r\n");
        let unknown = |name: &str, args: &str| {
            format!("-ERR unknown command '{name}', with args beginning with: {args}\r\n")
        };
        let refused = |name: &str| {
            format!(
                "-ERR {name} is not supported: this is a cache of strings, without transactions, scripts and channels\r\n"
            )
        };
        let words = |line: &str| command(&line.split(' ').collect::<Vec<_>>());
        let pattern = format!("KEYS {}b", "a*".repeat(400));
        let (fits, long) = ("a".repeat(9 << 10), "*".repeat((9 << 10) + 1));
        let too_long = "-ERR pattern is longer than 9216 bytes\r\n";
        let (name, long_name) = ("n".repeat(256), "n".repeat(257));
        let names = |what: &str| format!("-ERR {what} cannot be longer than 256 bytes.\r\n");
        let table = [
            (b"*0\r\n*-1\r\n*-100\r\n\r\n \r\n\n".to_vec(), String::new()),
            (b"\0\0\0\r\n".to_vec(), String::new()),
            (b"*1\r\n$0\r\n\r\n".to_vec(), unknown("", "")),
            (b"*1\r\n$1\r\n\n\r\n".to_vec(), unknown(" ", "")),
            (command(&["\r\n+OK\r\n", "\r\n"]), unknown("  +OK  ", "'  ' ")),
            (
                words(&format!("NOSUCH {}", "y".repeat(500))),
                unknown("NOSUCH", &format!("'{}' ", "y".repeat(128))),
            ),
            (words(&format!("{} a", "n".repeat(500))), unknown(&"n".repeat(128), "'a' ")),
            (
                words(&format!("CLIENT {}", "n".repeat(500))),
                format!("-ERR unknown subcommand '{}'. Try CLIENT HELP.\r\n", "n".repeat(128)),
            ),
            (
                words(&format!("HELLO 3 {}", "n".repeat(500))),
                format!("-ERR Syntax error in HELLO option '{}'\r\n", "n".repeat(128)),
            ),
            (words("GET"), arguments("get")),
            (words("GET a b"), arguments("get")),
            (words("MSET a"), arguments("mset")),
            (words("MSET a 1 b"), arguments("mset")),
            (
                command(&["SET", &long_key, "v"]),
                "-ERR the key is longer than the cache allows\r\n".into(),
            ),
            (words("SET k v EX"), syntax.into()),
            (words("SET k v EX 1 PX 1"), syntax.into()),
            (words("SET k v EX 0"), "-ERR invalid expire time in 'set' command\r\n".into()),
            (
                words("SET k v EX -9223372036854775808"),
                "-ERR invalid expire time in 'set' command\r\n".into(),
            ),
            (
                words("EXPIRE k 9223372036854775807"),
                "-ERR invalid expire time in 'expire' command\r\n".into(),
            ),
            (words("INCRBY n 9223372036854775808"), integer.into()),
            (words("DECRBY n -9223372036854775808"), "-ERR decrement would overflow\r\n".into()),
            (words("INCRBYFLOAT n nan"), "-ERR value is not a valid float\r\n".into()),
            (
                words("SETRANGE k 99999999999 x"),
                "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n".into(),
            ),
            (words("SETRANGE k -1 x"), "-ERR offset is out of range\r\n".into()),
            (words("GETRANGE k -9223372036854775808 9223372036854775807"), "$0\r\n\r\n".into()),
            (words("SCAN x"), "-ERR invalid cursor\r\n".into()),
            (words("SCAN 0 COUNT 0"), syntax.into()),
            (words("SCAN 0 COUNT 9223372036854775807"), "*2\r\n$1\r\n0\r\n*0\r\n".into()),
            (words(&pattern), "*0\r\n".into()),
            (words(&format!("KEYS {fits}")), "*0\r\n".into()),
            (words(&format!("KEYS {long}")), too_long.into()),
            (words(&format!("SCAN 0 MATCH {fits}")), "*2\r\n$1\r\n0\r\n*0\r\n".into()),
            (words(&format!("SCAN 0 MATCH {long}")), too_long.into()),
            (words(&format!("COMMAND LIST FILTERBY PATTERN {fits}")), "*0\r\n".into()),
            (words(&format!("COMMAND LIST FILTERBY PATTERN {long}")), too_long.into()),
            (words(&format!("CONFIG GET {fits}")), "*0\r\n".into()),
            (
                words(&format!("CONFIG GET {fits} x")),
                "-ERR patterns are longer than 9216 bytes\r\n".into(),
            ),
            (words(&format!("CLIENT SETNAME {name}")), "+OK\r\n".into()),
            (words(&format!("CLIENT SETNAME {long_name}")), names("Client names")),
            (words(&format!("CLIENT SETINFO LIB-NAME {name}")), "+OK\r\n".into()),
            (words(&format!("CLIENT SETINFO LIB-VER {long_name}")), names("LIB-VER")),
            (words(&format!("HELLO 2 SETNAME {long_name}")), names("Client names")),
            (
                words("SELECT 99999999999999999999"),
                "-ERR value is not an integer or out of range\r\n".into(),
            ),
            (words("HELLO 4"), "-NOPROTO unsupported protocol version\r\n".into()),
            (words("HELLO 3 AUTH x"), "-ERR Syntax error in HELLO option 'AUTH'\r\n".into()),
            (words("CLIENT KILL ID nobody"), "-ERR client-id should be greater than 0\r\n".into()),
            (words("MULTI"), refused("MULTI")),
            (words("EVAL x 0"), refused("EVAL")),
            (words("SUBSCRIBE x"), refused("SUBSCRIBE")),
        ];
        let rows: Vec<(&[u8], &str, After)> =
            table.iter().map(|(input, reply)| (&input[..], &reply[..], Serves)).collect();
        check(address, &rows);
        node.shutdown().await;
    });
}

#[test]
fn what_is_not_complete_waits_and_costs_nothing_when_it_is_given_up() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let parts: [(&[u8], &str, After); 8] = [
            (b"*", "", Waits),
            (b"*1\r", "", Waits),
            (b"*1\r\n$4\r\nPIN", "", Waits),
            (b"*1\r\n$4\r\nPING\r", "", Waits),
            (b"*65536\r\n", "", Waits),
            (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777216\r\nx", "", Waits),
            (b"PING\r\n*1\r\n$4\r\n", "+PONG\r\n", Waits),
            (b"PING", "", Waits),
        ];
        check(address, &parts);
        wait_until("nothing is under way", || async { node.client().inflight().used() == 0 }).await;

        // A client that has sent all it will and still reads.
        let stream = TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut &stream, b"PING\r\nGET nothing\r\nGET").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut said = Vec::new();
        std::io::Read::read_to_end(&mut &stream, &mut said).unwrap();
        assert_eq!(said, b"+PONG\r\n$-1\r\n");
        node.shutdown().await;
    });
}

#[test]
fn an_announced_length_takes_no_room_from_others() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let largest = 16 << 20;
        assert!(node.client().inflight().limit() < 20 * largest, "all of them would fit");
        let announced = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${largest}\r\nx");
        let mut clients: Vec<Resp> = (0..20).map(|_| Resp::connect(address)).collect();
        clients.iter_mut().for_each(|client| client.send_raw(announced.as_bytes()));
        for client in &mut clients {
            assert!(client.is_silent(Duration::from_millis(10)));
        }
        let last = clients.last_mut().unwrap();
        last.send_raw(&vec![b'x'; largest as usize - 1]);
        last.send_raw(b"\r\n");
        assert_eq!(last.reply(), b"+OK\r\n");
        // What was under way is given back once the reply has been written.
        wait_until("nothing is under way", || async { node.client().inflight().used() == 0 }).await;
        node.shutdown().await;
    });
}

#[test]
fn before_the_password_limits_are_small() {
    run(async {
        let (node, address) = start(|config| config.http.token = Some("secret".into())).await;
        let refused = "-NOAUTH Authentication required.\r\n";
        let count = "-ERR Protocol error: unauthenticated multibulk length\r\n";
        let length = "-ERR Protocol error: unauthenticated bulk length\r\n";
        let table: [(&[u8], &str, After); 8] = [
            (b"*11\r\n", count, Ends),
            (b"*1\r\n$16385\r\n", length, Ends),
            (b"PING\r\n*11\r\n", &format!("{refused}{count}"), Ends),
            (b"*1\r\n$16384\r\nx", "", Waits),
            (b"GET / HTTP/1.1\r\n\r\n", "", Ends),
            (b"QUIT\r\n", "+OK\r\n", Ends),
            (
                b"AUTH\r\nAUTH secret x y\r\nAUTH secret\r\n",
                "-ERR wrong number of arguments for 'auth' command\r\n-ERR syntax error\r\n+OK\r\n",
                Serves,
            ),
            (b"*1\r\n$5\r\nRESET\r\nAUTH secret\r\n", "+RESET\r\n+OK\r\n", Serves),
        ];
        check(address, &table);
        node.shutdown().await;
    });
}

#[test]
fn a_slow_sender_holds_up_nobody() {
    run(async {
        let (node, address) = start(|_| {}).await;
        let (mut slow, mut other) = (Resp::connect(address), Resp::connect(address));
        for byte in command(&["SET", "k", "v"]).chunks(1) {
            slow.send_raw(byte);
            assert_eq!(other.text("PING"), "+PONG\r\n");
        }
        assert_eq!(slow.reply(), b"+OK\r\n");
        node.shutdown().await;
    });
}
