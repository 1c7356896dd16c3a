//! The tree of a cluster file: lines of its keys, what stands in it, and names that are like others.

use std::collections::HashMap;

use serde_json::Value;
use toml_edit::Item;

/// Notes the line of each key below an item.
pub(super) fn note_lines(lines: &mut HashMap<String, usize>, text: &str, key: &str, item: &Item) {
    if let Some(span) = item.span()
        && !key.is_empty()
    {
        lines.insert(key.to_string(), line_at(text, span.start));
    }
    let below =
        |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
    if let Some(table) = item.as_table_like() {
        for (name, item) in table.iter() {
            note_lines(lines, text, &below(name), item);
        }
    }
    if let Some(tables) = item.as_array_of_tables() {
        for (index, table) in tables.iter().enumerate() {
            let item = Item::Table(table.clone());
            note_lines(lines, text, &format!("{key}[{index}]"), &item);
        }
    }
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

/// The values that are not made of others, with their keys; a table or an array with nothing in it is
/// one.
pub(super) fn leaves<'v>(value: &'v Value, key: String, into: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                leaves(value, key, into);
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, format!("{key}[{index}]"), into);
            }
        }
        // A file with nothing in it has no key.
        _ if key.is_empty() => {}
        _ => into.push((key, value)),
    }
}

/// The name that was meant, if one of these is much like it.
pub(super) fn similar<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let close = names.map(|known| (distance(known, name), known)).filter(|(d, _)| *d <= 3);
    close.min().map(|(_, known)| known)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}
