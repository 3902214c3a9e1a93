// SPDX-License-Identifier: Apache-2.0
//! The JSON Schemas of requests that may be written in several shapes; a
//! derived schema would know the most verbose one only.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::V1;
use super::config::{ApplyRequest, DOCUMENTS_MAX, DeleteRequest, ObjectRef, Options};
use crate::documents::Document;

impl JsonSchema for ApplyRequest {
    fn schema_name() -> Cow<'static, str> {
        "ApplyRequest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of_one = Document::json_schema(generator).to_value();
        let one = generator.subschema_for::<Document>();
        shapes(
            generator,
            "Documents to make true, all or none. Written as one document, as an array of them, \
             or as an object with `documents`; the options stand beside `kind` or beside \
             `documents`.",
            "documents",
            &of_one,
            &one,
        )
    }
}

impl JsonSchema for DeleteRequest {
    fn schema_name() -> Cow<'static, str> {
        "DeleteRequest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of_one = ObjectRef::json_schema(generator).to_value();
        let one = generator.subschema_for::<ObjectRef>();
        shapes(
            generator,
            "Names of objects to delete, all or none. Written as one reference, as an array of \
             them, or as an object with `objects`; the options stand beside `kind` or beside \
             `objects`. A whole document is a reference too: only what names the object is read.",
            "objects",
            &of_one,
            &one,
        )
    }
}

/// A request of one thing, of several, or of an envelope around them, the
/// first and the last with options beside.
fn shapes(
    generator: &mut SchemaGenerator,
    description: &str,
    list: &str,
    of_one: &Value,
    one: &Schema,
) -> Schema {
    let mut beside = fields(&Options::json_schema(generator).to_value());
    beside.insert("v".to_owned(), generator.subschema_for::<V1>().to_value());
    let several = json!({
        "type": "array",
        "items": one,
        "minItems": 1,
        "maxItems": DOCUMENTS_MAX,
    });
    let mut enveloped = beside.clone();
    enveloped.insert(list.to_owned(), several.clone());
    json_schema!({
        "description": description,
        "anyOf": [
            with_options(of_one, &beside),
            several,
            {
                "type": "object",
                "properties": enveloped,
                "required": [list],
                "additionalProperties": false,
            },
        ],
    })
}

fn fields(schema: &Value) -> Map<String, Value> {
    match schema.get("properties") {
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) | None => Map::new(),
    }
}

/// The schema of an object, or of each of its alternatives, with more fields.
fn with_options(schema: &Value, beside: &Map<String, Value>) -> Value {
    let mut schema = schema.clone();
    if let Some(Value::Array(alternatives)) = schema.get_mut("oneOf") {
        for alternative in alternatives {
            *alternative = with_options(alternative, beside);
        }
    } else if let Some(Value::Object(fields)) = schema.get_mut("properties") {
        fields.extend(beside.clone());
    }
    schema
}
