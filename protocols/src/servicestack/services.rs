//! The services behind the gate, as the settings have them: which paths are theirs, and what each asks of whoever calls.
//!
//! ```text
//! path ─► its parts, unescaped ─► the longest service that they begin with ─► what it asks for this verb
//!              └ parts that others might read otherwise, or give to another service: refused
//! ```
//!
//! Whatever has no line of its own asks for somebody who is signed in. It refuses to know who calls, and what is not the gate's or a
//! service's.

use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::reply::{Method as Proved, Principal};
use http::Method;
use http::uri::{Authority, PathAndQuery};
use serde::Deserialize;

use crate::forward::Backend;
use crate::section::{BadSetting, Span};
use crate::servicestack::escape::unescaped;
use crate::servicestack::format::Format;
use crate::servicestack::settings::Provider;
use crate::servicestack::value::same;

/// Whoever has this role has every other one.
const ADMIN: &str = "Admin";
/// The verbs that go on. HEAD is asked what GET is.
const VERBS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A service as it is written.
#[derive(Deserialize)]
pub(super) struct Written {
    path: String,
    upstream: String,
    audience: Option<String>,
    #[serde(default)]
    anyone: Vec<String>,
    #[serde(default)]
    asks: Vec<WrittenAsk>,
    #[serde(default = "five_seconds")]
    connect: Span,
    #[serde(default = "a_minute")]
    answer: Span,
    #[serde(default = "two_minutes")]
    idle: Span,
    #[serde(default = "hundred_mebibytes")]
    max_body: u64,
    #[serde(default = "many")]
    max_in_flight: usize,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenAsk {
    verbs: Vec<String>,
    providers: Vec<Provider>,
    roles: Vec<String>,
    any_role: Vec<String>,
    permissions: Vec<String>,
    any_permission: Vec<String>,
}

fn five_seconds() -> Span {
    Span(Duration::from_secs(5))
}

fn a_minute() -> Span {
    Span(Duration::from_secs(60))
}

fn two_minutes() -> Span {
    Span(Duration::from_secs(120))
}

fn hundred_mebibytes() -> u64 {
    100 * 1024 * 1024
}

fn many() -> usize {
    256
}

/// All services behind the gate.
#[derive(Debug, Default)]
pub(super) struct Services(Vec<Arc<Service>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Service {
    /// The parts of the path that every path of it begins with.
    parts: Vec<String>,
    /// What stands in their place where the request goes on; none: they do themselves.
    in_place: Option<String>,
    /// Whom the token is for that tells who is there.
    pub(super) audience: String,
    /// Where it is.
    pub(super) backend: Arc<Backend>,
    /// The verbs for which nobody need be signed in.
    anyone: Vec<Method>,
    asks: Vec<Ask>,
}

/// What is asked of whoever calls, for some verbs.
#[derive(Debug)]
struct Ask {
    verbs: Vec<Method>,
    providers: Vec<Provider>,
    roles: Vec<String>,
    any_role: Vec<String>,
    permissions: Vec<String>,
    any_permission: Vec<String>,
}

/// Why somebody who is signed in does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// They came by another provider than these, of which this is the first.
    Provider(Provider),
    /// A role.
    Role,
    /// A permission.
    Permission,
}

/// What a path leads to behind the gate.
#[derive(Debug)]
pub(super) struct Place {
    /// The service that it belongs to.
    pub(super) service: Arc<Service>,
    /// Where the request goes; none: others could read the path otherwise than we do.
    pub(super) target: Option<String>,
}

impl Services {
    /// Checks what is written.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub(super) fn check(written: Vec<Written>, has: impl Fn(Provider) -> bool) -> Result<Services, BadSetting> {
        let mut services: Vec<Arc<Service>> = Vec::new();
        for (number, one) in written.into_iter().enumerate() {
            let place = |key: &str| format!("service[{number}].{key}");
            let service = Service::check(one, &place, &has)?;
            if services.iter().any(|other| other.parts.len() == service.parts.len() && begins(&other.parts, &service.parts)) {
                return Err(BadSetting::new(place("path"), "stands there twice"));
            }
            services.push(Arc::new(service));
        }
        Ok(Services(services))
    }

