//! How this wire writes tokens, roles and protections.
//!
//! A token looks like those of the devices themselves, since a client may keep it where it expects one:
//!
//! ```text
//! 1*aB3dE5gH7jK9mN1p*1999999999*3041...   kind, 16 letters of chance, the end in Unix seconds, 16 bytes in hexadecimal twice
//! ```
//!
//! The form means nothing here: the core's record of the whole text decides. So nothing in it is signed, and whoever alters a
//! field has made up a token that nobody knows.

use gatepost_identity::clock::Timestamp;
use gatepost_identity::reply::{NewToken, Reason, Spelled};
use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::{NewTerminalToken, Protection, TerminalRole, TerminalToken};

/// The alphabet of the second field.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Each digit's own letter in hexadecimal.
const DIGITS: [&str; 16] = ["30", "31", "32", "33", "34", "35", "36", "37", "38", "39", "41", "42", "43", "44", "45", "46"];
/// How many texts of eight letters there are.
const EIGHT_LETTERS: u128 = 62_u128.pow(8);
/// The end that a token without one shows, after its issue: clients seen show such dates, and read them nowhere.
const A_YEAR_SECONDS: i64 = 365 * 24 * 60 * 60;
/// The last second that ten digits can say.
const LAST_SECOND: i64 = 9_999_999_999;

/// How a token is written.
pub(super) fn spell(token: &NewToken<'_>) -> Spelled {
    match token {
        NewToken::Terminal(token) => Spelled::Text(spelled(token)),
        NewToken::Restore { .. }
        | NewToken::Cookie { .. }
        | NewToken::Access { .. }
        | NewToken::Refresh { .. }
        | NewToken::Upstream { .. } => Spelled::Never,
    }
}

fn spelled(token: &NewTerminalToken<'_>) -> Secret {
    let kind = match (token.kind, token.expires_at) {
        (TerminalToken::Connection, _) => '1',
        (TerminalToken::Http, Some(_)) => '4',
        (TerminalToken::Http, None) => '5',
        (TerminalToken::Overlay, _) => '6',
    };
    let seconds = |moment: Timestamp| moment.millis().div_euclid(1000);
    let end = token.expires_at.map_or_else(|| seconds(token.issued_at).saturating_add(A_YEAR_SECONDS), seconds);
    let (first, last) = token.random.split_at(16);
    let mut chance = [0; 16];
    chance.copy_from_slice(first);
    let chance = u128::from_le_bytes(chance);
    // Large enough from the start: a text that grows leaves copies behind, which nobody wipes.
    let mut text = String::with_capacity(94);
    text.push(kind);
    text.push('*');
    // Eight letters at a time, since a processor divides 64 bits by itself and 128 it does not.
    for eight in [chance % EIGHT_LETTERS, chance / EIGHT_LETTERS % EIGHT_LETTERS] {
        let mut eight = eight as u64;
        for _ in 0..8 {
            text.push(char::from(LETTERS[(eight % 62) as usize]));
            eight /= 62;
        }
    }
    text.push('*');
    push_seconds(end.clamp(0, LAST_SECOND), &mut text);
    text.push('*');
    for byte in last {
        for digit in [byte >> 4, byte & 15] {
            text.push_str(DIGITS[usize::from(digit)]);
        }
    }
    Secret::new(text)
}

/// Ten digits.
fn push_seconds(seconds: i64, text: &mut String) {
    let mut place = 1_000_000_000;
    while place > 0 {
        text.push(char::from(b'0' + (seconds / place % 10) as u8));
        place /= 10;
    }
}

/// Whether a text is written as a token is.
pub(super) fn is_token(text: &str) -> bool {
    let mut fields = text.split('*');
    let mut field = |length: usize, made_of: fn(&[u8]) -> bool| {
        fields.next().is_some_and(|field| field.len() == length && made_of(field.as_bytes()))
    };
    let shaped = field(1, |kind| matches!(kind, b"1" | b"4" | b"5" | b"6"))
        && field(16, |letters| letters.iter().all(u8::is_ascii_alphanumeric))
        && field(10, |digits| digits.iter().all(u8::is_ascii_digit))
        && field(64, |digits| digits.chunks(2).all(|pair| matches!(pair, [b'3', b'0'..=b'9'] | [b'4', b'1'..=b'6'])));
    shaped && fields.next().is_none()
}

/// The role of that name, in exactly that case.
pub(super) fn role_named(name: &str) -> Option<TerminalRole> {
    match name {
        "admin" => Some(TerminalRole::Administrator),
        "user" => Some(TerminalRole::User),
        _ => None,
    }
}

/// What `previleges`, which is the member's real name, says of a role.
pub(super) fn privileges(role: TerminalRole) -> &'static str {
    match role {
        TerminalRole::User => "1",
        TerminalRole::Administrator => "2",
    }
}

