// SPDX-License-Identifier: Apache-2.0
//! Identifiers. Each is parsed once, where it enters; afterwards its type is
//! the proof that it may stand in a subject, a ledger key or a file name.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::time::Timestamp;

/// Longest name, in bytes: a UUID (36) fits with room, and a subject of six
/// tokens stays far below what nats-server accepts for one line.
pub const NAME_MAX: usize = 63;

/// What a name may look like, for messages to users.
pub const NAME_ALLOWED: &str = "1 to 63 of A-Z a-z 0-9 _ and -, beginning with a letter or a digit";

/// A text that can't be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a {what}; allowed: {allowed}")]
pub struct InvalidName {
    /// Which identifier was expected, e.g. `port group name`.
    pub what: &'static str,
    /// The text that was found, cut to its first 80 characters.
    pub found: String,
    /// What would have been accepted.
    pub allowed: &'static str,
}

fn invalid(what: &'static str, found: &str, allowed: &'static str) -> InvalidName {
    InvalidName {
        what,
        found: found.chars().take(80).collect(),
        allowed,
    }
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= NAME_MAX
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-')
}

/// What the text types below share; the check differs.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $allowed:expr, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    Err(invalid($what, text, $allowed))
                }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidName;
            fn try_from(text: &str) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "a {} ({})", $what, $allowed)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                d.deserialize_str(Text)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "description": concat!("A ", $what, "."),
                })
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        text_id!($(#[$doc])* $name, $what, NAME_ALLOWED, "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", is_name);
    };
}

name!(
    /// A distributed switch.
    SwitchName, "switch name"
);
name!(
    /// A port group; unique within its switch.
    PortGroupName, "port group name"
);
name!(
    /// A mirroring session; unique within its switch.
    MirrorName, "mirror session name"
);
name!(
    /// A DVPort; unique in the whole store, because hypervisors name a port by
    /// it alone (`external_ids:iface-id`).
    PortId, "port name"
);
text_id!(
    /// A host. `all` is taken: it stands for every host where a reply subject
    /// needs a word in the host's place.
    HostName,
    "host name",
    "1 to 63 of A-Z a-z 0-9 _ and -, beginning with a letter or a digit, and not the word all",
    "^(?!all$)[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
    |text| is_name(text) && text != "all"
);
text_id!(
    /// A virtual network card, as the hypervisor calls it: `vm-7/eth0`, a
    /// UUID, a MAC address.
    VnicId,
    "vNIC name",
    "1 to 128 printable ASCII characters without spaces",
    "^[!-~]{1,128}$",
    |text| (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// A virtual machine or container, as its hypervisor calls it on every host:
    /// the UUID of a libvirt domain.
    MachineId,
    "machine name",
    "1 to 128 printable ASCII characters without spaces",
    "^[!-~]{1,128}$",
    |text| (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// A physical interface that carries a switch's traffic out of a host.
    /// Linux allows 15 bytes (`IFNAMSIZ` less its NUL).
    UplinkName,
    "uplink name",
    "1 to 15 printable ASCII characters without spaces and slashes",
    "^[!-.0-~]{1,15}$",
    |text| (1..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
);

/// Number of a commit in the publisher's ledger, store-wide, from 1. Every
/// object carries the revision that last changed it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);

    /// The revision of the commit after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Per DVPort, raised at each change of placement; the fence against late
/// hosts. It is numbered by the commit that placed the port, so a port that is
/// deleted and made anew under its old name doesn't begin at an epoch that some
/// host still remembers. 0 until the port is first placed.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of a placement by this commit of a ledger. Those of a ledger
    /// begin with the milliseconds in which it was made: what a later one
    /// numbers is later, though it counts its commits from 1 again, and nobody
    /// takes it for what an earlier one numbered. No ledger makes a thousand
    /// commits per second all its life.
    #[must_use]
    pub fn of(store: StoreId, commit: Revision) -> Self {
        Self(store.made().saturating_add(commit.0))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Number of a session: the time in which one agent is a host's for the
/// publisher, which gives it with its answer to the agent's hello. Of one host
/// later ones are larger, whoever numbered them; so everybody knows which words
/// are of an agent whose time is over, and that time never comes back.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl SessionId {
    /// A session that begins now, after this one. Counted in milliseconds since
    /// 1970, so that one is later than those that nobody remembers, too, unless
    /// the clock was set back.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Self {
        Self(self.0.saturating_add(1).max(now.0))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Identity of one publisher ledger, made when the file is. Revisions of two
/// ledgers can't be compared; being a time-ordered UUID (version 7), the
/// identity says which ledger is the later one. A host follows one of them, and
/// goes over to another by an operator's word.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct StoreId(pub Uuid);

impl StoreId {
    /// When the ledger was made, in milliseconds since 1970, as far as its
    /// identity says so.
    #[must_use]
    pub fn made(self) -> u64 {
        self.0.as_u64_pair().0 >> 16
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_ledger_numbers_is_later_though_it_counts_from_one_again() {
        let made = |ms: u64| StoreId(Uuid::from_u64_pair(ms << 16 | 0x7fff, u64::MAX));
        let earlier = Epoch::of(made(1_764_000_000_000), Revision(60_000));
        let later = Epoch::of(made(1_764_000_060_000), Revision(1));
        assert_eq!(earlier, Epoch(1_764_000_060_000));
        assert!(earlier < later, "{earlier} and {later}");
        assert!(Epoch(60_000) < earlier, "numbered before there were two");
        let last = StoreId(Uuid::max());
        assert_eq!(Epoch::of(last, Revision(u64::MAX)), Epoch(u64::MAX));
    }

    #[test]
    fn a_session_is_later_than_the_one_before_whatever_the_clock_says() {
        assert_eq!(SessionId(7).next(Timestamp(5_000)), SessionId(5_000));
        assert_eq!(SessionId(7_000).next(Timestamp(5_000)), SessionId(7_001));
        assert_eq!(SessionId(u64::MAX).next(Timestamp(0)), SessionId(u64::MAX));
    }

    #[test]
    fn names_that_would_break_a_subject_are_refused() {
        for bad in ["", "a.b", "a b", "*", ">", "a>", "-a", "é", &"x".repeat(64)] {
            assert!(bad.parse::<SwitchName>().is_err(), "{bad:?}");
        }
        for good in ["a", "7", "web_1-x", &"x".repeat(63)] {
            assert_eq!(
                good.parse::<SwitchName>().map(|n| n.to_string()),
                Ok(good.to_owned())
            );
        }
    }

    #[test]
    fn no_host_is_called_all() {
        assert!("all".parse::<HostName>().is_err());
        assert!("all-1".parse::<HostName>().is_ok());
    }
}
