//! The formats by name: what a body is in, what an answer is in, and who reads and writes each.

use crate::servicestack::dto::Dto;
use crate::servicestack::style::Style;
use crate::servicestack::value::{Body, Fields, Unreadable, same};
use crate::servicestack::{csv, form, html, json, jsv, multipart, xml};

/// A format that an answer can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON.
    Json,
    /// XML in the form of .NET's data contracts.
    Xml,
    /// JSV.
    Jsv,
    /// CSV.
    Csv,
    /// A page for people.
    Html,
}

impl Format {
    /// Every one.
    pub(super) const ALL: [Format; 5] = [Format::Json, Format::Xml, Format::Jsv, Format::Csv, Format::Html];

    /// Its name in a path and in a query.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Xml => "xml",
            Format::Jsv => "jsv",
            Format::Csv => "csv",
            Format::Html => "html",
        }
    }

    /// The format of that name, in any case.
    pub(super) fn find(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| same(format.name(), name))
    }

    /// Its registered media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Xml => "application/xml",
            Format::Jsv => "application/jsv",
            Format::Csv => "text/csv",
            Format::Html => "text/html",
        }
    }

    /// The `Content-Type` of an answer in it.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json; charset=utf-8",
            Format::Html => "text/html; charset=utf-8",
            // The document says itself what it is in, or the type is as old as its clients.
            Format::Xml | Format::Jsv | Format::Csv => self.media_type(),
        }
    }

    /// Writes an answer. `title` is the name of what was asked for, for the page.
    pub(super) fn write(self, title: &str, dto: &Dto<'_>, style: &Style) -> String {
        match self {
            Format::Json => json::write(dto, style),
            Format::Xml => xml::write(dto),
            Format::Jsv => jsv::write(dto, style),
            Format::Csv => csv::write(dto),
            Format::Html => html::page(title, dto, style),
        }
    }
}

/// The media type in a `Content-Type` or in an entry of `Accept`, without its parameters.
pub(super) fn media_type(header: &str) -> &str {
    header.split(';').next().unwrap_or_default().trim()
}

/// What a body is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BodyFormat {
    /// An object.
    Object(Format),
    /// A form encoded as a query is.
    UrlEncoded,
    /// A form in parts, with its boundary; without one it cannot be read.
    Multipart(Option<String>),
    /// Something that no request is in; the body says nothing.
    Unknown,
}

impl BodyFormat {
    /// What a body on a route of the service's own is in, by its `Content-Type`; an empty text where there is none.
    pub(super) fn of(content_type: &str) -> BodyFormat {
        let is = |names: &[&str]| names.iter().any(|name| same(name, media_type(content_type)));
        if is(&["application/json", "text/json"]) {
            BodyFormat::Object(Format::Json)
        } else if is(&["application/jsv", "text/jsv"]) {
            BodyFormat::Object(Format::Jsv)
        } else if is(&["application/xml", "text/xml"]) {
            BodyFormat::Object(Format::Xml)
        } else if is(&["text/csv"]) {
            BodyFormat::Object(Format::Csv)
        } else if is(&["application/x-www-form-urlencoded"]) {
            BodyFormat::UrlEncoded
        } else if is(&["multipart/form-data"]) {
            BodyFormat::Multipart(multipart::boundary(content_type))
        } else {
            BodyFormat::Unknown
        }
    }

    /// What a body on a pre-defined route of `own` is in: in that, whatever its `Content-Type` says, unless it is a form. A
    /// page reads what it is sent.
    pub(super) fn of_predefined(own: Format, content_type: &str) -> BodyFormat {
        match BodyFormat::of(content_type) {
            form @ (BodyFormat::UrlEncoded | BodyFormat::Multipart(_)) => form,
            said if own == Format::Html => said,
            BodyFormat::Object(_) | BodyFormat::Unknown => BodyFormat::Object(own),
        }
    }

