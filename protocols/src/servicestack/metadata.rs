//! The pages that describe the service to people and to generators of clients: what there is, how it is asked and what it answers.
//!
//! Everything on them comes from one table of members, and the samples are written by the formats themselves, so that a page shows
//! what the wire says. Whatever is described here answers.

use std::borrow::Cow;

use gatepost_identity::clock::Timestamp;

use crate::servicestack::dto::{Data, Dto};
use crate::servicestack::format::Format;
use crate::servicestack::html::push_escaped;
use crate::servicestack::jsv;
use crate::servicestack::message::Operation;
use crate::servicestack::settings::Settings;
use crate::servicestack::style::Style;
use crate::servicestack::value::Fields;

/// What a member holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Bool,
    Moment,
    Texts,
    Map,
    One(&'static Type),
    Many(&'static Type),
}

/// A type with its members in the order of the wire.
struct Type {
    name: &'static str,
    members: &'static [(&'static str, Kind)],
}

use Kind::{Bool, Many, Map, Moment, One, Text, Texts};

static RESPONSE_ERROR: Type =
    Type { name: "ResponseError", members: &[("ErrorCode", Text), ("FieldName", Text), ("Message", Text), ("Meta", Map)] };

static RESPONSE_STATUS: Type = Type {
    name: "ResponseStatus",
    members: &[("ErrorCode", Text), ("Message", Text), ("StackTrace", Text), ("Errors", Many(&RESPONSE_ERROR)), ("Meta", Map)],
};

static AUTHENTICATE_RESPONSE: Type = Type {
    name: "AuthenticateResponse",
    members: &[
        ("UserId", Text),
        ("SessionId", Text),
        ("UserName", Text),
        ("DisplayName", Text),
        ("ReferrerUrl", Text),
        ("BearerToken", Text),
        ("RefreshToken", Text),
        ("RefreshTokenExpiry", Moment),
        ("ProfileUrl", Text),
        ("Roles", Texts),
        ("Permissions", Texts),
        ("ResponseStatus", One(&RESPONSE_STATUS)),
        ("Meta", Map),
    ],
};

static AUTHENTICATE: Type = Type {
    name: "Authenticate",
    members: &[
        ("provider", Text),
        ("UserName", Text),
        ("Password", Text),
        ("RememberMe", Bool),
        ("AccessToken", Text),
        ("AccessTokenSecret", Text),
        ("ReturnUrl", Text),
        ("ErrorView", Text),
        ("Meta", Map),
    ],
};

static AUTHENTICATE_LOGOUT: Type = Type { name: "AuthenticateLogout", members: &[("ReturnUrl", Text)] };

/// An operation as it is described.
struct Described {
    operation: Operation,
    /// One sentence for people.
    about: &'static str,
    routes: &'static [&'static str],
    request: &'static Type,
    response: &'static Type,
}

static DESCRIBED: [Described; 2] = [
    Described {
        operation: Operation::Authenticate,
        about: "Signs somebody in, or tells who is signed in.",
        routes: &["/auth/{provider}", "/auth"],
        request: &AUTHENTICATE,
        response: &AUTHENTICATE_RESPONSE,
    },
    Described {
        operation: Operation::AuthenticateLogout,
        about: "Signs out.",
        routes: &["/auth/logout"],
        request: &AUTHENTICATE_LOGOUT,
        response: &AUTHENTICATE_RESPONSE,
    },
];

