//! What may be shown as proof: [`Credential`].

use crate::account::ClientId;
use crate::secret::Secret;

/// A claim with its proof.
#[derive(Debug)]
pub enum Credential {
    /// A user's name or e-mail address, and the password.
    Password {
        /// As it was typed.
        name: String,
        /// As it was typed.
        password: Secret,
    },
    /// A client's id, and its secret where it has shown one.
    Client {
        /// As it was sent; `None` where no client can have such an id.
        id: Option<ClientId>,
        /// As it was sent.
        secret: Option<Secret>,
    },
    /// A token that we drew. Two readings of one string are one credential, tried in order.
    Token {
        /// The readings.
        any_of: Vec<Secret>,
    },
    /// A grant that somebody issued for this client.
    Code {
        /// As it was sent.
        code: Secret,
    },
}
