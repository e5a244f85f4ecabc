//! A terminal, and the pure tables of what its string may be and who may change that.
//!
//! A terminal is a device that has two roles and no accounts: whoever knows the administrator's secret is the administrator. The
//! one string that a peer shows may be a token, a password, a PIN or the PIN of the command line, and only the terminal's own
//! state says which. It is decided in this order, so that no answer says more than whoever asks has proved:
//!
//! ```text
//! token ──► plan ──► protection ──► lock-out ──► comparison ──► role
//!   └─────────────────────────────────────────────────────────────┘   a token that stands passes everything between
//! ```
//!
//! Everything up to the lock-out is [`Facts::consider`], everything after the comparison [`Comparison::judge`]; between them the
//! caller asks the throttle and compares. How long things live and what ends them is in `terminal/chain.rs`, how many wrong strings
//! are too many in `terminal/lockout.rs`, what guards a role in `terminal/guard.rs`, what is in force in `terminal/sessions.rs`.
//! It refuses to know how any of this is spelled.

pub mod chain;
mod guard;
pub mod lockout;
pub mod sessions;

use std::sync::Arc;
use std::time::Duration;

pub use self::guard::{
    Guard, LockOut, NewPassword, NewProtection, NotAPassword, Protection, Protections, ShownGuard, ShownProtection, draw_pin,
    pin_matches,
};
use crate::clock::Timestamp;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::throttle::Settled;

/// The name of a terminal: 1 to 64 ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or a digit. It stands in
/// addresses and in settings, and is compared exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TerminalName(Arc<str>);

/// Why a text is no name of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a terminal's name is 1 to 64 letters, digits, `-`, `_` and `.`, and begins with a letter or a digit")]
pub struct NotATerminalName;

impl TerminalName {
    /// Takes a text for a name.
    ///
    /// # Errors
    /// [`NotATerminalName`].
    pub fn parse(text: &str) -> Result<TerminalName, NotATerminalName> {
        let begins = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        let made_of = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if begins && made_of && text.len() <= 64 { Ok(TerminalName(text.into())) } else { Err(NotATerminalName) }
    }

    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a connection may do with a terminal. An administrator may do all that a user may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TerminalRole {
    /// Uses it.
    User,
    /// Sets it up.
    Administrator,
}

impl TerminalRole {
    /// Both of them.
    pub const BOTH: [TerminalRole; 2] = [TerminalRole::Administrator, TerminalRole::User];

    /// The word that store, audit and operators use.
    pub const fn word(self) -> &'static str {
        match self {
            TerminalRole::User => "user",
            TerminalRole::Administrator => "administrator",
        }
    }

    /// Whether whoever holds this role may do what needs `other`.
    pub fn covers(self, other: TerminalRole) -> bool {
        self >= other
    }
}

/// What the terminal's owner has paid for. Secrets, and the split into two roles, are of the larger plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// One role, without a secret but that of the command line.
    Free,
    /// Both roles, each with a secret of its own if wanted.
    Pro,
}

impl Plan {
    /// The word that store, audit and operators use.
    pub const fn word(self) -> &'static str {
        match self {
            Plan::Free => "free",
            Plan::Pro => "pro",
        }
    }

    /// The plan that [`Plan::word`] names.
    pub fn parse(word: &str) -> Option<Plan> {
        [Plan::Free, Plan::Pro].into_iter().find(|plan| plan.word() == word)
    }
}

/// A terminal as the core sees it.
#[derive(Clone, Debug)]
pub struct Terminal {
    /// Its name.
    pub name: TerminalName,
    /// Its plan.
    pub plan: Plan,
    /// What guards the administrator.
    pub administrator: Guard,
    /// What guards the user.
    pub user: Guard,
    /// A PIN that was given when the program began, good for the administrator until it ends, beside whatever is kept.
    pub command_line_pin: Option<Secret>,
}

impl Terminal {
    /// What guards a role.
    pub fn guard(&self, role: TerminalRole) -> &Guard {
        match role {
            TerminalRole::Administrator => &self.administrator,
            TerminalRole::User => &self.user,
        }
    }

    /// What decisions rest on. `None`: what is kept contradicts itself, and nobody may come in by it.
    pub fn facts(&self) -> Option<Facts> {
        Facts::of(self.plan, (&self.administrator, &self.user), self.command_line_pin.is_some())
    }

