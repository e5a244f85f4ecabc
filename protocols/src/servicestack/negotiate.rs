//! Which format answers. Nothing is ever "not acceptable": where nothing fits, it is the page for people.
//!
//! ```text
//! suffix of the path > ?format= > first part of the path > Accept > Content-Type, for whom anything is acceptable > page
//! ```
//!
//! The order among the types in `Accept` is the server's and not the caller's, and weights are not looked at; that is how the
//! framework does it, and what its clients are used to. A pre-defined route does not look at `Accept` at all.

use crate::servicestack::format::{Format, media_type};
use crate::servicestack::value::same;

/// How an answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Its format.
    pub(super) format: Format,
    /// Its `Content-Type`.
    pub(super) content_type: &'static str,
}

impl From<Format> for Chosen {
    fn from(format: Format) -> Chosen {
        Chosen { format, content_type: format.content_type() }
    }
}

/// What a request says about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes<'a> {
    /// What [`cut_suffix`] cut off.
    pub(super) suffix: Option<Format>,
    /// `format` in the query.
    pub(super) query: Option<&'a str>,
    /// The first part of the path.
    pub(super) first_part: &'a str,
    /// Every value of `Accept`, in order.
    pub(super) accept: &'a [&'a str],
    /// `Content-Type`.
    pub(super) content_type: Option<&'a str>,
}

/// The types of JSV by which it can be asked for; the framework registers the first and prints the second on its own page.
const JSV_TYPES: [&str; 2] = ["application/jsv", "text/jsv"];

/// Cuts the name of a format off the end of a path: `/auth.json`. Anything else after the last dot belongs to the path.
pub(super) fn cut_suffix(path: &str) -> (&str, Option<Format>) {
    let Some((before, suffix)) = path.rsplit_once('.') else { return (path, None) };
    match Format::find(suffix) {
        Some(format) => (before, Some(format)),
        None => (path, None),
    }
}

/// Which format answers on a route of the service's own.
pub(super) fn choose(wishes: &Wishes<'_>) -> Chosen {
    let named = wishes.suffix.or_else(|| named(wishes.query)).or_else(|| Format::find(wishes.first_part));
    named.map_or_else(|| accepted(wishes), Chosen::from)
}

/// Which format answers on a pre-defined route of `own`.
pub(super) fn choose_predefined(own: Format, suffix: Option<Format>, query: Option<&str>) -> Chosen {
    suffix.or_else(|| named(query)).unwrap_or(own).into()
}

/// The format that `?format=` names, with what may follow it after a dot.
fn named(query: Option<&str>) -> Option<Format> {
    Format::find(query?.split('.').next().unwrap_or_default())
}

fn accepted(wishes: &Wishes<'_>) -> Chosen {
    const PREFERRED: [Format; 4] = [Format::Html, Format::Json, Format::Xml, Format::Jsv];
    let sent = sent(wishes.content_type.map(media_type).unwrap_or_default());
    let entries = || wishes.accept.iter().flat_map(|value| value.split(',')).map(str::trim);
    let asked = |format: Format| entries().find_map(|entry| as_asked(format, entry));

    let own = sent.filter(|sent| PREFERRED.contains(&sent.format));
    let own = own.and_then(|own| asked(own.format).filter(|asked| asked.content_type == own.content_type));
    if let Some(chosen) = own.or_else(|| PREFERRED.into_iter().find_map(asked)) {
        return chosen;
    }
    if entries().any(|entry| entry == "*/*") {
        return sent.unwrap_or(Format::Html.into());
    }
    asked(Format::Csv).unwrap_or(Format::Html.into())
}

/// The format, if this entry of `Accept` begins with its type.
fn as_asked(format: Format, entry: &str) -> Option<Chosen> {
    let begins = |name: &str| entry.get(..name.len()).is_some_and(|start| same(start, name));
    if format == Format::Jsv {
        let content_type = JSV_TYPES.into_iter().find(|name| begins(name))?;
        return Some(Chosen { format, content_type });
    }
    begins(format.media_type()).then(|| format.into())
}

