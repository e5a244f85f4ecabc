//! Which schema a file has, and how it comes to the present one: numbered SQL, forward only.
//!
//! Each migration is one transaction together with its number, so that a power cut leaves the schema before or after it.
//! A file that is not ours is left as it is, and so is one that a newer version wrote: guessing would cost data.

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

/// Marks a database file as ours: "Gate" in ASCII.
const APPLICATION: i32 = 0x4761_7465;

/// Schema 1 is the first one. A migration that was published is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_grants.sql"),
    include_str!("../migrations/0003_revoked.sql"),
    include_str!("../migrations/0004_signing_keys.sql"),
    include_str!("../migrations/0005_rights.sql"),
    include_str!("../migrations/0006_cookies.sql"),
    include_str!("../migrations/0007_api_keys.sql"),
    include_str!("../migrations/0008_keys.sql"),
    include_str!("../migrations/0009_terminals.sql"),
    include_str!("../migrations/0010_families.sql"),
    include_str!("../migrations/0011_keys_without_account.sql"),
    include_str!("../migrations/0012_attempts.sql"),
];

/// What stands between a file and the present schema.
pub(crate) enum Standing {
    /// Nothing is in it yet.
    Empty,
    /// It is ours and has this schema.
    Schema(u32),
    /// It is not ours.
    Foreign,
}

/// The schema that this version writes.
pub(crate) fn known() -> u32 {
    MIGRATIONS.iter().fold(0, |number, _| number + 1)
}

/// Looks without changing anything.
pub(crate) fn standing(connection: &Connection) -> rusqlite::Result<Standing> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application = match number("application_id") {
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::NotADatabase => return Ok(Standing::Foreign),
        application => application?,
    };
    let version = number("user_version")?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, u32::try_from(version)) {
        (0, Ok(0)) if objects == 0 => Standing::Empty,
        (APPLICATION, Ok(version)) => Standing::Schema(version),
        _ => Standing::Foreign,
    })
}

/// Runs the migrations after number `found`.
pub(crate) fn migrate(connection: &mut Connection, found: u32) -> rusqlite::Result<()> {
    for (number, sql) in (1_u32..).zip(MIGRATIONS).filter(|(number, _)| *number > found) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
        tracing::info!(schema = number, "the database now has schema {number}");
    }
    Ok(())
}
