//! Who there is: users, and the client software through which they come.
//!
//! Parses names into types that are trusted from then on, and holds what is known of each account. Whether one may come
//! in is `policy.rs`'s to say; how a secret is proved, `password.rs`'s.

use std::fmt;
use std::sync::Arc;

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::scope::Scopes;

/// The longest name, e-mail address or client id, in bytes.
pub const LONGEST_NAME: usize = 256;

/// An account's own id: drawn once, never told on a wire, never used again. The audit names accounts by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub Uuid);

impl AccountId {
    /// When it was drawn, to the millisecond; none where it was not drawn by us.
    pub(crate) fn made_at(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        let millis = i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))?;
        Some(Timestamp::from_millis(millis))
    }
}

/// The one key under which a name is looked up, kept unique and throttled: NFC, case-folded, NFC again (Unicode 3.13,
/// definition D145), so that two spellings of one name are one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameKey(String);

impl NameKey {
    /// The key of any text, also of one that no account could have.
    pub fn of(text: &str) -> NameKey {
        if text.is_ascii() {
            return NameKey(text.to_ascii_lowercase());
        }
        NameKey(text.nfd().default_case_fold().nfd().default_case_fold().nfc().collect())
    }

    /// The key as text, for the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text cannot be a name, an address or an id. One sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAName(pub String);

impl fmt::Display for NotAName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses any label that people give: 1 to 256 bytes of NFC text, no control characters, no blank at either end.
pub(crate) fn label(what: &str, text: &str) -> Result<String, NotAName> {
    let text: String = if text.is_ascii() { text.to_owned() } else { text.nfc().collect() };
    if text.is_empty() || text.len() > LONGEST_NAME {
        return Err(NotAName(format!("{what} must have 1 to {LONGEST_NAME} bytes")));
    }
    if text.chars().any(char::is_control) || text.trim() != text {
        return Err(NotAName(format!("{what} must not hold control characters, or begin or end with a blank")));
    }
    Ok(text)
}

/// A user's name: 1 to 256 bytes of NFC text without control characters, blanks at its ends, or an `@`, which would let
/// it pass for somebody's e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    /// Parses a name.
    pub fn parse(text: &str) -> Result<Username, NotAName> {
        let text = label("a user name", text)?;
        if text.contains('@') {
            return Err(NotAName("a user name must not hold an `@`; give the address as the e-mail".to_owned()));
        }
        Ok(Username(text))
    }

    /// The name as it was given, in NFC.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key it is found by.
    pub fn key(&self) -> NameKey {
        NameKey::of(&self.0)
    }
}

/// An e-mail address that also names an account: one `@` with something on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Parses an address; only its shape is checked.
    pub fn parse(text: &str) -> Result<Email, NotAName> {
        let text = label("an e-mail address", text)?;
        match text.split_once('@') {
            Some((local, domain))
                if !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !text.contains(char::is_whitespace) =>
            {
                Ok(Email(text))
            }
            _ => Err(NotAName(format!("{text:?} is not an e-mail address"))),
        }
    }

    /// The address as it was given, in NFC.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key it is found by.
    pub fn key(&self) -> NameKey {
        NameKey::of(&self.0)
    }
}

/// The most roles, and the most permissions, that an account may hold. Each travels with every token that tells of it.
pub const MOST_RIGHTS: usize = 100;
/// The longest address of a picture, in bytes.
pub const LONGEST_URL: usize = 2048;

/// What somebody may do, in words that the services behind us have chosen; here they are only kept and compared, byte by byte.
/// Sorted, without doubles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Roles.
    pub roles: Vec<String>,
    /// Permissions.
    pub permissions: Vec<String>,
}

impl Rights {
    /// Takes names as people give them.
    ///
    /// # Errors
    /// A name that is none, or more than [`MOST_RIGHTS`] of a kind.
    pub fn parse(roles: Vec<String>, permissions: Vec<String>) -> Result<Rights, NotAName> {
        Ok(Rights { roles: names("a role", roles)?, permissions: names("a permission", permissions)? })
    }

    /// These, and those of `more` that are not among them.
    ///
    /// # Errors
    /// As [`Rights::parse`].
    pub fn with(self, more: &Rights) -> Result<Rights, NotAName> {
        let both = |mut held: Vec<String>, more: &[String]| {
            held.extend_from_slice(more);
            held
        };
        Rights::parse(both(self.roles, &more.roles), both(self.permissions, &more.permissions))
    }

