// SPDX-License-Identifier: Apache-2.0
//! Every document and message type says the same in both formats: what is
//! written is read back equal, from JSON and from MessagePack, and what is
//! written as JSON fits its schema.

use dvs_schemas::arbitrary::{document, messages};
use dvs_schemas::codec::{decode, encode};
use dvs_schemas::problem::ProblemBody;
use dvs_schemas::v1::*;
use dvs_schemas::{Document, Format, Problem};
use proptest::prelude::*;
use serde_json::Value;

use crate::catalogue::for_each_message;
use crate::schema::{Contract, schema_of};

/// Few cases, for there are many types; and failures are not recorded, since
/// their printed value says all.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// How a type is read: by the codec, unless it has several shapes.
trait Read: Sized {
    fn read(bytes: &[u8]) -> Result<(Format, Self), Problem>;
}

macro_rules! read_by_itself {
    (asked ApplyRequest $a:ident; asked DeleteRequest $b:ident; $($role:ident $type:ident $strategy:ident;)*) => {
        impl Read for ApplyRequest {
            fn read(bytes: &[u8]) -> Result<(Format, Self), Problem> {
                Self::decode(bytes)
            }
        }
        impl Read for DeleteRequest {
            fn read(bytes: &[u8]) -> Result<(Format, Self), Problem> {
                Self::decode(bytes)
            }
        }
        $(impl Read for $type {
            fn read(bytes: &[u8]) -> Result<(Format, Self), Problem> {
                decode(bytes)
            }
        })*
    };
}
for_each_message!(read_by_itself);

impl Read for Document {
    fn read(bytes: &[u8]) -> Result<(Format, Self), Problem> {
        decode(bytes)
    }
}

macro_rules! roundtrips {
    ($($role:ident $type:ident $strategy:ident;)*) => {
        proptest! {
            #![proptest_config(config())]
            $(#[test]
            fn $strategy(value in messages::$strategy()) {
                for format in [Format::Json, Format::MessagePack] {
                    let bytes = encode(format, &value).unwrap();
                    prop_assert_eq!($type::read(&bytes), Ok((format, value.clone())));
                }
            })*
        }

        mod fits {
            use super::*;
            $(#[test]
            fn $strategy() {
                fits_its_schema::<$type>(&messages::$strategy());
            })*
        }
    };
}
for_each_message!(roundtrips);

/// What services write fits both what readers are told to expect and what
/// writers are told to write.
fn fits_its_schema<T: serde::Serialize + schemars::JsonSchema + std::fmt::Debug>(
    strategy: &impl Strategy<Value = T>,
) {
    let validators = [Contract::Asked, Contract::Told]
        .map(|contract| jsonschema::validator_for(&schema_of::<T>(contract)).unwrap());
    proptest!(config(), |(value in strategy)| {
        let tree = serde_json::to_value(&value).unwrap();
        for validator in &validators {
            let errors: Vec<_> = validator.iter_errors(&tree).map(|e| e.to_string()).collect();
            prop_assert!(errors.is_empty(), "{}\n{:#}", errors.join("\n"), tree);
        }
    });
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn documents(value in document()) {
        for format in [Format::Json, Format::MessagePack] {
            let bytes = encode(format, &value).unwrap();
            prop_assert_eq!(Document::read(&bytes), Ok((format, value.clone())));
        }
    }

    /// A document that was translated from one format into the other by
    /// somebody who knows neither is still the same document.
    #[test]
    fn translated_documents(document in document()) {
        let packed = encode(Format::MessagePack, &document).unwrap();
        let tree: Value = rmp_serde::from_slice(&packed).unwrap();
        let text = serde_json::to_vec(&tree).unwrap();
        prop_assert_eq!(Document::read(&text), Ok((Format::Json, document)));
    }
}

#[test]
fn documents_fit_their_schema() {
    fits_its_schema::<Document>(&document());
}
