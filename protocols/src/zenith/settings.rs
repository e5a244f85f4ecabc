//! The gate's section of the settings, read once and checked.
//!
//! What travels unchanged for as long as the server runs (`ServerInfo`, `Feeds`) is rendered here, once.

use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::scope::Scope;
use serde::{Deserialize, Serialize};

use crate::section::{BadSetting, Section};
use crate::zenith::message::push_text;
use crate::zenith::relay::routes::{self, Routes};
use crate::zenith::spelling::{Catalogue, Right};
use crate::zenith::times::DateFormat;

/// The topic that answers to AuthOwner, AuthCode and AuthToken carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ReplyTopic {
    /// The request's own where it spells out `"Action":"Publish"`, `Identify` where it leaves the action out.
    Auto,
    /// The request's own.
    Echo,
    /// `Identify`.
    Identify,
}

/// The word for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum RefusalWord {
    Reject,
    Rejected,
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(default)]
struct Written {
    reply_topic: ReplyTopic,
    refusal_word: RefusalWord,
    expires_in: bool,
    date_format: DateFormat,
    max_message: usize,
    ping_every: u64,
    silence: u64,
    max_unsent: usize,
    unsent_for: u64,
    name: String,
    class: String,
    feeds: Vec<Feed>,
    scopes: Option<Vec<WrittenScope>>,
    origins: Option<Vec<String>>,
    upstream: Option<routes::Written>,
}

impl Default for Written {
    fn default() -> Written {
        Written {
            reply_topic: ReplyTopic::Auto,
            refusal_word: RefusalWord::Reject,
            expires_in: true,
            date_format: DateFormat::Extended,
            max_message: 64 * 1024,
            ping_every: 30,
            silence: 60,
            max_unsent: 64 * 1024,
            unsent_for: 10,
            name: "Gatepost".to_owned(),
            class: "FeedProxy".to_owned(),
            feeds: Vec::new(),
            scopes: None,
            origins: None,
            upstream: None,
        }
    }
}

/// One entry of `Feeds`, written and told alike, but for the case of its members.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(serialize = "PascalCase"))]
struct Feed {
    name: String,
    class: FeedClass,
    status: FeedStatus,
}

#[derive(Deserialize, Serialize)]
enum FeedClass {
    Authority,
    Channel,
    Market,
    News,
    Scanner,
    Trading,
    Watchlist,
}

#[derive(Deserialize, Serialize)]
enum FeedStatus {
    Initialising,
    Active,
    Closed,
    Inactive,
    Impaired,
    Expired,
}

#[derive(Deserialize)]
struct WrittenScope {
    name: String,
    #[serde(default)]
    secure_only: bool,
    #[serde(default)]
    aliases: Vec<String>,
}

/// The settings in force, shared by every connection.
#[derive(Debug)]
pub(super) struct Settings {
    /// See [`ReplyTopic`].
    pub(super) reply_topic: ReplyTopic,
    /// `Reject`, as every published document has it, or `Rejected`, which one client looks for.
    pub(super) refusal_word: &'static str,
    /// Whether `ExpiresIn` is told beside `ExpiryDate`.
    pub(super) expires_in: bool,
    /// How `ExpiryDate` is written.
    pub(super) date_format: DateFormat,
    /// The longest message of a peer, in bytes: 1 KiB to 1 MiB.
    pub(super) max_message: usize,
    /// How often a connection is pinged: 1 second to 1 hour.
    pub(super) ping_every: Duration,
    /// How long a peer may be silent: longer than `ping_every`, at most 2 hours.
    pub(super) silence: Duration,
    /// How many bytes may wait for a peer before nothing more is read from it, 4 KiB to 16 MiB, and for how long anything may
    /// wait before the peer is given up: 1 second to 1 hour.
    pub(super) unsent: (usize, Duration),
    /// `Name`, `Class` and `Version` of ServerInfo as members of a JSON object.
    pub(super) server_info: String,
    /// The JSON array that Feeds tells.
    pub(super) feeds: String,
    /// The rights there are.
    pub(super) catalogue: Catalogue,
    /// The origins that a browser may come from; `None`: any.
    pub(super) origins: Option<Vec<String>>,
    /// The service behind the gate, where there is one.
    pub(super) routes: Option<Arc<Routes>>,
}

impl Settings {
    /// Reads and checks the section.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of its range.
    pub(super) fn read(section: &Section) -> Result<Settings, BadSetting> {
        let written: Written = section.read()?;
        within("max_message", written.max_message as u64, 1024, 1024 * 1024, "bytes")?;
        within("ping_every", written.ping_every, 1, 3600, "seconds")?;
        within("silence", written.silence, written.ping_every + 1, 7200, "seconds, since a ping must have time to be answered")?;
        within("max_unsent", written.max_unsent as u64, 4096, 16 * 1024 * 1024, "bytes")?;
        within("unsent_for", written.unsent_for, 1, 3600, "seconds")?;
        let catalogue = written.scopes.map_or_else(|| Ok(Catalogue::default()), catalogue)?;
        let routes = written.upstream.map(|upstream| Routes::check(upstream, &catalogue)).transpose()?;
        Ok(Settings {
            reply_topic: written.reply_topic,
            refusal_word: match written.refusal_word {
                RefusalWord::Reject => "Reject",
                RefusalWord::Rejected => "Rejected",
            },
            expires_in: written.expires_in,
            date_format: written.date_format,
            max_message: written.max_message,
            ping_every: Duration::from_secs(written.ping_every),
            silence: Duration::from_secs(written.silence),
            unsent: (written.max_unsent, Duration::from_secs(written.unsent_for)),
            server_info: server_info(&written.name, &written.class),
            feeds: serde_json::to_string(&written.feeds).map_err(|error| BadSetting::new("feeds", error.to_string()))?,
            catalogue,
            origins: written.origins,
            routes: routes.map(Arc::new),
        })
    }
}