    /// What whoever asks is shown of its protection: a PIN only to an administrator, that of the command line to nobody.
    pub fn shown_to(&self, asking: Option<TerminalRole>) -> ShownProtection {
        let pin = |guard: &Guard| match guard {
            Guard::Pin(pin) if asking == Some(TerminalRole::Administrator) => Some(pin.clone()),
            _ => None,
        };
        let one = |guard: &Guard| ShownGuard { protection: guard.protection(), pin: pin(guard) };
        let user = match self.plan {
            Plan::Pro => one(&self.user),
            Plan::Free => ShownGuard { protection: Protection::Unsecured, pin: None },
        };
        let administrator = match (&self.command_line_pin, self.plan) {
            (Some(_), _) => ShownGuard { protection: Protection::Pin, pin: None },
            (None, Plan::Pro) => one(&self.administrator),
            (None, Plan::Free) => ShownGuard { protection: Protection::Unsecured, pin: None },
        };
        ShownProtection { administrator, user }
    }
}

/// What decisions about a terminal rest on. Holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its plan.
    pub plan: Plan,
    /// How its roles are protected, as it is kept. On the smaller plan that lies dormant.
    pub protections: Protections,
    /// Whether a PIN was given on the command line.
    pub command_line_pin: bool,
}

/// What a peer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing: it asks for what needs no secret.
    Unsecured,
    /// A string, and what it is when taken for a token.
    Text(Reading),
}

/// What a string is when taken for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is not even shaped like one.
    Unshaped,
    /// It is shaped like one and none that stands. It is never compared with anything: whoever comes back with a stale token must
    /// not lock a person out.
    Refused,
    /// It is one, of this role.
    Stands(TerminalRole),
}

/// What was obtained, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obtained {
    /// The role.
    pub role: TerminalRole,
    /// By what.
    pub grounds: Grounds,
}

/// What an authorisation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// Nothing was needed.
    Unsecured,
    /// A token: whatever its first authorisation rested on.
    Token,
    /// This secret.
    Secret(Candidate),
}

/// A secret that a string may equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The password of a role.
    Password(TerminalRole),
    /// The PIN of a role.
    Pin(TerminalRole),
    /// The PIN of the command line.
    CommandLinePin,
}

impl Candidate {
    /// Whether it is short enough to be guessed by many together.
    pub fn is_pin(self) -> bool {
        match self {
            Candidate::Password(_) => false,
            Candidate::Pin(_) | Candidate::CommandLinePin => true,
        }
    }

    /// The role that it opens.
    pub fn opens(self) -> TerminalRole {
        match self {
            Candidate::Password(role) | Candidate::Pin(role) => role,
            Candidate::CommandLinePin => TerminalRole::Administrator,
        }
    }
}

/// What comes next of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing; it has succeeded.
    Obtained(Obtained),
    /// The throttle is asked, and then the string is compared.
    Compare(Comparison),
}

/// What a string is to be compared with, in this order, all of it unless one is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    candidates: Vec<Candidate>,
    asked: Option<TerminalRole>,
    suspended: Option<Duration>,
}

impl Facts {
    /// Of a terminal with this plan, these guards of administrator and user, and a PIN of the command line or none. `None`: the
    /// guards contradict each other.
    pub fn of(plan: Plan, (administrator, user): (&Guard, &Guard), command_line_pin: bool) -> Option<Facts> {
        let protections = Protections::new(administrator.protection(), user.protection())?;
        Some(Facts { plan, protections, command_line_pin })
    }

    /// Whether a role exists.
    fn exists(self, role: TerminalRole) -> bool {
        role == TerminalRole::Administrator || self.plan == Plan::Pro
    }

    /// What a role's secret is, as far as it counts now.
    fn in_force(self, role: TerminalRole) -> Protection {
        match self.plan {
            Plan::Pro => self.protections.of(role),
            Plan::Free => Protection::Unsecured,
        }
    }

    /// Whether a role is to be had without a secret.
    fn is_open(self, role: TerminalRole) -> bool {
        let by_command_line = role == TerminalRole::Administrator && self.command_line_pin;
        self.exists(role) && !self.in_force(role).is_secured() && !by_command_line
    }

