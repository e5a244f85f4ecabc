//! JSON, as the framework reads and writes it.
//!
//! What is read is strict JSON; the leniency is in the names and the types, and lies with [`Value`]. What is written has no
//! white space, raw letters beyond ASCII, and no null.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::servicestack::dto::{Data, Dto};
use crate::servicestack::style::{Dates, Style, push_round_trip};
use crate::servicestack::value::{Budget, DEEPEST, Unreadable, Value};

/// Reads a whole text.
///
/// # Errors
/// It is no JSON, or goes past a bound.
pub(super) fn read(text: &str) -> Result<Value<'_>, Unreadable> {
    let mut limit = Limit { budget: Budget::new(), passed: None };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Node { depth: 0, limit: &mut limit }.deserialize(&mut deserializer);
    let whole = value.and_then(|value| deserializer.end().map(|()| value));
    whole.map_err(|_| limit.passed.unwrap_or(Unreadable::Grammar))
}

struct Limit {
    budget: Budget,
    /// The bound that made an end of it.
    passed: Option<Unreadable>,
}

struct Node<'l> {
    depth: usize,
    limit: &'l mut Limit,
}

impl Node<'_> {
    fn inner(&mut self) -> Node<'_> {
        Node { depth: self.depth, limit: self.limit }
    }

    fn deeper<E: Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(self.pass(Unreadable::TooDeep)) } else { Ok(()) }
    }

    fn pass<E: Error>(&mut self, bound: Unreadable) -> E {
        self.limit.passed = Some(bound);
        E::custom(bound)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Value<'de>, D::Error> {
        self.limit.budget.spend().map_err(|bound| self.pass(bound))?;
        deserializer.deserialize_any(self)
    }
}

/// A name, borrowed from the text wherever it holds no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(if truth { "true" } else { "false" })))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(number.to_string())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(number.to_string())))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Value<'de>, A::Error> {
        self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = elements.next_element_seed(self.inner())? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value<'de>, A::Error> {
        self.deeper()?;
        let mut members = Vec::new();
        while let Some(name) = entries.next_key_seed(Name)? {
            members.push((name, entries.next_value_seed(self.inner())?));
        }
        Ok(Value::Map(members))
    }
}

/// Writes an object.
pub(super) fn write(dto: &Dto<'_>, style: &Style) -> String {
    let mut writer = Writer { out: String::with_capacity(256), style, line: style.indented.then_some(0) };
    writer.dto(dto);
    writer.out
}

struct Writer<'s> {
    out: String,
    style: &'s Style,
    /// How deep a line is indented, where there are lines.
    line: Option<usize>,
}

impl Writer<'_> {
    fn dto(&mut self, dto: &Dto<'_>) {
        let style = self.style;
        let members = dto.members.iter().filter(|(_, data)| style.writes(data));
        self.all(['{', '}'], members, |writer, (name, data)| {
            writer.name(&style.case.apply(name));
            writer.data(data);
        });
    }

    fn name(&mut self, name: &str) {
        push_text(&mut self.out, name);
        self.out.push_str(if self.line.is_some() { ": " } else { ":" });
    }

    fn data(&mut self, data: &Data<'_>) {
        match data {
            Data::Null => self.out.push_str("null"),
            Data::Text(text) => push_text(&mut self.out, text),
            Data::Bool(truth) => self.out.push_str(if *truth { "true" } else { "false" }),
            Data::Moment(moment) => match self.style.dates {
                Dates::Wcf => self.out.push_str(&format!("\"\\/Date({})\\/\"", moment.millis())),
                Dates::Seconds => self.out.push_str(&moment.millis().div_euclid(1000).to_string()),
                Dates::Millis => self.out.push_str(&moment.millis().to_string()),
                Dates::Iso => {
                    self.out.push('"');
                    push_round_trip(&mut self.out, *moment);
                    self.out.push('"');
                }
            },
            Data::Texts(texts) => self.all(['[', ']'], texts, |writer, text| push_text(&mut writer.out, text)),
            Data::Map(entries) => self.all(['{', '}'], entries, |writer, (name, text)| {
                writer.name(name);
                push_text(&mut writer.out, text);
            }),
            Data::Dto(dto) => self.dto(dto),
            Data::Dtos(_, dtos) => self.all(['[', ']'], dtos, |writer, dto| writer.dto(dto)),
        }
    }

    fn all<T>(&mut self, [open, close]: [char; 2], items: impl IntoIterator<Item = T>, mut push: impl FnMut(&mut Self, T)) {
        self.out.push(open);
        let outer = self.line;
        self.line = outer.map(|depth| depth + 1);
        let mut any = false;
        for item in items {
            if any {
                self.out.push(',');
            }
            any = true;
            self.new_line();
            push(self, item);
        }
        self.line = outer;
        if any {
            self.new_line();
        }
        self.out.push(close);
    }

    fn new_line(&mut self) {
        if let Some(depth) = self.line {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("    ", depth));
        }
    }
}

