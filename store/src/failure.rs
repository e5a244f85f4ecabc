//! What can go wrong with SQLite, before it becomes the core's `StoreError`: a sentence for operators.
//!
//! A row that does not parse is an error that names its table and its key, never a panic: somebody must find it.

use std::fmt;

use gatepost_identity::store::StoreError;

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite said no.
    Sqlite(rusqlite::Error),
    /// A row holds what this version cannot read.
    Row { table: &'static str, key: String, why: String },
    /// A value cannot be written.
    Unwritable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Sqlite(error) => write!(f, "the database answers: {error}"),
            Failure::Row { table, key, why } => write!(f, "the row {key} of table {table} cannot be read: {why}"),
            Failure::Unwritable(why) => f.write_str(why),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Failure {
        Failure::Sqlite(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> StoreError {
        StoreError(failure.to_string())
    }
}
