//! The database of an application that people come from: a SQLite file with ServiceStack's tables, read and never written.
//!
//! Finds the tables by their columns, since applications name them as they like, and hands out what stands there as text. It
//! refuses to know what the columns mean, and believes nothing of the file: no view, no virtual table and no trigger of it runs.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row, params};

/// The longest text that is read from one cell, in bytes; a longer one counts as unreadable.
const LONGEST_CELL: usize = 1_000_000;

/// The columns by which a table of users is known, and those that are read of it. One that is missing is empty.
const USERS: (&[&str], &[&str]) = (
    &["Id", "UserName", "PasswordHash", "Salt"],
    &[
        "Id",
        "UserName",
        "Email",
        "DisplayName",
        "FirstName",
        "LastName",
        "FullName",
        "Salt",
        "PasswordHash",
        "Roles",
        "Permissions",
        "CreatedDate",
        "LockedDate",
    ],
);
const ROLES: (&[&str], &[&str]) = (&["UserAuthId", "Role", "Permission"], &["Role", "Permission"]);
const KEYS: (&[&str], &[&str]) = (
    &["Id", "UserAuthId", "Environment", "KeyType"],
    &["Id", "Environment", "KeyType", "CreatedDate", "ExpiryDate", "CancelledDate"],
);
const DETAILS: &[&str] = &["UserAuthId", "Provider", "UserId"];

/// A database that somebody comes from.
pub struct Application {
    connection: Connection,
    users: Table,
    /// Copies that are found by their user.
    roles: Option<&'static str>,
    keys: Option<&'static str>,
    details: Option<Table>,
}

/// A table, and which of its columns are there.
struct Table {
    name: String,
    columns: Vec<String>,
}

/// Cells of a row by the names of their columns. What is empty, or missing in this schema, is none.
pub struct Cells(Vec<(&'static str, Result<Option<String>, String>)>);

impl Cells {
    /// The text of a cell.
    ///
    /// # Errors
    /// It cannot be read; one sentence for people.
    pub fn text(&self, column: &str) -> Result<Option<String>, String> {
        self.0.iter().find(|(name, _)| *name == column).map_or(Ok(None), |(_, cell)| cell.clone())
    }
}

/// A user with what belongs to them.
pub struct UserCells {
    /// The place in the table, to go on after.
    pub place: i64,
    /// The user's own row.
    pub user: Cells,
    /// Rows of roles and permissions.
    pub roles: Vec<Cells>,
    /// Rows of API keys.
    pub keys: Vec<Cells>,
}

impl Application {
    /// Opens a file and finds its tables.
    ///
    /// # Errors
    /// It is not there, no database, or none of its tables has users. One sentence for people.
    pub fn open(file: &Path) -> Result<Application, String> {
        let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => format!("{} is no SQLite database", file.display()),
            _ => format!("{}: {error}", file.display()),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags).map_err(failed)?;
        for (switch, on) in [
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        ] {
            connection.set_db_config(switch, on).map_err(failed)?;
        }
        // One snapshot for all of it, whoever else writes.
        connection.execute_batch("BEGIN").map_err(failed)?;
        let tables = tables(&connection).map_err(failed)?;
        let users = named(&tables, USERS.0, "users")?.ok_or_else(|| {
            format!("{}: no table has the columns {}, so there are no users in it", file.display(), USERS.0.join(", "))
        })?;
        let (roles, keys, details) =
            (named(&tables, ROLES.0, "roles")?, named(&tables, KEYS.0, "API keys")?, named(&tables, DETAILS, "details")?);
        let roles = copy(&connection, roles, "roles_of", ROLES.1).map_err(failed)?;
        let keys = copy(&connection, keys, "keys_of", KEYS.1).map_err(failed)?;
        Ok(Application { connection, users, roles, keys, details })
    }

    /// At most `limit` users behind this place.
    ///
    /// # Errors
    /// The file is damaged; one sentence for people.
    pub fn users(&self, after: i64, limit: usize) -> Result<Vec<UserCells>, String> {
        let failed = |error: rusqlite::Error| format!("the application's database answers: {error}");
        let sql = format!(
            "SELECT rowid, {} FROM {} WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
            self.users.selected(USERS.1),
            quoted(&self.users.name)
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)]).map_err(failed)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let (place, user) = (row.get(0).map_err(failed)?, cells(row, 1, USERS.1).map_err(failed)?);
            let of = match user.text("Id") {
                Ok(Some(id)) => id,
                _ => String::new(),
            };
            let roles = self.belonging(self.roles, ROLES.1, &of).map_err(failed)?;
            let keys = self.belonging(self.keys, KEYS.1, &of).map_err(failed)?;
            found.push(UserCells { place, user, roles, keys });
        }
        Ok(found)
    }

    /// At most `limit` API keys that belong to no user, each with its place, behind this place.
    ///
    /// # Errors
    /// As [`Application::users`].
    pub fn nobodys_keys(&self, after: i64, limit: usize) -> Result<Vec<(i64, Cells)>, String> {
        let Some(copy) = self.keys else { return Ok(Vec::new()) };
        let read = || -> rusqlite::Result<Vec<(i64, Cells)>> {
            let sql = format!("SELECT rowid, * FROM temp.{copy} WHERE ifnull(of, '') = '' AND rowid > ?1 ORDER BY rowid LIMIT ?2");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push((row.get(0)?, cells(row, 2, KEYS.1)?));
            }
            Ok(found)
        };
        read().map_err(|error| format!("the application's database answers: {error}"))
    }

    /// How many rows say by which other providers people log in.
    ///
    /// # Errors
    /// As [`Application::users`].
    pub fn details(&self) -> Result<u64, String> {
        let Some(table) = &self.details else { return Ok(0) };
        let count: rusqlite::Result<i64> =
            self.connection.query_row(&format!("SELECT count(*) FROM {}", quoted(&table.name)), [], |row| row.get(0));
        count.map(i64::unsigned_abs).map_err(|error| format!("the application's database answers: {error}"))
    }

    fn belonging(&self, copy: Option<&str>, columns: &[&'static str], of: &str) -> rusqlite::Result<Vec<Cells>> {
        let Some(copy) = copy.filter(|_| !of.is_empty()) else { return Ok(Vec::new()) };
        let mut statement = self.connection.prepare_cached(&format!("SELECT * FROM temp.{copy} WHERE of = ?1 ORDER BY rowid"))?;
        let mut rows = statement.query([of])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(cells(row, 1, columns)?);
        }
        Ok(found)
    }
}

