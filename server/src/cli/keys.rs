//! `gatepost apikey`: what may be typed about API keys, and the operation that it stands for.

use clap::{Args, Subcommand};

use super::moment;
use crate::operator::Operation;

#[derive(Debug, Subcommand)]
pub(super) enum ApiKey {
    /// Make a key and show it once
    Add {
        /// The user's name or e-mail address
        user: String,
        /// What it is to be used with
        #[arg(long, value_name = "NAME", default_value = "live")]
        environment: String,
        /// When it ends: 2027-01-31, or 2027-01-31T12:00:00Z
        #[arg(long, value_name = "MOMENT", value_parser = moment)]
        expires: Option<i64>,
    },
    /// List a user's keys, newest first
    List(Of),
    /// Cancel a key
    Revoke {
        /// The user's name or e-mail address
        user: String,
        /// The first letters of the key
        prefix: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Of {
    /// The user's name or e-mail address
    user: String,
}

impl Of {
    pub(super) fn operation(self) -> Operation {
        Operation::ApiKeyList { user: self.user }
    }
}

impl ApiKey {
    pub(super) fn operation(self) -> Operation {
        match self {
            ApiKey::Add { user, environment, expires } => {
                Operation::ApiKeyAdd { user, environment, expires_at: expires.filter(|&end| end != 0) }
            }
            ApiKey::List(of) => of.operation(),
            ApiKey::Revoke { user, prefix } => Operation::ApiKeyRevoke { user, prefix },
        }
    }
}
