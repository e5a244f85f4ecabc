//! The data directory: who holds it, and the files in it.
//!
//! One process holds a directory, by a lock on `gatepost.lock` that the system gives back however the process ends. The
//! file holds the number of that process, for people only: whether the directory is held, the lock says, never the text.
//! The file is never deleted, since two processes could then hold locks on two files of one name.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Why a data directory cannot be opened. Each displays as a sentence for operators.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works in it.
    #[error("data directory {} is in use by {}", directory.display(), name_of(*pid))]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The process that holds it, where it could be read.
        pid: Option<u32>,
    },
    /// A newer version has written it.
    #[error("the database has schema {found}, but this version of Gatepost knows schemas up to {known}; run the newer version")]
    Newer {
        /// The schema of the file.
        found: u32,
        /// The newest schema that this version knows.
        known: u32,
    },
    /// The file is not a database of Gatepost's.
    #[error("{} is not a Gatepost database; it was left as it is", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The directory or a file in it cannot be made or read.
    #[error("cannot use {}: {error}", path.display())]
    Files {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// SQLite cannot open or migrate the file.
    #[error("cannot open the database {}: {why}", file.display())]
    Database {
        /// The file.
        file: PathBuf,
        /// What SQLite said.
        why: String,
    },
}

fn name_of(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Whether a data directory is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupancy {
    /// Nobody works in it, or it does not exist.
    Free,
    /// A process works in it.
    Held {
        /// Which one, where it could be read.
        pid: Option<u32>,
    },
}

/// Whether a process works in this data directory. Opens no database and changes nothing.
///
/// # Errors
/// What the system says of the lock file, but that it does not exist.
pub fn holder(directory: &Path) -> io::Result<Occupancy> {
    let mut file = match File::open(lock_file(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupancy::Free),
        file => file?,
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Occupancy::Free),
        Err(Errno::WOULDBLOCK) => Ok(Occupancy::Held { pid: pid_in(&mut file) }),
        Err(error) => Err(error.into()),
    }
}

/// The hold on a directory; dropping it gives the directory back.
pub(crate) struct Hold {
    file: File,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // A number left behind would do no harm: it is read only where the lock is held.
        let _ = self.file.set_len(0);
    }
}

/// Makes the directory where it is missing and holds it.
pub(crate) fn hold(directory: &Path) -> Result<Hold, OpenError> {
    make(directory).map_err(|error| OpenError::Files { path: directory.to_owned(), error })?;
    let path = lock_file(directory);
    let failed = |error: io::Error| OpenError::Files { path: path.clone(), error };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    if !lock(&file).map_err(failed)? {
        return Err(OpenError::Held { directory: directory.to_owned(), pid: pid_in(&mut file) });
    }
    let write = |mut file: &File| {
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    write(&file).map_err(failed)?;
    Ok(Hold { file })
}

/// How often a lock is tried again that only somebody who looks can have kept from us.
const LOOKS: usize = 1000;

/// Whether the lock is ours now. [`holder`] holds it shared for as long as it takes to look, and that must not keep a
/// server from starting: where a shared lock is to be had nobody works here, so it is tried again.
fn lock(file: &File) -> io::Result<bool> {
    for _ in 0..LOOKS {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        match flock(file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => std::thread::yield_now(),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// The database's file in a directory.
pub(crate) fn database_file(directory: &Path) -> PathBuf {
    directory.join("gatepost.db")
}

/// Makes the database's file where it is missing, readable by its owner only; SQLite gives its side files the same mode.
pub(crate) fn make_database(file: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::Files { path: file.to_owned(), error };
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file).map_err(failed)?;
    Ok(())
}

/// Takes the database's file away from everybody but its owner, and makes its name in the directory durable.
pub(crate) fn seal_database(file: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::Files { path: file.to_owned(), error };
    std::fs::set_permissions(file, Permissions::from_mode(0o600)).map_err(failed)?;
    file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all()).map_err(failed)
}

fn lock_file(directory: &Path) -> PathBuf {
    directory.join("gatepost.lock")
}

/// A directory that is there already keeps the mode that its operator gave it.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    // A number has few digits; whatever else stands there is not read.
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
