// SPDX-License-Identifier: Apache-2.0
//! Why there is no session with a switch, why one ended, and why a change was
//! not made.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::refusal::Refusal;
use crate::wire::Malformed;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nobody is there.
    #[error("{} can't be connected to", socket.display())]
    Connect {
        /// The bridge's socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The switch doesn't speak OpenFlow 1.5.
    #[error("the switch refuses OpenFlow 1.5: {0}; set the bridge's protocols to hold OpenFlow15")]
    Refused(Refusal),
    /// The connection ended.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The switch closed the connection.
    #[error("the switch closed the connection")]
    Closed,
    /// The connection failed.
    #[error("the switch can't be spoken with")]
    Io(#[from] io::Error),
    /// What comes can't be read.
    #[error("the switch can't be understood")]
    Malformed(#[from] Malformed),
    /// Nothing came for too long.
    #[error("the switch has been silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// An answer took too long. Whether the request was carried out is not
    /// known.
    #[error("the switch has not answered within {} s", .0.as_secs())]
    Late(Duration),
    /// A question was refused.
    #[error("the switch doesn't answer: {0}")]
    Refused(Refusal),
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The switch refuses a part of it, and so all; the session goes on.
    #[error("{change}: {refusal}")]
    Refused {
        /// What is refused.
        change: String,
        /// Why.
        refusal: Refusal,
    },
    /// A part of it is longer than a message; nothing was sent.
    #[error("{0} is too long for a message")]
    TooLong(String),
    /// The session is over. Whether the change was made is not known.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl ApplyError {
    /// The refusal of the message of this number; the changes have the numbers
    /// after `first`.
    pub(crate) fn of<T: ToString>(
        changes: &[T],
        first: u32,
        (xid, refusal): (u32, Refusal),
    ) -> Self {
        let place = xid.wrapping_sub(first).checked_sub(1);
        let change = place.and_then(|place| changes.get(usize::try_from(place).ok()?));
        Self::Refused {
            change: change.map_or_else(|| "the change as a whole".to_owned(), T::to_string),
            refusal,
        }
    }
}
