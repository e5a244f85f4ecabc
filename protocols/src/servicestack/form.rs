//! Queries and forms: names and texts, and no more. Lists and maps are JSV in their text.
//!
//! A name that comes twice is one member, its texts joined by a comma, as the framework joins them: a list may be said so
//! (`Roles=a&Roles=b`), and of a doubled password or provider neither one nor the other wins.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::servicestack::multipart;
use crate::servicestack::value::{Budget, Fields, MOST, Unreadable, Value};

/// Reads a query without its `?`. What goes past the bound is not looked at: a query has no format that it could break.
pub(super) fn query(text: &str) -> Fields<'_> {
    join(form_urlencoded::parse(text.as_bytes()).take(MOST))
}

/// Reads the body of a form that is encoded as a query is.
///
/// # Errors
/// It goes past a bound.
pub(super) fn urlencoded(body: &[u8]) -> Result<Fields<'_>, Unreadable> {
    let mut budget = Budget::new();
    let pairs: Result<Vec<_>, _> = form_urlencoded::parse(body).map(|pair| budget.spend().map(|()| pair)).collect();
    Ok(join(pairs?))
}

/// Reads the body of a form in parts. Files among them are passed over.
///
/// # Errors
/// It breaks the grammar, holds a field that is not UTF-8, or goes past a bound.
pub(super) fn parts<'a>(body: &'a [u8], boundary: &str) -> Result<Fields<'a>, Unreadable> {
    let mut pairs = Vec::new();
    for part in multipart::parts(body, boundary)?.into_iter().filter(|part| !part.is_file) {
        let text = std::str::from_utf8(part.content).map_err(|_| Unreadable::Encoding)?;
        pairs.push((Cow::Owned(part.name), Cow::Borrowed(text)));
    }
    Ok(join(pairs))
}

fn join<'a>(pairs: impl IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> Fields<'a> {
    let mut members: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
    let mut places = BTreeMap::new();
    for (name, text) in pairs {
        match places.entry(name.to_ascii_lowercase()) {
            Entry::Vacant(vacant) => {
                vacant.insert(members.len());
                members.push((name, text));
            }
            Entry::Occupied(place) => {
                let joined = members[*place.get()].1.to_mut();
                joined.push(',');
                joined.push_str(&text);
            }
        }
    }
    Fields::new(members.into_iter().map(|(name, text)| (name, Value::Text(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_decoded() {
        let read = query("userName=ada%40example.org&Password=p+w%26%c3%a9&empty=&bare&&=x&bad=%zz");
        let told = ["UserName", "PASSWORD", "empty", "bare", "", "bad", "none"].map(|name| read.peek(name));
        assert_eq!(told, [Some("ada@example.org"), Some("p w&é"), Some(""), Some(""), Some("x"), Some("%zz"), None]);
        assert_eq!(urlencoded(b"a=b"), Ok(query("a=b")));
    }

    #[test]
    fn a_doubled_name_is_joined_so_that_neither_wins() {
        let mut read = query("Roles=Admin&roles=Editor&provider=credentials&Provider=basic");
        assert_eq!(read.texts("Roles"), Ok(vec!["Admin".to_owned(), "Editor".to_owned()]));
        assert_eq!(read.peek("provider"), Some("credentials,basic"));
    }

    #[test]
    fn lists_and_maps_are_jsv() {
        let mut read = query("Meta=%7Bignore:jwt%7D&Roles=%5BAdmin,%22a,b%22%5D");
        assert_eq!(read.map("Meta").unwrap().value("ignore"), Some("jwt"));
        assert_eq!(read.texts("Roles"), Ok(vec!["Admin".to_owned(), "a,b".to_owned()]));
    }

    #[test]
    fn many_fields_are_refused_in_a_body_and_cut_in_a_query() {
        let many = |count: usize| (0..count).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join("&");
        assert_eq!(urlencoded(many(MOST).as_bytes()).unwrap().names().count(), MOST);
        assert_eq!(urlencoded(many(MOST + 1).as_bytes()), Err(Unreadable::TooMany));
        assert_eq!(query(&many(MOST + 1)).names().count(), MOST);
    }

    #[test]
    fn fields_in_parts_are_read_and_files_are_not() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"UserName\"\r\n\r\nada\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n\u{1}\r\n--b--\r\n";
        let read = parts(body.as_bytes(), "b").unwrap();
        assert_eq!((read.peek("username"), read.peek("file")), (Some("ada"), None));
        let at = body.find("ada").unwrap();
        let broken = [&body.as_bytes()[..at], b"\xff", &body.as_bytes()[at + 3..]].concat();
        assert_eq!(parts(&broken, "b"), Err(Unreadable::Encoding));
    }
}
