//! The verbs that make and end keys: those that speak for an account by themselves, and those that sign.

use gatepost_identity::account::AccountId;
use gatepost_identity::api_key::{ApiKey, MOST_API_KEYS, Owner};
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::keyring::{Retired, SigningKey};
use gatepost_identity::store::{Change, KeysWritten, NewApiKeys, Placed, TokenHash};
use rusqlite::{Connection, params};

use super::{append, run, tell};
use crate::failure::Failure;
use crate::{reads, rows};

pub(crate) fn signing_keys(connection: &Connection, fresh: &SigningKey) -> Result<Vec<SigningKey>, Failure> {
    let sql = "SELECT 1 FROM keys WHERE purpose = ?1 AND retired_at IS NULL";
    if !connection.prepare_cached(sql)?.exists([fresh.purpose.word()])? {
        put_key(connection, fresh)?;
        tell(connection, &Change::Keys)?;
    }
    reads::signing_keys(connection)
}

pub(crate) fn add_key(connection: &Connection, key: &SigningKey, audit: &AuditEntry) -> Result<u64, Failure> {
    put_key(connection, key)?;
    let number = connection.last_insert_rowid().unsigned_abs();
    tell(connection, &Change::Keys)?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(number)
}

pub(crate) fn retire_key(connection: &Connection, number: u64, retired: Retired, audit: &AuditEntry) -> Result<(), Failure> {
    let sql = "UPDATE keys SET retired_at = ifnull(retired_at, ?2), verifies_until = min(ifnull(verifies_until, ?3), ?3) \
               WHERE number = ?1";
    run(connection, sql, params![rows::integer(number), retired.at.millis(), retired.until.millis()])?;
    tell(connection, &Change::Keys)?;
    append(connection, std::slice::from_ref(audit))
}

fn put_key(connection: &Connection, key: &SigningKey) -> Result<(), Failure> {
    let sql = "INSERT INTO keys (purpose, algorithm, secret, created_at, retired_at, verifies_until) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let row = params![
        key.purpose.word(),
        key.algorithm.word(),
        key.secret.expose(),
        key.created_at.millis(),
        key.retired.map(|retired| retired.at.millis()),
        key.retired.map(|retired| retired.until.millis()),
    ];
    run(connection, sql, row)
}

pub(crate) fn revoke_signed(
    connection: &Connection,
    token: &TokenHash,
    until: Timestamp,
    audit: &AuditEntry,
) -> Result<(), Failure> {
    let sql = "INSERT INTO revoked (hash, expires_at) VALUES (?1, ?2) \
               ON CONFLICT DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)";
    run(connection, sql, params![token, until.millis()])?;
    tell(connection, &Change::Revoked(*token))?;
    append(connection, std::slice::from_ref(audit))
}

pub(crate) fn reserve(connection: &Connection, name: &str, count: u64) -> Result<u64, Failure> {
    let sql = "INSERT INTO counters (name, next) VALUES (?1, 1 + ?2) \
               ON CONFLICT DO UPDATE SET next = next + ?2 RETURNING next - ?2";
    let first: i64 = connection.prepare_cached(sql)?.query_row(params![name, rows::integer(count)], |row| row.get(0))?;
    Ok(first.unsigned_abs())
}

pub(crate) fn add_api_keys(connection: &Connection, new: &NewApiKeys, audit: &AuditEntry) -> Result<KeysWritten, Failure> {
    if reads::account(connection, new.account)?.is_none() {
        return Ok(KeysWritten::Stale);
    }
    let account = new.account.0.into_bytes();
    let mut replaced: Vec<TokenHash> = Vec::new();
    if let Some(environment) = &new.in_place_of {
        let sql = "SELECT hash FROM api_keys WHERE account = ?1 AND environment = ?2 AND cancelled_at IS NULL ORDER BY hash";
        replaced = connection
            .prepare_cached(sql)?
            .query_map(params![account, environment], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
    }
    let sql = "SELECT count(*) FROM api_keys WHERE account = ?1 AND cancelled_at IS NULL AND ifnull(expires_at > ?2, true)";
    let in_force: i64 = connection.prepare_cached(sql)?.query_row(params![account, new.at.millis()], |row| row.get(0))?;
    let in_force = usize::try_from(in_force).unwrap_or(usize::MAX);
    if new.keys.len() > replaced.len() && in_force.saturating_add(new.keys.len()) > MOST_API_KEYS {
        return Ok(KeysWritten::Full);
    }
    replaced.iter().try_for_each(|hash| cancel(connection, hash, new.at))?;
    new.keys.iter().try_for_each(|key| put(connection, key))?;
    let sql = "DELETE FROM api_keys WHERE hash IN (SELECT hash FROM api_keys WHERE account = ?1 AND cancelled_at IS NOT NULL \
               ORDER BY cancelled_at DESC, hash LIMIT -1 OFFSET ?2)";
    run(connection, sql, params![account, i64::try_from(MOST_API_KEYS).unwrap_or(i64::MAX)])?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(KeysWritten::Done)
}

pub(crate) fn add_nobodys_keys(connection: &Connection, keys: &[ApiKey], audit: &AuditEntry) -> Result<Placed, Failure> {
    for (at, key) in keys.iter().enumerate() {
        if has_key(connection, &key.hash)? || keys[..at].iter().any(|other| other.hash == key.hash) {
            return Ok(Placed::Taken("key"));
        }
    }
    keys.iter().try_for_each(|key| put(connection, key))?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Placed::Done)
}

