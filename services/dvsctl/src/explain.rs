// SPDX-License-Identifier: Apache-2.0
//! Explains documents and their fields, from the same types that the
//! publisher reads them with.

use dvs_schemas::{MirrorSessionDoc, PortDoc, PortGroupDoc, SwitchDoc};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

use crate::args::{ExplainArgs, ObjectKind};
use crate::failure::{Failure, Verdict};
use crate::output::{print, table};
use clap::ValueEnum as _;

/// Runs `explain`.
///
/// # Errors
/// There is no such kind or field; says which there are.
pub fn run(args: &ExplainArgs) -> Result<Verdict, Failure> {
    print(&explain(&args.path)?)?;
    Ok(Verdict::Yes)
}

fn schema_of<T: JsonSchema>() -> Value {
    let schema: Schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<T>();
    schema.into()
}

/// The explanation of `KIND[.FIELD...]`.
///
/// # Errors
/// As [`run`].
pub fn explain(path: &str) -> Result<String, Failure> {
    let mut steps = path.split('.');
    let kind = steps.next().unwrap_or("");
    let root = match ObjectKind::from_str(kind, true) {
        Ok(ObjectKind::Switch) => schema_of::<SwitchDoc>(),
        Ok(ObjectKind::PortGroup) => schema_of::<PortGroupDoc>(),
        Ok(ObjectKind::Port) => schema_of::<PortDoc>(),
        Ok(ObjectKind::MirrorSession) => schema_of::<MirrorSessionDoc>(),
        Err(_) => {
            return Err(Failure::Usage(format!(
                "{kind:?} is no kind; allowed: switch, portgroup, port, mirror"
            )));
        }
    };
    let mut node = Node {
        root: &root,
        here: &root,
        description: text_of(root.get("description")),
        required: true,
    };
    let mut walked = kind.to_owned();
    for step in steps {
        let fields = node.fields();
        let Some((_, child)) = fields.into_iter().find(|(name, _)| name == step) else {
            let names: Vec<_> = node.fields().into_iter().map(|(name, _)| name).collect();
            let allowed = if names.is_empty() {
                "it has no fields".to_owned()
            } else {
                format!("allowed: {}", names.join(", "))
            };
            return Err(Failure::Usage(format!(
                "{walked} has no field {step:?}; {allowed}"
            )));
        };
        walked = format!("{walked}.{step}");
        node = child;
    }
    Ok(render(&walked, &node))
}

/// A place in a schema, with what the reference to it says beside.
#[derive(Clone)]
struct Node<'a> {
    root: &'a Value,
    here: &'a Value,
    description: String,
    required: bool,
}

fn text_of(description: Option<&Value>) -> String {
    let text = description.and_then(Value::as_str).unwrap_or("");
    // Doc comments refer to Rust items; their names will do.
    text.replace("[`", "").replace("`]", "").replace('`', "")
}

impl<'a> Node<'a> {
    /// The schemas that apply here: itself, what it refers to, and its
    /// alternatives.
    fn parts(&self) -> Vec<&'a Map<String, Value>> {
        let mut parts = Vec::new();
        let mut queue = vec![self.here];
        while let Some(schema) = queue.pop() {
            let Value::Object(fields) = schema else {
                continue;
            };
            parts.push(fields);
            if let Some(Value::String(path)) = fields.get("$ref") {
                let target = path.strip_prefix('#').and_then(|p| self.root.pointer(p));
                queue.extend(target);
            }
            for word in ["allOf", "anyOf", "oneOf"] {
                if let Some(Value::Array(items)) = fields.get(word) {
                    queue.extend(items.iter().rev());
                }
            }
        }
        parts
    }

    /// One of the items, if a list is meant.
    fn item(&self) -> Option<Node<'a>> {
        let here = self
            .parts()
            .into_iter()
            .find_map(|part| part.get("items"))?;
        Some(Node {
            root: self.root,
            here,
            description: String::new(),
            required: false,
        })
    }

    /// The fields below, or those of a list's items, in the order in which
    /// they are written.
    fn fields(&self) -> Vec<(String, Node<'a>)> {
        let mut all = self.item().map_or_else(Vec::new, |item| item.fields());
        for part in self.parts() {
            let Some(Value::Object(properties)) = part.get("properties") else {
                continue;
            };
            let required = part.get("required").and_then(Value::as_array);
            // Of alternatives (`access`, `trunk`) each is only one way to
            // write it, and described as a whole.
            let alternative = properties.len() == 1
                && part.get("additionalProperties") == Some(&Value::Bool(false))
                && required.is_some();
            for (name, here) in properties {
                let named = |names: &Vec<Value>| names.iter().any(|n| n == name);
                let mut node = Node {
                    root: self.root,
                    here,
                    description: text_of(here.get("description")),
                    required: !alternative && required.is_some_and(named),
                };
                if node.description.is_empty() && alternative {
                    node.description = text_of(part.get("description"));
                }
                if node.description.is_empty() {
                    let texts = node.parts().into_iter();
                    let mut texts = texts.map(|part| text_of(part.get("description")));
                    node.description = texts.find(|text| !text.is_empty()).unwrap_or_default();
                }
                all.push((name.clone(), node));
            }
        }
        all
    }

    /// What a value may be, in few words.
    fn allowed(&self) -> Vec<String> {
        let mut all = Vec::new();
        for part in self.parts() {
            if let Some(Value::Array(words)) = part.get("enum") {
                all.extend(
                    words
                        .iter()
                        .filter(|w| !w.is_null())
                        .map(ToString::to_string),
                );
            } else if let Some(word) = part.get("const") {
                all.push(word.to_string());
            } else if part.contains_key("items") {
                let items = self.item().map_or_else(Vec::new, |item| item.allowed());
                all.push(format!("a list of {}", items.join(" or ")));
            } else if let Some(kind) = part.get("type") {
                all.extend(of_type(kind, part));
            }
        }
        all.dedup();
        all
    }
}