/// Writes a string. Control characters are escaped, with capital digits; nothing else but the quote and the backslash is.
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            quoted @ (b'"' | b'\\') => out.extend(['\\', char::from(quoted)]),
            control => out.push_str(&format!("\\u{control:04X}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use gatepost_identity::clock::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::servicestack::style::{DateFormat, TextCase};
    use crate::servicestack::value::{Fields, MOST};

    fn style(jsconfig: &str) -> Style {
        Style::new(TextCase::Pascal, DateFormat::Wcf, &Fields::default()).wished(jsconfig)
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let text = |text: &'static str| Value::Text(text.into());
        let read = read(r#" {"a":"x\n","b":[1,-2,1.5,true,null],"c":{"d":false},"a":"","e":12345678901234567890} "#);
        let expected = Value::Map(vec![
            ("a".into(), text("x\n")),
            ("b".into(), Value::List(vec![text("1"), text("-2"), text("1.5"), text("true"), Value::Null])),
            ("c".into(), Value::Map(vec![("d".into(), text("false"))])),
            ("a".into(), text("")),
            ("e".into(), text("12345678901234567890")),
        ]);
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn only_whole_json_is_read() {
        for text in ["", "{", "{a:1}", "{'a':1}", "{\"a\":1,}", "{\"a\":1}x", "[1", "\"\\ud800\"", "nul", "1e999", "\u{feff}{}"] {
            assert_eq!(read(text), Err(Unreadable::Grammar), "{text}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(DEEPEST)).is_ok());
        assert_eq!(read(&nested(DEEPEST + 1)), Err(Unreadable::TooDeep));
        assert_eq!(read(&"{\"a\":".repeat(100_000)), Err(Unreadable::TooDeep));
        let many = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert!(read(&many(MOST - 1)).is_ok());
        assert_eq!(read(&many(MOST)), Err(Unreadable::TooMany));
        let keys: Vec<String> = (0..100_000).map(|key| format!("\"k{key}\":\"v\"")).collect();
        assert_eq!(read(&format!("{{\"Meta\":{{{}}}}}", keys.join(","))), Err(Unreadable::TooMany));
    }

    fn answer(text: &str) -> Dto<'_> {
        Dto {
            name: "Answer",
            members: vec![
                ("UserName", Data::Text(text.into())),
                ("ReferrerUrl", Data::Null),
                ("RememberMe", Data::Bool(false)),
                ("RefreshTokenExpiry", Data::Moment(Timestamp::from_millis(1_700_000_000_120))),
                ("Roles", Data::Texts(vec!["Admin".into()])),
                ("Permissions", Data::Texts(Vec::new())),
                ("Meta", Data::Map(vec![("UserId".into(), "7".into())])),
            ],
        }
    }

    #[test]
    fn an_answer_is_written_without_white_space_and_without_nothing() {
        assert_eq!(
            write(&answer("é/<\u{1}\u{1f}\u{7f}\u{8}\u{c}\r\n\t\"\\\u{2028}"), &style("")),
            "{\"UserName\":\"é/<\\u0001\\u001F\u{7f}\\b\\f\\r\\n\\t\\\"\\\\\u{2028}\",\"RememberMe\":false,\
             \"RefreshTokenExpiry\":\"\\/Date(1700000000120)\\/\",\"Roles\":[\"Admin\"],\"Permissions\":[],\
             \"Meta\":{\"UserId\":\"7\"}}"
        );
    }

    #[test]
    fn an_answer_is_dressed_as_wished() {
        let check = |jsconfig: &str, expected: &str| assert_eq!(write(&answer("ada"), &style(jsconfig)), expected, "{jsconfig}");
        check(
            "eccn,edv,dh:iso8601",
            "{\"userName\":\"ada\",\"refreshTokenExpiry\":\"2023-11-14T22:13:20.1200000Z\",\"roles\":[\"Admin\"],\
             \"permissions\":[],\"meta\":{\"UserId\":\"7\"}}",
        );
        check(
            "elun,inv,dh:ut",
            "{\"user_name\":\"ada\",\"referrer_url\":null,\"remember_me\":false,\"refresh_token_expiry\":1700000000,\
             \"roles\":[\"Admin\"],\"permissions\":[],\"meta\":{\"UserId\":\"7\"}}",
        );
        check(
            "pp,dh:utm",
            "{\n    \"UserName\": \"ada\",\n    \"RememberMe\": false,\n    \"RefreshTokenExpiry\": 1700000000120,\n\
             \x20   \"Roles\": [\n        \"Admin\"\n    ],\n    \"Permissions\": [],\n\
             \x20   \"Meta\": {\n        \"UserId\": \"7\"\n    }\n}",
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_back(text in any::<String>(), jsconfig in prop::sample::select(vec!["", "pp", "inv,eccn"])) {
            let written = write(&answer(&text), &style(jsconfig));
            let mut fields = read(&written).and_then(Fields::of).unwrap();
            prop_assert_eq!(fields.text("UserName"), Ok(Some(text)));
            prop_assert_eq!(fields.texts("Roles"), Ok(vec!["Admin".to_owned()]));
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), "[\\[\\]{}:,\"1a]{0,40}"]) {
            prop_assert_eq!(read(&text).is_ok(), serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
