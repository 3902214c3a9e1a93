// SPDX-License-Identifier: Apache-2.0
//! Files of documents, YAML or JSON: every document with the place where it is
//! written, so that an error, ours or the publisher's, names file and line.

mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use dvs_schemas::v1::DOCUMENTS_MAX;
use dvs_schemas::{Document, ObjectKey, Problem};

use tree::Node;

/// Where a document, or a field of it, is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, or `stdin`.
    pub file: String,
    /// Line, from 1; unknown in a stream of JSON values.
    pub line: Option<u64>,
    /// Number of the document within the file, from 1.
    pub number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": document {}", self.number)
    }
}

/// A document and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The document.
    pub document: Document,
    /// Its first line.
    pub place: Place,
}

/// Files that can't be used as documents. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A file or folder can't be read.
    #[error("{path} can't be read")]
    Read {
        /// The file or folder.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A folder has none of the files that are looked for.
    #[error("{0} holds no *.yaml, *.yml or *.json file")]
    EmptyFolder(PathBuf),
    /// No document in any of the files.
    #[error(
        "no document in {0}; each is an object with a kind: Switch, PortGroup, Port or MirrorSession"
    )]
    Nothing(String),
    /// Neither YAML nor JSON.
    #[error("{file}: not readable as YAML or JSON: {message}")]
    Syntax {
        /// The file with line and column as far as they are known.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// A document that says something impossible.
    #[error("{place}, {problem}")]
    Document {
        /// Where the field is written.
        place: Place,
        /// What is wrong with it.
        problem: Box<Problem>,
    },
    /// The same object twice.
    #[error("{second}, {key} is written twice; the other one is at {first}")]
    Twice {
        /// The object.
        key: ObjectKey,
        /// Where it is written first.
        first: Box<Place>,
        /// Where it is written again.
        second: Box<Place>,
    },
    /// More documents than one request may carry.
    #[error("{0} documents; allowed: at most {DOCUMENTS_MAX} at a time")]
    TooMany(usize),
}

/// Reads all documents of the files and folders, `-` being standard input. An
/// object may be written once only.
///
/// # Errors
/// The first file, document or field that can't be used.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Written>, DocumentError> {
    let mut all = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(unreadable("stdin"))?;
            all.extend(parse("stdin", &text)?);
        } else if path.is_dir() {
            for file in files_in(path)? {
                all.extend(read_file(&file)?);
            }
        } else {
            all.extend(read_file(path)?);
        }
    }
    if all.is_empty() {
        let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        return Err(DocumentError::Nothing(names.join(", ")));
    }
    if all.len() > DOCUMENTS_MAX {
        return Err(DocumentError::TooMany(all.len()));
    }
    once_each(&all)?;
    Ok(all)
}

fn unreadable(path: impl fmt::Display) -> impl FnOnce(io::Error) -> DocumentError {
    let path = path.to_string();
    move |source| DocumentError::Read { path, source }
}

fn read_file(path: &Path) -> Result<Vec<Written>, DocumentError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(unreadable(&name))?;
    parse(&name, &text)
}

/// The folder's own files in order of their names; what lies deeper is left to
/// who names it.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let wanted = path
                .extension()
                .is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json");
            if wanted && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    };
    let files = list().map_err(unreadable(folder.display()))?;
    if files.is_empty() {
        return Err(DocumentError::EmptyFolder(folder.to_owned()));
    }
    Ok(files)
}

fn once_each(all: &[Written]) -> Result<(), DocumentError> {
    let mut seen: BTreeMap<ObjectKey, &Place> = BTreeMap::new();
    for written in all {
        let key = written.document.key();
        if let Some(first) = seen.insert(key.clone(), &written.place) {
            return Err(DocumentError::Twice {
                key,
                first: Box::new(first.clone()),
                second: Box::new(written.place.clone()),
            });
        }
    }
    Ok(())
}

/// Reads the documents of one text: YAML documents separated by `---`, JSON
/// values one after the other, or lists of either.
///
/// # Errors
/// The first document or field that can't be used.
pub fn parse(file: &str, text: &str) -> Result<Vec<Written>, DocumentError> {
    let roots = tree::parse(text).map_err(|error| DocumentError::Syntax {
        file: match error.at {
            Some((line, column)) => format!("{file}:{line}:{column}"),
            None => file.to_owned(),
        },
        message: error.message,
    })?;
    roots
        .into_iter()
        .flat_map(Node::into_documents)
        .enumerate()
        .map(|(index, node)| {
            let place = |line| Place {
                file: file.to_owned(),
                line,
                number: index + 1,
            };
            match Document::from_tree(node.to_value()) {
                Ok(document) => Ok(Written {
                    document,
                    place: place(node.line()),
                }),
                Err(problem) => Err(DocumentError::Document {
                    place: place(node.line_of(problem.field.as_deref().unwrap_or(""))),
                    problem: Box::new(problem),
                }),
            }
        })
        .collect()
}

