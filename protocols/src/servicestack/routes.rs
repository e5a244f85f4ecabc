//! Which operation a path asks for, and which verbs it takes there.
//!
//! ```text
//! /auth  /auth/{provider}  /auth/logout          routes of the service's own, with `.json` and its like at their end
//! /{format}/reply/X  /{format}/oneway/X  /api/X   pre-defined ones: any request by its name, or `X[]`, several of it
//! ```
//!
//! Fixed parts compare in any case and go over variable ones, whose case is the caller's. Slashes too many do not matter.

use http::Method;

use crate::servicestack::escape::unescaped;
use crate::servicestack::format::Format;
use crate::servicestack::message::Operation;
use crate::servicestack::negotiate::cut_suffix;
use crate::servicestack::settings::Settings;
use crate::servicestack::value::same;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An operation.
    Operation(Operation, Route),
    /// A pre-defined route to a request that there is not, by the name it was called.
    NoOperation(String, Route),
    /// A page that describes or asks: the same for everybody.
    Page(Page),
    /// Nothing.
    Nothing,
}

/// How an operation was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// What variable parts of the path say.
    pub(super) variables: Vec<(&'static str, String)>,
    /// The format of a pre-defined route.
    pub(super) predefined: Option<Format>,
    /// The format at the end of the path.
    pub(super) suffix: Option<Format>,
    /// The first part of the path.
    pub(super) first_part: String,
    /// The verbs that it takes.
    pub(super) verbs: &'static [Method],
    /// Whether it takes a list of requests.
    pub(super) many: bool,
}

/// A page that is the same for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// The form for a login.
    Login,
    /// The list of operations.
    Index,
    /// An operation as it is spoken in a format.
    Operation(Format),
    /// The types, for JavaScript.
    Types,
}

