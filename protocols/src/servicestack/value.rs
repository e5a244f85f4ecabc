//! What a request holds, before anybody has asked what it is about: a tree of texts, lists and maps.
//!
//! Every format is read into this tree, so that a request means the same in all of them. It has no numbers and no booleans:
//! some of the formats have none either, and the framework reads `true`, `"True"` and `1` alike, so what a text means is
//! decided by the member that it is for. It refuses to know which members there are.
//!
//! Names compare without regard to the case of ASCII letters. The last of a doubled name counts; nothing is as good as absent.

use std::borrow::Cow;
use std::fmt;

use gatepost_identity::secret::Secret;

use crate::servicestack::jsv;

/// How deep lists and maps may be nested, the request itself counted.
pub(super) const DEEPEST: usize = 32;

/// How many values a request may hold, at any depth, names not counted.
pub(super) const MOST: usize = 4096;

/// One value. Not printable outside tests: it may be a password.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Said to be nothing.
    Null,
    /// Text; also every number and boolean, as it was written.
    Text(Cow<'a, str>),
    /// Values in order.
    List(Vec<Value<'a>>),
    /// Named values in order.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Why a request cannot be read. What was sent is never quoted: it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not UTF-8.
    Encoding,
    /// It breaks the grammar of its format, or ends too early.
    Grammar,
    /// It is nested deeper than [`DEEPEST`].
    TooDeep,
    /// It holds more than [`MOST`] values, or more of something than its format needs.
    TooMany,
    /// It is whole, but is not an object, or is another one than the one asked for.
    Shape,
    /// This member is not of its type.
    Member(&'static str),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Encoding => f.write_str("the text is not UTF-8"),
            Unreadable::Grammar => f.write_str("the text is malformed or incomplete"),
            Unreadable::TooDeep => f.write_str("the text is nested too deeply"),
            Unreadable::TooMany => f.write_str("the text holds too many values"),
            Unreadable::Shape => f.write_str("the text holds no such object"),
            Unreadable::Member(name) => write!(f, "the value of {name} is of another type"),
        }
    }
}

/// How many values may still be read.
pub(super) struct Budget(usize);

impl Budget {
    /// That of one request.
    pub(super) fn new() -> Budget {
        Budget(MOST)
    }

    /// Takes one value out of it.
    ///
    /// # Errors
    /// It is spent.
    pub(super) fn spend(&mut self) -> Result<(), Unreadable> {
        self.0 = self.0.checked_sub(1).ok_or(Unreadable::TooMany)?;
        Ok(())
    }
}

