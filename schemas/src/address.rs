// SPDX-License-Identifier: Apache-2.0
//! Link-layer and network addresses in policies.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A unicast Ethernet address: what a vNIC can have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

/// A text that is no unicast Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a unicast MAC address; allowed: six pairs of hex digits like \
     52:54:00:12:34:56, the first pair even, not all zero"
)]
pub struct InvalidMac {
    /// The text that was found, cut to its first 40 characters.
    pub found: String,
}

impl MacAddr {
    /// The six bytes in transmission order.
    #[must_use]
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddr {
    type Err = InvalidMac;
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let wrong = || InvalidMac {
            found: text.chars().take(40).collect(),
        };
        let mut octets = [0; 6];
        let mut pairs = text.split([':', '-']);
        for octet in &mut octets {
            let pair = pairs.next().ok_or_else(wrong)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        // The lowest bit of the first byte marks a group address (IEEE 802,
        // 8.2), which no card may send from.
        if pairs.next().is_some() || octets[0] & 1 == 1 || octets == [0; 6] {
            return Err(wrong());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = MacAddr;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MAC address like 52:54:00:12:34:56")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<MacAddr, E> {
                text.parse().map_err(E::custom)
            }
        }
        d.deserialize_str(Text)
    }
}

impl JsonSchema for MacAddr {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MacAddr".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9a-fA-F][02468aceACE]([:-][0-9a-fA-F]{2}){5}$",
            "description": "A unicast MAC address.",
        })
    }
}

/// The source addresses that a port may use in IPv4, IPv6, ARP and neighbour
/// discovery.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AddressList {
    /// No restriction.
    Any,
    /// These networks only, sorted, each at most once. A bare address is a
    /// network of one. An empty list lets no address pass.
    Only(Vec<IpNet>),
}

/// Most networks in one list. Each becomes a handful of flows per port;
/// larger sets belong to a firewall, not to a port's anti-spoofing rule.
pub const ADDRESSES_MAX: usize = 256;

impl Serialize for AddressList {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => s.serialize_str("any"),
            Self::Only(nets) => s.collect_seq(nets.iter().map(ToString::to_string)),
        }
    }
}

/// One element of an address list; exists so that an error carries its index.
struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
            .map_err(|_| {
                de::Error::custom(format_args!(
                    "{text:?} is no address; allowed: an IPv4 or IPv6 address or network, \
                     like 10.0.0.5, 10.1.0.0/24, fd00::/64"
                ))
            })?;
        if net.trunc() == net {
            Ok(Self(net))
        } else {
            Err(de::Error::custom(format_args!(
                "{net} has bits set beyond its prefix; did you mean {}?",
                net.trunc()
            )))
        }
    }
}

impl<'de> Deserialize<'de> for AddressList {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct AnyOrList;
        impl<'de> de::Visitor<'de> for AnyOrList {
            type Value = AddressList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"any\" or a list of addresses and networks")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<AddressList, E> {
                if text == "any" {
                    Ok(AddressList::Any)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<AddressList, A::Error> {
                let mut nets = Vec::new();
                while let Some(Network(net)) = seq.next_element()? {
                    nets.push(net);
                    if nets.len() > ADDRESSES_MAX {
                        return Err(de::Error::custom(format_args!(
                            "more than {ADDRESSES_MAX} addresses; use larger networks"
                        )));
                    }
                }
                nets.sort();
                nets.dedup();
                Ok(AddressList::Only(nets))
            }
        }
        d.deserialize_any(AnyOrList)
    }
}

impl JsonSchema for AddressList {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AddressList".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Source addresses that a port may use: \"any\", or a list of IPv4 and IPv6 addresses and networks.",
            "oneOf": [
                { "const": "any" },
                { "type": "array", "items": { "type": "string" }, "maxItems": ADDRESSES_MAX },
            ],
        })
    }
}