/// What reads is asked by these.
const READING: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];
/// What takes something away is not asked by following a link.
const CHANGING: [Method; 2] = [Method::POST, Method::PUT];
/// A request by its name takes any verb there is for one.
pub(super) const ANY: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// Finds what a path leads to; it has what stands before every path of the gate behind it already.
pub(super) fn find(settings: &Settings, path: &str) -> Found {
    let (path, suffix) = cut_suffix(path);
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(unescaped).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let route = |verbs| Route {
        variables: Vec::new(),
        predefined: None,
        suffix,
        first_part: parts.first().copied().unwrap_or_default().to_owned(),
        verbs,
        many: false,
    };
    let predefined = |name: &str, format| {
        let route = Route { predefined: Some(format), ..route(&ANY) };
        let (single, many) = name.strip_suffix("[]").map_or((name, false), |single| (single, true));
        match Operation::find(single).filter(|operation| settings.offers(*operation)) {
            // A list is a body, and a body is not had by reading.
            Some(operation) if many => Found::Operation(operation, Route { verbs: &CHANGING, many, ..route }),
            Some(operation) if operation.changes() => Found::Operation(operation, Route { verbs: &CHANGING, ..route }),
            Some(operation) => Found::Operation(operation, route),
            None => Found::NoOperation(name.to_owned(), route),
        }
    };
    let is = |part: &str, literal: &str| same(part, literal);
    let own = |operation, verbs, environment: Option<&str>| match settings.offers(operation) {
        true => {
            let variables = environment.map(|environment| ("Environment", environment.to_owned())).into_iter().collect();
            Found::Operation(operation, Route { variables, ..route(verbs) })
        }
        false => Found::Nothing,
    };
    let is_auth = |part: &str| is(part, "auth") || (settings.authenticate_alias && is(part, "authenticate"));
    match *parts.as_slice() {
        [auth] if is_auth(auth) => Found::Operation(Operation::Authenticate, route(&READING)),
        [auth, logout] if is_auth(auth) && is(logout, "logout") => Found::Operation(Operation::AuthenticateLogout, route(&READING)),
        [auth, provider] if is_auth(auth) => {
            let variables = vec![("provider", provider.to_owned())];
            Found::Operation(Operation::Authenticate, Route { variables, ..route(&READING) })
        }
        [path] if is(path, "register") => own(Operation::Register, &CHANGING, None),
        [path] if is(path, "assignroles") => own(Operation::AssignRoles, &CHANGING, None),
        [path] if is(path, "unassignroles") => own(Operation::UnAssignRoles, &CHANGING, None),
        [path] if is(path, "access-token") => own(Operation::GetAccessToken, &ANY, None),
        [path] if is(path, "session-to-token") => own(Operation::ConvertSessionToToken, &ANY, None),
        [keys] if is(keys, "apikeys") => own(Operation::GetApiKeys, &ANY, None),
        [keys, regenerate] if is(keys, "apikeys") && is(regenerate, "regenerate") => {
            own(Operation::RegenerateApiKeys, &CHANGING, None)
        }
        [keys, environment] if is(keys, "apikeys") => own(Operation::GetApiKeys, &ANY, Some(environment)),
        [keys, regenerate, environment] if is(keys, "apikeys") && is(regenerate, "regenerate") => {
            own(Operation::RegenerateApiKeys, &CHANGING, Some(environment))
        }
        [api] if is(api, "api") && suffix.is_none() && !settings.base_path.contains("api") => Found::Page(Page::Index),
        [api, name] if is(api, "api") && !settings.base_path.contains("api") => predefined(name, Format::Json),
        [format, reply, name] if is(reply, "reply") || is(reply, "oneway") => match Format::find(format) {
            Some(format) => predefined(name, format),
            None => Found::Nothing,
        },
        [login] if is(login, "login") => Found::Page(Page::Login),
        [metadata] if is(metadata, "metadata") && suffix.is_none() => Found::Page(Page::Index),
        [format, metadata] if is(metadata, "metadata") => match Format::find(format) {
            Some(format) => Found::Page(Page::Operation(format)),
            None => Found::Nothing,
        },
        [types, language] if is(types, "types") && is(language, "mjs") => Found::Page(Page::Types),
        _ => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Section;

    fn settings(more: &str) -> Settings {
        let section = Section(format!("client = 'web'\n{more}").parse().expect("TOML"));
        Settings::read(&section, None).expect("good").expect("open")
    }

    fn found(more: &str, path: &str) -> Found {
        find(&settings(more), path)
    }

    #[test]
    fn own_routes_are_found_however_they_are_written() {
        let check = |path: &str, operation, variables: &[(&'static str, &str)], suffix| {
            let Found::Operation(found, route) = found("", path) else { panic!("{path} leads nowhere") };
            let variables: Vec<_> = variables.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
            assert_eq!((found, route.variables, route.suffix), (operation, variables, suffix), "{path}");
            assert_eq!((route.predefined, route.verbs), (None, READING.as_slice()), "{path}");
        };
        check("/auth", Operation::Authenticate, &[], None);
        check("//AUTH/", Operation::Authenticate, &[], None);
        check("/auth.json", Operation::Authenticate, &[], Some(Format::Json));
        check("/auth/Credentials", Operation::Authenticate, &[("provider", "Credentials")], None);
        check("/auth/credentials.jsv", Operation::Authenticate, &[("provider", "credentials")], Some(Format::Jsv));
        check("/auth/credentials.json;x", Operation::Authenticate, &[("provider", "credentials.json;x")], None);
        check("/auth/a+b%2fc", Operation::Authenticate, &[("provider", "a b/c")], None);
        check("/auth/%2e%2e", Operation::Authenticate, &[("provider", "..")], None);
        check("/auth/LOGOUT", Operation::AuthenticateLogout, &[], None);
        check("/auth/logout.xml", Operation::AuthenticateLogout, &[], Some(Format::Xml));
    }

    #[test]
    fn predefined_routes_are_found_by_the_name_of_the_request() {
        let check = |path: &str, format| {
            let Found::Operation(Operation::Authenticate, route) = found("", path) else { panic!("{path} leads nowhere") };
            assert_eq!((route.predefined, route.verbs), (Some(format), ANY.as_slice()), "{path}");
        };
        check("/api/Authenticate", Format::Json);
        check("/API/authenticate.xml", Format::Json);
        check("/json/reply/authenticate", Format::Json);
        check("/JSV/Reply/Authenticate", Format::Jsv);
        check("/xml/oneway/Authenticate", Format::Xml);
        check("/html/reply/Authenticate", Format::Html);
        for name in ["Hello", "Hello[]", "Authenticate[][]", "Register[]"] {
            let Found::NoOperation(told, _) = found("", &format!("/json/reply/{name}")) else { panic!("{name} is not there") };
            assert_eq!(told, name);
        }
        for path in ["/api/Authenticate[]", "/jsv/reply/authenticate%5b%5D.xml"] {
            let Found::Operation(Operation::Authenticate, route) = found("", path) else { panic!("{path} leads nowhere") };
            assert_eq!((route.many, route.verbs), (true, CHANGING.as_slice()), "{path}");
        }
    }

    #[test]
    fn the_rest_leads_nowhere() {
        for path in [
            "",
            "/",
            "/auth/a/b",
            "/jsonl/reply/Authenticate",
            "/json/reply",
            "/api.json",
            "/authenticate",
            "/soap11",
            "/metadata.json",
        ] {
            assert_eq!(found("", path), Found::Nothing, "{path}");
        }
        for path in ["/api/Authenticate", "/api"] {
            assert_eq!(found("base_path = '/my-api'", path), Found::Nothing);
        }
        assert_eq!(found("", "/API/"), Found::Page(Page::Index));
        let alias = found("authenticate_alias = true", "/authenticate/credentials");
        assert!(matches!(alias, Found::Operation(Operation::Authenticate, _)), "{alias:?}");
    }
}