/// Whether names or words are the same here.
pub(super) fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The members of a request, from one source or from several laid over each other.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Fields<'a> {
    /// Members in the order in which they were sent. A member said to be nothing is left out.
    pub(super) fn new(members: impl IntoIterator<Item = (Cow<'a, str>, Value<'a>)>) -> Fields<'a> {
        Fields(members.into_iter().filter(|(_, value)| *value != Value::Null).collect())
    }

    /// The members of an object.
    ///
    /// # Errors
    /// It is a list or a text.
    pub(super) fn of(value: Value<'a>) -> Result<Fields<'a>, Unreadable> {
        match value {
            Value::Map(members) => Ok(Fields::new(members)),
            Value::Null => Ok(Fields::default()),
            Value::Text(_) | Value::List(_) => Err(Unreadable::Shape),
        }
    }

    /// What a route of the service's own is asked: the query goes over the body, and the variables of the path go over both.
    /// The fields of a form are a body that goes over the query.
    pub(super) fn of_route(body: Body<'a>, query: Fields<'a>, path: Fields<'a>) -> Fields<'a> {
        let layers = match body {
            Body::Object(object) => [object, query, path],
            Body::Form(form) => [query, form, path],
        };
        Fields(layers.into_iter().flat_map(|layer| layer.0).collect())
    }

    /// What a pre-defined route is asked: the query only fills what the body left out.
    pub(super) fn of_predefined(body: Body<'a>, query: Fields<'a>) -> Fields<'a> {
        let (Body::Object(body) | Body::Form(body)) = body;
        Fields([query, body].into_iter().flat_map(|layer| layer.0).collect())
    }

    /// The names as they were sent.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// A member that is a text, without taking it out; for what is looked at before it is known what is asked.
    pub(super) fn peek(&self, name: &str) -> Option<&str> {
        match self.0.iter().rev().find(|(other, _)| same(other, name)) {
            Some((_, Value::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// Takes a member out. What it hid stays hidden.
    fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let (_, value) = self.0.iter_mut().rev().find(|(other, _)| same(other, name))?;
        match std::mem::replace(value, Value::Null) {
            Value::Null => None,
            value => Some(value),
        }
    }

    /// Takes out a text; it may be empty.
    ///
    /// # Errors
    /// It is a list or a map.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Unreadable> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.into_owned())),
            Some(_) => Err(Unreadable::Member(name)),
        }
    }

    /// Takes out a text where an empty one says nothing.
    ///
    /// # Errors
    /// It is a list or a map.
    pub(super) fn filled(&mut self, name: &'static str) -> Result<Option<String>, Unreadable> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// Takes out a text that is never to be printed; an empty one says nothing.
    ///
    /// # Errors
    /// It is a list or a map.
    pub(super) fn secret(&mut self, name: &'static str) -> Result<Option<Secret>, Unreadable> {
        Ok(self.filled(name)?.map(Secret::new))
    }

    /// Takes out a boolean: `true`, `1`, what a ticked box of a form sends (`on`), or the opposite, in any case. An empty text
    /// says nothing.
    ///
    /// # Errors
    /// It is anything else.
    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Unreadable> {
        let Some(text) = self.filled(name)? else { return Ok(None) };
        let is_one_of = |words: [&str; 3]| words.iter().any(|word| same(word, text.trim()));
        match (is_one_of(["true", "1", "on"]), is_one_of(["false", "0", "off"])) {
            (true, _) => Ok(Some(true)),
            (_, true) => Ok(Some(false)),
            _ => Err(Unreadable::Member(name)),
        }
    }

    /// Takes out a list of texts: a list, or a text that is one in JSV, with or without its brackets (`Admin,Editor`).
    ///
    /// # Errors
    /// It is a map, holds lists or maps, or is no JSV.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Vec<String>, Unreadable> {
        let wrong = Unreadable::Member(name);
        let list = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Text(text)) => return jsv_texts(&text).ok_or(wrong),
            Some(Value::List(list)) => list,
            Some(_) => return Err(wrong),
        };
        texts(list).ok_or(wrong)
    }

    /// Takes out a map of texts: a map, or a text that is one in JSV. Entries that are no texts are passed over.
    ///
    /// # Errors
    /// It is a list, or a text that is no JSV.
    pub(super) fn map(&mut self, name: &'static str) -> Result<Meta, Unreadable> {
        let wrong = Unreadable::Member(name);
        match self.take(name) {
            None => Ok(Meta::default()),
            Some(Value::Map(entries)) => Ok(Meta::of(entries)),
            Some(Value::Text(text)) if text.is_empty() => Ok(Meta::default()),
            Some(Value::Text(text)) => match jsv::read(&text) {
                Ok(Value::Map(entries)) => Ok(Meta::of(entries)),
                _ => Err(wrong),
            },
            Some(_) => Err(wrong),
        }
    }
}

/// The body of a request, by what it counts beside the query.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// An object in some format, or nothing.
    Object(Fields<'a>),
    /// The fields of a form.
    Form(Fields<'a>),
}

/// A map of texts that comes along with a request. Which keys mean something is told with what they mean.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Meta(Vec<(String, String)>);

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meta(..)")
    }
}

impl Meta {
    fn of(entries: Vec<(Cow<'_, str>, Value<'_>)>) -> Meta {
        let text = |(name, value): (Cow<'_, str>, Value<'_>)| match value {
            Value::Text(text) => Some((name.into_owned(), text.into_owned())),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        };
        Meta(entries.into_iter().filter_map(text).collect())
    }

    /// The value of a key, in exactly that case.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &**value)
    }
}

fn jsv_texts(text: &str) -> Option<Vec<String>> {
    let list = if text.starts_with('[') { jsv::read(text) } else { jsv::read_elements(text) };
    match list {
        Ok(Value::List(list)) => texts(list),
        _ => None,
    }
}

