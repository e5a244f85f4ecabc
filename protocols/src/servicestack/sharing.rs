//! What other origins may do: scripts that call from elsewhere, and pages elsewhere that send a form here.
//!
//! The first are told by CORS what they may see. The second cannot be kept from sending, so what they send has no cookies, and a
//! link of theirs brings nobody a token: nobody is logged in or changed by a page of somebody else's.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::http::Response;
use crate::servicestack::return_url::is_origin;
use crate::servicestack::settings::{Origins, Settings};
use crate::servicestack::value::same;

/// How a browser says what sent a request.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What scripts of the request's origin may see of the answer.
pub(super) struct Sharing {
    /// Whom the answer is shared with.
    with: Option<HeaderValue>,
    /// Whether their cookies count.
    credentials: bool,
    /// Whether another origin would be answered otherwise.
    varies: bool,
    /// Whether there is anybody at all that could be shared with.
    preflights: bool,
}

impl Sharing {
    /// By the request's header fields.
    pub(super) fn of(settings: &Settings, headers: &HeaderMap) -> Sharing {
        let origin = headers.get(ORIGIN);
        match &settings.origins {
            Origins::Nobodys => Sharing { with: None, credentials: false, varies: false, preflights: false },
            Origins::Everybodys => {
                Sharing { with: Some(HeaderValue::from_static("*")), credentials: false, varies: false, preflights: true }
            }
            named @ Origins::These(_) => {
                let with = origin.filter(|origin| named.names(origin)).cloned();
                Sharing { credentials: with.is_some(), with, varies: true, preflights: true }
            }
        }
    }

    /// Writes what the answer says of it, beside what it depends on anyway.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(VARY, HeaderValue::from_static(if self.varies { "Accept, Origin" } else { "Accept" }));
        if let Some(with) = &self.with {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, with.clone());
        }
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// Answers the question before the request; without anybody to share with there is no answer.
    pub(super) fn preflight(&self) -> Option<Response> {
        let mut response = Some(Response::empty(StatusCode::OK)).filter(|_| self.preflights)?;
        self.write(&mut response.headers);
        if self.with.is_none() {
            return Some(response);
        }
        let rows = [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE, PATCH, OPTIONS, HEAD"),
            (ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type, Authorization"),
            (ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        for (name, value) in rows {
            response.headers.insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }
}

/// Whether a request was sent by a page, or by a link of a page, that is neither ours nor named in the settings.
pub(super) fn is_from_elsewhere(settings: &Settings, headers: &HeaderMap) -> bool {
    let origin = headers.get(ORIGIN);
    if origin.is_some_and(|origin| settings.origins.names(origin)) {
        return false;
    }
    let site = headers.get(SITE).map(HeaderValue::as_bytes).unwrap_or_default();
    match site {
        b"cross-site" => true,
        b"same-origin" | b"none" => false,
        // A page of a host beside ours that says no more is none of ours.
        b"same-site" => origin.is_none_or(|origin| !is_ours(settings, origin, headers)),
        _ => origin.is_some_and(|origin| !is_ours(settings, origin, headers)),
    }
}

/// Whether somebody's own click has led a browser's page here, as far as the browser says. Of one that does not say it, nothing
/// is known.
pub(super) fn is_clicked(headers: &HeaderMap) -> bool {
    let says = |name: &str, what: &[u8]| headers.get(name).is_some_and(|value| value.as_bytes() == what);
    says("Sec-Fetch-Dest", b"document") && says("Sec-Fetch-User", b"?1")
}

/// Without a public address ours is the one that the request itself was sent to: no browser lets a page choose that.
fn is_ours(settings: &Settings, origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Some((scheme, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else { return false };
    match &settings.public_url {
        Some(own) => is_origin(own, scheme, authority),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(|host| same(host, authority)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Section;

    fn settings(more: &str, public_url: Option<&str>) -> Settings {
        let section = Section(format!("client = 'web'\n{more}").parse().expect("TOML"));
        Settings::read(&section, public_url).expect("good").expect("open")
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_page_of_somebody_elses_is_elsewhere() {
        let listed = settings("origins = ['https://app.example.org']", Some("https://auth.example.org"));
        let nameless = settings("", None);
        let check = |settings: &Settings, fields: &[(&'static str, &'static str)], expected| {
            assert_eq!(is_from_elsewhere(settings, &headers(fields)), expected, "{fields:?}");
        };
        check(&listed, &[], false);
        check(&listed, &[("sec-fetch-site", "cross-site")], true);
        check(&listed, &[("sec-fetch-site", "none")], false);
        check(&listed, &[("sec-fetch-site", "same-origin"), ("origin", "https://auth.example.org")], false);
        check(&listed, &[("sec-fetch-site", "same-site"), ("origin", "https://x.example.org")], true);
        check(&listed, &[("sec-fetch-site", "same-site"), ("origin", "https://auth.example.org")], false);
        check(&listed, &[("sec-fetch-site", "same-site"), ("origin", "https://app.example.org")], false);
        check(&listed, &[("sec-fetch-site", "same-site")], true);
        check(&listed, &[("sec-fetch-site", "cross-site"), ("origin", "https://app.example.org")], false);
        check(&listed, &[("origin", "https://auth.example.org:443")], false);
        check(&listed, &[("origin", "https://evil.test")], true);
        check(&listed, &[("origin", "null")], true);
        check(&listed, &[("origin", "http://auth.example.org")], true);
        check(&nameless, &[("origin", "http://localhost:8000"), ("host", "localhost:8000")], false);
        check(&nameless, &[("origin", "http://evil.test"), ("host", "localhost:8000")], true);
    }

    #[test]
    fn answers_are_shared_with_those_who_are_named() {
        let told = |settings: &Settings, origin: &'static str| {
            let mut told = HeaderMap::new();
            Sharing::of(settings, &headers(&[("origin", origin)])).write(&mut told);
            let text = |name: &str| told.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            [text("access-control-allow-origin"), text("access-control-allow-credentials"), text("vary")]
        };
        let listed = settings("origins = ['https://app.example.org']", None);
        assert_eq!(told(&listed, "https://app.example.org"), ["https://app.example.org", "true", "Accept, Origin"]);
        assert_eq!(told(&listed, "https://evil.test"), ["", "", "Accept, Origin"]);
        assert_eq!(told(&settings("origins = ['*']", None), "https://evil.test"), ["*", "", "Accept"]);
        assert_eq!(told(&settings("", None), "https://app.example.org"), ["", "", "Accept"]);
    }

    #[test]
    fn a_preflight_is_answered_where_somebody_could_be_shared_with() {
        let preflight = |more: &str, origin: &'static str| {
            let settings = settings(more, None);
            let response = Sharing::of(&settings, &headers(&[("origin", origin)])).preflight()?;
            Some((response.status.as_u16(), response.headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS)))
        };
        assert_eq!(preflight("", "https://app.example.org"), None);
        assert_eq!(preflight("origins = ['*']", "https://app.example.org"), Some((200, true)));
        assert_eq!(preflight("origins = ['https://app.example.org']", "https://app.example.org"), Some((200, true)));
        assert_eq!(preflight("origins = ['https://app.example.org']", "https://evil.test"), Some((200, false)));
    }
}
