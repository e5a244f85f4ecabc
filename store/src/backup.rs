//! Copies of the database: how one is written beside a server that works, and how one is read back before it is trusted.
//!
//! A copy is one moment of the database, whole: SQLite writes it out of one read transaction, which keeps no writer waiting. It
//! stands under a name of its own until it is on disk and was read back, and only then under the name that was asked for; so what
//! has that name is a whole copy, however the process ended. Like the database it holds hashes of passwords and keys that sign,
//! and is its owner's alone.
//!
//! What a copy is put to use for is `restore.rs`.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::Timestamp;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use crate::directory::{self, OpenError, database_file};
use crate::migrations::{self, Standing};
use crate::sqlite::connect;
use crate::writes;

/// Why a copy cannot be made, read or put to use. Each displays as a sentence for operators.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data directory cannot be used.
    #[error("{0}")]
    Directory(#[from] OpenError),
    /// There is no database to copy.
    #[error("there is no database in {}", directory.display())]
    Nothing {
        /// The data directory.
        directory: PathBuf,
    },
    /// There is something of that name.
    #[error("{} is there already; with --overwrite it is replaced", file.display())]
    Exists {
        /// The name.
        file: PathBuf,
    },
    /// The name is in the data directory.
    #[error("{} is in the data directory, which is what a backup must survive; name a place elsewhere", file.display())]
    Inside {
        /// The name.
        file: PathBuf,
    },
    /// The name is being written to.
    #[error("another backup is being written to {}", file.display())]
    Busy {
        /// The name.
        file: PathBuf,
    },
    /// The system says no.
    #[error("cannot use {}: {error}", path.display())]
    Files {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is not a whole copy.
    #[error("{} is not a usable backup: {why}", file.display())]
    Broken {
        /// The copy.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// SQLite says no.
    #[error("{what}: {why}")]
    Database {
        /// What was being done.
        what: &'static str,
        /// What SQLite said.
        why: String,
    },
}

impl BackupError {
    pub(crate) fn files(path: &Path) -> impl Fn(io::Error) -> BackupError + use<> {
        let path = path.to_owned();
        move |error| BackupError::Files { path: path.clone(), error }
    }

    pub(crate) fn database(what: &'static str) -> impl Fn(rusqlite::Error) -> BackupError {
        move |error| BackupError::Database { what, why: error.to_string() }
    }
}

/// What is in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its schema.
    pub schema: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// How many accounts it has.
    pub accounts: u64,
    /// How many clients.
    pub clients: u64,
    /// How many sessions in force.
    pub sessions: u64,
    /// How many lines of the audit.
    pub audit: u64,
    /// When the newest line of the audit was written, which a backup begins with; none where there is no line.
    pub newest: Option<Timestamp>,
}

/// Who may write to the database while it is copied.
#[derive(Debug)]
pub enum Beside {
    /// A server that holds the directory, and has written down that a copy is made.
    Server,
    /// Nobody: the directory is held while it is copied, and this is written into its audit first.
    Nobody(AuditEntry),
}

/// The name under which a copy stands until it is whole.
pub fn unfinished(file: &Path) -> PathBuf {
    with_suffix(file, ".partial")
}

/// How long the database is now, its write-ahead log left out: about how long a copy will be.
pub fn length(directory: &Path) -> u64 {
    std::fs::metadata(database_file(directory)).map_or(0, |metadata| metadata.len())
}

/// Copies the database of `directory` to `file`, and reads the copy back. `overwrite`: in the place of what has that name.
///
/// # Errors
/// As [`BackupError`] says. Nothing of that name was made or changed then.
pub fn copy(directory: &Path, file: &Path, overwrite: bool, beside: Beside) -> Result<Contents, BackupError> {
    let database = database_file(directory);
    if !database.is_file() {
        return Err(BackupError::Nothing { directory: directory.to_owned() });
    }
    let file = &absolute(file)?;
    let home = std::fs::canonicalize(directory).map_err(BackupError::files(directory))?;
    if file.starts_with(&home) {
        return Err(BackupError::Inside { file: file.clone() });
    }
    if !overwrite && file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists { file: file.clone() });
    }
    let hold = match beside {
        Beside::Server => None,
        Beside::Nobody(entry) => {
            let hold = directory::hold(directory)?;
            note(&database, &entry);
            Some(hold)
        }
    };
    let partial = unfinished(file);
    let written = reserve(file, &partial)?;
    let contents = write(&database, &partial).and_then(|()| {
        written.sync_all().map_err(BackupError::files(&partial))?;
        let contents = verify(&partial)?;
        place(&partial, file, overwrite)?;
        sync_parent(file)?;
        Ok(contents)
    });
    if contents.is_err() {
        // What was written is of no use to anybody, and may be what fills the disk.
        let _ = std::fs::remove_file(&partial);
    }
    drop(hold);
    contents
}

