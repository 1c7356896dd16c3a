//! The house rules that can be checked: layers, file lengths, nothing left over.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Modules of `actors` that decide things: time and randomness are arguments, effects are values.
const PURE: [&str; 20] = [
    "apply",
    "clock",
    "codec",
    "coordinator",
    "decimal",
    "founding",
    "handshake",
    "holding",
    "joining",
    "lease",
    "lru",
    "map",
    "op",
    "recency",
    "replication",
    "ring",
    "slot",
    "update",
    "version",
    "wire",
];

const LINES_MAX: usize = 500;

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["actors", "chaos", "src", "tests", "benches", "examples"] {
        collect(&root.join(directory), &mut files);
    }
    assert!(files.len() > 40, "the sources were not found");
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            (file.strip_prefix(root).unwrap().to_path_buf(), text)
        })
        .collect()
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn is_pure(file: &Path) -> bool {
    let Ok(rest) = file.strip_prefix("actors/src") else { return false };
    let first = rest.components().next().unwrap().as_os_str().to_str().unwrap();
    PURE.contains(&first.trim_end_matches(".rs"))
}

fn violations(check: impl Fn(&Path, usize, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = check(&file, number + 1, line) {
                found.push(format!("{}:{}: {what}", file.display(), number + 1));
            }
        }
    }
    found
}

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn rules_know_no_actors_sockets_clocks_or_chance() {
    let banned = [
        "actix",
        "tokio",
        "std::net",
        "Instant::now",
        "SystemTime",
        "rand::",
        "global_random",
        "std::thread",
    ];
    assert_none(violations(|file, _, line| {
        if !is_pure(file) || line.trim_start().starts_with("//") {
            return None;
        }
        let word = banned.iter().find(|word| line.contains(**word))?;
        Some(format!("a pure module mentions {word}"))
    }));
}

#[test]
fn rules_use_nothing_but_rules() {
    // Plain values of the others.
    let plain = ["control::Control", "spec::CacheSpec", "stats::NodeStats"];
    assert_none(violations(|file, _, line| {
        let code = line.split("//").next().unwrap();
        let used = code.split("crate::").skip(1).find(|used| {
            let module = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            !PURE.contains(&module) && !plain.iter().any(|plain| used.starts_with(plain))
        })?;
        is_pure(file).then(|| format!("a pure module uses {used}"))
    }));
}

#[test]
fn the_cache_knows_nothing_of_the_product_around_it() {
    assert_none(violations(|file, _, line| {
        let outside = ["actix_web", "clap", "toml"];
        let word = outside.iter().find(|w| file.starts_with("actors") && line.contains(**w))?;
        Some(format!("actors mentions {word}"))
    }));
}

#[test]
fn only_the_wire_speaks_bincode_and_only_time_reads_clocks() {
    assert_none(violations(|file, _, line| {
        let code = line.split("//").next().unwrap();
        if file.starts_with("actors/src") && code.contains("bincode") && !file.ends_with("wire.rs")
        {
            return Some("bincode outside wire".into());
        }
        let clock = code.contains("SystemTime::now") || code.contains("clock_gettime");
        (file.starts_with("actors/src") && clock && !file.ends_with("time.rs"))
            .then(|| "a clock is read outside time".into())
    }));
}

#[test]
fn the_architecture_page_lists_the_modules_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let page = read("docs/architecture.md");
    let (actors, rest) = page.split_once("| Module of the root crate").unwrap();
    let (product, _) = rest.split_once("## Threads").unwrap();
    for (table, files) in
        [(actors, &["actors/src/lib.rs"][..]), (product, &["src/lib.rs", "src/main.rs"])]
    {
        let text: String = files.iter().map(|file| read(file)).collect();
        let declared: BTreeSet<&str> = text.lines().filter_map(declared_module).collect();
        assert_eq!(listed_modules(table), declared, "{files:?}");
    }
}

fn declared_module(line: &str) -> Option<&str> {
    line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';')
}

/// What stands between backticks in the first column, where that begins with one.
fn listed_modules(table: &str) -> BTreeSet<&str> {
    let columns = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    columns
        .flat_map(|column| column.split('`').step_by(2))
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn files_stay_short() {
    let long = |(file, text): (PathBuf, String)| {
        let lines = text.lines().count();
        (lines > LINES_MAX)
            .then(|| format!("{}: {lines} lines, at most {LINES_MAX}", file.display()))
    };
    assert_none(sources().into_iter().filter_map(long).collect());
}

#[test]
fn nothing_is_left_over() {
    let marks = [
        "TO".to_string() + "DO",
        "FIX".to_string() + "ME",
        "#[ig".to_string() + "nore",
        "db".to_string() + "g!(",
    ];
    assert_none(violations(|_, _, line| {
        let mark = marks.iter().find(|mark| line.contains(mark.as_str()))?;
        Some(format!("{mark} is left over"))
    }));
}
