// SPDX-License-Identifier: Apache-2.0
//! A client of the Open vSwitch database (RFC 7047, ovsdb-server(7)): a copy
//! of the tables of interest, kept by the server's notifications, and
//! transactions upon it.
//!
//! A [`Session`] has one owner and no tasks of its own. It begins with the
//! whole copy, so that nobody acts on a part of it, and ends with the first
//! error of the connection; then the owner opens the next one.

mod atom;
mod cache;
mod datum;
mod endpoint;
mod error;
mod frame;
mod message;
mod row;
mod schema;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
mod transaction;
pub mod unixctl;

pub use atom::{Atom, AtomType, Real, RowName, ValueError};
pub use cache::{Cache, CacheError, RowChange};
pub use datum::{Datum, Map, Set};
pub use endpoint::{BadEndpoint, ConnectError, Endpoint, TlsFiles};
pub use error::{OpenError, SessionError, TransactError};
pub use frame::{FrameError, Framing};
pub use message::{Message, MessageError};
pub use row::Row;
pub use schema::{ColumnType, Columns, Elements, Schema, SchemaError};
pub use session::{Options, Session, Wanted};
pub use transaction::{Mutator, Outcome, Transaction, next_cfg};
