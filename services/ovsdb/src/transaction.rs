// SPDX-License-Identifier: Apache-2.0
//! Transactions (RFC 7047 §5.2): several operations, all or none.

use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::atom::{RowName, ValueError};
use crate::datum::Datum;
use crate::row::Row;

/// How an operation changes a column (RFC 7047 §5.1, `<mutator>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutator {
    /// Elements or pairs come. A pair whose key is there stays as it is.
    Insert,
    /// Elements, pairs, or the pairs of keys go.
    Delete,
    /// A number grows by so much.
    Add,
}

impl Mutator {
    fn word(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Delete => "delete",
            Self::Add => "+=",
        }
    }
}

/// One thing that is done to the database.
#[derive(Debug, Clone, PartialEq)]
enum Operation {
    Insert(&'static str, RowName, Row),
    Update(&'static str, Uuid, Row),
    Mutate(&'static str, Uuid, &'static str, Mutator, Datum),
    Delete(&'static str, Uuid),
    Select(&'static str, Uuid, &'static str),
    Comment(String),
}

impl Operation {
    fn table(&self) -> &'static str {
        match self {
            Self::Insert(table, ..)
            | Self::Update(table, ..)
            | Self::Mutate(table, ..)
            | Self::Delete(table, _)
            | Self::Select(table, ..) => table,
            Self::Comment(_) => "the comment",
        }
    }
}

/// Operations that are carried out together or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    operations: Vec<Operation>,
    rows: u32,
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; so many rows were concerned, where that is counted.
    Done(Option<u64>),
    /// A row was inserted, with this id.
    Inserted(Uuid),
    /// These rows were read.
    Rows(Vec<Row>),
}

impl Transaction {
    /// Without operations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True if nothing would be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.iter().all(|operation| match operation {
            Operation::Insert(..)
            | Operation::Update(..)
            | Operation::Mutate(..)
            | Operation::Delete(..) => false,
            Operation::Select(..) | Operation::Comment(_) => true,
        })
    }

    /// A row comes. Columns that it doesn't name have their defaults. Other
    /// operations of this transaction may refer to it by the name.
    pub fn insert(&mut self, table: &'static str, row: Row) -> RowName {
        let name = RowName::numbered(self.rows);
        self.rows += 1;
        self.operations.push(Operation::Insert(table, name, row));
        name
    }

    /// Columns of a row get new values.
    pub fn update(&mut self, table: &'static str, row: Uuid, values: Row) {
        self.operations.push(Operation::Update(table, row, values));
    }

    /// A column of a row changes, relative to what it holds by then.
    pub fn mutate(
        &mut self,
        table: &'static str,
        row: Uuid,
        column: &'static str,
        mutator: Mutator,
        by: Datum,
    ) {
        let operation = Operation::Mutate(table, row, column, mutator, by);
        self.operations.push(operation);
    }

    /// A row goes.
    pub fn delete(&mut self, table: &'static str, row: Uuid) {
        self.operations.push(Operation::Delete(table, row));
    }

    /// What the server writes into its log with the transaction.
    pub fn comment(&mut self, text: impl Into<String>) {
        self.operations.push(Operation::Comment(text.into()));
    }

    /// Asks `ovs-vswitchd` to say when it has carried the transaction out:
    /// `cur_cfg` of the row is then at least what [`next_cfg`] finds among the
    /// outcomes (ovs-vswitchd.conf.db(5)). `root` is the one row of table
    /// `Open_vSwitch`.
    pub fn bump_next_cfg(&mut self, root: Uuid) {
        let (table, column) = ("Open_vSwitch", "next_cfg");
        self.mutate(table, root, column, Mutator::Add, Datum::from(1));
        self.operations.push(Operation::Select(table, root, column));
    }

    /// The table of an operation, by its number among the outcomes.
    pub(crate) fn table(&self, operation: usize) -> Option<&'static str> {
        self.operations.get(operation).map(Operation::table)
    }

    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    /// Parameters of `transact`.
    pub(crate) fn on<'a>(&'a self, database: &'a str) -> impl Serialize + 'a {
        Params {
            database,
            transaction: self,
        }
    }
}

/// The number that a transaction with [`Transaction::bump_next_cfg`] waits for.
#[must_use]
pub fn next_cfg(outcomes: &[Outcome]) -> Option<i64> {
    outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Rows(rows) => rows.first()?.integer("next_cfg"),
        Outcome::Done(_) | Outcome::Inserted(_) => None,
    })
}

impl Outcome {
    /// Reads the result of one operation.
    pub(crate) fn from_json(json: &Value) -> Result<Self, ValueError> {
        if let Some(Value::Array(pair)) = json.get("uuid")
            && let [_, Value::String(text)] = pair.as_slice()
        {
            let uuid = Uuid::try_parse(text).map_err(|_| ValueError::Uuid(text.clone()))?;
            return Ok(Self::Inserted(uuid));
        }
        let Some(Value::Array(rows)) = json.get("rows") else {
            return Ok(Self::Done(json.get("count").and_then(Value::as_u64)));
        };
        let row = |row: &Value| -> Result<Row, ValueError> {
            let columns = row.as_object().into_iter().flatten();
            let columns = columns
                .map(|(column, value)| Ok((column.as_str(), Datum::from_json(value.clone())?)));
            columns.collect()
        };
        let rows: Result<Vec<Row>, _> = rows.iter().map(row).collect();
        rows.map(Self::Rows)
    }
}

struct Params<'a> {
    database: &'a str,
    transaction: &'a Transaction,
}

impl Serialize for Params<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let operations = &self.transaction.operations;
        let mut list = serializer.serialize_seq(Some(operations.len() + 1))?;
        list.serialize_element(self.database)?;
        for operation in operations {
            list.serialize_element(operation)?;
        }
        list.end()
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let this = |row: &Uuid| json!([["_uuid", "==", ["uuid", row]]]);
        match self {
            Self::Insert(table, name, row) => {
                json!({"op": "insert", "table": table, "uuid-name": name, "row": row})
            }
            Self::Update(table, uuid, row) => {
                json!({"op": "update", "table": table, "where": this(uuid), "row": row})
            }
            Self::Mutate(table, uuid, column, mutator, by) => json!({
                "op": "mutate", "table": table, "where": this(uuid),
                "mutations": [[column, mutator.word(), by]]
            }),
            Self::Delete(table, uuid) => {
                json!({"op": "delete", "table": table, "where": this(uuid)})
            }
            Self::Select(table, uuid, column) => json!({
                "op": "select", "table": table, "where": this(uuid), "columns": [column]
            }),
            Self::Comment(text) => json!({"op": "comment", "comment": text}),
        }
        .serialize(serializer)
    }
}
