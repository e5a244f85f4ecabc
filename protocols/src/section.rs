//! A gate's own section of the settings.
//!
//! The gate reads it into a type of its own; keys that the type does not know are refused here, so that no gate can forget
//! to. Which file and line a key stands in is the server's to add.

use std::fmt;
use std::time::Duration;

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer};
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

/// Reads a secret. Whatever else stands in its place is not repeated in the complaint, since it is likely to be the secret.
pub(crate) fn secret_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_any(SecretText).map(Some)
}

struct SecretText;

impl SecretText {
    fn no<T, E: de::Error>() -> Result<T, E> {
        Err(E::custom("must be text, in quotes"))
    }
}

impl<'de> Visitor<'de> for SecretText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<String, E> {
        SecretText::no()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<String, E> {
        SecretText::no()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<String, E> {
        SecretText::no()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<String, E> {
        SecretText::no()
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

/// A span of time as people write it: `200ms`, `2s`, `15m`, `4h`, `30d`.
#[derive(Clone, Copy)]
pub struct Span(pub Duration);

/// Parses a span of time: a whole number and a unit, `ms`, `s`, `m`, `h` or `d`; at most 100 years.
///
/// # Errors
/// One sentence for people.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let complaint = || format!("{text:?} is no span of time; write a whole number and ms, s, m, h or d, as in \"15m\"");
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(complaint)?;
    let number: u64 = text[..unit].parse().map_err(|_| complaint())?;
    let millis = match &text[unit..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(complaint()),
    };
    let span = number.checked_mul(millis).filter(|&span| span <= 100 * 366 * 86_400_000);
    span.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is longer than 100 years"))
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_span(&text).map(Span).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BadSetting, Section, parse_span};

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

    #[test]
    fn spans_are_whole_numbers_with_a_unit() {
        for (text, millis) in [("200ms", 200), ("2s", 2000), ("15m", 900_000), ("4h", 14_400_000), ("30d", 2_592_000_000)] {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "1 s", "1w", "99999999999999999999s", "400000d"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
