// SPDX-License-Identifier: Apache-2.0
//! Reads the contexts of the `nats` command line, so that whoever can use
//! `nats` on a machine can use dvswitch there with nothing more to set up.
//!
//! A context is `nats/context/<name>.json` below the configuration folder;
//! `nats/context.txt` names the selected one.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

/// What dvswitch uses of a context. The file belongs to the `nats` command
/// line and grows with it, so fields not named here are let pass.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Context {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) creds: String,
    pub(crate) nkey: String,
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) ca: String,
    pub(crate) inbox_prefix: String,
    pub(crate) user_jwt: String,
    pub(crate) user_seed: String,
    pub(crate) tls_first: bool,
    nsc: String,
    socks_proxy: String,
}

/// The folder that holds the contexts: `$XDG_CONFIG_HOME/nats`, else
/// `$HOME/.config/nats`; none for a user without a home (a container).
pub(crate) fn contexts_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".config")))
        .map(|config| config.join("nats"))
}

/// Loads the context `name`, or the selected one when no name is given.
/// `Ok(None)`: no name was given and none is selected.
pub(crate) fn load(dir: Option<&Path>, name: Option<&str>) -> Result<Option<Context>, Error> {
    let Some(dir) = dir else {
        return match name {
            Some(name) => Err(Error::NoContextFolder {
                name: name.to_owned(),
            }),
            None => Ok(None),
        };
    };
    let name = match name {
        Some(name) => name.to_owned(),
        None => match selected(dir)? {
            Some(name) => name,
            None => return Ok(None),
        },
    };
    // The name becomes a file name; a path in it would read elsewhere.
    if name.is_empty() || name.contains(['/', '\\']) || name.contains("..") {
        return Err(Error::ContextName { name });
    }
    read(dir, &name).map(Some)
}

/// The name in `context.txt`; an empty file selects nothing.
fn selected(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join("context.txt");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|name| !name.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File {
            what: "the selected context",
            path,
            source,
        }),
    }
}

fn read(dir: &Path, name: &str) -> Result<Context, Error> {
    let path = dir.join("context").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            Error::NoContext {
                name: name.to_owned(),
                path: path.clone(),
                known: known(dir).join(", "),
            }
        } else {
            Error::File {
                what: "the context",
                path: path.clone(),
                source,
            }
        }
    })?;
    let context: Context = serde_json::from_str(&text).map_err(|source| Error::ContextFormat {
        path: path.clone(),
        source,
    })?;
    // Going on without them would connect somewhere else, or as someone else.
    for (field, value) in [("nsc", &context.nsc), ("socks_proxy", &context.socks_proxy)] {
        if !value.is_empty() {
            return Err(Error::ContextField { path, field });
        }
    }
    Ok(context)
}

/// Names of the contexts that exist, for the error that helps.
fn known(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir.join("context"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".json")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("context")).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn no_folder_no_name_is_no_context() {
        assert_eq!(load(None, None).unwrap(), None);
        let dir = folder(&[]);
        assert_eq!(load(Some(dir.path()), None).unwrap(), None);
        assert_eq!(load(Some(&dir.path().join("absent")), None).unwrap(), None);
    }

    #[test]
    fn the_selected_context_is_read_with_fields_of_newer_clients() {
        let dir = folder(&[
            ("context.txt", "site\n"),
            (
                "context/site.json",
                r#"{"description":"x","url":"nats://a:1","nkey":"/k","windows_ca_certs_match":null,"jetstream_domain":""}"#,
            ),
        ]);
        let expected = Context {
            url: "nats://a:1".into(),
            nkey: "/k".into(),
            ..Context::default()
        };
        assert_eq!(load(Some(dir.path()), None).unwrap(), Some(expected));
    }

    #[test]
    fn a_named_context_goes_before_the_selected_one() {
        let dir = folder(&[
            ("context.txt", "site"),
            ("context/site.json", r#"{"url":"nats://a:1"}"#),
            ("context/lab.json", r#"{"url":"nats://b:1"}"#),
        ]);
        assert_eq!(
            load(Some(dir.path()), Some("lab")).unwrap().unwrap().url,
            "nats://b:1"
        );
    }

    #[test]
    fn an_unknown_context_names_the_known_ones() {
        let dir = folder(&[("context/lab.json", "{}"), ("context/site.json", "{}")]);
        let text = load(Some(dir.path()), Some("lub")).unwrap_err().to_string();
        assert!(text.contains("lub") && text.contains("lab, site"), "{text}");
    }

    #[test]
    fn a_broken_or_unusable_context_is_refused_with_its_path() {
        let dir = folder(&[
            ("context/broken.json", "{"),
            ("context/proxy.json", r#"{"socks_proxy":"socks5://x"}"#),
        ]);
        for (name, says) in [
            ("broken", "broken.json"),
            ("proxy", "socks_proxy"),
            ("../x", "../x"),
        ] {
            let text = load(Some(dir.path()), Some(name)).unwrap_err().to_string();
            assert!(text.contains(says), "{name}: {text}");
        }
    }
}
