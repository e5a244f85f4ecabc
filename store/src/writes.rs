//! The verbs that change something. Each runs inside the writer's transaction, in a savepoint of its own: where it
//! answers with an error, nothing of it stays.
//!
//! A verb looks first and writes then. What it was decided by (versions, tokens, names that are free) is read in the same
//! transaction as the write, so that nothing comes in between.

pub(crate) mod families;
pub(crate) mod keys;
pub(crate) mod past;
pub(crate) mod terminals;

use gatepost_identity::account::{Account, AccountId, Client, ClientId, NameKey, Status, cut_off_after};
use gatepost_identity::api_key::ApiKey;
use gatepost_identity::audit::{AuditEntry, chain};
use gatepost_identity::clock::{Timestamp, system_now};
use gatepost_identity::reply::Reason;
use gatepost_identity::session::{Session, SessionId};
use gatepost_identity::store::{
    Change, Grant, MOST_OVER, NewAccount, NewSession, Placed, Redeemed, Rehashed, Roll, Token, TokenHash, Which, Written,
    still_as_decided,
};
use gatepost_identity::throttle::ThrottleRow;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Params, params};

use crate::failure::Failure;
use crate::rows::InForce;
use crate::{reads, rows};

/// The newest lines of the audit, of which names are erased together with their account; those of the others went before.
const NEWEST_LINES: u64 = 2_000;

/// The node that writes. There is one.
const NODE: u32 = 0;

pub(crate) fn secret(connection: &Connection, name: &str, fresh: &[u8; 32]) -> Result<[u8; 32], Failure> {
    run(connection, "INSERT INTO secrets (name, bytes) VALUES (?1, ?2) ON CONFLICT DO NOTHING", params![name, fresh])?;
    reads::secret(connection, name)?.ok_or_else(|| rusqlite::Error::QueryReturnedNoRows.into())
}

pub(crate) fn add_account(connection: &Connection, account: &Account, audit: &AuditEntry) -> Result<Placed, Failure> {
    let placed = place_account(connection, account)?;
    if placed == Placed::Done {
        append(connection, std::slice::from_ref(audit))?;
    }
    Ok(placed)
}

pub(crate) fn add_accounts(connection: &Connection, new: &[NewAccount], audit: AuditEntry) -> Result<Vec<Placed>, Failure> {
    let placed = new.iter().map(|new| place_with_keys(connection, new)).collect::<Result<Vec<_>, Failure>>()?;
    let kept = placed.iter().filter(|placed| **placed == Placed::Done).count();
    if kept > 0 {
        append(connection, &[AuditEntry { count: u32::try_from(kept).unwrap_or(u32::MAX), ..audit }])?;
    }
    Ok(placed)
}

const NEW_ACCOUNT: &str = "INSERT INTO accounts (id, subject, name, email, display_name, status, expires_at, roles, scopes, \
    password, version, created_at, permissions, first_name, last_name, profile_url, cut_off) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17) ON CONFLICT DO NOTHING";
const NEW_NAME: &str = "INSERT INTO account_names (key, account, kind) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

/// Writes a new account, unless something of it is taken.
fn place_account(connection: &Connection, account: &Account) -> Result<Placed, Failure> {
    place(connection, account, &[])
}

fn place_with_keys(connection: &Connection, new: &NewAccount) -> Result<Placed, Failure> {
    place(connection, &new.account, &new.api_keys)
}

