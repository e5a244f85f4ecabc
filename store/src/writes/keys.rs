//! The verbs that make and cancel what speaks for an account by itself.

use gatepost_identity::api_key::ApiKey;
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::store::{Change, NewApiKeys, TokenHash, Written};
use rusqlite::{Connection, params};

use super::{append, run, tell};
use crate::failure::Failure;
use crate::reads;

pub(crate) fn add_api_keys(connection: &Connection, new: &NewApiKeys, audit: &AuditEntry) -> Result<Written, Failure> {
    if reads::account(connection, new.account)?.is_none() {
        return Ok(Written::Stale);
    }
    if let Some(environment) = &new.in_place_of {
        let sql = "SELECT hash FROM api_keys WHERE account = ?1 AND environment = ?2 AND cancelled_at IS NULL ORDER BY hash";
        let account = new.account.0.into_bytes();
        let replaced: Vec<TokenHash> = connection
            .prepare_cached(sql)?
            .query_map(params![account, environment], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        replaced.iter().try_for_each(|hash| cancel(connection, hash, new.at))?;
    }
    new.keys.iter().try_for_each(|key| put(connection, key))?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Written::Done)
}

pub(crate) fn cancel_api_key(connection: &Connection, hash: &TokenHash, at: Timestamp, audit: &AuditEntry) -> Result<(), Failure> {
    cancel(connection, hash, at)?;
    append(connection, std::slice::from_ref(audit))
}

fn cancel(connection: &Connection, hash: &TokenHash, at: Timestamp) -> Result<(), Failure> {
    let sql = "UPDATE api_keys SET cancelled_at = ?2 WHERE hash = ?1 AND cancelled_at IS NULL";
    run(connection, sql, params![hash, at.millis()])?;
    tell(connection, &Change::Revoked(*hash))
}

fn put(connection: &Connection, key: &ApiKey) -> Result<(), Failure> {
    let sql = "INSERT INTO api_keys (hash, prefix, account, environment, kind, created_at, expires_at, cancelled_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let row = params![
        key.hash,
        key.prefix,
        key.account.0.into_bytes(),
        key.environment,
        key.kind,
        key.created_at.millis(),
        key.expires_at.map(Timestamp::millis),
        key.cancelled_at.map(Timestamp::millis),
    ];
    run(connection, sql, row)
}
