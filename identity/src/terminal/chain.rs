//! How long an authorisation on a terminal lives, what ends it and its tokens, and who is told why.
//!
//! An authorisation begins a *chain*. Whoever comes back with its token, or steps down, goes on in the same chain: with the expiry
//! and by the method of the first authorisation, however often. So no use extends a life, and a token drawn from a password never
//! turns into one drawn from a PIN.
//!
//! ```text
//! authorised ──token──► again ──token──► again       one chain, one end
//!      ├──steps down──► a chain of the user's        the same end; the administrator's chain is over, with every token of it
//!      └──a secret, on the same connection──► another chain      this one is over, with every token of it
//! ```
//!
//! Pure tables: no clock, no store. A terminal's chains end with the process that serves it; nothing here outlives that.

use std::time::Duration;

use super::{Candidate, Facts, Grounds, Protection, TerminalRole, TerminalToken};
use crate::clock::Timestamp;
use crate::reply::Reason;

/// How long what a terminal issues lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalLives {
    /// From an authorisation on, that of the command line's PIN left out.
    pub connection: Duration,
    /// From the moment on in which a PIN was set, for whoever has set it.
    pub pin_set: Duration,
    /// Of a token for files, where no PIN was used.
    pub http: Duration,
}

impl Default for TerminalLives {
    fn default() -> TerminalLives {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        TerminalLives { connection: 30 * DAY, pin_set: DAY, http: Duration::from_secs(5 * 60) }
    }
}

/// By what a chain began. It travels along the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalMethod {
    /// By nothing.
    Unsecured,
    /// By a password.
    Password,
    /// By a PIN.
    Pin,
    /// By the PIN of the command line.
    CommandLinePin,
}

impl TerminalMethod {
    /// The method of an authorisation that is no token's. `None`: it goes on in the token's chain.
    pub fn of(grounds: Grounds) -> Option<TerminalMethod> {
        match grounds {
            Grounds::Token => None,
            Grounds::Unsecured => Some(TerminalMethod::Unsecured),
            Grounds::Secret(Candidate::Password(_)) => Some(TerminalMethod::Password),
            Grounds::Secret(Candidate::Pin(_)) => Some(TerminalMethod::Pin),
            Grounds::Secret(Candidate::CommandLinePin) => Some(TerminalMethod::CommandLinePin),
        }
    }

    /// The method of whoever has set their own role's protection to this.
    pub fn having_set(protection: Protection) -> TerminalMethod {
        match protection {
            Protection::Unsecured => TerminalMethod::Unsecured,
            Protection::Password => TerminalMethod::Password,
            Protection::Pin => TerminalMethod::Pin,
        }
    }

    /// Whether a PIN was used.
    fn is_pin(self) -> bool {
        match self {
            TerminalMethod::Unsecured | TerminalMethod::Password => false,
            TerminalMethod::Pin | TerminalMethod::CommandLinePin => true,
        }
    }
}

/// What does not change from the first authorisation to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The role.
    pub role: TerminalRole,
    /// By what it began.
    pub method: TerminalMethod,
    /// When it ends; none: with the process.
    pub ends_at: Option<Timestamp>,
}

impl Chain {
    /// Begins with an authorisation.
    pub fn authorised(role: TerminalRole, method: TerminalMethod, now: Timestamp, lives: &TerminalLives) -> Chain {
        let ends_at = match method {
            TerminalMethod::Unsecured | TerminalMethod::Password | TerminalMethod::Pin => Some(now.after(lives.connection)),
            TerminalMethod::CommandLinePin => None,
        };
        Chain { role, method, ends_at }
    }

    /// Begins with the change of one's own role's protection.
    pub fn having_set(role: TerminalRole, protection: Protection, now: Timestamp, lives: &TerminalLives) -> Chain {
        let life = match protection {
            Protection::Unsecured | Protection::Password => lives.connection,
            Protection::Pin => lives.pin_set,
        };
        Chain { role, method: TerminalMethod::having_set(protection), ends_at: Some(now.after(life)) }
    }