    /// These, but none of `less`.
    #[must_use]
    pub fn without(mut self, less: &Rights) -> Rights {
        self.roles.retain(|role| !less.roles.contains(role));
        self.permissions.retain(|permission| !less.permissions.contains(permission));
        self
    }
}

fn names(what: &str, given: Vec<String>) -> Result<Vec<String>, NotAName> {
    let mut names = given.iter().map(|name| label(what, name)).collect::<Result<Vec<_>, _>>()?;
    names.sort_unstable();
    names.dedup();
    if names.len() > MOST_RIGHTS {
        return Err(NotAName(format!("of {what} and its like there may be {MOST_RIGHTS} at most")));
    }
    Ok(names)
}

/// Parses the address of a picture: `https` or `http`, [`LONGEST_URL`] bytes at most, without blanks and control characters.
pub(crate) fn picture(text: &str) -> Result<String, NotAName> {
    let odd = |c: char| c.is_control() || c.is_whitespace();
    let known = text.starts_with("https://") || text.starts_with("http://");
    if !known || text.len() > LONGEST_URL || text.contains(odd) {
        return Err(NotAName(format!("the address of a picture begins with https:// and has {LONGEST_URL} bytes at most")));
    }
    Ok(text.to_owned())
}

/// Where an account's cut-off moves when all that is in force for it ends at `at`: the first whole second that nothing signed
/// for it bears yet. What is signed bears whole seconds, and from then on none before this one, so that a token of the same
/// second is told apart: signed before, it is no longer good; signed after, it is.
pub fn cut_off_after(at: Timestamp, was: Timestamp) -> Timestamp {
    let whole = at.millis().max(was.millis()).div_euclid(1000);
    Timestamp::from_millis(whole.saturating_add(1).saturating_mul(1000))
}

/// Whether an account or client may be used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may.
    Active,
    /// An operator switched it off.
    Disabled,
}

impl Status {
    /// The word that store and operators use.
    pub const fn word(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Disabled => "disabled",
        }
    }

    /// The status that [`Status::word`] names.
    pub fn parse(word: &str) -> Option<Status> {
        [Status::Active, Status::Disabled].into_iter().find(|status| status.word() == word)
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its own id.
    pub id: AccountId,
    /// The id that peers are told: unique, never changed; the user name at birth unless something else was given.
    pub subject: String,
    /// The name to log in with.
    pub name: Username,
    /// The address to log in with, where there is one.
    pub email: Option<Email>,
    /// A friendly name, where there is one.
    pub display_name: Option<String>,
    /// The given name, where it is known.
    pub first_name: Option<String>,
    /// The family name, where it is known.
    pub last_name: Option<String>,
    /// Where a picture is, if there is one.
    pub profile_url: Option<String>,
    /// Whether it may be used.
    pub status: Status,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// What it may do at the services behind us.
    pub rights: Rights,
    /// The scopes it holds.
    pub scopes: Scopes,
    /// The password's PHC string; none: no password opens it.
    pub password: Option<String>,
    /// What was signed for it before this moment is no longer good. Whatever ends all sessions of the account moves it: see
    /// [`cut_off_after`].
    pub cut_off: Timestamp,
    /// Counts the changes. A commit names the version it was decided by, so that nothing is granted by stale facts.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Account {
    /// What it is found by: its name, and its address where it has one.
    pub fn names(&self) -> Vec<NameKey> {
        [Some(self.name.key()), self.email.as_ref().map(Email::key)].into_iter().flatten().collect()
    }

    /// What peers and principals may know of it.
    pub fn summary(&self) -> AccountSummary {
        AccountSummary {
            id: Some(self.id),
            issuer: None,
            subject: self.subject.clone(),
            name: self.name.as_str().to_owned(),
            email: self.email.as_ref().map(|email| email.as_str().to_owned()),
            display_name: self.display_name.clone(),
            first_name: self.first_name.clone(),
            last_name: self.last_name.clone(),
            profile_url: self.profile_url.clone(),
            cut_off: self.cut_off,
        }
    }
}

/// What peers may know of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSummary {
    /// Its own id, for the core; not told on a wire. None: somebody else vouches for this person, and there is no account here.
    pub id: Option<AccountId>,
    /// Who that somebody else is, as it calls itself. Its `subject` is unique among its own people only.
    pub issuer: Option<String>,
    /// The id that peers are told.
    pub subject: String,
    /// The name to log in with; of somebody without an account here, the same as `subject`.
    pub name: String,
    /// The address, where there is one.
    pub email: Option<String>,
    /// A friendly name, where there is one.
    pub display_name: Option<String>,
    /// The given name, where it is known.
    pub first_name: Option<String>,
    /// The family name, where it is known.
    pub last_name: Option<String>,
    /// Where a picture is, if there is one.
    pub profile_url: Option<String>,
    /// Its cut-off when this was found out, for the core; not told on a wire. Once that has moved, nothing is signed on the
    /// strength of this.
    pub cut_off: Timestamp,
}

