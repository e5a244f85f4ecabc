//! A gate's own section of the settings.
//!
//! The gate reads it into a type of its own; keys that the type does not know are refused here, so that no gate can forget
//! to. Which file and line a key stands in is the server's to add.

use serde::de::DeserializeOwned;

/// A table of settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section(pub toml::Table);

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting {
    /// The key inside the section, with dots; empty where it is the section as a whole.
    pub key: String,
    /// What is wrong with it, as a sentence without the key.
    pub what: String,
}

impl BadSetting {
    /// A setting that cannot be used.
    pub fn new(key: impl Into<String>, what: impl Into<String>) -> BadSetting {
        BadSetting { key: key.into(), what: what.into() }
    }
}

impl Section {
    /// Reads the section into the gate's own type.
    ///
    /// # Errors
    /// A value of the wrong type or range, a missing key, an unknown key: the first one found.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, BadSetting> {
        let mut unknown = None;
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(toml::Value::Table(self.0.clone()), &mut track);
        let read = serde_ignored::deserialize(tracked, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        });
        match (read, unknown) {
            (Err(error), _) => Err(BadSetting::new(track.path().to_string().trim_matches('.'), error.to_string().trim())),
            (Ok(_), Some(key)) => Err(BadSetting::new(key, "there is no such setting")),
            (Ok(settings), None) => Ok(settings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BadSetting, Section};

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Settings {
        #[serde(default)]
        limit: u32,
        #[serde(default)]
        inner: std::collections::BTreeMap<String, bool>,
    }

    fn check(text: &str, expected: Result<Settings, BadSetting>) {
        let section = Section(text.parse().expect("TOML"));
        let read: Result<Settings, BadSetting> = section.read();
        match (&read, &expected) {
            (Err(read), Err(expected)) => assert_eq!(read.key, expected.key, "{text}: {read:?}"),
            _ => assert_eq!(read, expected, "{text}"),
        }
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_named() {
        check("limit = 3", Ok(Settings { limit: 3, inner: Default::default() }));
        check("limt = 3", Err(BadSetting::new("limt", "")));
        check("limit = 'x'", Err(BadSetting::new("limit", "")));
        check("inner.a = 3", Err(BadSetting::new("inner.a", "")));
    }
}
