// SPDX-License-Identifier: Apache-2.0
//! What becomes of an entry, for the log: a line when it begins, one for each
//! try that fails, and one when it ends.

use dvs_schemas::{HostName, PortId, Revision, SwitchName};
use tracing::field::display;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The host.
    pub host: HostName,
    /// The switch.
    pub switch: SwitchName,
    /// The virtual port that is to go; none for a host that is out of sync.
    pub port: Option<PortId>,
    /// The newest revision that was put.
    pub revision: Revision,
    /// Tries so far, the first push among them.
    pub attempts: u32,
    /// What became of it.
    pub fate: Fate,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is new, and why.
    Begun(String),
    /// One more call was not acknowledged, and why.
    Failed(String),
    /// It is gone.
    Ended(End),
}

/// Why an entry is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The host did what it was asked.
    Done,
    /// The host has applied a full state that covers it.
    Settled,
    /// The publisher has nothing for the host to do any more.
    Unwanted,
    /// An operator dropped it.
    Cancelled,
    /// The host will never come back.
    Forgotten,
}

impl End {
    fn words(self) -> &'static str {
        match self {
            Self::Done => "the host has done it",
            Self::Settled => "the host has applied a full state that covers it",
            Self::Unwanted => "not wanted any more",
            Self::Cancelled => "an operator dropped it",
            Self::Forgotten => "the host is forgotten",
        }
    }
}

impl Note {
    pub(crate) fn log(self) {
        let Self {
            host,
            switch,
            port,
            revision,
            attempts,
            fate,
        } = self;
        let (port, revision) = (port.map(display), revision.0);
        match fate {
            Fate::Begun(error) => {
                tracing::warn!(%host, %switch, port, revision, attempts, error, "an entry began");
            }
            Fate::Failed(error) => {
                tracing::info!(%host, %switch, port, revision, attempts, error, "a try failed");
            }
            Fate::Ended(end) => {
                let why = end.words();
                tracing::info!(%host, %switch, port, revision, attempts, why, "an entry ended");
            }
        }
    }
}
