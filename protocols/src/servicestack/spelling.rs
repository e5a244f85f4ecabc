//! How this wire spells what is drawn for it: ids of letters and digits, which need no escape wherever they are put.

use gatepost_identity::reply::{NewToken, Spelled};
use gatepost_identity::secret::Secret;

use crate::Seed;
use crate::servicestack::claims::{self, Common};
use crate::vouching::{Rights, Vouched};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How this gate writes tokens.
pub(super) fn spell(token: &NewToken<'_>) -> Spelled {
    match token {
        NewToken::Cookie { random } => Spelled::Text(Secret::new(digits(*random))),
        NewToken::Access { principal, audience, number, issued_at, expires_at, basis } => {
            let common =
                Common { principal, audience, number: *number, issued_at: *issued_at, expires_at: *expires_at, basis: *basis };
            Spelled::Signed { typ: "JWT", claims: claims::access(&common) }
        }
        NewToken::Refresh { principal, audience, number, issued_at, expires_at, basis } => {
            let common =
                Common { principal, audience, number: *number, issued_at: *issued_at, expires_at: *expires_at, basis: *basis };
            Spelled::Signed { typ: "JWTR", claims: claims::refresh(&common) }
        }
        NewToken::Upstream { audience, issuer, principal, issued_at, expires_at } => {
            let (issued_at, expires_at) = (*issued_at, *expires_at);
            Vouched { issuer, audience, principal, issued_at, expires_at }.spelled(Rights::RolesAndPermissions)
        }
        NewToken::Restore { .. } | NewToken::Terminal(_) => Spelled::Never,
    }
}

/// Ids for a browser that has none, made of the chance that came with the request once they are needed. They open nothing: only
/// what the core has drawn does.
#[derive(Clone, Copy)]
pub(super) struct EmptyIds(pub(super) Seed);

impl EmptyIds {
    /// In the place of a session for now.
    pub(super) fn temporary(&self) -> String {
        digits(&self.0[..8])
    }

    /// In the place of a session that is remembered.
    pub(super) fn permanent(&self) -> String {
        digits(&self.0[8..])
    }
}

/// A number in base 62, as long for all numbers of as many bytes.
fn digits(bytes: &[u8]) -> String {
    let mut number = bytes.to_vec();
    // 62 to the power of 43 is more than 256 to the power of 32, and 43/32 of the bytes, rounded up, always do.
    let length = (bytes.len() * 43).div_ceil(32);
    let mut text = vec![b'0'; length];
    for digit in text.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in &mut number {
            let part = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(part / 62).unwrap_or(u8::MAX);
            rest = part % 62;
        }
        *digit = DIGITS.get(rest as usize).copied().unwrap_or(b'0');
    }
    text.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_holds_all_the_chance_in_letters_and_digits() {
        let written = |random: &[u8; 32]| match spell(&NewToken::Cookie { random }) {
            Spelled::Text(text) => text.expose_text().expect("text").to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(written(&[0; 32]), "0".repeat(43));
        let mut one = [0; 32];
        one[31] = 62;
        assert_eq!(written(&one), format!("{}10", "0".repeat(41)));
        let most = written(&[255; 32]);
        assert!(most.len() == 43 && most.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{most}");
        // 256^32 - 1 in base 62: nothing is cut off in front.
        assert!(!most.starts_with('0'), "{most}");
        let mut other = [255; 32];
        other[0] = 254;
        assert_ne!(most, written(&other));
    }

    #[test]
    fn empty_ids_differ_and_need_no_escape() {
        let ids = EmptyIds([7, 1, 2, 3, 4, 5, 6, 7, 255, 255, 255, 255, 255, 255, 255, 255]);
        let (temporary, permanent) = (ids.temporary(), ids.permanent());
        assert_ne!(temporary, permanent);
        assert_eq!((temporary.len(), permanent.len()), (11, 11));
        assert!(permanent.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
