//! A copy in the place of the database.
//!
//! The copy is brought into the directory under a name of its own, read from beginning to end, taken to the present schema, and
//! cut: whatever was told to a peer by it, or after it, stands no longer. Only then it takes the database's name, in one step; until
//! that step everything is as it was, and after it everything is done.
//!
//! ```text
//!   gatepost.db            the database, old or new, whole at every moment
//!   gatepost.db.restoring  the copy on its way; of no use after a kill, and removed by the next restore
//!   gatepost.db.replaced   the database that was there before, until the next restore
//! ```
//!
//! What ended after the copy was made must not come back with it. Tokens and sessions cannot, since all of them end. Of what speaks by
//! itself (API keys, keys that sign, revoked tokens of other issuers, failures that count) the database that is replaced knows what
//! ended, as long as it can be read and is of the same installation. What else is older then, is counted, so that it can be said.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gatepost_identity::account::cut_off_after;
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::{Timestamp, system_now};
use gatepost_identity::reply::Reason;
use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use crate::backup::{BackupError, Contents, sync_parent, unchanging, verify, with_suffix};
use crate::directory::{self, OpenError, database_file};
use crate::failure::Failure;
use crate::migrations::{self, Standing};
use crate::sqlite::connect;
use crate::writes;

/// How far the numbers of tokens go on behind the last one that is known to have been given: further than a server gives in years,
/// and so seldom needed that they never end.
const GAP: i64 = 1 << 32;

/// What became of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What was in the copy, as it was.
    pub contents: Contents,
    /// The schema that it has now.
    pub schema: u32,
    /// Where the database that was replaced stands; none: there was none.
    pub replaced: Option<PathBuf>,
    /// What is older now than in the database that was replaced; none: that could not be told.
    pub older: Option<Older>,
}

/// What a restore has brought back, or taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    /// Accounts that have the password of the copy and had another one.
    pub passwords: u64,
    /// Accounts that are switched on or off, and were not.
    pub statuses: u64,
    /// Accounts that had been removed.
    pub returned: u64,
    /// Accounts that had been added.
    pub lost: u64,
}

/// Where the copy stands on its way into a directory.
pub fn restoring(directory: &Path) -> PathBuf {
    with_suffix(&database_file(directory), ".restoring")
}

/// Puts a copy in the place of the database of `directory`, which is made where it is missing. Ends all sessions, tokens and open
/// grants; nothing that was signed for an account stands any longer, and no number of a token is given twice. `entry` is written
/// into the audit of the copy, once for all sessions that were in force in it.
///
/// # Errors
/// As [`BackupError`] says; everything is as it was then. A server, or another command, holds the directory; the copy is not whole, or
/// a newer version wrote it; the database that is there is not ours, or cannot be written to.
pub fn restore(directory: &Path, file: &Path, entry: AuditEntry) -> Result<Restored, BackupError> {
    let hold = directory::hold(directory)?;
    let staged = restoring(directory);
    let restored = (|| {
        bring(file, &staged)?;
        // What is read is what was brought, whatever becomes of the file meanwhile.
        let contents = verify(&staged).map_err(|error| named(error, &staged, file))?;
        let database = database_file(directory);
        let before = settle(&database)?;
        let older = prepare(&staged, contents.schema, before.then_some(&*database), entry)?;
        File::open(&staged).and_then(|file| file.sync_all()).map_err(BackupError::files(&staged))?;
        let replaced = exchange(&staged, &database)?;
        Ok(Restored { contents, schema: migrations::known(), replaced, older })
    })();
    if restored.is_err() {
        remove(&staged);
    }
    drop(hold);
    restored
}

/// A complaint about the copy names it as the operator did.
fn named(error: BackupError, staged: &Path, file: &Path) -> BackupError {
    match error {
        BackupError::Broken { file: of, why } if of == staged => BackupError::Broken { file: file.to_owned(), why },
        other => other,
    }
}

/// Takes away what a restore that was killed has left behind. To be called by whoever holds the directory.
pub(crate) fn forget_unfinished(directory: &Path) {
    remove(&restoring(directory));
}

fn remove(staged: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        // What is not there need not go; what cannot go is in the way of the next restore, which says so.
        let _ = std::fs::remove_file(with_suffix(staged, suffix));
    }
}

