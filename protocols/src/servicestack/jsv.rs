//! JSV: JSON's shape with CSV's quoting.
//!
//! ```text
//! object = "{" [ name ":" value *( "," name ":" value ) [ "," ] ] "}"
//! list   = "[" [ value *( "," value ) [ "," ] ] "]"
//! value  = object / list / quoted / bare
//! quoted = DQUOTE *( any but DQUOTE / 2DQUOTE ) DQUOTE
//! bare   = up to the next comma or the bracket that closes what it is in; nothing at all is no value
//! ```
//!
//! Blanks are data, and what follows the last bracket is not looked at. An object whose first brace ends its line is the form
//! that the framework prints for people, and that its pages tell callers to send: there, and only there, blanks at the ends of
//! lines and after `name:` are layout.
//!
//! Hints such as `__type` are members like any other, so nobody asks for them.

use std::borrow::Cow;

use crate::servicestack::dto::{Data, Dto};
use crate::servicestack::style::{Dates, Style, push_shortest};
use crate::servicestack::value::{Budget, DEEPEST, Unreadable, Value};

/// Reads an object or a list.
///
/// # Errors
/// It is neither, breaks the grammar, or goes past a bound.
pub(super) fn read(text: &str) -> Result<Value<'_>, Unreadable> {
    let text = text.trim_start();
    let indented = text.strip_prefix('{').is_some_and(|rest| rest.starts_with('\n') || rest.starts_with("\r\n"));
    let mut reader = Reader { text, at: 0, indented, budget: Budget::new() };
    match reader.next() {
        Some(b'{' | b'[') => reader.value(b'}', 1),
        _ => Err(Unreadable::Shape),
    }
}

/// Reads the elements of a list that has no brackets; a form says a list like that.
///
/// # Errors
/// It breaks the grammar, or goes past a bound.
pub(super) fn read_elements(text: &str) -> Result<Value<'_>, Unreadable> {
    let mut reader = Reader { text, at: 0, indented: false, budget: Budget::new() };
    let mut list = Vec::new();
    while reader.next().is_some() {
        list.push(reader.value(b',', 2)?);
        match reader.next() {
            Some(b',') => reader.at += 1,
            Some(_) => return Err(Unreadable::Grammar),
            None => {}
        }
    }
    Ok(Value::List(list))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    indented: bool,
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_layout(&mut self) {
        while self.indented && matches!(self.next(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// A value in whatever `closer` closes.
    fn value(&mut self, closer: u8, depth: usize) -> Result<Value<'a>, Unreadable> {
        self.budget.spend()?;
        self.skip_layout();
        match self.next() {
            Some(b'{' | b'[') if depth > DEEPEST => Err(Unreadable::TooDeep),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Value::Text(self.quoted()?)),
            _ => {
                let bare = self.bare(&[b',', closer]);
                Ok(if bare.is_empty() { Value::Null } else { Value::Text(Cow::Borrowed(bare)) })
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'a>, Unreadable> {
        let mut members = Vec::new();
        while self.goes_on(members.is_empty(), b'}')? {
            let name = match self.next() {
                Some(b'"') => self.quoted()?,
                _ => Cow::Borrowed(self.bare(b":,{}[]")),
            };
            self.skip_layout();
            if self.next() != Some(b':') {
                return Err(Unreadable::Grammar);
            }
            self.at += 1;
            members.push((name, self.value(b'}', depth + 1)?));
        }
        Ok(Value::Map(members))
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>, Unreadable> {
        let mut list = Vec::new();
        while self.goes_on(list.is_empty(), b']')? {
            list.push(self.value(b']', depth + 1)?);
        }
        Ok(Value::List(list))
    }

    /// Steps over the bracket that opens or the comma that separates, and says whether something follows; if not, steps over
    /// the bracket that closes too.
    fn goes_on(&mut self, first: bool, closer: u8) -> Result<bool, Unreadable> {
        self.skip_layout();
        if first || self.next() == Some(b',') {
            self.at += 1;
            self.skip_layout();
        } else if self.next() != Some(closer) {
            return Err(Unreadable::Grammar);
        }
        let closes = self.next() == Some(closer);
        self.at += usize::from(closes);
        Ok(!closes)
    }

    /// Up to one of these bytes, or to the end.
    fn bare(&mut self, ends: &[u8]) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|byte| ends.contains(&byte)).unwrap_or(rest.len());
        self.at += length;
        let bare = &rest[..length];
        if self.indented { bare.trim_end_matches([' ', '\t', '\r', '\n']) } else { bare }
    }

    /// Up to the quote that closes. Whoever asked sees to it that nothing stands between that and what separates or closes.
    fn quoted(&mut self) -> Result<Cow<'a, str>, Unreadable> {
        self.at += 1;
        let mut text = Cow::Borrowed("");
        loop {
            let rest = &self.text[self.at..];
            let length = rest.find('"').ok_or(Unreadable::Grammar)?;
            self.at += length + 1;
            // A doubled quote stands for itself, and the text goes on.
            let goes_on = self.next() == Some(b'"');
            let part = &rest[..length + usize::from(goes_on)];
            if text.is_empty() {
                text = Cow::Borrowed(part);
            } else {
                text.to_mut().push_str(part);
            }
            if !goes_on {
                return Ok(text);
            }
            self.at += 1;
        }
    }
}

