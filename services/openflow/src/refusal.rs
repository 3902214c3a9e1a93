// SPDX-License-Identifier: Apache-2.0
//! What a switch says of a request that it refuses (OpenFlow 1.5.1, 7.5.4).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::matching::Hex;
use crate::wire::{Malformed, Reader};

/// Why a switch refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub fault: Fault,
    /// The beginning of the request, or a text.
    pub data: Bytes,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// An error of OpenFlow.
    Standard {
        /// Kind of error.
        kind: u16,
        /// Which one of its kind.
        code: u16,
    },
    /// An error of an extension.
    Extension {
        /// Whose.
        vendor: u32,
        /// Which one.
        code: u16,
    },
}

const EXPERIMENTER: u16 = 0xffff;
const NICIRA: u32 = 0x0000_2320;

impl Fault {
    /// No common version.
    pub const INCOMPATIBLE: Self = Self::Standard { kind: 0, code: 0 };
    /// A message of the bundle failed.
    pub const MESSAGE_FAILED: Self = Self::Standard { kind: 17, code: 13 };

    /// Its name in the specification or in Open vSwitch, and what it means,
    /// for those that come up.
    #[must_use]
    #[rustfmt::skip]
    pub fn words(self) -> Option<(&'static str, &'static str)> {
        let words = match self {
            Self::Standard { kind, code } => match (kind, code) {
                (0, 0) => ("OFPHFC_INCOMPATIBLE", "no common version of OpenFlow"),
                (0, 1) => ("OFPHFC_EPERM", "not permitted"),
                (1, 0) => ("OFPBRC_BAD_VERSION", "wrong version of OpenFlow"),
                (1, 1) => ("OFPBRC_BAD_TYPE", "unknown kind of message"),
                (1, 2) => ("OFPBRC_BAD_MULTIPART", "unknown kind of question"),
                (1, 3) => ("OFPBRC_BAD_EXPERIMENTER", "unknown extension"),
                (1, 4) => ("OFPBRC_BAD_EXP_TYPE", "unknown message of an extension"),
                (1, 5) => ("OFPBRC_EPERM", "not permitted"),
                (1, 6) => ("OFPBRC_BAD_LEN", "wrong length"),
                (1, 9) => ("OFPBRC_BAD_TABLE_ID", "there is no such table"),
                (1, 10) => ("OFPBRC_IS_SECONDARY", "the connection may only read"),
                (1, 11) => ("OFPBRC_BAD_PORT", "there is no such port"),
                (2, 0) => ("OFPBAC_BAD_TYPE", "unknown action"),
                (2, 1) => ("OFPBAC_BAD_LEN", "an action has a wrong length"),
                (2, 3) => ("OFPBAC_BAD_EXP_TYPE", "unknown action of an extension"),
                (2, 4) => ("OFPBAC_BAD_OUT_PORT", "an output goes to no port"),
                (2, 5) => ("OFPBAC_BAD_ARGUMENT", "an action has a wrong value"),
                (2, 6) => ("OFPBAC_EPERM", "an action is not permitted"),
                (2, 7) => ("OFPBAC_TOO_MANY", "too many actions"),
                (2, 10) => ("OFPBAC_MATCH_INCONSISTENT", "an action needs something that the match doesn't say"),
                (2, 11) => ("OFPBAC_UNSUPPORTED_ORDER", "the actions' order is unsupported"),
                (2, 12) => ("OFPBAC_BAD_TAG", "an action pushes an unknown kind of tag"),
                (2, 13) => ("OFPBAC_BAD_SET_TYPE", "an action sets an unknown field"),
                (2, 14) => ("OFPBAC_BAD_SET_LEN", "an action goes past the end of a field"),
                (2, 15) => ("OFPBAC_BAD_SET_ARGUMENT", "an action sets a wrong value or a field that can't be set"),
                (2, 16) => ("OFPBAC_BAD_SET_MASK", "an action sets a part of a field that has none"),
                (2, 17) => ("OFPBAC_BAD_METER", "an action names no meter"),
                (3, 0) => ("OFPBIC_UNKNOWN_INST", "unknown instruction"),
                (3, 1) => ("OFPBIC_UNSUP_INST", "unsupported instruction"),
                (3, 2) => ("OFPBIC_BAD_TABLE_ID", "goto_table names no later table"),
                (3, 7) => ("OFPBIC_BAD_LEN", "an instruction has a wrong length"),
                (3, 9) => ("OFPBIC_DUP_INST", "an instruction stands twice"),
                (4, 0) => ("OFPBMC_BAD_TYPE", "unknown kind of match"),
                (4, 1) => ("OFPBMC_BAD_LEN", "the match has a wrong length"),
                (4, 2) => ("OFPBMC_BAD_TAG", "the match has an unknown kind of tag"),
                (4, 5) => ("OFPBMC_BAD_WILDCARDS", "the match has an unsupported wildcard"),
                (4, 6) => ("OFPBMC_BAD_FIELD", "the match has an unknown field"),
                (4, 7) => ("OFPBMC_BAD_VALUE", "the match has a value that the field can't have"),
                (4, 8) => ("OFPBMC_BAD_MASK", "the match has a mask that the field can't have"),
                (4, 9) => ("OFPBMC_BAD_PREREQ", "the match lacks a field that another needs, such as eth_type"),
                (4, 10) => ("OFPBMC_DUP_FIELD", "the match has a field twice"),
                (5, 0) => ("OFPFMFC_UNKNOWN", "no reason given"),
                (5, 1) => ("OFPFMFC_TABLE_FULL", "the table is full"),
                (5, 2) => ("OFPFMFC_BAD_TABLE_ID", "there is no such table"),
                (5, 3) => ("OFPFMFC_OVERLAP", "it overlaps another flow"),
                (5, 4) => ("OFPFMFC_EPERM", "the table may not be changed"),
                (5, 5) => ("OFPFMFC_BAD_TIMEOUT", "unsupported timeout"),
                (5, 6) => ("OFPFMFC_BAD_COMMAND", "unknown command"),
                (5, 7) => ("OFPFMFC_BAD_FLAGS", "unknown flags"),
                (5, 9) => ("OFPFMFC_BAD_PRIORITY", "unsupported priority"),
                (7, 0) => ("OFPPMFC_BAD_PORT", "there is no such port"),
                (7, 1) => ("OFPPMFC_BAD_HW_ADDR", "the port has another address by now"),
                (7, 2) => ("OFPPMFC_BAD_CONFIG", "unsupported configuration"),
                (7, 4) => ("OFPPMFC_EPERM", "not permitted"),
                (12, 0) => ("OFPMMFC_UNKNOWN", "no reason given"),
                (12, 1) => ("OFPMMFC_METER_EXISTS", "the meter's number is taken"),
                (12, 2) => ("OFPMMFC_INVALID_METER", "the meter's number can't be"),
                (12, 3) => ("OFPMMFC_UNKNOWN_METER", "there is no such meter"),
                (12, 4) => ("OFPMMFC_BAD_COMMAND", "unknown command"),
                (12, 5) => ("OFPMMFC_BAD_FLAGS", "unsupported kind of meter"),
                (12, 6) => ("OFPMMFC_BAD_RATE", "unsupported rate"),
                (12, 7) => ("OFPMMFC_BAD_BURST", "unsupported burst"),
                (12, 8) => ("OFPMMFC_BAD_BAND", "unsupported band"),
                (12, 10) => ("OFPMMFC_OUT_OF_METERS", "there can be no more meters"),
                (12, 11) => ("OFPMMFC_OUT_OF_BANDS", "the meter has too many bands"),
                (17, 0) => ("OFPBFC_UNKNOWN", "no reason given"),
                (17, 1) => ("OFPBFC_EPERM", "bundles are not permitted"),
                (17, 2) => ("OFPBFC_BAD_ID", "there is no such bundle"),
                (17, 3) => ("OFPBFC_BUNDLE_EXIST", "the bundle's number is taken"),
                (17, 4) => ("OFPBFC_BUNDLE_CLOSED", "the bundle is closed"),
                (17, 5) => ("OFPBFC_OUT_OF_BUNDLES", "there can be no more bundles"),
                (17, 6) => ("OFPBFC_BAD_TYPE", "unknown step of a bundle"),
                (17, 7) => ("OFPBFC_BAD_FLAGS", "unsupported kind of bundle"),
                (17, 8) => ("OFPBFC_MSG_BAD_LEN", "a message of the bundle has a wrong length"),
                (17, 9) => ("OFPBFC_MSG_BAD_XID", "a message of the bundle has a wrong number"),
                (17, 10) => ("OFPBFC_MSG_UNSUP", "a bundle can't hold this kind of message"),
                (17, 11) => ("OFPBFC_MSG_CONFLICT", "a message of the bundle contradicts another"),
                (17, 12) => ("OFPBFC_MSG_TOO_MANY", "the bundle has too many messages"),
                (17, 13) => ("OFPBFC_MSG_FAILED", "a message of the bundle failed"),
                (17, 14) => ("OFPBFC_TIMEOUT", "the bundle was left open too long"),
                _ => return None,
            },
            Self::Extension { vendor: NICIRA, code } => match code {
                2 => ("NXBRC_NXM_INVALID", "the match can't be read"),
                3 => ("NXBRC_NXM_BAD_TYPE", "the match has an unknown field"),
                4 => ("NXBRC_MUST_BE_ZERO", "a field that must be zero isn't"),
                11 => ("NXBAC_MUST_BE_ZERO", "a part of an action that must be zero isn't"),
                12 => ("NXFMFC_HARDWARE", "the hardware failed"),
                15 => ("NXBAC_BAD_CONJUNCTION", "conjunction must be the only action"),
                _ => return None,
            },
            Self::Extension { .. } => return None,
        };
        Some(words)
    }
}

