//! What travels on an open connection: the envelope of a message, the topics that are answered here, and what is sent, to
//! the peer and to the service behind the gate.
//!
//! None of our own topics needs a right: the published documents give every one of them "Permissions: None".

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep a message may be nested, the envelope counted.
const DEEPEST: usize = 128;

/// A controller that is served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    /// Authentication.
    Auth,
    /// The server itself; also whoever names no controller.
    Zenith,
}

impl Controller {
    /// Its name, which is also what a message without a controller means for [`Controller::Zenith`].
    pub(super) fn name(self) -> &'static str {
        match self {
            Controller::Auth => "Auth",
            Controller::Zenith => "Zenith",
        }
    }

    /// The controller of that name, in exactly that case.
    pub(super) fn find(name: &str) -> Option<Controller> {
        [Controller::Auth, Controller::Zenith].into_iter().find(|controller| controller.name() == name)
    }
}

/// A topic of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Topic {
    /// Log in with a user's password or a client's secret.
    AuthOwner,
    /// Log in with a grant that somebody issued.
    AuthCode,
    /// Log in again with a token, or prolong.
    AuthToken,
    /// Ask who one is.
    QueryIdentify,
    /// Be told who one is, whenever it changes.
    Identify,
    /// Set the timeouts of `Auth`.
    AuthConfigure,
    /// Ask for the timeouts of `Auth`.
    AuthQueryConfigure,
    /// What this server is.
    ServerInfo,
    /// Which feeds it has.
    Feeds,
    /// Set the timeouts of `Zenith`.
    ZenithConfigure,
    /// Ask for the timeouts of `Zenith`.
    ZenithQueryConfigure,
}

impl Topic {
    /// How many there are.
    pub(super) const COUNT: usize = Topic::ALL.len();

    const ALL: [Topic; 11] = [
        Topic::AuthOwner,
        Topic::AuthCode,
        Topic::AuthToken,
        Topic::QueryIdentify,
        Topic::Identify,
        Topic::AuthConfigure,
        Topic::AuthQueryConfigure,
        Topic::ServerInfo,
        Topic::Feeds,
        Topic::ZenithConfigure,
        Topic::ZenithQueryConfigure,
    ];

    /// Its name on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Topic::AuthOwner => "AuthOwner",
            Topic::AuthCode => "AuthCode",
            Topic::AuthToken => "AuthToken",
            Topic::QueryIdentify => "QueryIdentify",
            Topic::Identify => "Identify",
            Topic::ServerInfo => "ServerInfo",
            Topic::Feeds => "Feeds",
            Topic::AuthConfigure | Topic::ZenithConfigure => "Configure",
            Topic::AuthQueryConfigure | Topic::ZenithQueryConfigure => "QueryConfigure",
        }
    }

    /// Whose it is.
    pub(super) fn controller(self) -> Controller {
        match self {
            Topic::AuthOwner | Topic::AuthCode | Topic::AuthToken | Topic::QueryIdentify => Controller::Auth,
            Topic::Identify | Topic::AuthConfigure | Topic::AuthQueryConfigure => Controller::Auth,
            Topic::ServerInfo | Topic::Feeds | Topic::ZenithConfigure | Topic::ZenithQueryConfigure => Controller::Zenith,
        }
    }

    /// Whether it may only be subscribed to.
    pub(super) fn is_subscription_only(self) -> bool {
        matches!(self, Topic::Identify | Topic::ServerInfo | Topic::Feeds)
    }

    /// Whether its answer tells an identity, so that a subscription to `Identify` is a place to tell it.
    pub(super) fn tells_identity(self) -> bool {
        matches!(self, Topic::AuthOwner | Topic::AuthCode | Topic::AuthToken | Topic::QueryIdentify)
    }

    /// The topic of that name, in exactly that case.
    pub(super) fn find(controller: Controller, name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.controller() == controller && topic.name() == name)
    }
}

/// What a message wants done with its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Do it. `spelled_out`: the message says so, instead of leaving the action out.
    Publish {
        /// Decides the topic of some answers.
        spelled_out: bool,
    },
    /// Subscribe.
    Sub,
    /// End one subscription.
    Unsub,
    /// Forget the requests with that TransactionID.
    Cancel,
    /// An error. A peer's asks for nothing.
    Error,
    /// No action there is.
    Unknown,
}

