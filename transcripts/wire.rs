//! What differs from wire to wire in a transcript: how a connection opens by itself, what it is asked at the end, and how the
//! secrets look that nobody can write down beforehand.

use serde_json::Value;

/// A wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The Zenith WebSocket API.
    Zenith,
    /// The control socket of a terminal.
    TrueConf,
}

/// Words that make `<..>` stand for a secret: what it looks like is in [`secret`].
pub const SECRETS: [&str; 5] = ["token", "connection", "http", "overlay", "pin"];

impl Wire {
    /// The wire whose transcripts are in a folder of this name.
    pub fn of(folder: &str) -> Option<Wire> {
        match folder {
            "zenith" => Some(Wire::Zenith),
            "trueconf" => Some(Wire::TrueConf),
            _ => None,
        }
    }

    /// What a connection opens with that no line has opened, and the sub-protocol that it then gets.
    pub fn opening(self) -> (&'static str, Option<&'static str>) {
        match self {
            Wire::Zenith => ("/Zenith?version=2.0 offering ZenithJson", Some("ZenithJson")),
            Wire::TrueConf => ("/", None),
        }
    }

    /// A question that every connection answers at once, whoever holds it.
    pub fn closing_question(self, number: u64) -> String {
        match self {
            Wire::Zenith => format!(r#"{{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":{number}}}"#),
            Wire::TrueConf => format!(r#"{{"method":"setUsedApiVersion","version":"1","requestId":{number}}}"#),
        }
    }

    /// Whether this answers that question.
    pub fn is_closing_answer(self, answer: &Value, number: u64) -> bool {
        match self {
            Wire::Zenith => answer["TransactionID"] == number && answer["Topic"] == "QueryIdentify",
            Wire::TrueConf => answer["requestId"] == number && answer["method"] == "setUsedApiVersion",
        }
    }
}

/// The length of a secret of this kind, if a text begins with one.
pub fn secret(kind: &str, text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let begins = |length: usize, made_of: &dyn Fn(&[u8]) -> bool| bytes.get(..length).is_some_and(made_of).then_some(length);
    let numbered = |kinds: &'static [u8]| {
        begins(94, &|token| {
            let double = |pair: &[u8]| matches!(pair, [b'3', b'0'..=b'9'] | [b'4', b'1'..=b'6']);
            kinds.contains(&token[0])
                && [1, 18, 29].iter().all(|place| token[*place] == b'*')
                && token[2..18].iter().all(u8::is_ascii_alphanumeric)
                && token[19..29].iter().all(u8::is_ascii_digit)
                && token[30..].chunks(2).all(double)
        })
    };
    match kind {
        // Base-64 of 32 bytes.
        "token" => begins(44, &|token| {
            let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
            token[..43].iter().all(letter) && token[43] == b'='
        }),
        "connection" => numbered(b"1"),
        "http" => numbered(b"45"),
        "overlay" => numbered(b"6"),
        "pin" => begins(6, &|pin| pin.iter().all(|byte| b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ".contains(byte))),
        _ => None,
    }
}

/// A secret in another spelling, by its name. All but `spaced`, `encoded` and `lower` are spellings that no wire has.
pub fn spelled(secret: &str, spelling: &str) -> Option<String> {
    let unpadded = secret.trim_end_matches('=');
    Some(match spelling {
        "" => secret.to_owned(),
        "unpadded" => unpadded.to_owned(),
        "url" => unpadded.replace('+', "-").replace('/', "_"),
        // The last letter stands for four bits and two zeros, so that the letter behind it stands for the same four.
        "trailing" => {
            let (front, last) = unpadded.split_at(unpadded.len() - 1);
            format!("{front}{}=", char::from(last.as_bytes()[0] + 1))
        }
        "spaced" => format!("{} {}", &secret[..20], &secret[20..]),
        "encoded" => secret.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace('*', "%2A"),
        "lower" => secret.to_ascii_lowercase(),
        // One letter is another, and the form is kept: 1 and 2 end a pair of hexadecimal digits wherever they stand.
        "altered" => {
            let (front, last) = secret.split_at(secret.len() - 1);
            format!("{front}{}", if last == "1" { '2' } else { '1' })
        }
        _ => return None,
    })
}
