//! How one request is answered, whatever the answer says: format, case, cookies, whom it is shared with, and what a browser is
//! shown in the place of a 401.
//!
//! ```text
//! a DTO ──────────────────► written in the format that was chosen
//! a "no"  ── for a page ──► 302 back with `#f=sentence`, or to the login page where it is a 401
//!         └─ else ────────► the operation's own DTO with nothing in it but why; the reason phrase is its code
//! log in first ─ page ────► 302 to the login page
//!              └ else ────► 401, `WWW-Authenticate`, nothing
//! ```
//!
//! It refuses to know what was asked of the core.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::forward::Forward;
use crate::http::{Body, Response};
use crate::servicestack::cookies::Jar;
use crate::servicestack::dto::Dto;
use crate::servicestack::escape::escaped;
use crate::servicestack::failure::{Failure, challenge};
use crate::servicestack::format::Format;
use crate::servicestack::message::Operation;
use crate::servicestack::negotiate::Chosen;
use crate::servicestack::response::refused;
use crate::servicestack::return_url::marked;
use crate::servicestack::settings::{Provider, Settings};
use crate::servicestack::sharing::Sharing;
use crate::servicestack::style::Style;
use crate::servicestack::{html, jsv};

/// How one request is answered.
pub(super) struct Envelope {
    pub(super) settings: Arc<Settings>,
    /// What was asked for, where there is such a thing.
    pub(super) operation: Option<Operation>,
    pub(super) chosen: Chosen,
    pub(super) style: Style,
    /// Whether JSV is written for people.
    pub(super) debug: bool,
    pub(super) jar: Jar,
    pub(super) sharing: Sharing,
    pub(super) browser: Browser,
}

/// What matters where a browser shows the answer to somebody.
#[derive(Default)]
pub(super) struct Browser {
    /// Where it goes afterwards, checked.
    pub(super) target: Option<String>,
    /// The page it comes from, where that is one of ours.
    pub(super) referer: Option<String>,
    /// Whether it stays where it is, whatever goes wrong.
    pub(super) stays: bool,
    /// Where it is, if it can come back there.
    pub(super) here: Option<String>,
}

impl Envelope {
    /// Answers with an object.
    pub(super) fn answer(self, dto: &Dto<'_>) -> Response {
        let body = self.written(dto);
        self.sealed(StatusCode::OK, Some(body))
    }

    /// Answers with what is written already.
    pub(super) fn answer_written(self, body: String) -> Response {
        self.sealed(StatusCode::OK, Some(body))
    }

    /// Answers a browser with the way to a page, and everybody else with an object.
    pub(super) fn answer_or_go(self, target: Option<String>, dto: &Dto<'_>) -> Response {
        match target.filter(|_| self.chosen.format == Format::Html) {
            Some(target) => self.go(&target),
            None => self.answer(dto),
        }
    }

