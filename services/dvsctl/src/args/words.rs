// SPDX-License-Identifier: Apache-2.0
//! Words that name something. `-o name` prints kind and name as one word,
//! `port/web-1`, and each command takes that word where it takes the name.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error, ValueEnum};
use dvs_schemas::{HostName, InvalidName, ObjectKey, PortId, SwitchName};

use super::{ObjectKind, Resource};
use crate::failure::Failure;

/// A kind, with a name if the word has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindWord<K> {
    /// The kind.
    pub kind: K,
    /// What follows the first slash.
    pub name: Option<String>,
}

impl<K> KindWord<K> {
    /// Kind and name, where the name may also be a word of its own.
    ///
    /// # Errors
    /// There are two names.
    pub fn with(self, word: Option<String>) -> Result<(K, Option<String>), Failure> {
        let Self { kind, name } = self;
        match (name, word) {
            (Some(name), Some(word)) => Err(Failure::Usage(format!(
                "{name} is named already, so {word} is one name too many"
            ))),
            (name, word) => Ok((kind, name.or(word))),
        }
    }
}

/// Parses a [`KindWord`].
#[derive(Debug)]
pub(super) struct KindWordParser<K>(PhantomData<fn() -> K>);

impl<K> KindWordParser<K> {
    /// The parser of a kind's words.
    pub(super) const NEW: Self = Self(PhantomData);
}

impl<K> Clone for KindWordParser<K> {
    fn clone(&self) -> Self {
        Self::NEW
    }
}

impl<K: ValueEnum + Clone + Send + Sync + 'static> TypedValueParser for KindWordParser<K> {
    type Value = KindWord<K>;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        word: &OsStr,
    ) -> Result<Self::Value, Error> {
        let parser = EnumValueParser::<K>::new();
        let split = word.to_str().and_then(|word| word.split_once('/'));
        Ok(match split {
            Some((kind, name)) => KindWord {
                kind: parser.parse_ref(command, arg, OsStr::new(kind))?,
                name: Some(name.to_owned()),
            },
            None => KindWord {
                kind: parser.parse_ref(command, arg, word)?,
                name: None,
            },
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = K::value_variants().iter();
        Some(Box::new(values.filter_map(ValueEnum::to_possible_value)))
    }
}

/// The word of an object: `port/web-1`, `portgroup/prod/web`.
#[must_use]
pub fn of_object(key: &ObjectKey) -> String {
    let kind = ObjectKind::from(key.kind()).to_possible_value();
    let kind = kind.as_ref().map_or("", PossibleValue::get_name);
    match key {
        ObjectKey::Switch(name) => format!("{kind}/{name}"),
        ObjectKey::PortGroup(switch, name) => format!("{kind}/{switch}/{name}"),
        ObjectKey::Port(name) => format!("{kind}/{name}"),
        ObjectKey::MirrorSession(switch, name) => format!("{kind}/{switch}/{name}"),
    }
}

/// The word of a host: `host/rack3-17`.
#[must_use]
pub fn of_host(host: &HostName) -> String {
    format!("host/{host}")
}

/// Parses `web-1` or `port/web-1`.
pub(super) fn port(word: &str) -> Result<PortId, InvalidName> {
    named(Resource::Ports, word)
}

/// Parses `h1` or `host/h1`.
pub(super) fn host(word: &str) -> Result<HostName, InvalidName> {
    named(Resource::Hosts, word)
}

/// Parses `prod` or `switch/prod`.
pub(super) fn switch(word: &str) -> Result<SwitchName, InvalidName> {
    named(Resource::Switches, word)
}

fn named<T: FromStr<Err = InvalidName>>(kind: Resource, word: &str) -> Result<T, InvalidName> {
    let name = match (word.split_once('/'), kind.to_possible_value()) {
        (Some((prefix, name)), Some(kind)) if kind.matches(prefix, true) => name,
        (Some(_) | None, Some(_) | None) => word,
    };
    name.parse()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_may_have_its_kind_before_it_by_any_of_the_kinds_words() {
        for word in ["web-1", "port/web-1", "ports/web-1", "Port/web-1"] {
            assert_eq!(port(word).unwrap().as_str(), "web-1");
        }
        assert_eq!(host("host/h1").unwrap().as_str(), "h1");
        assert_eq!(switch("sw/prod").unwrap().as_str(), "prod");
        for word in [
            "host/web-1",
            "port/",
            "port/prod/web",
            "/web-1",
            "port/port/a",
        ] {
            assert!(port(word).is_err(), "{word}");
        }
    }
}
