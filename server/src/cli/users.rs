//! `gatepost user`: what may be typed about users, and the operation that it stands for.

use clap::{Args, Subcommand};

use super::{PAGE, moment, secret};
use crate::operator::Operation;

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Add a user; the password comes from standard input or a prompt
    Add(Adding),
    /// List the users
    List,
    /// Show one user
    Show(Named),
    /// Change names, address, picture, rights, scopes or expiry
    Set(Setting),
    /// Switch a user off and end the sessions
    Disable(Named),
    /// Switch a user on
    Enable(Named),
    /// Forget failed attempts, so that the user need not wait
    Unlock(Named),
    /// Set the password, from standard input or a prompt, and end the sessions
    SetPassword {
        /// The user's name or e-mail address
        name: String,
        /// Take the password away
        #[arg(long)]
        none: bool,
    },
    /// Remove a user and end the sessions
    Remove(Named),
}

#[derive(Debug, Args)]
pub(super) struct Adding {
    /// The name to log in with
    name: String,
    /// The id that peers are told [default: the name]
    #[arg(long)]
    id: Option<String>,
    /// An address to log in with
    #[arg(long)]
    email: Option<String>,
    /// A friendly name
    #[arg(long)]
    display_name: Option<String>,
    /// The given name
    #[arg(long)]
    first_name: Option<String>,
    /// The family name
    #[arg(long)]
    last_name: Option<String>,
    /// Where a picture is
    #[arg(long, value_name = "URL")]
    profile_url: Option<String>,
    /// A role; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A permission; may be repeated
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// A scope that the user holds; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// When the account ends: 2027-01-31, or 2027-01-31T12:00:00Z
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    expires: Option<i64>,
    /// Let tokens go on that an application has signed for the user since then; its key is taken over by `key import`
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    signed_since: Option<i64>,
    /// Without a password: nobody can log in with one
    #[arg(long)]
    no_password: bool,
}

#[derive(Debug, Args)]
pub(super) struct Setting {
    /// The user's name or e-mail address
    name: String,
    /// Another name
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// Another address; empty takes it away
    #[arg(long)]
    email: Option<String>,
    /// Another friendly name; empty takes it away
    #[arg(long)]
    display_name: Option<String>,
    /// Another given name; empty takes it away
    #[arg(long)]
    first_name: Option<String>,
    /// Another family name; empty takes it away
    #[arg(long)]
    last_name: Option<String>,
    /// Another picture; empty takes it away
    #[arg(long, value_name = "URL")]
    profile_url: Option<String>,
    /// A role; those given are all
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "no_roles")]
    roles: Vec<String>,
    /// No role
    #[arg(long)]
    no_roles: bool,
    /// A permission; those given are all
    #[arg(long = "permission", value_name = "PERMISSION", conflicts_with = "no_permissions")]
    permissions: Vec<String>,
    /// No permission
    #[arg(long)]
    no_permissions: bool,
    /// A scope; those given are all
    #[arg(long = "scope", value_name = "SCOPE", conflicts_with = "no_scopes")]
    scopes: Vec<String>,
    /// No scope
    #[arg(long)]
    no_scopes: bool,
    /// When the account ends; `never` takes the end away
    #[arg(long, value_name = "MOMENT", value_parser = moment)]
    expires: Option<i64>,
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// The user's name or e-mail address
    name: String,
}

impl User {
    pub(super) fn operation(self) -> Result<Operation, String> {
        Ok(match self {
            User::Add(Adding {
                name,
                id,
                email,
                display_name,
                first_name,
                last_name,
                profile_url,
                roles,
                permissions,
                scopes,
                expires,
                no_password,
                signed_since,
            }) => {
                let password = if no_password { None } else { Some(secret("Password")?) };
                let expires_at = expires.filter(|&end| end != 0);
                Operation::UserAdd {
                    name,
                    id,
                    email,
                    display_name,
                    first_name,
                    last_name,
                    profile_url,
                    roles,
                    permissions,
                    scopes,
                    expires_at,
                    password,
                    signed_since,
                }
            }
            User::List => Operation::UserList { after: None, limit: PAGE },
            User::Show(Named { name }) => Operation::UserShow { name },
            User::Set(set) => Operation::UserSet {
                name: set.name,
                new_name: set.rename,
                email: set.email,
                display_name: set.display_name,
                first_name: set.first_name,
                last_name: set.last_name,
                profile_url: set.profile_url,
                roles: (set.no_roles || !set.roles.is_empty()).then_some(set.roles),
                permissions: (set.no_permissions || !set.permissions.is_empty()).then_some(set.permissions),
                scopes: (set.no_scopes || !set.scopes.is_empty()).then_some(set.scopes),
                expires_at: set.expires,
            },
            User::Disable(Named { name }) => Operation::UserDisable { name },
            User::Enable(Named { name }) => Operation::UserEnable { name },
            User::Unlock(Named { name }) => Operation::UserUnlock { name },
            User::SetPassword { name, none } => {
                Operation::UserSetPassword { name, password: if none { None } else { Some(secret("New password")?) } }
            }
            User::Remove(Named { name }) => Operation::UserRemove { name },
        })
    }
}
