//! What guards the roles of a terminal: passwords, PINs, and how many guesses of them are too many.
//!
//! A password is somebody's choice and kept as a hash. A PIN is drawn here, short, typed in any case, and kept in clear, since an
//! administrator may look it up. It refuses to know what whoever proves one of them may then do.

use std::fmt;
use std::time::Duration;

use super::TerminalRole;
use crate::clock::{Entropy, draw};
use crate::secret::Secret;

/// How a role is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// By nothing.
    Unsecured,
    /// By a password, which somebody chose.
    Password,
    /// By a PIN, which was drawn here.
    Pin,
}

impl Protection {
    /// Whether there is a secret at all.
    pub fn is_secured(self) -> bool {
        self != Protection::Unsecured
    }
}

/// How both roles are protected. A user is never secured where the administrator is not: whoever may do more would need less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protections {
    pub(super) administrator: Protection,
    pub(super) user: Protection,
}

impl Protections {
    /// As every terminal begins.
    pub const UNSECURED: Protections = Protections { administrator: Protection::Unsecured, user: Protection::Unsecured };

    /// Both; `None` where the user alone would be secured.
    pub fn new(administrator: Protection, user: Protection) -> Option<Protections> {
        (administrator.is_secured() || !user.is_secured()).then_some(Protections { administrator, user })
    }

    /// That of one role.
    pub fn of(self, role: TerminalRole) -> Protection {
        match role {
            TerminalRole::Administrator => self.administrator,
            TerminalRole::User => self.user,
        }
    }
}

/// What guards a role, as it is kept.
#[derive(Clone)]
pub enum Guard {
    /// Nothing.
    Unsecured,
    /// A password: its hash, as `password.rs` writes it.
    Password(String),
    /// A PIN, in clear, since an administrator may look it up.
    Pin(Secret),
}

impl Guard {
    /// Its kind.
    pub fn protection(&self) -> Protection {
        match self {
            Guard::Unsecured => Protection::Unsecured,
            Guard::Password(_) => Protection::Password,
            Guard::Pin(_) => Protection::Pin,
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(..)", self.protection())
    }
}

/// How a terminal is protected, as far as whoever asks may know.
#[derive(Clone, Debug)]
pub struct ShownProtection {
    /// The administrator.
    pub administrator: ShownGuard,
    /// The user.
    pub user: ShownGuard,
}

/// How one role is protected, as far as whoever asks may know.
#[derive(Clone, Debug)]
pub struct ShownGuard {
    /// Its kind.
    pub protection: Protection,
    /// The PIN, where there is one and whoever asks may know it.
    pub pin: Option<Secret>,
}

/// How many guesses of a terminal's secrets are too many. Sized for three digits, the weakest PIN that any such device has shown.
/// Tokens are not among them: nobody guesses those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOut {
    /// Failures of one source, within [`LockOut::within`], that follow on each other without a wait.
    pub free: u32,
    /// How long a failure of a source counts towards those.
    pub within: Duration,
    /// The first wait; each failure after one doubles it.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// Without a failure for this long, those of a source are forgotten. To be longer than the longest wait, or that would end it.
    pub forget_after: Duration,
    /// Failures of everybody together, within [`LockOut::pins_within`], after which no PIN is looked at.
    pub pins_free: u32,
    /// How long a failure of anybody counts towards those.
    pub pins_within: Duration,
    /// For how long then.
    pub pins_suspended: Duration,
}

impl Default for LockOut {
    fn default() -> LockOut {
        const MINUTE: Duration = Duration::from_secs(60);
        LockOut {
            free: 5,
            within: 5 * MINUTE,
            first_wait: MINUTE / 2,
            longest_wait: 15 * MINUTE,
            forget_after: 30 * MINUTE,
            pins_free: 50,
            pins_within: 10 * MINUTE,
            pins_suspended: 10 * MINUTE,
        }
    }
}

/// The letters and digits of a PIN: none that is taken for another when it is read aloud or off a screen.
pub(super) const PIN_LETTERS: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";
/// How many of them: thirty bits, behind a budget of a few guesses.
const PIN_LENGTH: usize = 6;

/// A fresh PIN.
pub fn draw_pin(entropy: &dyn Entropy) -> Secret {
    let random = zeroize::Zeroizing::new(draw::<PIN_LENGTH>(entropy));
    let pin: Vec<u8> = random.iter().map(|byte| PIN_LETTERS[usize::from(byte % 32)]).collect();
    Secret::new(pin)
}

/// Whether a string is this PIN, in whatever case it was typed. Blanks count.
pub fn pin_matches(pin: &Secret, shown: &Secret) -> bool {
    Secret::new(shown.expose().to_ascii_uppercase()).matches(&zeroize::Zeroizing::new(pin.expose().to_ascii_uppercase()))
}

/// What a role's protection is to become.
#[derive(Debug)]
pub enum NewProtection {
    /// Nothing.
    Unsecured,
    /// This password, as it was typed.
    Password(NewPassword),
    /// A PIN, which is drawn here and told.
    Pin,
}

impl NewProtection {
    /// Its kind.
    pub fn protection(&self) -> Protection {
        match self {
            NewProtection::Unsecured => Protection::Unsecured,
            NewProtection::Password(_) => Protection::Password,
            NewProtection::Pin => Protection::Pin,
        }
    }
}

/// A password for a role: 1 to 256 bytes.
#[derive(Debug)]
pub struct NewPassword(Secret);

/// Why a text cannot be a role's password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password is 1 to 256 bytes long")]
pub struct NotAPassword;

impl NewPassword {
    /// Takes a text for a password.
    ///
    /// # Errors
    /// [`NotAPassword`].
    pub fn parse(text: Secret) -> Result<NewPassword, NotAPassword> {
        if (1..=256).contains(&text.expose().len()) { Ok(NewPassword(text)) } else { Err(NotAPassword) }
    }

    /// What is to be hashed.
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}
