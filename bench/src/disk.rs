//! The reference program that writes: the disk with nothing around it, and SQLite with nothing around it.
//!
//! The tables have the columns and the indexes that a rolled token meets in the store, and the connection has the store's
//! settings. It decides nothing by what it has written, and looks nothing up.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use crate::Outcome;
use crate::measure::{duration_at, say};

/// How many of what is written to a database share a commit.
pub(crate) const GROUP: usize = 100;
/// What is appended before each sync, in bytes.
const BLOCK: usize = 4096;
/// Sessions that the tokens belong to, in turn.
const SESSIONS: usize = 64;
/// Thirty days.
const LIFE: i64 = 30 * 24 * 60 * 60 * 1000;

const SCHEMA: &str = "
    CREATE TABLE sessions (id BLOB PRIMARY KEY, used_at INTEGER NOT NULL, ended_at INTEGER) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_by_use ON sessions (used_at) WHERE ended_at IS NULL;
    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
        session BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
        parent BLOB,
        issued_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        presented_at INTEGER,
        superseded_at INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tokens_by_session ON tokens (session);
    CREATE INDEX tokens_by_parent ON tokens (parent) WHERE parent IS NOT NULL;
    CREATE INDEX tokens_by_end ON tokens (expires_at);
";

/// Writes below this directory. For each line `WHAT COUNT` that it hears, it writes that many, and says the microseconds of
/// all of them and of the median one; of the median commit where they share it.
///
/// * `append`: a block at the end of a new file, and `fdatasync`.
/// * `insert`: a row of a token.
/// * `roll`: that, and what else a rolled token writes: when its parent was presented and its parent's parent superseded, and
///   when its session was used.
pub(crate) fn run(directory: &str) -> Outcome<()> {
    let directory = Path::new(directory);
    let mut database = Database::open(&directory.join("reference.db"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (what, count) = line.split_once(' ').ok_or("a line is WHAT COUNT")?;
        let count: usize = count.parse()?;
        let began = system_instant();
        let mut each = match what {
            "append" => append(&directory.join("reference.log"), count)?,
            "insert" => database.write(count, false)?,
            "roll" => database.write(count, true)?,
            _ => return Err("there is nothing of that name to write".into()),
        };
        let all = system_instant() - began;
        say(&format!("{} {}", all.as_micros(), duration_at(&mut each, 0.5).as_micros()))?;
    }
    Ok(())
}

fn append(file: &Path, count: usize) -> Outcome<Vec<Duration>> {
    let mut file: File = OpenOptions::new().create(true).write(true).truncate(true).open(file)?;
    let block = [7; BLOCK];
    let mut each = Vec::with_capacity(count);
    for _ in 0..count {
        let began = system_instant();
        file.write_all(&block)?;
        // On Linux this is `fdatasync`.
        file.sync_data()?;
        each.push(system_instant() - began);
    }
    Ok(each)
}

/// A token's hash.
type Hash = [u8; 32];

struct Database {
    connection: Connection,
    /// The last two tokens of each session, the older one first.
    last: Vec<[Hash; 2]>,
    written: usize,
}

impl Database {
    fn open(file: &Path) -> Outcome<Database> {
        let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, access)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.execute_batch(SCHEMA)?;
        for session in 0..SESSIONS {
            connection.execute("INSERT INTO sessions (id, used_at) VALUES (?1, 0)", [id(session)])?;
        }
        Ok(Database { connection, last: vec![[[0; 32]; 2]; SESSIONS], written: 0 })
    }

    /// Writes tokens, and answers how long each commit took with what is in it.
    fn write(&mut self, mut count: usize, whole: bool) -> Outcome<Vec<Duration>> {
        let mut each = Vec::new();
        while count > 0 {
            let began = system_instant();
            let group = count.min(GROUP);
            self.say("BEGIN IMMEDIATE")?;
            for _ in 0..group {
                self.token(whole)?;
            }
            self.say("COMMIT")?;
            count -= group;
            each.push(system_instant() - began);
        }
        Ok(each)
    }

    fn token(&mut self, whole: bool) -> Outcome<()> {
        self.written += 1;
        let session = self.written % SESSIONS;
        let [before, parent] = self.last[session];
        let (hash, id, now) = (hash(self.written), id(session), i64::try_from(self.written)?);
        if whole {
            let sql = "UPDATE tokens SET presented_at = ?2 WHERE hash = ?1 AND presented_at IS NULL";
            self.connection.prepare_cached(sql)?.execute(params![parent, now])?;
            let sql = "UPDATE tokens SET superseded_at = ?2 WHERE hash = ?1 AND superseded_at IS NULL";
            self.connection.prepare_cached(sql)?.execute(params![before, now])?;
        }
        let sql = "INSERT INTO tokens (hash, session, parent, issued_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(params![hash, id, parent, now, now + LIFE])?;
        if whole {
            let sql = "UPDATE sessions SET used_at = ?2 WHERE id = ?1";
            self.connection.prepare_cached(sql)?.execute(params![id, now])?;
        }
        self.last[session] = [parent, hash];
        Ok(())
    }

    fn say(&self, sql: &str) -> Outcome<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

/// The id of a session.
fn id(session: usize) -> [u8; 16] {
    (session as u128).to_be_bytes()
}

/// Bytes that are spread as those of a hash are, another for each number (SplitMix64).
fn hash(number: usize) -> Hash {
    let mut hash = [0; 32];
    for (part, chunk) in (0..).zip(hash.chunks_exact_mut(8)) {
        let mut word = (number as u64 * 4 + part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    hash
}
