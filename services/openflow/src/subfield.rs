// SPDX-License-Identifier: Apache-2.0
//! Parts of fields, and what can be put into them.

use std::fmt;

use crate::field::{Field, FieldValue};

/// Some neighbouring bits of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subfield {
    field: Field,
    offset: u16,
    bits: u16,
}

impl Subfield {
    /// So many bits from `offset` on, counted from the lowest; None if there
    /// are none, or if the field ends before.
    #[must_use]
    pub fn new(field: Field, offset: u16, bits: u16) -> Option<Self> {
        let inside = offset.checked_add(bits)? <= field.bits();
        (inside && bits > 0).then_some(Self {
            field,
            offset,
            bits,
        })
    }

    /// The field.
    #[must_use]
    pub fn field(self) -> Field {
        self.field
    }

    /// The lowest bit.
    #[must_use]
    pub fn offset(self) -> u16 {
        self.offset
    }

    /// How many bits.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.bits
    }

    fn highest(self) -> u128 {
        u128::MAX >> (128 - u32::from(self.bits))
    }

    /// These bits with this value; None if they can't hold it.
    #[must_use]
    pub fn value(self, value: u128) -> Option<FieldValue> {
        let mask = self.highest();
        let fits = value <= mask;
        fits.then(|| FieldValue::new(self.field, value << self.offset, mask << self.offset))
            .flatten()
    }
}

impl From<Field> for Subfield {
    fn from(field: Field) -> Self {
        Self {
            field,
            offset: 0,
            bits: field.bits(),
        }
    }
}

impl fmt::Display for Subfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            offset,
            bits,
        } = *self;
        // By the name that a match has for it, `ovs-ofctl` copies the 16 bits
        // that a port had before OpenFlow 1.1.
        let name = match field {
            Field::InPort => "in_port_oxm",
            field => field.name(),
        };
        if Self::from(field) == *self {
            write!(f, "{name}[]")
        } else if bits == 1 {
            write!(f, "{name}[{offset}]")
        } else {
            write!(f, "{name}[{offset}..{}]", offset + bits - 1)
        }
    }
}

/// Bits that come from others, as many as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transfer {
    from: Subfield,
    to: Subfield,
}

impl Transfer {
    /// None if one has more bits than the other.
    #[must_use]
    pub fn new(from: impl Into<Subfield>, to: impl Into<Subfield>) -> Option<Self> {
        let (from, to) = (from.into(), to.into());
        (from.bits == to.bits).then_some(Self { from, to })
    }

    /// Where the bits come from.
    #[must_use]
    pub fn from(self) -> Subfield {
        self.from
    }

    /// Where they go.
    #[must_use]
    pub fn to(self) -> Subfield {
        self.to
    }
}

/// Bits that get a fixed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constant {
    to: Subfield,
    value: u128,
}

impl Constant {
    /// None if the bits can't hold the value.
    #[must_use]
    pub fn new(to: impl Into<Subfield>, value: u128) -> Option<Self> {
        let to = to.into();
        (value <= to.highest()).then_some(Self { to, value })
    }

    /// Where the value goes.
    #[must_use]
    pub fn to(self) -> Subfield {
        self.to
    }

    /// The value.
    #[must_use]
    pub fn value(self) -> u128 {
        self.value
    }
}
