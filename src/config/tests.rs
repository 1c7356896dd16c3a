#![allow(clippy::unwrap_used)]
//! Mistakes and their lines, the reference file against the code, layers and their order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, toml).unwrap();
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::load(Some(&file), &environment, None)
        .map_err(|m| m.to_string().replace(file.to_str().unwrap(), "c.toml"))
}

const NODE: &str = "[[nodes]]\nid = \"a\"\nhttp = \"127.0.0.1:1\"\npeer = \"127.0.0.1:2\"\n";

/// The mistake in each line of TOML that is put after a valid node.
#[test]
fn every_mistake_is_told_with_file_line_key_and_what_was_expected() {
    for (toml, expected) in [
        ("x = 1", "c.toml:5: nodes[0].x: unknown key"),
        ("wieght = 1.0", "c.toml:5: nodes[0].wieght: unknown key, did you mean 'weight'?"),
        (
            "weight = 0",
            "c.toml:5: nodes[0].weight: 0 does not fit, expected a number from 0.01 to 100",
        ),
        ("zone = 1", "c.toml:5: nodes[0].zone: 1 is no text, expected it in quotes"),
        ("redis = \"x\"", "c.toml:5: nodes[0].redis: invalid address 'x', expected host:port"),
        (
            "redis = \"127.0.0.1:1\"",
            "c.toml:5: nodes[0].redis: '127.0.0.1:1' is used by nodes[0].http too",
        ),
        ("dial = { b = \"127.0.0.1:1\" }", "c.toml:5: nodes[0].dial.b: 'b' is not a listed node"),
        (
            "dial = \"127.0.0.1:1\"",
            "c.toml:5: nodes[0].dial: \"127.0.0.1:1\" is no table, expected keys with values",
        ),
        (
            "peer_bind = \"0.0.0.0:2\"",
            "c.toml:4: nodes[0].peer: '0.0.0.0:2' is not a loopback address",
        ),
        (
            "redis_bind = \"0.0.0.0:9\"",
            "c.toml:5: nodes[0].redis_bind: no address without redis, expected redis to be set",
        ),
        (
            "redis = \"0.0.0.0:9\"",
            "c.toml:5: nodes[0].redis: '0.0.0.0:9' is not a loopback address",
        ),
        ("[caches.default]\nredis_db = 1", "c.toml:6: caches.default.redis_db: 1 does not fit"),
        ("[caches.a]\nredis_db = 0", "c.toml:6: caches.a.redis_db: 0 does not fit"),
        (
            "[caches.a]\nredis_db = 2\n[caches.b]\nredis_db = 2",
            "c.toml:8: caches.b.redis_db: 2 is the number of cache 'a', expected one of its own",
        ),
        (
            "http_bind = \"0.0.0.0:1\"",
            "c.toml:3: nodes[0].http: '0.0.0.0:1' is not a loopback address",
        ),
        (
            "[[nodes]]\nid = \"a\"\nhttp = \"127.0.0.1:3\"\npeer = \"127.0.0.1:4\"",
            "c.toml:6: nodes[1].id: 'a' is listed twice",
        ),
        (
            "[[nodes]]\nhttp = \"127.0.0.1:3\"\npeer = \"127.0.0.1:4\"",
            "c.toml:5: nodes[1].id: missing, expected a value",
        ),
        (
            "[cluster]\nlease = \"100ms\"",
            "c.toml:6: cluster.lease: '100ms' is too short, expected at least 180ms",
        ),
        (
            "[cluster]\nfailure_timeout = \"400ms\"",
            "c.toml:6: cluster.failure_timeout: '400ms' is too short",
        ),
        (
            "[cluster]\nrequest_timeout = \"1s\"",
            "c.toml:6: cluster.request_timeout: '1s' is too short",
        ),
        (
            "[cluster]\nreplication_factor = 2",
            "c.toml:6: cluster.replication_factor: 2 copies cannot be kept, expected 1 to 1",
        ),
        (
            "[cluster]\nmin_copies = 2",
            "c.toml:6: cluster.min_copies: '2' copies, expected 1 to replication_factor (1)",
        ),
        (
            "[node]\nimport_rate = \"64KiB\"",
            "c.toml:6: node.import_rate: '64KiB' is too little, expected at least 1MiB",
        ),
        (
            "[cluster]\nacks = \"some\"",
            "c.toml:6: cluster.acks: \"some\" is not known, expected all or async",
        ),
        (
            "[cluster]\nminority = \"x\"",
            "c.toml:6: cluster.minority: \"x\" is not known, expected refuse or available",
        ),
        ("[cluster]\nname = \"a b\"", "c.toml:6: cluster.name: invalid name 'a b'"),
        (
            "[cluster]\nsecret_file = \"none\"",
            "c.toml:6: cluster.secret_file: 'none' cannot be read",
        ),
        ("[cluster]\nlease = 250", "c.toml:6: cluster.lease: '250' is no duration"),
        ("[caches.default]\ncapacity = 0", "c.toml:6: caches.default.capacity: 0 does not fit"),
        (
            "[caches.default]\nmax_bytes = \"1MB\"",
            "c.toml:6: caches.default.max_bytes: '1MB' is no size",
        ),
        (
            "[caches.default]\nmax_bytes = \"1MiB\"",
            "caches.default.max_value: '16MiB' is more than one shard may hold",
        ),
        (
            "[caches.default]\nmax_key = \"9KiB\"",
            "c.toml:6: caches.default.max_key: '9KiB' is too large",
        ),
        (
            "[caches.default]\ndefault_ttl = \"11y\"",
            "c.toml:6: caches.default.default_ttl: '11y' is no duration",
        ),
        ("[caches.\"a b\"]\ncapacity = 1", "c.toml:5: caches.a b: invalid name 'a b'"),
        ("[http]\nmax_age = 1", "c.toml:6: http.max_age: 1 is neither true nor false"),
        ("[debug]\nenabled = 1", "c.toml:6: debug.enabled: 1 is neither true nor false"),
        ("[debug]\nenable = true", "c.toml:6: debug.enable: unknown key"),
        (
            "http_bind = \"0.0.0.0:1\"\n[http]\ninsecure = true\n[debug]\nenabled = true",
            "c.toml:9: debug.enabled: nodes[0].http '0.0.0.0:1' is not a loopback address, expected false",
        ),
        ("[redis]\nstall_timeout = \"0ms\"", "c.toml:6: redis.stall_timeout: '0ms' is no duration"),
        ("[typo]\na = 1", "c.toml:6: typo.a: unknown key"),
        ("[htttp]", "c.toml:5: htttp: unknown key"),
        ("[http.headers]", "c.toml:5: http.headers: unknown key"),
        ("[cluster]\nx = {}", "c.toml:6: cluster.x: unknown key"),
        ("[cluster]\nx = []", "c.toml:6: cluster.x: unknown key"),
        ("[[cluster]]", "c.toml:5: cluster[0]: unknown key"),
        ("[cluster", "c.toml:5: not valid toml"),
    ] {
        let error = load(&format!("{NODE}{toml}\n"), &[]).unwrap_err();
        assert!(error.contains(expected), "{toml}\nexpected {expected}\nfound    {error}");
    }
}

