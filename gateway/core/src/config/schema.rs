//! The JSON Schema of the grammar, for editors.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::Value;

use super::raw::File;

/// The JSON Schema (draft 2020-12) of the configuration file, as committed at `config/gateway.schema.json`.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(WithoutNull);
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("title".into(), "gateway.yaml".into());
    schema.to_value()
}

/// A key that may be left out may not be null: the grammar has no null, an empty value is a slip.
#[derive(Debug, Clone)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [kind] = types.as_slice() {
                let kind = kind.clone();
                schema.insert("type".into(), kind);
            }
        }
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
        if let Some(Value::Array(shapes)) = schema.get_mut("anyOf") {
            shapes.retain(|shape| shape.get("type").is_none_or(|kind| kind != "null"));
            if let [Value::Object(only)] = shapes.as_mut_slice() {
                let only = std::mem::take(only);
                schema.remove("anyOf");
                for (key, value) in only {
                    schema.ensure_object().entry(key).or_insert(value);
                }
            }
        }
        transform_subschemas(self, schema);
    }
}
