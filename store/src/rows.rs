//! How the core's types are spelled in rows, and read back.
//!
//! Each type has its columns here once, its key first. Whatever a row holds that does not parse is a [`Failure::Row`]
//! with the table and that key. Refuses to know which rows are asked for.

use std::net::IpAddr;

use gatepost_identity::account::{Account, AccountId, Client, ClientId, Email, Rights, Status, Username};
use gatepost_identity::api_key::{ApiKey, Owner};
use gatepost_identity::audit::{AttemptId, AuditRow};
use gatepost_identity::clock::Timestamp;
use gatepost_identity::family::Family;
use gatepost_identity::keyring::{KeyAlgorithm, Purpose, Retired, SigningKey};
use gatepost_identity::reply::Reason;
use gatepost_identity::scope::{Scope, ScopeRequest, Scopes};
use gatepost_identity::secret::Secret;
use gatepost_identity::session::{Ended, Session, SessionId};
use gatepost_identity::store::{Change, Grant, Redemption, StoredTerminal, Token, TokenHash};
use gatepost_identity::terminal::{Guard, Plan, TerminalName};
use gatepost_identity::throttle::ThrottleRow;
use rusqlite::Row;
use rusqlite::types::{FromSql, Value, ValueRef};
use uuid::Uuid;

use crate::failure::Failure;

/// A row, its columns and the table they come from.
struct Cells<'a> {
    table: &'static str,
    row: &'a Row<'a>,
}