    /// The media type that a "no" names.
    pub(super) fn media_type(&self) -> &'static str {
        match self {
            BodyFormat::Object(format) => format.media_type(),
            BodyFormat::UrlEncoded => "application/x-www-form-urlencoded",
            BodyFormat::Multipart(_) => "multipart/form-data",
            BodyFormat::Unknown => "application/octet-stream",
        }
    }

    /// Reads a body; `name` is that of the request that it must be, where its format says so. Nothing but blanks is nothing.
    ///
    /// # Errors
    /// It is not in this format, is no object, or goes past a bound.
    pub(super) fn read<'a>(&self, body: &'a [u8], name: &str) -> Result<Body<'a>, Unreadable> {
        match self {
            BodyFormat::UrlEncoded => form::urlencoded(body).map(Body::Form),
            BodyFormat::Multipart(_) if body.is_empty() => Ok(Body::Form(Fields::default())),
            BodyFormat::Multipart(boundary) => form::parts(body, boundary.as_ref().ok_or(Unreadable::Grammar)?).map(Body::Form),
            BodyFormat::Unknown => Ok(Body::Object(Fields::default())),
            BodyFormat::Object(format) => {
                let text = std::str::from_utf8(body).map_err(|_| Unreadable::Encoding)?;
                let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                if text.trim().is_empty() {
                    return Ok(Body::Object(Fields::default()));
                }
                let fields = match format {
                    Format::Json => Fields::of(json::read(text)?),
                    Format::Jsv => Fields::of(jsv::read(text)?),
                    Format::Xml => Fields::of(xml::read(text, name)?),
                    Format::Csv => csv::read(text),
                    Format::Html => Err(Unreadable::Shape),
                };
                fields.map(Body::Object)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_is_in_what_its_type_says() {
        let object = |format| BodyFormat::Object(format);
        let rows = [
            ("application/json", object(Format::Json)),
            ("Application/JSON; charset=utf-8", object(Format::Json)),
            ("text/json", object(Format::Json)),
            ("application/jsv", object(Format::Jsv)),
            ("text/jsv", object(Format::Jsv)),
            ("application/xml; charset=utf-8", object(Format::Xml)),
            ("text/xml", object(Format::Xml)),
            ("text/csv", object(Format::Csv)),
            ("application/x-www-form-urlencoded; charset=utf-8", BodyFormat::UrlEncoded),
            ("multipart/form-data; boundary=x", BodyFormat::Multipart(Some("x".to_owned()))),
            ("multipart/form-data", BodyFormat::Multipart(None)),
            ("text/plain;charset=UTF-8", BodyFormat::Unknown),
            ("text/html", BodyFormat::Unknown),
            ("application/jsonp", BodyFormat::Unknown),
            ("", BodyFormat::Unknown),
        ];
        for (content_type, expected) in rows {
            assert_eq!(BodyFormat::of(content_type), expected, "{content_type}");
            let named = expected.media_type();
            assert!(expected == BodyFormat::Unknown || BodyFormat::of(named).media_type() == named, "{content_type}");
        }
    }

    #[test]
    fn a_predefined_route_reads_its_own_format_whatever_the_type_says() {
        let read = BodyFormat::of_predefined;
        assert_eq!(read(Format::Json, "text/plain;charset=UTF-8"), BodyFormat::Object(Format::Json));
        assert_eq!(read(Format::Json, "application/xml"), BodyFormat::Object(Format::Json));
        assert_eq!(read(Format::Jsv, ""), BodyFormat::Object(Format::Jsv));
        assert_eq!(read(Format::Json, "application/x-www-form-urlencoded"), BodyFormat::UrlEncoded);
        assert_eq!(read(Format::Html, "application/json"), BodyFormat::Object(Format::Json));
        assert_eq!(read(Format::Html, "text/plain"), BodyFormat::Unknown);
        assert_eq!(read(Format::Json, "text/xml").media_type(), "application/json");
    }

    /// One login in every format.
    const LOGINS: [(&str, &str); 8] = [
        ("application/json", r#"{"userName":"ada","Password":"p,w:1","rememberMe":true,"Meta":{"ignore":"jwt"},"x":[{"y":1}]}"#),
        (
            "application/json",
            "\u{feff}{\"__type\":\"T, A\",\"UserName\":\"ada\",\"Password\":\"p,w:1\",\
             \"RememberMe\":\"True\",\"Meta\":\"{ignore:jwt}\"}",
        ),
        ("text/jsv", r#"{UserName:ada,Password:"p,w:1",RememberMe:True,Meta:{ignore:jwt},x:[{y:1}]}"#),
        (
            "text/jsv",
            "{\r\n\tUserName: ada,\r\n\tPassword: \"p,w:1\",\r\n\tRememberMe: True,\r\n\
             \tMeta: \r\n\t{\r\n\t\tignore: jwt\r\n\t}\r\n}\r\n",
        ),
        (
            "text/xml",
            "<Authenticate xmlns=\"http://schemas.servicestack.net/types\"><UserName>ada</UserName><Password>p,w:1</Password>\
             <RememberMe>true</RememberMe><Meta xmlns:d2p1=\"http://schemas.microsoft.com/2003/10/Serialization/Arrays\">\
             <d2p1:KeyValueOfstringstring><d2p1:Key>ignore</d2p1:Key><d2p1:Value>jwt</d2p1:Value></d2p1:KeyValueOfstringstring>\
             </Meta></Authenticate>",
        ),
        ("text/csv", "UserName,Password,RememberMe,Meta\r\nada,\"p,w:1\",True,{ignore:jwt}\r\n"),
        ("application/x-www-form-urlencoded", "username=ada&password=p%2Cw%3A1&rememberme=on&meta=%7Bignore%3Ajwt%7D"),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"UserName\"\r\n\r\nada\r\n--b\r\nContent-Disposition: form-data; \
             name=\"Password\"\r\n\r\np,w:1\r\n--b\r\nContent-Disposition: form-data; name=\"RememberMe\"\r\n\r\ntrue\r\n--b\r\n\
             Content-Disposition: form-data; name=\"Meta\"\r\n\r\n{ignore:jwt}\r\n--b--\r\n",
        ),
    ];

    #[test]
    fn one_login_means_the_same_in_every_format() {
        for (content_type, body) in LOGINS {
            let read = BodyFormat::of(content_type).read(body.as_bytes(), "Authenticate");
            let (Body::Object(mut fields) | Body::Form(mut fields)) = read.unwrap();
            assert_eq!(fields.text("UserName"), Ok(Some("ada".to_owned())), "{body}");
            assert_eq!(fields.secret("Password").unwrap().unwrap().expose_text(), Some("p,w:1"), "{body}");
            assert_eq!(fields.boolean("RememberMe"), Ok(Some(true)), "{body}");
            assert_eq!(fields.map("Meta").unwrap().value("ignore"), Some("jwt"), "{body}");
        }
    }

    #[test]
    fn nothing_is_an_empty_request_in_every_format() {
        for (content_type, _) in LOGINS {
            for body in ["", " \r\n", "\u{feff}"] {
                let form = matches!(BodyFormat::of(content_type), BodyFormat::UrlEncoded | BodyFormat::Multipart(_));
                if form && !body.is_empty() {
                    continue;
                }
                let read = BodyFormat::of(content_type).read(body.as_bytes(), "Authenticate").unwrap();
                assert!(
                    matches!(read, Body::Object(fields) | Body::Form(fields) if fields.names().next().is_none()),
                    "{content_type}"
                );
            }
        }
        assert_eq!(BodyFormat::of("text/plain").read(b"{\"a\":1}", "Authenticate"), Ok(Body::Object(Fields::default())));
        assert_eq!(BodyFormat::of("application/json").read(b"null", "Authenticate"), Ok(Body::Object(Fields::default())));
    }

    #[test]
    fn what_is_no_object_or_not_utf8_is_refused() {
        let read = |content_type, body: &[u8]| BodyFormat::of(content_type).read(body, "Authenticate").err();
        for body in ["[]", "\"x\"", "1", "[{\"UserName\":\"ada\"}]"] {
            assert_eq!(read("application/json", body.as_bytes()), Some(Unreadable::Shape), "{body}");
        }
        assert_eq!(read("text/jsv", b"[{UserName:ada}]"), Some(Unreadable::Shape));
        for content_type in ["application/json", "text/jsv", "text/xml", "text/csv"] {
            assert_eq!(read(content_type, b"{\"a\":\"\xff\"}"), Some(Unreadable::Encoding), "{content_type}");
        }
        assert_eq!(read("multipart/form-data", b"--b--"), Some(Unreadable::Grammar));
        assert_eq!(BodyFormat::Object(Format::Html).read(b"x", "Authenticate").err(), Some(Unreadable::Shape));
    }

    /// A megabyte in the time of a glance. What grew with its square would take minutes.
    #[test]
    fn a_long_body_takes_no_longer_than_its_length() {
        let xml = |inner: &str| format!("<Authenticate><a>{inner}</a></Authenticate>");
        let fill = |piece: &str| piece.repeat((1 << 20) / piece.len());
        let distinct = |item: fn(usize) -> String| (0..100_000).map(item).collect::<String>();
        let bodies = [
            ("application/json", format!("{{\"a\":\"{}\"}}", fill("\\n"))),
            ("application/json", format!("{{\"a\":{}0}}", fill("[0,"))),
            ("application/json", format!("{{{}\"a\":0}}", distinct(|index| format!("\"k{index}\":0,")))),
            ("text/jsv", format!("{{a:\"{}\"}}", fill("\"\""))),
            ("text/jsv", format!("{{a:[{}]}}", fill(","))),
            ("text/jsv", format!("{{\na:{}b}}", fill(" \n"))),
            ("text/jsv", fill("{a:\"")),
            ("text/jsv", fill("{\n")),
            ("text/jsv", format!("{{{}}}", distinct(|index| format!("k{index}:v,")))),
            ("text/xml", xml(&fill("&amp;"))),
            ("text/xml", xml(&fill("<!---->"))),
            ("text/xml", xml(&fill("<![CDATA[]]>"))),
            ("text/xml", xml(&fill("<?a?>"))),
            ("text/xml", xml(&fill("<!--"))),
            ("text/xml", xml(&fill("<![CDATA["))),
            ("text/xml", fill("<")),
            ("text/xml", format!("<Authenticate {}/>", fill("a=\"\" "))),
            ("text/xml", format!("<Authenticate {}/>", fill("="))),
            ("text/csv", fill("\"")),
            ("text/csv", fill(",")),
            ("text/csv", fill("\r\n")),
            ("application/x-www-form-urlencoded", fill("a=b&")),
            ("application/x-www-form-urlencoded", fill("&")),
            ("application/x-www-form-urlencoded", fill("%")),
            ("application/x-www-form-urlencoded", distinct(|index| format!("k{index}=v&"))),
            ("multipart/form-data; boundary=bb", fill("\r\n--b")),
            ("multipart/form-data; boundary=bb", format!("--bb{}", fill("\r\n\r\n\r\n--bb"))),
            ("multipart/form-data; boundary=bb", format!("--bb{}", fill("\r\na:"))),
        ];
        for (content_type, body) in bodies {
            let before = gatepost_identity::clock::system_instant();
            let _ = BodyFormat::of(content_type).read(body.as_bytes(), "Authenticate");
            let took = before.elapsed();
            assert!(took.as_secs() < 3, "{took:?}: {content_type} {:?}", body.get(..40));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_in_any_format_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            (content_type, seed) in prop::sample::select(LOGINS.to_vec()),
            at in any::<prop::sample::Index>(),
            length in 0_usize..8,
        ) {
            let format = BodyFormat::of(content_type);
            let _ = format.read(&bytes, "Authenticate");
            // A login with a hole in it, and some of the bytes there.
            let start = at.index(seed.len());
            let end = (start + length).min(seed.len());
            let spoiled = [&seed.as_bytes()[..start], &bytes[..bytes.len().min(length)], &seed.as_bytes()[end..]].concat();
            let _ = format.read(&spoiled, "Authenticate");
        }
    }
}