#[test]
fn a_value_where_a_table_is_expected_is_a_mistake_and_an_empty_table_is_none() {
    for (toml, expected) in [
        ("caches = 1", "c.toml:1: caches: 1 is no table, expected keys with values"),
        ("caches = []", "c.toml:1: caches: [] is no table"),
        ("caches = { a = 1 }", "c.toml:1: caches.a: 1 is no table"),
        ("cluster = \"demo\"", "c.toml:1: cluster: \"demo\" is no table"),
        ("http = []", "c.toml:1: http: [] is no table"),
    ] {
        let error = load(&format!("{toml}\n{NODE}"), &[]).unwrap_err();
        assert!(error.contains(expected), "{toml}\nexpected {expected}\nfound    {error}");
    }
    for toml in ["dial = {}", "[http]", "[caches]", "[caches.a]", "[redis]\n[debug]\n[node]"] {
        load(&format!("{NODE}{toml}\n"), &[]).unwrap();
    }
}

#[test]
fn all_mistakes_are_told_together_in_the_order_of_the_file() {
    let error = load(&format!("{NODE}a = 1\n[cluster]\nlease = \"1\"\nb = 2\n"), &[]).unwrap_err();
    let lines: Vec<&str> = error.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(lines, ["nodes[0].a", "cluster.lease", "cluster.b"], "{error}");
}

#[test]
fn a_file_without_nodes_is_refused_and_no_file_is_a_node_on_loopback() {
    assert!(load("", &[]).unwrap_err().contains("nodes: no [[nodes]]"));
    let config = Config::load(None, &BTreeMap::new(), None).unwrap();
    assert_eq!(config.nodes[0].http_bind, "127.0.0.1:5001");
}

