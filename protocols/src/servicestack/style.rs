//! How an answer is dressed: the case of its names, the form of its dates, what of it is left out.
//!
//! The host sets it, and `?jsconfig=` changes it for one answer, in JSON and in JSV. XML and CSV have names and dates of their
//! own and know no other. It refuses to know what the answer says.

use std::borrow::Cow;

use gatepost_identity::clock::Timestamp;
use serde::Deserialize;

use crate::servicestack::dto::Data;
use crate::servicestack::value::{Fields, same};

/// What the host says about the case of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TextCase {
    /// `UserName`, as the .NET Framework's hosts write.
    Pascal,
    /// `userName`, as the hosts of .NET write.
    Camel,
    /// As the request's own names are; Pascal where they do not tell.
    Auto,
}

/// What the host says about dates in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DateFormat {
    /// `"\/Date(1700000000000)\/"`
    Wcf,
    /// `"2023-11-14T22:13:20.0000000Z"`
    Iso,
}

/// The case of names in one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// `UserName`
    Pascal,
    /// `userName`
    Camel,
    /// `user_name`
    Snake,
}

impl Case {
    /// A name of ours, which is in Pascal case but for a few that begin with a small letter in every case.
    pub(super) fn apply(self, name: &'static str) -> Cow<'static, str> {
        let starts_word = |letter: char| letter.is_ascii_uppercase();
        if self == Case::Pascal || !name.starts_with(starts_word) {
            return Cow::Borrowed(name);
        }
        let mut out = String::with_capacity(name.len() + 4);
        for (index, letter) in name.chars().enumerate() {
            if index > 0 && self == Case::Snake && starts_word(letter) {
                out.push('_');
            }
            let lowers = index == 0 || self == Case::Snake;
            out.push(if lowers { letter.to_ascii_lowercase() } else { letter });
        }
        Cow::Owned(out)
    }

    /// The case that a request's own names are in, by the first one that tells.
    pub(super) fn of(fields: &Fields<'_>) -> Option<Case> {
        let tells = |name: &&str| name.starts_with(|first: char| first.is_ascii_alphabetic()) && !IN_NO_CASE.contains(name);
        let telling = fields.names().find(tells)?;
        Some(if telling.starts_with(|first: char| first.is_ascii_uppercase()) { Case::Pascal } else { Case::Camel })
    }
}

/// What clients of any age send, spelled so in every case.
const IN_NO_CASE: [&str; 10] =
    ["provider", "oauth_token", "oauth_verifier", "nonce", "uri", "response", "qop", "nc", "cnonce", "scope"];

/// The form of dates in one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dates {
    /// `\/Date(1700000000000)\/` in JSON, the shortest form of ISO 8601 in JSV.
    Wcf,
    /// ISO 8601: seven digits of a second in JSON, the shortest form in JSV.
    Iso,
    /// Seconds since the Unix epoch, as a number.
    Seconds,
    /// Milliseconds since the Unix epoch, as a number.
    Millis,
}

/// How one answer is dressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// The case of its names.
    pub(super) case: Case,
    /// The form of its dates.
    pub(super) dates: Dates,
    /// Whether members that hold nothing are written.
    pub(super) nulls: bool,
    /// Whether members that hold their type's default, such as `false`, are left out.
    pub(super) without_defaults: bool,
    /// Whether JSON is written for people, one member a line.
    pub(super) indented: bool,
}

impl Style {
    /// As the host says; `asked` is what the body held, which decides where the host says so.
    pub(super) fn new(case: TextCase, dates: DateFormat, asked: &Fields<'_>) -> Style {
        let case = match case {
            TextCase::Pascal => Case::Pascal,
            TextCase::Camel => Case::Camel,
            TextCase::Auto => Case::of(asked).unwrap_or(Case::Pascal),
        };
        let dates = match dates {
            DateFormat::Wcf => Dates::Wcf,
            DateFormat::Iso => Dates::Iso,
        };
        Style { case, dates, nulls: false, without_defaults: false, indented: false }
    }

