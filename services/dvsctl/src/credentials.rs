// SPDX-License-Identifier: Apache-2.0
//! Makes the keys with which each role signs in at NATS: a seed per role for
//! the programs, and their public halves for the server. Runs before anything
//! else of a set-up does, so it needs nothing but a folder, and a second run
//! changes nothing.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nkeys::{KeyPair, KeyPairType};
use tempfile::NamedTempFile;

/// The roles, each a user of NATS with subjects of its own.
pub const ROLES: [&str; 5] = ["publisher", "agent", "collector", "retry", "operator"];

/// Why keys could not be made or read. What was there stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file or folder can't be read or written.
    #[error("{path} can't be {what}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `read`, `written`, `made`.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A seed's file holds something else.
    #[error(
        "{path} holds no seed of an nkey user (one line that begins with SU); \
         move it away to have a new one made"
    )]
    Seed {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no random numbers.
    #[error("no key can be made")]
    Key(#[source] nkeys::error::Error),
}

/// What a run made; files that were there already are not named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// Paths of the files written, seeds first.
    pub files: Vec<PathBuf>,
}

/// Makes what is missing below `dir`: `<role>/<role>.nk` with a seed, for its
/// owner's eyes only, and `server/keys.conf` with all public keys.
///
/// # Errors
/// See [`CredentialsError`].
pub fn make(dir: &Path) -> Result<Made, CredentialsError> {
    let mut made = Made::default();
    let mut keys = String::from("# Public keys of the roles; written by `dvsctl credentials`.\n");
    for role in ROLES {
        let folder = dir.join(role);
        make_folder(&folder, 0o700)?;
        let path = folder.join(format!("{role}.nk"));
        let public = public_key(&path, &mut made)?;
        let _infallible = writeln!(keys, "DVS_NKEY_{}: \"{public}\"", role.to_uppercase());
    }
    let folder = dir.join("server");
    make_folder(&folder, 0o755)?;
    let path = folder.join("keys.conf");
    if read(&path)?.as_deref() != Some(keys.as_str()) {
        write(&folder, &keys, 0o644)?
            .persist(&path)
            .map_err(|e| file(&path, "written")(e.error))?;
        made.files.push(path);
    }
    Ok(made)
}

/// The public key of the seed in `path`, which is made if it isn't there.
fn public_key(path: &Path, made: &mut Made) -> Result<String, CredentialsError> {
    loop {
        if let Some(text) = read(path)? {
            return text
                .lines()
                .map(str::trim)
                .find_map(|line| KeyPair::from_seed(line).ok())
                .filter(|pair| pair.key_pair_type() == KeyPairType::User)
                .map(|pair| pair.public_key())
                .ok_or_else(|| CredentialsError::Seed {
                    path: path.to_owned(),
                });
        }
        let seed = KeyPair::new_user().seed().map_err(CredentialsError::Key)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        // Whole or not at all, and never over another run's seed: then the
        // next turn reads that one.
        match write(folder, &format!("{seed}\n"), 0o600)?.persist_noclobber(path) {
            Ok(_) => made.files.push(path.to_owned()),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(file(path, "written")(e.error)),
        }
    }
}

fn file(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> CredentialsError {
    let path = path.to_owned();
    move |source| CredentialsError::File { path, what, source }
}

/// Makes a folder unless it is there; one that is (a volume) keeps its mode.
fn make_folder(path: &Path, mode: u32) -> Result<(), CredentialsError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(file(path, "made"))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(file(path, "made"))
}

/// The text of a file; none if there is no such file.
fn read(path: &Path) -> Result<Option<String>, CredentialsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file(path, "read")(e)),
    }
}

fn write(folder: &Path, text: &str, mode: u32) -> Result<NamedTempFile, CredentialsError> {
    let write = || {
        let mut temporary = NamedTempFile::new_in(folder)?;
        temporary.write_all(text.as_bytes())?;
        let file = temporary.as_file();
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(temporary)
    };
    write().map_err(file(folder, "written"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    /// Every file below a folder with its text and mode.
    fn contents(dir: &Path) -> BTreeMap<PathBuf, (String, u32)> {
        let mut all = BTreeMap::new();
        for folder in fs::read_dir(dir).unwrap() {
            for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
                let text = fs::read_to_string(&path).unwrap();
                all.insert(path.strip_prefix(dir).unwrap().to_owned(), (text, mode));
            }
        }
        all
    }

    #[test]
    fn every_role_gets_a_secret_seed_and_the_server_its_public_half() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path()).unwrap();
        assert_eq!(made.files.len(), ROLES.len() + 1);
        let files = contents(dir.path());
        let (keys, mode) = &files[Path::new("server/keys.conf")];
        assert_eq!(*mode, 0o644);
        for role in ROLES {
            let (seed, mode) = &files[&PathBuf::from(format!("{role}/{role}.nk"))];
            assert_eq!(*mode, 0o600, "{role}");
            let public = KeyPair::from_seed(seed.trim()).unwrap().public_key();
            let line = format!("DVS_NKEY_{}: \"{public}\"\n", role.to_uppercase());
            assert!(keys.contains(&line), "{keys}");
        }
    }

    #[test]
    fn a_second_run_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path()).unwrap();
        let before = contents(dir.path());
        assert_eq!(make(dir.path()).unwrap(), Made::default());
        assert_eq!(contents(dir.path()), before);
    }

    #[test]
    fn a_lost_seed_is_made_anew_and_the_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path()).unwrap();
        let before = contents(dir.path());
        let lost = dir.path().join("retry/retry.nk");
        fs::remove_file(&lost).unwrap();
        let made = make(dir.path()).unwrap();
        assert_eq!(made.files, [lost, dir.path().join("server/keys.conf")]);
        let after = contents(dir.path());
        let kept = Path::new("agent/agent.nk");
        assert_eq!(after[kept], before[kept]);
    }

    #[test]
    fn what_is_no_seed_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path()).unwrap();
        let path = dir.path().join("agent/agent.nk");
        let account = KeyPair::new_account().seed().unwrap();
        for text in ["", "junk\n", account.as_str()] {
            fs::write(&path, text).unwrap();
            let error = make(dir.path()).unwrap_err();
            assert!(error.to_string().contains("agent.nk"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