#[test]
fn the_environment_sets_scalars_and_is_refused_by_name_otherwise() {
    let set = [("LARIAT__CLUSTER__LEASE", "300ms"), ("LARIAT__CACHES__DEFAULT__CAPACITY", "7")];
    let config = load(NODE, &set).unwrap();
    assert_eq!((config.cluster.lease_ms, config.caches[0].capacity), (300, 7));
    let origin = config.origins.iter().find(|o| o.key == "cluster.lease").unwrap();
    assert_eq!(origin.from, "environment LARIAT__CLUSTER__LEASE");
    let error = load(NODE, &[("LARIAT__CLUSTER__LAESE", "1s")]).unwrap_err();
    assert!(error.starts_with("environment LARIAT__CLUSTER__LAESE: unknown key"), "{error}");
    let error = load(NODE, &[("LARIAT__CLUSTER__LEASE", "soon")]).unwrap_err();
    assert!(
        error.starts_with("environment LARIAT__CLUSTER__LEASE: 'soon' is no duration"),
        "{error}"
    );
    for text in ["2024", "007", "true"] {
        let config = load(NODE, &[("LARIAT__CLUSTER__NAME", text)]).unwrap();
        assert_eq!(config.cluster.name, text);
    }
    let error = load(NODE, &[("LARIAT__CACHES", "1")]).unwrap_err();
    assert!(error.starts_with("environment LARIAT__CACHES: 1 is no table"), "{error}");
    let no_nodes = "[[nodes]] is not set by the environment";
    for (name, why) in [
        ("LARIAT__NODES__0__HTTP", no_nodes),
        ("LARIAT__NODES", no_nodes),
        ("LARIAT__NODES__HTTP", no_nodes),
        ("LARIAT__NODES[0]__HTTP", no_nodes),
        ("LARIAT__NODES[7]__HTTP", no_nodes),
        ("LARIAT__NODES[0]", no_nodes),
        ("LARIAT__CLUSTER[0]__NAME", "no such setting"),
        ("LARIAT__CLUSTER__LEASE[0]", "no such setting"),
    ] {
        let error = load(NODE, &[(name, "127.0.0.1:9")]).unwrap_err();
        let expected = format!("environment {name}: {why}");
        assert!(error.starts_with(&expected) && error.lines().count() == 1, "{name}: {error}");
    }
    let config = load(NODE, &[("LARIAT_HTTP", "127.0.0.1:9")]).unwrap();
    assert_eq!(config.nodes[0].http_bind, "127.0.0.1:9");
}

#[test]
fn a_secret_is_long_and_not_for_everyone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    let file = directory.path().join("c.toml");
    std::fs::write(&file, format!("[cluster]\nsecret_file = \"secret\"\n{NODE}")).unwrap();
    let try_with = |content: &str, mode: u32| {
        std::fs::write(&secret, content).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        Config::load(Some(&file), &BTreeMap::new(), None).map_err(|m| m.to_string())
    };
    let long = "x".repeat(32);
    let config = try_with(&format!("{long}\n"), 0o600).unwrap();
    assert_eq!(config.cluster.secret, long.as_bytes());
    assert!(
        config.origins.iter().all(|origin| !origin.value.contains(&long)),
        "secrets are masked"
    );
    assert!(try_with(&long, 0o644).unwrap_err().contains("can be read by everyone"));
    assert!(try_with("short", 0o600).unwrap_err().contains("5 bytes, expected at least 32"));
}

#[test]
fn the_reference_file_has_every_key_at_its_default() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("config/reference.toml");
    let written = Config::load(Some(&file), &BTreeMap::new(), None).unwrap();
    let defaults = Config::load(None, &BTreeMap::new(), None).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    for origin in &defaults.origins {
        let there = written.origins.iter().find(|o| o.key == origin.key).unwrap();
        assert_eq!(there.value, origin.value, "{}", origin.key);
        let name = origin.key.rsplit('.').next().unwrap();
        let mentioned =
            text.lines().any(|l| l.trim_start_matches("# ").starts_with(&format!("{name} =")));
        assert!(mentioned, "{} is not in the reference file", origin.key);
    }
}

