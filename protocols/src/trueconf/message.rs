//! What travels on an open connection: the envelope of a request, of an answer and of an event.
//!
//! Names have a case. The last of a doubled member counts, `null` is as good as absent, and members that a method does not know
//! are passed over. No answer or event of ours is ever longer than 10,240 bytes: two clients seen read into a buffer of that size and
//! take what is in it for a whole message. Every answer says which method it is about and, as a boolean, whether it was done: clients
//! seen lose their receiving end over anything else.

use std::collections::BTreeMap;

use gatepost_identity::secret::Secret;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest name of a method and the longest text of a `requestId`, in bytes after escapes, that an answer quotes.
pub(super) const LONGEST_QUOTED: usize = 256;

/// The members of an object, unread.
pub(super) type Members<'a> = BTreeMap<String, &'a RawValue>;

/// One request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// The method, as it was sent.
    pub(super) method: String,
    /// What its answer quotes: JSON.
    pub(super) request_id: String,
    /// All its members, these two included.
    pub(super) members: Members<'a>,
}

/// What is no request, and what its answer quotes all the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    request_id: String,
}

impl<'a> Request<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// It is no JSON object, or names no method.
    pub(super) fn parse(text: &'a str) -> Result<Request<'a>, Malformed> {
        let members = members(text).ok_or(Malformed { request_id: EMPTY.to_owned() })?;
        let request_id = members.get("requestId").map_or_else(|| EMPTY.to_owned(), |raw| quoted(raw));
        match text_of(&members, "method") {
            Member::Is(method) if method.len() <= LONGEST_QUOTED => Ok(Request { method, request_id, members }),
            Member::Is(_) | Member::Absent | Member::Other => Err(Malformed { request_id }),
        }
    }
}

impl Malformed {
    /// What is answered. The empty method makes it visible to a client that passes over what has none.
    pub(super) fn answer(&self) -> String {
        Answer::to("", &self.request_id).failed("malformed request")
    }
}

/// The members of a text, where it is an object.
pub(super) fn members(text: &str) -> Option<Members<'_>> {
    serde_json::from_str(text).ok()
}

/// A message under a number of ours, as it travels between a conversation and the device. `rest` is what stands behind the number, and
/// begins a member: `"method":"call"}`.
pub(super) fn numbered(number: u64, rest: &str) -> String {
    format!("{{\"requestId\":\"{number}\",{rest}")
}

/// The number, and what stands behind it.
pub(super) fn unnumbered(text: &str) -> Option<(u64, &str)> {
    let (number, rest) = text.strip_prefix("{\"requestId\":\"")?.split_once("\",")?;
    Some((number.parse().ok()?, rest))
}

/// Whether a text that is passed on is JSON down to its last member: not nested deeper than readers go, no half of a surrogate
/// pair, no number that is none. What is only passed over here is not looked at so closely.
pub(super) fn is_sound(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// What a member is, where text is wanted.
pub(super) enum Member<T> {
    /// Left out, or `null`.
    Absent,
    /// This.
    Is(T),
    /// Of another type.
    Other,
}

/// A member that should be text.
pub(super) fn text_of(members: &Members<'_>, name: &str) -> Member<String> {
    match members.get(name).filter(|raw| raw.get() != "null") {
        None => Member::Absent,
        Some(raw) => String::deserialize(*raw).map_or(Member::Other, Member::Is),
    }
}

/// Room for an answer that tells three tokens, in bytes: it is written where it stays.
const LIKELY_LENGTH: usize = 512;
/// Nothing, as a `requestId` says it.
const EMPTY: &str = "\"\"";

/// A `requestId` as it is quoted: any scalar as it came. What is nested or long is not sent back to whoever sent it.
fn quoted(raw: &RawValue) -> String {
    let text = match raw.get().bytes().next() {
        Some(b'"') => {
            let is_short = String::deserialize(raw).is_ok_and(|text| text.len() <= LONGEST_QUOTED);
            is_short.then(|| raw.get().to_owned())
        }
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Some(raw.get().to_owned()).filter(|text| text.len() <= LONGEST_QUOTED),
        _ => None,
    };
    text.unwrap_or_else(|| EMPTY.to_owned())
}

/// A text as JSON.
pub(super) fn json(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    push_json(text, &mut json);
    json
}

/// Writes a text as JSON behind what stands there. Nearly all are written as they are.
fn push_json(text: &str, json: &mut String) {
    if text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        json.push_str(&serde_json::Value::from(text).to_string());
        return;
    }
    json.push('"');
    json.push_str(text);
    json.push('"');
}

