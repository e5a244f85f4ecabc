//! Sessions: pure tables of how long they live, what ends them and who displaces whom.
//!
//! Knows no clock and no store: everything is a function of facts and a moment that is handed in.

use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use crate::account::{AccountId, ClientId};
use crate::clock::Timestamp;
use crate::command::Binding;
use crate::keyring::Purpose;
use crate::refusal::Refusal;
use crate::reply::Reason;
use crate::scope::ScopeRequest;

/// Identifies a session for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Uuid);

/// A login that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The gate it came through; its tokens are good there only.
    pub gate: String,
    /// The provider that vouched for it; its tokens are good with that one only.
    pub provider: String,
    /// The user; none where a client spoke for itself.
    pub account: Option<AccountId>,
    /// The client it came through.
    pub client: ClientId,
    /// What was asked for; what is granted is resolved anew at each use.
    pub requested: ScopeRequest,
    /// The gate's own mark for how scope names are spelled.
    pub spelling: u8,
    /// Where it began.
    pub source: IpAddr,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was last used, as far as it is on disk.
    pub used_at: Timestamp,
    /// When it ends however it is used: a cookie holds it. None: it lasts as long as it is used, and a token that rolls holds it.
    pub expires_at: Option<Timestamp>,
    /// How it ended, if it has.
    pub ended: Option<Ended>,
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// How long things live, and how many there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// How long a connection counts as authenticated after it last proved itself.
    pub connection_life: Duration,
    /// How long a restoring token is good for after it was issued.
    pub token_life: Duration,
    /// How long a session lasts after its last use.
    pub session_life: Duration,
    /// How long a session lasts that a cookie holds, from its login.
    pub cookie_life: Duration,
    /// The same, where the peer asked to be remembered.
    pub remembered_life: Duration,
    /// How long an access token is good for, and how long a refresh token.
    pub access_life: Duration,
    /// See `access_life`.
    pub refresh_life: Duration,
    /// Where refresh tokens rotate: how long one that was shown is answered with the same successor.
    pub refresh_overlap: Duration,
    /// How long a token stays good after its successor was first presented.
    pub overlap: Duration,
    /// What happens when a token is presented after that.
    pub on_reuse: OnReuse,
    /// How many tokens that were never presented one session may hold.
    pub unpresented: usize,
    /// How many sessions one account may hold through one gate; none: any number.
    pub max_sessions: Option<usize>,
    /// How many connections one session may hold; none: any number.
    pub max_connections: Option<usize>,
    /// How long a displaced session may go on, so that a client that reconnects does not count twice.
    pub grace: Duration,
    /// How many sessions without a connection are kept in memory; the rest is read from the store when it is used.
    pub kept_in_memory: usize,
}

/// How long what is over is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A line of the audit.
    pub audit: Duration,
    /// The record of an ended session, and of an API key that was cancelled or has ended.
    pub ended: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { audit: 400 * DAY, ended: 7 * DAY }
    }
}

/// What happens when a superseded token comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReuse {
    /// It is refused, and so is every token that grew from it.
    End,
    /// It is refused.
    Refuse,
}

/// How long a token for a service behind a gate is good for: long enough to open a connection with, on clocks that differ a
/// little.
const UPSTREAM_LIFE: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            connection_life: Duration::from_secs(30 * 60),
            token_life: 30 * DAY,
            session_life: 90 * DAY,
            cookie_life: 14 * DAY,
            remembered_life: 28 * DAY,
            access_life: 14 * DAY,
            refresh_life: 365 * DAY,
            refresh_overlap: Duration::from_secs(10),
            overlap: Duration::from_secs(60),
            on_reuse: OnReuse::End,
            unpresented: 64,
            max_sessions: None,
            max_connections: None,
            grace: Duration::from_secs(4),
            kept_in_memory: 100_000,
        }
    }
}

impl SessionSettings {
    /// When a connection that proved itself at `now` stops counting as authenticated: after its life, and never later
    /// than the account or the client behind it.
    pub fn connection_ends(&self, now: Timestamp, account: Option<Timestamp>, client: Option<Timestamp>) -> Timestamp {
        [account, client].into_iter().flatten().fold(now.after(self.connection_life), Timestamp::min)
    }

    /// When a token issued at `now` ends.
    pub fn token_ends(&self, now: Timestamp) -> Timestamp {
        now.after(self.token_life)
    }

    /// When a session that begins at `now` ends however it is used, by what holds it; none: while it is used.
    pub fn session_ends(&self, now: Timestamp, binding: Binding) -> Option<Timestamp> {
        match binding {
            Binding::Connection | Binding::Request | Binding::TokenCookies => None,
            Binding::Cookie { remember: false } | Binding::Tokens { remember: false } => Some(now.after(self.cookie_life)),
            Binding::Cookie { remember: true } | Binding::Tokens { remember: true } => Some(now.after(self.remembered_life)),
        }
    }

