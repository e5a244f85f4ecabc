//! The verbs that let go of what is past: rows whose time is over, and the names of whoever was removed.
//!
//! Both go a batch at a time, so that a login never waits for a history. Of the audit the oldest lines go and never the newest one:
//! the chain goes on from there, and the first line that is left carries the hash of the last one that went. The number of that
//! first line is kept (`audit` in `counters`), so that lines which went otherwise are missed.

use gatepost_identity::account::{AccountId, NameKey};
use gatepost_identity::store::Past;
use rusqlite::{Connection, params};

use super::run;
use crate::failure::Failure;
use crate::rows;

/// The lines of the feed that are kept. A node reads it every second; one that fell behind by more finds that the first
/// line it is given is not the next one.
const FEED: i64 = 10_000;

pub(crate) fn forget(connection: &Connection, past: &Past, most: usize) -> Result<bool, Failure> {
    let limit = rows::limit(most);
    let mut more = false;
    let mut go = |sql: &str, moment: i64| -> Result<(), Failure> {
        more |= connection.prepare_cached(sql)?.execute(params![moment, limit])? == most;
        Ok(())
    };
    let (now, ended) = (past.now.millis(), past.ended.millis());
    go("DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE expires_at < ?1 LIMIT ?2)", now)?;
    go("DELETE FROM families WHERE id IN (SELECT id FROM families WHERE expires_at < ?1 AND NOT adopted LIMIT ?2)", now)?;
    // What would be good again without its row stays a while longer: the clock may be ahead.
    go("DELETE FROM families WHERE id IN (SELECT id FROM families WHERE expires_at < ?1 LIMIT ?2)", ended)?;
    go("DELETE FROM grants WHERE hash IN (SELECT hash FROM grants WHERE expires_at < ?1 AND session IS NULL LIMIT ?2)", now)?;
    go("DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE ended_at < ?1 LIMIT ?2)", ended)?;
    // As the index has it.
    let end = |column: &str| format!("ifnull({column}, {})", i64::MAX);
    let over = format!("min({}, {}, {})", end("cancelled_at"), end("expires_at"), end("removed_at"));
    go(&format!("DELETE FROM api_keys WHERE hash IN (SELECT hash FROM api_keys WHERE {over} < ?1 LIMIT ?2)"), ended)?;
    go("DELETE FROM keys WHERE number IN (SELECT number FROM keys WHERE verifies_until < ?1 LIMIT ?2)", now)?;
    go("DELETE FROM revoked WHERE hash IN (SELECT hash FROM revoked WHERE expires_at < ?1 LIMIT ?2)", ended)?;
    let oldest = "SELECT number FROM feed WHERE number <= (SELECT max(number) FROM feed) - ?1 ORDER BY number LIMIT ?2";
    go(&format!("DELETE FROM feed WHERE number IN ({oldest})"), FEED)?;
    Ok(more | forget_lines(connection, past.audit.millis(), most)?)
}

/// Lines go from the oldest on, up to the first one that is not old enough: what a clock once said that was wrong makes no gap.
fn forget_lines(connection: &Connection, before: i64, most: usize) -> Result<bool, Failure> {
    let sql = "SELECT number, at FROM audit WHERE number < (SELECT max(number) FROM audit) ORDER BY number LIMIT ?1";
    let oldest: Vec<(i64, i64)> = connection
        .prepare_cached(sql)?
        .query_map([rows::limit(most)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let count = oldest.iter().take_while(|(_, at)| *at < before).count();
    let Some((last, _)) = count.checked_sub(1).and_then(|index| oldest.get(index)) else { return Ok(false) };
    run(connection, "DELETE FROM audit WHERE number <= ?1", [last])?;
    let sql = "INSERT INTO counters (name, next) VALUES ('audit', ?1) ON CONFLICT DO UPDATE SET next = excluded.next";
    run(connection, sql, [last + 1])?;
    Ok(count == most)
}

pub(crate) fn erase_names(
    connection: &Connection,
    of: AccountId,
    names: &[NameKey],
    after: u64,
    most: usize,
) -> Result<Option<u64>, Failure> {
    thoroughly(connection, || {
        let sql =
            "SELECT number, account, name FROM audit_names JOIN audit USING (number) WHERE number > ?1 ORDER BY number LIMIT ?2";
        let looked_at: Vec<(i64, Option<[u8; 16]>, Option<String>)> = connection
            .prepare_cached(sql)?
            .query_map(params![rows::integer(after), rows::limit(most)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let of = of.0.into_bytes();
        for (number, account, name) in &looked_at {
            let Some(name) = name else { continue };
            if *account == Some(of) || names.contains(&NameKey::of(name)) {
                run(connection, "UPDATE audit_names SET name = NULL WHERE number = ?1", [number])?;
            }
        }
        let last = looked_at.last().map(|(number, ..)| number.unsigned_abs());
        Ok(last.filter(|_| looked_at.len() == most))
    })
}

/// Does something whose traces are overwritten in the file, too, and not only given up.
pub(super) fn thoroughly<T>(connection: &Connection, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let switch = |on: bool| connection.pragma_update_and_check(None, "secure_delete", on, |_| Ok(()));
    switch(true)?;
    let outcome = work();
    switch(false)?;
    outcome
}
