//! Walks a merged cluster file, notes mistakes with file and line, and remembers where each value
//! came from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::Value;
use toml_edit::Document;

use super::tree::{leaves, line_at, note_lines, similar};
use crate::settings::check::does_not_fit;
use crate::settings::{Mistake, Mistakes, Origin};

const PREFIX: &str = "LARIAT__";

/// Settings that come from the environment by names of their own.
const SECRETS: [&str; 2] = ["LARIAT__CLUSTER__SECRET", "LARIAT__HTTP__TOKEN"];

/// Reads settings out of a file and an environment.
#[derive(Debug)]
pub(super) struct Reader {
    file: Option<PathBuf>,
    tree: Value,
    lines: HashMap<String, usize>,
    /// Keys set by something else than the file, and what that is: `environment NAME`, `--id`.
    overridden: HashMap<String, String>,
    /// What the environment has for a key, letter by letter.
    written: HashMap<String, String>,
    known: BTreeSet<String>,
    origins: Vec<Origin>,
    mistakes: Vec<Mistake>,
}

/// How a value is shown to people.
pub(super) trait Show {
    fn show(&self) -> String;
}

impl Reader {
    /// Reads the file and lays the environment over it.
    pub fn open(
        file: Option<&Path>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Mistakes> {
        let mut reader = Reader {
            file: file.map(Path::to_path_buf),
            tree: Value::Null,
            lines: HashMap::new(),
            overridden: HashMap::new(),
            written: HashMap::new(),
            known: BTreeSet::new(),
            origins: Vec::new(),
            mistakes: Vec::new(),
        };
        let text = match file.map(std::fs::read_to_string).transpose() {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => return Err(reader.fatal(None, format!("cannot be read: {error}"))),
        };
        match Document::parse(text.as_str()) {
            Ok(document) => note_lines(&mut reader.lines, &text, "", document.as_item()),
            Err(error) => {
                let line = error.span().map(|span| line_at(&text, span.start));
                let message = error.message().replace('\n', ", ");
                return Err(reader.fatal(line, format!("not valid toml: {message}")));
            }
        }
        let mut layers = config::Config::builder()
            .add_source(config::File::from_str(&text, config::FileFormat::Toml));
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if SECRETS.contains(&name.as_str()) {
                continue;
            }
            let key = reader.environment_key(rest);
            let variable = format!("environment {name}");
            if key.split(['.', '[']).next() == Some("nodes") {
                reader.mistake_outside(
                    &variable,
                    "[[nodes]] is not set by the environment, expected LARIAT_HTTP, LARIAT_PEER, LARIAT_REDIS or LARIAT_REDIS_CLUSTER for addresses of this node".into(),
                );
                continue;
            }
            // An index would make an array of what is a table.
            if key.contains('[') {
                reader.mistake_outside(&variable, "no such setting".into());
                continue;
            }
            layers = match layers.set_override(&key, scalar(value)) {
                Ok(layers) => layers,
                Err(_) => {
                    return Err(reader.fatal(None, format!("{variable}: no such setting")));
                }
            };
            reader.written.insert(key.clone(), value.clone());
            reader.overridden.insert(key, variable);
        }
        reader.tree = layers
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| reader.fatal(None, error.to_string()))?;
        Ok(reader)
    }

    /// `CACHES__MY_CACHE__CAPACITY` names the setting whose key is written so in capitals with
    /// dashes as underscores.
    fn environment_key(&self, rest: &str) -> String {
        let parts: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        if let [section, name, setting] = &parts[..]
            && section == "caches"
        {
            let same = |known: &&String| {
                let mut parts = known.split('.');
                parts.next() == Some("caches")
                    && parts.next().is_some_and(|n| n.to_lowercase().replace('-', "_") == *name)
            };
            let written = self.lines.keys().find(same).and_then(|known| known.split('.').nth(1));
            return format!("caches.{}.{setting}", written.unwrap_or(name));
        }
        parts.join(".")
    }

    fn fatal(&mut self, line: Option<usize>, message: String) -> Mistakes {
        let file = self.file.clone();
        Mistakes(vec![Mistake { file, line, key: String::new(), message }])
    }

    /// Is there a file, or only defaults?
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Notes a mistake at a key.
    pub fn mistake(&mut self, key: &str, message: String) {
        let mut mistake =
            Mistake { file: self.file.clone(), line: self.line(key), key: key.into(), message };
        if let Some(from) = self.overridden.get(key) {
            (mistake.file, mistake.line) = (None, None);
            mistake.key = from.clone();
        }
        self.mistakes.push(mistake);
    }

    /// Notes a mistake at a key, unless one that stands there already says what is wrong with it.
    pub fn further_mistake(&mut self, key: &str, message: String) {
        let written = self.overridden.get(key).map_or(key, String::as_str);
        if self.mistakes.iter().all(|mistake| mistake.key != written) {
            self.mistake(key, message);
        }
    }

    /// Notes a mistake that is none of the file: of an argument, or of a variable.
    pub fn mistake_outside(&mut self, key: &str, message: String) {
        self.mistakes.push(Mistake { file: None, line: None, key: key.into(), message });
    }

    /// The line of a key, or of what contains it.
    fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            let end = key.rfind(['.', '['])?;
            key = &key[..end];
        }
    }

    fn value(&mut self, key: &str) -> Option<Value> {
        self.known.insert(key.to_string());
        let mut value = &self.tree;
        for part in key.split('.') {
            let (name, index) = match part.split_once('[') {
                Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
                None => (part, None),
            };
            value = value.get(name)?;
            if let Some(index) = index {
                value = value.get(index)?;
            }
        }
        Some(value.clone())
    }

    /// Is this key set anywhere?
    pub fn is_set(&mut self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Length of an array of tables.
    pub fn length(&mut self, key: &str) -> Option<usize> {
        self.value(key)?.as_array().map(Vec::len).filter(|&length| length > 0)
    }

    /// Names of the tables below a key, in the file's order.
    pub fn tables(&mut self, key: &str) -> Vec<String> {
        let tables = match self.value(key) {
            None => return Vec::new(),
            Some(Value::Object(tables)) => tables,
            Some(other) => {
                self.mistake(key, no_table(&other));
                return Vec::new();
            }
        };
        let mut names: Vec<String> = tables.into_iter().map(|(name, _)| name).collect();
        names.sort_by_key(|name| (self.line(&format!("{key}.{name}")), name.clone()));
        names
    }

    /// A value of any kind: what is found is parsed, what is absent is the default.
    fn read<T: Clone>(
        &mut self,
        key: &str,
        default: T,
        show: impl Fn(T) -> String,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> T {
        let value = match self.value(key).map(|value| parse(&value)) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(message)) => {
                self.mistake(key, message);
                default
            }
        };
        self.origin(key, show(value.clone()));
        value
    }

    fn origin(&mut self, key: &str, value: String) {
        let from = match (self.overridden.get(key), self.lines.get(key), &self.file) {
            (Some(from), _, _) => from.clone(),
            (None, Some(line), Some(file)) => format!("{}:{line}", file.display()),
            _ => "default".into(),
        };
        self.origins.push(Origin { key: key.into(), value, from });
    }

    /// A text with a syntax of its own.
    pub fn parsed<T: Clone>(
        &mut self,
        key: &str,
        default: T,
        show: impl Fn(T) -> String,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.read(key, default, show, |value| match value {
            Value::String(text) => parse(text),
            other => parse(&other.to_string()),
        })
    }

    /// A text; without a default it must be given.
    pub fn text(
        &mut self,
        key: &str,
        default: Option<&str>,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> String {
        if default.is_none() && !self.is_set(key) {
            self.mistake(key, "missing, expected a value".into());
            return String::new();
        }
        let default = default.unwrap_or_default().to_string();
        // What looks like a number there is a text all the same.
        let written = self.written.get(key).cloned();
        self.read(
            key,
            default,
            |text| text,
            |value| match (written, value) {
                (Some(text), _) => check(&text).map(|()| text),
                (None, Value::String(text)) => check(text).map(|()| text.clone()),
                (None, other) => Err(format!("{other} is no text, expected it in quotes")),
            },
        )
    }

    /// A text that something else than the file may set; `from` says what, in mistakes too.
    pub fn text_or(
        &mut self,
        key: &str,
        default: Option<&str>,
        other: Option<String>,
        from: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> String {
        let Some(value) = other else { return self.text(key, default, check) };
        self.known.insert(key.to_string());
        self.overridden.insert(key.to_string(), from.to_string());
        if let Err(message) = check(&value) {
            self.mistake(key, message);
        }
        self.origin(key, value.clone());
        value
    }

    /// One of some words.
    pub fn choice(
        &mut self,
        key: &str,
        default: &'static str,
        words: &[&'static str],
    ) -> &'static str {
        self.read(key, default, str::to_string, |value| {
            let found = words.iter().copied().find(|word| value.as_str() == Some(word));
            found.ok_or_else(|| format!("{value} is not known, expected {}", words.join(" or ")))
        })
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, key: &str, default: usize, bounds: RangeInclusive<usize>) -> usize {
        self.read(key, default, |n| n.to_string(), |value| whole(value, &bounds))
    }

    /// A whole number that may be left out.
    pub fn optional_integer(&mut self, key: &str, bounds: RangeInclusive<usize>) -> Option<usize> {
        let show = |n: Option<usize>| {
            n.map(|n| n as u64).map_or("as the cluster".into(), |n| Some(n).show())
        };
        self.read(key, None, show, |value| whole(value, &bounds).map(Some))
    }

    /// A number within bounds.
    pub fn number(&mut self, key: &str, default: f64, bounds: RangeInclusive<f64>) -> f64 {
        self.read(
            key,
            default,
            |n| n.to_string(),
            |value| {
                let fits = value.as_f64().filter(|n| bounds.contains(n));
                fits.ok_or_else(|| does_not_fit(value, "number", &bounds))
            },
        )
    }

    /// True or false.
    pub fn boolean(&mut self, key: &str, default: bool) -> bool {
        self.read(
            key,
            default,
            |b| b.to_string(),
            |value| value.as_bool().ok_or_else(|| format!("{value} is neither true nor false")),
        )
    }

    /// A table of texts.
    pub fn strings(
        &mut self,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> HashMap<String, String> {
        let mut texts = HashMap::new();
        for name in self.tables(key) {
            let text = self.text(&format!("{key}.{name}"), None, &check);
            texts.insert(name, text);
        }
        texts
    }

    /// The content of a file that only its owner may read, or a variable's; empty without either.
    /// Surrounding white space does not count.
    pub fn secret_file(&mut self, key: &str, variable: Option<&String>, name: &str) -> Vec<u8> {
        let path = self.text(key, Some(""), |_| Ok(()));
        self.origins.pop();
        if let Some(secret) = variable {
            self.origins.push(Origin {
                key: key.into(),
                value: "(hidden)".into(),
                from: format!("environment {name}"),
            });
            return secret.trim().as_bytes().to_vec();
        }
        if path.is_empty() {
            self.origin(key, "(none)".into());
            return Vec::new();
        }
        self.origin(key, format!("{path} (hidden)"));
        let directory = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
        let full = directory.join(&path);
        if is_world_readable(&full) {
            self.mistake(key, format!("'{path}' can be read by everyone, expected mode 600"));
        }
        match std::fs::read(&full) {
            Ok(bytes) => bytes.trim_ascii().to_vec(),
            Err(error) => {
                self.mistake(key, format!("'{path}' cannot be read: {error}"));
                Vec::new()
            }
        }
    }

    /// Where each value came from.
    pub fn origins(&mut self) -> Vec<Origin> {
        std::mem::take(&mut self.origins)
    }

    /// Notes keys that nobody asked for, and gives all mistakes.
    pub fn finish(mut self) -> Result<(), Mistakes> {
        let (tree, mut found) = (std::mem::take(&mut self.tree), Vec::new());
        leaves(&tree, String::new(), &mut found);
        for (key, value) in found {
            if let Some(message) = self.unasked(&key, value) {
                self.mistake(&key, message);
            }
        }
        if self.mistakes.is_empty() {
            return Ok(());
        }
        self.mistakes.sort_by_key(|mistake| mistake.line);
        Err(Mistakes(self.mistakes))
    }

    /// What is wrong with a key that nobody asked for; `None` if somebody did, for it or for what may
    /// stand below it.
    fn unasked(&self, key: &str, value: &Value) -> Option<String> {
        let is_below = |key: &str, table: &str| {
            key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
        };
        let names_nodes = |known: &String| known.ends_with(".dial") && is_below(key, known);
        if self.known.contains(key) || self.known.iter().any(names_nodes) {
            return None;
        }
        if self.known.iter().any(|known| is_below(known, key)) {
            return (!value.is_object()).then(|| no_table(value));
        }
        let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
        let siblings = self.known.iter().filter_map(|known| {
            let (p, n) = known.rsplit_once('.').unwrap_or(("", known));
            (p == parent).then_some(n)
        });
        Some(match similar(name, siblings) {
            Some(like) => format!("unknown key, did you mean '{like}'?"),
            None => "unknown key".into(),
        })
    }
}

fn no_table(value: &Value) -> String {
    format!("{value} is no table, expected keys with values")
}

fn whole(value: &Value, bounds: &RangeInclusive<usize>) -> Result<usize, String> {
    let fits = value.as_u64().map(|n| n as usize).filter(|n| bounds.contains(n));
    fits.ok_or_else(|| does_not_fit(value, "whole number", bounds))
}

/// A variable's text as the TOML value it looks like.
fn scalar(text: &str) -> config::Value {
    if let Ok(number) = text.parse::<i64>() {
        number.into()
    } else if let Ok(truth) = text.parse::<bool>() {
        truth.into()
    } else {
        text.into()
    }
}

fn is_world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0)
}