    /// How long what a key signs lives at most. Others keep our public keys for a while, so a key of our own stays for a day.
    pub fn signed_life(&self, purpose: Purpose) -> Duration {
        match purpose {
            Purpose::Own => DAY,
            Purpose::Tokens => self.access_life.max(self.refresh_life),
        }
    }

    /// When a token for a service behind a gate ends that was issued at `now`: after a minute, and never later than the
    /// authentication that it tells of.
    pub fn upstream_ends(&self, now: Timestamp, authentication: Option<Timestamp>) -> Timestamp {
        authentication.into_iter().fold(now.after(UPSTREAM_LIFE), Timestamp::min)
    }

    /// Whether a session last used at `used_at` is over.
    pub fn is_over(&self, used_at: Timestamp, now: Timestamp) -> bool {
        now >= used_at.after(self.session_life)
    }

    /// Whether one more connection may join a session that holds `connections` others.
    ///
    /// # Errors
    /// [`Refusal::TooManySessions`].
    pub fn may_attach(&self, connections: usize) -> Result<(), Refusal> {
        match self.max_connections {
            Some(most) if connections >= most => Err(Refusal::TooManySessions),
            _ => Ok(()),
        }
    }

    /// Which of an account's sessions a newcomer displaces: the oldest ones beyond the limit, never the newcomer itself.
    pub fn displaced(&self, mut others: Vec<(Timestamp, SessionId)>) -> Vec<SessionId> {
        let Some(most) = self.max_sessions else { return Vec::new() };
        others.sort_unstable();
        let surplus = (others.len() + 1).saturating_sub(most.max(1));
        others.into_iter().take(surplus).map(|(_, id)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_connection_ends_with_its_life_or_with_whoever_stands_behind_it() {
        let settings = SessionSettings::default();
        assert_eq!(settings.connection_ends(at(0), None, None), at(1800));
        assert_eq!(settings.connection_ends(at(0), Some(at(60)), None), at(60));
        assert_eq!(settings.connection_ends(at(0), Some(at(60)), Some(at(30))), at(30));
        assert_eq!(settings.connection_ends(at(0), Some(at(9000)), None), at(1800));
    }

    #[test]
    fn a_newcomer_displaces_the_oldest_beyond_the_limit() {
        let ids: Vec<SessionId> = (1..=3).map(|n| SessionId(Uuid::from_u128(n))).collect();
        let others = vec![(at(3), ids[2]), (at(1), ids[0]), (at(2), ids[1])];
        let displaced = |most| SessionSettings { max_sessions: most, ..SessionSettings::default() }.displaced(others.clone());
        assert_eq!(displaced(None), []);
        assert_eq!(displaced(Some(4)), []);
        assert_eq!(displaced(Some(3)), ids[..1]);
        assert_eq!(displaced(Some(1)), ids);
        assert_eq!(displaced(Some(0)), ids, "the newcomer itself always stays");
    }

    #[test]
    fn one_connection_more_than_allowed_is_refused() {
        let settings = SessionSettings { max_connections: Some(2), ..SessionSettings::default() };
        assert_eq!(settings.may_attach(1), Ok(()));
        assert_eq!(settings.may_attach(2), Err(Refusal::TooManySessions));
    }

    #[test]
    fn a_token_for_a_service_ends_after_a_minute_and_never_after_what_it_tells_of() {
        let settings = SessionSettings::default();
        assert_eq!(settings.upstream_ends(at(1000), None), at(1060));
        assert_eq!(settings.upstream_ends(at(1000), Some(at(2000))), at(1060));
        assert_eq!(settings.upstream_ends(at(1000), Some(at(1010))), at(1010));
    }

    #[test]
    fn a_session_held_by_a_cookie_has_an_end_of_its_own() {
        let settings = SessionSettings::default();
        let day = 24 * 60 * 60;
        assert_eq!(settings.session_ends(at(1), Binding::Cookie { remember: false }), Some(at(1 + 14 * day)));
        assert_eq!(settings.session_ends(at(1), Binding::Cookie { remember: true }), Some(at(1 + 28 * day)));
        assert_eq!(settings.session_ends(at(1), Binding::Connection), None);
    }

    #[test]
    fn a_session_is_over_ninety_days_after_its_last_use() {
        let settings = SessionSettings::default();
        let end = at(90 * 24 * 60 * 60);
        assert!(!settings.is_over(at(0), Timestamp::from_millis(end.millis() - 1)));
        assert!(settings.is_over(at(0), end));
    }
}
