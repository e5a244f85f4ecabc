//! `gatepost terminal`: what may be typed about terminals, and the operation that it stands for.

use clap::{Args, Subcommand, ValueEnum};

use super::secret;
use crate::operator::Operation;

#[derive(Debug, Subcommand)]
pub(super) enum Terminal {
    /// Add a terminal, open until it is protected. One that the settings name is added by itself when the server starts
    Add {
        /// Its name
        name: String,
        /// Its plan; secrets, and the split into user and administrator, are of the plan `pro`
        #[arg(long, value_enum, default_value_t = Plan::Pro)]
        plan: Plan,
    },
    /// List the terminals
    List,
    /// Show one terminal
    Show(Named),
    /// Protect a role by a password from standard input or a prompt, by a PIN that is drawn and shown, or by nothing. Whoever holds
    /// the role is told to come in anew
    Protect {
        /// Its name
        name: String,
        /// Whose protection
        #[arg(value_enum)]
        role: Role,
        /// By what
        #[arg(value_enum)]
        by: By,
    },
    /// Show a role's PIN
    ShowPin {
        /// Its name
        name: String,
        /// Whose PIN
        #[arg(value_enum)]
        role: Role,
    },
    /// Put a terminal on another plan
    Plan {
        /// Its name
        name: String,
        /// The plan
        #[arg(value_enum)]
        plan: Plan,
    },
    /// Remove a terminal that is not served
    Remove(Named),
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name
    name: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Plan {
    Free,
    Pro,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Role {
    User,
    Administrator,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum By {
    Unsecured,
    Password,
    Pin,
}

/// The word that was typed.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Terminal {
    pub(super) fn operation(self) -> Result<Operation, String> {
        Ok(match self {
            Terminal::Add { name, plan } => Operation::TerminalAdd { name, plan: word(plan) },
            Terminal::List => Operation::TerminalList,
            Terminal::Show(Named { name }) => Operation::TerminalShow { name },
            Terminal::Protect { name, role, by } => {
                let password = if matches!(by, By::Password) { Some(secret("Password")?) } else { None };
                Operation::TerminalProtect { name, role: word(role), by: word(by), password }
            }
            Terminal::ShowPin { name, role } => Operation::TerminalShowPin { name, role: word(role) },
            Terminal::Plan { name, plan } => Operation::TerminalPlan { name, plan: word(plan) },
            Terminal::Remove(Named { name }) => Operation::TerminalRemove { name },
        })
    }
}
