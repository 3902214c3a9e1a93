// SPDX-License-Identifier: Apache-2.0
//! A text as a tree whose nodes know their line.

use std::fmt;

use dvs_schemas::tree::Tree;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

/// A value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    content: Content,
    line: Option<u64>,
}

#[derive(Debug)]
enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A text that is neither YAML nor JSON.
#[derive(Debug)]
pub(super) struct SyntaxError {
    /// Line and column, from 1.
    pub(super) at: Option<(u64, u64)>,
    /// What is wrong, on one line.
    pub(super) message: String,
}

/// Reads YAML documents (of which JSON is a kind), or JSON values one after
/// the other, as `jq` writes them. Empty documents are left out.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, SyntaxError> {
    // The bounds of a request (see DOCUMENTS_MAX) times what the largest
    // documents need, instead of the library's own, which end at 1,024
    // documents.
    let options = serde_saphyr::options! {
        with_snippet: false,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        budget: serde_saphyr::budget! {
            max_documents: 65_536,
            max_nodes: 2_000_000,
            max_events: 8_000_000,
        },
    };
    match serde_saphyr::from_multiple_with_options::<Spanned<Content>>(text, options) {
        Ok(roots) => Ok(roots.into_iter().map(Node::from).collect()),
        Err(error) => json_stream(text).ok_or_else(|| SyntaxError {
            at: error
                .location()
                .map(|at| (at.line(), at.column()))
                .filter(|(line, _)| *line > 0),
            message: one_line(&error),
        }),
    }
}

fn one_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ")
}

/// The values of a text that is JSON throughout.
fn json_stream(text: &str) -> Option<Vec<Node>> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Tree>()
        .map(|tree| tree.ok().map(|Tree(value)| Node::from(value)))
        .collect()
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        Self {
            content: spanned.value,
            line: Some(spanned.referenced.line()).filter(|line| *line > 0),
        }
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        let content = match value {
            Value::Array(items) => Content::List(items.into_iter().map(Self::from).collect()),
            Value::Object(fields) => Content::Map(
                fields
                    .into_iter()
                    .map(|(key, value)| (key, Self::from(value)))
                    .collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Content::Scalar(value)
            }
        };
        Self {
            content,
            line: None,
        }
    }
}

impl Node {
    /// The documents in a root: itself, or those of a list, or of an object
    /// that holds `documents` and no more, as requests on the bus do.
    pub(super) fn into_documents(self) -> Vec<Self> {
        match self.content {
            Content::Scalar(Value::Null) => Vec::new(),
            Content::List(items) => items,
            Content::Map(mut fields)
                if fields.len() == 1
                    && fields[0].0 == "documents"
                    && matches!(fields[0].1.content, Content::List(_)) =>
            {
                fields
                    .pop()
                    .map(|(_, list)| list.into_documents())
                    .unwrap_or_default()
            }
            content @ (Content::Scalar(_) | Content::Map(_)) => vec![Self {
                content,
                line: self.line,
            }],
        }
    }

    pub(super) fn line(&self) -> Option<u64> {
        self.line
    }

    /// The line of the field with this path, or of its nearest ancestor that
    /// is written at all.
    pub(super) fn line_of(&self, path: &str) -> Option<u64> {
        let mut node = self;
        let steps = path
            .split(['.', '['])
            .map(|step| step.trim_end_matches(']'));
        for step in steps.filter(|step| !step.is_empty()) {
            let child = match &node.content {
                Content::Scalar(_) => None,
                Content::List(items) => step.parse().ok().and_then(|i: usize| items.get(i)),
                Content::Map(fields) => fields
                    .iter()
                    .find(|(key, _)| key == step)
                    .map(|(_, value)| value),
            };
            match child {
                Some(child) => node = child,
                None => break,
            }
        }
        node.line
    }

    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Map(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(key, value)| (key.clone(), value.to_value()))
                    .collect(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Content, D::Error> {
        Content::deserialize(d)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Content>>()? {
            items.push(item.into());
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Spanned<Content>>()? {
            fields.push((key, value.into()));
        }
        Ok(Content::Map(fields))
    }
}
