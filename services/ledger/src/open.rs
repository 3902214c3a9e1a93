// SPDX-License-Identifier: Apache-2.0
//! Opening a ledger file: ours and whole, or left exactly as it was.

use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase};

use crate::core::Table;
use crate::store::{META, Mark, read_mark};

/// Page cache per ledger. redb's default of 1 GiB is for databases; the
/// largest ledger here (60,000 ports) has some 30 MB, and cores keep their
/// state in memory anyway, so the cache serves the next commit only.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Whose ledger it is and what is in it.
#[derive(Debug, Clone, Copy)]
pub struct LedgerSpec {
    /// The service, as its binary is called.
    pub service: &'static str,
    /// Version of the tables' contents.
    pub version: u32,
    /// Every table.
    pub tables: &'static [Table],
}

/// A ledger that can't be used. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not readable or writable.
    #[error("ledger {path} can't be opened; check its directory, owner and mode", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("ledger {path} is in use by another process; one {service} per ledger", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// The service.
        service: &'static str,
    },
    /// Not a ledger, or damaged.
    #[error(
        "ledger {path} is damaged or no ledger; it was left untouched: restore it from a backup, \
         or move it away to start empty",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What redb said.
        #[source]
        source: Box<redb::Error>,
    },
    /// Somebody else's.
    #[error(
        "ledger {path} belongs to {found}, not to {service} version {version}; it was left \
         untouched: give the right --data directory, or move the file away to start empty",
        path = path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        service: &'static str,
        /// Which version it should be.
        version: u32,
    },
}

impl LedgerSpec {
    /// Opens a file that is there.
    pub(crate) fn database(&self, path: &Path) -> Result<Database, OpenError> {
        self.examine(path)?;
        builder()
            .open(path)
            .map_err(|error| self.refused(path, error))
    }

    /// Proves that the file is ours and whole without writing to it. A file
    /// that a crash left in need of repair is repaired as a copy first: redb
    /// repairs in place, and finds out on the way what is beyond repair.
    fn examine(&self, path: &Path) -> Result<(), OpenError> {
        match builder().open_read_only(path) {
            Ok(database) => self.own(path, &database),
            Err(DatabaseError::RepairAborted) => {
                let copy = path.with_extension("examined");
                let outcome = self.examine_copy(path, &copy);
                // Only the copy; if it stays, the next examination overwrites it.
                let _ = std::fs::remove_file(&copy);
                outcome
            }
            Err(error) => Err(self.refused(path, error)),
        }
    }

    fn examine_copy(&self, path: &Path, copy: &Path) -> Result<(), OpenError> {
        std::fs::copy(path, copy).map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
        let database = builder()
            .open(copy)
            .map_err(|error| self.refused(path, error))?;
        self.own(path, &database)
    }

    fn own(&self, path: &Path, database: &impl ReadableDatabase) -> Result<(), OpenError> {
        let damaged = |source: redb::Error| OpenError::Damaged {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let found = match read_mark(database).map_err(damaged)? {
            Some(Mark {
                service, version, ..
            }) if service == self.service && version == self.version => return Ok(()),
            Some(Mark {
                service, version, ..
            }) => format!("{service} version {version}"),
            None => format!("another program (it has no table {META})"),
        };
        Err(OpenError::Foreign {
            path: path.to_owned(),
            found,
            service: self.service,
            version: self.version,
        })
    }

    fn refused(&self, path: &Path, error: DatabaseError) -> OpenError {
        if let DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch = error {
            return OpenError::InUse {
                path: path.to_owned(),
                service: self.service,
            };
        }
        failed(path, error.into())
    }
}

/// Whether there is no ledger yet. An empty file is none: nothing is lost with
/// it.
pub(crate) fn absent(path: &Path) -> Result<bool, OpenError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(OpenError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The disk's failure, or the file's.
pub(crate) fn failed(path: &Path, error: redb::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(source) if !is_content(&source) => OpenError::Io { path, source },
        source => OpenError::Damaged {
            path,
            source: Box::new(source),
        },
    }
}

/// True for those IO errors by which redb says that the bytes are wrong.
fn is_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

pub(crate) fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}
