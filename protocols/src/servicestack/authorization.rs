//! The `Authorization` header field, where it is of RFC 7617: a name and a password with every request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatepost_identity::credential::Credential;
use gatepost_identity::secret::Secret;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::servicestack::value::same;

/// What the field says.
#[derive(Debug)]
pub(super) enum Basic {
    /// Nothing of this scheme, or no name with a password.
    Nothing,
    /// A name and a password.
    Shown(Credential),
    /// It is meant to be of this scheme and cannot be read, or there are several.
    Broken,
}

impl Basic {
    /// Reads the field.
    pub(super) fn read(headers: &HeaderMap) -> Basic {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let Some(field) = fields.next() else { return Basic::Nothing };
        if fields.next().is_some() {
            return Basic::Broken;
        }
        let Some((_, text)) = field.to_str().ok().and_then(|text| text.split_once(' ')).filter(|(scheme, _)| same(scheme, "basic"))
        else {
            return Basic::Nothing;
        };
        let Some(text) = STANDARD.decode(text.trim()).ok().map(Secret::new) else { return Basic::Broken };
        let Some(text) = text.expose_text() else { return Basic::Broken };
        match text.split_once(':') {
            Some((name, password)) if !password.is_empty() => {
                Basic::Shown(Credential::Password { name: name.to_owned(), password: Secret::new(password) })
            }
            _ => Basic::Nothing,
        }
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
        let told = match Basic::read(&headers) {
            Basic::Nothing => "nothing".to_owned(),
            Basic::Broken => "broken".to_owned(),
            Basic::Shown(Credential::Password { name, password }) => format!("{name} {}", password.expose_text().expect("text")),
            Basic::Shown(other) => panic!("{other:?}"),
        };
        assert_eq!(told, expected, "{fields:?}");
    }

    #[test]
    fn a_name_and_a_password_are_read() {
        check(&[], "nothing");
        check(&["Bearer eA=="], "nothing");
        check(&["Basic"], "nothing");
        let encoded = |text: &str| format!("basic {}", STANDARD.encode(text));
        check(&[&encoded("ada:p:w:1")], "ada p:w:1");
        check(&[&encoded("ä:ö")], "ä ö");
        check(&[&encoded("ada")], "nothing");
        check(&[&encoded("key:")], "nothing");
        check(&[&encoded(":pw")], " pw");
        check(&["BASIC !!"], "broken");
        check(&["Basic /w=="], "broken");
        check(&[&encoded("ada:pw"), &encoded("bob:pw")], "broken");
    }
}
