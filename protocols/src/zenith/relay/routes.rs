//! The settings of the service behind the gate: where it is, which controllers are its own, and which right each of their
//! topics needs.
//!
//! Read and checked once. It refuses to know any connection: what a peer may do is asked of it with the peer's scopes.

use std::collections::BTreeMap;
use std::sync::Arc;

use gatepost_identity::reply::Principal;
use gatepost_identity::scope::Scope;
use http::Uri;
use serde::Deserialize;

use crate::http::Upstream;
use crate::section::BadSetting;
use crate::zenith::exchange::{JSON, Version, version_in};
use crate::zenith::message::Controller;
use crate::zenith::settings::within;
use crate::zenith::spelling::Catalogue;

/// The section as it is written.
#[derive(Deserialize)]
pub(in crate::zenith) struct Written {
    address: String,
    audience: Option<String>,
    #[serde(default = "one_mebibyte")]
    max_message: usize,
    #[serde(default = "one_thousand")]
    max_subscriptions: usize,
    #[serde(default = "one_thousand")]
    max_in_flight: usize,
    #[serde(default)]
    controllers: Vec<WrittenController>,
}

#[derive(Deserialize)]
struct WrittenController {
    name: String,
    right: Option<String>,
    #[serde(default)]
    topics: BTreeMap<String, String>,
}

fn one_mebibyte() -> usize {
    1024 * 1024
}

fn one_thousand() -> usize {
    1000
}

/// A topic that is answered here for every controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::zenith) enum Common {
    /// Sets the timeouts.
    Configure = 0,
    /// Tells them.
    QueryConfigure = 1,
}

impl Common {
    /// Its name on the wire.
    pub(in crate::zenith) fn name(self) -> &'static str {
        match self {
            Common::Configure => "Configure",
            Common::QueryConfigure => "QueryConfigure",
        }
    }

    /// The one of that name.
    pub(in crate::zenith) fn find(topic: &str) -> Option<Common> {
        [Common::Configure, Common::QueryConfigure].into_iter().find(|common| common.name() == topic)
    }
}

/// A controller of the service.
#[derive(Debug)]
struct Behind {
    name: String,
    /// What every topic needs that `topics` does not name; none: any login suffices.
    right: Option<Scope>,
    topics: Vec<(Pattern, Scope)>,
}

/// One topic, or all that begin alike.
#[derive(Debug)]
enum Pattern {
    Exactly(String),
    BeginsWith(String),
}

impl Pattern {
    fn parse(text: &str) -> Option<Pattern> {
        let (front, open) = text.strip_suffix('*').map_or((text, false), |front| (front, true));
        match (front.contains('*'), open) {
            (true, _) => None,
            (false, true) => Some(Pattern::BeginsWith(front.to_owned())),
            (false, false) => Some(Pattern::Exactly(front.to_owned())),
        }
    }

    /// How closely it names a topic, if it does. Of two as long, the exact name is the closer one.
    fn closeness(&self, topic: &str) -> Option<(usize, bool)> {
        match self {
            Pattern::Exactly(name) => (name == topic).then_some((name.len(), true)),
            Pattern::BeginsWith(front) => topic.starts_with(front.as_str()).then_some((front.len(), false)),
        }
    }
}

/// The service behind the gate, as its settings have it.
#[derive(Debug)]
pub(in crate::zenith) struct Routes {
    /// For a peer of the newest version.
    newest: Arc<Upstream>,
    /// The address that is to be given a version; none: it names one by itself, which then goes for everybody.
    address: Option<Uri>,
    controllers: Vec<Behind>,
    /// How many subscriptions a connection may hold, each reference counted: 1 to 100000.
    pub(super) max_subscriptions: usize,
    /// How many requests of a connection may be in flight: 1 to 10000.
    pub(super) max_in_flight: usize,
}

