// SPDX-License-Identifier: Apache-2.0
//! The checked-in files are those that the types make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dvs_schemas::problem::ProblemBody;
use dvs_schemas::v1::*;
use dvs_schemas::{Document, Kind};
use serde_json::Value;

use crate::asyncapi;
use crate::catalogue::for_each_message;
use crate::schema::{Contract, schema_of, schema_of_kind};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("json/v1")
}

/// Every schema by its file's name without ending.
pub(crate) fn schemas() -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for kind in Kind::ALL {
        all.insert(kind.to_string(), schema_of_kind(kind));
    }
    all.insert("Document".into(), schema_of::<Document>(Contract::Asked));
    macro_rules! collect {
        ($($role:ident $type:ident $strategy:ident;)*) => {
            $(
                let contract = if stringify!($role) == "asked" {
                    Contract::Asked
                } else {
                    Contract::Told
                };
                all.insert(stringify!($type).into(), schema_of::<$type>(contract));
            )*
        };
    }
    for_each_message!(collect);
    all
}

fn text(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn the_json_schemas_are_up_to_date() {
    std::fs::create_dir_all(folder()).unwrap();
    for (name, schema) in schemas() {
        let path = folder().join(format!("{name}.json"));
        expectorate::assert_contents(path, &text(&schema));
    }
}

#[test]
fn there_are_no_other_json_schemas() {
    let known: Vec<String> = schemas().into_keys().collect();
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".json").unwrap_or(&name).to_owned())
        .collect();
    found.sort();
    assert_eq!(found, known, "delete the files that no type makes");
}

#[test]
fn the_json_schemas_are_schemas() {
    for (name, schema) in schemas() {
        assert!(jsonschema::draft7::meta::is_valid(&schema), "{name}");
    }
}

#[test]
fn the_asyncapi_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("asyncapi.json");
    expectorate::assert_contents(path, &text(&asyncapi::document(&schemas())));
}
