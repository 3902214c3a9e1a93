// SPDX-License-Identifier: Apache-2.0
//! A lasting name for a process that has none: containers of a scaled service
//! get a new id whenever they are made anew, so host name and ledger are found
//! together, in the first free directory `<prefix>-<n>` of a shared volume.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use dvs_schemas::HostName;

/// Far more hosts than one volume serves; a bound only so that a lock that
/// never works ends in words instead of directories.
const SLOTS_MAX: u32 = 100_000;

/// Name of the lock's file in a slot.
const LOCK: &str = "slot.lock";

/// A slot that is this process's own until it ends.
#[derive(Debug)]
pub struct Slot {
    /// The host.
    pub host: HostName,
    /// The directory of its ledger.
    pub directory: PathBuf,
    /// The kernel lets go of it with the process, however that ends.
    _lock: File,
}

/// No slot could be taken.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The prefix makes no host name.
    #[error("--host-slots {prefix:?} makes no host names; allowed: {allowed}")]
    Prefix {
        /// The prefix.
        prefix: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A directory or its lock can't be had.
    #[error("slot {path} can't be used; check the owner and mode of the volume", path = path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// All are taken.
    #[error("{SLOTS_MAX} slots below {data} are all in use", data = data.display())]
    None {
        /// The data directory.
        data: PathBuf,
    },
}

/// Takes the first free slot below `data`, making it if need be.
///
/// # Errors
/// [`SlotError`].
pub fn take(data: &Path, prefix: &str) -> Result<Slot, SlotError> {
    for number in 1..=SLOTS_MAX {
        let host: HostName =
            format!("{prefix}-{number}")
                .parse()
                .map_err(|error: dvs_schemas::InvalidName| SlotError::Prefix {
                    prefix: prefix.to_owned(),
                    allowed: error.allowed,
                })?;
        let directory = data.join(host.as_str());
        if let Some(lock) = lock(&directory)? {
            return Ok(Slot {
                host,
                directory,
                _lock: lock,
            });
        }
    }
    Err(SlotError::None {
        data: data.to_owned(),
    })
}

/// The lock of a slot; none if another process has it.
fn lock(directory: &Path) -> Result<Option<File>, SlotError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| SlotError::Io { path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(&path)(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn host(slot: &Slot) -> &str {
        slot.host.as_str()
    }

    #[test]
    fn each_process_has_a_slot_of_its_own_and_the_next_one_takes_what_was_left() {
        let data = tempfile::tempdir().unwrap();
        let first = take(data.path(), "host").unwrap();
        let second = take(data.path(), "host").unwrap();
        assert_eq!((host(&first), host(&second)), ("host-1", "host-2"));
        std::fs::write(first.directory.join("host-agent.redb"), "ledger").unwrap();
        drop(first);
        let again = take(data.path(), "host").unwrap();
        assert_eq!(host(&again), "host-1");
        assert!(again.directory.join("host-agent.redb").exists());
    }

    #[test]
    fn a_prefix_that_makes_no_host_name_is_refused() {
        let data = tempfile::tempdir().unwrap();
        for prefix in ["", "a.b", "*", &"x".repeat(70)] {
            let error = take(data.path(), prefix).unwrap_err();
            assert!(matches!(error, SlotError::Prefix { .. }), "{error}");
        }
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_volume_that_can_not_be_written_is_named() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = take(&file, "host").unwrap_err();
        assert!(error.to_string().contains("host-1"), "{error}");
    }
}