/// Writes all of it and sees whether it fits: nearly always it does, and then nothing was looked up. Otherwise all of it goes again.
fn place(connection: &Connection, account: &Account, api_keys: &[ApiKey]) -> Result<Placed, Failure> {
    let id = account.id.0.into_bytes();
    let own = write_account(connection, NEW_ACCOUNT, account, account.version)?;
    let mut fits = own;
    for (key, kind) in names(account) {
        fits = fits && connection.prepare_cached(NEW_NAME)?.execute(params![key.as_str(), id, kind])? > 0;
    }
    for key in api_keys {
        fits = fits && keys::put_unless_taken(connection, key)?;
    }
    if fits {
        api_keys.iter().try_for_each(|key| tell(connection, &Change::ApiKeyMade(key.hash)))?;
        return Ok(Placed::Done);
    }
    if own {
        // Its names and keys refer to it and go with it.
        run(connection, "DELETE FROM accounts WHERE id = ?1", [id])?;
    }
    Ok(Placed::Taken(taken(connection, account)?.unwrap_or(if own { "key" } else { "id" })))
}

pub(crate) fn change_account(
    connection: &Connection,
    account: &Account,
    end: Option<Reason>,
    audit: &AuditEntry,
) -> Result<Placed, Failure> {
    match reads::account(connection, account.id)? {
        Some(stored) if stored.version == account.version => {}
        _ => return Ok(Placed::Stale),
    }
    if let Some(field) = taken(connection, account)? {
        return Ok(Placed::Taken(field));
    }
    let sql = "UPDATE accounts SET subject = ?2, name = ?3, email = ?4, display_name = ?5, status = ?6, expires_at = ?7, \
               roles = ?8, scopes = ?9, password = ?10, version = ?11, created_at = ?12, permissions = ?13, \
               first_name = ?14, last_name = ?15, profile_url = ?16, cut_off = max(cut_off, ?17) WHERE id = ?1";
    write_account(connection, sql, account, account.version + 1)?;
    let id = account.id.0.into_bytes();
    run(connection, "DELETE FROM account_names WHERE account = ?1", [id])?;
    for (key, kind) in names(account) {
        run(connection, NEW_NAME, params![key.as_str(), id, kind])?;
    }
    if let Some(reason) = end {
        end_all(connection, &Which::Account(account.id), reason, audit.at)?;
    }
    tell(connection, &Change::Account(account.id))?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Placed::Done)
}

pub(crate) fn remove_account(connection: &Connection, id: AccountId, version: u64, audit: &AuditEntry) -> Result<Written, Failure> {
    let stored = match reads::account(connection, id)? {
        Some(stored) if stored.version == version => stored,
        _ => return Ok(Written::Stale),
    };
    end_all(connection, &Which::Account(id), Reason::Revoked, audit.at)?;
    keys::part_from_account(connection, id, audit.at)?;
    past::thoroughly(connection, || run(connection, "DELETE FROM accounts WHERE id = ?1", [id.0.into_bytes()]))?;
    let last: Option<i64> = connection.prepare_cached("SELECT max(number) FROM audit")?.query_row([], |row| row.get(0))?;
    let newest = usize::try_from(NEWEST_LINES).unwrap_or(usize::MAX);
    let after = last.unwrap_or(0).unsigned_abs().saturating_sub(NEWEST_LINES);
    past::erase_names(connection, id, &stored.names(), after, newest)?;
    tell(connection, &Change::Account(id))?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Written::Done)
}

/// Which field of this account somebody else has. The name comes first: where the public id was made from it, it is the
/// name that must be chosen anew.
fn taken(connection: &Connection, account: &Account) -> Result<Option<&'static str>, Failure> {
    let id = account.id.0.into_bytes();
    let others =
        |sql: &str, text: &str| -> Result<bool, Failure> { Ok(connection.prepare_cached(sql)?.exists(params![text, id])?) };
    let named = "SELECT 1 FROM account_names WHERE key = ?1 AND account <> ?2";
    if others(named, account.name.key().as_str())? {
        return Ok(Some("name"));
    }
    if let Some(email) = &account.email
        && others(named, email.key().as_str())?
    {
        return Ok(Some("email"));
    }
    let subject = others("SELECT 1 FROM accounts WHERE subject = ?1 AND id <> ?2", &account.subject)?;
    Ok(subject.then_some("id"))
}