/// A client's id: 1 to 256 bytes of NFC text without control characters; compared exactly, as RFC 6749 section 2.2 has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Parses an id.
    pub fn parse(text: &str) -> Result<ClientId, NotAName> {
        label("a client id", text).map(|text| ClientId(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Client software: what users log in through, or a service that speaks for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// A friendly name, where there is one.
    pub display_name: Option<String>,
    /// The secret's PHC string: a confidential client has one, a public client none (RFC 6749 section 2.1).
    pub secret: Option<String>,
    /// Whether it may be used.
    pub status: Status,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// The scopes that may be granted through it, and that it holds when it speaks for itself.
    pub scopes: Scopes,
    /// Whether it may be told an access token that restores the session.
    pub receives_token: bool,
    /// Counts the changes, as on an account.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::{Email, MOST_RIGHTS, NameKey, Rights, Username, cut_off_after, picture};
    use crate::clock::Timestamp;

    fn rights(roles: &[&str], permissions: &[&str]) -> Rights {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Rights::parse(owned(roles), owned(permissions)).expect("names")
    }

    #[test]
    fn rights_are_added_and_taken_by_name_and_kind() {
        let held = rights(&["b", "a", "b"], &["p"]);
        assert_eq!((held.roles.join(" "), held.permissions.join(" ")), ("a b".to_owned(), "p".to_owned()));
        let more = held.clone().with(&rights(&["p", "B"], &[])).expect("names");
        assert_eq!((more.roles.join(" "), more.permissions.join(" ")), ("B a b p".to_owned(), "p".to_owned()));
        let less = more.without(&rights(&["a", "x"], &["b"]));
        assert_eq!((less.roles.join(" "), less.permissions.join(" ")), ("B b p".to_owned(), "p".to_owned()));
        assert!(Rights::parse(vec![" a".to_owned()], Vec::new()).is_err());
        let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        let full = Rights::parse(many(MOST_RIGHTS), Vec::new()).expect("as many as there may be");
        assert!(full.clone().with(&full).is_ok(), "doubles do not count");
        assert!(full.with(&rights(&["one more"], &[])).is_err());
    }

    #[test]
    fn a_cut_off_lies_behind_every_second_that_was_signed() {
        let at = Timestamp::from_millis;
        assert_eq!(cut_off_after(at(10_000), at(0)), at(11_000));
        assert_eq!(cut_off_after(at(10_999), at(0)), at(11_000));
        // Since the first one, tokens bear the second 11 at least, so the next one lies behind that.
        assert_eq!(cut_off_after(at(10_999), at(11_000)), at(12_000));
        assert_eq!(cut_off_after(at(20_000), at(12_000)), at(21_000));
    }

    #[test]
    fn a_picture_is_somewhere_on_the_web() {
        assert!(picture("https://example.org/ann.png").is_ok());
        for text in
            ["", "javascript:alert(1)", "https://example.org/a b", "//example.org", &format!("https://{}", "x".repeat(2048))]
        {
            assert!(picture(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn spellings_of_one_name_have_one_key() {
        let spellings = [("Ann", "aNN"), ("Ünal", "U\u{308}NAL"), ("Straße", "STRASSE"), ("ﬁona", "FIONA"), ("Σίσυφος", "ΣΊΣΥΦΟΣ")];
        for (one, other) in spellings {
            assert_eq!(NameKey::of(one), NameKey::of(other), "{one} and {other}");
        }
        assert_ne!(NameKey::of("ann"), NameKey::of("аnn"), "a Cyrillic letter is another letter");
    }

    #[test]
    fn a_name_is_not_an_address() {
        assert!(Username::parse("ann").is_ok());
        for text in ["", " ann", "ann\n", "a@b", &"x".repeat(257)] {
            assert!(Username::parse(text).is_err(), "{text:?}");
        }
        for text in ["", "ann", "@b", "a@", "a@b@c", "a b@c"] {
            assert!(Email::parse(text).is_err(), "{text:?}");
        }
        assert!(Email::parse("ann@example.org").is_ok());
    }
}