/// What `security` says of a protection.
pub(super) fn security(protection: Protection) -> &'static str {
    match protection {
        Protection::Unsecured => "\"unsecured\"",
        Protection::Password => "\"password\"",
        Protection::Pin => "\"pin\"",
    }
}

/// What `cause` says of a reason. A cause of its own for "somebody ended it" is not published; to a client it is what an expired
/// token is: authorise again.
pub(super) fn cause(reason: Reason) -> u8 {
    match reason {
        Reason::Displaced => 1,
        Reason::ProtectionReset => 2,
        Reason::ProtectionChanged { of: TerminalRole::Administrator, .. } => 3,
        Reason::ProtectionChanged { of: TerminalRole::User, by: TerminalRole::Administrator } => 4,
        Reason::ProtectionChanged { of: TerminalRole::User, by: TerminalRole::User } => 5,
        Reason::PlanLost => 6,
        Reason::Expired | Reason::Revoked => 8,
    }
}

/// The member of an answer to `auth` or `setAuthParams` that tells a token.
pub(super) fn member_for(kind: TerminalToken) -> &'static str {
    match kind {
        TerminalToken::Connection => "token",
        TerminalToken::Http => "tokenForHttpServer",
        TerminalToken::Overlay => "overlayHttpToken",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_999);

    fn spelled(kind: TerminalToken, random: [u8; 32], expires_at: Option<Timestamp>) -> String {
        let new = NewToken::Terminal(NewTerminalToken { kind, random: &random, issued_at: NOW, expires_at });
        let Spelled::Text(secret) = spell(&new) else { panic!("it is a text") };
        secret.expose_text().expect("text").to_owned()
    }

    #[test]
    fn a_token_is_written_as_those_of_the_devices() {
        let end = Some(Timestamp::from_millis(1_902_592_000_999));
        let zeros = spelled(TerminalToken::Connection, [0; 32], end);
        assert_eq!(zeros, format!("1*{}*1902592000*{}", "A".repeat(16), "30".repeat(32)));
        assert_eq!(zeros.len(), 94);
        let mut random = [0; 32];
        random[..3].copy_from_slice(&[0xff, 0x01, 0x00]);
        random[16..19].copy_from_slice(&[0x9a, 0xf0, 0x0f]);
        let some = spelled(TerminalToken::Http, random, end);
        // 511 is 15 and 8 times 62; 9A F0 0F in hexadecimal is 39 41, 46 30, 30 46.
        assert_eq!(some, format!("4*PI{}*1902592000*394146303046{}", "A".repeat(14), "30".repeat(26)));
        for (kind, end, expected) in
            [(TerminalToken::Http, None, "5*"), (TerminalToken::Overlay, None, "6*"), (TerminalToken::Connection, None, "1*")]
        {
            let token = spelled(kind, [0xff; 32], end);
            assert!(token.starts_with(expected), "{token}");
            assert_eq!(token.split('*').nth(2), Some("1931536000"), "a year on, where it ends with the program");
        }
        assert!(spelled(TerminalToken::Http, [1; 32], Some(Timestamp::from_millis(i64::MAX))).contains("*9999999999*"));
        assert!(spelled(TerminalToken::Http, [1; 32], Some(Timestamp::from_millis(-1))).contains("*0000000000*"));
    }

    #[test]
    fn what_is_written_here_is_known_by_its_form_and_nothing_else_is() {
        let token = spelled(TerminalToken::Overlay, *b"0123456789abcdefghijklmnopqrstuv", Some(NOW));
        assert!(is_token(&token), "{token}");
        for (from, to) in [("6*", "2*"), ("6*", "6"), ("6*", "66*"), ("1900000000", "190000000"), ("1900000000", "19000000x0")] {
            assert!(!is_token(&token.replacen(from, to, 1)), "{from} {to}");
        }
        for end in ["3", "303", "2F", "3A", "47", "4a", "40"] {
            assert!(!is_token(&format!("{}{end}", &token[..92])), "{end}");
        }
        assert!(is_token(&format!("{}46", &token[..92])));
        for other in [format!("{token}*"), format!("{token} "), token[1..].to_owned(), String::new(), "****".to_owned()] {
            assert!(!is_token(&other), "{other}");
        }
        assert!(!is_token(&token.replacen("6*", "6*ä", 1)));
    }

    #[test]
    fn tokens_of_other_bytes_are_others_in_both_fields_of_chance() {
        let field = |token: &str, number| token.split('*').nth(number).map(str::to_owned);
        let one = spelled(TerminalToken::Connection, [7; 32], Some(NOW));
        let mut random = [7; 32];
        random[15] = 8;
        let other = spelled(TerminalToken::Connection, random, Some(NOW));
        // The sixteenth byte counts most, and what is left of it after sixteen letters is all that is lost.
        assert_ne!(field(&one, 1), field(&other, 1));
        assert_eq!(field(&one, 3), field(&other, 3));
        random[31] = 8;
        assert_ne!(field(&one, 3), field(&spelled(TerminalToken::Connection, random, Some(NOW)), 3));
    }
}