/// The keys that an account is found by.
fn names(account: &Account) -> impl Iterator<Item = (NameKey, &'static str)> {
    let email = account.email.as_ref().map(|email| (email.key(), "email"));
    std::iter::once((account.name.key(), "name")).chain(email)
}

/// Whether a row was written.
fn write_account(connection: &Connection, sql: &str, account: &Account, version: u64) -> Result<bool, Failure> {
    let row = params![
        account.id.0.into_bytes(),
        account.subject,
        account.name.as_str(),
        account.email.as_ref().map(|email| email.as_str()),
        account.display_name,
        account.status.word(),
        account.expires_at.map(Timestamp::millis),
        rows::names_text(&account.rights.roles)?,
        rows::scopes_text(&account.scopes),
        account.password,
        rows::integer(version),
        account.created_at.millis(),
        rows::names_text(&account.rights.permissions)?,
        account.first_name,
        account.last_name,
        account.profile_url,
        account.cut_off.millis(),
    ];
    Ok(connection.prepare_cached(sql)?.execute(row)? > 0)
}

pub(crate) fn add_client(connection: &Connection, client: &Client, audit: &AuditEntry) -> Result<Placed, Failure> {
    if reads::client(connection, &client.id)?.is_some() {
        return Ok(Placed::Taken("id"));
    }
    let sql = "INSERT INTO clients (id, display_name, secret, status, expires_at, scopes, receives_token, version, created_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    put_client(connection, sql, client, client.version)?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Placed::Done)
}

pub(crate) fn change_client(
    connection: &Connection,
    client: &Client,
    end: Option<Reason>,
    audit: &AuditEntry,
) -> Result<Written, Failure> {
    match reads::client(connection, &client.id)? {
        Some(stored) if stored.version == client.version => {}
        _ => return Ok(Written::Stale),
    }
    let sql = "UPDATE clients SET display_name = ?2, secret = ?3, status = ?4, expires_at = ?5, scopes = ?6, \
               receives_token = ?7, version = ?8, created_at = ?9 WHERE id = ?1";
    put_client(connection, sql, client, client.version + 1)?;
    if let Some(reason) = end {
        end_all(connection, &Which::Client(client.id.clone()), reason, audit.at)?;
    }
    tell(connection, &Change::Client(client.id.clone()))?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Written::Done)
}

pub(crate) fn remove_client(connection: &Connection, id: &ClientId, version: u64, audit: &AuditEntry) -> Result<Written, Failure> {
    match reads::client(connection, id)? {
        Some(stored) if stored.version == version => {}
        _ => return Ok(Written::Stale),
    }
    end_all(connection, &Which::Client(id.clone()), Reason::Revoked, audit.at)?;
    run(connection, "DELETE FROM clients WHERE id = ?1", [id.as_str()])?;
    tell(connection, &Change::Client(id.clone()))?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Written::Done)
}

fn put_client(connection: &Connection, sql: &str, client: &Client, version: u64) -> Result<(), Failure> {
    let row = params![
        client.id.as_str(),
        client.display_name,
        client.secret,
        client.status.word(),
        client.expires_at.map(Timestamp::millis),
        rows::scopes_text(&client.scopes),
        client.receives_token,
        rows::integer(version),
        client.created_at.millis(),
    ];
    run(connection, sql, row)
}

