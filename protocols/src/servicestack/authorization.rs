//! The `Authorization` header field: a name and a password, a key, or a token, with every request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatepost_identity::secret::Secret;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::servicestack::value::same;

/// What the field says.
#[derive(Debug)]
pub(super) enum Authorization {
    /// Nothing of a scheme that is known, or no name.
    Nothing,
    /// A name and a password (RFC 7617).
    Basic(String, Secret),
    /// A key in the place of a name, without a password.
    Key(Secret),
    /// A key or a token (RFC 6750).
    Bearer(Secret),
    /// It is meant to be one of them and cannot be read, or there are several.
    Broken,
}

impl Authorization {
    /// Reads the field.
    pub(super) fn read(headers: &HeaderMap) -> Authorization {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let Some(field) = fields.next() else { return Authorization::Nothing };
        if fields.next().is_some() {
            return Authorization::Broken;
        }
        let Some((scheme, text)) = field.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return Authorization::Nothing;
        };
        match text.trim() {
            "" => Authorization::Nothing,
            text if same(scheme, "bearer") => Authorization::Bearer(Secret::new(text)),
            text if same(scheme, "basic") => basic(text),
            _ => Authorization::Nothing,
        }
    }
}

fn basic(encoded: &str) -> Authorization {
    let Some(text) = STANDARD.decode(encoded).ok().map(Secret::new) else { return Authorization::Broken };
    let Some(text) = text.expose_text() else { return Authorization::Broken };
    match text.split_once(':') {
        Some((key, "")) if !key.is_empty() => Authorization::Key(Secret::new(key)),
        Some((name, password)) if !password.is_empty() => Authorization::Basic(name.to_owned(), Secret::new(password)),
        _ => Authorization::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(fields: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(field.as_bytes()).expect("a header's value"));
        }
        let text = |secret: &Secret| secret.expose_text().expect("text").to_owned();
        let told = match Authorization::read(&headers) {
            Authorization::Nothing => "nothing".to_owned(),
            Authorization::Broken => "broken".to_owned(),
            Authorization::Key(key) => format!("key {}", text(&key)),
            Authorization::Bearer(token) => format!("bearer {}", text(&token)),
            Authorization::Basic(name, password) => format!("{name} {}", text(&password)),
        };
        assert_eq!(told, expected, "{fields:?}");
    }

    #[test]
    fn names_keys_and_tokens_are_read() {
        check(&[], "nothing");
        check(&["Bearer a.b.c"], "bearer a.b.c");
        check(&["bearer  key "], "bearer key");
        check(&["Bearer"], "nothing");
        check(&["Bearer "], "nothing");
        check(&["Digest x"], "nothing");
        check(&["Basic"], "nothing");
        let encoded = |text: &str| format!("basic {}", STANDARD.encode(text));
        check(&[&encoded("ada:p:w:1")], "ada p:w:1");
        check(&[&encoded("ä:ö")], "ä ö");
        check(&[&encoded("ada")], "nothing");
        check(&[&encoded("key:")], "key key");
        check(&[&encoded(":")], "nothing");
        check(&[&encoded(":pw")], " pw");
        check(&["BASIC !!"], "broken");
        check(&["Basic /w=="], "broken");
        check(&[&encoded("ada:pw"), &encoded("bob:pw")], "broken");
    }
}