impl Routes {
    /// Checks what is written.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub(in crate::zenith) fn check(written: Written, catalogue: &Catalogue) -> Result<Routes, BadSetting> {
        let Written { address, audience, max_message, max_subscriptions, max_in_flight, controllers } = written;
        let uri = service(&address).map_err(|what| BadSetting::new("upstream.address", what))?;
        within("upstream.max_message", max_message as u64, 1024, 16 * 1024 * 1024, "bytes")?;
        within("upstream.max_subscriptions", max_subscriptions as u64, 1, 100_000, "subscriptions")?;
        within("upstream.max_in_flight", max_in_flight as u64, 1, 10_000, "requests")?;
        if controllers.is_empty() {
            return Err(BadSetting::new("upstream.controllers", "must name what the service answers: [{ name = \"Market\" }]"));
        }
        let mut behind: Vec<Behind> = Vec::new();
        for (number, controller) in controllers.into_iter().enumerate() {
            let one = Behind::check(controller, number, catalogue)?;
            if behind.iter().any(|other| other.name == one.name) {
                return Err(BadSetting::new(format!("upstream.controllers[{number}].name"), "stands there twice"));
            }
            behind.push(one);
        }
        let audience = audience.unwrap_or(address);
        let upstream = |address| Arc::new(Upstream { address, subprotocol: JSON, audience, max_message });
        let (newest, address) = match uri.query().and_then(version_in) {
            Some(_) => (upstream(uri), None),
            None => (upstream(with_version(&uri, Version::NEWEST)), Some(uri)),
        };
        Ok(Routes { newest, address, controllers: behind, max_subscriptions, max_in_flight })
    }

    /// The service for a peer that has asked for this version.
    pub(in crate::zenith) fn upstream(&self, version: Version) -> Arc<Upstream> {
        match &self.address {
            Some(address) if version != Version::NEWEST => {
                Arc::new(Upstream { address: with_version(address, version), ..Upstream::clone(&self.newest) })
            }
            _ => Arc::clone(&self.newest),
        }
    }

    /// Where the service is.
    pub(in crate::zenith) fn address(&self) -> &Uri {
        &self.newest.address
    }

    /// How many controllers there are.
    pub(super) fn count(&self) -> usize {
        self.controllers.len()
    }

    /// The number of the controller of that name, in exactly that case.
    pub(in crate::zenith) fn find(&self, name: &str) -> Option<usize> {
        self.controllers.iter().position(|controller| controller.name == name)
    }

    /// The name of a controller.
    pub(super) fn name(&self, controller: usize) -> &str {
        &self.controllers[controller].name
    }

    /// Whether a topic of a controller of the service is one that is answered here all the same.
    pub(super) fn is_ours(&self, controller: usize, topic: &str) -> bool {
        let server_info = topic == "ServerInfo" && self.name(controller) == Controller::Zenith.name();
        server_info || Common::find(topic).is_some()
    }

    /// Whether somebody may use a topic; nobody may.
    pub(super) fn may(&self, who: Option<&Principal>, controller: usize, topic: &str) -> bool {
        who.is_some_and(|who| self.right(controller, topic).is_none_or(|right| who.scopes.contains(right)))
    }

    fn right(&self, controller: usize, topic: &str) -> Option<&Scope> {
        let Behind { right, topics, .. } = &self.controllers[controller];
        let named = topics.iter().filter_map(|(pattern, right)| Some((pattern.closeness(topic)?, right)));
        named.max_by_key(|(closeness, _)| *closeness).map(|(_, right)| right).or(right.as_ref())
    }
}