    /// Says no.
    pub(super) fn refuse(self, failure: &Failure<'_>) -> Response {
        if self.chosen.format == Format::Html && failure.is_explicit() && !self.browser.stays {
            if let Some(back) = self.browser.target.clone().or_else(|| self.browser.referer.clone()) {
                let sentence = escaped(&failure.response_status().message);
                return self.go(&marked(&back, "f", &sentence));
            }
            if failure.status() == StatusCode::UNAUTHORIZED {
                return self.go_to_login();
            }
        }
        let said = failure.response_status();
        let reason = match said.code {
            Cow::Borrowed(code) => Some(code),
            Cow::Owned(_) => None,
        };
        let body = refused(self.operation, said, |dto| self.written(dto));
        let mut response = self.sealed(failure.status(), Some(body));
        response.reason = reason;
        if let Some(seconds) = failure.retry_after() {
            response.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Says that somebody must log in first, as the first provider has it.
    pub(super) fn challenge(self) -> Response {
        let first = self.settings.first();
        self.challenge_by(first)
    }

    /// As [`Envelope::challenge`], where another provider is the first that would do.
    pub(super) fn challenge_by(self, provider: Provider) -> Response {
        if self.chosen.format == Format::Html {
            return self.go_to_login();
        }
        let how = challenge(provider.name());
        let mut response = self.sealed(StatusCode::UNAUTHORIZED, None);
        if let Some(how) = how {
            response.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(how));
        }
        response
    }

    /// Says that somebody who is signed in may not come in, and of the request nothing: in plain text, whatever was asked for.
    pub(super) fn forbid(self, reason: &'static str) -> Response {
        let mut response = self.sealed(StatusCode::FORBIDDEN, None);
        response.reason = Some(reason);
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response.body = Body::Bytes(Bytes::from_static(b"Forbidden"));
        response
    }

    /// Lets the request go on. What this answer would have said of cookies and sharing joins what comes back.
    pub(super) fn pass_on(self, forward: impl FnOnce(Envelope) -> Forward) -> Response {
        let headers = self.sealed(StatusCode::OK, None).headers;
        Response::forward(forward(self), headers)
    }

    fn go_to_login(self) -> Response {
        let origin = self.settings.public_url.as_deref().unwrap_or_default();
        let mut page = format!("{origin}{}/login", self.settings.base_path);
        if let Some(here) = &self.browser.here {
            page.push_str("?redirect=");
            page.push_str(&escaped(here));
        }
        self.go(&page)
    }

    fn go(self, target: &str) -> Response {
        let mut response = self.sealed(StatusCode::FOUND, None);
        match HeaderValue::try_from(target) {
            Ok(target) => response.headers.insert(LOCATION, target),
            // Targets are escaped where they are made; one that is not leads nowhere.
            Err(_) => response.headers.insert(LOCATION, HeaderValue::from_static("/")),
        };
        response
    }

    fn written(&self, dto: &Dto<'_>) -> String {
        let text = self.chosen.format.write(self.title(), dto, &self.style);
        if self.for_people() { jsv::indent(&text) } else { text }
    }

    fn for_people(&self) -> bool {
        self.debug && self.chosen.format == Format::Jsv
    }

    fn title(&self) -> &'static str {
        self.operation.map_or("Error", Operation::name)
    }

    /// What every answer has.
    fn sealed(&self, status: StatusCode, body: Option<String>) -> Response {
        let mut response = Response::empty(status);
        self.sharing.write(&mut response.headers);
        self.jar.write(&mut response.headers);
        response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let Some(body) = body else { return response };
        let content_type = if self.for_people() { "text/plain; charset=utf-8" } else { self.chosen.content_type };
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        match self.chosen.format {
            Format::Html => frame_nowhere(&mut response.headers),
            Format::Csv => {
                let file = format!("attachment;filename=\"{}.csv\"", self.title());
                if let Ok(file) = HeaderValue::try_from(file) {
                    response.headers.insert(CONTENT_DISPOSITION, file);
                }
            }
            Format::Json | Format::Jsv | Format::Xml => {}
        }
        response.body = Body::Bytes(Bytes::from(body));
        response
    }
}

/// No page of ours stands inside somebody else's.
fn frame_nowhere(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'none'"));
}

/// A page that is the same for everybody.
pub(super) fn page(body: String, content_type: &'static str) -> Response {
    let mut response = Response::empty(StatusCode::OK);
    response.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    frame_nowhere(&mut response.headers);
    response.body = Body::Bytes(Bytes::from(body));
    response
}

/// The page with the form for a login. `target` is where the browser goes after it, as it was asked for: whoever takes the form
/// checks it.
pub(super) fn login_page(base_path: &str, target: Option<&str>) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Sign in</title>\n</head>\n<body>\n<h1>Sign in</h1>\n\
         <p id=\"why\" role=\"alert\"></p>\n<form method=\"post\" action=\"",
    );
    html::push_escaped(&mut page, base_path);
    page.push_str("/auth/credentials\">\n");
    if let Some(target) = target {
        page.push_str("<input type=\"hidden\" name=\"continue\" value=\"");
        html::push_escaped(&mut page, target);
        page.push_str("\">\n");
    }
    page.push_str(
        "<p><label>User name or e-mail<br><input name=\"UserName\" autocomplete=\"username\" required autofocus></label></p>\n\
         <p><label>Password<br><input name=\"Password\" type=\"password\" autocomplete=\"current-password\" required></label></p>\n\
         <p><label><input name=\"RememberMe\" type=\"checkbox\" value=\"true\"> Remember me</label></p>\n\
         <p><button>Sign in</button></p>\n</form>\n<script>\n\
         const why = new URLSearchParams(location.hash.slice(1).replaceAll('/', '&')).get('f');\n\
         if (why) document.getElementById('why').textContent = why;\n</script>\n</body>\n</html>\n",
    );
    page
}
