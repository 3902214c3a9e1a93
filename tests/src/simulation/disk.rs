// SPDX-License-Identifier: Apache-2.0
//! A disk that a crash may catch in the middle: what was synced stays, of the
//! rest any part may have reached the platter, sector by sector.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use dvs_ledger::StorageBackend;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct Platter {
    /// As a running program reads it.
    seen: Vec<u8>,
    /// As it surely is after a crash.
    synced: Vec<u8>,
    /// Changes since the last sync, in order.
    unsynced: Vec<Change>,
    /// Syncs until the power is gone; none: it holds.
    fails_after: Option<usize>,
}

#[derive(Debug, Clone)]
enum Change {
    Length(usize),
    Bytes { offset: usize, bytes: Vec<u8> },
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Length(length) => to.resize(*length, 0),
            Self::Bytes { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

/// A disk; clones are handles to the same one.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Another disk with what is durable on this one.
    #[must_use]
    pub fn copy(&self) -> Self {
        let synced = self.platter().synced.clone();
        Self(Arc::new(Mutex::new(Platter {
            seen: synced.clone(),
            synced,
            ..Platter::default()
        })))
    }

    /// The power will fail at the sync after this many; `None` mends it.
    pub fn fail_after(&self, syncs: Option<usize>) {
        self.platter().fails_after = syncs;
    }

    /// Power fails: of what was not synced, some sectors made it and others
    /// did not.
    pub fn crash(&self, random: &mut fastrand::Rng) {
        let mut platter = self.platter();
        let mut left = platter.synced.clone();
        for change in std::mem::take(&mut platter.unsynced) {
            match change {
                Change::Length(_) => change.apply(&mut left),
                Change::Bytes { offset, bytes } => {
                    for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.bool() {
                            Change::Bytes {
                                offset: offset + n * SECTOR,
                                bytes: sector.to_vec(),
                            }
                            .apply(&mut left);
                        }
                    }
                }
            }
        }
        platter.seen.clone_from(&left);
        platter.synced = left;
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.platter().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let platter = self.platter();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = platter
            .seen
            .get(start..start + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        let change = Change::Length(usize::try_from(length).map_err(io::Error::other)?);
        self.change(change);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut platter = self.platter();
        let platter = &mut *platter;
        match &mut platter.fails_after {
            Some(0) => return Err(io::Error::other("the power is gone")),
            Some(left) => *left -= 1,
            None => {}
        }
        for change in platter.unsynced.drain(..) {
            change.apply(&mut platter.synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.change(Change::Bytes {
            offset,
            bytes: data.to_vec(),
        });
        Ok(())
    }
}

impl Disk {
    fn change(&self, change: Change) {
        let mut platter = self.platter();
        change.apply(&mut platter.seen);
        platter.unsynced.push(change);
    }
}
