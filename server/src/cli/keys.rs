//! `gatepost apikey`, `gatepost key` and `gatepost token`: what may be typed about keys of either kind and what they sign, and the operation that it stands for.

use std::io::Read;

use clap::{Args, Subcommand};

use super::moment;
use crate::operator::{Operation, Told};

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
    /// Cancel a key, or all of a user
    Revoke {
        /// The user's name or e-mail address
        user: String,
        /// The first letters of the key; one of them may be a hyphen
        #[arg(allow_hyphen_values = true, required_unless_present = "all", conflicts_with = "all")]
        prefix: Option<String>,
        /// Cancel every key of the user
        #[arg(long)]
        all: bool,
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
            ApiKey::Revoke { user, prefix: Some(prefix), .. } => Operation::ApiKeyRevoke { user, prefix },
            ApiKey::Revoke { user, prefix: None, .. } => Operation::ApiKeyRevokeAll { user },
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key, which signs from now on
    Add {
        /// EdDSA for what this server says of itself; HS256, HS384, HS512, RS256, RS384 or RS512 for peers' tokens
        #[arg(long, value_name = "NAME")]
        algorithm: String,
    },
    /// Take over a key from standard input: base64 for HS256, HS384 and HS512, PEM for RS256, RS384 and RS512
    Import {
        /// How it signs
        #[arg(long, value_name = "NAME")]
        algorithm: String,
    },
    /// List the keys, oldest first
    List,
    /// Let a key sign no more; what it has signed is verified until none of that can live
    Retire {
        /// Its number
        number: u64,
        /// Verify nothing with it from now on
        #[arg(long)]
        now: bool,
    },
}

/// The longest key that is read, in bytes: an RSA key of 8192 bits in PEM has less than half of it.
const LONGEST: u64 = 16 * 1024;

impl Key {
    pub(super) fn operation(self) -> Result<Operation, String> {
        Ok(match self {
            Key::Add { algorithm } => Operation::KeyAdd { algorithm },
            Key::Import { algorithm } => {
                let mut text = String::new();
                let read = std::io::stdin().lock().take(LONGEST).read_to_string(&mut text);
                read.map_err(|error| format!("standard input: {error}"))?;
                Operation::KeyImport { algorithm, key: Told::new(text) }
            }
            Key::List => Operation::KeyList,
            Key::Retire { number, now } => Operation::KeyRetire { number, now },
        })
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Say that the tokens of a number are no longer good
    Revoke {
        /// The number: the claim `jti`; those of refresh tokens are below zero
        #[arg(allow_negative_numbers = true)]
        jti: String,
    },
}