    /// The paths as they are written, one for each service in its order.
    pub(super) fn paths(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|service| format!("/{}", service.parts.join("/")))
    }

    /// The service that a path belongs to, behind `base`, which stands before every path of the gate: the one with the longest
    /// beginning of it. The name of a format at its end counts as if it were not there.
    pub(super) fn find(&self, base: &str, path: &str) -> Option<Place> {
        if self.0.is_empty() {
            return None;
        }
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(unescaped).collect();
        let read = || self.0.iter().map(|service| (service, reading(&parts, &service.parts)));
        let fits = read().filter(|(_, reading)| matches!(reading, Reading::Whole | Reading::WithoutFormat));
        let (service, _) = fits.max_by_key(|(service, reading)| (service.parts.len(), *reading == Reading::Whole))?;
        // Whoever cuts more off the end of a name than we do may find another service there, which asks for something else.
        let is_anothers = || service.parts.len() < parts.len() && read().any(|(_, reading)| reading == Reading::WithoutMore);
        let target = (is_plain(path) && !is_anothers()).then(|| service.target(base, path));
        Some(Place { service: Arc::clone(service), target })
    }
}

/// How a path is one of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It begins with the service's own.
    Whole,
    /// It is the service's own, with the name of a format behind it.
    WithoutFormat,
    /// It is the service's own, with something else behind a dot.
    WithoutMore,
    /// It is none of it.
    Not,
}

/// How a path with these parts is one of the service at `own`, in any case: many services find theirs so.
fn reading(parts: &[String], own: &[String]) -> Reading {
    if begins(parts, own) {
        return Reading::Whole;
    }
    let (Some((last, before)), Some((own_last, own_before))) = (parts.split_last(), own.split_last()) else { return Reading::Not };
    if before.len() != own_before.len() || !begins(before, own_before) {
        return Reading::Not;
    }
    match folded(last).strip_prefix(&folded(own_last)).and_then(|behind| behind.strip_prefix('.')) {
        None => Reading::Not,
        Some(format) if is_format(format) => Reading::WithoutFormat,
        Some(_) => Reading::WithoutMore,
    }
}

/// Whether a service may cut this off the end of a path as the name of a format: the framework has one more than we write.
fn is_format(name: &str) -> bool {
    Format::find(name).is_some() || same(name, "jsonl")
}

/// Whether a path begins with these parts, in any case: many services find theirs so.
fn begins(path: &[String], with: &[String]) -> bool {
    path.len() >= with.len() && path.iter().zip(with).all(|(one, other)| folded(one) == folded(other))
}

/// A part as those read it to whom case is nothing.
fn folded(part: &str) -> String {
    part.to_uppercase().to_lowercase()
}

/// Whether every reader finds the same parts in a path: none is empty but for the last, and each is plain.
fn is_plain(path: &str) -> bool {
    let mut parts = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(part) = parts.next() {
        if !is_plain_part(part) && (!part.is_empty() || parts.peek().is_some()) {
            return false;
        }
    }
    true
}

/// Whether a part is the same to every reader. To some a semicolon begins a parameter, and a dot or a blank at the end is nothing;
/// some undo escapes twice, or read a suffix from what is undone. So none of it may be there, and no escape may hide another, a
/// separator, a dot, a control character, or what is no text.
fn is_plain_part(part: &str) -> bool {
    let is_odd = |letter: char| matches!(letter, '/' | '\\' | ';' | '%') || letter.is_control();
    let dots = |part: &str| part.matches('.').count();
    undone(part).is_some_and(|read| {
        !read.is_empty() && !read.contains(is_odd) && read.trim() == read && !read.ends_with('.') && dots(&read) == dots(part)
    })
}

