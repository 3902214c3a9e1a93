// SPDX-License-Identifier: Apache-2.0
//! A ledger's first moment: it is made beside its place, and moved there when
//! it is whole. redb lengthens a file before it says what the file is, and our
//! mark comes later still; a crash in between would leave something damaged or
//! foreign in the ledger's place, which no start dares to touch.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;

use crate::open::{LedgerSpec, OpenError, absent, builder, failed};
use crate::store::Ledger;

/// Makes a ledger where there is none; nothing happens if it can't.
pub(crate) fn create(path: &Path, spec: LedgerSpec) -> Result<Ledger, OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    std::fs::create_dir_all(directory).map_err(io)?;
    let half = half_made(path);
    let file = alone(path, &half, spec)?;
    // What a crash left of an earlier attempt.
    file.set_len(0).map_err(io)?;
    let ledger = FileBackend::new(file)
        .and_then(|backend| builder().create_with_backend(backend))
        .map_err(redb::Error::from)
        .and_then(|database| Ledger::marked(database, spec))
        .map_err(|error| failed(path, error))?;
    // The mark's commit has flushed the file; its name needs the directory.
    std::fs::rename(&half, path).map_err(io)?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io)?;
    Ok(ledger)
}

/// Where a ledger is while it is made.
pub(crate) fn half_made(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// The half-made file, locked, with nothing in its place yet: of two processes
/// that start at once, one makes the ledger and the other hears of it.
fn alone(path: &Path, half: &Path, spec: LedgerSpec) -> Result<File, OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let in_use = || OpenError::InUse {
        path: path.to_owned(),
        service: spec.service,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(half)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use()),
        // A file system without such locks; redb has others.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    if absent(path)? {
        Ok(file)
    } else {
        Err(in_use())
    }
}
