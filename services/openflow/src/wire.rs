// SPDX-License-Identifier: Apache-2.0
//! Reading and writing of big-endian bytes, without a panic on any input.

use bytes::BytesMut;

/// Bytes that are no OpenFlow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end within it.
    #[error("{what} ends too early")]
    Short {
        /// What was read.
        what: &'static str,
    },
    /// It names a length that it can't have.
    #[error("{what} says that it has {length} bytes")]
    Length {
        /// What was read.
        what: &'static str,
        /// The length it names.
        length: usize,
    },
    /// It holds a number that has no meaning there.
    #[error("{what} is {value:#x}, which has no meaning")]
    Value {
        /// What was read.
        what: &'static str,
        /// The number.
        value: u64,
    },
}

/// Takes values off the front of some bytes.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is left, without taking it.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let short = Malformed::Short { what: self.what };
        let (array, rest) = self.bytes.split_first_chunk().ok_or(short)?;
        self.bytes = rest;
        Ok(*array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number of `length` bytes; of more than 16 the last 16 count.
    pub(crate) fn uint(&mut self, length: usize) -> Result<u128, Malformed> {
        let bytes = self.take(length)?;
        let fold = |number: u128, byte: &u8| number << 8 | u128::from(*byte);
        Ok(bytes.iter().fold(0, fold))
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let short = Malformed::Short { what: self.what };
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(short)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn skip(&mut self, length: usize) -> Result<(), Malformed> {
        self.take(length).map(|_| ())
    }

    /// Takes a part of the given length, to be read by itself.
    pub(crate) fn part(&mut self, what: &'static str, length: usize) -> Result<Self, Malformed> {
        self.take(length).map(|bytes| Self { what, bytes })
    }

    /// Takes an element that names its own length, of which this much has to
    /// be there: `before` bytes, then the length as 16 bits.
    pub(crate) fn element(
        &mut self,
        what: &'static str,
        before: usize,
        least: usize,
    ) -> Result<Self, Malformed> {
        let mut ahead = Self::new(what, self.bytes);
        ahead.skip(before)?;
        let length = usize::from(ahead.u16()?);
        if length < least.max(before + 2) {
            return Err(Malformed::Length { what, length });
        }
        self.part(what, length)
            .map_err(|_| Malformed::Length { what, length })
    }
}

/// Appends the last `length` bytes of a number.
pub(crate) fn put_uint(out: &mut BytesMut, number: u128, length: usize) {
    let bytes = number.to_be_bytes();
    let from = bytes.len().saturating_sub(length);
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
}

/// Appends zeros.
pub(crate) fn put_zeros(out: &mut BytesMut, count: usize) {
    out.resize(out.len() + count, 0);
}

/// Appends zeros until what began at `start` is a multiple of 8 bytes.
pub(crate) fn pad(out: &mut BytesMut, start: usize) {
    let length = out.len() - start;
    put_zeros(out, length.next_multiple_of(8) - length);
}

/// Writes at `at` how many bytes there are since `start`. Lengths beyond 16
/// bits can stand here for a while: they are parts of a message that is longer
/// still, and that is refused as a whole.
pub(crate) fn put_length(out: &mut BytesMut, at: usize, start: usize) {
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}
