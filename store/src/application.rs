//! The database of an application that people come from: a SQLite file with ServiceStack's tables, read and never written.
//!
//! Finds the tables by their columns, since applications name them as they like, copies what is read of them and hands it out as
//! text. Once it is copied the application's database is let go of: a lock on it would keep the application from writing, and with it
//! everybody from logging in there. It refuses to know what the columns mean, and believes nothing of the file: no view, no virtual
//! table and no trigger of it runs.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row, params};

/// The longest text that is read from one cell, in bytes; a longer one counts as unreadable.
const LONGEST_CELL: usize = 256 * 1024;
/// The most rows of rights, and of API keys, that are read of one user.
const MOST_ROWS: usize = 1000;
/// About how many bytes are read at a time.
const PAGE: usize = 1024 * 1024;
/// What a key has at least, in letters: fewer could be guessed, and a number is no key but that of a table.
const SHORTEST_KEY: usize = 20;

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
    /// Whether there were tables of them.
    roles: bool,
    keys: bool,
    /// How many rows say by which other providers people log in.
    pub details: u64,
    /// How many rows of API keys have none that could not be guessed.
    pub no_keys: u64,
    /// How many rows of rights and API keys belong to no user.
    pub nobodys: u64,
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
    /// Why not all of those rows were read, where it is so.
    pub many: Option<String>,
}

impl UserCells {
    fn size(&self) -> usize {
        let rows = std::iter::once(&self.user).chain(&self.roles).chain(&self.keys);
        rows.flat_map(|cells| &cells.0).map(|(_, cell)| cell.as_ref().ok().and_then(Option::as_ref).map_or(0, String::len)).sum()
    }
}

impl Application {
    /// Opens a file and finds its tables: that of users is called `table`, where one says so.
    ///
    /// # Errors
    /// It is not there, no database, or none of its tables has users. One sentence for people.
    pub fn open(file: &Path, table: Option<&str>) -> Result<Application, String> {
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
        let users = match table {
            Some(name) => tables.iter().find(|table| table.name.eq_ignore_ascii_case(name) && table.has(USERS.0)),
            None => named(&tables, USERS.0, ("users", "UserAuth"))?,
        };
        let users = users.ok_or_else(|| {
            let what = table.map_or_else(|| "no table".to_owned(), |name| format!("no table {name}"));
            format!("{}: {what} has the columns {}, so there are no users in it", file.display(), USERS.0.join(", "))
        })?;
        let roles = named(&tables, ROLES.0, ("roles", "UserAuthRole"))?;
        let keys = named(&tables, KEYS.0, ("API keys", "ApiKey"))?;
        let sql = format!("CREATE TEMP TABLE people AS SELECT {} FROM main.{}", users.selected(USERS.1), quoted(&users.name));
        connection.execute_batch(&sql).map_err(failed)?;
        copy(&connection, roles, ("roles_of", ROLES.1), "1").map_err(failed)?;
        let is_key = format!("typeof(\"Id\") = 'text' AND length(\"Id\") >= {SHORTEST_KEY}");
        let no_keys = match keys {
            Some(keys) => count(&connection, &format!("main.{} WHERE NOT ({is_key})", quoted(&keys.name))).map_err(failed)?,
            None => 0,
        };
        copy(&connection, keys, ("keys_of", KEYS.1), &is_key).map_err(failed)?;
        let mut details = 0;
        for table in tables.iter().filter(|table| table.has(DETAILS)) {
            details += count(&connection, &format!("main.{}", quoted(&table.name))).map_err(failed)?;
        }
        connection.execute_batch("COMMIT").map_err(failed)?;
        let mut nobodys = 0;
        for (copied, _) in [("roles_of", roles), ("keys_of", keys)].iter().filter(|(_, table)| table.is_some()) {
            // Keys that name no user are taken, as keys of nobody.
            let taken = if *copied == "keys_of" { "ifnull(of, '') = ''" } else { "FALSE" };
            let unknown = format!("NOT ({taken}) AND NOT EXISTS (SELECT 1 FROM temp.ids WHERE id = of)");
            connection
                .execute_batch(
                    "CREATE TEMP TABLE IF NOT EXISTS ids AS SELECT CAST(c_Id AS TEXT) AS id FROM temp.people; \
                                CREATE INDEX IF NOT EXISTS temp.ids_by_id ON ids (id)",
                )
                .map_err(failed)?;
            nobodys += count(&connection, &format!("temp.{copied} WHERE {unknown}")).map_err(failed)?;
        }
        Ok(Application { roles: roles.is_some(), keys: keys.is_some(), connection, details, no_keys, nobodys })
    }