/// The format that a body is sent in, where an answer can be in it under that very type.
fn sent(media_type: &str) -> Option<Chosen> {
    if let Some(content_type) = JSV_TYPES.into_iter().find(|name| same(name, media_type)) {
        return Some(Chosen { format: Format::Jsv, content_type });
    }
    let aliases = [("text/json", Format::Json, "text/json; charset=utf-8"), ("text/xml", Format::Xml, "text/xml; charset=utf-8")];
    let alias = aliases.into_iter().find(|(name, ..)| same(name, media_type));
    if let Some((_, format, content_type)) = alias {
        return Some(Chosen { format, content_type });
    }
    Format::ALL.into_iter().find(|format| same(format.media_type(), media_type)).map(Chosen::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json; charset=utf-8";
    const HTML: &str = "text/html; charset=utf-8";
    const FORM: &str = "application/x-www-form-urlencoded";
    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

    fn check(accept: &[&str], content_type: &str, expected: &str) {
        let content_type = Some(content_type).filter(|text| !text.is_empty());
        let chosen = choose(&Wishes { accept, content_type, first_part: "auth", ..Wishes::default() });
        assert_eq!(chosen.content_type, expected, "{accept:?} {content_type:?}");
    }

    #[test]
    fn accept_is_matched_in_the_servers_order() {
        check(&[], "", HTML);
        check(&[], "application/json", HTML);
        check(&[""], "", HTML);
        check(&["application/json"], "", JSON);
        check(&["Application/Json;q=0.1"], "", JSON);
        check(&["application/jsonp"], "", JSON);
        check(&["application/xml"], "", "application/xml");
        check(&["application/jsv"], "", "application/jsv");
        check(&["text/csv"], "", "text/csv");
        check(&[BROWSER], "", HTML);
        check(&["application/json, text/html"], "", HTML);
        check(&["application/json;q=1, text/html;q=0"], "", HTML);
        check(&["application/jsv, application/xml"], "", "application/xml");
        check(&["text/csv, application/jsv"], "", "application/jsv");
        check(&["application/json, text/plain, */*"], "", JSON);
        check(&["text/plain, application/json"], "", JSON);
        check(&["text/plain", "application/json"], "", JSON);
        check(&["image/png"], "", HTML);
        check(&["application/*"], "", HTML);
        check(&["text/xml"], "", HTML);
    }

    #[test]
    fn a_matched_type_that_is_also_the_requests_own_wins_at_once() {
        check(&["text/html, application/json"], "application/json", JSON);
        check(&["text/html, application/json"], "application/json; charset=utf-8", JSON);
        check(&["application/json, application/xml"], "application/xml", "application/xml");
        check(&["application/json, application/xml"], "text/xml", JSON);
        check(&["text/html, application/json"], FORM, HTML);
        check(&["application/json, text/csv"], "text/csv", JSON);
    }

    #[test]
    fn whoever_accepts_anything_is_answered_in_what_they_send() {
        check(&["*/*"], "", HTML);
        check(&["*/*"], "application/json", JSON);
        check(&["*/*"], "application/json; charset=utf-8", JSON);
        check(&["text/plain, */*"], "application/xml", "application/xml");
        check(&["*/*"], "text/xml", "text/xml; charset=utf-8");
        check(&["*/*"], "text/json", "text/json; charset=utf-8");
        check(&["*/*"], "text/jsv", "text/jsv");
        check(&["*/*"], "text/csv", "text/csv");
        check(&["*/*"], FORM, HTML);
        check(&["*/*"], "multipart/form-data; boundary=x", HTML);
        check(&["*/*"], "text/plain;charset=UTF-8", HTML);
        check(&["*/*;q=0.8"], "application/json", HTML);
        check(&["text/csv, */*"], "application/json", JSON);
    }

    #[test]
    fn jsv_is_answered_by_the_name_it_was_asked_by() {
        check(&["text/jsv"], "", "text/jsv");
        check(&["text/jsv"], "text/jsv", "text/jsv");
        check(&["text/jsv, application/jsv"], "", "text/jsv");
        check(&["application/jsv, text/jsv"], "", "application/jsv");
        check(&["text/jsv"], "application/jsv", "text/jsv");
        check(&["application/json, text/jsv"], "text/jsv", "text/jsv");
    }

    #[test]
    fn what_the_address_says_goes_over_the_header() {
        let all = Wishes {
            suffix: Some(Format::Csv),
            query: Some("xml"),
            first_part: "jsv",
            accept: &["application/json"],
            content_type: Some("application/json"),
        };
        let check = |wishes: Wishes<'_>, expected| assert_eq!(choose(&wishes).format, expected, "{wishes:?}");
        check(all, Format::Csv);
        check(Wishes { suffix: None, ..all }, Format::Xml);
        check(Wishes { suffix: None, query: Some("JSV.x"), first_part: "auth", ..all }, Format::Jsv);
        check(Wishes { suffix: None, query: Some("html"), ..all }, Format::Html);
        check(Wishes { suffix: None, query: Some("yaml"), ..all }, Format::Jsv);
        check(Wishes { suffix: None, query: None, ..all }, Format::Jsv);
        check(Wishes { suffix: None, query: None, first_part: "auth", ..all }, Format::Json);
    }

    #[test]
    fn a_predefined_route_answers_in_its_own_format() {
        assert_eq!(choose_predefined(Format::Json, None, None).content_type, JSON);
        assert_eq!(choose_predefined(Format::Json, None, Some("jsv")).content_type, "application/jsv");
        assert_eq!(choose_predefined(Format::Json, Some(Format::Xml), Some("jsv")).content_type, "application/xml");
        assert_eq!(choose_predefined(Format::Csv, None, Some("nothing")).content_type, "text/csv");
    }

    #[test]
    fn only_the_name_of_a_format_is_cut_off_a_path() {
        let rows = [
            ("/auth.json", "/auth", Some(Format::Json)),
            ("/auth/credentials.JSV", "/auth/credentials", Some(Format::Jsv)),
            ("/auth/a.b.xml", "/auth/a.b", Some(Format::Xml)),
            ("/auth/credentials.json;x", "/auth/credentials.json;x", None),
            ("/auth/credentials.json/", "/auth/credentials.json/", None),
            ("/auth/credentials.", "/auth/credentials.", None),
            ("/auth.v2/credentials", "/auth.v2/credentials", None),
            ("/auth", "/auth", None),
        ];
        for (path, before, format) in rows {
            assert_eq!(cut_suffix(path), (before, format));
        }
    }
}
