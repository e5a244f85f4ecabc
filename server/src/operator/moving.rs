//! Users as rows of a file: how one is written, and the two operations that take rows in and give them out.
//!
//! What is given out is taken in again as it was: the two are inverse. Which of them can be taken, `gatepost_identity::admin` says.

use std::future::Future;

use gatepost_identity::Identity;
use gatepost_identity::account::{Account, Status};
use gatepost_identity::admin::{Admin, Fate, ImportedApiKey, ImportedUser, NewUser, Operator};
use gatepost_identity::api_key::ApiKey;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// One user, as a line of JSON. What is not there is empty. One with neither a name nor an id is API keys that are nobody's.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserRow {
    /// The name to log in with; without one, the id is the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The id that peers are told; without one, the name is the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The address to log in with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// A friendly name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The given name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    /// The family name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// Where a picture is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_url: Option<String>,
    /// Whether it is switched off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Permissions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permissions: Vec<String>,
    /// Scopes held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Moment>,
    /// When it was made; without it, now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Moment>,
    /// Since when what was signed for it counts; without it, from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_since: Option<Moment>,
    /// The hash of the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// API keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<MovedKey>,
}

impl std::fmt::Debug for UserRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRow").field("name", &self.name).field("id", &self.id).finish_non_exhaustive()
    }
}

/// The text of a row: JSON, of which nobody has looked yet whether it is a [`UserRow`]. So it goes as it stands in its file from whoever
/// reads that to whoever takes it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowText(Box<RawValue>);

impl std::fmt::Debug for RowText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowText(..)")
    }
}

impl RowText {
    /// Takes a text that is one value of JSON.
    ///
    /// # Errors
    /// It is none. One sentence for people.
    pub fn parse(text: &[u8]) -> Result<RowText, String> {
        serde_json::from_slice(text).map(RowText).map_err(|error| no_user(&error))
    }

    /// Writes a row.
    ///
    /// # Errors
    /// One of its moments is in no calendar. One sentence for people.
    pub fn of(row: &UserRow) -> Result<RowText, String> {
        serde_json::value::to_raw_value(row).map(RowText).map_err(|error| error.to_string())
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.0.get().len()
    }

    /// Its row.
    ///
    /// # Errors
    /// It is none. One sentence for people.
    pub fn row(&self) -> Result<UserRow, String> {
        serde_json::from_str(self.0.get()).map_err(|error| no_user(&error))
    }

    /// The id in it, or else the name.
    pub fn whose(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Whose {
            id: Option<String>,
            name: Option<String>,
        }
        let Whose { id, name } = serde_json::from_str(self.0.get()).ok()?;
        id.or(name)
    }
}

/// Why a text is no row, without what the complaint quotes from it: that may be a hash in the wrong place. What is expected may stay.
fn no_user(error: &serde_json::Error) -> String {
    let complaint = error.to_string();
    let told = complaint.split_once(", expected").map_or(complaint.as_str(), |(told, _)| told);
    let quoted = |mark: char| Some((told.find(mark)?, told.rfind(mark)?)).filter(|(begin, end)| begin < end);
    match quoted('"').or_else(|| quoted('`')) {
        Some((begin, end)) => format!("no user in JSON: {}..{}", &complaint[..=begin], &complaint[end..]),
        None => format!("no user in JSON: {complaint}"),
    }
}

/// An API key in a row.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedKey {
    /// The SHA-256 of its text, in hexadecimal.
    pub hash: String,
    /// The first letters of its text.
    #[serde(default)]
    pub prefix: String,
    /// What it is to be used with.
    pub environment: String,
    /// What kind of key it is.
    pub kind: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Moment>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Moment>,
    /// When it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<Moment>,
}

/// A moment in RFC 3339, to the millisecond.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let moment = jiff::Timestamp::from_millisecond(self.0.millis()).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&moment.to_string())
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(|_| serde::de::Error::custom("a moment is 2027-01-31T12:00:00Z"))?;
        Ok(Moment(Timestamp::from_millis(moment.as_millisecond())))
    }
}