impl Cells<'_> {
    fn cell<T: FromSql>(&self, column: usize) -> Result<T, Failure> {
        self.row.get(column).map_err(|error| self.bad(error.to_string()))
    }

    fn at(&self, column: usize) -> Result<Timestamp, Failure> {
        self.cell(column).map(Timestamp::from_millis)
    }

    fn at_or_never(&self, column: usize) -> Result<Option<Timestamp>, Failure> {
        Ok(self.cell::<Option<i64>>(column)?.map(Timestamp::from_millis))
    }

    fn number(&self, column: usize) -> Result<u64, Failure> {
        let number: i64 = self.cell(column)?;
        u64::try_from(number).map_err(|_| self.bad(format!("{number} is below zero")))
    }

    fn uuid(&self, column: usize) -> Result<Uuid, Failure> {
        self.cell(column).map(Uuid::from_bytes)
    }

    fn uuid_or_none(&self, column: usize) -> Result<Option<Uuid>, Failure> {
        Ok(self.cell::<Option<[u8; 16]>>(column)?.map(Uuid::from_bytes))
    }

    fn parsed<T>(&self, column: usize, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Failure> {
        let text: String = self.cell(column)?;
        parse(&text).map_err(|why| self.bad(why))
    }

    fn parsed_or_none<T>(&self, column: usize, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, Failure> {
        let text: Option<String> = self.cell(column)?;
        text.map(|text| parse(&text)).transpose().map_err(|why| self.bad(why))
    }

    fn bad(&self, why: String) -> Failure {
        Failure::Row { table: self.table, key: key_of(self.row), why }
    }
}

fn key_of(row: &Row<'_>) -> String {
    match row.get_ref(0) {
        Ok(ValueRef::Integer(number)) => number.to_string(),
        Ok(ValueRef::Text(text)) => format!("{:?}", String::from_utf8_lossy(text)),
        Ok(ValueRef::Blob(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Ok(ValueRef::Null | ValueRef::Real(_)) | Err(_) => "without a key".to_owned(),
    }
}

/// The columns of [`account`].
pub(crate) const ACCOUNT: &str = "accounts.id, accounts.subject, accounts.name, accounts.email, accounts.display_name, \
     accounts.status, accounts.expires_at, accounts.roles, accounts.scopes, accounts.password, accounts.version, \
     accounts.created_at, accounts.permissions, accounts.first_name, accounts.last_name, accounts.profile_url, accounts.cut_off";

pub(crate) fn account(row: &Row<'_>) -> Result<Account, Failure> {
    let cells = Cells { table: "accounts", row };
    Ok(Account {
        id: AccountId(cells.uuid(0)?),
        subject: cells.cell(1)?,
        name: cells.parsed(2, |text| Username::parse(text).map_err(|why| why.to_string()))?,
        email: cells.parsed_or_none(3, |text| Email::parse(text).map_err(|why| why.to_string()))?,
        display_name: cells.cell(4)?,
        status: cells.parsed(5, status)?,
        expires_at: cells.at_or_never(6)?,
        rights: Rights { roles: cells.parsed(7, names)?, permissions: cells.parsed(12, names)? },
        scopes: cells.parsed(8, scopes)?,
        password: cells.cell(9)?,
        version: cells.number(10)?,
        created_at: cells.at(11)?,
        first_name: cells.cell(13)?,
        last_name: cells.cell(14)?,
        profile_url: cells.cell(15)?,
        cut_off: cells.at(16)?,
    })
}

/// The columns of [`client`].
pub(crate) const CLIENT: &str = "id, display_name, secret, status, expires_at, scopes, receives_token, version, created_at";

pub(crate) fn client(row: &Row<'_>) -> Result<Client, Failure> {
    let cells = Cells { table: "clients", row };
    Ok(Client {
        id: cells.parsed(0, client_id)?,
        display_name: cells.cell(1)?,
        secret: cells.cell(2)?,
        status: cells.parsed(3, status)?,
        expires_at: cells.at_or_never(4)?,
        scopes: cells.parsed(5, scopes)?,
        receives_token: cells.cell(6)?,
        version: cells.number(7)?,
        created_at: cells.at(8)?,
    })
}

/// The columns of [`session`].
pub(crate) const SESSION: &str = "id, gate, provider, account, client, requested, spelling, source, started_at, used_at, ended_at, ended_for, \
     expires_at";

pub(crate) fn session(row: &Row<'_>) -> Result<Session, Failure> {
    let cells = Cells { table: "sessions", row };
    let ended = match cells.at_or_never(10)? {
        Some(at) => Some(Ended { at, reason: cells.parsed(11, reason)? }),
        None => None,
    };
    Ok(Session {
        id: SessionId(cells.uuid(0)?),
        gate: cells.cell(1)?,
        provider: cells.cell(2)?,
        account: cells.uuid_or_none(3)?.map(AccountId),
        client: cells.parsed(4, client_id)?,
        requested: cells.parsed(5, requested)?,
        spelling: cells.cell(6)?,
        source: cells.parsed(7, |text| text.parse::<IpAddr>().map_err(|error| format!("{text:?}: {error}")))?,
        started_at: cells.at(8)?,
        used_at: cells.at(9)?,
        expires_at: cells.at_or_never(12)?,
        ended,
    })
}

/// What must be known of a session to end it: no more, so that a row that is spoilt elsewhere keeps nobody signed in.
pub(crate) struct InForce {
    pub(crate) id: SessionId,
    pub(crate) account: Option<AccountId>,
    pub(crate) client: ClientId,
}

/// The columns of [`in_force`].
pub(crate) const IN_FORCE: &str = "id, account, client";

pub(crate) fn in_force(row: &Row<'_>) -> Result<InForce, Failure> {
    let cells = Cells { table: "sessions", row };
    let account = cells.uuid_or_none(1)?.map(AccountId);
    Ok(InForce { id: SessionId(cells.uuid(0)?), account, client: cells.parsed(2, client_id)? })
}

/// The columns of [`token`].
pub(crate) const TOKEN: &str = "hash, session, parent, issued_at, expires_at, presented_at, superseded_at";

pub(crate) fn token(row: &Row<'_>) -> Result<Token, Failure> {
    let cells = Cells { table: "tokens", row };
    Ok(Token {
        hash: cells.cell(0)?,
        session: SessionId(cells.uuid(1)?),
        parent: cells.cell(2)?,
        issued_at: cells.at(3)?,
        expires_at: cells.at(4)?,
        presented_at: cells.at_or_never(5)?,
        superseded_at: cells.at_or_never(6)?,
    })
}

/// The columns of [`grant`].
pub(crate) const GRANT: &str = "hash, client, account, provider, scopes, issued_at, expires_at, redeemed_at, session";

pub(crate) fn grant(row: &Row<'_>) -> Result<Grant, Failure> {
    let cells = Cells { table: "grants", row };
    let redeemed = match cells.at_or_never(7)? {
        Some(at) => Some(Redemption { at, session: SessionId(cells.uuid(8)?) }),
        None => None,
    };
    Ok(Grant {
        hash: cells.cell(0)?,
        client: cells.parsed(1, client_id)?,
        account: AccountId(cells.uuid(2)?),
        provider: cells.cell(3)?,
        scopes: cells.parsed(4, requested)?,
        issued_at: cells.at(5)?,
        expires_at: cells.at(6)?,
        redeemed,
    })
}

/// The columns of [`api_key`].
pub(crate) const API_KEY: &str = "hash, prefix, account, environment, kind, created_at, expires_at, cancelled_at, removed_at";

pub(crate) fn api_key(row: &Row<'_>) -> Result<ApiKey, Failure> {
    let cells = Cells { table: "api_keys", row };
    Ok(ApiKey {
        hash: cells.cell(0)?,
        prefix: cells.cell(1)?,
        owner: match (cells.uuid_or_none(2)?, cells.at_or_never(8)?) {
            (Some(account), None) => Owner::Account(AccountId(account)),
            (None, Some(removed_at)) => Owner::Removed(removed_at),
            (None, None) => Owner::Nobody,
            (Some(_), Some(_)) => return Err(cells.bad("it is an account's that was removed".to_owned())),
        },
        environment: cells.cell(3)?,
        kind: cells.cell(4)?,
        created_at: cells.at(5)?,
        expires_at: cells.at_or_never(6)?,
        cancelled_at: cells.at_or_never(7)?,
    })
}

/// The columns of [`family`].
pub(crate) const FAMILY: &str = "id, account, adopted, current, issued_at, previous, superseded_at, expires_at";

pub(crate) fn family(row: &Row<'_>) -> Result<Family, Failure> {
    let cells = Cells { table: "families", row };
    let previous: Option<i64> = cells.cell(5)?;
    Ok(Family {
        id: cells.cell(0)?,
        account: AccountId(cells.uuid(1)?),
        adopted: cells.cell(2)?,
        current: cells.cell(3)?,
        issued_at: cells.at(4)?,
        previous: previous.zip(cells.at_or_never(6)?),
        expires_at: cells.at(7)?,
    })
}

/// The columns of [`terminal`].
pub(crate) const TERMINAL: &str = "name, plan, administrator, administrator_secret, user, user_secret, version";

pub(crate) fn terminal(row: &Row<'_>) -> Result<StoredTerminal, Failure> {
    let cells = Cells { table: "terminals", row };
    let guard = |column: usize| {
        let secret: Option<String> = cells.cell(column + 1)?;
        cells.parsed(column, |word| match (word, secret) {
            ("unsecured", None) => Ok(Guard::Unsecured),
            ("password", Some(hash)) => Ok(Guard::Password(hash)),
            ("pin", Some(pin)) => Ok(Guard::Pin(Secret::new(pin))),
            _ => Err(format!("{word:?} with the secret that stands beside it is no protection")),
        })
    };
    Ok(StoredTerminal {
        name: cells.parsed(0, |name| TerminalName::parse(name).map_err(|error| error.to_string()))?,
        plan: cells.parsed(1, |word| Plan::parse(word).ok_or_else(|| format!("{word:?} is no plan")))?,
        administrator: guard(2)?,
        user: guard(4)?,
        version: cells.number(6)?,
    })
}

/// A role's guard as its word and its secret.
pub(crate) fn guard_cells(guard: &Guard) -> Result<(&'static str, Option<&str>), Failure> {
    match guard {
        Guard::Unsecured => Ok(("unsecured", None)),
        Guard::Password(hash) => Ok(("password", Some(hash))),
        Guard::Pin(pin) => match pin.expose_text() {
            Some(pin) => Ok(("pin", Some(pin))),
            None => Err(Failure::Unwritable("a PIN is no text".to_owned())),
        },
    }
}

/// The columns of [`change`].
pub(crate) const CHANGE: &str = "number, kind, id, detail";

/// A line of the feed as `kind`, `id` and `detail`.
pub(crate) fn change_cells(change: &Change) -> (&'static str, Value, Value) {
    let blob = |id: Uuid| Value::Blob(id.into_bytes().to_vec());
    match change {
        Change::SessionEnded(id, reason) => ("session", blob(id.0), Value::Text(reason.word().to_owned())),
        Change::TokensEnded(id, hashes) => ("tokens", blob(id.0), Value::Blob(hashes.concat())),
        Change::Account(id) => ("account", blob(id.0), Value::Null),
        Change::Keys => ("keys", Value::Integer(0), Value::Null),
        Change::Revoked(hash) => ("revoked", Value::Blob(hash.to_vec()), Value::Null),
        Change::ApiKeyMade(hash) => ("api_key", Value::Blob(hash.to_vec()), Value::Null),
        Change::Client(id) => ("client", Value::Text(id.as_str().to_owned()), Value::Null),
    }
}

pub(crate) fn change(row: &Row<'_>) -> Result<(u64, Change), Failure> {
    let cells = Cells { table: "feed", row };
    let kind: String = cells.cell(1)?;
    let change = match kind.as_str() {
        "session" => Change::SessionEnded(SessionId(cells.uuid(2)?), cells.parsed(3, reason)?),
        "tokens" => {
            let bytes: Vec<u8> = cells.cell(3)?;
            let (hashes, rest) = bytes.as_chunks::<{ size_of::<TokenHash>() }>();
            if !rest.is_empty() {
                return Err(cells.bad(format!("{} bytes are not whole hashes", bytes.len())));
            }
            Change::TokensEnded(SessionId(cells.uuid(2)?), hashes.to_vec())
        }
        "account" => Change::Account(AccountId(cells.uuid(2)?)),
        "keys" => Change::Keys,
        "revoked" => Change::Revoked(cells.cell(2)?),
        "api_key" => Change::ApiKeyMade(cells.cell(2)?),
        "client" => Change::Client(cells.parsed(2, client_id)?),
        _ => return Err(cells.bad(format!("{kind:?} is not a kind of change"))),
    };
    Ok((cells.number(0)?, change))
}

/// The columns of [`audit`], of `audit LEFT JOIN audit_names USING (number)`.
pub(crate) const AUDIT: &str =
    "number, node, at, action, outcome, gate, account, client, session, attempt, count, name, source, previous, hash";

pub(crate) fn audit(row: &Row<'_>) -> Result<AuditRow, Failure> {
    let cells = Cells { table: "audit", row };
    Ok(AuditRow {
        number: cells.number(0)?,
        node: cells.cell(1)?,
        at: cells.at(2)?,
        action: cells.cell(3)?,
        outcome: cells.cell(4)?,
        gate: cells.cell(5)?,
        account: cells.uuid_or_none(6)?.map(AccountId),
        client: cells.parsed_or_none(7, client_id)?,
        session: cells.uuid_or_none(8)?.map(SessionId),
        attempt: cells.uuid_or_none(9)?.map(AttemptId),
        count: cells.cell(10)?,
        name: cells.cell(11)?,
        source: cells.cell(12)?,
        previous: cells.cell(13)?,
        hash: cells.cell(14)?,
    })
}

/// The columns of [`signing_key`].
pub(crate) const SIGNING_KEY: &str = "number, purpose, algorithm, secret, created_at, retired_at, verifies_until";

pub(crate) fn signing_key(row: &Row<'_>) -> Result<SigningKey, Failure> {
    let cells = Cells { table: "keys", row };
    let retired = match cells.at_or_never(5)? {
        Some(at) => Some(Retired { at, until: cells.at(6)? }),
        None => None,
    };
    Ok(SigningKey {
        number: cells.number(0)?,
        purpose: cells.parsed(1, |word| Purpose::parse(word).ok_or_else(|| format!("{word:?} is not a purpose")))?,
        algorithm: cells.parsed(2, |word| KeyAlgorithm::parse(word).ok_or_else(|| format!("{word:?} is no algorithm")))?,
        secret: Secret::new(cells.cell::<Vec<u8>>(3)?),
        created_at: cells.at(4)?,
        retired,
    })
}

/// The columns of [`throttle`].
pub(crate) const THROTTLE: &str = "slot, key, rule, failures, last";

pub(crate) fn throttle(row: &Row<'_>) -> Result<ThrottleRow, Failure> {
    let cells = Cells { table: "throttle", row };
    Ok(ThrottleRow {
        slot: cells.cell(0)?,
        key: cells.cell(1)?,
        rule: cells.cell(2)?,
        failures: cells.cell(3)?,
        last: cells.cell(4)?,
    })
}

/// A number as SQLite holds it; what is past its greatest is that one.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// As [`integer`], for the length of a page.
pub(crate) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Roles and permissions may hold any text, so they are an array of JSON.
pub(crate) fn names_text(names: &[String]) -> Result<String, Failure> {
    serde_json::to_string(names).map_err(|error| Failure::Unwritable(error.to_string()))
}

fn names(text: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(crate) fn scopes_text(scopes: &Scopes) -> String {
    let names: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
    names.join(" ")
}

/// `*` asks for all, nothing for nothing, and `=` is followed by what is asked for by name.
pub(crate) fn requested_text(requested: &ScopeRequest) -> String {
    match requested {
        ScopeRequest::Maximum => "*".to_owned(),
        ScopeRequest::Nothing => String::new(),
        ScopeRequest::AnyOf(scopes) => format!("= {}", scopes_text(scopes)),
    }
}

fn requested(text: &str) -> Result<ScopeRequest, String> {
    match text {
        "*" => Ok(ScopeRequest::Maximum),
        "" => Ok(ScopeRequest::Nothing),
        _ => match text.strip_prefix('=') {
            Some(names) => scopes(names).map(ScopeRequest::AnyOf),
            None => Err(format!("{text:?} is not a request for scopes")),
        },
    }
}

fn scopes(text: &str) -> Result<Scopes, String> {
    text.split_ascii_whitespace().map(Scope::parse).collect()
}

fn status(word: &str) -> Result<Status, String> {
    Status::parse(word).ok_or_else(|| format!("{word:?} is not a status"))
}

fn reason(word: &str) -> Result<Reason, String> {
    Reason::parse(word).ok_or_else(|| format!("{word:?} is not a reason"))
}

fn client_id(text: &str) -> Result<ClientId, String> {
    ClientId::parse(text).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> ScopeRequest {
        ScopeRequest::AnyOf(scopes(text).expect("scopes"))
    }

    #[test]
    fn a_request_for_scopes_reads_back_as_it_was() {
        for (request, text) in [
            (ScopeRequest::Maximum, "*"),
            (ScopeRequest::Nothing, ""),
            (named(""), "= "),
            (named("a Zenith/Market"), "= a Zenith/Market"),
            (named("*"), "= *"),
            (named("= =a"), "= = =a"),
        ] {
            assert_eq!(requested_text(&request), text);
            assert_eq!(requested(text), Ok(request), "{text:?}");
        }
        for text in ["a", "* a", " ", "= \u{e4}", "= \""] {
            assert!(requested(text).is_err(), "{text:?}");
        }
    }
}
