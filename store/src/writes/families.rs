//! The verbs that change families of refresh tokens.

use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::family::{Family, MOST_FAMILIES};
use gatepost_identity::store::{Change, TokenHash, Written};
use rusqlite::{Connection, params};

use super::{append, run, tell};
use crate::failure::Failure;
use crate::reads;

pub(crate) fn put_family(
    connection: &Connection,
    family: &Family,
    was: Option<i64>,
    cut_off: Timestamp,
) -> Result<Written, Failure> {
    let stands = reads::account(connection, family.account)?.is_some_and(|account| account.cut_off == cut_off);
    let stored = reads::family(connection, &family.id)?.map(|stored| stored.current);
    if !stands || stored != was {
        return Ok(Written::Stale);
    }
    let account = family.account.0.into_bytes();
    if was.is_none() {
        let sql = "SELECT id FROM families WHERE account = ?1 ORDER BY issued_at DESC, id DESC LIMIT -1 OFFSET ?2";
        let others = i64::try_from(MOST_FAMILIES).unwrap_or(i64::MAX) - 1;
        let surplus: Vec<TokenHash> = connection
            .prepare_cached(sql)?
            .query_map(params![account, others], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        surplus.iter().try_for_each(|id| end(connection, id).map(|_| ()))?;
    }
    let sql = "INSERT OR REPLACE INTO families (id, account, adopted, current, issued_at, previous, superseded_at, expires_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let row = params![
        family.id,
        account,
        family.adopted,
        family.current,
        family.issued_at.millis(),
        family.previous.map(|(number, _)| number),
        family.previous.map(|(_, at)| at.millis()),
        family.expires_at.millis(),
    ];
    run(connection, sql, row)?;
    Ok(Written::Done)
}

pub(crate) fn end_family(connection: &Connection, id: &TokenHash, audit: &AuditEntry) -> Result<(), Failure> {
    if end(connection, id)? {
        append(connection, std::slice::from_ref(audit))?;
    }
    Ok(())
}

/// Whether there was one.
fn end(connection: &Connection, id: &TokenHash) -> Result<bool, Failure> {
    let Some(family) = reads::family(connection, id)? else { return Ok(false) };
    run(connection, "DELETE FROM families WHERE id = ?1", [id])?;
    if family.adopted {
        let sql = "INSERT INTO revoked (hash, expires_at) VALUES (?1, ?2) \
                   ON CONFLICT DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)";
        run(connection, sql, params![id, family.expires_at.millis()])?;
    }
    tell(connection, &Change::Revoked(*id))?;
    Ok(true)
}
