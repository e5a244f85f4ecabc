//! Several requests of one name that came as one: taken apart before any of them is read, and joined after each was answered.
//!
//! ```text
//! POST /api/X[]  [a,b]  ─►  POST /json/reply/X.json a ─► answer ┐
//!                           POST /json/reply/X.json b ─► answer ┴─►  [answer,answer]
//! ```
//!
//! Each is an ordinary request with the same header fields, in turn, and the first that is refused is the last: its answer is the
//! answer to all, so that a batch guesses no more than a single request does. It refuses to know what any of them asks.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::http::{Body, Request, Response};
use crate::mount::Parts;
use crate::servicestack::format::{BodyFormat, Format};
use crate::servicestack::message::Operation;
use crate::servicestack::negotiate::choose_predefined;
use crate::servicestack::routes::Route;
use crate::servicestack::settings::Settings;
use crate::servicestack::value::{Unreadable, Value};
use crate::servicestack::{csv, form, json, jsv, xml};

/// How many requests one may hold: more than clients send at once, and few enough that the last is not answered long after its
/// sender has gone.
pub(super) const MOST: usize = 100;
/// How many of them were answered; clients read it where one was refused.
const COMPLETED: &str = "X-AutoBatch-Completed";
/// Cookies that scripts cannot see, by name; see `cookies.rs`.
const NAMED_COOKIES: &str = "X-Cookies";

/// The format of the answer to a batch. A page has no place for several answers.
pub(super) fn answers_in(route: &Route, query: Option<&str>) -> Format {
    let query = form::query(query.unwrap_or_default());
    match choose_predefined(route.predefined.unwrap_or(Format::Json), route.suffix, query.peek("format")).format {
        Format::Html => Format::Json,
        format => format,
    }
}

/// Takes a request apart; one that holds none, or cannot be read, stays whole.
pub(super) fn parts(settings: &Settings, operation: Operation, route: &Route, request: Request) -> Parts {
    let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let entries = match route.verbs.contains(&request.method) {
        true => entries(route, content_type, &request.body, operation.name()).unwrap_or_default(),
        false => Vec::new(),
    };
    if entries.is_empty() {
        return Parts::One(request);
    }
    let format = answers_in(route, request.query.as_deref());
    let path = format!("{}/json/reply/{}.{}", settings.base_path, operation.name(), format.name());
    let mut headers = request.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.remove(CONTENT_LENGTH);
    let one = |body: String| Request {
        method: request.method.clone(),
        path: path.clone(),
        query: request.query.clone(),
        headers: headers.clone(),
        upgrade: false,
        secure: request.secure,
        body: Bytes::from(body),
    };
    let requests = entries.into_iter().map(one).collect();
    Parts::Several(requests, Box::new(move |responses| joined(format, operation, responses)))
}

/// The requests in a body, each as JSON.
///
/// # Errors
/// It is no list of objects in the format that the route reads, or holds more than [`MOST`].
pub(super) fn entries(route: &Route, content_type: &str, body: &[u8], name: &str) -> Result<Vec<String>, Unreadable> {
    let BodyFormat::Object(format) = BodyFormat::of_predefined(route.predefined.unwrap_or(Format::Json), content_type) else {
        return Err(Unreadable::Shape);
    };
    let text = std::str::from_utf8(body).map_err(|_| Unreadable::Encoding)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let list = match format {
        Format::Json => json::read(text)?,
        Format::Jsv => jsv::read(text)?,
        Format::Xml => named(xml::read(text, &format!("ArrayOf{name}"))?, name)?,
        Format::Csv => Value::List(csv::read_all(text)?),
        Format::Html => return Err(Unreadable::Shape),
    };
    let Value::List(list) = list else { return Err(Unreadable::Shape) };
    if list.len() > MOST {
        return Err(Unreadable::TooMany);
    }
    list.into_iter().map(object).collect()
}

/// The elements of a document, all of which must have this name. One without anything in it is an object without members.
fn named<'a>(document: Value<'a>, name: &str) -> Result<Value<'a>, Unreadable> {
    let Value::Map(elements) = document else { return Err(Unreadable::Shape) };
    if elements.iter().any(|(element, _)| element != name) {
        return Err(Unreadable::Shape);
    }
    let whole = |value| match value {
        Value::Text(text) if text.trim().is_empty() => Value::Null,
        value => value,
    };
    Ok(Value::List(elements.into_iter().map(|(_, value)| whole(value)).collect()))
}

fn object(value: Value<'_>) -> Result<String, Unreadable> {
    let value = match value {
        Value::Null => Value::Map(Vec::new()),
        map @ Value::Map(_) => map,
        Value::Text(_) | Value::List(_) => return Err(Unreadable::Shape),
    };
    let mut out = String::new();
    push(&mut out, &value);
    Ok(out)
}