pub(crate) fn start_session(connection: &Connection, new: &NewSession) -> Result<Written, Failure> {
    let session = &new.session;
    let decided = Decided { account: new.account_version, cut_off: Some(new.account_cut_off), client: new.client_version };
    if decided.still(connection, session.account, &session.client)? == Written::Stale {
        return Ok(Written::Stale);
    }
    put_session(connection, session)?;
    if let Some(token) = &new.token {
        put_token(connection, token)?;
    }
    if let Some((replaced, audit)) = &new.replaces {
        end_sessions(connection, &Which::Session(*replaced), Reason::Displaced, session.started_at, audit)?;
    }
    if let (Some(password), Some(account)) = (&new.rehashed, session.account) {
        run(connection, "UPDATE accounts SET password = ?2 WHERE id = ?1", params![account.0.into_bytes(), password])?;
    }
    if let Some(secret) = &new.rehashed_secret {
        run(connection, "UPDATE clients SET secret = ?2 WHERE id = ?1", params![session.client.as_str(), secret])?;
    }
    append(connection, std::slice::from_ref(&new.audit))?;
    Ok(Written::Done)
}

pub(crate) fn rehash(connection: &Connection, rehashed: &Rehashed) -> Result<(), Failure> {
    if let Some((id, version, hash)) = &rehashed.account {
        let sql = "UPDATE accounts SET password = ?3 WHERE id = ?1 AND version = ?2";
        run(connection, sql, params![id.0.into_bytes(), rows::integer(*version), hash])?;
    }
    if let Some((id, version, hash)) = &rehashed.client {
        let sql = "UPDATE clients SET secret = ?3 WHERE id = ?1 AND version = ?2";
        run(connection, sql, params![id.as_str(), rows::integer(*version), hash])?;
    }
    Ok(())
}

pub(crate) fn add_grant(connection: &Connection, grant: &Grant, audit: &AuditEntry) -> Result<(), Failure> {
    let sql = "INSERT INTO grants (hash, client, account, provider, scopes, issued_at, expires_at, redeemed_at, session) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let row = params![
        grant.hash,
        grant.client.as_str(),
        grant.account.0.into_bytes(),
        grant.provider,
        rows::requested_text(&grant.scopes),
        grant.issued_at.millis(),
        grant.expires_at.millis(),
        grant.redeemed.map(|redeemed| redeemed.at.millis()),
        grant.redeemed.map(|redeemed| redeemed.session.0.into_bytes()),
    ];
    run(connection, sql, row)?;
    append(connection, std::slice::from_ref(audit))
}

pub(crate) fn redeem(
    connection: &Connection,
    grant: &TokenHash,
    new: &NewSession,
    reuse: &AuditEntry,
) -> Result<Redeemed, Failure> {
    let found: Option<Option<[u8; 16]>> =
        connection.prepare_cached("SELECT session FROM grants WHERE hash = ?1")?.query_row([grant], |row| row.get(0)).optional()?;
    match found {
        None => return Ok(Redeemed::Stale),
        Some(Some(session)) => {
            let first = Which::Session(SessionId(uuid::Uuid::from_bytes(session)));
            end_sessions(connection, &first, Reason::Revoked, reuse.at, reuse)?;
            return Ok(Redeemed::Spent);
        }
        Some(None) => {}
    }
    if start_session(connection, new)? == Written::Stale {
        return Ok(Redeemed::Stale);
    }
    let sql = "UPDATE grants SET redeemed_at = ?2, session = ?3 WHERE hash = ?1";
    run(connection, sql, params![grant, new.session.started_at.millis(), new.session.id.0.into_bytes()])?;
    Ok(Redeemed::Done)
}

pub(crate) fn roll(connection: &Connection, roll: &Roll) -> Result<Written, Failure> {
    let Some(session) = reads::session(connection, roll.session)? else { return Ok(Written::Stale) };
    let id = session.id.0.into_bytes();
    let presented =
        connection.prepare_cached("SELECT 1 FROM tokens WHERE hash = ?1 AND session = ?2")?.exists(params![roll.presented, id])?;
    let decided = Decided { account: roll.account_version, cut_off: None, client: roll.client_version };
    if session.ended.is_some() || !presented || decided.still(connection, session.account, &session.client)? == Written::Stale {
        return Ok(Written::Stale);
    }
    let at = roll.at.millis();
    let sql = "UPDATE tokens SET presented_at = ?2 WHERE hash = ?1 AND presented_at IS NULL";
    run(connection, sql, params![roll.presented, at])?;
    if let Some(supersedes) = roll.supersedes {
        let sql = "UPDATE tokens SET superseded_at = ?2 WHERE hash = ?1 AND superseded_at IS NULL";
        run(connection, sql, params![supersedes, at])?;
    }
    for hash in &roll.given_up {
        run(connection, "DELETE FROM tokens WHERE hash = ?1", [hash])?;
    }
    put_token(connection, &roll.successor)?;
    run(connection, "UPDATE sessions SET used_at = ?2 WHERE id = ?1", params![id, at])?;
    Ok(Written::Done)
}