/// Copies the file into the directory, for its owner only.
fn bring(file: &Path, staged: &Path) -> Result<(), BackupError> {
    remove(staged);
    let log = with_suffix(file, "-wal");
    if std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        let why = format!("{} lies beside it, so it is a database and no backup; make one with `gatepost backup`", log.display());
        return Err(BackupError::Broken { file: file.to_owned(), why });
    }
    let mut from = File::open(file).map_err(BackupError::files(file))?;
    let failed = BackupError::files(staged);
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged).map_err(&failed)?;
    io::copy(&mut from, &mut to).map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => BackupError::Files { path: file.to_owned(), error },
        _ => failed(error),
    })?;
    // Root may restore what another user's server works with.
    if let Some(home) = staged.parent().and_then(|home| std::fs::metadata(home).ok())
        && home.uid() != rustix::process::geteuid().as_raw()
    {
        std::os::unix::fs::fchown(&to, Some(home.uid()), Some(home.gid())).map_err(&failed)?;
    }
    Ok(())
}

/// Makes the database one file, with nothing beside it that belongs to it and would be taken for its successor's. Answers whether it
/// can be read; one that SQLite finds broken is what a restore may be for.
fn settle(database: &Path) -> Result<bool, BackupError> {
    if !database.is_file() {
        return Ok(false);
    }
    let what = "the database that is there cannot be put aside";
    let outcome = connect(database, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|connection| {
        let standing = migrations::standing(&connection)?;
        if matches!(standing, Standing::Foreign) {
            return Ok((standing, true));
        }
        let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        let journal: String = connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
        Ok((standing, !busy && journal == "delete"))
    });
    match outcome {
        Ok((Standing::Foreign, _)) => Err(OpenError::Foreign { file: database.to_owned() }.into()),
        Ok((_, true)) => Ok(true),
        Ok((_, false)) => Err(BackupError::Database { what, why: "somebody else has it open".to_owned() }),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
        {
            tracing::error!("the database that is there is broken, and is put aside as it is");
            Ok(false)
        }
        Err(error) => Err(BackupError::database(what)(error)),
    }
}