    /// The user's chain that an administrator's goes on in, who has stepped down: it ends when that would have.
    #[must_use]
    pub fn narrowed(self) -> Chain {
        Chain { role: TerminalRole::User, ..self }
    }

    /// When a token ends by itself that is issued now; none: with its chain, which no token outlives.
    pub fn token_ends(self, kind: TerminalToken, now: Timestamp, lives: &TerminalLives) -> Option<Timestamp> {
        match kind {
            TerminalToken::Connection => self.ends_at,
            TerminalToken::Http if self.method.is_pin() => None,
            TerminalToken::Http => Some(self.ends_at.into_iter().fold(now.after(lives.http), Timestamp::min)),
            TerminalToken::Overlay => None,
        }
    }
}

/// What befalls a terminal, or one of its chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another connection was authorised in the role of this chain's.
    Displaced,
    /// This chain's time is over.
    Expired,
    /// The administrator of this chain has stepped down.
    Narrowed,
    /// The connection that held this chain has begun another, or gone over to another.
    Replaced,
    /// Every token was ended on an administrator's word.
    Cleared,
    /// A role's protection was set. Of a chain of the caller's: it goes on, with new tokens where its own role was changed.
    ProtectionSet {
        /// Whose.
        of: TerminalRole,
        /// By whom.
        by: TerminalRole,
        /// Whether the user's secret went with the administrator's.
        user_reset: bool,
    },
    /// The plan no longer has a user's role.
    PlanLost,
    /// The plan has secrets again, and these are in force.
    PlanGained(Facts),
    /// The terminal left its account, or began or ended a call: only what was drawn over pictures is over.
    PictureChanged,
}

/// A chain, as seen from a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it is.
    pub chain: Chain,
    /// Whether the change is its own: it befell this chain, or its holder made it.
    pub own: bool,
}

impl Change {
    /// Whether a token of that chain is over after this.
    pub fn ends(&self, token: TerminalToken, held: &Held) -> bool {
        let drawn = token == TerminalToken::Overlay;
        match *self {
            // The token for coming back stays: it is what the displaced one comes back with.
            Change::Displaced => held.own && token != TerminalToken::Connection,
            // All of an administrator's who has stepped down, those of earlier connections too: none leads up again. Nor does
            // anything of what a connection held before, or it would outlive what it holds now.
            Change::Expired | Change::Narrowed | Change::Replaced => held.own,
            Change::Cleared => true,
            Change::ProtectionSet { of, user_reset, .. } => {
                drawn || held.chain.role == of || (user_reset && held.chain.role == TerminalRole::User)
            }
            Change::PlanLost => held.chain.role == TerminalRole::User,
            Change::PlanGained(facts) => Change::is_overtaken(facts, held),
            Change::PictureChanged => drawn,
        }
    }

    /// What the connection that holds that chain is told; none: its authorisation stands.
    pub fn told(&self, held: &Held) -> Option<Reason> {
        match *self {
            Change::Displaced => held.own.then_some(Reason::Displaced),
            Change::Expired => held.own.then_some(Reason::Expired),
            Change::Narrowed | Change::Replaced | Change::Cleared | Change::PictureChanged => None,
            Change::ProtectionSet { .. } if held.own => None,
            Change::ProtectionSet { of, by, .. } if held.chain.role == of => Some(Reason::ProtectionChanged { of, by }),
            Change::ProtectionSet { user_reset, .. } => user_reset.then_some(Reason::ProtectionReset),
            Change::PlanLost => (held.chain.role == TerminalRole::User).then_some(Reason::PlanLost),
            Change::PlanGained(facts) => Change::is_overtaken(facts, held)
                .then_some(Reason::ProtectionChanged { of: held.chain.role, by: TerminalRole::Administrator }),
        }
    }