fn push(out: &mut String, value: &Value<'_>) {
    let text = |out: &mut String, text: &Cow<'_, str>| out.push_str(&serde_json::Value::from(&**text).to_string());
    match value {
        Value::Null => out.push_str("null"),
        Value::Text(said) => text(out, said),
        Value::List(list) => {
            out.push('[');
            for (index, value) in list.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                push(out, value);
            }
            out.push(']');
        }
        Value::Map(members) => {
            out.push('{');
            // A member said to be nothing is as good as none.
            let members = members.iter().filter(|(_, value)| *value != Value::Null);
            for (index, (name, value)) in members.enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                text(out, name);
                out.push(':');
                push(out, value);
            }
            out.push('}');
        }
    }
}

/// The bodies of answers as one.
pub(super) fn written(format: Format, operation: &str, bodies: &[&str]) -> String {
    match format {
        Format::Json | Format::Jsv | Format::Html => format!("[{}]", bodies.join(",")),
        Format::Csv => bodies.concat(),
        Format::Xml => xml::list(&format!("ArrayOf{operation}Response"), bodies),
    }
}

/// One response of several. The cookies are those of all, in their order: they were given, whatever came after.
fn joined(format: Format, operation: Operation, responses: Vec<Response>) -> Response {
    let mut jar = Jar::default();
    responses.iter().for_each(|response| jar.take(&response.headers));
    let mut bodies: Vec<String> = Vec::with_capacity(responses.len());
    let mut last = Response::empty(StatusCode::OK);
    for mut response in responses {
        if let Body::Bytes(body) = &mut response.body {
            bodies.push(String::from_utf8_lossy(&std::mem::take(body)).into_owned());
        }
        last = response;
    }
    let is_whole = last.status.is_success();
    let completed = if is_whole { bodies.len() } else { bodies.len().saturating_sub(1) };
    let body = match is_whole {
        true => written(format, operation.name(), &bodies.iter().map(String::as_str).collect::<Vec<_>>()),
        false => bodies.pop().unwrap_or_default(),
    };
    last.body = Body::Bytes(Bytes::from(body));
    jar.write(&mut last.headers);
    last.headers.insert(COMPLETED, HeaderValue::from(completed));
    last
}

/// Cookies of several answers. Of a name the last word counts, except that ids which stand for nothing say none where something was
/// said: each answer hands them out to a browser without ids, and does not know of the login before it.
#[derive(Default)]
struct Jar {
    cookies: Vec<(String, HeaderValue)>,
    named: Vec<String>,
}

impl Jar {
    fn take(&mut self, headers: &HeaderMap) {
        let cookies = || headers.get_all(SET_COOKIE).iter().filter_map(|line| Some((name_of(line)?, line)));
        // Whoever begins or ends a session says who it is about.
        let says_something = cookies().any(|(name, _)| name == "X-UAId");
        for (name, line) in cookies() {
            match self.cookies.iter_mut().find(|(other, _)| other == name) {
                Some(_) if !says_something && matches!(name, "ss-id" | "ss-pid") => {}
                Some((_, before)) => *before = line.clone(),
                None => self.cookies.push((name.to_owned(), line.clone())),
            }
        }
        let named = headers.get(NAMED_COOKIES).and_then(|names| names.to_str().ok()).unwrap_or_default();
        for name in named.split(',').filter(|name| !name.is_empty()) {
            if !self.named.iter().any(|other| other == name) {
                self.named.push(name.to_owned());
            }
        }
    }

    fn write(self, headers: &mut HeaderMap) {
        headers.remove(SET_COOKIE);
        headers.remove(NAMED_COOKIES);
        let is_kept = |name: &String| {
            let line = self.cookies.iter().find(|(other, _)| other == name).and_then(|(_, line)| line.to_str().ok());
            line.is_some_and(|line| !line.starts_with(&format!("{name}=;")))
        };
        let named: Vec<&str> = self.named.iter().filter(|name| is_kept(name)).map(String::as_str).collect();
        if let Some(names) = HeaderValue::try_from(named.join(",")).ok().filter(|names| !names.is_empty()) {
            headers.insert(NAMED_COOKIES, names);
        }
        for (_, line) in self.cookies {
            headers.append(SET_COOKIE, line);
        }
    }
}