fn texts(list: Vec<Value<'_>>) -> Option<Vec<String>> {
    let mut texts = Vec::with_capacity(list.len());
    for value in list {
        match value {
            Value::Text(text) => texts.push(text.into_owned()),
            Value::Null => {}
            Value::List(_) | Value::Map(_) => return None,
        }
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn fields<const N: usize>(members: [(&'static str, Value<'static>); N]) -> Fields<'static> {
        Fields::new(members.map(|(name, value)| (name.into(), value)))
    }

    #[test]
    fn names_fold_case_and_the_last_one_counts() {
        let mut read = fields([("username", text("a")), ("USERNAME", text("b")), ("UserNames", text("c"))]);
        assert_eq!(read.text("UserName"), Ok(Some("b".to_owned())));
        assert_eq!(read.text("UserName"), Ok(None), "what was hidden does not come back");
    }

    #[test]
    fn booleans_are_read_from_what_the_formats_write() {
        let rows = [
            ("True", Ok(Some(true))),
            ("true", Ok(Some(true))),
            ("1", Ok(Some(true))),
            ("ON", Ok(Some(true))),
            ("False", Ok(Some(false))),
            ("0", Ok(Some(false))),
            ("off", Ok(Some(false))),
            ("", Ok(None)),
            ("yes?", Err(Unreadable::Member("RememberMe"))),
            ("2", Err(Unreadable::Member("RememberMe"))),
        ];
        for (written, expected) in rows {
            assert_eq!(fields([("rememberMe", text(written))]).boolean("RememberMe"), expected, "{written}");
        }
        let list = fields([("RememberMe", Value::List(vec![text("true")]))]).boolean("RememberMe");
        assert_eq!(list, Err(Unreadable::Member("RememberMe")));
    }

    #[test]
    fn lists_and_maps_may_be_texts_in_jsv() {
        let roles = |value| fields([("roles", value)]).texts("Roles");
        let both = Ok(vec!["Admin".to_owned(), "Ed,itor".to_owned()]);
        assert_eq!(roles(Value::List(vec![text("Admin"), Value::Null, text("Ed,itor")])), both);
        assert_eq!(roles(text("[Admin,\"Ed,itor\"]")), both);
        assert_eq!(roles(text("Admin,\"Ed,itor\"")), both);
        assert_eq!(roles(text("")), Ok(Vec::new()));
        assert_eq!(roles(text("[Admin")), Err(Unreadable::Member("Roles")));
        assert_eq!(roles(Value::Map(Vec::new())), Err(Unreadable::Member("Roles")));

        let meta = |value| fields([("Meta", value)]).map("Meta").map(|meta| meta.value("ignore").map(str::to_owned));
        assert_eq!(meta(text("{ignore:jwt}")), Ok(Some("jwt".to_owned())));
        assert_eq!(meta(Value::Map(vec![("ignore".into(), text("jwt"))])), Ok(Some("jwt".to_owned())));
        assert_eq!(meta(Value::Map(vec![("ignore".into(), Value::List(Vec::new()))])), Ok(None));
        assert_eq!(meta(text("")), Ok(None));
        assert_eq!(meta(text("ignore:jwt")), Err(Unreadable::Member("Meta")));
    }

    #[test]
    fn the_path_goes_over_the_query_and_the_query_over_the_body_on_own_routes_only() {
        let body = || fields([("provider", text("body")), ("UserName", text("body")), ("Password", text("body"))]);
        let query = || fields([("Provider", text("query")), ("userName", text("query")), ("State", text("query"))]);
        let path = || fields([("provider", text("path"))]);
        let told = |fields: Fields<'_>| {
            ["provider", "UserName", "Password", "State"].map(|name| fields.peek(name).unwrap_or("").to_owned())
        };
        let route = told(Fields::of_route(Body::Object(body()), query(), path()));
        assert_eq!(route, ["path", "query", "body", "query"]);
        let form = told(Fields::of_route(Body::Form(body()), query(), path()));
        assert_eq!(form, ["path", "body", "body", "query"]);
        for body in [Body::Object(body()), Body::Form(body())] {
            assert_eq!(told(Fields::of_predefined(body, query())), ["body", "body", "body", "query"]);
        }
    }

    #[test]
    fn what_the_body_says_to_be_nothing_is_filled_by_the_query() {
        let body = Body::Object(fields([("UserName", Value::Null)]));
        let mut read = Fields::of_predefined(body, fields([("UserName", text("query"))]));
        assert_eq!(read.text("UserName"), Ok(Some("query".to_owned())));
    }
}