/// A part without one layer of escapes, if all of them are whole and it is a text.
fn undone(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut pieces = part.split('%');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

impl Service {
    fn check(written: Written, place: &dyn Fn(&str) -> String, has: &dyn Fn(Provider) -> bool) -> Result<Service, BadSetting> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "/-_.~".contains(letter);
        let path = &written.path;
        if !path.starts_with('/') || (path.len() > 1 && path.ends_with('/')) || !path.chars().all(plain) || !is_plain(path) {
            return Err(BadSetting::new(place("path"), "is no path; write it as in \"/orders\", or \"/\" for all that is left"));
        }
        let parts = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let (authority, in_place) = upstream(&written.upstream).map_err(|what| BadSetting::new(place("upstream"), what))?;
        for (key, span, most) in
            [("connect", written.connect, 300), ("answer", written.answer, 3600), ("idle", written.idle, 24 * 3600)]
        {
            if span.0.is_zero() || span.0 > Duration::from_secs(most) {
                return Err(BadSetting::new(place(key), format!("must be longer than nothing, and at most {most}s")));
            }
        }
        if written.max_body > 1 << 40 {
            return Err(BadSetting::new(place("max_body"), "must be from 0 to 1099511627776 bytes"));
        }
        if !(1..=100_000).contains(&written.max_in_flight) {
            return Err(BadSetting::new(place("max_in_flight"), "must be from 1 to 100000 requests"));
        }
        let anyone = match &*written.anyone {
            [all] if all == "*" => VERBS.to_vec(),
            verbs => self::verbs(verbs).map_err(|(at, what)| BadSetting::new(place(&format!("anyone[{at}]")), what))?,
        };
        let mut asks = Vec::new();
        for (number, ask) in written.asks.into_iter().enumerate() {
            let place = |key: &str| place(&format!("asks[{number}].{key}"));
            let verbs = match &*ask.verbs {
                [] => VERBS.iter().filter(|verb| !anyone.contains(verb)).cloned().collect(),
                verbs => self::verbs(verbs).map_err(|(at, what)| BadSetting::new(place(&format!("verbs[{at}]")), what))?,
            };
            if verbs.is_empty() || verbs.iter().any(|verb| anyone.contains(verb)) {
                return Err(BadSetting::new(place("verbs"), "asks something of callers whom `anyone` lets pass"));
            }
            if let Some(at) = ask.providers.iter().position(|provider| !has(*provider)) {
                return Err(BadSetting::new(place(&format!("providers[{at}]")), "is none of the gate's own `providers`"));
            }
            let WrittenAsk { verbs: _, providers, roles, any_role, permissions, any_permission } = ask;
            if providers.is_empty() && [&roles, &any_role, &permissions, &any_permission].iter().all(|names| names.is_empty()) {
                return Err(BadSetting::new(place("roles"), "or another of its kind must be there, or nothing is asked"));
            }
            asks.push(Ask { verbs, providers, roles, any_role, permissions, any_permission });
        }
        let backend = Backend {
            authority,
            connect: written.connect.0,
            answer: written.answer.0,
            idle: written.idle.0,
            max_body: written.max_body,
            max_in_flight: written.max_in_flight,
        };
        let audience = written.audience.unwrap_or(written.upstream);
        Ok(Service { parts, in_place, audience, backend: Arc::new(backend), anyone, asks })
    }

    /// Where a request for a plain path goes. Its bytes stay as they were sent.
    fn target(&self, base: &str, path: &str) -> String {
        let Some(in_place) = &self.in_place else { return format!("{base}{path}") };
        // Behind the slash before the last part that is replaced there is a name, with its format perhaps.
        let mut rest = path;
        for part in &self.parts {
            let behind = rest.strip_prefix('/').unwrap_or(rest);
            let end = behind.find('/').unwrap_or(behind.len());
            let is_whole = folded(&unescaped(&behind[..end])) == folded(part);
            let name = behind[..end].rfind('.').filter(|_| !is_whole).unwrap_or(end);
            rest = &behind[name..];
        }
        let target = format!("{in_place}{rest}");
        if target.starts_with('/') { target } else { format!("/{target}") }
    }

    /// Whether nobody need be signed in for this verb.
    pub(super) fn lets_anyone(&self, verb: &Method) -> bool {
        self.anyone.contains(counted(verb))
    }

    /// Whether somebody who is signed in may come in with this verb.
    pub(super) fn admits(&self, verb: &Method, who: &Principal) -> Result<(), Lack> {
        let asks = || self.asks.iter().filter(|ask| ask.verbs.contains(counted(verb)));
        let rights = &who.rights;
        let is_admin = rights.roles.iter().any(|role| role == ADMIN);
        if is_admin && who.method == Proved::OperatorSecret {
            // The framework asks nothing more of whoever shows its secret.
            return Ok(());
        }
        if let Some(first) = asks().find_map(|ask| ask.other_provider(who)) {
            return Err(Lack::Provider(first));
        }
        if !is_admin && !asks().all(|ask| holds(&rights.roles, &ask.roles, &ask.any_role)) {
            return Err(Lack::Role);
        }
        if !asks().all(|ask| holds(&rights.permissions, &ask.permissions, &ask.any_permission)) {
            return Err(Lack::Permission);
        }
        Ok(())
    }
}

