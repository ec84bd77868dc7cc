//! JSON laid out for reading, whatever its fields are: a command shows all that its gateway says, even one that is newer.

use serde_json::{Map, Value};

/// Lays an object out: its plain values first, one a line, then a table for each list or map of objects.
///
/// Always ends with a line break. What is not an object is written on one line.
pub fn render(value: &Value) -> String {
    let Value::Object(fields) = value else { return format!("{}\n", inline(value)) };
    let (sections, plain): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_section(value));

    let rows = plain.iter().map(|(key, value)| vec![label(key), cell(key, value)]).collect();
    let mut text = align(rows);
    for (key, value) in sections {
        text.push_str(&format!("\n{}\n", label(key).to_uppercase()));
        let lines = align(section(value));
        text.extend(lines.lines().map(|line| format!("  {line}\n")));
    }
    text
}

/// Writes a value on one line: lists with commas, fields as `key=value`.
pub fn inline(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => match number.as_f64() {
            // A weight of 90.0 reads as 90.
            Some(value) if number.is_f64() => value.to_string(),
            _ => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(inline).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}={}", inline(value))).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Whether a value gets a table of its own.
fn is_section(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => items.iter().any(Value::is_object),
        _ => false,
    }
}

/// The rows of a table, its head included.
fn section(value: &Value) -> Vec<Vec<String>> {
    match value {
        Value::Object(fields) if fields.values().all(Value::is_object) => {
            let named = fields.iter().map(|(name, value)| {
                let mut row = Map::new();
                row.insert("name".into(), Value::String(name.clone()));
                row.extend(value.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
                row
            });
            table(&named.collect::<Vec<_>>())
        }
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| vec![label(key), cell(key, value)]).collect()
        }
        Value::Array(items) => table(&items.iter().filter_map(Value::as_object).cloned().collect::<Vec<_>>()),
        plain => vec![vec![inline(plain)]],
    }
}

/// A head with every key in the order of its first appearance, then one row for each object.
fn table(rows: &[Map<String, Value>]) -> Vec<Vec<String>> {
    let mut columns: Vec<&String> = Vec::new();
    for key in rows.iter().flat_map(Map::keys) {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    let head = columns.iter().map(|key| label(key)).collect();
    let body = rows.iter().map(|row| {
        columns.iter().map(|key| row.get(*key).map_or_else(String::new, |value| cell(key, value))).collect()
    });
    std::iter::once(head).chain(body).collect()
}

/// Pads every column to its widest cell.
pub fn align(rows: Vec<Vec<String>>) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for (column, cell) in rows.iter().flat_map(|row| row.iter().enumerate()) {
        let width = cell.chars().count();
        match widths.get_mut(column) {
            Some(widest) => *widest = width.max(*widest),
            None => widths.push(width),
        }
    }
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// `uptime_seconds` → `uptime`: its values are written with their unit.
fn label(key: &str) -> String {
    key.strip_suffix("_seconds").unwrap_or(key).replace('_', " ")
}

fn cell(key: &str, value: &Value) -> String {
    match value.as_f64() {
        Some(seconds) if key.ends_with("_seconds") => duration(seconds),
        _ => inline(value),
    }
}

/// The two largest units that matter: `3d 4h`, `2m 5s`, `0.25s`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}s", (seconds * 1000.0).round() / 1000.0),
        (0, 0, _) => format!("{minutes}m {}s", whole % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_values_come_first_then_a_table_for_each_list_or_map() {
        let status = json!({
            "version": "0.1.0",
            "listeners": [{"name": "https", "connections": 12}, {"name": "http", "redirect": true}],
            "uptime_seconds": 3725.5,
            "services": {"api": {"stable": "api-41", "weights": {"api-41": 90, "api-42": 10}}},
            "config": {"path": "gateway.yaml", "revision": 3}
        });
        assert_eq!(
            render(&status),
            "\
version  0.1.0
uptime   1h 2m

LISTENERS
  name   connections  redirect
  https  12
  http                yes

SERVICES
  name  stable  weights
  api   api-41  api-41=90 api-42=10

CONFIG
  path      gateway.yaml
  revision  3
"
        );
    }

    #[test]
    fn times_are_written_with_two_units() {
        assert_eq!(duration(0.2504), "0.25s");
        assert_eq!(duration(59.0), "59s");
        assert_eq!(duration(125.9), "2m 5s");
        assert_eq!(duration(3_600.0), "1h 0m");
        assert_eq!(duration(273_600.0), "3d 4h");
    }

    #[test]
    fn what_is_no_object_is_one_line() {
        assert_eq!(render(&json!(["a", 1, 90.0, null, false])), "a, 1, 90, -, no\n");
    }
}
