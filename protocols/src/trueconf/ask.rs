//! What this gate asks of the core, what the core answers, and what befalls a connection unasked.
//!
//! Each [`Ask`] is one question with one kind of answer; a message asks at most one.

use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::chain::TerminalReason;
use gatepost_identity::terminal::{IssuedTerminalToken, NewProtection, No, Plan, ShownProtection, TerminalRole, TerminalToken};

/// One question. What a terminal is meant follows from where the connection was accepted.
#[derive(Debug)]
pub enum Ask {
    /// Hold a role. Answered by [`Said::Granted`] with a token of each kind.
    Authorise {
        /// What is shown.
        proof: Proof,
        /// The role that was asked for by name.
        role: Option<TerminalRole>,
    },
    /// Step down to a role, by what the connection holds. Answered as [`Ask::Authorise`].
    Narrow(TerminalRole),
    /// A token for whoever the connection holds. Answered by [`Said::Granted`] with that token.
    Issue(TerminalToken),
    /// How the terminal is protected, as far as the connection may know. Answered by [`Said::Protection`].
    Protection,
    /// Protect a role otherwise. Answered by [`Said::ProtectionSet`].
    SetProtection {
        /// Whose.
        of: TerminalRole,
        /// How.
        to: NewProtection,
    },
    /// End tokens of the terminal. Answered by [`Said::Done`].
    End(Ending),
    /// Whose a token is. Answered by [`Said::Granted`] without tokens.
    Recognise {
        /// The token, as it was sent.
        token: Secret,
        /// The kinds that it may be of.
        any_of: &'static [TerminalToken],
    },
}

/// What is shown to be authorised.
#[derive(Debug)]
pub enum Proof {
    /// Nothing.
    Nothing,
    /// A string, which only the terminal can make sense of.
    Text {
        /// As it was sent.
        text: Secret,
        /// Whether it looks like a token of ours.
        token_shaped: bool,
    },
}

/// Which tokens are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of them; an administrator's wish.
    Everything,
    /// Those for drawing over pictures, since another picture begins.
    Pictures,
}

/// A positive answer.
#[derive(Debug)]
pub enum Said {
    /// Who is there now, and what is told once.
    Granted(Granted),
    /// How the terminal is protected.
    Protection(ShownProtection),
    /// The protection is set.
    ProtectionSet {
        /// The PIN, where one was drawn.
        new_pin: Option<Secret>,
        /// New tokens, where it was the protection of the connection's own role.
        tokens: Vec<IssuedTerminalToken>,
    },
    /// It is done.
    Done,
}

/// A grant.
#[derive(Debug)]
pub struct Granted {
    /// The role.
    pub role: TerminalRole,
    /// When it ends; none: with the program.
    pub expires_at: Option<Timestamp>,
    /// What is told once.
    pub tokens: Vec<IssuedTerminalToken>,
}

/// What befalls a connection without its asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It is no longer authorised.
    Detached(TerminalReason),
    /// The terminal's plan is now this one, and the connection stays authorised.
    PlanIs(Plan),
}

impl Said {
    /// The grant. Any other answer to a question that grants would be our own bug, told as unavailable.
    pub(super) fn granted(self) -> Result<Granted, No> {
        match self {
            Said::Granted(granted) => Ok(granted),
            Said::Protection(_) | Said::ProtectionSet { .. } | Said::Done => Err(Refusal::Unavailable.into()),
        }
    }

    /// The protection. As [`Said::granted`].
    pub(super) fn protection(self) -> Result<ShownProtection, No> {
        match self {
            Said::Protection(protection) => Ok(protection),
            Said::Granted(_) | Said::ProtectionSet { .. } | Said::Done => Err(Refusal::Unavailable.into()),
        }
    }

    /// The new PIN and the new tokens. As [`Said::granted`].
    pub(super) fn protection_set(self) -> Result<(Option<Secret>, Vec<IssuedTerminalToken>), No> {
        match self {
            Said::ProtectionSet { new_pin, tokens } => Ok((new_pin, tokens)),
            Said::Granted(_) | Said::Protection(_) | Said::Done => Err(Refusal::Unavailable.into()),
        }
    }

    /// That it is done. As [`Said::granted`].
    pub(super) fn done(self) -> Result<(), No> {
        match self {
            Said::Done => Ok(()),
            Said::Granted(_) | Said::Protection(_) | Said::ProtectionSet { .. } => Err(Refusal::Unavailable.into()),
        }
    }
}
