//! The document as JSON: whole, and as it may be shown.

use std::cell::RefCell;

use miette::SourceSpan;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Number, Value};

use super::document::{Entry, Kind, Node, Scalar};

/// Stands where a secret was.
pub(crate) const REDACTED: &str = "[redacted]";

/// The whole value.
pub(crate) fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null | Kind::Refused => Value::Null,
        Kind::Scalar(scalar) => meant(scalar).into(),
        Kind::Sequence(items) => items.iter().map(json).collect(),
        Kind::Mapping(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect()
        }
    }
}

/// The value as JSON text, without what came from the environment or a file, and without what is secret by its place.
pub(crate) fn redacted(root: &Node) -> String {
    let path = RefCell::new(Vec::new());
    // A tree of texts with texts for keys always has a JSON form.
    serde_json::to_string(&Shown { node: root, path: &path }).unwrap_or_default()
}

/// Where secrets are written out in the file. What comes from the environment or a file is not there to be seen.
pub(crate) fn secrets(root: &Node) -> Vec<SourceSpan> {
    let mut found = Vec::new();
    find_secrets(root, &mut Vec::new(), &mut found);
    found
}

fn find_secrets<'a>(node: &'a Node, path: &mut Vec<&'a str>, found: &mut Vec<SourceSpan>) {
    let below: Vec<(&str, &Node)> = match &node.kind {
        Kind::Scalar(scalar) if !scalar.expanded && is_secret(path) => return found.push(node.span),
        Kind::Scalar(_) | Kind::Null | Kind::Refused => return,
        Kind::Sequence(items) => items.iter().map(|item| ("*", item)).collect(),
        Kind::Mapping(entries) => entries.iter().map(|entry| (entry.key.as_str(), &entry.value)).collect(),
    };
    for (step, node) in below {
        path.push(step);
        find_secrets(node, path, found);
        path.pop();
    }
}

/// A value and the keys that lead to it; `*` for an item of a list.
struct Shown<'a> {
    node: &'a Node,
    path: &'a RefCell<Vec<&'a str>>,
}

impl<'a> Shown<'a> {
    /// Calls `write` with what stands below `step`.
    fn below<T>(&self, step: &'a str, node: &'a Node, write: impl FnOnce(&Shown<'a>) -> T) -> T {
        self.path.borrow_mut().push(step);
        let written = write(&Shown { node, path: self.path });
        self.path.borrow_mut().pop();
        written
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.node.kind {
            Kind::Null | Kind::Refused => serializer.serialize_unit(),
            Kind::Scalar(scalar) if scalar.expanded || is_secret(&self.path.borrow()) => {
                serializer.serialize_str(REDACTED)
            }
            Kind::Scalar(scalar) => meant(scalar).serialize(serializer),
            Kind::Sequence(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items
                    .iter()
                    .try_for_each(|item| self.below("*", item, |shown| list.serialize_element(shown)))?;
                list.end()
            }
            Kind::Mapping(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for Entry { key, value, .. } in entries {
                    self.below(key, value, |shown| map.serialize_entry(key, shown))?;
                }
                map.end()
            }
        }
    }
}

/// Whether what stands at `path` is never shown.
fn is_secret(path: &[&str]) -> bool {
    matches!(
        path,
        ["admin", "token"]
            | ["fleet", "redis"]
            | ["services", _, "rollout", "notify", "*", "url"]
            | ["routes", _, "basic_auth", "users", ..]
    ) || match path {
        ["routes", _, "headers", "request", "set" | "add", name]
        | ["routes", _, "match", "headers", name, ..] => is_secret_header(name),
        _ => false,
    }
}

/// Header fields that usually hold credentials.
fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie", "key", "token", "secret", "password"].iter().any(|part| name.contains(part))
}

/// What a scalar means in JSON.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Meant<'a> {
    Text(&'a str),
    Boolean(bool),
    Number(Number),
}

impl From<Meant<'_>> for Value {
    fn from(meant: Meant<'_>) -> Self {
        match meant {
            Meant::Text(text) => text.into(),
            Meant::Boolean(boolean) => boolean.into(),
            Meant::Number(number) => Self::Number(number),
        }
    }
}

/// Numbers and booleans by the core schema of YAML 1.2, where they are written without quotes.
fn meant(scalar: &Scalar) -> Meant<'_> {
    let text = scalar.text.as_str();
    if !scalar.plain || scalar.expanded {
        return Meant::Text(text);
    }
    match text {
        "true" => Meant::Boolean(true),
        "false" => Meant::Boolean(false),
        // A leading zero would be lost, and with it what a name or a code was.
        _ if text.starts_with('0') && text.len() > 1 && !text.starts_with("0.") => Meant::Text(text),
        _ if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => Meant::Text(text),
        _ => number(text).map_or(Meant::Text(text), Meant::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    match text.parse::<i64>() {
        Ok(whole) => Some(whole.into()),
        Err(_) if text.contains('.') => Number::from_f64(text.parse().ok()?),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::document;
    use super::*;

    #[test]
    fn scalars_are_what_yaml_says_and_names_stay_names() {
        let text = "a: 1\nb: 1.5\nc: true\nd: 'true'\ne: 007\nf: 4e10\ng: x\nh: ~\ni: [-3, 1.2.3]\n";
        let root = document::parse(text, &mut Vec::new()).expect("a tree");
        let expected = json!({
            "a": 1, "b": 1.5, "c": true, "d": "true", "e": "007", "f": "4e10", "g": "x", "h": null, "i": [-3, "1.2.3"],
        });
        assert_eq!(json(&root), expected);
    }

    #[test]
    fn secrets_are_never_shown() {
        let text = "
admin: { listen: 'unix:/x', token: hunter2 }
fleet: { redis: 'redis://:hunter2@x' }
services: { a: { rollout: { notify: [ { url: hunter2, format: slack } ] } } }
routes:
  r:
    match: { headers: { x-api-key: { exact: hunter2 }, x-tenant: acme } }
    basic_auth: { realm: shop, users: { ann: hunter2 } }
    headers: { request: { set: { Authorization: Basic hunter2, x-edge: gateway } } }
";
        let root = document::parse(text, &mut Vec::new()).expect("a tree");
        let shown = redacted(&root);
        assert!(!shown.contains("hunter2"), "{shown}");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["services"]["a"]["rollout"]["notify"][0]["format"], "slack");
        assert_eq!(shown["routes"]["r"]["basic_auth"]["users"]["ann"], REDACTED);
        assert_eq!(shown["routes"]["r"]["match"]["headers"]["x-tenant"], "acme");
        assert_eq!(shown["routes"]["r"]["headers"]["request"]["set"]["x-edge"], "gateway");
    }
}