impl Ask {
    /// The first of the providers that are asked for, where somebody came by another.
    fn other_provider(&self, who: &Principal) -> Option<Provider> {
        let came = came_by(who.method);
        self.providers.first().copied().filter(|_| !came.is_some_and(|came| self.providers.contains(&came)))
    }
}

/// The provider that somebody came by with this request.
fn came_by(method: Proved) -> Option<Provider> {
    match method {
        Proved::Password => Some(Provider::Basic),
        Proved::Cookie => Some(Provider::Credentials),
        Proved::ApiKey => Some(Provider::ApiKey),
        Proved::Access | Proved::Refresh => Some(Provider::Jwt),
        Proved::ClientSecret | Proved::Code | Proved::Token | Proved::OperatorSecret | Proved::Pin | Proved::Unsecured => None,
    }
}

/// Whether all of the first are there, and of the second at least one, where there are any.
fn holds(held: &[String], all: &[String], any: &[String]) -> bool {
    all.iter().all(|one| held.contains(one)) && (any.is_empty() || any.iter().any(|one| held.contains(one)))
}

fn counted(verb: &Method) -> &Method {
    if *verb == Method::HEAD { &Method::GET } else { verb }
}

fn verbs(written: &[String]) -> Result<Vec<Method>, (usize, String)> {
    let find = |(at, written): (usize, &String)| {
        let verb = VERBS.iter().find(|verb| verb.as_str() == written).cloned();
        verb.ok_or((at, "is none of GET (which is HEAD too), POST, PUT, PATCH and DELETE".to_owned()))
    };
    written.iter().enumerate().map(find).collect()
}