/// A string, borrowed from the message wherever it holds no escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A message, before anybody has looked at what it is about. Its members are read by the rules of [`members`].
pub(super) struct Envelope<'a> {
    controller: Option<Text<'a>>,
    action: Option<Text<'a>>,
    topic: Option<Text<'a>>,
    transaction: Option<&'a RawValue>,
    /// What the action is about.
    pub(super) data: Option<&'a RawValue>,
    /// Whether a subscription wants a confirmation.
    pub(super) confirm: bool,
}

impl<'a> Envelope<'a> {
    /// Reads a message. `None`: it is no packet of this wire.
    pub(super) fn parse(text: &'a str) -> Option<Envelope<'a>> {
        if !is_sound(text) {
            return None;
        }
        let envelope = Envelope::read(text).ok()?;
        let numeric = |raw: &RawValue| raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit());
        envelope.transaction.is_none_or(numeric).then_some(envelope)
    }

    fn read(text: &'a str) -> serde_json::Result<Envelope<'a>> {
        let names = ["Controller", "Action", "Topic", "TransactionID", "Data", "Confirm"];
        let [controller, action, topic, transaction, data, confirm] = members(text, names)?;
        Ok(Envelope {
            controller: typed(controller)?,
            action: typed(action)?,
            topic: typed(topic)?,
            transaction,
            data,
            confirm: typed(confirm)?.unwrap_or(false),
        })
    }

    /// The controller's name, said or meant.
    pub(super) fn controller(&self) -> &str {
        self.controller.as_ref().map_or(Controller::Zenith.name(), |text| &text.0)
    }

    /// What it is about.
    pub(super) fn place(&self) -> Place<'_> {
        Place { controller: self.controller(), topic: self.topic() }
    }

    /// The topic's name.
    pub(super) fn topic(&self) -> Option<&str> {
        self.topic.as_ref().map(|text| &*text.0)
    }

    /// The digits of the TransactionID as they were sent.
    pub(super) fn transaction(&self) -> Option<&'a str> {
        self.transaction.map(RawValue::get)
    }

    /// The action, said or meant.
    pub(super) fn action(&self) -> Action {
        match self.action.as_ref().map(|text| &*text.0) {
            None => Action::Publish { spelled_out: false },
            Some("Publish") => Action::Publish { spelled_out: true },
            Some("Sub") => Action::Sub,
            Some("Unsub") => Action::Unsub,
            Some("Cancel") => Action::Cancel,
            Some("Error") => Action::Error,
            Some(_) => Action::Unknown,
        }
    }
}

/// The members of an object that have those names, unread, so that only what counts in the end must be of the right type.
/// The last of a doubled one counts; `null` is as good as absent; members of other names are passed over.
///
/// # Errors
/// The text is no object.
pub(super) fn members<'a, const N: usize>(text: &'a str, names: [&str; N]) -> serde_json::Result<[Option<&'a RawValue>; N]> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = Members(names).deserialize(&mut deserializer)?;
    deserializer.end().map(|()| found)
}