    /// Users behind this place, of those with a name of their own or of the others: none at the end, and otherwise at most `limit`, and
    /// no more once they have many bytes.
    ///
    /// # Errors
    /// The copy cannot be read; one sentence for people.
    pub fn users(&self, (named, after): (bool, i64), limit: usize) -> Result<Vec<UserCells>, String> {
        let failed = |error: rusqlite::Error| format!("the application's database answers: {error}");
        let sql = "SELECT rowid, * FROM temp.people WHERE rowid > ?1 AND (ifnull(c_UserName, '') <> '' AND NOT instr(c_UserName, '@')) = ?3 \
                   ORDER BY rowid LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX), named]).map_err(failed)?;
        let (mut found, mut size) = (Vec::new(), 0);
        while let Some(row) = rows.next().map_err(failed)? {
            let (place, user) = (row.get(0).map_err(failed)?, cells(row, 1, USERS.1).map_err(failed)?);
            let of = match user.text("Id") {
                Ok(Some(id)) => id,
                _ => String::new(),
            };
            let roles = self.belonging(self.roles.then_some("roles_of"), ROLES.1, &of).map_err(failed)?;
            let keys = self.belonging(self.keys.then_some("keys_of"), KEYS.1, &of).map_err(failed)?;
            let many =
                [(&roles, "roles and permissions"), (&keys, "API keys")].into_iter().find(|(rows, _)| rows.len() > MOST_ROWS);
            let many = many.map(|(_, of)| format!("it has more than {MOST_ROWS} rows of {of}"));
            let found_one = UserCells { place, user, roles, keys, many };
            size += found_one.size();
            found.push(found_one);
            if size > PAGE {
                break;
            }
        }
        Ok(found)
    }

    /// At most `limit` API keys that belong to no user, each with its place, behind this place.
    ///
    /// # Errors
    /// As [`Application::users`].
    pub fn nobodys_keys(&self, after: i64, limit: usize) -> Result<Vec<(i64, Cells)>, String> {
        if !self.keys {
            return Ok(Vec::new());
        }
        let read = || -> rusqlite::Result<Vec<(i64, Cells)>> {
            let sql = "SELECT rowid, * FROM temp.keys_of WHERE ifnull(of, '') = '' AND rowid > ?1 ORDER BY rowid LIMIT ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push((row.get(0)?, cells(row, 2, KEYS.1)?));
            }
            Ok(found)
        };
        read().map_err(|error| format!("the application's database answers: {error}"))
    }

    fn belonging(&self, copy: Option<&str>, columns: &[&'static str], of: &str) -> rusqlite::Result<Vec<Cells>> {
        let Some(copy) = copy.filter(|_| !of.is_empty()) else { return Ok(Vec::new()) };
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT * FROM temp.{copy} WHERE of = ?1 ORDER BY rowid LIMIT {}", MOST_ROWS + 1))?;
        let mut rows = statement.query([of])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(cells(row, 1, columns)?);
        }
        Ok(found)
    }
}

/// Copies what belongs to users into a temporary table with an index: the application's own has none by which to find it.
fn copy(connection: &Connection, table: Option<&Table>, (name, columns): (&str, &[&str]), only: &str) -> rusqlite::Result<()> {
    let Some(table) = table else { return Ok(()) };
    let sql = format!(
        "CREATE TEMP TABLE {name} AS SELECT CAST(\"UserAuthId\" AS TEXT) AS of, {} FROM main.{} WHERE {only}; \
         CREATE INDEX temp.{name}_of ON {name} (of)",
        table.selected(columns),
        quoted(&table.name)
    );
    connection.execute_batch(&sql)
}

fn count(connection: &Connection, of: &str) -> rusqlite::Result<u64> {
    connection.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).map(i64::unsigned_abs)
}

impl Table {
    fn has(&self, columns: &[&str]) -> bool {
        columns.iter().all(|column| self.columns.iter().any(|known| known.eq_ignore_ascii_case(column)))
    }

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
            // A Julian day.
            ValueRef::Real(number) if column.ends_with("Date") => Ok(Some(format!("{number:?}"))),
            ValueRef::Real(_) => Err(format!("its {column} is no whole number of 64 bits")),
            ValueRef::Blob(_) => Err(format!("its {column} is no text")),
        };
        cells.push((*column, cell));
    }
    Ok(Cells(cells))
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name";
    let names = connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let columns = statement.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        tables.push(Table { name, columns });
    }
    Ok(tables)
}

/// The one table with these columns; where there are several, the one that is called as the framework calls it.
fn named<'a>(tables: &'a [Table], columns: &[&str], (what, usual): (&str, &str)) -> Result<Option<&'a Table>, String> {
    let found: Vec<&Table> = tables.iter().filter(|table| table.has(columns)).collect();
    match (found.as_slice(), found.iter().find(|table| table.name.eq_ignore_ascii_case(usual))) {
        ([], _) => Ok(None),
        ([one], _) => Ok(Some(one)),
        (_, Some(one)) => Ok(Some(one)),
        ([one, other, ..], None) => {
            Err(format!("the tables {} and {} both look like {what}, and none is called {usual}", one.name, other.name))
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
