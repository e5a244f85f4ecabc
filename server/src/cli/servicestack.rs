//! `gatepost import servicestack`: what the columns of that framework mean, as rows like those of any other file.
//!
//! Ids stay, since tokens, keys and the application's own records name people by them. A lock-out stays: whoever was locked out
//! there is switched off here. Who has no name of their own has their id for one, and comes behind those who have: nobody's name is
//! taken by such an id. API keys of no user come last: here, too, they open nothing, and say so.

use std::io::Write;
use std::path::Path;

use gatepost_identity::admin::ImportedApiKey;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::secret::Secret;
use gatepost_protocols::servicestack::kept_names;
use gatepost_store::{Application, Cells, UserCells};

use super::PAGE;
use super::moving::{Found, LONGEST_ROW, Rows};
use crate::operator::{Moment, MovedKey, RowText, UserRow};

/// How many API keys that are nobody's come as one row.
const NOBODYS: usize = 100;

/// Users of an application, one after the other.
pub(super) struct People {
    application: Application,
    page: std::vec::IntoIter<UserCells>,
    /// Whether those with a name of their own are read, and the place of the last of them.
    after: (bool, i64),
    ended: bool,
    /// The place of the last API key that is nobody's; none behind the last one.
    after_key: Option<i64>,
    scopes: Vec<String>,
    signed_since: Option<Moment>,
}

impl People {
    pub(super) fn open(file: &Path, table: Option<&str>, scopes: Vec<String>, signed_since: Option<i64>) -> Result<People, String> {
        let application = Application::open(file, table)?;
        for (rows, of) in [
            (application.details, "logins by other providers have no place here and"),
            (application.no_keys, "API keys hold no text of 20 letters or more, so that anybody could guess them, and"),
            (application.nobodys, "rights and API keys belong to nobody in the table of users and"),
        ] {
            if rows > 0 {
                let told = format!("{rows} rows of {of} are not taken\n");
                std::io::stderr().lock().write_all(told.as_bytes()).ok();
            }
        }
        let signed_since = signed_since.map(|millis| Moment(Timestamp::from_millis(millis)));
        Ok(People {
            application,
            page: Vec::new().into_iter(),
            after: (true, i64::MIN),
            ended: false,
            after_key: Some(i64::MIN),
            scopes,
            signed_since,
        })
    }
}

impl Rows for People {
    fn next(&mut self) -> Result<Option<Found>, String> {
        loop {
            if let Some(cells) = self.page.next() {
                self.after.1 = cells.place;
                let id = cells.user.text("Id").ok().flatten();
                let row = row(&cells, &self.scopes, self.signed_since).and_then(|row| match RowText::of(&row)? {
                    row if row.size() > LONGEST_ROW => Err(format!("it has more than {LONGEST_ROW} bytes")),
                    row => Ok(row),
                });
                return Ok(Some(Found { line: None, id, row }));
            }
            if self.ended {
                return self.nobodys();
            }
            let page = self.application.users(self.after, PAGE)?;
            match (page.is_empty(), self.after.0) {
                (true, true) => self.after = (false, i64::MIN),
                (true, false) => self.ended = true,
                (false, _) => {}
            }
            self.page = page.into_iter();
        }
    }
}

impl People {
    /// A row of keys that are nobody's.
    fn nobodys(&mut self) -> Result<Option<Found>, String> {
        let Some(after) = self.after_key else { return Ok(None) };
        let keys = self.application.nobodys_keys(after, NOBODYS)?;
        self.after_key = keys.last().map(|(place, _)| *place);
        if keys.is_empty() {
            return Ok(None);
        }
        let id = Some("API keys of no user".to_owned());
        let row = keys.iter().map(|(_, cells)| key(cells)).collect::<Result<_, _>>();
        let row = row.and_then(|api_keys| RowText::of(&UserRow { api_keys, ..UserRow::default() }));
        Ok(Some(Found { line: None, id, row }))
    }
}