/// Writes an object.
pub(super) fn write(dto: &Dto<'_>, style: &Style) -> String {
    let mut out = String::with_capacity(256);
    push_dto(&mut out, dto, style);
    out
}

fn push_dto(out: &mut String, dto: &Dto<'_>, style: &Style) {
    let members = dto.members.iter().filter(|(_, data)| style.writes(data));
    push_all(out, ['{', '}'], members, |out, (name, data)| {
        push_text(out, &style.case.apply(name));
        out.push(':');
        push_data(out, data, style);
    });
}

fn push_data(out: &mut String, data: &Data<'_>, style: &Style) {
    match data {
        Data::Null => {}
        Data::Text(text) => push_text(out, text),
        Data::Bool(truth) => out.push_str(if *truth { "True" } else { "False" }),
        Data::Moment(moment) => match style.dates {
            Dates::Seconds => out.push_str(&moment.millis().div_euclid(1000).to_string()),
            Dates::Millis => out.push_str(&moment.millis().to_string()),
            // Never quoted, although there are colons in it.
            Dates::Wcf | Dates::Iso => push_shortest(out, *moment),
        },
        Data::Texts(texts) => push_all(out, ['[', ']'], texts, |out, text| push_text(out, text)),
        Data::Map(entries) => push_map(out, entries),
        Data::Dto(dto) => push_dto(out, dto, style),
        Data::Dtos(_, dtos) => push_all(out, ['[', ']'], dtos, |out, dto| push_dto(out, dto, style)),
    }
}

/// Writes a map of texts; it looks like this in a cell of CSV too.
pub(super) fn push_map(out: &mut String, entries: &[(Cow<'_, str>, Cow<'_, str>)]) {
    push_all(out, ['{', '}'], entries, |out, (name, text)| {
        push_text(out, name);
        out.push(':');
        push_text(out, text);
    });
}

fn push_all<T>(
    out: &mut String,
    [open, close]: [char; 2],
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(close);
}

/// Writes a name or a text, quoted where it must be. An empty text is quoted, because nothing at all is no text.
fn push_text(out: &mut String, text: &str) {
    let quote = text.is_empty() || text.contains(['"', ':', ',', '{', '}', '[', ']', '\r', '\n']);
    if !quote {
        return out.push_str(text);
    }
    out.push('"');
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            out.push_str("\"\"");
        }
        out.push_str(part);
    }
    out.push('"');
}

/// The form for people of what [`write`] wrote: one member a line, tabs, brackets on lines of their own.
pub(super) fn indent(jsv: &str) -> String {
    let mut out = String::with_capacity(2 * jsv.len());
    let (mut depth, mut quoted, mut line_begins, mut named) = (0_usize, false, true, false);
    for letter in jsv.chars() {
        let at_line_begin = std::mem::take(&mut line_begins);
        named &= !at_line_begin;
        quoted ^= letter == '"';
        match letter {
            _ if quoted => out.push(letter),
            '{' | '[' => {
                if !at_line_begin {
                    push_line(&mut out, depth);
                }
                out.push(letter);
                depth += 1;
                push_line(&mut out, depth);
                line_begins = true;
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                push_line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                push_line(&mut out, depth);
                line_begins = true;
            }
            ':' if !named => {
                out.push_str(": ");
                named = true;
            }
            _ => out.push(letter),
        }
    }
    out
}

