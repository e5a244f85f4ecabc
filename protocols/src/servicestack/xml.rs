//! XML in the form of .NET's data contracts.
//!
//! Names are read without their namespaces and in any order: the framework drops a member that is out of order or in another
//! namespace without a word, and nobody is helped by that. No document type, no entity beyond the five of XML itself, no
//! schema, and nothing that would have to be fetched is read. What is written has the contract's namespaces, the members in
//! their order, and a member that holds nothing as `i:nil`.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::XmlVersion::Implicit1_0;
use quick_xml::events::{BytesStart, Event};

use crate::servicestack::dto::{Data, Dto};
use crate::servicestack::style::push_schema;
use crate::servicestack::value::{Budget, DEEPEST, Unreadable, Value, same};

/// How many attributes an element may have; a contract's has two.
const MOST_ATTRIBUTES: usize = 32;

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";
const TYPES: &str = "http://schemas.servicestack.net/types";
const ARRAYS: &str = "http://schemas.microsoft.com/2003/10/Serialization/Arrays";

/// An element that has begun.
struct Element {
    name: String,
    nil: bool,
    text: String,
    children: Vec<(String, Value<'static>)>,
}

/// Reads the document whose root is called `root`.
///
/// # Errors
/// It is no XML, another document, has a document type or an entity, or goes past a bound.
pub(super) fn read(text: &str, root: &str) -> Result<Value<'static>, Unreadable> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut budget = Budget::new();
    let mut open: Vec<Element> = Vec::new();
    let mut whole = None;
    loop {
        let event = reader.read_event().map_err(|_| Unreadable::Grammar)?;
        match event {
            Event::Start(start) => {
                budget.spend()?;
                if open.len() >= DEEPEST {
                    return Err(Unreadable::TooDeep);
                }
                if whole.is_some() {
                    return Err(Unreadable::Grammar);
                }
                let element = begin(&start)?;
                if open.is_empty() && !same(&element.name, root) {
                    return Err(Unreadable::Shape);
                }
                open.push(element);
            }
            Event::End(_) => {
                let element = open.pop().ok_or(Unreadable::Grammar)?;
                match open.last_mut() {
                    Some(parent) => parent.children.push((element.name.clone(), element.value())),
                    None => whole = Some(element.root()),
                }
            }
            Event::Text(text) => push_text(&mut open, &text.xml10_content())?,
            Event::CData(text) => push_text(&mut open, &text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let letter = match reference.resolve_char_ref() {
                    Ok(Some(letter)) => letter,
                    Ok(None) => predefined(&reference).ok_or(Unreadable::Grammar)?,
                    Err(_) => return Err(Unreadable::Grammar),
                };
                let parent = open.last_mut().ok_or(Unreadable::Grammar)?;
                parent.text.push(letter);
            }
            Event::DocType(_) => return Err(Unreadable::Grammar),
            // Said to a processor or to people; it is neither to us.
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Empty(_) => return Err(Unreadable::Grammar),
            Event::Eof => break,
        }
    }
    if open.is_empty() { whole.ok_or(Unreadable::Grammar) } else { Err(Unreadable::Grammar) }
}

fn begin(start: &BytesStart<'_>) -> Result<Element, Unreadable> {
    let mut nil = false;
    // The library compares every two attributes unless it is told not to, which takes long where there are many.
    for (index, attribute) in start.attributes().with_checks(false).enumerate() {
        if index == MOST_ATTRIBUTES {
            return Err(Unreadable::TooMany);
        }
        let attribute = attribute.map_err(|_| Unreadable::Grammar)?;
        let value = attribute.normalized_value(Implicit1_0).map_err(|_| Unreadable::Grammar)?;
        nil |= attribute.key.local_name().as_ref() == "nil" && matches!(value.trim(), "true" | "1");
    }
    let name = start.local_name().as_ref().to_owned();
    Ok(Element { name, nil, text: String::new(), children: Vec::new() })
}

