//! What we drew: tokens and ids. Draws them, hashes them, and decides whether one still stands.
//!
//! A token carries no meaning in its text; the record decides, and only the hash of the text is kept. A token that restores
//! a session rolls: each presentation grows a branch of its own.
//!
//! ```text
//! T0 --presented--> T1 --presented--> T2      T0 is superseded when T1 is presented, and good for a while longer.
//!  \--presented--> T1'                        T1' is a sibling; it supersedes T0 only when it is presented itself.
//! ```

use std::time::Duration;

use uuid::Uuid;

use crate::clock::{Entropy, Timestamp, draw};
use crate::refusal::Refusal;
use crate::reply::{NewToken, Spelled};
use crate::secret::Secret;
use crate::session::SessionId;
use crate::store::{Token, TokenHash};

/// A token that speaks for a session, as a gate spells it, and the hash that is kept of it. `kind` makes a token of chance.
///
/// # Errors
/// [`Refusal::Unavailable`] where the gate does not spell it as text.
pub fn issue(
    kind: impl for<'r> FnOnce(&'r [u8; 32]) -> NewToken<'r>,
    spell: impl FnOnce(&NewToken<'_>) -> Result<Spelled, Refusal>,
    entropy: &dyn Entropy,
) -> Result<(Secret, TokenHash), Refusal> {
    let random = zeroize::Zeroizing::new(draw::<32>(entropy));
    let secret = spell(&kind(&random))?.text()?;
    let hash = hash(&secret);
    Ok((secret, hash))
}

/// The SHA-256 of a token's bytes. A fast hash is enough: nobody searches 256 bits.
pub fn hash(token: &Secret) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose()).as_ref());
    hash
}

/// A fresh id that sorts by time (RFC 9562 section 5.7).
pub fn id(now: Timestamp, entropy: &dyn Entropy) -> Uuid {
    let millis = u64::try_from(now.millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &draw::<10>(entropy)).into_uuid()
}

/// A fresh session id.
pub fn session_id(now: Timestamp, entropy: &dyn Entropy) -> SessionId {
    SessionId(id(now, entropy))
}

/// Whether a token still stands at `now`.
///
/// # Errors
/// [`Refusal::Expired`] after its own life, [`Refusal::Revoked`] once it was superseded for longer than `overlap`.
pub fn standing(token: &Token, overlap: Duration, now: Timestamp) -> Result<(), Refusal> {
    if now >= token.expires_at {
        return Err(Refusal::Expired);
    }
    match token.superseded_at {
        Some(at) if now > at.after(overlap) => Err(Refusal::Revoked),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;

    #[test]
    fn a_token_stands_for_its_life_and_for_the_overlap_after_its_successor_was_used() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let token = |superseded_at| Token {
            hash: [0; 32],
            session: SessionId(Uuid::nil()),
            parent: None,
            issued_at: at(0),
            expires_at: at(1000),
            presented_at: None,
            superseded_at,
        };
        let minute = Duration::from_secs(60);
        assert_eq!(standing(&token(None), minute, at(999)), Ok(()));
        assert_eq!(standing(&token(None), minute, at(1000)), Err(Refusal::Expired));
        assert_eq!(standing(&token(Some(at(100))), minute, at(160)), Ok(()));
        assert_eq!(standing(&token(Some(at(100))), minute, at(161)), Err(Refusal::Revoked));
        assert_eq!(standing(&token(Some(at(990))), minute, at(1000)), Err(Refusal::Expired), "never past its own life");
    }

    #[test]
    fn ids_sort_by_time_and_tokens_differ() {
        let (early, late) = (id(Timestamp::from_millis(1), &SystemEntropy), id(Timestamp::from_millis(2), &SystemEntropy));
        assert!(early < late);
        let draw = || issue(restoring, as_drawn, &SystemEntropy).expect("spelled");
        let (one, other) = (draw(), draw());
        assert_ne!(one.1, other.1);
        assert_eq!(one.1, hash(&one.0));
    }

    fn restoring(random: &[u8; 32]) -> NewToken<'_> {
        NewToken::Restore { random }
    }

    fn as_drawn(token: &NewToken<'_>) -> Result<Spelled, Refusal> {
        let NewToken::Restore { random } = token else { panic!("it restores a session") };
        Ok(Spelled::Text(Secret::new(random.as_slice())))
    }

    #[test]
    fn a_restoring_token_that_a_gate_would_have_signed_is_our_own_fault() {
        let signed = |_: &NewToken<'_>| Ok(Spelled::Signed { typ: "JWT", claims: b"{}".to_vec() });
        assert_eq!(issue(restoring, signed, &SystemEntropy).map(|_| ()), Err(Refusal::Unavailable));
        let never = |_: &NewToken<'_>| Ok(Spelled::Never);
        assert_eq!(issue(restoring, never, &SystemEntropy).map(|_| ()), Err(Refusal::Unavailable));
        let text = Spelled::Text(Secret::new("text"));
        assert_eq!(text.signed().map(|_| ()), Err(Refusal::Unavailable), "and the other way round");
    }
}