/// What a member holds, if it is there.
///
/// # Errors
/// It is of another type.
pub(super) fn typed<'a, T: Deserialize<'a>>(member: Option<&'a RawValue>) -> serde_json::Result<Option<T>> {
    member.map(|raw| serde_json::from_str(raw.get())).transpose()
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(Text(key)) = map.next_key()? {
            match self.0.iter().position(|name| *name == key) {
                Some(place) => found[place] = map.next_value()?,
                None => {
                    map.next_value::<de::IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// What the parser does not look at in parts that it passes over: nesting, and halves of surrogate pairs. A message without a
/// backslash, and with no more brackets than it may be deep, has neither; most are so, and are looked over in one go.
fn is_sound(text: &str) -> bool {
    let bytes = text.as_bytes();
    let opening = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if opening <= DEEPEST && !bytes.contains(&b'\\') {
        return true;
    }
    let (mut depth, mut quoted, mut at) = (0_usize, false, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => match unit(&bytes[at..]) {
                Some(0xd800..0xdc00) => {
                    match bytes.get(at + 5).filter(|next| **next == b'\\').and(unit(bytes.get(at + 6..).unwrap_or(&[]))) {
                        Some(0xdc00..0xe000) => at += 11,
                        _ => return false,
                    }
                }
                Some(0xdc00..0xe000) => return false,
                _ => at += 1,
            },
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > DEEPEST {
                    return false;
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// The UTF-16 unit that an escape, without its backslash, stands for; `None`: it is another escape.
fn unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// What a message is about, by its names on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// The controller.
    pub(super) controller: &'a str,
    /// The topic; none: the controller as a whole.
    pub(super) topic: Option<&'a str>,
}

impl From<Topic> for Place<'static> {
    fn from(topic: Topic) -> Place<'static> {
        Place { controller: topic.controller().name(), topic: Some(topic.name()) }
    }
}

/// Why something did not happen, as the Data of what tells it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why<'a> {
    /// A code of appendix D of the published documents.
    Code(&'a str),
    /// JSON in somebody else's words.
    Said(&'a RawValue),
}

impl<'a> From<&'a str> for Why<'a> {
    fn from(code: &'a str) -> Why<'a> {
        Why::Code(code)
    }
}

/// A reply, or what a subscription tells: both without an action, the latter without a TransactionID. `data` writes the
/// body.
pub(super) fn tell<'a>(place: impl Into<Place<'a>>, transaction: Option<&str>, data: impl FnOnce(&mut String)) -> String {
    let mut text = begin(place.into());
    push_transaction(&mut text, transaction);
    text.push_str(",\"Data\":");
    data(&mut text);
    text.push('}');
    text
}

/// A reply that has nothing to tell.
pub(super) fn done<'a>(place: impl Into<Place<'a>>, transaction: Option<&str>) -> String {
    let mut text = begin(place.into());
    push_transaction(&mut text, transaction);
    text.push('}');
    text
}

/// The confirmation of a subscription.
pub(super) fn subscribed<'a>(place: impl Into<Place<'a>>) -> String {
    let mut text = begin(place.into());
    text.push_str(",\"Action\":\"Sub\",\"Confirm\":true}");
    text
}

/// The confirmation that a subscription has ended.
pub(super) fn unsubscribed<'a>(place: impl Into<Place<'a>>) -> String {
    let mut text = begin(place.into());
    text.push_str(",\"Action\":\"Unsub\"}");
    text
}

/// One subscription has ended without the peer's asking.
pub(super) fn ended(place: Place<'_>) -> String {
    let mut text = begin(place);
    text.push_str(",\"Action\":\"Unsub\",\"Confirm\":true}");
    text
}

/// An error.
pub(super) fn error<'a, 'w>(place: impl Into<Place<'a>>, transaction: Option<&str>, why: impl Into<Why<'w>>) -> String {
    let mut text = begin(place.into());
    text.push_str(",\"Action\":\"Error\"");
    push_transaction(&mut text, transaction);
    push_why(&mut text, why.into());
    text
}

/// What follows the error of a subscription that wanted a confirmation: the confirmation's shape, unconfirmed.
pub(super) fn not_subscribed<'w>(place: Place<'_>, why: impl Into<Why<'w>>) -> String {
    let mut text = begin(place);
    text.push_str(",\"Action\":\"Sub\"");
    push_why(&mut text, why.into());
    text
}

/// What goes up to the service behind the gate. Always written anew from what was understood, so that a doubled member or
/// one that nobody knows cannot mean one thing here and another there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Up<'a> {
    /// What it is about.
    pub(super) place: Place<'a>,
    /// The action; none where it is left to its default.
    pub(super) action: Option<&'static str>,
    /// The digits of the TransactionID.
    pub(super) transaction: Option<&'a str>,
    /// JSON, as it was sent.
    pub(super) data: Option<&'a str>,
    /// Whether a confirmation is wanted.
    pub(super) confirm: bool,
}