fn name_of(line: &HeaderValue) -> Option<&str> {
    line.to_str().ok()?.split_once('=').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Section;
    use crate::servicestack::routes::{Found, find};

    fn read(path: &str, content_type: &str, body: &str) -> Result<Vec<String>, Unreadable> {
        let settings = Settings::read(&Section("client = 'web'".parse().expect("TOML")), None).expect("good").expect("open");
        let Found::Operation(operation, route) = find(&settings, path) else { panic!("{path} leads nowhere") };
        assert!(route.many, "{path}");
        entries(&route, content_type, body.as_bytes(), operation.name())
    }

    #[test]
    fn one_batch_is_the_same_in_every_format() {
        let expected = vec![r#"{"UserName":"a\"b","RememberMe":"true"}"#.to_owned(), r#"{"UserName":"c"}"#.to_owned()];
        let rows = [
            ("/api/Authenticate[]", "text/plain", r#"[{"UserName":"a\"b","RememberMe":true},{"UserName":"c"}]"#),
            ("/json/reply/authenticate%5B%5d", "", r#"[{"UserName":"a\"b","RememberMe":"true"},{"UserName":"c"}]"#),
            ("/jsv/reply/Authenticate[]", "text/jsv", "[{UserName:\"a\"\"b\",RememberMe:true},{UserName:c}]"),
            (
                "/xml/reply/Authenticate[]",
                "text/xml",
                "<ArrayOfAuthenticate><Authenticate><UserName>a\"b</UserName><RememberMe>true</RememberMe></Authenticate>\
                 <Authenticate><UserName>c</UserName></Authenticate></ArrayOfAuthenticate>",
            ),
            ("/csv/reply/Authenticate[]", "text/csv", "UserName,RememberMe\r\n\"a\"\"b\",true\r\nc,\r\n"),
        ];
        for (path, content_type, body) in rows {
            assert_eq!(read(path, content_type, body).as_ref(), Ok(&expected), "{path}");
        }
    }

    #[test]
    fn nothing_is_an_empty_batch_and_what_is_no_list_of_objects_is_none() {
        let json = |body: &str| read("/api/Authenticate[]", "", body);
        assert_eq!((json(""), json("[]"), json("[null]")), (Ok(vec![]), Ok(vec![]), Ok(vec!["{}".to_owned()])));
        let xml = |body: &str| read("/xml/reply/Authenticate[]", "", body);
        assert_eq!(xml("<ArrayOfAuthenticate><Authenticate/></ArrayOfAuthenticate>"), Ok(vec!["{}".to_owned()]));
        for body in ["{}", "[1]", "[[{}]]", "\"x\""] {
            assert_eq!(json(body), Err(Unreadable::Shape), "{body}");
        }
        assert_eq!(xml("<ArrayOfAuthenticate><Register/></ArrayOfAuthenticate>"), Err(Unreadable::Shape));
        assert_eq!(read("/api/Authenticate[]", "application/x-www-form-urlencoded", "a=b"), Err(Unreadable::Shape));
        let many = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert_eq!(json(&many(MOST)).map(|entries| entries.len()), Ok(MOST));
        assert_eq!(json(&many(MOST + 1)), Err(Unreadable::TooMany));
    }

    #[test]
    fn answers_are_written_as_one() {
        let xml = "<?xml version=\"1.0\" encoding=\"utf-8\"?><A xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" \
                   xmlns=\"http://schemas.servicestack.net/types\"><B>1</B></A>";
        let rows = [
            (Format::Json, "{}", "[{},{}]", "[]"),
            (Format::Jsv, "{A:b}", "[{A:b},{A:b}]", "[]"),
            (Format::Csv, "Admin\r\n", "Admin\r\nAdmin\r\n", ""),
        ];
        for (format, body, two, none) in rows {
            assert_eq!(written(format, "X", &[body, body]), two);
            assert_eq!(written(format, "X", &[]), none);
        }
        assert_eq!(
            written(Format::Xml, "X", &[xml, xml]),
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><ArrayOfXResponse xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xmlns=\"http://schemas.servicestack.net/types\"><A><B>1</B></A><A><B>1</B></A></ArrayOfXResponse>"
        );
    }

    #[test]
    fn the_last_word_on_a_cookie_counts_unless_it_says_nothing() {
        let headers = |lines: &[&str], named: &str| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SET_COOKIE, HeaderValue::from_str(line).expect("a value"));
            }
            headers.insert(NAMED_COOKIES, HeaderValue::from_str(named).expect("a value"));
            headers
        };
        let told = |given: &[HeaderMap]| {
            let (mut jar, mut headers) = (Jar::default(), HeaderMap::new());
            given.iter().for_each(|given| jar.take(given));
            jar.write(&mut headers);
            let lines: Vec<String> = headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap().to_owned()).collect();
            (lines, headers.get(NAMED_COOKIES).map(|names| names.to_str().unwrap().to_owned()))
        };
        let login = headers(&["ss-id=a; path=/", "X-UAId=1; path=/", "ss-tok=t; path=/"], "ss-tok");
        let empty = headers(&["ss-id=b; path=/"], "");
        let logout = headers(&["ss-id=; max-age=0", "X-UAId=; max-age=0", "ss-tok=; max-age=0"], "");
        let of = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let as_logged_in = (of(&["ss-id=a; path=/", "X-UAId=1; path=/", "ss-tok=t; path=/"]), Some("ss-tok".to_owned()));
        assert_eq!(told(&[login.clone(), empty.clone()]), as_logged_in);
        assert_eq!(told(&[empty, login.clone()]), as_logged_in);
        assert_eq!(told(&[login, logout]), (of(&["ss-id=; max-age=0", "X-UAId=; max-age=0", "ss-tok=; max-age=0"]), None));
    }
}
