//! The verbs that only read, each over one connection.
//!
//! What takes more than one statement takes one transaction, so that it never sees half of a write.

use gatepost_identity::account::{Account, AccountId, Client, ClientId, NameKey};
use gatepost_identity::api_key::ApiKey;
use gatepost_identity::audit::AuditRow;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::family::Family;
use gatepost_identity::keyring::SigningKey;
use gatepost_identity::session::{Session, SessionId};
use gatepost_identity::store::{Change, Grant, Page, StoredSession, StoredTerminal, TokenHash};
use gatepost_identity::terminal::TerminalName;
use gatepost_identity::throttle::ThrottleRow;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::failure::Failure;
use crate::rows;

pub(crate) fn is_revoked(connection: &Connection, token: &TokenHash) -> Result<bool, Failure> {
    Ok(connection.prepare_cached("SELECT 1 FROM revoked WHERE hash = ?1")?.exists([token])?)
}

pub(crate) fn revoked_marks(connection: &Connection, limit: usize) -> Result<Vec<[u8; 4]>, Failure> {
    all(connection, "SELECT substr(hash, 1, 4) FROM revoked LIMIT ?1", [rows::limit(limit)], |row| Ok(row.get(0)?))
}

pub(crate) fn secret(connection: &Connection, name: &str) -> Result<Option<[u8; 32]>, Failure> {
    Ok(connection.prepare_cached("SELECT bytes FROM secrets WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?)
}

pub(crate) fn signing_keys(connection: &Connection) -> Result<Vec<SigningKey>, Failure> {
    all(connection, &format!("SELECT {} FROM keys ORDER BY number", rows::SIGNING_KEY), [], rows::signing_key)
}

pub(crate) fn account_named(connection: &Connection, key: &NameKey) -> Result<Option<Account>, Failure> {
    let sql = format!(
        "SELECT {} FROM account_names JOIN accounts ON accounts.id = account_names.account WHERE account_names.key = ?1",
        rows::ACCOUNT
    );
    one(connection, &sql, [key.as_str()], rows::account)
}

pub(crate) fn account(connection: &Connection, id: AccountId) -> Result<Option<Account>, Failure> {
    one(connection, &format!("SELECT {} FROM accounts WHERE id = ?1", rows::ACCOUNT), [id.0.into_bytes()], rows::account)
}

pub(crate) fn account_known_as(connection: &Connection, subject: &str) -> Result<Option<Account>, Failure> {
    one(connection, &format!("SELECT {} FROM accounts WHERE subject = ?1", rows::ACCOUNT), [subject], rows::account)
}

pub(crate) fn accounts(connection: &Connection, page: &Page<NameKey>) -> Result<Vec<Account>, Failure> {
    let sql = format!(
        "SELECT {} FROM account_names JOIN accounts ON accounts.id = account_names.account \
         WHERE account_names.kind = 'name' AND account_names.key > ?1 ORDER BY account_names.key LIMIT ?2",
        rows::ACCOUNT
    );
    let after = page.after.as_ref().map_or("", NameKey::as_str);
    all(connection, &sql, params![after, rows::limit(page.limit)], rows::account)
}

pub(crate) fn client(connection: &Connection, id: &ClientId) -> Result<Option<Client>, Failure> {
    one(connection, &format!("SELECT {} FROM clients WHERE id = ?1", rows::CLIENT), [id.as_str()], rows::client)
}

pub(crate) fn clients(connection: &Connection, page: &Page<ClientId>) -> Result<Vec<Client>, Failure> {
    let sql = format!("SELECT {} FROM clients WHERE id > ?1 ORDER BY id LIMIT ?2", rows::CLIENT);
    let after = page.after.as_ref().map_or("", ClientId::as_str);
    all(connection, &sql, params![after, rows::limit(page.limit)], rows::client)
}

pub(crate) fn grant(connection: &Connection, hash: &TokenHash) -> Result<Option<Grant>, Failure> {
    one(connection, &format!("SELECT {} FROM grants WHERE hash = ?1", rows::GRANT), [hash], rows::grant)
}

pub(crate) fn family(connection: &Connection, id: &TokenHash) -> Result<Option<Family>, Failure> {
    one(connection, &format!("SELECT {} FROM families WHERE id = ?1", rows::FAMILY), [id], rows::family)
}

pub(crate) fn api_key_marks(connection: &Connection, limit: usize) -> Result<Vec<[u8; 4]>, Failure> {
    let mut statement = connection.prepare_cached("SELECT substr(hash, 1, 4) FROM api_keys LIMIT ?1")?;
    Ok(statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

pub(crate) fn api_key(connection: &Connection, hash: &TokenHash) -> Result<Option<ApiKey>, Failure> {
    one(connection, &format!("SELECT {} FROM api_keys WHERE hash = ?1", rows::API_KEY), [hash], rows::api_key)
}

pub(crate) fn api_keys(connection: &Connection, of: AccountId) -> Result<Vec<ApiKey>, Failure> {
    let sql = format!(
        "SELECT {} FROM api_keys WHERE account = ?1 ORDER BY cancelled_at IS NOT NULL, created_at DESC, hash LIMIT 1000",
        rows::API_KEY
    );
    all(connection, &sql, [of.0.into_bytes()], rows::api_key)
}

pub(crate) fn terminals(connection: &Connection) -> Result<Vec<StoredTerminal>, Failure> {
    all(connection, &format!("SELECT {} FROM terminals ORDER BY name", rows::TERMINAL), [], rows::terminal)
}

pub(crate) fn terminal_version(connection: &Connection, name: &TerminalName) -> Result<Option<u64>, Failure> {
    let sql = format!("SELECT {} FROM terminals WHERE name = ?1", rows::TERMINAL);
    Ok(one(connection, &sql, [name.as_str()], rows::terminal)?.map(|terminal| terminal.version))
}

pub(crate) fn session_by_token(
    connection: &Connection,
    hash: &TokenHash,
    since: Timestamp,
) -> Result<Option<StoredSession>, Failure> {
    let transaction = connection.unchecked_transaction()?;
    let sql = format!("SELECT {} FROM sessions WHERE id = (SELECT session FROM tokens WHERE hash = ?1)", rows::SESSION);
    let Some(session) = one(&transaction, &sql, [hash], rows::session)? else { return Ok(None) };
    let sql = format!(
        "SELECT {} FROM tokens WHERE session = ?1 AND (superseded_at IS NULL OR superseded_at >= ?2 OR hash = ?3) \
         ORDER BY issued_at, hash",
        rows::TOKEN
    );
    let tokens = all(&transaction, &sql, params![session.id.0.into_bytes(), since.millis(), hash], rows::token)?;
    Ok(Some(StoredSession { session, tokens }))
}

pub(crate) fn session(connection: &Connection, id: SessionId) -> Result<Option<Session>, Failure> {
    one(connection, &format!("SELECT {} FROM sessions WHERE id = ?1", rows::SESSION), [id.0.into_bytes()], rows::session)
}

/// Ids are UUIDs of version 7, which grow with time, so their order is the order of beginning.
pub(crate) fn sessions(connection: &Connection, of: Option<AccountId>, page: &Page<SessionId>) -> Result<Vec<Session>, Failure> {
    let sql = sessions_sql(of.is_some(), page.after.is_some());
    let after = page.after.map(|id| id.0.into_bytes());
    let of = of.map(|id| id.0.into_bytes());
    all(connection, &sql, params![rows::limit(page.limit), after, of], rows::session)
}

fn sessions_sql(of_account: bool, is_continued: bool) -> String {
    let of_account = if of_account { "AND account = ?3" } else { "AND ?3 IS NULL" };
    let before = if is_continued { "AND id < ?2" } else { "AND ?2 IS NULL" };
    format!("SELECT {} FROM sessions WHERE ended_at IS NULL {of_account} {before} ORDER BY id DESC LIMIT ?1", rows::SESSION)
}

pub(crate) fn feed(connection: &Connection, after: u64, limit: usize) -> Result<Vec<(u64, Change)>, Failure> {
    let sql = format!("SELECT {} FROM feed WHERE number > ?1 ORDER BY number LIMIT ?2", rows::CHANGE);
    all(connection, &sql, params![rows::integer(after), rows::limit(limit)], rows::change)
}

pub(crate) fn feed_end(connection: &Connection) -> Result<u64, Failure> {
    let newest: Option<i64> = connection.prepare_cached("SELECT max(number) FROM feed")?.query_row([], |row| row.get(0))?;
    Ok(newest.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}

/// Nothing at all, from the file and not from memory.
pub(crate) fn answers(connection: &Connection) -> Result<(), Failure> {
    connection.prepare_cached("SELECT number FROM audit ORDER BY number DESC LIMIT 1")?.query_row([], |_| Ok(())).optional()?;
    Ok(())
}

pub(crate) fn sessions_by_gate(connection: &Connection) -> Result<Vec<(String, u64)>, Failure> {
    let sql = "SELECT gate, count(*) FROM sessions WHERE ended_at IS NULL GROUP BY gate ORDER BY gate";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn audit_before(connection: &Connection, before: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, Failure> {
    let before = before.map_or(i64::MAX, rows::integer);
    all(connection, &audit_sql("number < ?1 ORDER BY number DESC"), params![before, rows::limit(limit)], rows::audit)
}

pub(crate) fn audit_after(connection: &Connection, after: u64, limit: usize) -> Result<Vec<AuditRow>, Failure> {
    let after = rows::integer(after);
    all(connection, &audit_sql("number > ?1 ORDER BY number"), params![after, rows::limit(limit)], rows::audit)
}

fn audit_sql(these: &str) -> String {
    format!("SELECT {} FROM audit LEFT JOIN audit_names USING (number) WHERE {these} LIMIT ?2", rows::AUDIT)
}

pub(crate) fn throttle(connection: &Connection) -> Result<Vec<ThrottleRow>, Failure> {
    all(connection, &format!("SELECT {} FROM throttle ORDER BY slot", rows::THROTTLE), [], rows::throttle)
}

fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: fn(&Row<'_>) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    connection.prepare_cached(sql)?.query_and_then(params, read)?.next().transpose()
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: fn(&Row<'_>) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    connection.prepare_cached(sql)?.query_and_then(params, read)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How SQLite would go about it, a step each.
    fn plan(sql: &str) -> Vec<String> {
        let mut connection = Connection::open_in_memory().expect("a database");
        crate::migrations::migrate(&mut connection, 0).expect("the schema");
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
        for number in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(number, 1).expect("a parameter");
        }
        let mut steps = Vec::new();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().expect("a row") {
            steps.push(row.get(3).expect("text"));
        }
        steps
    }

    #[test]
    fn a_page_is_read_along_a_key_and_never_sorted() {
        let check = |sql: &str, expected: &[&str]| assert_eq!(plan(sql), expected, "{sql}");
        check(&sessions_sql(false, false), &["SCAN sessions"]);
        check(&sessions_sql(false, true), &["SEARCH sessions USING PRIMARY KEY (id<?)"]);
        check(&sessions_sql(true, false), &["SEARCH sessions USING INDEX sessions_by_account (account=?)"]);
        check(&sessions_sql(true, true), &["SEARCH sessions USING INDEX sessions_by_account (account=? AND id<?)"]);
        let names = "SEARCH audit_names USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN";
        check(&audit_sql("number < ?1 ORDER BY number DESC"), &["SEARCH audit USING INTEGER PRIMARY KEY (rowid<?)", names]);
        check(&audit_sql("number > ?1 ORDER BY number"), &["SEARCH audit USING INTEGER PRIMARY KEY (rowid>?)", names]);
    }
}