/// Where a service is, and what stands there in the place of its path here, where the address has a path.
fn upstream(written: &str) -> Result<(Authority, Option<String>), String> {
    let complaint = || "is no address; write it as in \"http://orders.internal:9000\", with a path if need be".to_owned();
    if written.starts_with("https://") {
        return Err("cannot be reached over TLS; use http:// over a network of your own".to_owned());
    }
    let rest = written.strip_prefix("http://").ok_or_else(complaint)?;
    let (authority, path) = rest.find('/').map_or((rest, None), |slash| (&rest[..slash], Some(&rest[slash..])));
    let authority: Authority = authority.parse().map_err(|_| complaint())?;
    if authority.host().is_empty()
        || authority.as_str().contains('@')
        || authority.port().is_some_and(|port| port.as_str().is_empty())
    {
        return Err(complaint());
    }
    let Some(path) = path else { return Ok((authority, None)) };
    if path.contains(['?', '#']) || !is_plain(path) || path.parse::<PathAndQuery>().is_err() {
        return Err(complaint());
    }
    Ok((authority, Some(path.trim_end_matches('/').to_owned())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gatepost_identity::account::{AccountSummary, Rights};

    use super::*;
    use crate::section::Section;
    use crate::servicestack::settings::Settings;

    fn read(text: &str) -> Result<Settings, BadSetting> {
        let section = Section(format!("client = 'web'\n{text}").parse().expect("TOML"));
        Settings::read(&section, None).map(|settings| settings.expect("open"))
    }

    fn service(more: &str) -> String {
        format!("[[service]]\npath = '/orders'\nupstream = 'http://orders.internal:9000'\n{more}\n")
    }

    #[test]
    fn a_service_asks_for_somebody_who_is_signed_in_unless_it_is_told_otherwise() {
        let settings = read(&service("")).expect("good");
        let place = settings.services.find("", "/orders/5").expect("it is behind the gate");
        let one = place.service;
        assert_eq!((&*one.audience, one.backend.authority.as_str()), ("http://orders.internal:9000", "orders.internal:9000"));
        assert!(VERBS.iter().all(|verb| !one.lets_anyone(verb)));
        let backend = &one.backend;
        assert_eq!((backend.connect, backend.answer), (Duration::from_secs(5), Duration::from_secs(60)));
        assert_eq!((backend.idle, backend.max_body, backend.max_in_flight), (Duration::from_secs(120), 104_857_600, 256));
        let open = read(&service("anyone = ['GET']\naudience = 'o'")).expect("good").services.find("", "/orders").expect("there");
        assert!(open.service.lets_anyone(&Method::HEAD) && !open.service.lets_anyone(&Method::POST));
        assert_eq!(open.service.audience, "o");
    }

    #[test]
    fn bad_settings_are_named() {
        let rows = [
            ("[[service]]\nupstream = 'http://x'".to_owned(), "service[0]"),
            ("[[service]]\npath = 'orders'\nupstream = 'http://x'".to_owned(), "service[0].path"),
            ("[[service]]\npath = '/orders/'\nupstream = 'http://x'".to_owned(), "service[0].path"),
            ("[[service]]\npath = '/a/../b'\nupstream = 'http://x'".to_owned(), "service[0].path"),
            ("[[service]]\npath = '/auth'\nupstream = 'http://x'".to_owned(), "service[0].path"),
            ("[[service]]\npath = '/METADATA'\nupstream = 'http://x'".to_owned(), "service[0].path"),
            ("[[service]]\npath = '/a'\nupstream = 'https://x'".to_owned(), "service[0].upstream"),
            ("[[service]]\npath = '/a'\nupstream = 'x:80'".to_owned(), "service[0].upstream"),
            ("[[service]]\npath = '/a'\nupstream = 'http://u@x'".to_owned(), "service[0].upstream"),
            ("[[service]]\npath = '/a'\nupstream = 'http://x/?y'".to_owned(), "service[0].upstream"),
            ("[[service]]\npath = '/a'\nupstream = 'http://x//y'".to_owned(), "service[0].upstream"),
            ("[[service]]\npath = '/a'\nupstream = 'http://:80'".to_owned(), "service[0].upstream"),
            (service("") + &service("").replace("orders'", "ORDERS'"), "service[1].path"),
            (service("connect = '0s'"), "service[0].connect"),
            (service("answer = 5"), "service[0].answer"),
            (service("answer = '2h'"), "service[0].answer"),
            (service("idle = '25h'"), "service[0].idle"),
            (service("max_body = 2000000000000"), "service[0].max_body"),
            (service("max_in_flight = 0"), "service[0].max_in_flight"),
            (service("anyone = ['OPTIONS']"), "service[0].anyone[0]"),
            (service("anyone = ['*']\nasks = [{ roles = ['x'] }]"), "service[0].asks[0].verbs"),
            (service("anyone = ['GET']\nasks = [{ verbs = ['GET'], roles = ['x'] }]"), "service[0].asks[0].verbs"),
            (service("asks = [{ verbs = ['get'], roles = ['x'] }]"), "service[0].asks[0].verbs[0]"),
            (service("asks = [{ verbs = ['GET'] }]"), "service[0].asks[0].roles"),
            (service("asks = [{ providers = ['jwt'] }]"), "service[0].asks[0].providers[0]"),
            (service("asks = [{ role = ['x'] }]"), "service[0].asks[0].role"),
            (service("timeout = '1s'"), "service[0].timeout"),
        ];
        for (text, key) in rows {
            assert_eq!(read(&text).expect_err(&text).key, key, "{text}");
        }
    }

    #[test]
    fn the_prefix_that_is_looked_at_is_the_one_that_goes_on() {
        let settings = read(
            "[[service]]\npath = '/'\nupstream = 'http://all'\n[[service]]\npath = '/orders'\nupstream = 'http://orders'\n\
             [[service]]\npath = '/orders/old'\nupstream = 'http://old/v1/'\n[[service]]\npath = '/root'\nupstream = 'http://root/'\n",
        )
        .expect("good");
        let check = |path: &str, expected: &str| {
            let Place { service, target } = settings.services.find("/host", path).expect("something is");
            let target = target.map_or("odd".to_owned(), |target| format!("{}{target}", service.backend.authority));
            assert_eq!(target, expected, "{path}");
        };
        check("/", "all/host/");
        check("", "all/host");
        check("/x/", "all/host/x/");
        check("/orders", "orders/host/orders");
        check("/ORDERS/5", "orders/host/ORDERS/5");
        check("/orders.json", "orders/host/orders.json");
        check("/%6frders/5%20a", "orders/host/%6frders/5%20a");
        check("/orders5", "all/host/orders5");
        check("/orders.jsonl", "orders/host/orders.jsonl");
        check("/orders/old.xml/", "old/v1.xml/");
        check("/orders.json/", "orders/host/orders.json/");
        check("/x.exe", "all/host/x.exe");
        check("/x/orders.exe", "all/host/x/orders.exe");
        check("/orders/5.exe", "orders/host/orders/5.exe");
        check("/a+b/.hidden", "all/host/a+b/.hidden");
        check("/a%20b%c3%a9", "all/host/a%20b%c3%a9");
        check("/orders/old", "old/v1");
        check("/orders/Old.xml", "old/v1.xml");
        check("/orders/old/7?", "old/v1/7?");
        check("/root", "root/");
        check("/root/a/b", "root/a/b");
        check("/root.json", "root/.json");
        for odd in [
            "/orders//5",
            "//orders",
            "/orders/./5",
            "/orders/../x",
            "/orders/%2e%2E/x",
            "/orders/%252e%252e/x",
            "/orders/..;a=b/x",
            "/orders/..%3b/x",
            "/orders%2f5",
            "/orders/a%5cb",
            "/orders/a\\b",
            "/orders/a%00",
            "/orders/%c0%ae%c0%ae/x",
            "/orders/%zz",
            "/orders/%2",
            "/x%2f..%2forders",
            "/orders;x/foo",
            "/orders%3Bx/foo",
            "/x;orders",
            "/orders%2ejson",
            "/orders.exe",
            "/ORDERS.v2.json",
            "/orders/old.jsonlx/",
            "/%256frders/foo",
            "/x%25",
            "/orders%20/foo",
            "/%20orders",
            "/orders./foo",
            "/orders...",
            "/orders%c2%a0",
        ] {
            check(odd, "odd");
        }
        let one = read(&service("")).expect("good");
        for path in ["/", "/order", "/ordersx", "/x/../orders"] {
            assert!(one.services.find("", path).is_none(), "{path}");
        }
    }

    #[test]
    fn the_longest_path_is_looked_at_no_longer_than_its_length() {
        let settings = read("[[service]]\npath = '/'\nupstream = 'http://all'").expect("good");
        let begun = gatepost_identity::clock::system_instant();
        for path in [format!("/%{}41", "25".repeat(30_000)), "/.".repeat(30_000), format!("/{}", "a.".repeat(30_000))] {
            assert!(settings.services.find("", &path).is_some_and(|place| place.target.is_none()));
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_service_whose_path_has_a_dot_is_the_one_that_is_named() {
        let settings =
            read(&(service("") + &service("").replace("/orders'", "/orders.v2'").replace("http://orders", "http://new")))
                .expect("good");
        let check = |path: &str, expected: &str| {
            let place = settings.services.find("", path).expect("something is");
            assert!(place.target.is_some_and(|target| target == path), "{path}");
            assert_eq!(place.service.backend.authority.host(), expected, "{path}");
        };
        check("/orders.v2", "new.internal");
        check("/orders.V2.json", "new.internal");
        check("/orders.json", "orders.internal");
        check("/orders.v2/5", "new.internal");
        assert!(settings.services.find("", "/orders.v3").is_none());
    }

    fn who(roles: &[&str], permissions: &[&str], method: Proved) -> Principal {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Principal {
            session: None,
            account: None::<Arc<AccountSummary>>,
            client: None,
            scopes: Default::default(),
            rights: Rights { roles: names(roles), permissions: names(permissions) },
            terminal: None,
            provider: None,
            method,
            spelling: 0,
            expires_at: None,
        }
    }

    #[test]
    fn every_line_for_a_verb_is_asked() {
        let settings = read(&service(
            "asks = [{ roles = ['A', 'B'] }, { verbs = ['PUT'], any_role = ['C', 'D'], any_permission = ['p', 'q'] },\n\
             { verbs = ['GET'], providers = ['credentials', 'basic'] }, { verbs = ['DELETE'], permissions = ['p', 'q'] }]",
        ))
        .expect("good");
        let one = settings.services.find("", "/orders").expect("there").service;
        let check = |verb: Method, roles: &[&str], permissions: &[&str], method, expected| {
            assert_eq!(
                one.admits(&verb, &who(roles, permissions, method)),
                expected,
                "{verb} {roles:?} {permissions:?} {method:?}"
            );
        };
        use Proved::{Access, ApiKey, Cookie, Password, Refresh};
        check(Method::POST, &["A", "B"], &[], ApiKey, Ok(()));
        check(Method::POST, &["A"], &[], ApiKey, Err(Lack::Role));
        check(Method::POST, &["a", "B"], &[], ApiKey, Err(Lack::Role));
        check(Method::PUT, &["A", "B", "D"], &["q"], Access, Ok(()));
        check(Method::PUT, &["A", "B"], &["q"], Access, Err(Lack::Role));
        check(Method::PUT, &["A", "B", "C"], &[], Access, Err(Lack::Permission));
        check(Method::PUT, &["Admin"], &["p"], Access, Ok(()));
        check(Method::PUT, &["Admin"], &[], Access, Err(Lack::Permission));
        check(Method::GET, &["A", "B"], &[], Cookie, Ok(()));
        check(Method::HEAD, &["A", "B"], &[], Password, Ok(()));
        check(Method::HEAD, &[], &[], Refresh, Err(Lack::Provider(Provider::Credentials)));
        check(Method::GET, &["A", "B"], &[], ApiKey, Err(Lack::Provider(Provider::Credentials)));
        check(Method::DELETE, &["A", "B"], &["p"], Cookie, Err(Lack::Permission));
        check(Method::DELETE, &["A", "B"], &["p", "q"], Cookie, Ok(()));
    }
}
