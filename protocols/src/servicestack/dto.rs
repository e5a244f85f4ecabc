//! What an answer says, before it is said in any format: named members in the order of the wire.
//!
//! A null member is kept, because XML names it. It refuses to know what the members mean.

use std::borrow::Cow;

use gatepost_identity::clock::Timestamp;

/// One object.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq)]
pub(super) struct Dto<'a> {
    /// The name of its type.
    pub(super) name: &'static str,
    /// Its members by their names in Pascal case.
    pub(super) members: Vec<(&'static str, Data<'a>)>,
}

/// What a member holds.
#[cfg_attr(test, derive(Debug))]
#[derive(Clone, PartialEq)]
pub(super) enum Data<'a> {
    /// Nothing.
    Null,
    /// A text.
    Text(Cow<'a, str>),
    /// A boolean.
    Bool(bool),
    /// A moment.
    Moment(Timestamp),
    /// A list of texts.
    Texts(Vec<Cow<'a, str>>),
    /// A map of texts, its keys in any case.
    Map(Vec<(Cow<'a, str>, Cow<'a, str>)>),
    /// Another object.
    Dto(Dto<'a>),
    /// A list of objects of the type of that name.
    Dtos(&'static str, Vec<Dto<'a>>),
}

impl<'a> Data<'a> {
    /// A text, or nothing.
    pub(super) fn text(text: Option<impl Into<Cow<'a, str>>>) -> Data<'a> {
        text.map_or(Data::Null, |text| Data::Text(text.into()))
    }

    /// A moment, or nothing.
    pub(super) fn moment(moment: Option<Timestamp>) -> Data<'a> {
        moment.map_or(Data::Null, Data::Moment)
    }

    /// A list of texts, or nothing.
    pub(super) fn texts(texts: Option<&'a [String]>) -> Data<'a> {
        texts.map_or(Data::Null, |texts| Data::Texts(texts.iter().map(Cow::from).collect()))
    }
}