/// Copies what belongs to users into a temporary table with an index: the application's own has none by which to find it.
fn copy(
    connection: &Connection,
    table: Option<Table>,
    name: &'static str,
    columns: &[&str],
) -> rusqlite::Result<Option<&'static str>> {
    let Some(table) = table else { return Ok(None) };
    let sql = format!(
        "CREATE TEMP TABLE {name} AS SELECT CAST(\"UserAuthId\" AS TEXT) AS of, {} FROM main.{}; CREATE INDEX temp.{name}_of ON {name} (of)",
        table.selected(columns),
        quoted(&table.name)
    );
    connection.execute_batch(&sql)?;
    Ok(Some(name))
}

impl Table {
    /// These columns, and nothing for those that this schema has not.
    fn selected(&self, columns: &[&str]) -> String {
        let known = |column: &str| self.columns.iter().find(|known| known.eq_ignore_ascii_case(column));
        let cells: Vec<String> = columns
            .iter()
            .map(|column| known(column).map_or("NULL".to_owned(), |known| quoted(known)) + " AS c_" + column)
            .collect();
        cells.join(", ")
    }
}

fn cells(row: &Row<'_>, first: usize, columns: &[&'static str]) -> rusqlite::Result<Cells> {
    let mut cells = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let cell = match row.get_ref(first + at)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(number) => Ok(Some(number.to_string())),
            ValueRef::Text(text) if text.len() > LONGEST_CELL => Err(format!("its {column} has more than {LONGEST_CELL} bytes")),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok("") => Ok(None),
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(format!("its {column} is not UTF-8")),
            },
            ValueRef::Real(_) => Err(format!("its {column} is no whole number of 64 bits")),
            ValueRef::Blob(_) => Err(format!("its {column} is no text")),
        };
        cells.push((*column, cell));
    }
    Ok(Cells(cells))
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name";
    let names = connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let columns = statement.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        tables.push(Table { name, columns });
    }
    Ok(tables)
}

/// The one table with these columns.
fn named(tables: &[Table], columns: &[&str], what: &str) -> Result<Option<Table>, String> {
    let has = |table: &Table, column: &str| table.columns.iter().any(|known| known.eq_ignore_ascii_case(column));
    let mut found = tables.iter().filter(|table| columns.iter().all(|column| has(table, column)));
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => Err(format!("the tables {} and {} both look like {what}", one.name, other.name)),
        (one, _) => Ok(one.map(|table| Table { name: table.name.clone(), columns: table.columns.clone() })),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
