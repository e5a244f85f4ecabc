//! Where each setting was said, so that every complaint names its file and line, or its variable.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gatepost_protocols::GATES;

use super::{ConfigError, NOT_SETTINGS, PREFIX};

/// Sections that are no gate's and hold keys.
const SECTIONS: [&str; 9] = ["password", "throttle", "session", "tls", "proxy", "limits", "retention", "token", "management"];

/// Where each key was said.
pub(super) struct Origins {
    file: PathBuf,
    text: String,
    lines: BTreeMap<String, usize>,
    variables: BTreeMap<String, String>,
}

impl Origins {
    pub(super) fn of(path: &Path, text: &str) -> Result<Origins, ConfigError> {
        let mut origins =
            Origins { file: path.to_owned(), text: text.to_owned(), lines: BTreeMap::new(), variables: BTreeMap::new() };
        let table = toml::de::DeTable::parse(text).map_err(|error| origins.syntax(&error))?;
        let mut lines = BTreeMap::new();
        collect(table.get_ref(), "", &mut |key, span| {
            lines.insert(key, line_of(text, span.start));
        });
        origins.lines = lines;
        Ok(origins)
    }

    pub(super) fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map_or(1, |span| line_of(&self.text, span.start));
        ConfigError(format!("{}:{line}: {}", self.file.display(), error.message()))
    }

    /// The complaint, with the place of the key or of the nearest one around it.
    pub(super) fn complain(&self, key: &str, what: &str) -> ConfigError {
        let key = key.trim_matches('.');
        // The library adds where in its own value it was; the key says that already.
        let what = what.lines().next().unwrap_or_default();
        let mut place = key;
        loop {
            if let Some(variable) = self.variables.get(place) {
                return ConfigError(format!("{variable}: {key}: {what}"));
            }
            if let Some(line) = self.lines.get(place) {
                return ConfigError(format!("{}:{line}: {key}: {what}", self.file.display()));
            }
            match place.rfind(['.', '[']) {
                Some(end) => place = &place[..end],
                None => return ConfigError(format!("{}: {key}: {what}", self.file.display())),
            }
        }
    }

    /// Sets what an environment variable says: `GATEPOST_HTTP`, `GATEPOST_ZENITH_REPLY_TOPIC`. The value is read as TOML
    /// where it is TOML, else as text.
    pub(super) fn overlay(&mut self, table: &mut toml::Table, variable: &str, value: &str) -> Result<(), ConfigError> {
        let Some(name) = variable.strip_prefix(PREFIX) else { return Ok(()) };
        if NOT_SETTINGS.contains(&variable) {
            return Ok(());
        }
        let name = name.to_ascii_lowercase();
        let sections = SECTIONS.into_iter().chain(GATES.iter().map(|gate| gate.name));
        let section = sections.filter_map(|section| Some((section, name.strip_prefix(section)?.strip_prefix('_')?))).next();
        let value = format!("value = {value}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(value.to_owned()));
        let (target, key, full) = match section {
            None => (table, name.as_str(), name.clone()),
            Some((section, key)) => {
                let inner = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                let toml::Value::Table(inner) = inner else {
                    return Err(self.complain(section, "is a section, so write [its name] and keys below it"));
                };
                (inner, key, format!("{section}.{key}"))
            }
        };
        target.insert(key.to_owned(), value);
        self.variables.insert(full, variable.to_owned());
        Ok(())
    }
}

fn collect(table: &toml::de::DeTable<'_>, prefix: &str, found: &mut impl FnMut(String, Range<usize>)) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        found(path.clone(), key.span());
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => collect(inner, &path, found),
            toml::de::DeValue::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    found(path.clone(), value.span());
                    if let toml::de::DeValue::Table(inner) = value.get_ref() {
                        collect(inner, &path, found);
                    }
                }
            }
            _ => {}
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}
