//! The verbs that keep terminals.

use gatepost_identity::audit::AuditEntry;
use gatepost_identity::store::{Placed, StoredTerminal, Written};
use gatepost_identity::terminal::TerminalName;
use rusqlite::{Connection, params};

use super::{append, run};
use crate::failure::Failure;
use crate::{reads, rows};

pub(crate) fn add_terminal(connection: &Connection, terminal: &StoredTerminal, audit: &AuditEntry) -> Result<Placed, Failure> {
    if reads::terminal_version(connection, &terminal.name)?.is_some() {
        return Ok(Placed::Taken("name"));
    }
    let sql = "INSERT INTO terminals (name, plan, administrator, administrator_secret, user, user_secret, version) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    put(connection, sql, terminal, terminal.version)?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Placed::Done)
}

pub(crate) fn change_terminal(connection: &Connection, terminal: &StoredTerminal, audit: &AuditEntry) -> Result<Written, Failure> {
    if reads::terminal_version(connection, &terminal.name)? != Some(terminal.version) {
        return Ok(Written::Stale);
    }
    let sql = "UPDATE terminals SET plan = ?2, administrator = ?3, administrator_secret = ?4, user = ?5, user_secret = ?6, \
               version = ?7 WHERE name = ?1";
    put(connection, sql, terminal, terminal.version + 1)?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Written::Done)
}

pub(crate) fn remove_terminal(
    connection: &Connection,
    name: &TerminalName,
    version: u64,
    audit: &AuditEntry,
) -> Result<Written, Failure> {
    if reads::terminal_version(connection, name)? != Some(version) {
        return Ok(Written::Stale);
    }
    run(connection, "DELETE FROM terminals WHERE name = ?1", [name.as_str()])?;
    append(connection, std::slice::from_ref(audit))?;
    Ok(Written::Done)
}

fn put(connection: &Connection, sql: &str, terminal: &StoredTerminal, version: u64) -> Result<(), Failure> {
    let (administrator, administrator_secret) = rows::guard_cells(&terminal.administrator)?;
    let (user, user_secret) = rows::guard_cells(&terminal.user)?;
    let version = rows::integer(version);
    let row =
        params![terminal.name.as_str(), terminal.plan.word(), administrator, administrator_secret, user, user_secret, version];
    run(connection, sql, row)
}