    /// An attempt, up to the comparison. `asked` is the role that was asked for by name.
    ///
    /// # Errors
    /// [`Refusal::PlanRequired`], [`Refusal::MethodNotAllowed`], [`Refusal::RoleMismatch`], and [`Refusal::InvalidCredentials`] for what is
    /// shaped like a token.
    pub fn consider(self, shown: Shown, asked: Option<TerminalRole>) -> Result<Next, Refusal> {
        if let Shown::Text(Reading::Stands(role)) = shown {
            return match asked {
                Some(asked) if asked != role => Err(Refusal::RoleMismatch),
                _ if !self.exists(role) => Err(Refusal::PlanRequired),
                _ => Ok(Next::Obtained(Obtained { role, grounds: Grounds::Token })),
            };
        }
        if asked.is_some_and(|asked| !self.exists(asked)) {
            return Err(Refusal::PlanRequired);
        }
        match shown {
            Shown::Text(Reading::Refused | Reading::Stands(_)) => Err(Refusal::InvalidCredentials),
            Shown::Text(Reading::Unshaped) => self.candidates(asked).map(Next::Compare),
            Shown::Unsecured => self.open_role(asked).map(|role| Next::Obtained(Obtained { role, grounds: Grounds::Unsecured })),
        }
    }

    /// The role that is to be had for nothing.
    fn open_role(self, asked: Option<TerminalRole>) -> Result<TerminalRole, Refusal> {
        let mut open = [TerminalRole::Administrator, TerminalRole::User].into_iter().filter(|role| self.is_open(*role));
        match (asked, open.next()) {
            (_, None) => Err(Refusal::MethodNotAllowed),
            (None, Some(most)) => Ok(most),
            (Some(asked), Some(most)) if asked == most || open.any(|role| role == asked) => Ok(asked),
            (Some(_), Some(_)) => Err(Refusal::RoleMismatch),
        }
    }

    /// What a string is to be compared with.
    fn candidates(self, asked: Option<TerminalRole>) -> Result<Comparison, Refusal> {
        let kept = |role| match self.in_force(role) {
            Protection::Unsecured => None,
            Protection::Password => Some(Candidate::Password(role)),
            Protection::Pin => Some(Candidate::Pin(role)),
        };
        let command_line = self.command_line_pin.then_some(Candidate::CommandLinePin);
        let (administrator, user) = (kept(TerminalRole::Administrator), kept(TerminalRole::User));
        let in_order = match asked {
            Some(TerminalRole::User) => [user, administrator, command_line],
            Some(TerminalRole::Administrator) | None => [administrator, command_line, user],
        };
        let candidates: Vec<Candidate> = in_order.into_iter().flatten().collect();
        match asked {
            _ if candidates.is_empty() && self.plan == Plan::Free => Err(Refusal::PlanRequired),
            // Otherwise the answer would tell whether the other role's secret was guessed.
            Some(role) if !candidates.iter().any(|candidate| candidate.opens() == role) => Err(Refusal::MethodNotAllowed),
            _ if candidates.is_empty() => Err(Refusal::MethodNotAllowed),
            _ => Ok(Comparison { candidates, asked, suspended: None }),
        }
    }

    /// Whether whoever holds `held` may step down to `to`. There is no stepping up: that takes a secret.
    ///
    /// # Errors
    /// [`Refusal::LoginRequired`] before the plan is looked at, since a stranger need not learn it; [`Refusal::NotPermitted`],
    /// [`Refusal::PlanRequired`].
    pub fn narrow(self, held: Option<TerminalRole>, to: TerminalRole) -> Result<(), Refusal> {
        match (held, to) {
            (None, _) => Err(Refusal::LoginRequired),
            (Some(TerminalRole::User), _) | (_, TerminalRole::Administrator) => Err(Refusal::NotPermitted),
            (Some(TerminalRole::Administrator), TerminalRole::User) if !self.exists(to) => Err(Refusal::PlanRequired),
            (Some(TerminalRole::Administrator), TerminalRole::User) => Ok(()),
        }
    }