impl Refusal {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self.fault {
            Fault::Standard { kind, code } => {
                out.put_u16(kind);
                out.put_u16(code);
            }
            Fault::Extension { vendor, code } => {
                out.put_u16(EXPERIMENTER);
                out.put_u16(code);
                out.put_u32(vendor);
            }
        }
        out.extend_from_slice(&self.data);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let fault = match (from.u16()?, from.u16()?) {
            (EXPERIMENTER, code) => Fault::Extension {
                vendor: from.u32()?,
                code,
            },
            (kind, code) => Fault::Standard { kind, code },
        };
        Ok(Self {
            fault,
            data: Bytes::copy_from_slice(from.rest()),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.words(), self) {
            (Some((name, meaning)), _) => write!(f, "{meaning} ({name})"),
            (None, Self::Standard { kind, code }) => write!(f, "error {kind}, {code}"),
            (None, Self::Extension { vendor, code }) => {
                write!(f, "error {code} of extension {vendor:#x}")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A failed handshake has a text with it; others repeat the request.
        let text = std::str::from_utf8(&self.data).ok();
        match (self.fault, text.filter(|text| !text.is_empty())) {
            (Fault::INCOMPATIBLE, Some(text)) => write!(f, "{}: {text}", self.fault),
            (fault, _) if fault.words().is_some() => write!(f, "{fault}"),
            (fault, _) => {
                let start = self.data.get(..64).unwrap_or(&self.data);
                write!(f, "{fault}, of {}", Hex(start))
            }
        }
    }
}
