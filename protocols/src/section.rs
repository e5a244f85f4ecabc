//! A gate's own section of the settings.
//!
//! The gate reads it into a type of its own; keys that the type does not know are refused here, so that no gate can forget
//! to. Which file and line a key stands in is the server's to add.

use std::net::IpAddr;

use http::Uri;
use serde::de::DeserializeOwned;
use serde_ignored::Path;

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

/// A setting that may be used, and lets others do what they could not do otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    /// The key inside the section, with dots; empty where it is the section as a whole.
    pub key: String,
    /// What others can do, as a sentence without the key.
    pub what: String,
    /// What an operator should do.
    pub remedy: String,
}

impl Weakness {
    /// A setting that weakens something.
    pub fn new(key: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Weakness {
        Weakness { key: key.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Of a service behind the gate that is reached without encryption; none, where the way there does not leave this machine.
    pub fn of_service(key: impl Into<String>, address: &Uri) -> Option<Weakness> {
        let host = address.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        (!is_here).then(|| {
            let what = format!("whoever is on the way to {host} reads and changes what passes, for nothing is encrypted there");
            Weakness::new(key, what, "reach it over a network of your own, or through a tunnel that ends on loopback")
        })
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
            unknown.get_or_insert_with(|| written(&path));
        });
        match (read, unknown) {
            (Err(error), _) => Err(BadSetting::new(track.path().to_string().trim_matches('.'), error.to_string().trim())),
            (Ok(_), Some(key)) => Err(BadSetting::new(key, "there is no such setting")),
            (Ok(settings), None) => Ok(settings),
        }
    }
}

/// A path as the settings and the other errors have it: `scopes[0].name`.
fn written(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", written(parent)),
        Path::Map { parent: Path::Root, key } => key.clone(),
        Path::Map { parent, key } => format!("{}.{key}", written(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => written(parent),
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
        list: Option<Vec<Item>>,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Item {
        number: u32,
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
        check("limit = 3", Ok(Settings { limit: 3, inner: Default::default(), list: None }));
        check("limt = 3", Err(BadSetting::new("limt", "")));
        check("limit = 'x'", Err(BadSetting::new("limit", "")));
        check("inner.a = 3", Err(BadSetting::new("inner.a", "")));
        check("list = [{ number = 1 }, { number = 'x' }]", Err(BadSetting::new("list[1].number", "")));
        check("list = [{ number = 1 }, { number = 2, a.b = 3 }]", Err(BadSetting::new("list[1].a", "")));
    }
}