/// An answer that is being written: `method` and `requestId` stand, data follow, and `result` comes last.
#[derive(Debug)]
pub(super) struct Answer(String);

impl Answer {
    /// The answer to a method, with a `requestId` as JSON.
    pub(super) fn to(method: &str, request_id: &str) -> Answer {
        let mut answer = String::with_capacity(LIKELY_LENGTH);
        answer.push_str("{\"method\":");
        push_json(method, &mut answer);
        answer.push_str(",\"requestId\":");
        answer.push_str(request_id);
        Answer(answer)
    }

    /// With a member whose value is JSON already.
    pub(super) fn with(mut self, name: &str, value: &str) -> Answer {
        self.name(name);
        self.0.push_str(value);
        self
    }

    fn name(&mut self, name: &str) {
        self.0.push_str(",\"");
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    /// With a secret that is told here.
    pub(super) fn telling(mut self, name: &str, secret: &Secret) -> Answer {
        // Tokens and PINs are letters, digits and asterisks.
        self.name(name);
        push_json(secret.expose_text().unwrap_or_default(), &mut self.0);
        self
    }

    /// It was done.
    pub(super) fn done(self) -> String {
        self.with("result", "true").0 + "}"
    }

    /// It was done; for `auth`, whose answers have a code.
    pub(super) fn done_with_code(self) -> String {
        self.with("result", "true").with("resultCode", "0").0 + "}"
    }

    /// It was not done.
    pub(super) fn failed(self, error: &str) -> String {
        self.with("result", "false").with("error", &json(error)).0 + "}"
    }

    /// It was not done; for `auth`, whose answers have a code.
    pub(super) fn failed_with_code(self, code: u8, error: &str, retry_after: Option<u64>) -> String {
        let answer = self.with("result", "false").with("resultCode", &code.to_string()).with("error", &json(error));
        match retry_after {
            Some(seconds) => answer.with("retryAfter", &seconds.to_string()).0 + "}",
            None => answer.0 + "}",
        }
    }
}

/// The event that tells a connection why it is no longer authorised.
pub(super) fn authorization_needed(cause: u8) -> String {
    format!("{{\"method\":\"event\",\"event\":\"authorizationNeeded\",\"cause\":{cause}}}")
}

/// The event that tells what the plan is. When it began and ends is nobody's to know here.
pub(super) fn licence_status_changed(pro: bool) -> String {
    format!("{{\"method\":\"event\",\"event\":\"licenseStatusChanged\",\"pro\":{pro},\"start_date\":null,\"end_date\":null}}")
}

/// An object of these members.
pub(super) fn object<'m>(members: impl Iterator<Item = (&'m str, &'m str)>) -> String {
    let mut text = String::from("{");
    for (number, (name, value)) in members.enumerate() {
        if number > 0 {
            text.push(',');
        }
        text.push_str(&json(name));
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_answered_and_quotes_what_it_can() {
        let check = |text: &str, id: &str| {
            let told = Request::parse(text).expect_err(text).answer();
            assert_eq!(told, format!(r#"{{"method":"","requestId":{id},"result":false,"error":"malformed request"}}"#), "{text}");
        };
        for text in
            ["", "{", "[]", "5", "null", "\"x\"", "{} {}", "{\"method\":\"a\"", "\u{feff}{\"method\":\"a\"}", "{\"a\":\"\n\"}"]
        {
            check(text, "\"\"");
        }
        check("{}", "\"\"");
        check(r#"{"requestId":"q"}"#, "\"q\"");
        check(r#"{"method":5,"requestId":7}"#, "7");
        check(r#"{"method":null,"requestId":"q"}"#, "\"q\"");
        check(r#"{"method":"\ud800","requestId":"q"}"#, "\"q\"");
        check(&format!(r#"{{"method":"{}","requestId":"q"}}"#, "m".repeat(257)), "\"q\"");
        // What a client does to a password with a quote in it.
        check(r#"{"method":"auth","type":"secured","credentials":"a"b"}"#, "\"\"");
    }

    #[test]
    fn a_request_id_comes_back_as_it_came_if_it_is_short_and_flat() {
        let check = |id: &str, expected: &str| {
            let text = format!(r#"{{"method":"m","requestId":{id}}}"#);
            assert_eq!(Request::parse(&text).expect(id).request_id, expected, "{id}");
        };
        for same in ["\"q-1\"", "17", "-0", "1e400", "9007199254740993", "true", "false", "\"\"", r#""a\"b\\c\n""#] {
            check(same, same);
        }
        for same in [r#""\u0041\/""#, r#""\u0000""#, r#""\ud83d\ude00""#, "\"\u{7f}\u{e9}\""] {
            check(same, same);
        }
        let escaped = format!("\"{}\"", r"\u0041".repeat(256));
        check(&escaped, &escaped);
        check(&format!("\"{}\"", r"\u0041".repeat(257)), "\"\"");
        for nothing in ["null", "[1]", "{}", r#""\ud800""#] {
            check(nothing, "\"\"");
        }
        check(&format!("\"{}\"", "x".repeat(256)), &format!("\"{}\"", "x".repeat(256)));
        check(&format!("\"{}\"", "x".repeat(257)), "\"\"");
        check(&"9".repeat(257), "\"\"");
        assert_eq!(Request::parse(r#"{"method":"m"}"#).expect("a request").request_id, "\"\"");
        assert_eq!(Request::parse(r#"{"method":"m","requestId":1,"requestId":2}"#).expect("the last counts").request_id, "2");
    }

    #[test]
    fn a_request_may_be_printed_prettily_and_hold_what_nobody_knows() {
        let request = Request::parse("\n{\n  \"method\" : \"auth\" ,\n \"x\": [{}],\r\n\t\"role\": null }\n").expect("a request");
        assert_eq!(request.method, "auth");
        assert!(matches!(text_of(&request.members, "role"), Member::Absent));
        assert!(matches!(text_of(&request.members, "Method"), Member::Absent), "names have a case");
        assert!(matches!(text_of(&request.members, "x"), Member::Other));
    }

    #[test]
    fn a_number_of_ours_goes_on_and_comes_off_again() {
        let text = numbered(17, "\"method\":\"call\"}");
        assert_eq!(text, r#"{"requestId":"17","method":"call"}"#);
        assert_eq!(unnumbered(&text), Some((17, r#""method":"call"}"#)));
        for other in ["", "{}", r#"{"requestId":17,"a":1}"#, r#"{"requestId":"q","a":1}"#, r#"{"method":"call","requestId":"17"}"#]
        {
            assert_eq!(unnumbered(other), None, "{other}");
        }
    }

    #[test]
    fn whatever_is_quoted_an_answer_is_short() {
        let text = format!(r#"{{"method":"{0}","requestId":"{0}"}}"#, r"\u0000".repeat(256));
        let request = Request::parse(&text).expect("just short enough");
        let answer = Answer::to(&request.method, &request.request_id).failed("unknown method");
        assert!(answer.len() < 10_240 / 2, "{}", answer.len());
    }
}