#[test]
fn shipped_files_load_without_warnings() {
    for name in ["cluster.toml", "single.toml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        let config = Config::load(Some(&file), &BTreeMap::new(), None).unwrap();
        assert_eq!(config.warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_capacity_beyond_what_shards_hold_is_warned_of() {
    let most = 2 * lariat_actors::lru::ENTRIES_MAX;
    for (capacity, warnings) in [(most, 0), (most + 1, 1)] {
        let text = format!("{NODE}[node]\nshards = 2\n[caches.default]\ncapacity = {capacity}");
        let config = load(&text, &[]).unwrap();
        assert_eq!(config.warnings.len(), warnings, "{:?}", config.warnings);
    }
}

fn load_to_join(toml: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, toml).unwrap();
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::load_to_join(Some(&file), &environment, Some("new"), &["h:7".into()])
        .map_err(|m| m.to_string().replace(file.to_str().unwrap(), "c.toml"))
}

const OWN: [(&str, &str); 2] = [("LARIAT_HTTP", "127.0.0.1:51"), ("LARIAT_PEER", "127.0.0.1:71")];

#[test]
fn a_node_that_joins_is_described_by_the_environment_or_by_an_entry_of_its_own() {
    let config = load_to_join(NODE, &OWN).unwrap();
    let own = &config.node("new").unwrap().member;
    assert_eq!((own.http.as_str(), own.peer.as_str()), ("127.0.0.1:51", "127.0.0.1:71"));
    let spec = config.node_spec("new").unwrap();
    assert!(spec.members.is_empty(), "it is told who else there is");
    assert_eq!(spec.joining.unwrap().details.peer, "127.0.0.1:71");
    let entry = "[[nodes]]\nid = \"new\"\nhttp = \"127.0.0.1:51\"\npeer = \"127.0.0.1:71\"\nweight = 2.0\nzone = \"z\"\n";
    for toml in [entry.to_string(), format!("{NODE}{entry}")] {
        let details = load_to_join(&toml, &[]).unwrap().node_spec("new").unwrap().joining.unwrap();
        assert_eq!((details.details.weight, details.details.zone.as_str()), (2.0, "z"));
        assert_eq!(details.ask, ["h:7"]);
    }
}

#[test]
fn a_node_that_joins_has_the_defaults_of_the_file_of_the_others() {
    let policy = |toml: &str| {
        let config = load_to_join(toml, &OWN).unwrap();
        (config.cluster.replication_factor, config.cluster.minority)
    };
    let other = |id: &str, port: u16| {
        format!(
            "[[nodes]]\nid = \"{id}\"\nhttp = \"127.0.0.1:{port}\"\npeer = \"127.0.0.1:1{port}\"\n"
        )
    };
    let two = other("a", 101) + &other("b", 102);
    assert_eq!(policy(&two), (2, Minority::Available));
    assert_eq!(policy(&(two + &other("c", 103))), (2, Minority::Refuse));
    assert_eq!(policy("[cluster]\nname = \"x\"\n"), (2, Minority::Refuse));
    let three = load_to_join("[cluster]\nreplication_factor = 3\n", &OWN).unwrap();
    assert_eq!(three.cluster.replication_factor, 3);
}

#[test]
fn what_a_node_that_joins_lacks_is_told() {
    let with_redis = format!("{NODE}redis_cluster = \"127.0.0.1:9\"\n");
    let taken = [OWN[0], ("LARIAT_PEER", "127.0.0.1:2")];
    let open = [OWN[0], ("LARIAT_PEER", "0.0.0.0:2")];
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 5] = [
        (
            NODE,
            &OWN[..1],
            "environment LARIAT_PEER: missing, expected the address of 'new', which is not listed, or a [[nodes]] entry of its own",
        ),
        (NODE, &[OWN[0], ("LARIAT_PEER", "x")], "environment LARIAT_PEER: invalid address 'x'"),
        (NODE, &taken, "environment LARIAT_PEER: '127.0.0.1:2' is used by nodes[0].peer too"),
        (NODE, &open, "environment LARIAT_PEER: '0.0.0.0:2' is not a loopback address"),
        (&with_redis, &OWN, "environment LARIAT_REDIS_CLUSTER: missing"),
    ];
    for (toml, environment, expected) in cases {
        let error = load_to_join(toml, environment).unwrap_err();
        assert!(error.contains(expected), "{expected} is not in:\n{error}");
    }
    let join = |id: Option<&str>, address: &str| {
        let environment = OWN.map(|(k, v)| (k.to_string(), v.to_string())).into();
        Config::load_to_join(None, &environment, id, &[address.into()]).map_err(|m| m.to_string())
    };
    assert!(join(Some("new"), "h:7").is_ok(), "no file is needed");
    for (id, address, expected) in [
        (Some("new"), "h", "--join: invalid address 'h', expected host:port"),
        (Some("new"), "h:0", "--join: invalid address 'h:0', expected a port"),
        (Some("a b"), "h:7", "--id: invalid name 'a b'"),
        (None, "h:7", "--join: --id is missing"),
    ] {
        let error = join(id, address).unwrap_err();
        assert!(error.contains(expected), "{expected} is not in:\n{error}");
    }
}
