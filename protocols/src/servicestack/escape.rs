//! How this wire escapes texts in addresses and in cookies, and reads what others have escaped there.

/// Only letters, digits and `,-.` stand for themselves; a blank is `+`, and the rest is in hexadecimal with small letters, as
/// the framework writes it everywhere.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b',' | b'-' | b'.' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            byte => push_hex(&mut out, byte),
        }
    }
    out
}

/// An address as it can stand in a header field: what is no visible letter of ASCII is escaped, escapes stay as they are.
pub(super) fn for_a_header(address: &str) -> String {
    let mut out = String::with_capacity(address.len());
    for byte in address.bytes() {
        match byte {
            byte if byte.is_ascii_graphic() => out.push(char::from(byte)),
            byte => push_hex(&mut out, byte),
        }
    }
    out
}

fn push_hex(out: &mut String, byte: u8) {
    let digit = |four: u8| char::from_digit(u32::from(four), 16).unwrap_or('0');
    out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// A part of a path without its escapes; `+` is a blank here too. A broken escape stands for itself.
pub(super) fn unescaped(part: &str) -> String {
    // Most parts have none.
    if !part.contains(['+', '%']) {
        return part.to_owned();
    }
    let blanks = part.replace('+', " ");
    let mut pieces = blanks.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_the_framework_does() {
        assert_eq!(escaped("Invalid Username or Password"), "Invalid+Username+or+Password");
        assert_eq!(escaped("a_b/c?d=é&~,-."), "a%5fb%2fc%3fd%3d%c3%a9%26%7e,-.");
        assert_eq!(for_a_header("/a b?é=%41\t#x"), "/a%20b?%c3%a9=%41%09#x");
    }

    #[test]
    fn parts_of_paths_are_read() {
        let rows = [
            ("a+b", "a b"),
            ("a%2fb", "a/b"),
            ("%41%c3%a9", "Aé"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%+1", "% 1"),
            ("%é", "%é"),
            ("%ff", "\u{fffd}"),
        ];
        for (part, expected) in rows {
            assert_eq!(unescaped(part), expected, "{part}");
        }
    }
}
