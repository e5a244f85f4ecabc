//! Looks over a data directory's database without changing what is in it: whose it is, which schema it has, whether it is whole, and how
//! new the newest of it is. It may be asked while another process works in the directory.
//!
//! Says what it finds. What is to be done about it, and how new is too new, is for whoever asks.

use std::path::Path;

use gatepost_identity::clock::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::directory;
use crate::migrations::{self, Standing};
use crate::sqlite::BUSY;

/// How many faults are named; where there is one, more seldom help.
const MOST: usize = 10;

/// What stands in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Its schema, and the one that this version writes.
    pub schema: (u32, u32),
    /// What SQLite finds wrong with it, one sentence each; empty where it is whole.
    pub faults: Vec<String>,
    /// The newest moment in it, of the latest thousand lines of the audit and of the sessions in force.
    pub newest: Option<Timestamp>,
    /// The sizes of the database and of its write-ahead log, in bytes.
    pub sizes: (u64, u64),
}

/// Why a database cannot be looked over.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// There is none yet.
    #[error("there is no database yet")]
    Missing,
    /// The file is not a database of Gatepost's.
    #[error("it is not a Gatepost database")]
    Foreign,
    /// A newer version has written it.
    #[error("it has schema {found}, and this version knows schemas up to {known}")]
    Newer {
        /// The schema of the file.
        found: u32,
        /// The newest schema that this version knows.
        known: u32,
    },
    /// It cannot be read at all.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// Looks over the database of a data directory. With `every_index`, also whether each index holds what its table does, which takes
/// several times as long. Reads the whole file; writers go on meanwhile.
///
/// # Errors
/// Where there is no database of this or an earlier version that could be read.
pub fn examine(data: &Path, every_index: bool) -> Result<Examined, ExamineError> {
    let file = directory::database_file(data);
    if !file.exists() {
        return Err(ExamineError::Missing);
    }
    let connection = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .and_then(|connection| connection.busy_timeout(BUSY).map(|()| connection))
        .map_err(unreadable)?;
    let known = migrations::known();
    let found = match migrations::standing(&connection) {
        Ok(Standing::Schema(found)) if found > known => return Err(ExamineError::Newer { found, known }),
        Ok(Standing::Schema(found)) => found,
        Ok(Standing::Empty) => return Err(ExamineError::Missing),
        Ok(Standing::Foreign) => return Err(ExamineError::Foreign),
        Err(error) => return Err(unreadable(error)),
    };
    let mut faults = check(&connection, if every_index { "integrity_check" } else { "quick_check" });
    if faults.is_empty() {
        faults = orphans(&connection);
    }
    let size = |file: &Path| std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    let sizes = (size(&file), size(&data.join("gatepost.db-wal")));
    // What is damaged may answer anything.
    let newest = if faults.is_empty() { newest(&connection).map_err(unreadable)? } else { None };
    Ok(Examined { schema: (found, known), faults, newest, sizes })
}

/// What one of SQLite's own checks says, which is `ok` where nothing is wrong. That it cannot go on is a fault as well.
fn check(connection: &Connection, pragma: &str) -> Vec<String> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("PRAGMA {pragma}({MOST})"))?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    match read() {
        Ok(said) => said.into_iter().filter(|text| text != "ok").collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// Rows that name others which are not there.
fn orphans(connection: &Connection) -> Vec<String> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("SELECT \"table\", parent FROM pragma_foreign_key_check LIMIT {MOST}"))?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| row.map(|(table, parent)| format!("a row of {table} names one of {parent} that is not there"))).collect()
    };
    read().unwrap_or_else(|error| vec![error.to_string()])
}

fn newest(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let written = ask("SELECT max(at) FROM (SELECT at FROM audit ORDER BY number DESC LIMIT 1000)")?;
    let used = ask("SELECT max(used_at) FROM sessions WHERE ended_at IS NULL")?;
    Ok(written.max(used).map(Timestamp::from_millis))
}

fn unreadable(error: rusqlite::Error) -> ExamineError {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) if failure.code == ErrorCode::NotADatabase => ExamineError::Foreign,
        error => ExamineError::Unreadable(error.to_string()),
    }
}