/// The list of operations.
pub(super) fn index(settings: &Settings) -> String {
    let mut page = begun("Operations");
    page.push_str("<table>\n");
    for Described { operation, about, .. } in &DESCRIBED {
        page.push_str(&format!("<tr><th>{}</th><td>{about}</td>", operation.name()));
        for format in Format::ALL {
            page.push_str("<td>");
            push_link(&mut page, settings, &format!("/{}/metadata?op={}", format.name(), operation.name()), format.name());
            page.push_str("</td>");
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table>\n<p>The types, for JavaScript: ");
    push_link(&mut page, settings, "/types/mjs", "/types/mjs");
    page.push_str(".</p>\n</body>\n</html>\n");
    page
}

/// The page about the operation of a name, as it is spoken in a format. `None`: there is none of that name.
pub(super) fn operation(settings: &Settings, format: Format, name: &str) -> Option<String> {
    let operation = Operation::find(name)?;
    let described = DESCRIBED.iter().find(|described| described.operation == operation)?;
    let name = operation.name();
    let mut page = begun(name);
    page.push_str("<p>");
    push_link(&mut page, settings, "/metadata", "All operations");
    page.push_str(&format!("</p>\n<p>{}</p>\n<table>\n", described.about));
    for route in described.routes {
        page.push_str("<tr><th>GET, POST</th><td>");
        push_escaped(&mut page, &format!("{}{route}", settings.base_path));
        page.push_str("</td></tr>\n");
    }
    page.push_str(&format!("</table>\n<h2>{name} in JavaScript</h2>\n<pre>"));
    let mut source = String::from("\"use strict\";\n");
    push_source(&mut source, described.response);
    push_source(&mut source, described.request);
    push_escaped(&mut page, &source);
    let (called, media_type) = (format.name(), spoken(format));
    page.push_str(&format!(
        "</pre>\n<h2>HTTP and {}</h2>\n<p>An answer in this format is had by the header field <code>Accept: {media_type}</code>, by \
         <code>.{called}</code> at the end of the path, or by <code>?format={called}</code>. Below are a request and an answer, with \
         types in the place of values.</p>\n<pre>",
        called.to_ascii_uppercase()
    ));
    push_escaped(&mut page, &sample(settings, format, described));
    page.push_str("</pre>\n</body>\n</html>\n");
    Some(page)
}

/// Every type, for JavaScript.
pub(super) fn types() -> String {
    let mut source = String::from("\"use strict\";\n");
    let own = DESCRIBED.iter().map(|described| described.request);
    for described in [&RESPONSE_ERROR, &RESPONSE_STATUS, &AUTHENTICATE_RESPONSE].into_iter().chain(own) {
        push_source(&mut source, described);
    }
    source
}

fn begun(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n</head>\n<body>\n\
         <h1>{title}</h1>\n"
    )
}

fn push_link(page: &mut String, settings: &Settings, path: &str, text: &str) {
    page.push_str("<a href=\"");
    push_escaped(page, &format!("{}{path}", settings.base_path));
    page.push_str(&format!("\">{text}</a>"));
}

/// The type that a format is asked for by; of JSV the one that the framework's own page tells.
fn spoken(format: Format) -> &'static str {
    if format == Format::Jsv { "text/jsv" } else { format.media_type() }
}

fn sample(settings: &Settings, format: Format, described: &Described) -> String {
    let style = Style::new(settings.text_case, settings.date_format, &Fields::default());
    let style = Style { indented: true, ..style };
    let written = |what: &'static Type| {
        let text = format.write(what.name, &filled(what), &style);
        if format == Format::Jsv { jsv::indent(&text) } else { text }
    };
    let route = described.routes.first().copied().unwrap_or_default();
    let host = settings.public_url.as_deref().and_then(|url| url.split_once("://")).map_or("localhost", |(_, host)| host);
    let media_type = spoken(format);
    // A page is asked for by a form, and nobody writes one as a page.
    let (content_type, body) = match format {
        Format::Html => ("application/x-www-form-urlencoded", fields(described.request)),
        Format::Json | Format::Jsv | Format::Xml | Format::Csv => (media_type, written(described.request)),
    };
    format!(
        "POST {}{route} HTTP/1.1\nHost: {host}\nAccept: {media_type}\nContent-Type: {content_type}\nContent-Length: length\n\n\
         {body}\n\nHTTP/1.1 200 OK\nContent-Type: {media_type}\nContent-Length: length\n\n{}\n",
        settings.base_path,
        written(described.response)
    )
}

fn fields(what: &Type) -> String {
    let plain = what.members.iter().filter(|(_, kind)| matches!(kind, Text | Bool));
    let pairs: Vec<String> =
        plain.map(|(name, kind)| format!("{name}={}", if matches!(kind, Bool) { "False" } else { "String" })).collect();
    pairs.join("&")
}