/// The place of the document that a publisher's problem is about: it names the
/// document by its number in the request, which is that in `all`. The name
/// without the number, which says nothing to who wrote files, is left.
#[must_use]
pub fn locate(all: &[Written], mut problem: Problem) -> (Problem, Option<Place>) {
    let numbered = problem.document.as_deref().and_then(|text| {
        let (number, rest) = text.strip_prefix("documents[")?.split_once(']')?;
        Some((number.parse::<usize>().ok()?, rest.trim().to_owned()))
    });
    let Some((index, name)) = numbered else {
        let place = all
            .iter()
            .find(|w| problem.document.as_deref() == Some(&w.document.key().to_string()))
            .map(|w| w.place.clone());
        return (problem, place);
    };
    problem.document = Some(name).filter(|name| !name.is_empty());
    (problem, all.get(index).map(|w| w.place.clone()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SITE: &str = "\
kind: Switch
name: prod
---
# A comment, and an empty document:
---
kind: PortGroup
name: web
switch: prod
policy:
  vlan:
    trunk:
      vlans: [100, 200-299]
      native: 7
";

    fn keys(text: &str) -> Vec<String> {
        let all = parse("f", text).unwrap();
        all.iter().map(|w| w.document.key().to_string()).collect()
    }

    fn error(text: &str) -> String {
        parse("site.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn documents_are_read_from_yaml_json_and_lists_of_them() {
        assert_eq!(keys(SITE), ["Switch prod", "PortGroup prod/web"]);
        let json = r#"{"kind":"Switch","name":"a"}"#;
        assert_eq!(keys(json), ["Switch a"]);
        assert_eq!(keys(&format!("[{json}]")), ["Switch a"]);
        assert_eq!(
            keys(&format!("{json}\n{}", json.replace("\"a\"", "\"b\""))),
            ["Switch a", "Switch b"]
        );
        assert_eq!(
            keys("- {kind: Switch, name: a}\n- {kind: Switch, name: b}\n"),
            ["Switch a", "Switch b"]
        );
        assert_eq!(keys(&format!("{{\"documents\":[{json}]}}")), ["Switch a"]);
        assert_eq!(keys("# nothing\n"), [""; 0]);
    }

    #[test]
    fn yaml_means_what_the_same_json_means() {
        let json = r#"{"kind":"PortGroup","name":"web","switch":"prod",
            "policy":{"vlan":{"trunk":{"vlans":[100,"200-299"],"native":7}}}}"#;
        let from = |text| parse("f", text).unwrap().pop().unwrap().document;
        assert_eq!(from(SITE), from(json));
    }

    #[test]
    fn an_error_names_file_line_document_field_and_what_is_allowed() {
        assert_eq!(
            error(&SITE.replace("native: 7", "native: 5000")),
            "site.yaml:13: document 2, PortGroup web: policy.vlan.trunk.native: \
             VLAN 5000 is outside the allowed 1 to 4094"
        );
        assert_eq!(
            error(&SITE.replace("[100, 200-299]", "\n        - 100\n        - 9-3")),
            "site.yaml:14: document 2, PortGroup web: policy.vlan.trunk.vlans[1]: \
             VLAN range 9-3 is reversed; write 3-9"
        );
    }

    /// Whatever the text is read as: of two values one would be lost.
    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        let json = r#"{"kind":"Switch","name":"a","name":"b"}"#;
        let twice = SITE.replace("name: web\n", "name: web\nname: web2\n");
        for text in [json, &format!("{json}\n{json}"), &twice] {
            let error = error(text);
            assert!(
                error.contains("duplicate") && error.contains("name"),
                "{error}"
            );
        }
    }

    #[test]
    fn unknown_fields_and_kinds_are_named() {
        let text = error(&SITE.replace("switch: prod", "swich: prod"));
        assert!(
            text.starts_with(
                "site.yaml:8: document 2, PortGroup web: swich: unknown field `swich`"
            ),
            "{text}"
        );
        let text = error(&SITE.replace("kind: PortGroup", "kind: Portgroup"));
        assert!(
            text.starts_with("site.yaml:6: document 2, kind: unknown variant `Portgroup`"),
            "{text}"
        );
    }

    #[test]
    fn broken_text_names_line_and_column() {
        let text = error("kind: Switch\nname: [a\n");
        assert!(text.starts_with("site.yaml:"), "{text}");
        assert!(text.contains("not readable as YAML or JSON"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        let text = error("kind: Switch\nname: a\nname: b\n");
        assert!(text.starts_with("site.yaml:3:1"), "{text}");
    }

    #[test]
    fn an_object_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.json"));
        std::fs::write(&a, SITE).unwrap();
        std::fs::write(&b, r#"{"kind":"Switch","name":"prod"}"#).unwrap();
        let text = read(&[dir.path().to_owned()]).unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "{}:1: document 1, Switch prod is written twice; the other one is at {}:1: document 1",
                b.display(),
                a.display()
            )
        );
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_owned();
        assert!(matches!(
            read(std::slice::from_ref(&folder)),
            Err(DocumentError::EmptyFolder(_))
        ));
        let file = folder.join("empty.yaml");
        std::fs::write(&file, "---\n").unwrap();
        assert!(matches!(read(&[file]), Err(DocumentError::Nothing(_))));
        let absent = folder.join("absent.yaml");
        assert!(matches!(read(&[absent]), Err(DocumentError::Read { .. })));
    }

    #[test]
    fn a_large_site_fits_the_parsers_budget() {
        let mut text = String::new();
        for n in 0..DOCUMENTS_MAX {
            text.push_str(&format!(
                "---\nkind: Port\nname: p{n}\nswitch: prod\ngroup: web\nhost: h1\n\
                 vnic: vm-{n}/eth0\nmac: 52:54:00:12:34:56\npolicy: {{vlan: {{access: 7}}}}\n"
            ));
        }
        assert_eq!(parse("f", &text).unwrap().len(), DOCUMENTS_MAX);
    }

    #[test]
    fn the_publishers_problem_is_placed_in_the_users_file() {
        let all = parse("site.yaml", SITE).unwrap();
        let named = Problem::invalid("no such switch");
        for document in ["documents[1] PortGroup prod/web", "PortGroup prod/web"] {
            let (problem, place) = locate(&all, named.clone().of(document));
            assert_eq!(problem.document.as_deref(), Some("PortGroup prod/web"));
            assert_eq!(place.unwrap().to_string(), "site.yaml:6: document 2");
        }
        assert_eq!(locate(&all, named.clone()), (named, None));
    }
}