/// Says in the audit that a copy is made. A disk that takes no line is one more reason to make it, so it is made all the same.
fn note(database: &Path, entry: &AuditEntry) {
    let noted =
        connect(database, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| error.to_string()).and_then(|mut connection| {
            let transaction = connection.transaction().map_err(|error| error.to_string())?;
            writes::append(&transaction, std::slice::from_ref(entry)).map_err(|failure| failure.to_string())?;
            transaction.commit().map_err(|error| error.to_string())
        });
    if let Err(why) = noted {
        tracing::error!(%why, "the audit does not say that this backup was made: {why}");
    }
}

/// Makes the file that is written to, readable by its owner only, and holds it against another backup of the same name.
fn reserve(file: &Path, partial: &Path) -> Result<File, BackupError> {
    let failed = BackupError::files(partial);
    let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(partial);
    let mut held = open().map_err(&failed)?;
    match flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(BackupError::Busy { file: file.to_owned() }),
        Err(error) => return Err(failed(error.into())),
    }
    let here = held.metadata().map_err(&failed)?;
    let there = std::fs::metadata(partial).ok();
    if there.is_none_or(|there| (there.dev(), there.ino()) != (here.dev(), here.ino())) {
        // Whoever held it was faster and has just given it its name.
        return Err(BackupError::Busy { file: file.to_owned() });
    }
    if here.len() > 0 {
        // An earlier backup was broken off here. SQLite writes to an empty file only.
        std::fs::remove_file(partial).map_err(&failed)?;
        held = open().map_err(&failed)?;
        flock(&held, FlockOperation::NonBlockingLockExclusive).map_err(|_| BackupError::Busy { file: file.to_owned() })?;
    }
    Ok(held)
}

fn write(database: &Path, partial: &Path) -> Result<(), BackupError> {
    let failed = BackupError::database("the backup cannot be written");
    let name = partial.to_str().ok_or_else(|| BackupError::Files {
        path: partial.to_owned(),
        error: io::Error::new(io::ErrorKind::InvalidInput, "the name is not UTF-8"),
    })?;
    let connection = connect(database, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(&failed)?;
    match migrations::standing(&connection).map_err(&failed)? {
        Standing::Schema(found) if found <= migrations::known() => {}
        Standing::Schema(found) => return Err(OpenError::Newer { found, known: migrations::known() }.into()),
        Standing::Empty | Standing::Foreign => return Err(OpenError::Foreign { file: database.to_owned() }.into()),
    }
    connection.execute("VACUUM INTO ?1", [name]).map_err(&failed)?;
    Ok(())
}

fn place(partial: &Path, file: &Path, overwrite: bool) -> Result<(), BackupError> {
    let failed = BackupError::files(file);
    if overwrite {
        return std::fs::rename(partial, file).map_err(failed);
    }
    match renameat_with(CWD, partial, CWD, file, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(BackupError::Exists { file: file.to_owned() }),
        // The file system knows no such thing, so it is looked first, as before the copy was begun.
        Err(Errno::INVAL | Errno::NOSYS) if file.symlink_metadata().is_ok() => Err(BackupError::Exists { file: file.to_owned() }),
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(partial, file).map_err(failed),
        Err(error) => Err(failed(error.into())),
    }
}

/// Reads a copy from its beginning to its end, and changes nothing, neither of it nor beside it.
///
/// # Errors
/// It is no whole copy, or a newer version wrote it.
pub fn verify(file: &Path) -> Result<Contents, BackupError> {
    let broken = |why: String| BackupError::Broken { file: file.to_owned(), why };
    let bytes = whole(file)?;
    let log = with_suffix(file, "-wal");
    if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        return Err(broken(format!(
            "{} lies beside it, so it is a database and no backup; make one with `gatepost backup`",
            log.display()
        )));
    }
    let said = |error: rusqlite::Error| broken(error.to_string());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(unchanging(file), flags).map_err(said)?;
    let schema = match migrations::standing(&connection).map_err(said)? {
        Standing::Schema(found) if found > migrations::known() => {
            return Err(OpenError::Newer { found, known: migrations::known() }.into());
        }
        Standing::Schema(found) => found,
        Standing::Empty | Standing::Foreign => return Err(broken("it is not a Gatepost database".to_owned())),
    };
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(said)?;
    if found != "ok" {
        return Err(broken(found));
    }
    if connection.prepare("PRAGMA foreign_key_check").and_then(|mut check| check.exists([])).map_err(said)? {
        return Err(broken("a row in it belongs to one that is not there".to_owned()));
    }
    let count = |sql: &str| -> Result<u64, BackupError> {
        let count: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(said)?;
        Ok(count.unsigned_abs())
    };
    let newest: Option<i64> = connection.query_row("SELECT max(at) FROM audit", [], |row| row.get(0)).map_err(said)?;
    Ok(Contents {
        schema,
        bytes,
        accounts: count("SELECT count(*) FROM accounts")?,
        clients: count("SELECT count(*) FROM clients")?,
        sessions: count("SELECT count(*) FROM sessions WHERE ended_at IS NULL")?,
        audit: count("SELECT count(*) FROM audit")?,
        newest: newest.map(Timestamp::from_millis),
    })
}