impl Up<'_> {
    /// The message.
    pub(super) fn write(self) -> String {
        let mut text = begin(self.place);
        if let Some(action) = self.action {
            text.push_str(",\"Action\":\"");
            text.push_str(action);
            text.push('"');
        }
        push_transaction(&mut text, self.transaction);
        if let Some(data) = self.data {
            text.push_str(",\"Data\":");
            text.push_str(data);
        }
        if self.confirm {
            text.push_str(",\"Confirm\":true");
        }
        text.push('}');
        text
    }
}

fn begin(place: Place<'_>) -> String {
    // Room for an identity with its token and a few scopes, so that the usual answer is written without growing.
    let mut text = String::with_capacity(320);
    text.push_str("{\"Controller\":");
    push_text(&mut text, place.controller);
    if let Some(topic) = place.topic {
        text.push_str(",\"Topic\":");
        push_text(&mut text, topic);
    }
    text
}

fn push_transaction(text: &mut String, transaction: Option<&str>) {
    if let Some(digits) = transaction {
        text.push_str(",\"TransactionID\":");
        text.push_str(digits);
    }
}

fn push_why(text: &mut String, why: Why<'_>) {
    text.push_str(",\"Data\":");
    match why {
        Why::Code(code) => push_text(text, code),
        Why::Said(said) => text.push_str(said.get()),
    }
    text.push('}');
}