/// Refuses a number that is out of its range.
pub(super) fn within(key: &str, value: u64, least: u64, most: u64, unit: &str) -> Result<(), BadSetting> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(BadSetting::new(key, format!("must be from {least} to {most} {unit}")))
}

/// `Version` has the documented four parts: ours and a zero.
fn server_info(name: &str, class: &str) -> String {
    let mut members = String::from("\"Name\":");
    push_text(&mut members, name);
    members.push_str(",\"Class\":");
    push_text(&mut members, class);
    members.push_str(concat!(",\"Version\":\"", env!("CARGO_PKG_VERSION"), ".0\""));
    members
}

fn catalogue(written: Vec<WrittenScope>) -> Result<Catalogue, BadSetting> {
    let mut rights: Vec<Right> = Vec::new();
    for (number, WrittenScope { name, secure_only, aliases }) in written.into_iter().enumerate() {
        let scope = Scope::parse(&name).map_err(|what| BadSetting::new(format!("scopes[{number}].name"), what))?;
        if rights.iter().any(|right| *right.scope() == scope) {
            return Err(BadSetting::new(format!("scopes[{number}].name"), "stands there twice"));
        }
        if aliases.iter().any(String::is_empty) {
            return Err(BadSetting::new(format!("scopes[{number}].aliases"), "an alias must not be empty"));
        }
        rights.push(Right::new(scope, secure_only, aliases));
    }
    Ok(Catalogue(rights))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, BadSetting> {
        Settings::read(&Section(text.parse().expect("TOML")))
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let settings = read("").expect("no setting is required");
        assert_eq!(settings.reply_topic, ReplyTopic::Auto);
        assert_eq!(settings.refusal_word, "Reject");
        assert_eq!((settings.ping_every, settings.silence), (Duration::from_secs(30), Duration::from_secs(60)));
        assert_eq!((settings.max_message, settings.expires_in), (65536, true));
        assert_eq!(settings.feeds, "[]");
        let names: Vec<_> = settings.catalogue.definitions();
        let names: Vec<_> = names.iter().map(|line| (line.scope.as_str(), line.secure_only)).collect();
        let expected = [
            ("Zenith/Market", false),
            ("Zenith/News", false),
            ("Zenith/Trading", true),
            ("Zenith/OrderPad", true),
            ("Zenith/Authorise", true),
            ("Zenith/Admin", true),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn bad_settings_are_named() {
        let rows = [
            ("max_message = 1023", "max_message"),
            ("max_message = 1048577", "max_message"),
            ("ping_every = 0", "ping_every"),
            ("silence = 30", "silence"),
            ("ping_every = 3601", "ping_every"),
            ("silence = 7201", "silence"),
            ("max_unsent = 4095", "max_unsent"),
            ("unsent_for = 0", "unsent_for"),
            ("reply_topic = 'none'", "reply_topic"),
            ("refusal_word = 'No'", "refusal_word"),
            ("date_format = 'unix'", "date_format"),
            ("feeds = [{ name = 'x', class = 'Other', status = 'Active' }]", "feeds[0].class"),
            ("feeds = [{ name = 'x', class = 'News', status = 'Up' }]", "feeds[0].status"),
            ("scopes = [{ name = 'a b' }]", "scopes[0].name"),
            ("scopes = [{ name = 'a' }, { name = 'a' }]", "scopes[1].name"),
            ("scopes = [{ name = 'a', aliases = [''] }]", "scopes[0].aliases"),
            ("scopes = [{ name = 'a', secure = true }]", "scopes[0].secure"),
            ("feeds = [{ name = 'x', class = 'News', status = 'Active', more = 1 }]", "feeds[0].more"),
            ("nmae = 'x'", "nmae"),
        ];
        for (text, key) in rows {
            assert_eq!(read(text).expect_err(text).key, key, "{text}");
        }
    }

    #[test]
    fn feeds_and_server_info_are_told_as_written() {
        let settings = read("name = 'A \"B\"'\nclass = 'Service'\nfeeds = [{ name = 'Q', class = 'Market', status = 'Active' }]");
        let settings = settings.expect("they are good");
        assert_eq!(settings.feeds, r#"[{"Name":"Q","Class":"Market","Status":"Active"}]"#);
        assert!(settings.server_info.starts_with(r#""Name":"A \"B\"","Class":"Service","Version":""#), "{}", settings.server_info);
    }
}