    /// Whether a chain that began without a secret now would need one.
    fn is_overtaken(facts: Facts, held: &Held) -> bool {
        held.chain.method == TerminalMethod::Unsecured && !facts.is_open(held.chain.role)
    }
}

/// Which connections lose their authorisation when `newcomer` gains a role: one connection may hold each.
pub fn displaced<C: Copy + PartialEq>(newcomer: C, role: TerminalRole, holders: &[(C, TerminalRole)]) -> Vec<C> {
    holders.iter().filter(|(holder, held)| *held == role && *holder != newcomer).map(|(holder, _)| *holder).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Plan, Protections};
    use super::*;
    use TerminalRole::{Administrator, User};
    use TerminalToken::{Connection, Http, Overlay};

    const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_000);

    fn seconds(end: Option<Timestamp>) -> Option<u64> {
        end.map(|end| end.since(NOW).as_secs())
    }

    fn lives() -> TerminalLives {
        TerminalLives::default()
    }

    const MONTH: u64 = 30 * 24 * 60 * 60;

    #[test]
    fn how_long_a_chain_and_its_tokens_live() {
        use TerminalMethod::{CommandLinePin, Password, Pin, Unsecured};
        let check = |method, chain: Option<u64>, http: Option<u64>| {
            let begun = Chain::authorised(User, method, NOW, &lives());
            let told = [Connection, Http, Overlay].map(|kind| seconds(begun.token_ends(kind, NOW, &lives())));
            assert_eq!(told, [chain, http, None], "{method:?}");
        };
        check(Unsecured, Some(MONTH), Some(300));
        check(Password, Some(MONTH), Some(300));
        check(Pin, Some(MONTH), None);
        check(CommandLinePin, None, None);
    }

    #[test]
    fn a_connections_token_outlives_the_one_for_files_by_thirty_days_less_five_minutes() {
        let begun = Chain::authorised(Administrator, TerminalMethod::Password, NOW, &lives());
        let end = |kind| begun.token_ends(kind, NOW, &lives()).expect("both end");
        assert_eq!(end(Connection).since(end(Http)).as_secs(), 2_591_700);
    }

    #[test]
    fn a_protection_just_set_lives_as_its_kind() {
        let check = |protection, expected| {
            let begun = Chain::having_set(Administrator, protection, NOW, &lives());
            assert_eq!(seconds(begun.ends_at), Some(expected), "{protection:?}");
        };
        check(Protection::Unsecured, MONTH);
        check(Protection::Password, MONTH);
        check(Protection::Pin, MONTH / 30);
    }

    #[test]
    fn whoever_comes_back_or_steps_down_ends_when_they_would_have() {
        let begun = Chain::authorised(Administrator, TerminalMethod::Password, NOW, &lives());
        let later = NOW.after(Duration::from_secs(MONTH - 60));
        assert_eq!(TerminalMethod::of(Grounds::Token), None, "it goes on in the token's chain");
        assert_eq!(begun.narrowed(), Chain { role: User, ..begun });
        assert_eq!(begun.token_ends(Connection, later, &lives()), begun.ends_at);
        assert_eq!(begun.token_ends(Http, later, &lives()), begun.ends_at, "a token for files never outlives its chain");
        let method = |candidate| TerminalMethod::of(Grounds::Secret(candidate));
        assert_eq!(method(Candidate::Pin(User)), Some(TerminalMethod::Pin));
        assert_eq!(method(Candidate::Password(User)), Some(TerminalMethod::Password));
        assert_eq!(method(Candidate::CommandLinePin), Some(TerminalMethod::CommandLinePin));
        assert_eq!(TerminalMethod::of(Grounds::Unsecured), Some(TerminalMethod::Unsecured));
    }

    fn held(role: TerminalRole, own: bool) -> Held {
        Held { chain: Chain { role, method: TerminalMethod::Password, ends_at: None }, own }
    }

    /// Which tokens are over: of the chain that it befell or whose holder did it, then of others, the administrator's before the
    /// user's; and what each is told.
    fn check(change: Change, own: (TerminalRole, &str, Option<Reason>), others: [(&str, Option<Reason>); 2]) {
        let rows = [(held(own.0, true), own.1, own.2), (held(Administrator, false), others[0].0, others[0].1)];
        for (held, ended, told) in rows.into_iter().chain([(held(User, false), others[1].0, others[1].1)]) {
            let over: String = [(Connection, 'c'), (Http, 'h'), (Overlay, 'o')]
                .into_iter()
                .filter(|(kind, _)| change.ends(*kind, &held))
                .map(|(_, letter)| letter)
                .collect();
            assert_eq!((over.as_str(), change.told(&held)), (ended, told), "{change:?} {held:?}");
        }
    }

    #[test]
    fn what_ends_tokens_and_who_is_told() {
        use Reason::{Displaced, Expired, PlanLost, ProtectionChanged, ProtectionReset};
        let nothing = ("", None);
        for role in [Administrator, User] {
            check(Change::Displaced, (role, "ho", Some(Displaced)), [nothing, nothing]);
            check(Change::Expired, (role, "cho", Some(Expired)), [nothing, nothing]);
        }
        check(Change::Narrowed, (Administrator, "cho", None), [nothing, nothing]);
        check(Change::Replaced, (Administrator, "cho", None), [nothing, nothing]);
        check(Change::Replaced, (User, "cho", None), [nothing, nothing]);
        check(Change::Cleared, (Administrator, "cho", None), [("cho", None), ("cho", None)]);
        check(Change::PlanLost, (Administrator, "", None), [nothing, ("cho", Some(PlanLost))]);
        check(Change::PictureChanged, (Administrator, "o", None), [("o", None), ("o", None)]);
        let set = |of, by, user_reset| Change::ProtectionSet { of, by, user_reset };
        let changed = |of, by| Some(ProtectionChanged { of, by });
        check(
            set(Administrator, Administrator, false),
            (Administrator, "cho", None),
            [("cho", changed(Administrator, Administrator)), ("o", None)],
        );
        check(
            set(Administrator, Administrator, true),
            (Administrator, "cho", None),
            [("cho", changed(Administrator, Administrator)), ("cho", Some(ProtectionReset))],
        );
        check(set(User, Administrator, false), (Administrator, "o", None), [("o", None), ("cho", changed(User, Administrator))]);
        check(set(User, User, false), (User, "cho", None), [("o", None), ("cho", changed(User, User))]);
    }

    #[test]
    fn a_plan_that_has_secrets_again_ends_what_began_without_one() {
        let protections = Protections::new(Protection::Password, Protection::Unsecured).expect("such can be");
        let change = Change::PlanGained(Facts { plan: Plan::Pro, protections, command_line_pin: false });
        let began = |role, method| Held { chain: Chain { role, method, ends_at: None }, own: false };
        let overtaken = began(Administrator, TerminalMethod::Unsecured);
        assert!(change.ends(Connection, &overtaken));
        let told = Reason::ProtectionChanged { of: Administrator, by: Administrator };
        assert_eq!(change.told(&overtaken), Some(told));
        for stands in [
            began(Administrator, TerminalMethod::Password),
            began(Administrator, TerminalMethod::CommandLinePin),
            began(User, TerminalMethod::Unsecured),
        ] {
            assert_eq!((change.ends(Connection, &stands), change.told(&stands)), (false, None), "{stands:?}");
        }
    }

    #[test]
    fn one_connection_holds_each_role() {
        let holders = [(1, Administrator), (2, User), (3, User)];
        assert_eq!(displaced(4, Administrator, &holders), [1]);
        assert_eq!(displaced(4, User, &holders), [2, 3]);
        assert_eq!(displaced(2, User, &holders), [3], "never the newcomer itself");
        assert!(displaced(1, Administrator, &holders).is_empty());
    }
}