/// What a write was decided by.
struct Decided {
    account: Option<u64>,
    /// Of the account. A session that is there needs none: what moves the cut-off ends it.
    cut_off: Option<Timestamp>,
    client: u64,
}

impl Decided {
    fn still(&self, connection: &Connection, account: Option<AccountId>, client: &ClientId) -> Result<Written, Failure> {
        let state = |sql: &str, key: Value| -> Result<Option<(String, i64)>, Failure> {
            let mut statement = connection.prepare_cached(sql)?;
            Ok(statement.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
        };
        let of_account = match (account, self.account) {
            (None, None) => Written::Done,
            (Some(id), Some(version)) => {
                let key = Value::Blob(id.0.into_bytes().to_vec());
                as_decided(state("SELECT status, version FROM accounts WHERE id = ?1", key)?, version)
            }
            // A decision about a user that names no version of the account, or the other way round, is about other facts.
            _ => Written::Stale,
        };
        if of_account == Written::Stale {
            return Ok(Written::Stale);
        }
        if let (Some(id), Some(decided_by)) = (account, self.cut_off) {
            let sql = "SELECT 1 FROM accounts WHERE id = ?1 AND cut_off = ?2";
            if !connection.prepare_cached(sql)?.exists(params![id.0.into_bytes(), decided_by.millis()])? {
                return Ok(Written::Stale);
            }
        }
        let key = Value::Text(client.as_str().to_owned());
        Ok(as_decided(state("SELECT status, version FROM clients WHERE id = ?1", key)?, self.client))
    }
}

/// A status that this version cannot read is not an active one.
fn as_decided(stored: Option<(String, i64)>, decided_by: u64) -> Written {
    let Some((word, version)) = stored else { return Written::Stale };
    match (Status::parse(&word), u64::try_from(version)) {
        (Some(status), Ok(version)) => still_as_decided(status, version, decided_by),
        _ => Written::Stale,
    }
}

fn put_session(connection: &Connection, session: &Session) -> Result<(), Failure> {
    let sql = "INSERT INTO sessions (id, gate, provider, account, client, requested, spelling, source, started_at, used_at, \
               ended_at, ended_for, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let row = params![
        session.id.0.into_bytes(),
        session.gate,
        session.provider,
        session.account.map(|id| id.0.into_bytes()),
        session.client.as_str(),
        rows::requested_text(&session.requested),
        session.spelling,
        session.source.to_string(),
        session.started_at.millis(),
        session.used_at.millis(),
        session.ended.map(|ended| ended.at.millis()),
        session.ended.map(|ended| ended.reason.word()),
        session.expires_at.map(Timestamp::millis),
    ];
    run(connection, sql, row)
}

fn put_token(connection: &Connection, token: &Token) -> Result<(), Failure> {
    let sql = "INSERT INTO tokens (hash, session, parent, issued_at, expires_at, presented_at, superseded_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row = params![
        token.hash,
        token.session.0.into_bytes(),
        token.parent,
        token.issued_at.millis(),
        token.expires_at.millis(),
        token.presented_at.map(Timestamp::millis),
        token.superseded_at.map(Timestamp::millis),
    ];
    run(connection, sql, row)
}