/// An object that names the type of each member in the place of its value.
fn filled(what: &'static Type) -> Dto<'static> {
    let text = || Cow::Borrowed("String");
    let value = |kind: &Kind| match kind {
        Text => Data::Text(text()),
        Bool => Data::Bool(false),
        // The first moment that .NET knows.
        Moment => Data::Moment(Timestamp::from_millis(-62_135_596_800_000)),
        Texts => Data::Texts(vec![text()]),
        Map => Data::Map(vec![(text(), text())]),
        One(what) => Data::Dto(filled(what)),
        Many(what) => Data::Dtos(what.name, vec![filled(what)]),
    };
    Dto { name: what.name, members: what.members.iter().map(|(name, kind)| (*name, value(kind))).collect() }
}

fn push_source(out: &mut String, what: &Type) {
    let spelled = |kind: &Kind| match kind {
        Text | Moment => "string".to_owned(),
        Bool => "boolean".to_owned(),
        Texts => "string[]".to_owned(),
        Map => "{ [index: string]: string; }".to_owned(),
        One(what) => what.name.to_owned(),
        Many(what) => format!("{}[]", what.name),
    };
    let init: Vec<String> = what.members.iter().map(|(name, kind)| format!("{name}?:{}", spelled(kind))).collect();
    out.push_str(&format!(
        "export class {} {{\n    /** @param {{{{{}}}}} [init] */\n    constructor(init) {{ Object.assign(this, init) }}\n",
        what.name,
        init.join(",")
    ));
    for (name, kind) in what.members {
        // What may be nothing is marked, where the type alone does not say so.
        let mark = if matches!(kind, Bool | Moment) { "?" } else { "" };
        out.push_str(&format!("    /** @type {{{mark}{}}} */\n    {name};\n", spelled(kind)));
    }
    out.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Section;
    use crate::servicestack::response::AuthenticateResponse;

    fn settings(public_url: Option<&str>) -> Settings {
        let section = Section("client = 'web'\nbase_path = '/host'".parse().expect("TOML"));
        Settings::read(&section, public_url).expect("good").expect("open")
    }

    #[test]
    fn what_is_described_has_the_members_of_what_is_answered() {
        let answered: Vec<&str> = AuthenticateResponse::default().dto().members.iter().map(|(name, _)| *name).collect();
        let described: Vec<&str> = AUTHENTICATE_RESPONSE.members.iter().map(|(name, _)| *name).collect();
        assert_eq!(described, answered);
    }

    #[test]
    fn a_page_shows_the_routes_the_types_and_samples_in_its_format() {
        let page = operation(&settings(Some("https://auth.example.org")), Format::Jsv, "authenticate").expect("there is one");
        for part in [
            "<td>/host/auth/{provider}</td>",
            "constructor(init) { Object.assign(this, init) }",
            "/** @type {?boolean} */\n    RememberMe;",
            "/** @type {{ [index: string]: string; }} */\n    Meta;",
            "POST /host/auth/{provider} HTTP/1.1\nHost: auth.example.org\nAccept: text/jsv\nContent-Type: text/jsv\n",
            "{\n\tprovider: String,\n\tUserName: String,\n\tPassword: String,\n\tRememberMe: False,\n",
            "\tRefreshTokenExpiry: 0001-01-01,\n\tProfileUrl: String,\n\tRoles: \n\t[\n\t\tString\n\t],\n",
        ] {
            assert!(page.contains(part), "{part:?} is not in {page}");
        }
        let unnamed = operation(&settings(None), Format::Html, "Authenticate").expect("there is one");
        assert!(unnamed.contains("Host: localhost\n") && unnamed.contains("provider=String&amp;UserName=String"), "{unnamed}");
        assert_eq!(operation(&settings(None), Format::Json, "Hello"), None);
        assert!(index(&settings(None)).contains("<a href=\"/host/csv/metadata?op=Authenticate\">csv</a>"));
    }

    #[test]
    fn every_type_is_told_once() {
        let types = types();
        for name in ["ResponseError", "ResponseStatus", "AuthenticateResponse", "Authenticate", "AuthenticateLogout"] {
            assert_eq!(types.matches(&format!("export class {name} ")).count(), 1, "{types}");
        }
        assert!(types.contains("UserId?:string,SessionId?:string"), "{types}");
    }
}