pub(super) fn has_key(connection: &Connection, hash: &TokenHash) -> Result<bool, Failure> {
    Ok(connection.prepare_cached("SELECT 1 FROM api_keys WHERE hash = ?1")?.exists([hash])?)
}

/// Keys of an account that is removed stay behind without it.
pub(super) fn part_from_account(connection: &Connection, account: AccountId, at: Timestamp) -> Result<(), Failure> {
    let sql = "UPDATE api_keys SET account = NULL, removed_at = ?2 WHERE account = ?1";
    run(connection, sql, params![account.0.into_bytes(), at.millis()])
}

pub(crate) fn cancel_api_key(connection: &Connection, hash: &TokenHash, at: Timestamp, audit: &AuditEntry) -> Result<(), Failure> {
    cancel(connection, hash, at)?;
    append(connection, std::slice::from_ref(audit))
}

pub(crate) fn cancel_api_keys(connection: &Connection, of: AccountId, at: Timestamp, audit: &AuditEntry) -> Result<usize, Failure> {
    let sql = "SELECT hash FROM api_keys WHERE account = ?1 AND cancelled_at IS NULL ORDER BY hash";
    let keys: Vec<TokenHash> =
        connection.prepare_cached(sql)?.query_map([of.0.into_bytes()], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    keys.iter().try_for_each(|hash| cancel(connection, hash, at))?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(keys.len())
}

fn cancel(connection: &Connection, hash: &TokenHash, at: Timestamp) -> Result<(), Failure> {
    let sql = "UPDATE api_keys SET cancelled_at = ?2 WHERE hash = ?1 AND cancelled_at IS NULL";
    run(connection, sql, params![hash, at.millis()])?;
    tell(connection, &Change::Revoked(*hash))
}

pub(super) fn put(connection: &Connection, key: &ApiKey) -> Result<(), Failure> {
    insert(connection, key, "")?;
    tell(connection, &Change::ApiKeyMade(key.hash))
}

/// Whether it was put: somebody may have it already. One that a removed account left behind may come back. Nobody is told.
pub(super) fn put_unless_taken(connection: &Connection, key: &ApiKey) -> Result<bool, Failure> {
    let comes_back = " ON CONFLICT (hash) DO UPDATE SET prefix = excluded.prefix, account = excluded.account, \
                      environment = excluded.environment, kind = excluded.kind, created_at = excluded.created_at, \
                      expires_at = excluded.expires_at, cancelled_at = excluded.cancelled_at, removed_at = NULL \
                      WHERE removed_at IS NOT NULL";
    insert(connection, key, comes_back)
}

fn insert(connection: &Connection, key: &ApiKey, or_else: &str) -> Result<bool, Failure> {
    let sql = format!(
        "INSERT INTO api_keys (hash, prefix, account, environment, kind, created_at, expires_at, cancelled_at, removed_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9){or_else}"
    );
    let removed_at = match key.owner {
        Owner::Removed(at) => Some(at.millis()),
        Owner::Account(_) | Owner::Nobody => None,
    };
    let row = params![
        key.hash,
        key.prefix,
        key.account().map(|account| account.0.into_bytes()),
        key.environment,
        key.kind,
        key.created_at.millis(),
        key.expires_at.map(Timestamp::millis),
        key.cancelled_at.map(Timestamp::millis),
        removed_at,
    ];
    Ok(connection.prepare_cached(&sql)?.execute(row)? > 0)
}