/// What stands at the beginning of every database of SQLite's (its file format, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Whether the file is as long as it says of itself. SQLite takes the rest of a last page that is cut for zeros, and zeros may be
/// where a text was.
fn whole(file: &Path) -> Result<u64, BackupError> {
    let failed = BackupError::files(file);
    let broken = |why: String| Err(BackupError::Broken { file: file.to_owned(), why });
    let mut opened = File::open(file).map_err(&failed)?;
    let metadata = opened.metadata().map_err(&failed)?;
    if !metadata.is_file() {
        return broken("it is not a file".to_owned());
    }
    let mut header = [0; 32];
    let mut filled = 0;
    while filled < header.len() {
        match opened.read(&mut header[filled..]).map_err(&failed)? {
            0 => break,
            more => filled += more,
        }
    }
    if filled < header.len() {
        return broken(format!("it is cut: it has {} bytes, which is not even the beginning of one", metadata.len()));
    }
    if !header.starts_with(MAGIC) {
        return broken("it is not a Gatepost database".to_owned());
    }
    let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        size => size,
    };
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    let expected = page * pages;
    match metadata.len() {
        length if length == expected => Ok(length),
        length if length < expected => broken(format!("it is cut: it has {length} bytes of {expected}")),
        length => broken(format!("it has {length} bytes, and {expected} belong to it")),
    }
}

/// The address of a file that nobody changes while it is open, so that SQLite makes no other file beside it (its URIs, section
/// 3.3). Every byte that means something in an address is written as its number.
pub(crate) fn unchanging(file: &Path) -> String {
    use std::fmt::Write;
    let mut address = "file:".to_owned();
    for &byte in file.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => address.push(char::from(byte)),
            // Writing to a text cannot fail.
            other => drop(write!(address, "%{other:02X}")),
        }
    }
    address + "?immutable=1"
}

/// The name with its directory in full, so that it can be compared; the file itself need not be there.
fn absolute(file: &Path) -> Result<PathBuf, BackupError> {
    let Some(name) = file.file_name() else {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it names no file");
        return Err(BackupError::Files { path: file.to_owned(), error });
    };
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(std::fs::canonicalize(parent).map_err(BackupError::files(parent))?.join(name))
}

/// Makes the names in the directory of `file` durable.
pub(crate) fn sync_parent(file: &Path) -> Result<(), BackupError> {
    let Some(parent) = file.parent() else { return Ok(()) };
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(BackupError::files(parent))
}

pub(crate) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_an_address_is_written_as_its_number() {
        assert_eq!(unchanging(Path::new("/a b/c?d#e%f.db")), "file:/a%20b/c%3Fd%23e%25f.db?immutable=1");
    }
}
