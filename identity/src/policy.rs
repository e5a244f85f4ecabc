//! May this account come in, this way, now? Pure functions of facts and a moment.
//!
//! They are asked only after the secret was proved, but for [`may_try_password`], which is asked before anything is looked
//! at and so tells nothing about anybody.

use crate::account::{Account, Client, Status};
use crate::clock::Timestamp;
use crate::command::Peer;
use crate::refusal::Refusal;

/// Whether user and client may be used now.
///
/// # Errors
/// [`Refusal::AccountUnavailable`].
pub fn may_enter(account: Option<&Account>, client: Option<&Client>, now: Timestamp) -> Result<(), Refusal> {
    let usable = |status: Status, expires_at: Option<Timestamp>| status == Status::Active && expires_at.is_none_or(|end| now < end);
    let account_usable = account.is_none_or(|account| usable(account.status, account.expires_at));
    let client_usable = client.is_none_or(|client| usable(client.status, client.expires_at));
    if account_usable && client_usable { Ok(()) } else { Err(Refusal::AccountUnavailable) }
}

/// Whether anybody may come through this client now. That is no matter of what they show.
///
/// # Errors
/// [`Refusal::InvalidClient`].
pub fn may_come_through(client: &Client, now: Timestamp) -> Result<(), Refusal> {
    may_enter(None, Some(client), now).map_err(|_| Refusal::InvalidClient)
}

/// Whether a password may be sent by this way at all. On loopback nobody else listens.
///
/// # Errors
/// [`Refusal::InsecureTransport`].
pub fn may_try_password(require_secure: bool, peer: &Peer) -> Result<(), Refusal> {
    let private = peer.secure || peer.address.to_canonical().is_loopback();
    if private || !require_secure { Ok(()) } else { Err(Refusal::InsecureTransport) }
}

/// Whether secure-only scopes may travel this way. Loopback is no exception: what is granted there is often forwarded.
pub fn carries_secure_scopes(require_secure: bool, peer: &Peer) -> bool {
    peer.secure || !require_secure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, client};

    #[test]
    fn who_may_enter() {
        let at = Timestamp::from_millis;
        let check = |status, expires_at, client_status, client_expires_at, expected: bool| {
            let account = Account { status, expires_at, ..account("ann") };
            let client = Client { status: client_status, expires_at: client_expires_at, ..client("app") };
            assert_eq!(may_enter(Some(&account), Some(&client), at(1000)).is_ok(), expected, "{account:?} {client:?}");
        };
        use Status::{Active, Disabled};
        check(Active, None, Active, None, true);
        check(Disabled, None, Active, None, false);
        check(Active, None, Disabled, None, false);
        check(Active, Some(at(1001)), Active, None, true);
        check(Active, Some(at(1000)), Active, None, false);
        check(Active, None, Active, Some(at(1000)), false);
        assert!(may_enter(None, Some(&client("app")), at(1000)).is_ok());
        assert_eq!(may_come_through(&client("app"), at(1000)), Ok(()));
        let disabled = Client { status: Status::Disabled, ..client("app") };
        assert_eq!(may_come_through(&disabled, at(1000)), Err(Refusal::InvalidClient));
        assert!(may_enter(Some(&account("ann")), None, at(1000)).is_ok());
    }

    #[test]
    fn passwords_need_a_private_way() {
        let check = |require, secure, address: &str, expected: bool| {
            let peer = Peer { address: address.parse().expect("an address"), secure };
            assert_eq!(may_try_password(require, &peer).is_ok(), expected, "{require} {peer:?}");
        };
        check(true, false, "192.0.2.1", false);
        check(true, true, "192.0.2.1", true);
        check(true, false, "127.0.0.9", true);
        check(true, false, "::1", true);
        check(true, false, "::ffff:127.0.0.1", true);
        check(false, false, "192.0.2.1", true);
    }
}