pub(crate) fn end_descendants(connection: &Connection, of: &TokenHash, audit: &AuditEntry) -> Result<(), Failure> {
    let sql = "WITH RECURSIVE descendants (hash, session) AS ( \
                   SELECT hash, session FROM tokens WHERE parent = ?1 \
                   UNION SELECT tokens.hash, tokens.session FROM tokens JOIN descendants ON tokens.parent = descendants.hash \
               ) SELECT hash, session FROM descendants WHERE hash <> ?1 ORDER BY hash";
    let found: Vec<(TokenHash, [u8; 16])> =
        connection.prepare_cached(sql)?.query_map([of], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    for (hash, _) in &found {
        run(connection, "DELETE FROM tokens WHERE hash = ?1", [hash])?;
    }
    if let Some((_, session)) = found.first() {
        let session = SessionId(uuid::Uuid::from_bytes(*session));
        tell(connection, &Change::TokensEnded(session, found.iter().map(|(hash, _)| *hash).collect()))?;
    }
    append(connection, std::slice::from_ref(audit))
}

pub(crate) fn revoke(
    connection: &Connection,
    token: &TokenHash,
    until: Timestamp,
    session: SessionId,
    audit: &AuditEntry,
) -> Result<(), Failure> {
    let sql = "INSERT INTO revoked (hash, expires_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    run(connection, sql, params![token, until.millis()])?;
    tell(connection, &Change::Revoked(*token))?;
    tell(connection, &Change::SessionEnded(session, Reason::Revoked))?;
    append(connection, std::slice::from_ref(audit))
}

pub(crate) fn end_sessions(
    connection: &Connection,
    which: &Which,
    reason: Reason,
    at: Timestamp,
    audit: &AuditEntry,
) -> Result<usize, Failure> {
    let ended = end_all(connection, which, reason, at)?;
    if let Which::Account(account) = which {
        tell(connection, &Change::Account(*account))?;
    }
    let entries: Vec<AuditEntry> = ended
        .iter()
        .map(|session| AuditEntry {
            session: Some(session.id),
            account: session.account,
            client: Some(session.client.clone()),
            ..audit.clone()
        })
        .collect();
    append(connection, &entries)?;
    Ok(entries.len())
}

/// Ends the sessions in force among these: their tokens go, and the feed has a line for each. Those to come of an account or
/// client go, too.
fn end_all(connection: &Connection, which: &Which, reason: Reason, at: Timestamp) -> Result<Vec<InForce>, Failure> {
    let blob = |id: uuid::Uuid| Value::Blob(id.into_bytes().to_vec());
    let (these, key) = match which {
        Which::Session(id) => ("id = ?1", blob(id.0)),
        Which::Account(id) => ("account = ?1", blob(id.0)),
        Which::Client(id) => ("client = ?1", Value::Text(id.as_str().to_owned())),
        Which::UsedBefore(moment) => ("used_at <= ?1", Value::Integer(moment.millis())),
        Which::ExpiredBefore(moment) => ("expires_at <= ?1", Value::Integer(moment.millis())),
    };
    let most = if matches!(which, Which::UsedBefore(_) | Which::ExpiredBefore(_)) { rows::limit(MOST_OVER) } else { -1 };
    let to_come = match which {
        Which::Account(_) => Some("DELETE FROM grants WHERE account = ?1 AND session IS NULL"),
        Which::Client(_) => Some("DELETE FROM grants WHERE client = ?1 AND session IS NULL"),
        Which::Session(_) | Which::UsedBefore(_) | Which::ExpiredBefore(_) => None,
    };
    if let Some(sql) = to_come {
        run(connection, sql, [&key])?;
    }
    // Sorted here and not by SQL: asked for that order, SQLite would walk the whole table along its key.
    let sql = format!("SELECT {} FROM sessions WHERE ended_at IS NULL AND {these} LIMIT {most}", rows::IN_FORCE);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut ended: Vec<InForce> = statement.query_and_then([key], rows::in_force)?.collect::<Result<_, _>>()?;
    ended.sort_unstable_by_key(|session| session.id);
    if let Which::Account(account) = which {
        cut_off(connection, *account, at)?;
        run(connection, "DELETE FROM families WHERE account = ?1", [account.0.into_bytes()])?;
    }
    for session in &ended {
        let id = session.id.0.into_bytes();
        let sql = "UPDATE sessions SET ended_at = ?2, ended_for = ?3 WHERE id = ?1";
        run(connection, sql, params![id, at.millis(), reason.word()])?;
        run(connection, "DELETE FROM tokens WHERE session = ?1", [id])?;
        tell(connection, &Change::SessionEnded(session.id, reason))?;
    }
    Ok(ended)
}

/// Moves the account's cut-off, if it is still there. The moment is the one at which this is written: between it and the one that
/// was asked for, which is earlier, tokens may have been signed by what stood before.
fn cut_off(connection: &Connection, account: AccountId, at: Timestamp) -> Result<(), Failure> {
    let id = account.0.into_bytes();
    let was: Option<i64> =
        connection.prepare_cached("SELECT cut_off FROM accounts WHERE id = ?1")?.query_row([id], |row| row.get(0)).optional()?;
    let Some(was) = was else { return Ok(()) };
    let now = cut_off_after(at.max(system_now()), Timestamp::from_millis(was));
    run(connection, "UPDATE accounts SET cut_off = ?2 WHERE id = ?1", params![id, now.millis()])
}

/// Writes lines of the audit behind the last one. That is read here and not remembered, so that whatever is rolled back
/// takes its place in the chain with it.
pub(crate) fn append(connection: &Connection, entries: &[AuditEntry]) -> Result<(), Failure> {
    let last = connection
        .prepare_cached("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))
        .optional()?;
    let (mut number, mut previous) = last.unwrap_or((0, [0; 32]));
    for entry in entries {
        number += 1;
        let hash = chain(number.unsigned_abs(), NODE, entry, &previous);
        let sql = "INSERT INTO audit \
                   (number, node, at, action, outcome, gate, account, client, session, attempt, count, previous, hash) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let row = params![
            number,
            NODE,
            entry.at.millis(),
            entry.action,
            entry.outcome,
            entry.gate,
            entry.account.map(|id| id.0.into_bytes()),
            entry.client.as_ref().map(ClientId::as_str),
            entry.session.map(|id| id.0.into_bytes()),
            entry.attempt.map(|id| id.0.into_bytes()),
            entry.count,
            previous,
            hash,
        ];
        run(connection, sql, row)?;
        if entry.name.is_some() || entry.source.is_some() {
            let sql = "INSERT INTO audit_names (number, name, source) VALUES (?1, ?2, ?3)";
            run(connection, sql, params![number, entry.name, entry.source])?;
        }
        previous = hash;
    }
    Ok(())
}

pub(crate) fn save_throttle(connection: &Connection, rows: &[ThrottleRow]) -> Result<(), Failure> {
    for row in rows {
        if row.key == [0; 16] {
            run(connection, "DELETE FROM throttle WHERE slot = ?1", [row.slot])?;
            continue;
        }
        let sql = "INSERT OR REPLACE INTO throttle (slot, key, rule, failures, last) VALUES (?1, ?2, ?3, ?4, ?5)";
        run(connection, sql, params![row.slot, row.key, row.rule, row.failures, row.last])?;
    }
    Ok(())
}

fn tell(connection: &Connection, change: &Change) -> Result<(), Failure> {
    let (kind, id, detail) = rows::change_cells(change);
    run(connection, "INSERT INTO feed (kind, id, detail) VALUES (?1, ?2, ?3)", params![kind, id, detail])
}

fn run(connection: &Connection, sql: &str, params: impl Params) -> Result<(), Failure> {
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}
