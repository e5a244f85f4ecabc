//! How facts look: a table or lines for people, JSON for scripts. What people are shown is escaped, so that a name cannot
//! move the cursor.

use serde_json::{Value, json};

use super::doctor::weak::weakened;
use super::say;
use crate::config::{Config, marked};
use crate::listen::bounds::Limits;

/// One answer.
pub(super) fn facts(facts: &Value, json: bool) -> Result<(), String> {
    if json {
        return say(&facts.to_string());
    }
    let Value::Object(fields) = facts else { return say(&shown(facts)) };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    fields.iter().filter(|(_, value)| !value.is_null()).try_for_each(|(key, value)| say(&format!("{key:width$}  {}", shown(value))))
}

/// A listing that comes in pages: one JSON array in all, or one table.
pub(super) struct Rows {
    json: bool,
    rows: Vec<Value>,
    count: usize,
}

impl Rows {
    pub(super) fn new(json: bool) -> Rows {
        Rows { json, rows: Vec::new(), count: 0 }
    }

    /// JSON goes out as it comes, so that a long listing needs no room; a table has to know its widths first, and takes them
    /// from each page.
    pub(super) fn add(&mut self, rows: Vec<Value>) -> Result<(), String> {
        if self.json {
            for row in rows {
                let before = if self.count == 0 { "[" } else { "," };
                self.count += 1;
                say(&format!("{before}{row}"))?;
            }
            return Ok(());
        }
        self.count += rows.len();
        self.rows = rows;
        self.table()
    }

    pub(super) fn end(self) -> Result<(), String> {
        match (self.json, self.count) {
            (true, 0) => say("[]"),
            (true, _) => say("]"),
            (false, 0) => say("none"),
            (false, _) => Ok(()),
        }
    }

    fn table(&self) -> Result<(), String> {
        let Some(Value::Object(first)) = self.rows.first() else { return Ok(()) };
        // What is long and seldom wanted is shown by `show` and in JSON.
        let columns: Vec<&String> =
            first.keys().filter(|key| !matches!(key.as_str(), "account" | "created_at" | "has_password" | "provider")).collect();
        let cell = |row: &Value, column: &str| match &row[column] {
            Value::Null => "-".to_owned(),
            value => shown(value),
        };
        let width =
            |column: &str| self.rows.iter().map(|row| cell(row, column).chars().count()).chain([column.len()]).max().unwrap_or(0);
        let widths: Vec<usize> = columns.iter().map(|column| width(column)).collect();
        let line = |cells: Vec<String>| {
            let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            say(padded.join("  ").trim_end())
        };
        line(columns.iter().map(|column| column.to_uppercase()).collect())?;
        self.rows.iter().try_for_each(|row| line(columns.iter().map(|column| cell(row, column)).collect()))
    }
}

/// One line of the audit.
pub(super) fn audit(row: &Value, json: bool) -> Result<(), String> {
    if json {
        return say(&row.to_string());
    }
    let field = |key: &str| match &row[key] {
        Value::Null => "-".to_owned(),
        value => shown(value),
    };
    let count = row["count"].as_u64().filter(|&count| count != 1).map(|count| format!("  x{count}")).unwrap_or_default();
    say(&format!(
        "{:>6}  {}  {:<8}  {:<18}  {:<20}  name={}  client={}  from={}  session={}{count}",
        field("number"),
        field("at"),
        field("gate"),
        field("action"),
        field("outcome"),
        field("name"),
        field("client"),
        field("source"),
        field("session"),
    ))
}

/// What bounds peers, in one sentence.
fn limits(limits: &Limits) -> String {
    let Limits { connections, connections_of_source, head_within, body_within, idle_for, unsent_for } = limits;
    let of_source = match connections_of_source {
        Some(most) => most.to_string(),
        None => format!("{}, or half of all where that is less,", Limits::OF_SOURCE),
    };
    format!(
        "{connections} connections, {of_source} of one source; a head within {head_within:?}, a body within {body_within:?}; \
         idle for {idle_for:?}, an answer unread for {unsent_for:?}"
    )
}

