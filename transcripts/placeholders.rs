//! Placeholders in transcripts: what stands for a text that is another one each time.

use std::collections::BTreeMap;

/// A piece of a text in a script.
pub(super) enum Part<'a> {
    /// What stands for itself.
    Literal(&'a str),
    /// The word, and what follows it.
    Placeholder(&'a str, &'a str),
}

/// Those that stand for a secret, which nobody can write down beforehand.
pub(super) const SECRETS: [&str; 9] = ["key", "jwt", "token", "id", "none", "connection", "http", "overlay", "pin"];

/// The others that make `<..>` a placeholder; anything else between angle brackets is text.
const WORDS: [&str; 12] =
    ["any", "picture", "date", "basicdate", "span", "version", "number", "deep", "long", "strings", "bom", "cr"];

/// Takes a text apart.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while let Some(open) = text[at..].find('<').map(|found| at + found) {
        at = open + 1;
        let Some(close) = text[at..].find('>').map(|found| at + found) else { break };
        let (word, rest) = text[at..close].split_once(' ').unwrap_or((&text[at..close], ""));
        if WORDS.contains(&word) || SECRETS.contains(&word) {
            parts.push(Part::Literal(&text[from..open]));
            parts.push(Part::Placeholder(word, rest));
            from = close + 1;
            at = from;
        }
    }
    parts.push(Part::Literal(&text[from..]));
    parts
}

/// Whether `text` is what `pattern` says. A token seen for the first time is remembered, and must be another than every
/// one before it.
pub(super) fn matches(pattern: &str, text: &str, tokens: &mut BTreeMap<String, String>) -> bool {
    let mut rest = text;
    for part in parts(pattern) {
        let length = match part {
            Part::Literal(literal) => rest.starts_with(literal).then_some(literal.len()),
            Part::Placeholder(word, name) if SECRETS.contains(&word) => {
                let length = match word {
                    "token" => token(rest),
                    "id" => id(rest, 43),
                    "key" => Some(letters(rest, is_url_safe)).filter(|length| *length == 32),
                    "jwt" => Some(letters(rest, |byte| is_url_safe(byte) || byte == b'.'))
                        .filter(|length| rest[..*length].matches('.').count() == 2),
                    "connection" => numbered(rest, b"1"),
                    "http" => numbered(rest, b"45"),
                    "overlay" => numbered(rest, b"6"),
                    "pin" => letters_of_a_pin(rest),
                    _ => id(rest, 11),
                };
                length.filter(|length| {
                    let seen = &rest[..*length];
                    match tokens.get(name) {
                        Some(known) => known == seen,
                        None if tokens.values().any(|other| other == seen) => false,
                        None => tokens.insert(name.to_owned(), seen.to_owned()).is_none(),
                    }
                })
            }
            Part::Placeholder("any", _) => rest.find('"'),
            Part::Placeholder("picture", _) => {
                const END: &str = "%3C/svg%3E";
                rest.find(END).filter(|_| rest.starts_with("data:image/svg+xml,")).map(|at| at + END.len())
            }
            Part::Placeholder("date", _) => shaped(rest, "9999-99-99T99:99:99Z"),
            Part::Placeholder("basicdate", _) => shaped(rest, "99999999T999999Z"),
            Part::Placeholder("span", _) => shaped(rest, "99:99:99.9999999"),
            Part::Placeholder("number", _) => Some(letters(rest, |byte| byte.is_ascii_digit())).filter(|digits| *digits > 0),
            Part::Placeholder("version", _) => Some(rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count()),
            Part::Placeholder(..) => None,
        };
        match length.and_then(|length| rest.get(length..)) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// The length of a Base-64 text of 32 bytes.
fn token(text: &str) -> Option<usize> {
    let token = text.as_bytes().get(..44)?;
    let digits = token[..43].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    (digits && token[43] == b'=').then_some(44)
}

/// The length of a terminal's token of one of these kinds.
fn numbered(text: &str, kinds: &[u8]) -> Option<usize> {
    let token = text.as_bytes().get(..94)?;
    let double = |pair: &[u8]| matches!(pair, [b'3', b'0'..=b'9'] | [b'4', b'1'..=b'6']);
    let shaped = kinds.contains(&token[0])
        && [1, 18, 29].iter().all(|place| token[*place] == b'*')
        && token[2..18].iter().all(u8::is_ascii_alphanumeric)
        && token[19..29].iter().all(u8::is_ascii_digit)
        && token[30..].chunks(2).all(double);
    shaped.then_some(94)
}

/// The length of a PIN as a terminal draws it.
fn letters_of_a_pin(text: &str) -> Option<usize> {
    let pin = text.as_bytes().get(..6)?;
    pin.iter().all(|byte| b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ".contains(byte)).then_some(6)
}

fn is_url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// How many of these a text begins with.
fn letters(text: &str, is_one: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| is_one(*byte)).count()
}

/// So many letters and digits, and no more of them.
fn id(text: &str, length: usize) -> Option<usize> {
    let found = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    (found == length).then_some(length)
}

/// A secret in another spelling, by its name. All but `spaced`, `encoded`, `basic` and `lower` are spellings that no wire has.
pub(super) fn spelled(token: &str, spelling: &str) -> Option<String> {
    let unpadded = token.trim_end_matches('=');
    Some(match spelling {
        "" => token.to_owned(),
        "unpadded" => unpadded.to_owned(),
        // In the place of a name, without a password.
        "basic" => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{token}:")),
        "cut" => token[..token.len() - 1].to_owned(),
        "url" => unpadded.replace('+', "-").replace('/', "_"),
        // The last letter stands for four bits and two zeros, so that the letter behind it stands for the same four.
        "trailing" => {
            let (front, last) = unpadded.split_at(unpadded.len() - 1);
            format!("{front}{}=", char::from(last.as_bytes()[0] + 1))
        }
        "spaced" => format!("{} {}", &token[..20], &token[20..]),
        "encoded" => token.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace('*', "%2A"),
        "lower" => token.to_ascii_lowercase(),
        // One letter is another, and the form is kept: 1 and 2 end a pair of hexadecimal digits wherever they stand.
        "altered" => {
            let (front, last) = token.split_at(token.len() - 1);
            format!("{front}{}", if last == "1" { '2' } else { '1' })
        }
        _ => return None,
    })
}

/// The length of `shape`, if `text` begins like it; a 9 stands for any digit.
fn shaped(text: &str, shape: &str) -> Option<usize> {
    let text = text.as_bytes().get(..shape.len())?;
    let alike = |(byte, shape): (&u8, u8)| if shape == b'9' { byte.is_ascii_digit() } else { *byte == shape };
    text.iter().zip(shape.bytes()).all(alike).then_some(shape.len())
}
