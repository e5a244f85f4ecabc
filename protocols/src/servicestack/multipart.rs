//! `multipart/form-data` (RFC 7578) over a body that is there as a whole.
//!
//! The readers that others offer wait for a body that arrives piece by piece; this one has nothing to wait for. It refuses to
//! know what a part is for.

use crate::servicestack::value::{Budget, Unreadable, same};

/// How many bytes the header fields of a part may take.
const MOST_HEAD: usize = 4096;

/// A part that has a name.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(super) struct Part<'a> {
    /// The name of the field.
    pub(super) name: String,
    /// Whether it came with the name of a file.
    pub(super) is_file: bool,
    /// Its content.
    pub(super) content: &'a [u8],
}

/// Reads the parts. One without a name is passed over.
///
/// # Errors
/// It does not end with its boundary, a part has no end of its header fields, or a bound is passed.
pub(super) fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Part<'a>>, Unreadable> {
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        // What stands before the first boundary is for mail programs of old.
        None => split(body, &delimiter).ok_or(Unreadable::Grammar)?.1,
    };
    let mut budget = Budget::new();
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        budget.spend()?;
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        // The line end stays: where there are no header fields, it begins the empty line.
        let (head, after) = match rest[padding..].strip_prefix(b"\r\n") {
            Some(after) if after.starts_with(b"\r\n") => (&[] as &[u8], &after[2..]),
            Some(after) => {
                let window = &after[..after.len().min(MOST_HEAD)];
                let (head, _) = split(window, b"\r\n\r\n").ok_or(Unreadable::Grammar)?;
                (head, &after[head.len() + 4..])
            }
            None => return Err(Unreadable::Grammar),
        };
        // An empty content has its boundary right after the empty line.
        let (content, after) = match after.strip_prefix(&delimiter[2..]) {
            Some(rest) => (&[] as &[u8], rest),
            None => split(after, &delimiter).ok_or(Unreadable::Grammar)?,
        };
        rest = after;
        let head = std::str::from_utf8(head).map_err(|_| Unreadable::Encoding)?;
        let disposition =
            head.split("\r\n").filter_map(|line| line.split_once(':')).find(|(name, _)| same(name, "content-disposition"));
        if let Some((name, is_file)) = disposition.and_then(|(_, value)| field(value)) {
            parts.push(Part { name, is_file, content });
        }
    }
    Ok(parts)
}

/// The boundary in a `Content-Type`, where it is one (RFC 2046 section 5.1.1).
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (_, parameters) = content_type.split_once(';')?;
    let (_, boundary) = self::parameters(parameters).into_iter().find(|(name, _)| same(name, "boundary"))?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    ((1..=70).contains(&boundary.len()) && boundary.bytes().all(is_allowed)).then_some(boundary)
}

/// The name of the field and whether it is a file.
fn field(disposition: &str) -> Option<(String, bool)> {
    let (kind, parameters) = disposition.split_once(';')?;
    if !same(kind.trim(), "form-data") {
        return None;
    }
    let (mut field, mut is_file) = (None, false);
    for (name, value) in self::parameters(parameters) {
        is_file |= same(&name, "filename") || same(&name, "filename*");
        if same(&name, "name") {
            field = Some(value);
        }
    }
    Some((field?, is_file))
}

/// `name=value; name="value"`, in order. A backslash in a quoted value stands for what follows it.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut letters = text.chars().peekable();
    while letters.peek().is_some() {
        let mut name = String::new();
        while let Some(letter) = letters.next_if(|letter| !matches!(letter, '=' | ';')) {
            name.push(letter);
        }
        let mut value = String::new();
        if letters.next() == Some('=') {
            let mut quoted = letters.next_if_eq(&'"').is_some();
            while let Some(letter) = letters.next_if(|letter| quoted || *letter != ';') {
                match letter {
                    '"' if quoted => quoted = false,
                    '\\' if quoted => value.extend(letters.next()),
                    letter => value.push(letter),
                }
            }
            letters.next();
        }
        found.push((name.trim().to_owned(), value.trim_end().to_owned()));
    }
    found
}

/// What stands before and after the first place of `separator`. Each separator here begins with a carriage return and has no
/// further one but in its own repetition, so that the search is linear.
fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::servicestack::value::MOST;

    fn told(body: &str) -> Result<Vec<(String, bool, String)>, Unreadable> {
        let parts = parts(body.as_bytes(), "b'1")?;
        Ok(parts.into_iter().map(|part| (part.name, part.is_file, String::from_utf8_lossy(part.content).into_owned())).collect())
    }

    #[test]
    fn parts_are_told_apart_by_their_boundary_only() {
        let body = "preamble\r\n--b'1 \t\r\ncontent-disposition:form-data; name=UserName\r\nContent-Type: text/plain\r\n\r\n\
                    a\r\n--b'2\r\n\r\n--b'1\r\nContent-Disposition: form-data; filename=\"x;y\"; \
                    name=\"a\\\"b\"\r\n\r\n\r\n--b'1\r\n\
                    \r\nnobody's\r\n--b'1\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n--b'1\r\n\
                    Content-Disposition: attachment; name=\"c\"\r\n\r\nx\r\n--b'1--\r\nepilogue";
        let expected = [("UserName", false, "a\r\n--b'2\r\n"), ("a\"b", true, ""), ("empty", false, "")];
        assert_eq!(told(body), Ok(expected.map(|(name, file, content)| (name.to_owned(), file, content.to_owned())).to_vec()));
        assert_eq!(told("--b'1--"), Ok(Vec::new()));
    }

    #[test]
    fn what_does_not_end_is_refused() {
        let whole = "--b'1\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b'1--";
        assert!(told(whole).is_ok());
        for length in 0..whole.len() {
            assert_eq!(told(&whole[..length]), Err(Unreadable::Grammar), "{}", &whole[..length]);
        }
        let long = format!("--b'1\r\nX: {}\r\n\r\nx\r\n--b'1--", "x".repeat(MOST_HEAD));
        assert_eq!(told(&long), Err(Unreadable::Grammar));
        let many = format!("--b'1{}--", "\r\n\r\nx\r\n--b'1".repeat(MOST + 1));
        assert_eq!(told(&many), Err(Unreadable::TooMany));
    }

    #[test]
    fn a_boundary_is_read_from_the_content_type() {
        let rows = [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; charset=utf-8; BOUNDARY=\"a b:c\" ; x=y", Some("a b:c")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"a\r\nb\"", None),
            ("multipart/form-data; boundary=\u{e9}", None),
        ];
        for (content_type, expected) in rows {
            assert_eq!(boundary(content_type).as_deref(), expected, "{content_type}");
        }
        assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(71))), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            pieces in "(\r\n|--|b'1|:|;|=|\"|a|name|form-data|content-disposition){0,30}"
        ) {
            let _ = parts(&bytes, "b'1");
            if let Ok(parts) = parts(pieces.as_bytes(), "b'1") {
                prop_assert!(parts.iter().map(|part| part.content.len()).sum::<usize>() <= pieces.len());
            }
            let _ = boundary(&pieces);
        }
    }
}