fn push_text(open: &mut [Element], text: &str) -> Result<(), Unreadable> {
    match open.last_mut() {
        Some(parent) => parent.text.push_str(text),
        // Around the root there may be blanks.
        None if text.trim().is_empty() => {}
        None => return Err(Unreadable::Grammar),
    }
    Ok(())
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

impl Element {
    /// The root is an object, whatever is in it.
    fn root(self) -> Value<'static> {
        Value::Map(self.children.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect())
    }

    /// What an element says is told by its children: none, the entries of a map, the elements of a list, or members.
    fn value(self) -> Value<'static> {
        if self.nil {
            return Value::Null;
        }
        if self.children.is_empty() {
            return Value::Text(Cow::Owned(self.text));
        }
        if self.children.iter().all(|(name, _)| name.starts_with("KeyValueOf")) {
            return Value::Map(self.children.into_iter().filter_map(|(_, entry)| key_and_value(entry)).collect());
        }
        if self.children.iter().all(|(name, _)| name == "string") {
            return Value::List(self.children.into_iter().map(|(_, value)| value).collect());
        }
        self.root()
    }
}

fn key_and_value(entry: Value<'static>) -> Option<(Cow<'static, str>, Value<'static>)> {
    let Value::Map(members) = entry else { return None };
    let (mut key, mut value) = (None, Value::Null);
    for (name, member) in members {
        match (&*name, member) {
            ("Key", Value::Text(text)) => key = Some(text),
            ("Value", member) => value = member,
            _ => {}
        }
    }
    Some((key?, value))
}

/// Makes one document of several that [`write`] has written.
pub(super) fn list(root: &str, documents: &[&str]) -> String {
    let spaces = namespaces();
    let mut out = format!("{DECLARATION}<{root}{spaces}>");
    for document in documents {
        out.push_str(&document.strip_prefix(DECLARATION).unwrap_or(document).replacen(&spaces, "", 1));
    }
    close(&mut out, root);
    out
}

fn namespaces() -> String {
    format!(" xmlns:i=\"{INSTANCE}\" xmlns=\"{TYPES}\"")
}

/// Writes a document.
pub(super) fn write(dto: &Dto<'_>) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str(DECLARATION);
    out.push_str(&format!("<{}{}>", dto.name, namespaces()));
    push_members(&mut out, dto, 2);
    close(&mut out, dto.name);
    out
}

fn push_members(out: &mut String, dto: &Dto<'_>, depth: usize) {
    for (name, data) in &dto.members {
        push_member(out, name, data, depth);
    }
}