impl Behind {
    fn check(written: WrittenController, number: usize, catalogue: &Catalogue) -> Result<Behind, BadSetting> {
        let WrittenController { name, right, topics } = written;
        let key = |member: &str| format!("upstream.controllers[{number}].{member}");
        if name.is_empty() {
            return Err(BadSetting::new(key("name"), "must not be empty"));
        }
        if name == Controller::Auth.name() {
            return Err(BadSetting::new(key("name"), "Auth is answered here and by nobody else"));
        }
        let known = |name: &str| {
            let scope = catalogue.0.iter().map(|right| right.scope()).find(|scope| scope.as_str() == name);
            scope.cloned().ok_or(format!("{name:?} is no right of the catalogue"))
        };
        let right = right.map(|right| known(&right)).transpose().map_err(|what| BadSetting::new(key("right"), what))?;
        let mut patterns = Vec::new();
        for (topic, right) in topics {
            let bad = |what: String| BadSetting::new(key(&format!("topics.{topic}")), what);
            let pattern = Pattern::parse(&topic).ok_or_else(|| bad("a star may stand at the end of a topic only".to_owned()))?;
            patterns.push((pattern, known(&right).map_err(bad)?));
        }
        Ok(Behind { name, right, topics: patterns })
    }
}

/// The address of a service.
fn service(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{text:?} is no address of the form ws://host:port/path: {error}"))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => {
            return Err("wss is not spoken: a service behind the gate is reached over ws:// on a network of our own".to_owned());
        }
        _ => return Err(format!("{text:?} must begin with ws://")),
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("must hold no name and no password: the service is told who is there by a token".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(format!("{text:?} names no host"));
    }
    if text.contains('#') {
        return Err("must have no fragment, which is never sent".to_owned());
    }
    Ok(uri)
}

