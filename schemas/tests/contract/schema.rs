// SPDX-License-Identifier: Apache-2.0
//! JSON Schemas made from the types: draft-07, which AsyncAPI builds on, with
//! descriptions for readers who don't know Rust.

use dvs_schemas::{Document, Kind};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

/// Whose view a schema takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contract {
    /// Of who writes a message: what may be left out is optional.
    Asked,
    /// Of who reads it: what is always there is required.
    Told,
}

/// Turns Rust's documentation links into plain words.
#[derive(Debug, Clone)]
struct PlainWords;

impl Transform for PlainWords {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace("[`", "`").replace("`]", "`");
        }
        transform_subschemas(self, schema);
    }
}

fn generator(contract: Contract) -> SchemaGenerator {
    let settings = SchemaSettings::draft07().with_transform(PlainWords);
    match contract {
        Contract::Asked => settings.for_deserialize(),
        Contract::Told => settings.for_serialize(),
    }
    .into_generator()
}

/// The schema of a type.
pub(crate) fn schema_of<T: JsonSchema>(contract: Contract) -> Value {
    generator(contract).into_root_schema_for::<T>().into()
}

/// The schema of one kind of document.
pub(crate) fn schema_of_kind(kind: Kind) -> Value {
    let mut whole = schema_of::<Document>(Contract::Asked);
    let name = kind.to_string();
    let alternatives = whole["oneOf"].take();
    let Value::Array(alternatives) = alternatives else {
        panic!("a document is one of several kinds");
    };
    let own = alternatives
        .into_iter()
        .find(|schema| schema["properties"]["kind"]["const"] == name.as_str())
        .unwrap();
    let mut schema = Map::new();
    schema.insert("$schema".into(), whole["$schema"].take());
    schema.insert("title".into(), name.into());
    schema.extend(own.as_object().unwrap().clone());
    let Value::Object(mut definitions) = whole["definitions"].take() else {
        panic!("documents refer to definitions");
    };
    let needed = needed(&Value::Object(schema.clone()), &definitions);
    definitions.retain(|name, _| needed.contains(name));
    schema.insert("definitions".into(), definitions.into());
    Value::Object(schema)
}

/// Names of the definitions that a schema refers to, directly or not.
fn needed(schema: &Value, definitions: &Map<String, Value>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut queue = vec![schema];
    while let Some(value) = queue.pop() {
        match value {
            Value::Array(items) => queue.extend(items),
            Value::Object(fields) => {
                let name = fields
                    .get("$ref")
                    .and_then(Value::as_str)
                    .and_then(|path| path.strip_prefix("#/definitions/"));
                if let Some(name) = name
                    && !found.iter().any(|known| known == name)
                {
                    found.push(name.to_owned());
                    queue.push(&definitions[name]);
                }
                queue.extend(fields.values());
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}