    /// As `?jsconfig=` wishes: `eccn,dh:iso8601`. Wishes that are not known are passed over.
    #[must_use]
    pub(super) fn wished(mut self, jsconfig: &str) -> Style {
        for wish in jsconfig.split(',') {
            let (name, value) = wish.split_once(':').unwrap_or((wish, "true"));
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_ascii_lowercase());
            let on = matches!(&*value, "true" | "1");
            match (&*name, &*value) {
                ("eccn" | "emitcamelcasenames", _) if on => self.case = Case::Camel,
                ("epcn" | "emitpascalcasenames", _) if on => self.case = Case::Pascal,
                ("elun" | "emitlowercaseunderscorenames", _) if on => self.case = Case::Snake,
                ("tc" | "textcase", "cc" | "camelcase") => self.case = Case::Camel,
                ("tc" | "textcase", "pc" | "pascalcase" | "d" | "default") => self.case = Case::Pascal,
                ("tc" | "textcase", "sc" | "snakecase") => self.case = Case::Snake,
                ("inv" | "includenullvalues", _) => self.nulls = on,
                ("edv" | "excludedefaultvalues", _) => self.without_defaults = on,
                ("pp" | "prettyprint" | "indent", _) => self.indented = on,
                ("dh" | "datehandler", "iso8601") => self.dates = Dates::Iso,
                ("dh" | "datehandler", "ut" | "unixtime") => self.dates = Dates::Seconds,
                ("dh" | "datehandler", "utm" | "unixtimems") => self.dates = Dates::Millis,
                ("dh" | "datehandler", "to" | "timestampoffset" | "dcjsc" | "dcjscompatible") => self.dates = Dates::Wcf,
                _ => {}
            }
        }
        self
    }

    /// Whether a member is written at all.
    pub(super) fn writes(&self, data: &Data<'_>) -> bool {
        match data {
            Data::Null => self.nulls,
            Data::Bool(false) => !self.without_defaults,
            _ => true,
        }
    }
}

/// Whether the query wishes for the form for people: `?debug`.
pub(super) fn wishes_debug(query: &Fields<'_>) -> bool {
    query.names().any(|name| same(name, "debug"))
}

/// Seven digits of a second, always: `2023-11-14T22:13:20.0000000Z`.
pub(super) fn push_round_trip(out: &mut String, moment: Timestamp) {
    let civil = push_seconds(out, moment);
    push_ticks(out, civil.subsec_nanosecond());
    out.push('Z');
}

/// As short as it can be: a date alone at midnight, no fraction in a whole second, else seven digits.
pub(super) fn push_shortest(out: &mut String, moment: Timestamp) {
    let start = out.len();
    let civil = push_seconds(out, moment);
    if civil.time() == jiff::civil::Time::midnight() {
        out.truncate(start + "0000-00-00".len());
        return;
    }
    if civil.subsec_nanosecond() != 0 {
        push_ticks(out, civil.subsec_nanosecond());
    }
    out.push('Z');
}

/// As XML Schema has it: a fraction only where there is one, without zeros at its end.
pub(super) fn push_schema(out: &mut String, moment: Timestamp) {
    let civil = push_seconds(out, moment);
    if civil.subsec_nanosecond() != 0 {
        push_ticks(out, civil.subsec_nanosecond());
        out.truncate(out.trim_end_matches('0').len());
    }
    out.push('Z');
}

/// Writes up to the seconds. .NET's time is of the years 1 to 9999.
fn push_seconds(out: &mut String, moment: Timestamp) -> jiff::civil::DateTime {
    let end = if moment.millis() < 0 { jiff::civil::date(1, 1, 1).at(0, 0, 0, 0) } else { jiff::civil::DateTime::MAX };
    let civil = jiff::Timestamp::from_millisecond(moment.millis()).map(|stamp| jiff::tz::Offset::UTC.to_datetime(stamp));
    let civil = civil.ok().filter(|civil| civil.year() >= 1).unwrap_or(end);
    for (before, number, width) in [
        ("", civil.year(), 4),
        ("-", civil.month().into(), 2),
        ("-", civil.day().into(), 2),
        ("T", civil.hour().into(), 2),
        (":", civil.minute().into(), 2),
        (":", civil.second().into(), 2),
    ] {
        out.push_str(before);
        push_padded(out, i32::from(number), width);
    }
    civil
}

fn push_ticks(out: &mut String, nanoseconds: i32) {
    out.push('.');
    push_padded(out, nanoseconds / 100, 7);
}