/// Takes rows. Those that were sent before them are placed first: they are waited for in `turn`, once these have been looked at.
pub(super) async fn import(
    identity: Identity,
    operator: Operator,
    rows: Vec<RowText>,
    (dry_run, began): (bool, Timestamp),
    turn: impl Future<Output = ()>,
) -> Result<Value, Refusal> {
    // So many rows take milliseconds, in which a thread that serves peers would serve nobody.
    let (looker, by) = (identity.clone(), operator.clone());
    let looked_at = tokio::task::spawn_blocking(move || {
        let mut fates = vec![Value::Null; rows.len()];
        let mut users = Vec::with_capacity(rows.len());
        let mut places = Vec::with_capacity(rows.len());
        let mut of_nobody = Vec::new();
        for (at, text) in rows.into_iter().enumerate() {
            let row = match text.row() {
                Ok(row) => row,
                Err(fault) => {
                    fates[at] = json!([fault]);
                    continue;
                }
            };
            if let Some(keys) = nobodys(&row) {
                match keys.into_iter().map(imported_key).collect::<Result<Vec<_>, _>>() {
                    Ok(keys) => of_nobody.push((at, keys)),
                    Err(fault) => fates[at] = json!([fault]),
                }
                continue;
            }
            match imported(row) {
                Ok(user) => {
                    users.push(user);
                    places.push(at);
                }
                Err(fault) => fates[at] = json!([fault]),
            }
        }
        (fates, of_nobody, places, looker.admin(by).prepare_import(users))
    });
    let (mut fates, of_nobody, places, prepared) = looked_at.await.map_err(|_| Refusal::Unavailable)?;
    turn.await;
    let admin = identity.admin(operator);
    let placed = admin.import_users(prepared, dry_run, began).await?;
    for (at, fate) in places.into_iter().zip(placed) {
        fates[at] = told(fate);
    }
    for (at, keys) in of_nobody {
        fates[at] = told(admin.import_nobodys_keys(keys, dry_run).await?);
    }
    Ok(Value::Array(fates))
}

fn told(fate: Fate) -> Value {
    match fate {
        Fate::Taken => json!("taken"),
        Fate::Known => json!("known"),
        Fate::Left(faults) => json!(faults),
    }
}

/// The keys of a row that holds nothing else.
fn nobodys(row: &UserRow) -> Option<Vec<MovedKey>> {
    if row.name.is_some() || row.id.is_some() || row.api_keys.is_empty() {
        return None;
    }
    let keys = row.api_keys.clone();
    let only_keys = *row == UserRow { api_keys: keys.clone(), ..UserRow::default() };
    only_keys.then_some(keys)
}

fn imported(row: UserRow) -> Result<ImportedUser, String> {
    let name = row.name.or_else(|| row.id.clone()).ok_or("it has neither a name nor an id")?;
    let api_keys = row.api_keys.into_iter().map(imported_key).collect::<Result<_, _>>()?;
    let at = |moment: Option<Moment>| moment.map(|moment| moment.0);
    Ok(ImportedUser {
        user: NewUser {
            name,
            subject: row.id,
            email: row.email,
            display_name: row.display_name,
            first_name: row.first_name,
            last_name: row.last_name,
            profile_url: row.profile_url,
            roles: row.roles,
            permissions: row.permissions,
            scopes: row.scopes,
            expires_at: at(row.expires_at),
            password: None,
            password_hash: row.password_hash,
            signed_since: at(row.signed_since),
        },
        status: if row.disabled { Status::Disabled } else { Status::Active },
        created_at: at(row.created_at),
        api_keys,
    })
}

fn imported_key(key: MovedKey) -> Result<ImportedApiKey, String> {
    let odd = "the hash of an API key is not 64 hexadecimal digits";
    let digits = key.hash.len() == 64 && key.hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits {
        return Err(odd.to_owned());
    }
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&key.hash[2 * at..2 * at + 2], 16).map_err(|_| odd.to_owned())?;
    }
    let at = |moment: Option<Moment>| moment.map(|moment| moment.0);
    Ok(ImportedApiKey {
        hash,
        prefix: key.prefix,
        environment: key.environment,
        kind: key.kind,
        created_at: at(key.created_at),
        expires_at: at(key.expires_at),
        cancelled_at: at(key.cancelled_at),
    })
}

pub(super) async fn export(admin: &Admin<'_>, after: Option<&str>, limit: usize) -> Result<Value, Refusal> {
    let users = admin.export_users(after, limit).await?;
    users.into_iter().map(|(account, keys)| Ok(json!(exported(account, keys)))).collect()
}

fn exported(account: Account, keys: Vec<ApiKey>) -> UserRow {
    UserRow {
        name: Some(account.name.as_str().to_owned()),
        id: Some(account.subject),
        email: account.email.map(|email| email.as_str().to_owned()),
        display_name: account.display_name,
        first_name: account.first_name,
        last_name: account.last_name,
        profile_url: account.profile_url,
        disabled: account.status == Status::Disabled,
        roles: account.rights.roles,
        permissions: account.rights.permissions,
        scopes: account.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        expires_at: account.expires_at.map(Moment),
        created_at: Some(Moment(account.created_at)),
        signed_since: Some(Moment(account.cut_off)),
        password_hash: account.password,
        api_keys: keys.into_iter().map(exported_key).collect(),
    }
}

fn exported_key(key: ApiKey) -> MovedKey {
    MovedKey {
        hash: key.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        prefix: key.prefix,
        environment: key.environment,
        kind: key.kind,
        created_at: Some(Moment(key.created_at)),
        expires_at: key.expires_at.map(Moment),
        cancelled_at: key.cancelled_at.map(Moment),
    }
}