/// Writes a JSON string.
pub(super) fn push_text(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed<'a> = (String, Option<String>, Action, Option<&'a str>, bool, bool);

    fn parsed(text: &str) -> Option<Parsed<'_>> {
        let envelope = Envelope::parse(text)?;
        let topic = envelope.topic().map(str::to_owned);
        let transaction = envelope.transaction();
        Some((envelope.controller().to_owned(), topic, envelope.action(), transaction, envelope.data.is_some(), envelope.confirm))
    }

    #[test]
    fn an_envelope_has_a_default_for_everything() {
        let meant = Action::Publish { spelled_out: false };
        let check = |text, topic: Option<&str>, action, transaction, data, confirm| {
            let expected = Some(("Zenith".to_owned(), topic.map(str::to_owned), action, transaction, data, confirm));
            assert_eq!(parsed(text), expected, "{text}");
        };
        check("{}", None, meant, None, false, false);
        let nulls = r#"{"Controller":null,"Topic":null,"Action":null,"TransactionID":null,"Data":null,"Confirm":null}"#;
        check(nulls, None, meant, None, false, false);
        check(r#" {"controller":"Auth","topic":"X","Extra":[{}]}"#, None, meant, None, false, false);
        check(r#"{"Topic":"A","Topic":"B","TransactionID":1,"TransactionID":2}"#, Some("B"), meant, Some("2"), false, false);
        check(r#"{"Topic":1e999,"Topic":"B","TransactionID":"1","TransactionID":2}"#, Some("B"), meant, Some("2"), false, false);
        check(r#"{"Action":{},"Action":"Sub","Confirm":"x","Confirm":true}"#, None, Action::Sub, None, false, true);
        check(r#"{"Controller":[],"Controller":null,"Confirm":true,"Confirm":null}"#, None, meant, None, false, false);
        check(" \t\r\n{\"Topic\" : \"B\"} \t\r\n", Some("B"), meant, None, false, false);
        check(r#"{"Action":"Sub","Confirm":true,"Data":{}}"#, None, Action::Sub, None, true, true);
        check(r#"{"Topic":"\u0041uth"}"#, Some("Auth"), meant, None, false, false);
        check(r#"{"Topic":"\ud83d\ude00"}"#, Some("😀"), meant, None, false, false);
        check(r#"{"Topic":"\\ud800"}"#, Some("\\ud800"), meant, None, false, false);
    }

    #[test]
    fn a_transaction_id_is_any_number_and_nothing_else() {
        for number in ["0", "-5", "9007199254740993", "18446744073709551616", "-0", "1.5", "1e999"] {
            let text = format!(r#"{{"TransactionID":{number}}}"#);
            assert_eq!(Envelope::parse(&text).and_then(|envelope| envelope.transaction()), Some(number));
        }
        for other in [r#""1""#, "true", "{}", "[1]", "01", "+1", ".5", "0x1", "NaN"] {
            assert!(Envelope::parse(&format!(r#"{{"TransactionID":{other}}}"#)).is_none(), "{other}");
        }
    }

    #[test]
    fn what_is_no_packet_is_none() {
        let rows = [
            "",
            " ",
            "x",
            "[]",
            "[{}]",
            "\"x\"",
            "1",
            "null",
            "{",
            "{}{}",
            "{} x",
            "{Topic:1}",
            "{'Topic':1}",
            "{\"Topic\":1}",
            "{\"Controller\":{}}",
            "{\"Action\":7}",
            "{\"Confirm\":1}",
            "{\"Topic\":\"A\",\"Topic\":1}",
            "{\"Confirm\":true,\"Confirm\":{}}",
            "{\"TransactionID\":1,\"TransactionID\":\"1\"}",
            "{\"Confirm\":\"true\"}",
            "\u{feff}{}",
            "{\"a\":\"\0\"}",
            "{\"Topic\":\"\\ud800\"}",
            "{\"Data\":\"\\ud800\"}",
            "{\"x\":\"\\udc00\"}",
            "{\"x\":\"\\ud800\\u0041\"}",
            "{\"x\":\"\\ud800\\",
            "{\"\\ud800\":1}",
            "{\"x\":\"\\ud800",
            "{\"Data\":{\"x\":01}}",
        ];
        for text in rows {
            assert!(Envelope::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded_wherever_it_stands() {
        let nested = |depth: usize| format!("{{\"Data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Envelope::parse(&nested(DEEPEST - 1)).is_some());
        assert!(Envelope::parse(&nested(DEEPEST)).is_none());
        assert!(Envelope::parse(&nested(100_000)).is_none());
        let quoted = format!("{{\"Data\":\"{}\"}}", "[".repeat(1000));
        assert!(Envelope::parse(&quoted).is_some());
    }

    #[test]
    fn names_count_in_their_exact_case_and_controller_only() {
        for topic in Topic::ALL {
            assert_eq!(Topic::find(topic.controller(), topic.name()), Some(topic));
            assert_eq!(Topic::find(topic.controller(), &topic.name().to_lowercase()), None);
            assert_eq!(Topic::ALL[topic as usize], topic);
        }
        assert_eq!(Topic::find(Controller::Zenith, "AuthOwner"), None);
        assert_eq!(Topic::find(Controller::Auth, "Feeds"), None);
        assert_eq!((Controller::find("auth"), Controller::find("Market")), (None, None));
    }

    #[test]
    fn what_a_peer_named_is_quoted_safely() {
        let place = Place { controller: "a\"b\n", topic: Some("\u{1}") };
        let sent = error(place, Some("1"), "Controller a\"b\n");
        let read: serde_json::Value = serde_json::from_str(&sent).expect("it is JSON");
        assert_eq!(read["Controller"], "a\"b\n");
        assert_eq!(read["Data"], "Controller a\"b\n");
    }

    #[test]
    fn what_goes_up_is_what_was_understood_and_nothing_else() {
        let check = |text, expected: &str| {
            let envelope = Envelope::parse(text).expect("a packet");
            let (transaction, data) = (envelope.transaction(), envelope.data.map(RawValue::get));
            let up = Up { place: envelope.place(), action: Some("Sub"), transaction, data, confirm: envelope.confirm };
            assert_eq!(up.write(), expected, "{text}");
            assert_eq!(Envelope::parse(expected).map(|read| read.action()), Some(Action::Sub), "{expected}");
        };
        check(
            r#"{"Controller":"Auth","Controller":"A\u0042\"","Topic":"T","Topic":null,"Token":"x","TransactionID":-0,"Data":{"a":1,"a":[2 ]}}"#,
            r#"{"Controller":"AB\"","Action":"Sub","TransactionID":-0,"Data":{"a":1,"a":[2 ]}}"#,
        );
        check(r#"{"Topic":"T","Confirm":true}"#, r#"{"Controller":"Zenith","Topic":"T","Action":"Sub","Confirm":true}"#);
    }
}