fn of_type(kind: &Value, part: &Map<String, Value>) -> Option<String> {
    let kind = match kind {
        Value::String(kind) => kind.as_str(),
        // An optional value is written as a type or null.
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|k| *k != "null")?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    let bound = |word| part.get(word).map(ToString::to_string);
    Some(match kind {
        "integer" => match (bound("minimum"), bound("maximum")) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            (Some(least), None) => format!("{least} or more"),
            (None, Some(most)) => format!("{most} or less"),
            (None, None) => "an integer".to_owned(),
        },
        "boolean" => "true or false".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "fields as below".to_owned(),
        "null" => return None,
        "string" => match part.get("pattern").and_then(Value::as_str) {
            Some(pattern) => format!("text matching {pattern}"),
            None => "text".to_owned(),
        },
        other => other.to_owned(),
    })
}

fn render(path: &str, node: &Node<'_>) -> String {
    let mut text = format!("{path}\n");
    if !node.description.is_empty() {
        text.push_str(&format!("  {}\n", node.description.replace('\n', "\n  ")));
    }
    let fields = node.fields();
    let allowed = node.allowed();
    let only_fields = allowed.iter().all(|word| word == "fields as below");
    if !only_fields {
        text.push_str(&format!("  Allowed: {}\n", allowed.join(" | ")));
    }
    if fields.is_empty() {
        return text;
    }
    let rows = fields
        .into_iter()
        .map(|(name, field)| {
            let first = field
                .description
                .split("\n\n")
                .next()
                .unwrap_or("")
                .replace('\n', " ");
            let required = if field.required { "required" } else { "" };
            vec![format!("  {name}"), required.to_owned(), first]
        })
        .collect();
    text.push('\n');
    text.push_str(&table(&["  FIELD", "", "MEANING"], rows, false));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_field_says_what_it_means_and_may_be() {
        assert_eq!(
            explain("switch.mtu").unwrap(),
            "switch.mtu\n  Largest frame payload in bytes.\n  Allowed: 576 to 9216\n"
        );
        assert_eq!(
            explain("portgroup.policy.vlan").unwrap(),
            "portgroup.policy.vlan\n  VLAN tags.\n  Allowed: \"untagged\" | fields as below\n\n  \
             FIELD       MEANING\n  \
             access      All frames belong to this VLAN; the vNIC sees no tag.\n  \
             trunk       Tagged frames of these VLANs pass.\n  \
             private     The port belongs to a private VLAN (RFC 5517): the switch's \
             private_vlans say what role this VLAN has.\n"
        );
    }

    /// Every field that exists can be explained, and says something.
    #[test]
    fn no_field_is_without_a_meaning() {
        fn below(path: &str, node: &Node<'_>, depth: usize) {
            assert!(depth < 12, "{path} has no end");
            for (name, child) in node.fields() {
                let path = format!("{path}.{name}");
                assert!(!child.description.is_empty(), "{path}");
                assert!(explain(&path).unwrap().starts_with(&path));
                below(&path, &child, depth + 1);
            }
        }
        for (kind, root) in [
            ("switch", schema_of::<SwitchDoc>()),
            ("portgroup", schema_of::<PortGroupDoc>()),
            ("port", schema_of::<PortDoc>()),
            ("mirror", schema_of::<MirrorSessionDoc>()),
        ] {
            let node = Node {
                root: &root,
                here: &root,
                description: String::new(),
                required: true,
            };
            assert!(!node.fields().is_empty());
            below(kind, &node, 0);
        }
    }
}