/// Takes the copy to the present schema and cuts it, in transactions of its own file.
fn prepare(staged: &Path, found: u32, before: Option<&Path>, entry: AuditEntry) -> Result<Option<Older>, BackupError> {
    let failed = BackupError::database("the backup cannot be made ready");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_URI;
    let mut connection = connect(staged, flags).map_err(&failed)?;
    // One file in the end, whatever it was before.
    connection.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(())).map_err(&failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(&failed)?;
    migrations::migrate(&mut connection, found).map_err(&failed)?;
    let is_kin = match before {
        Some(before) => {
            connection.execute("ATTACH ?1 AS replaced", [unchanging(before)]).map_err(&failed)?;
            same_installation(&connection).map_err(&failed)?
        }
        None => false,
    };
    let transaction = connection.transaction().map_err(&failed)?;
    let mut older = None;
    if is_kin {
        transaction.execute_batch("SAVEPOINT carrying").map_err(&failed)?;
        match carry(&transaction) {
            Ok(counted) => older = Some(counted),
            Err(error) => {
                // An older schema may lack what is asked for: then nothing of it is taken, and that is said.
                tracing::error!(%error, "what ended since the backup could not be carried over: {error}");
                transaction.execute_batch("ROLLBACK TO carrying").map_err(&failed)?;
            }
        }
        transaction.execute_batch("RELEASE carrying").map_err(&failed)?;
    }
    cut(&transaction, entry)
        .map_err(|failure| BackupError::Database { what: "the backup cannot be made ready", why: failure.to_string() })?;
    transaction.commit().map_err(&failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    Ok(older)
}

/// Whether the database that is replaced is of the same installation: both have drawn the same secret.
fn same_installation(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM main.secrets AS ours JOIN replaced.secrets AS theirs USING (name, bytes) WHERE name = 'throttle'";
    connection.prepare(sql)?.exists([])
}

/// Takes over what ended since the copy was made, and counts what is older in it.
fn carry(connection: &Connection) -> rusqlite::Result<Older> {
    let now = system_now().millis();
    connection.execute("INSERT OR IGNORE INTO main.revoked SELECT hash, expires_at FROM replaced.revoked", [])?;
    let key_in_force = "SELECT 1 FROM replaced.api_keys AS theirs WHERE theirs.hash = api_keys.hash \
         AND theirs.cancelled_at IS NULL AND theirs.removed_at IS NULL";
    let sql = format!("UPDATE main.api_keys SET cancelled_at = ?1 WHERE cancelled_at IS NULL AND NOT EXISTS ({key_in_force})");
    connection.execute(&sql, [now])?;
    // A key that was retired at once because others knew it may be forgotten already.
    let signs = "SELECT 1 FROM replaced.keys AS theirs WHERE theirs.secret = keys.secret AND theirs.retired_at IS NULL";
    let verifies = "SELECT theirs.verifies_until FROM replaced.keys AS theirs WHERE theirs.secret = keys.secret";
    let sql = format!(
        "UPDATE main.keys SET retired_at = ifnull(retired_at, ?1), \
         verifies_until = min(ifnull(verifies_until, ifnull(({verifies}), ?1)), ifnull(({verifies}), ?1)) WHERE NOT EXISTS ({signs})"
    );
    connection.execute(&sql, [now])?;
    connection.execute("DELETE FROM main.throttle", [])?;
    connection.execute("INSERT INTO main.throttle SELECT slot, key, rule, failures, last FROM replaced.throttle", [])?;
    let sql = "INSERT INTO main.counters (name, next) SELECT name, next FROM replaced.counters WHERE name = 'tokens' \
               ON CONFLICT DO UPDATE SET next = max(next, excluded.next)";
    connection.execute(sql, [])?;
    let sql = "UPDATE main.accounts SET cut_off = max(accounts.cut_off, theirs.cut_off) FROM replaced.accounts AS theirs \
               WHERE theirs.id = accounts.id";
    connection.execute(sql, [])?;
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let both = "SELECT count(*) FROM main.accounts AS ours JOIN replaced.accounts AS theirs USING (id) WHERE";
    Ok(Older {
        passwords: count(&format!("{both} ours.password IS NOT theirs.password"))?,
        statuses: count(&format!("{both} ours.status <> theirs.status"))?,
        returned: count("SELECT count(*) FROM main.accounts WHERE id NOT IN (SELECT id FROM replaced.accounts)")?,
        lost: count("SELECT count(*) FROM replaced.accounts WHERE id NOT IN (SELECT id FROM main.accounts)")?,
    })
}

/// Ends all that peers were told.
fn cut(connection: &Connection, entry: AuditEntry) -> Result<(), Failure> {
    let now = entry.at.max(system_now());
    let sql = "UPDATE main.sessions SET ended_at = ?1, ended_for = ?2 WHERE ended_at IS NULL";
    let ended = connection.execute(sql, params![now.millis(), Reason::Revoked.word()])?;
    connection.execute("DELETE FROM main.tokens", [])?;
    connection.execute("DELETE FROM main.grants WHERE session IS NULL", [])?;
    connection.execute("DELETE FROM main.families", [])?;
    let mut accounts = connection.prepare("SELECT id, cut_off FROM main.accounts")?;
    let accounts: Vec<([u8; 16], i64)> =
        accounts.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let mut move_cut_off = connection.prepare("UPDATE main.accounts SET cut_off = ?2 WHERE id = ?1")?;
    for (id, was) in accounts {
        move_cut_off.execute(params![id, cut_off_after(now, Timestamp::from_millis(was)).millis()])?;
    }
    let sql = "INSERT INTO main.counters (name, next) VALUES ('tokens', 1 + ?1) ON CONFLICT DO UPDATE SET next = next + ?1";
    connection.execute(sql, [GAP])?;
    let count = u32::try_from(ended).unwrap_or(u32::MAX).max(1);
    writes::append(connection, &[AuditEntry { count, ..entry }])
}

/// Gives the copy the database's name. The file that had it keeps another one.
fn exchange(staged: &Path, database: &Path) -> Result<Option<PathBuf>, BackupError> {
    let mut kept = None;
    if database.is_file() {
        let replaced = with_suffix(database, ".replaced");
        let failed = BackupError::files(&replaced);
        for suffix in ["", "-wal", "-shm"] {
            match std::fs::remove_file(with_suffix(&replaced, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        // Where a file cannot have two names, it is copied.
        if std::fs::hard_link(database, &replaced).is_err() {
            std::fs::copy(database, &replaced).map_err(&failed)?;
        }
        // A broken database could not be made one file. What belongs to it goes with it.
        for suffix in ["-wal", "-shm"] {
            match std::fs::rename(with_suffix(database, suffix), with_suffix(&replaced, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        sync_parent(database)?;
        kept = Some(replaced);
    }
    std::fs::rename(staged, database).map_err(BackupError::files(database))?;
    sync_parent(database)?;
    Ok(kept)
}