/// `depth` is that of the element, the root's being one: a prefix that an element declares is called by it.
fn push_member(out: &mut String, name: &str, data: &Data<'_>, depth: usize) {
    let content = |out: &mut String, content: &dyn Fn(&mut String)| {
        out.push_str(&format!("<{name}>"));
        content(out);
        close(out, name);
    };
    let array = |out: &mut String, items: &dyn Fn(&mut String, &str)| {
        let prefix = format!("d{depth}p1");
        out.push_str(&format!("<{name} xmlns:{prefix}=\"{ARRAYS}\">"));
        items(out, &prefix);
        close(out, name);
    };
    match data {
        Data::Null => out.push_str(&format!("<{name} i:nil=\"true\"/>")),
        Data::Text(text) => content(out, &|out| push_escaped(out, text)),
        Data::Bool(truth) => content(out, &|out| out.push_str(if *truth { "true" } else { "false" })),
        Data::Moment(moment) => content(out, &|out| push_schema(out, *moment)),
        Data::Dto(dto) => content(out, &|out| push_members(out, dto, depth + 1)),
        Data::Dtos(of, dtos) => content(out, &|out| {
            for dto in dtos {
                out.push_str(&format!("<{of}>"));
                push_members(out, dto, depth + 2);
                close(out, of);
            }
        }),
        Data::Texts(texts) => array(out, &|out, prefix| {
            for text in texts {
                out.push_str(&format!("<{prefix}:string>"));
                push_escaped(out, text);
                out.push_str(&format!("</{prefix}:string>"));
            }
        }),
        Data::Map(entries) => array(out, &|out, prefix| {
            for (key, value) in entries {
                out.push_str(&format!("<{prefix}:KeyValueOfstringstring><{prefix}:Key>"));
                push_escaped(out, key);
                out.push_str(&format!("</{prefix}:Key><{prefix}:Value>"));
                push_escaped(out, value);
                out.push_str(&format!("</{prefix}:Value></{prefix}:KeyValueOfstringstring>"));
            }
        }),
    }
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

/// A carriage return would be read back as a line feed; what XML cannot hold at all is replaced.
fn push_escaped(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(letter),
            '\0'..=' ' if letter != ' ' => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use gatepost_identity::clock::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::servicestack::value::{Fields, MOST};

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn check(written: &str, expected: Result<&[(&'static str, Value<'static>)], Unreadable>) {
        let expected =
            expected.map(|members| Value::Map(members.iter().map(|(name, value)| (Cow::Borrowed(*name), value.clone())).collect()));
        assert_eq!(read(written, "Authenticate"), expected, "{written}");
    }

    #[test]
    fn a_contract_is_read_in_any_order_and_namespace() {
        check(
            "\u{20}<?xml-stylesheet href=\"x\"?><!-- a --><Authenticate xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xmlns=\"http://schemas.servicestack.net/types\">\n  <Password>p&lt;&#x77;<![CDATA[<&>]]>&amp; </Password>\n\
             <x:UserName xmlns:x=\"urn:y\">ada</x:UserName><provider i:nil=\"true\"/><RememberMe>true</RememberMe>\
             <Meta xmlns:d2p1=\"http://schemas.microsoft.com/2003/10/Serialization/Arrays\"><d2p1:KeyValueOfstringstring>\
             <d2p1:Key>ignore</d2p1:Key><d2p1:Value>jwt</d2p1:Value></d2p1:KeyValueOfstringstring></Meta>\
             <Roles><string>Admin</string><string/></Roles><ErrorView/></Authenticate>\n",
            Ok(&[
                ("Password", text("p<w<&>& ")),
                ("UserName", text("ada")),
                ("provider", Value::Null),
                ("RememberMe", text("true")),
                ("Meta", Value::Map(vec![("ignore".into(), text("jwt"))])),
                ("Roles", Value::List(vec![text("Admin"), text("")])),
                ("ErrorView", text("")),
            ]),
        );
        check("<?xml version=\"1.0\" encoding=\"utf-8\"?><Authenticate/>", Ok(&[]));
        check("<authenticate>text</authenticate>", Ok(&[]));
    }

    #[test]
    fn document_types_entities_and_other_documents_are_refused() {
        let refused = [
            "<!DOCTYPE Authenticate><Authenticate/>",
            "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><Authenticate><UserName>&b;</UserName></Authenticate>",
            "<Authenticate><UserName>&b;</UserName></Authenticate>",
            "<Authenticate><UserName>&#0;&#x110000;</UserName></Authenticate>",
            "<Authenticate><UserName a=\"&b;\">x</UserName></Authenticate>",
            "<Authenticate><UserName>a & b</UserName></Authenticate>",
            "<Authenticate><UserName>",
            "<Authenticate><UserName></Authenticate>",
            "<Authenticate></Authenticate><Authenticate/>",
            "<Authenticate/>x",
            "&amp;<Authenticate/>",
            "</Authenticate>",
            "",
            "{}",
        ];
        for document in refused {
            check(document, Err(Unreadable::Grammar));
        }
        check("<Register><UserName>ada</UserName></Register>", Err(Unreadable::Shape));
    }

    #[test]
    fn depth_and_counts_are_bounded() {
        let nested = |depth: usize| format!("<Authenticate>{}{}</Authenticate>", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(read(&nested(DEEPEST - 1), "Authenticate").is_ok());
        check(&nested(DEEPEST), Err(Unreadable::TooDeep));
        check(&"<Authenticate>".repeat(50_000), Err(Unreadable::TooDeep));
        check(&format!("<Authenticate>{}</Authenticate>", "<a/>".repeat(MOST)), Err(Unreadable::TooMany));
        let attributes: String = (0..=MOST_ATTRIBUTES).map(|index| format!(" a{index}=\"\"")).collect();
        check(&format!("<Authenticate{attributes}/>"), Err(Unreadable::TooMany));
    }

    #[test]
    fn an_answer_names_its_namespaces_and_what_it_does_not_hold() {
        let error = Dto {
            name: "ResponseError",
            members: vec![("ErrorCode", Data::Text("<&>\r\u{1}".into())), ("Meta", Data::Map(vec![("k".into(), "v".into())]))],
        };
        let status = Dto {
            name: "ResponseStatus",
            members: vec![
                ("Errors", Data::Dtos("ResponseError", vec![error])),
                ("Meta", Data::Map(vec![("a".into(), "b".into())])),
            ],
        };
        let dto = Dto {
            name: "AuthenticateResponse",
            members: vec![
                ("UserId", Data::Text("7".into())),
                ("SessionId", Data::Null),
                ("RefreshTokenExpiry", Data::Moment(Timestamp::from_millis(1_741_064_767_500))),
                ("RememberMe", Data::Bool(true)),
                ("Roles", Data::Texts(vec!["Admin".into()])),
                ("ResponseStatus", Data::Dto(status)),
            ],
        };
        let arrays = "http://schemas.microsoft.com/2003/10/Serialization/Arrays";
        let map = |depth: usize, key: &str, value: &str| {
            format!(
                "<Meta xmlns:d{depth}p1=\"{arrays}\"><d{depth}p1:KeyValueOfstringstring><d{depth}p1:Key>{key}</d{depth}p1:Key>\
                 <d{depth}p1:Value>{value}</d{depth}p1:Value></d{depth}p1:KeyValueOfstringstring></Meta>"
            )
        };
        let expected = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><AuthenticateResponse \
             xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns=\"http://schemas.servicestack.net/types\">\
             <UserId>7</UserId><SessionId i:nil=\"true\"/><RefreshTokenExpiry>2025-03-04T05:06:07.5Z</RefreshTokenExpiry>\
             <RememberMe>true</RememberMe><Roles xmlns:d2p1=\"{arrays}\"><d2p1:string>Admin</d2p1:string></Roles>\
             <ResponseStatus><Errors><ResponseError><ErrorCode>&lt;&amp;&gt;&#xD;\u{fffd}</ErrorCode>{}</ResponseError></Errors>{}\
             </ResponseStatus></AuthenticateResponse>",
            map(5, "k", "v"),
            map(3, "a", "b"),
        );
        assert_eq!(write(&dto), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_back(
            words in prop::collection::vec("[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{fffe}\u{ffff}]{0,8}", 3)
        ) {
            let dto = Dto {
                name: "Authenticate",
                members: vec![
                    ("UserName", Data::Text((&*words[0]).into())),
                    ("Roles", Data::Texts(vec![(&*words[1]).into()])),
                    ("Meta", Data::Map(vec![((&*words[2]).into(), (&*words[0]).into())])),
                ],
            };
            let mut fields = read(&write(&dto), "Authenticate").and_then(Fields::of).unwrap();
            prop_assert_eq!(fields.text("UserName"), Ok(Some(words[0].clone())));
            prop_assert_eq!(fields.texts("Roles"), Ok(vec![words[1].clone()]));
            let meta = fields.map("Meta").unwrap();
            prop_assert_eq!(meta.value(&words[2]), Some(&*words[0]));
        }

        #[test]
        fn any_text_is_read_or_refused(
            text in prop_oneof![any::<String>(),
                "(</?a>|<Authenticate[ =\"a]*/?>|</Authenticate>|&[a-z#0-9]*;|<!--|-->|[<>\\[\\]]|a){0,20}"]
        ) {
            prop_assert!(matches!(read(&text, "Authenticate"), Ok(Value::Map(_)) | Err(_)));
        }
    }
}