fn push_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n('\t', depth));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::servicestack::style::Case;
    use crate::servicestack::value::MOST;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn map<'a>(members: &[(&'a str, Value<'a>)]) -> Value<'a> {
        Value::Map(members.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
    }

    fn check(written: &str, expected: Result<Value<'_>, Unreadable>) {
        assert_eq!(read(written), expected, "{written:?}");
    }

    #[test]
    fn a_login_is_read() {
        let login = map(&[
            ("provider", text("credentials")),
            ("UserName", text("ada@example.org")),
            ("Password", text("p,w:1")),
            ("RememberMe", text("True")),
        ]);
        check("{provider:credentials,UserName:ada@example.org,Password:\"p,w:1\",RememberMe:True}", Ok(login));
        let meta = map(&[("UserName", text("ada")), ("Meta", map(&[("ignore", text("jwt"))]))]);
        check("{UserName:ada,Meta:{ignore:jwt}}", Ok(meta));
    }

    #[test]
    fn quotes_open_a_value_only_at_its_start() {
        check("{a:x\"y}", Ok(map(&[("a", text("x\"y"))])));
        check("{a:\"x\"\"y\"}", Ok(map(&[("a", text("x\"y"))])));
        check("{a:\"\"\"\"}", Ok(map(&[("a", text("\""))])));
        check("{a:\"\"}", Ok(map(&[("a", text(""))])));
        check("{\"a:b\":\"{c}\"}", Ok(map(&[("a:b", text("{c}"))])));
        check("{a:\"x\"y}", Err(Unreadable::Grammar));
        check("{a:\"x", Err(Unreadable::Grammar));
        check("{a:\"x\"\"", Err(Unreadable::Grammar));
    }

    #[test]
    fn nothing_is_trimmed_and_nothing_at_all_is_no_value() {
        check("{a: b ,c:}", Ok(map(&[("a", text(" b ")), ("c", Value::Null)])));
        check("{ a:b}", Ok(map(&[(" a", text("b"))])));
        check("{a:http://h/x}", Ok(map(&[("a", text("http://h/x"))])));
        check("{a:[x,,\"\",y]}", Ok(map(&[("a", Value::List(vec![text("x"), Value::Null, text(""), text("y")]))])));
        check("{a:x]}", Ok(map(&[("a", text("x]"))])));
        check("{a:\tb\n}", Ok(map(&[("a", text("\tb\n"))])));
    }

    #[test]
    fn what_follows_the_last_bracket_and_a_comma_too_many_do_no_harm() {
        for written in ["{a:b}\n", "{a:b}}junk", "{a:b,}", "\n {a:b}"] {
            check(written, Ok(map(&[("a", text("b"))])));
        }
        check("{}", Ok(map(&[])));
        check("[]", Ok(Value::List(Vec::new())));
        check("{a:[x,]}", Ok(map(&[("a", Value::List(vec![text("x")]))])));
        check("{a:{},b:[]}", Ok(map(&[("a", map(&[])), ("b", Value::List(Vec::new()))])));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for written in ["{", "{a", "{a}", "{a:", "{a:b", "{a:b,", "[", "[a", "{a:[b}", "{a:{b:c}", "{a:{}{b:c}}", "{a:[][b]}"] {
            check(written, Err(Unreadable::Grammar));
        }
        for written in ["", "  ", "a:b", "\"{a:b}\"", "}"] {
            check(written, Err(Unreadable::Shape));
        }
    }

    /// What the framework's own page about the service tells callers to send.
    const PRINTED: &str = "{\n\tprovider: String,\n\tUserName: Ada L,\n\tRememberMe: False,\n\tErrorView: \" x\",\n\tRoles: \n\t[\n\
                           \t\tAdmin\n\t],\n\tMeta: \n\t{\n\t\tString: String\n\t}\n}";

    #[test]
    fn the_form_for_people_is_read_without_its_layout() {
        let expected = map(&[
            ("provider", text("String")),
            ("UserName", text("Ada L")),
            ("RememberMe", text("False")),
            ("ErrorView", text(" x")),
            ("Roles", Value::List(vec![text("Admin")])),
            ("Meta", map(&[("String", text("String"))])),
        ]);
        check(PRINTED, Ok(expected.clone()));
        check(&PRINTED.replace('\n', "\r\n"), Ok(expected.clone()));
        check(&PRINTED.replace('\t', "    "), Ok(expected));
        check("{\n  a : \n}", Ok(map(&[("a", Value::Null)])));
    }

    #[test]
    fn the_form_for_people_is_written_as_the_framework_prints_it() {
        assert_eq!(
            indent("{provider:String,UserName:Ada L,RememberMe:False,ErrorView:\" x\",Roles:[Admin],Meta:{String:String}}"),
            PRINTED
        );
        assert_eq!(
            indent("{Errors:[{Meta:{a:\"b,c\"}},{x:y}],At:2025-03-04T05:06:07Z}"),
            "{\n\tErrors: \n\t[\n\t\t{\n\t\t\tMeta: \n\t\t\t{\n\t\t\t\ta: \"b,c\"\n\t\t\t}\n\t\t},\n\t\t{\n\
             \t\t\tx: y\n\t\t}\n\t],\n\
             \tAt: 2025-03-04T05:06:07Z\n}"
        );
    }

    #[test]
    fn type_hints_are_members_that_nobody_asks_for() {
        let mut fields = crate::servicestack::value::Fields::of(read("{__type:\"System.X, Y\",UserName:ada}").unwrap()).unwrap();
        assert_eq!(fields.text("UserName"), Ok(Some("ada".to_owned())));
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(DEEPEST)).is_ok());
        check(&nested(DEEPEST + 1), Err(Unreadable::TooDeep));
        check(&"{a:".repeat(300_000), Err(Unreadable::TooDeep));
        // The list itself is a value too.
        let many = |count: usize| format!("[{}]", "a,".repeat(count));
        assert!(read(&many(MOST - 1)).is_ok());
        check(&many(MOST), Err(Unreadable::TooMany));
        check(&format!("{{Meta:{{{}}}}}", "k:v,".repeat(100_000)), Err(Unreadable::TooMany));
    }

    fn pascal() -> Style {
        Style { case: Case::Pascal, dates: Dates::Wcf, nulls: false, without_defaults: false, indented: false }
    }

    /// A tree that can be written, and what is read back from it.
    fn any_data() -> impl Strategy<Value = (Data<'static>, Value<'static>)> {
        let texts = prop_oneof![any::<String>(), "[ \\[\\]{}:,\"\r\na-c]{0,6}"];
        let leaf = prop_oneof![
            texts.clone().prop_map(|text| (Data::Text(text.clone().into()), Value::Text(text.into()))),
            prop::collection::vec(texts.clone(), 0..4).prop_map(|list| {
                let value = Value::List(list.iter().map(|text| Value::Text(text.clone().into())).collect());
                (Data::Texts(list.into_iter().map(Cow::from).collect()), value)
            }),
            prop::collection::vec((texts.clone(), texts), 0..4).prop_map(|map| {
                let value = map.iter().map(|(name, text)| (name.clone().into(), Value::Text(text.clone().into()))).collect();
                (Data::Map(map.into_iter().map(|(name, text)| (name.into(), text.into())).collect()), Value::Map(value))
            }),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop::collection::vec((prop::sample::select(vec!["UserName", "Roles", "provider", "A:b"]), inner), 0..4).prop_map(
                |members| {
                    let (data, values): (Vec<_>, Vec<_>) =
                        members.into_iter().map(|(name, (data, value))| ((name, data), (Cow::Borrowed(name), value))).unzip();
                    (Data::Dto(Dto { name: "Any", members: data }), Value::Map(values))
                },
            )
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_back((data, value) in any_data()) {
            let written = write(&Dto { name: "Any", members: vec![("Root", data)] }, &pascal());
            prop_assert_eq!(read(&written), Ok(Value::Map(vec![("Root".into(), value)])), "{}", written);
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), "[\\[\\]{}:,\"\n a]{0,40}"]) {
            let (read, elements) = (read(&text), read_elements(&text));
            prop_assert!(!matches!(read, Ok(Value::Text(_) | Value::Null)));
            prop_assert!(!matches!(elements, Ok(Value::Text(_) | Value::Null | Value::Map(_))));
            prop_assert!(indent(&text).len() >= text.len());
        }
    }
}