fn push_padded(out: &mut String, number: i32, width: u32) {
    let number = number.unsigned_abs();
    let mut unit = 10_u32.pow(width - 1);
    while unit > 0 {
        out.push(char::from(b'0' + (number / unit % 10) as u8));
        unit /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servicestack::value::Value;

    fn plain() -> Style {
        Style::new(TextCase::Pascal, DateFormat::Wcf, &Fields::default())
    }

    #[test]
    fn names_take_the_case_that_is_set() {
        let rows = [
            ("UserName", "userName", "user_name"),
            ("RefreshTokenExpiry", "refreshTokenExpiry", "refresh_token_expiry"),
            ("Meta", "meta", "meta"),
            ("provider", "provider", "provider"),
        ];
        for (pascal, camel, snake) in rows {
            assert_eq!(Case::Pascal.apply(pascal), pascal);
            assert_eq!(Case::Camel.apply(pascal), camel);
            assert_eq!(Case::Snake.apply(pascal), snake);
        }
    }

    #[test]
    fn auto_answers_in_the_case_of_the_request() {
        let check = |names: &[&'static str], expected| {
            let fields = Fields::new(names.iter().map(|name| ((*name).into(), Value::Text("x".into()))));
            assert_eq!(Style::new(TextCase::Auto, DateFormat::Wcf, &fields).case, expected, "{names:?}");
            assert_eq!(Style::new(TextCase::Camel, DateFormat::Wcf, &fields).case, Case::Camel, "{names:?}");
        };
        check(&["provider", "userName", "password"], Case::Camel);
        check(&["password"], Case::Camel);
        check(&["provider", "UserName", "password"], Case::Pascal);
        check(&["__type", "nonce", "userName"], Case::Camel);
        check(&["oauth_token", "UserName", "rememberMe"], Case::Pascal);
        check(&["provider"], Case::Pascal);
        check(&[], Case::Pascal);
    }

    #[test]
    fn wishes_are_granted_by_short_and_by_long_names() {
        let plain = plain();
        let rows = [
            ("", plain),
            ("eccn", Style { case: Case::Camel, ..plain }),
            ("EmitCamelCaseNames:true", Style { case: Case::Camel, ..plain }),
            ("eccn:false", plain),
            ("eccn,epcn", plain),
            ("elun", Style { case: Case::Snake, ..plain }),
            ("tc:cc", Style { case: Case::Camel, ..plain }),
            ("eccn,TC:D", plain),
            ("tc:sc", Style { case: Case::Snake, ..plain }),
            ("inv", Style { nulls: true, ..plain }),
            ("inv:0", plain),
            ("edv, pp", Style { without_defaults: true, indented: true, ..plain }),
            ("dh:iso8601", Style { dates: Dates::Iso, ..plain }),
            ("dh:ut", Style { dates: Dates::Seconds, ..plain }),
            ("DateHandler:UnixTimeMs", Style { dates: Dates::Millis, ..plain }),
            ("dh:utm,dh:dcjsc", plain),
            ("dh:never,xyz,:,,a:b:c", plain),
        ];
        for (jsconfig, expected) in rows {
            assert_eq!(plain.wished(jsconfig), expected, "{jsconfig}");
        }
    }

    #[test]
    fn a_date_is_as_long_as_its_form_needs() {
        let check = |millis: i64, shortest: &str, round_trip: &str, schema: &str| {
            let written = |push: fn(&mut String, Timestamp)| {
                let mut out = String::new();
                push(&mut out, Timestamp::from_millis(millis));
                out
            };
            assert_eq!(written(push_shortest), shortest);
            assert_eq!(written(push_round_trip), round_trip);
            assert_eq!(written(push_schema), schema);
        };
        check(1_741_046_400_000, "2025-03-04", "2025-03-04T00:00:00.0000000Z", "2025-03-04T00:00:00Z");
        check(1_741_064_767_000, "2025-03-04T05:06:07Z", "2025-03-04T05:06:07.0000000Z", "2025-03-04T05:06:07Z");
        check(1_741_064_767_120, "2025-03-04T05:06:07.1200000Z", "2025-03-04T05:06:07.1200000Z", "2025-03-04T05:06:07.12Z");
        check(i64::MIN, "0001-01-01", "0001-01-01T00:00:00.0000000Z", "0001-01-01T00:00:00Z");
        check(i64::MAX, "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z");
    }

    #[test]
    fn debug_is_wished_by_its_name_alone() {
        assert!(wishes_debug(&crate::servicestack::form::query("a=b&Debug")));
        assert!(!wishes_debug(&crate::servicestack::form::query("debugger=1")));
    }
}