fn row(cells: &UserCells, scopes: &[String], signed_since: Option<Moment>) -> Result<UserRow, String> {
    let user = &cells.user;
    if let Some(many) = &cells.many {
        return Err(many.clone());
    }
    let id = user.text("Id")?.ok_or("it has no id")?;
    if id.bytes().all(|byte| byte.is_ascii_digit()) && id.parse::<i64>().is_err() {
        return Err("its id is no whole number of 64 bits".to_owned());
    }
    let (name, email) = names(user.text("UserName")?, user.text("Email")?)?;
    let mut rights = (listed(user, "Roles")?, listed(user, "Permissions")?);
    for row in &cells.roles {
        rights.0.extend(row.text("Role")?);
        rights.1.extend(row.text("Permission")?);
    }
    // What people are called, and since when they are there, is not worth leaving them behind.
    let called = |column: &str| {
        let plain = |text: String| text.replace(char::is_control, " ").trim().to_owned();
        Ok::<_, String>(user.text(column)?.map(plain).filter(|text| !text.is_empty()))
    };
    Ok(UserRow {
        name,
        email,
        display_name: called("DisplayName")?.or(called("FullName")?),
        first_name: called("FirstName")?,
        last_name: called("LastName")?,
        profile_url: None,
        disabled: user.text("LockedDate")?.is_some(),
        roles: rights.0,
        permissions: rights.1,
        scopes: scopes.to_vec(),
        expires_at: None,
        created_at: date(user, "CreatedDate").ok().flatten(),
        signed_since,
        password_hash: match (user.text("PasswordHash")?, user.text("Salt")?) {
            (Some(hash), None) => Some(hash),
            (Some(hash), Some(salt)) => Some(format!("$servicestack-sha256${salt}${hash}")),
            (None, _) => None,
        },
        api_keys: cells.keys.iter().map(key).collect::<Result<_, _>>()?,
        id: Some(id),
    })
}

/// The name to log in with, and the address. A name that is an address is one; it then logs in as before.
fn names(name: Option<String>, email: Option<String>) -> Result<(Option<String>, Option<String>), String> {
    match (name, email) {
        (Some(name), None) if name.contains('@') => Ok((None, Some(name))),
        (Some(name), Some(email)) if name.contains('@') && name.to_lowercase() == email.to_lowercase() => Ok((None, Some(email))),
        (Some(name), Some(_)) if name.contains('@') => {
            Err("its user name is an address, and not the one in Email; only one of them can be kept".to_owned())
        }
        (None, None) => Err("it has neither a user name nor an address, so nobody could log in".to_owned()),
        other => Ok(other),
    }
}

fn listed(cells: &Cells, column: &str) -> Result<Vec<String>, String> {
    match cells.text(column)? {
        Some(text) => {
            let names = kept_names(&text).map_err(|fault| format!("its {column}: {fault}"))?;
            Ok(names.into_iter().map(|name| name.trim().to_owned()).collect())
        }
        None => Ok(Vec::new()),
    }
}

/// A date in any of the forms that SQLite has: as text in UTC, with a blank or a T, and with a zone or none, as that framework
/// writes it; as seconds since the Unix epoch; as a Julian day, whose number has a point.
fn date(cells: &Cells, column: &str) -> Result<Option<Moment>, String> {
    let Some(text) = cells.text(column)? else { return Ok(None) };
    let text = text.trim();
    let odd = || format!("its {column} is no date");
    let at = if let Ok(seconds) = text.parse::<i64>() {
        jiff::Timestamp::from_second(seconds).map_err(|_| odd())?
    } else if let Ok(day) = text.parse::<f64>() {
        // The epoch is the Julian day 2440587.5.
        let seconds = jiff::SignedDuration::try_from_secs_f64((day - 2_440_587.5) * 86_400.0).map_err(|_| odd())?;
        jiff::Timestamp::from_duration(seconds).map_err(|_| odd())?
    } else if let Ok(at) = text.parse() {
        at
    } else {
        let civil = text.trim_end_matches(['Z', 'z']).parse::<jiff::civil::DateTime>().map_err(|_| odd())?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| odd())?.timestamp()
    };
    Ok(Some(Moment(Timestamp::from_millis(at.as_millisecond()))))
}

fn key(cells: &Cells) -> Result<MovedKey, String> {
    let text = Secret::new(cells.text("Id")?.ok_or("one of its API keys is empty")?);
    let environment = cells.text("Environment")?.unwrap_or_else(|| "live".to_owned());
    let kind = cells.text("KeyType")?.unwrap_or_else(|| "secret".to_owned());
    let ImportedApiKey { hash, prefix, environment, kind, .. } = ImportedApiKey::of_text(&text, environment, kind);
    Ok(MovedKey {
        hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        prefix,
        environment,
        kind,
        created_at: date(cells, "CreatedDate").ok().flatten(),
        expires_at: date(cells, "ExpiryDate")?,
        cancelled_at: date(cells, "CancelledDate")?,
    })
}
