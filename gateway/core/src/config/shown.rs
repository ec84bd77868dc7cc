//! The document as JSON: whole, and as it may be shown.

use serde_json::{Map, Number, Value};

use super::document::{Kind, Node, Scalar};

/// Stands where a secret was.
pub(crate) const REDACTED: &str = "[redacted]";

/// The whole value.
pub(crate) fn json(node: &Node) -> Value {
    convert(node, &mut Vec::new(), &|_, scalar| value(scalar))
}

/// The value without what came from the environment or a file, and without what is secret by its place.
pub(crate) fn redacted(node: &Node) -> Value {
    convert(node, &mut Vec::new(), &|path, scalar| match scalar.expanded || is_secret(path) {
        true => REDACTED.into(),
        false => value(scalar),
    })
}

fn convert<'a>(node: &'a Node, path: &mut Vec<&'a str>, scalar: &dyn Fn(&[&str], &Scalar) -> Value) -> Value {
    match &node.kind {
        Kind::Null | Kind::Refused => Value::Null,
        Kind::Scalar(text) => scalar(path, text),
        Kind::Sequence(items) => {
            path.push("*");
            let items = items.iter().map(|item| convert(item, path, scalar)).collect();
            path.pop();
            Value::Array(items)
        }
        Kind::Mapping(entries) => {
            let mut fields = Map::new();
            for entry in entries {
                path.push(&entry.key);
                fields.insert(entry.key.clone(), convert(&entry.value, path, scalar));
                path.pop();
            }
            Value::Object(fields)
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

/// Numbers and booleans by the core schema of YAML 1.2, where they are written without quotes.
fn value(scalar: &Scalar) -> Value {
    let text = scalar.text.as_str();
    if !scalar.plain || scalar.expanded {
        return text.into();
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        // A leading zero or sign would be lost, and with it what a name or a code was.
        _ if text.starts_with('0') && text.len() > 1 && !text.starts_with("0.") => text.into(),
        _ if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => text.into(),
        _ => number(text).map_or_else(|| text.into(), Value::Number),
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
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
        assert_eq!(shown["services"]["a"]["rollout"]["notify"][0]["format"], "slack");
        assert_eq!(shown["routes"]["r"]["basic_auth"]["users"]["ann"], REDACTED);
        assert_eq!(shown["routes"]["r"]["match"]["headers"]["x-tenant"], "acme");
        assert_eq!(shown["routes"]["r"]["headers"]["request"]["set"]["x-edge"], "gateway");
    }
}
