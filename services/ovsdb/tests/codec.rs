// SPDX-License-Identifier: Apache-2.0
//! Messages and values as bytes: what is written is read the same, however it
//! comes, and no bytes are too odd to be refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod entry;

use std::collections::BTreeMap;

use dvs_ovsdb::{
    Atom, Cache, ColumnType, Columns, Datum, Map, Message, Real, Row, RowChange, Set, ValueError,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use uuid::Uuid;

/// Texts as tests of quoting need them.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,8}",
        select(vec![
            "", "{", "}}", "[[", "\"", "\\", "\\\"", "uuid", "set", "ü"
        ])
        .prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(text(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A message, as an object and as what it is read as.
fn message() -> impl Strategy<Value = (Value, Message)> {
    let kinds = || {
        let number = any::<u32>().prop_map(Value::from);
        let id = prop_oneof![number, text().prop_map(Value::from)];
        (id, text(), value(), any::<bool>())
    };
    let request = kinds().prop_map(|(id, method, params, _)| {
        let json = json!({"id": id, "method": method, "params": params});
        (json, Message::Request { id, method, params })
    });
    let notification = kinds().prop_map(|(_, method, params, _)| {
        let json = json!({"id": null, "method": method, "params": params});
        (json, Message::Notification { method, params })
    });
    let reply = kinds().prop_map(|(id, text, result, fails)| {
        let (result, error) = match fails {
            true => (Value::Null, Value::from(text)),
            false => (result, Value::Null),
        };
        let json = json!({"id": id, "result": result, "error": error});
        let outcome = if fails { Err(error) } else { Ok(result) };
        (json, Message::Reply { id, outcome })
    });
    prop_oneof![request, notification, reply]
}

/// White space, as JSON has it.
fn blank() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// Bytes cut at some places.
fn cut<'a>(bytes: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|at| at.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let ends = places.iter().copied().chain([bytes.len()]);
    let starts = [0].into_iter().chain(places.iter().copied());
    starts
        .zip(ends)
        .map(|(from, to)| &bytes[from..to])
        .collect()
}

proptest! {
    #[test]
    fn messages_are_the_same_however_they_are_cut(
        all in vec((message(), blank(), any::<bool>()), 0..6),
        places in vec(any::<Index>(), 0..12),
    ) {
        let mut bytes = String::new();
        for ((json, _), blank, pretty) in &all {
            let text = match pretty {
                true => serde_json::to_string_pretty(json).unwrap(),
                false => json.to_string(),
            };
            bytes.push_str(blank);
            bytes.push_str(&text);
        }
        let expected: Vec<Message> = all.into_iter().map(|((_, message), ..)| message).collect();
        let read = entry::messages(cut(bytes.as_bytes(), &places));
        prop_assert_eq!(read, (expected, None));
    }

    #[test]
    fn a_stream_that_ends_within_a_message_says_so(
        (json, _) in message(),
        end in any::<Index>(),
    ) {
        let text = json.to_string();
        // At least the brace, and not all of it.
        let end = 1 + end.index(text.len() - 1);
        let error = format!("the stream ends after {end} bytes of a message");
        let read = entry::messages([&text.as_bytes()[..end]]);
        prop_assert_eq!(read, (Vec::new(), Some(error)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        entry::frames(&bytes);
    }

    #[test]
    fn any_bytes_of_json_are_read_or_refused(bytes in "[{}\\[\\]\"\\\\,:0-9a-z ]{0,80}") {
        entry::frames(bytes.as_bytes());
        entry::frames(format!("{{{bytes}}}").as_bytes());
    }

    #[test]
    fn any_update_is_taken_or_refused(update in value(), rows in vec(row_update(), 0..4)) {
        entry::update(update.to_string().as_bytes());
        let rows: serde_json::Map<String, Value> = rows.into_iter().collect();
        entry::update(json!({"T": rows}).to_string().as_bytes());
        let deep = json!({"T": {Uuid::nil().to_string(): {"insert": update}}});
        entry::update(deep.to_string().as_bytes());
    }
}

#[test]
fn a_message_that_is_too_large_is_refused_before_it_is_there() {
    let text = format!("{{\"id\":\"{}", "x".repeat(entry::LIMIT));
    let (read, error) = entry::messages(text.as_bytes().chunks(100));
    assert_eq!(read, []);
    let expected = "a message is larger than 4096 bytes; monitor fewer columns or raise the limit";
    assert_eq!(error.as_deref(), Some(expected));
}

#[test]
fn what_is_no_json_rpc_is_named() {
    for (bytes, expected) in [
        (
            "[1]",
            "a message starts with byte 0x5b instead of an opening brace",
        ),
        ("{]", "a message of 2 bytes, beginning \"{]\", is no JSON"),
        (
            "{\"a\":1}",
            "a message beginning \"{\\\"a\\\":1}\" is no JSON-RPC",
        ),
        (
            "{\"method\":5}",
            "a message beginning \"{\\\"method\\\":5}\" is no JSON-RPC",
        ),
    ] {
        let (read, error) = entry::messages([bytes.as_bytes()]);
        assert_eq!((read, error.as_deref()), (Vec::new(), Some(expected)));
    }
}

/// An update of a row, of the right kind or not.
fn row_update() -> impl Strategy<Value = (String, Value)> {
    let uuid = prop_oneof![
        (0_u128..3).prop_map(|n| Uuid::from_u128(n).to_string()),
        text()
    ];
    let kind = select(vec!["initial", "insert", "modify", "delete", "other"]);
    let column = select(vec![
        "name", "on", "rate", "tag", "trunks", "rows", "ids", "none",
    ]);
    let value = prop_oneof![value(), datum().prop_map(|datum| json!(datum))];
    (uuid, kind, btree_map(column, value, 0..3))
        .prop_map(|(uuid, kind, columns)| (uuid, json!({kind: columns})))
}

fn real() -> impl Strategy<Value = Real> {
    any::<f64>().prop_filter_map("a finite number", Real::new)
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn strings() -> impl Strategy<Value = Map> {
    btree_map("[a-d]", "[a-d]{0,2}", 0..5).prop_map(Map::from_iter)
}

fn integers() -> impl Strategy<Value = Set> {
    btree_set(0_i64..9, 0..6).prop_map(Set::from_iter)
}

/// Values of every kind.
fn datum() -> impl Strategy<Value = Datum> {
    prop_oneof![
        any::<bool>().prop_map(Datum::from),
        any::<i64>().prop_map(Datum::from),
        text().prop_map(Datum::from),
        uuid().prop_map(Datum::from),
        vec(text(), 0..5).prop_map(Datum::set),
        vec(uuid(), 0..5).prop_map(Datum::set),
        btree_map(text(), text(), 0..5).prop_map(Datum::map),
        btree_map(any::<i64>(), uuid(), 0..5).prop_map(Datum::map),
    ]
}

/// What the server sends of a map that was `old` and is `new`
/// (ovsdb-server(7), "Update2 notification").
fn difference(old: &Map, new: &Map) -> Map {
    let gone = old.iter().filter(|(key, _)| new.get(key).is_none());
    let come = new
        .iter()
        .filter(|(key, value)| old.get(key) != Some(value));
    gone.chain(come).cloned().collect()
}

proptest! {
    #[test]
    fn values_are_read_as_they_were_written(datum in datum()) {
        prop_assert_eq!(Datum::from_json(json!(datum)), Ok(datum));
    }

    #[test]
    fn real_numbers_are_read_by_their_columns(number in real()) {
        let tables = entry::schema().tables;
        let rate: ColumnType = tables["T"]["rate"];
        let read = rate.read(json!(Datum::from(Atom::Real(number))));
        prop_assert_eq!(read, Ok(Datum::from(Atom::Real(number))));
    }

    #[test]
    fn a_difference_makes_of_the_old_value_the_new(
        (old, new) in (integers(), integers()),
        (was, is) in (strings(), strings()),
    ) {
        // What is in one alone is the difference of two sets, and undoes itself.
        let between = old.toggled(&new);
        prop_assert_eq!(old.toggled(&between), new.clone());
        prop_assert_eq!(new.toggled(&between), old);
        let between = difference(&was, &is);
        prop_assert_eq!(was.changed(&between), is);
    }
}

#[test]
fn what_a_server_never_sends_is_no_value() {
    let twice = |what: &str| ValueError::Twice(what.to_owned());
    for (json, error) in [
        (json!(["set", [1, 1]]), twice("1")),
        (json!(["map", [["a", 1], ["a", 2]]]), twice("\"a\"")),
        (json!(["uuid", "x"]), ValueError::Uuid("x".to_owned())),
        (json!(null), ValueError::Shape("null".to_owned())),
        (json!(["map", [1]]), ValueError::Shape("1".to_owned())),
        (json!(u64::MAX), ValueError::Number(u64::MAX.to_string())),
        (
            json!(["named-uuid", "row1"]),
            ValueError::Shape("[\"named-uuid\",\"row1\"]".to_owned()),
        ),
    ] {
        assert_eq!(Datum::from_json(json), Err(error));
    }
}

/// A row of the table, whole.
fn row() -> impl Strategy<Value = Row> {
    let tag = proptest::option::of(0_i64..4);
    ("[a-c]", any::<bool>(), tag, integers(), strings()).prop_map(|(name, on, tag, trunks, ids)| {
        Row::from_iter([
            ("name", Datum::from(name)),
            ("on", Datum::from(on)),
            ("rate", Datum::from(Atom::Real(Real::new(0.5).unwrap()))),
            ("tag", Datum::from(tag)),
            ("trunks", Datum::from(trunks)),
            ("rows", Datum::empty()),
            ("ids", Datum::from(ids)),
        ])
    })
}

/// What happens to one of few rows.
#[derive(Debug, Clone)]
enum Change {
    Becomes(u128, Row),
    Goes(u128),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0_u128..4, row()).prop_map(|(of, row)| Change::Becomes(of, row)),
        1 => (0_u128..4).prop_map(Change::Goes),
    ]
}

/// What the server says of a row: columns with their defaults are left out, and
/// of what changed only the change is said.
fn said(columns: &Columns, old: Option<&Row>, new: Option<&Row>) -> Value {
    let (Some(old), Some(new)) = (old, new) else {
        return match new {
            None => json!({"delete": null}),
            Some(row) => {
                let said = row
                    .iter()
                    .filter(|(name, value)| **value != columns[&***name].default_datum());
                json!({"insert": said.collect::<BTreeMap<_, _>>()})
            }
        };
    };
    let changed = new
        .iter()
        .filter(|(name, value)| old.get(name) != Some(value));
    let said = changed.map(|(name, value)| {
        let was = old.get(name).unwrap();
        let between = match (was, value) {
            (Datum::Set(was), Datum::Set(is)) if columns[name].many => Datum::Set(was.toggled(is)),
            (Datum::Map(was), Datum::Map(is)) => Datum::Map(difference(was, is)),
            (_, is) => is.clone(),
        };
        (name.to_string(), json!(between))
    });
    json!({"modify": said.collect::<BTreeMap<_, _>>()})
}

proptest! {
    #[test]
    fn a_copy_is_what_the_server_has_after_every_update(
        before in btree_map(0_u128..4, row(), 0..4),
        steps in vec(vec(change(), 1..4), 0..8),
    ) {
        let columns = &entry::schema().tables["T"];
        let mut model: BTreeMap<Uuid, Row> = before
            .into_iter()
            .map(|(id, row)| (Uuid::from_u128(id), row))
            .collect();
        let mut cache: Cache = entry::cache();
        let initial = model.iter().map(|(uuid, row)| {
            let insert = said(columns, None, Some(row));
            (uuid.to_string(), json!({"initial": insert["insert"]}))
        });
        let initial: BTreeMap<_, _> = initial.collect();
        cache.update(json!({"T": initial})).unwrap();
        prop_assert_eq!(cache.table("T"), &model);
        for step in steps {
            // Of two changes in one transaction the server tells the sum.
            let mut after = model.clone();
            for change in step {
                match change {
                    Change::Becomes(id, row) => drop(after.insert(Uuid::from_u128(id), row)),
                    Change::Goes(id) => drop(after.remove(&Uuid::from_u128(id))),
                }
            }
            let mut uuids: Vec<Uuid> = model.keys().chain(after.keys()).copied().collect();
            uuids.sort_unstable();
            uuids.dedup();
            uuids.retain(|uuid| model.get(uuid) != after.get(uuid));
            let update: BTreeMap<String, Value> = uuids
                .iter()
                .map(|uuid| {
                    let (old, new) = (model.get(uuid), after.get(uuid));
                    (uuid.to_string(), said(columns, old, new))
                })
                .collect();
            let expected: Vec<RowChange> = uuids
                .iter()
                .map(|uuid| RowChange {
                    table: "T".into(),
                    uuid: *uuid,
                    old: model.get(uuid).cloned(),
                    new: after.get(uuid).cloned(),
                })
                .collect();
            let changes = cache.update(json!({"T": update})).unwrap();
            model = after;
            prop_assert_eq!(changes, expected);
            prop_assert_eq!(cache.table("T"), &model);
        }
    }
}