    /// How the terminal will be protected when whoever holds `by` sets the protection `of` a role. An administrator without a
    /// secret takes the user's away. The PIN of the command line does not count: it ends with the program, and what is kept stays.
    ///
    /// # Errors
    /// [`Refusal::LoginRequired`], [`Refusal::NotPermitted`], [`Refusal::PlanRequired`], and [`Refusal::Invalid`] where the user alone would
    /// be secured, or where an administrator's PIN is not wanted here.
    pub fn change(
        self,
        by: Option<TerminalRole>,
        of: TerminalRole,
        to: Protection,
        administrators_pin: bool,
    ) -> Result<Protections, Refusal> {
        let by = by.ok_or(Refusal::LoginRequired)?;
        if !by.covers(of) {
            return Err(Refusal::NotPermitted);
        }
        if to.is_secured() && self.plan == Plan::Free {
            return Err(Refusal::PlanRequired);
        }
        let invalid = |what: &str| Refusal::Invalid(vec![what.to_owned()]);
        match (of, to) {
            (TerminalRole::Administrator, Protection::Unsecured) => Ok(Protections::UNSECURED),
            (TerminalRole::Administrator, Protection::Pin) if !administrators_pin => {
                Err(invalid("an administrator is secured by a password here"))
            }
            (TerminalRole::Administrator, to) => Ok(Protections { administrator: to, ..self.protections }),
            (TerminalRole::User, to) => Protections::new(self.protections.administrator, to)
                .ok_or_else(|| invalid("a user is secured only where the administrator is")),
        }
    }
}

impl Comparison {
    /// What is to be compared, in order.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whether a PIN is among them, so that a failure counts for the terminal as a whole.
    pub fn has_pins(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.is_pin())
    }

    /// Without PINs: too many were guessed of this terminal, by whomever. A right PIN is answered as a wrong one until then, and
    /// passwords go on as ever.
    #[must_use]
    pub fn without_pins(mut self, retry_after: Duration) -> Comparison {
        let before = self.candidates.len();
        self.candidates.retain(|candidate| !candidate.is_pin());
        if self.candidates.len() < before {
            self.suspended = Some(retry_after);
        }
        self
    }

    /// What came of the comparison: `equal` is the first candidate that was.
    ///
    /// # Errors
    /// [`Refusal::RoleMismatch`], [`Refusal::InvalidCredentials`]; while PINs are not looked at, [`Refusal::TooManyAttempts`] in its
    /// place.
    pub fn judge(&self, equal: Option<Candidate>) -> Result<Obtained, Refusal> {
        let Some(equal) = equal.filter(|equal| self.candidates.contains(equal)) else {
            return Err(self.suspended.map_or(Refusal::InvalidCredentials, |retry_after| Refusal::TooManyAttempts { retry_after }));
        };
        match self.asked {
            Some(asked) if asked != equal.opens() => Err(Refusal::RoleMismatch),
            _ => Ok(Obtained { role: equal.opens(), grounds: Grounds::Secret(equal) }),
        }
    }

    /// How the attempt's charge is settled. The right secret of another role than was asked for is no failure; nor does it make
    /// anybody forget one. Nor does the user's: else whoever has it could guess the administrator's for ever. Where nothing was
    /// left to compare, nothing was guessed.
    pub fn settled(&self, result: &Result<Obtained, Refusal>) -> Settled {
        match result {
            _ if self.candidates.is_empty() => Settled::Neither,
            Ok(Obtained { role: TerminalRole::Administrator, .. }) => Settled::Proved,
            Ok(Obtained { role: TerminalRole::User, .. }) | Err(Refusal::RoleMismatch) => Settled::Neither,
            Err(Refusal::Busy { .. } | Refusal::TimedOut | Refusal::Unavailable) => Settled::Neither,
            Err(_) => Settled::Failed,
        }
    }
}

/// What a token of a terminal is good for. One kind is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TerminalToken {
    /// To be authorised again, on any connection.
    Connection,
    /// To fetch files and pictures.
    Http,
    /// To draw over pictures.
    Overlay,
}

impl TerminalToken {
    /// Every kind.
    pub const ALL: [TerminalToken; 3] = [TerminalToken::Connection, TerminalToken::Http, TerminalToken::Overlay];
}

/// A token of a terminal that a gate is about to spell.
#[derive(Debug)]
pub struct NewTerminalToken<'a> {
    /// What it is good for.
    pub kind: TerminalToken,
    /// 256 bits of chance.
    pub random: &'a [u8; 32],
    /// Now.
    pub issued_at: Timestamp,
    /// When it ends; none: with the program.
    pub expires_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests;