/// What would run.
pub(super) fn check(config: &Config, json: bool) -> Result<(), String> {
    let identity = &config.identity;
    let providers: Vec<String> = identity
        .providers
        .iter()
        .map(|provider| match provider.aliases.is_empty() {
            true => provider.name.clone(),
            false => format!("{} (also {})", provider.name, provider.aliases.join(", ")),
        })
        .collect();
    let scopes: Vec<String> = identity
        .scopes
        .iter()
        .map(|line| format!("{}{}", line.scope.as_str(), if line.secure_only { " (secure only)" } else { "" }))
        .collect();
    let passwords = &identity.passwords;
    let weak: Vec<String> = weakened(config).into_iter().map(|weak| weak.what).collect();
    let (sessions, throttle) = (&identity.sessions, &identity.throttle);
    let most = |limit: Option<usize>| limit.map_or("any number of".to_owned(), |limit| format!("at most {limit}"));
    let (reloads, restarts) = marked();
    let mut found = json!({
        "data": config.data.display().to_string(),
        "http": config.http.to_string(),
        "issuer": identity.issuer,
        "gates": config.gates.iter().map(|(gate, _)| gate.name).collect::<Vec<_>>(),
        "providers": providers,
        "scopes": scopes,
        "passwords": format!(
            "argon2id m={} KiB, t={}, p={}; {} threads; wait at most {:?}; others' hashes: at most {}",
            passwords.memory,
            passwords.iterations,
            passwords.lanes,
            config.password_threads,
            passwords.max_wait,
            passwords.imported
        ),
        "sessions": format!(
            "connection {:?}, token {:?}, session {:?} after its last use; {} sessions an account, {} connections a session",
            sessions.connection_life,
            sessions.token_life,
            sessions.session_life,
            most(sessions.max_sessions),
            most(sessions.max_connections)
        ),
        "throttle": format!(
            "{} failures a name, then {:?} doubling to {:?}; {} a source, one forgiven every {:?}; {} tokens a source, one every {:?}",
            throttle.name_free,
            throttle.first_wait,
            throttle.longest_wait,
            throttle.source_free,
            throttle.source_forgives,
            throttle.token_free,
            throttle.token_forgives
        ),
        "limits": limits(&config.limits),
        "log": config.log,
        "drain": format!("at most {:?}; {} connections a second", config.drain_timeout, config.drain_rate),
        "reloads": reloads,
        "restarts": restarts,
        "proxies": match config.proxies.trusted.as_slice() {
            [] => "none is trusted".to_owned(),
            trusted => format!(
                "{} trusted{}, fields: {:?}",
                trusted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                if config.proxies.protocol { ", each connection with a PROXY header" } else { "" },
                config.proxies.fields
            ),
        },
        "weakened": weak,
    });
    if let Some((address, files)) = &config.https {
        found["https"] = json!(format!("{address}, certificate {}", files.certificate.display()));
    }
    for (gate, section) in &config.gates {
        found[gate.name] = json!(match section.0.is_empty() {
            true => "as it comes".to_owned(),
            false => without_secrets(section.0.clone()).to_string().trim().replace('\n', ", "),
        });
    }
    facts(&found, json)
}

/// A section as it may be shown: that a PIN is set, and not which.
fn without_secrets(mut section: toml::Table) -> toml::Table {
    for (key, value) in &mut section {
        match value {
            toml::Value::Table(inner) => *inner = without_secrets(std::mem::take(inner)),
            toml::Value::Array(rows) => rows.iter_mut().filter_map(toml::Value::as_table_mut).for_each(|row| {
                *row = without_secrets(std::mem::take(row));
            }),
            value if key == "pin" => *value = toml::Value::String("set".to_owned()),
            _ => {}
        }
    }
    section
}

/// Text for people: control characters are escaped.
pub(super) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// A value for people, as [`escaped`].
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => escaped(text),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