/// The same address with a version in its query.
fn with_version(uri: &Uri, version: Version) -> Uri {
    let mut text = uri.path().to_owned();
    text.push('?');
    if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
        text.push_str(query);
        text.push('&');
    }
    text.push_str("version=");
    version.push(&mut text);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = text.parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Section;
    use crate::zenith::settings::Settings;

    fn read(text: &str) -> Result<Settings, BadSetting> {
        Settings::read(&Section(format!("[upstream]\n{text}").parse().expect("TOML")))
    }

    fn routes(text: &str) -> Arc<Routes> {
        read(text).expect("good settings").routes.expect("a service")
    }

    #[test]
    fn bad_settings_are_named() {
        const MARKET: &str = "controllers = [{ name = 'Market' }]";
        let rows = [
            ("controllers = []", "upstream"),
            ("address = 'ws://feeds:1/'", "upstream.controllers"),
            ("address = 'ws://feeds:1/'\ncontrollers = []", "upstream.controllers"),
            ("address = 'ws://feeds:1/'\ncontrollers = [{ name = '' }]", "upstream.controllers[0].name"),
            ("address = 'ws://feeds:1/'\ncontrollers = [{ name = 'Auth' }]", "upstream.controllers[0].name"),
            ("address = 'ws://feeds:1/'\ncontrollers = [{ name = 'A' }, { name = 'A' }]", "upstream.controllers[1].name"),
            ("address = 'ws://feeds:1/'\ncontrollers = [{ name = 'A', right = 'Zenith' }]", "upstream.controllers[0].right"),
            ("address = 'ws://feeds:1/'\ncontrollers = [{ name = 'A', rihgt = 'Zenith/Market' }]", "upstream.controllers[0].rihgt"),
            (
                "address = 'ws://feeds:1/'\ncontrollers = [{ name = 'A', topics = { B = 'Paritech.Zenith.Market' } }]",
                "upstream.controllers[0].topics.B",
            ),
            (
                "address = 'ws://feeds:1/'\ncontrollers = [{ name = 'A', topics = { 'B*C' = 'Zenith/Market' } }]",
                "upstream.controllers[0].topics.B*C",
            ),
        ];
        for (text, key) in rows {
            assert_eq!(read(text).expect_err(text).key, key, "{text}");
        }
        for address in
            ["", "feeds", "feeds:1", "/path", "http://feeds/", "wss://feeds/", "ws://u:p@feeds/", "ws:///x", "ws://f/#x", "WSS://f"]
        {
            let bad = read(&format!("address = '{address}'\n{MARKET}")).expect_err(address);
            assert_eq!(bad.key, "upstream.address", "{address}");
        }
        for (line, key) in [
            ("max_message = 1023", "upstream.max_message"),
            ("max_message = 16777217", "upstream.max_message"),
            ("max_subscriptions = 0", "upstream.max_subscriptions"),
            ("max_subscriptions = 100001", "upstream.max_subscriptions"),
            ("max_in_flight = 0", "upstream.max_in_flight"),
            ("max_in_flight = 10001", "upstream.max_in_flight"),
        ] {
            let bad = read(&format!("address = 'ws://feeds:1/'\n{line}\n{MARKET}")).expect_err(line);
            assert_eq!(bad.key, key, "{line}");
        }
    }

    #[test]
    fn the_service_is_told_the_version_that_the_peer_asked_for() {
        let check = |address: &str, version: &str, expected: &str| {
            let routes = routes(&format!("address = '{address}'\ncontrollers = [{{ name = 'Market' }}]"));
            let upstream = routes.upstream(Version::parse(version).expect("a version"));
            assert_eq!(upstream.address.to_string(), expected, "{address} for {version}");
            assert_eq!((upstream.audience.as_str(), upstream.subprotocol), (address, "ZenithJson"));
            assert_eq!(upstream.max_message, 1024 * 1024);
        };
        check("ws://feeds:9000/Zenith", "2.0", "ws://feeds:9000/Zenith?version=2.0");
        check("ws://feeds:9000/Zenith", "1.6", "ws://feeds:9000/Zenith?version=1.6");
        check("ws://feeds", "2", "ws://feeds/?version=2.0");
        check("ws://feeds/?", "1.1", "ws://feeds/?version=1.1");
        check("ws://[::1]:1/a?b=c&versions=9", "1.6", "ws://[::1]:1/a?b=c&versions=9&version=1.6");
        check("ws://feeds/a?version=1.5", "2.0", "ws://feeds/a?version=1.5");
        check("ws://feeds/a?version=1.5", "1.6", "ws://feeds/a?version=1.5");
        check("ws://feeds/a?%76ersion=", "1.6", "ws://feeds/a?%76ersion=");
    }

    #[test]
    fn the_closest_name_of_a_topic_says_which_right_it_needs() {
        let routes = routes(
            "address = 'ws://feeds:1/'\naudience = 'feeds'\n[[upstream.controllers]]\nname = 'Market'\nright = 'Zenith/Market'\n\
             topics = { News = 'Zenith/News', 'News*' = 'Zenith/Trading', 'NewsBody*' = 'Zenith/Admin', 'Query*' = 'Zenith/OrderPad' }\n\
             [[upstream.controllers]]\nname = 'Chat'\ntopics = { '*' = 'Zenith/News', Hall = 'Zenith/Market' }\n\
             [[upstream.controllers]]\nname = 'Open'",
        );
        let check = |controller, topic, expected: Option<&str>| {
            let number = routes.find(controller).expect("it is behind the gate");
            assert_eq!(routes.right(number, topic).map(Scope::as_str), expected, "{controller}:{topic}");
        };
        check("Market", "Depth", Some("Zenith/Market"));
        check("Market", "news", Some("Zenith/Market"));
        check("Market", "News", Some("Zenith/News"));
        check("Market", "New", Some("Zenith/Market"));
        check("Market", "Newsreel", Some("Zenith/Trading"));
        check("Market", "NewsBody", Some("Zenith/Admin"));
        check("Market", "NewsBody!1", Some("Zenith/Admin"));
        check("Market", "Query", Some("Zenith/OrderPad"));
        check("Chat", "Hall", Some("Zenith/Market"));
        check("Chat", "Halls", Some("Zenith/News"));
        check("Open", "Hall", None);
        assert_eq!((routes.find("market"), routes.find("Auth")), (None, None));
        assert_eq!(routes.upstream(Version::NEWEST).audience, "feeds");
        assert!(!routes.may(None, 2, "Hall"), "whoever is nobody may do nothing");
    }
}
