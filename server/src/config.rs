//! Settings: one `gatepost.toml`, each key of it also an environment variable, every value checked before anything starts.
//!
//! Decides what a setting may be and who said it last: the file, then the environment, then the command line. A gate's own
//! section is the gate's to read; here it is only carried, and a complaint about it gets its file and line. It refuses to
//! know what any setting is good for.

mod begun;
mod behind;
mod limits;
mod management;
mod origins;
mod password;
mod providers;
mod retention;
mod told;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatepost_identity::ServedTerminals;
use gatepost_identity::access::AudienceSettings;
use gatepost_identity::scope::ScopeDefinition;
use gatepost_identity::session::{OnReuse, SessionSettings};
use gatepost_identity::terminal::LockOut;
use gatepost_identity::throttle::ThrottleSettings;
pub use gatepost_protocols::section::parse_span;
use gatepost_protocols::section::{BadSetting, Section, Span};
use gatepost_protocols::{GATES, Gate};
use http::Uri;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

pub use crate::config::begun::Begun;
use crate::config::limits::WrittenLimits;
use crate::config::management::Management;
use crate::config::origins::Origins;
use crate::config::password::Password;
use crate::config::providers::WrittenProvider;
use crate::config::retention::WrittenRetention;
pub use crate::config::told::{Changes, Told, marked};
use crate::listen::bounds::Limits;
use crate::listen::peer::{Fields, Proxies};
use crate::listen::tls::{Certificates, Culprit, Files};
use crate::telemetry::Format;

/// What environment variables that set something begin with.
const PREFIX: &str = "GATEPOST_";
/// Variables that the command line reads, and that are no settings.
const NOT_SETTINGS: [&str; 2] = ["GATEPOST_CONFIG", "GATEPOST_PIN"];

/// Everything that is set.
#[derive(Debug)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where HTTP is answered; port 0 is any free port.
    pub http: SocketAddr,
    /// Where HTTP over TLS is answered, and with which certificate.
    pub https: Option<(SocketAddr, Files)>,
    /// Who is believed about where a peer comes from.
    pub proxies: Proxies,
    /// How many connections there may be, and how long a peer may take.
    pub limits: Limits,
    /// Threads that hash passwords.
    pub password_threads: usize,
    /// What is logged, in the words of `tracing`'s filters: `info`, `gatepost=debug,warn`.
    pub log: String,
    /// As what a line of the log is written.
    pub log_format: Format,
    /// Where whoever watches the server asks it, if anywhere.
    pub management: Option<SocketAddr>,
    /// How long a stop waits for what is in flight.
    pub drain_timeout: Duration,
    /// How many connections a second are told that the server stops; more, where otherwise the time would not suffice.
    pub drain_rate: u32,
    /// What the core is set to.
    pub identity: gatepost_identity::Settings,
    /// Where others find this server: an origin.
    pub public_url: Option<String>,
    /// Each gate that is open, with its section.
    pub gates: Vec<(&'static Gate, Section)>,
    /// All of it as it was said.
    pub told: Told,
    /// What is likely to be a slip, and no reason not to begin.
    pub warning: Option<String>,
}

/// A setting that cannot be used, and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The settings as they are written.
#[derive(Deserialize)]
#[serde(default)]
struct Written {
    data: PathBuf,
    http: SocketAddr,
    https: Option<SocketAddr>,
    public_url: Option<PublicUrl>,
    tls: Option<Tls>,
    proxy: Proxy,
    limits: WrittenLimits,
    log: String,
    log_format: Format,
    management: Option<Management>,
    drain_timeout: Span,
    drain_rate: u32,
    require_secure: bool,
    password: Password,
    throttle: Throttle,
    session: Session,
    retention: WrittenRetention,
    token: Token,
    provider: Vec<WrittenProvider>,
}

impl Default for Written {
    fn default() -> Written {
        Written {
            data: "gatepost-data".into(),
            http: SocketAddr::from(([127, 0, 0, 1], 8000)),
            https: None,
            public_url: None,
            tls: None,
            proxy: Proxy::default(),
            limits: WrittenLimits::default(),
            log: "info".to_owned(),
            log_format: Format::Text,
            management: None,
            drain_timeout: Span(Duration::from_secs(30)),
            drain_rate: 1000,
            require_secure: true,
            password: Password::default(),
            throttle: Throttle::default(),
            session: Session::default(),
            retention: WrittenRetention::default(),
            token: Token::default(),
            provider: providers::usual(),
        }
    }
}

/// Where this server is found by others: an origin, `https://auth.example.org`, as RFC 6454 section 6.2 writes one, since
/// whoever compares it does so byte by byte.
struct PublicUrl(String);

impl PublicUrl {
    fn parse(text: String) -> Result<PublicUrl, String> {
        let uri = text.parse::<Uri>().ok();
        let origin = uri.as_ref().and_then(|uri| {
            let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
            let plain = matches!(scheme, "http" | "https") && !authority.host().is_empty() && !authority.as_str().contains('@');
            plain.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
        });
        if origin.as_deref() != Some(&*text) {
            return Err(format!(
                "{text:?} is no origin; write it in lower case and without a path, as in \"https://auth.example.org\""
            ));
        }
        Ok(PublicUrl(text))
    }
}

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PublicUrl, D::Error> {
        PublicUrl::parse(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Proxy {
    trusted: Vec<Network>,
    protocol: bool,
    fields: WrittenFields,
}

/// A network, or one address.
#[derive(Clone, Copy)]
struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        let text = String::deserialize(deserializer)?;
        let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse());
        let complaint = |_| format!("{text:?} is neither an address nor a network, as in \"10.0.0.0/8\"");
        network.map(Network).map_err(complaint).map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenFields {
    #[default]
    None,
    XForwarded,
    Forwarded,
}

#[derive(Deserialize)]
#[serde(default)]
struct Throttle {
    name_free: u32,
    first_wait: Span,
    longest_wait: Span,
    forget_after: Span,
    source_free: u32,
    source_forgives: Span,
    token_free: u32,
    token_forgives: Span,
    entries: usize,
}

impl Default for Throttle {
    fn default() -> Throttle {
        let default = ThrottleSettings::default();
        Throttle {
            name_free: default.name_free,
            first_wait: Span(default.first_wait),
            longest_wait: Span(default.longest_wait),
            forget_after: Span(default.forget_after),
            source_free: default.source_free,
            source_forgives: Span(default.source_forgives),
            token_free: default.token_free,
            token_forgives: Span(default.token_forgives),
            entries: default.entries,
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct Session {
    connection_life: Span,
    token_life: Span,
    session_life: Span,
    cookie_life: Span,
    remembered_life: Span,
    access_life: Span,
    refresh_life: Span,
    refresh_overlap: Span,
    overlap: Span,
    on_reuse: WrittenOnReuse,
    unpresented: usize,
    max_sessions: Option<usize>,
    max_connections: Option<usize>,
    grace: Span,
    kept_in_memory: usize,
}

impl Default for Session {
    fn default() -> Session {
        let default = SessionSettings::default();
        Session {
            connection_life: Span(default.connection_life),
            token_life: Span(default.token_life),
            session_life: Span(default.session_life),
            cookie_life: Span(default.cookie_life),
            remembered_life: Span(default.remembered_life),
            access_life: Span(default.access_life),
            refresh_life: Span(default.refresh_life),
            refresh_overlap: Span(default.refresh_overlap),
            overlap: Span(default.overlap),
            on_reuse: WrittenOnReuse::End,
            unpresented: default.unpresented,
            max_sessions: default.max_sessions,
            max_connections: default.max_connections,
            grace: Span(default.grace),
            kept_in_memory: default.kept_in_memory,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Token {
    audiences: Vec<String>,
    require_audience: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenOnReuse {
    End,
    Refuse,
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; none: `gatepost.toml` here, if there is one.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// What was typed of a terminal.
    pub begun: Begun,
}

impl Config {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// The first one that cannot be used, with its file and line or its variable.
    pub fn load(sources: Sources) -> Result<Config, ConfigError> {
        let (table, origins, warning) = Config::read(&sources)?;
        Ok(Config { warning, ..Config::of(table, &origins, sources.data)? })
    }

    /// Reads and checks all settings once more for a server that runs: what may not change under it is as it `began`. Beside them,
    /// what has changed since the `last` reading.
    ///
    /// # Errors
    /// As [`Config::load`]; also where they cannot be used with what may not change.
    pub fn reload(sources: &Sources, began: &Told, last: &Told) -> Result<(Config, Changes), ConfigError> {
        let (table, origins, _) = Config::read(sources)?;
        let next = Config::of(table, &origins, sources.data.clone())?.told;
        let changes = next.changes(began, last);
        let config = Config::of(next.under(began, &changes), &origins, sources.data.clone());
        let config = config.map_err(|error| match &*changes.waits {
            [] => error,
            waits => ConfigError(format!("{error} (until a restart these are as they were: {})", waits.join(", "))),
        })?;
        Ok((Config { told: next, ..config }, changes))
    }

    /// What is said, by the file, then the environment, then the command line.
    fn read(sources: &Sources) -> Result<(toml::Table, Origins, Option<String>), ConfigError> {
        let named = sources.file.is_some();
        let path = sources.file.clone().unwrap_or_else(|| "gatepost.toml".into());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(ConfigError(format!("{}: cannot be read: {error}", path.display()))),
        };
        let origins = Origins::of(&path, &text)?;
        let mut table: toml::Table = text.parse().map_err(|error| origins.syntax(&error))?;
        let mut origins = origins;
        for (variable, value) in &sources.environment {
            let Some(variable) = variable.to_str().filter(|variable| variable.starts_with(PREFIX)) else { continue };
            let value = value.to_str().ok_or_else(|| ConfigError(format!("{variable}: is not UTF-8")))?;
            origins.overlay(&mut table, variable, value)?;
        }
        let warning = sources.begun.clone().overlay(&mut table);
        Ok((table, origins, warning))
    }

    fn of(mut table: toml::Table, origins: &Origins, data: Option<PathBuf>) -> Result<Config, ConfigError> {
        let told = Told::new(table.clone());
        let mut sections = Vec::new();
        for gate in GATES {
            let section = match table.remove(gate.name) {
                None => toml::Table::new(),
                Some(toml::Value::Table(section)) => section,
                Some(_) => return Err(origins.complain(gate.name, "is a section, so write [its name] and keys below it")),
            };
            sections.push((gate, section));
        }
        let written: Written = Section(table).read().map_err(|bad| origins.complain(&bad.key, &bad.what))?;
        let data = match data {
            Some(data) => data,
            None => {
                closed_to_others(&written.data).map_err(|fault| origins.complain("data", &fault))?;
                written.data.clone()
            }
        };
        closed_to_others(&data).map_err(|fault| ConfigError(format!("--data: {fault}")))?;

        let public_url = written.public_url.as_ref().map(|url| url.0.clone());
        let (mut insecure_gates, mut rotating_gates) = (Vec::new(), Vec::new());
        let mut taken = vec![written.http];
        taken.extend(written.https(origins)?.map(|(address, _)| address));
        let mut gates = Vec::new();
        let mut scopes: Vec<ScopeDefinition> = Vec::new();
        let (mut terminals, mut lock_out) = (ServedTerminals::default(), LockOut::default());
        for (gate, mut section) in sections {
            let require_secure = match section.remove("require_secure") {
                None => written.require_secure,
                Some(toml::Value::Boolean(required)) => required,
                Some(_) => return Err(origins.complain(&format!("{}.require_secure", gate.name), "is true or false")),
            };
            let section = Section(section);
            let bad = |bad: BadSetting| origins.complain(&[gate.name, &bad.key].join("."), &bad.what);
            scopes.extend((gate.scopes)(&section).map_err(bad)?);
            (gate.mounts)(&section, public_url.as_deref()).map_err(bad)?;
            // A gate that tells no tokens takes no passwords either, so nothing is weaker there.
            if !require_secure && gate.spell.is_some() && gate.knows_tls {
                insecure_gates.push(gate.name);
            }
            if (gate.rotates_refresh)(&section).map_err(bad)? {
                rotating_gates.push(gate.name);
            }
            if let Some(own) = (gate.own)(&section).map_err(bad)? {
                if own.listeners.iter().any(|listener| listener.encrypted) && written.tls.is_none() {
                    return Err(bad(BadSetting::new("tls", "needs a certificate and a key below [tls]")));
                }
                // One that may walk upwards finds a place; one that was written down is there or nowhere.
                for listener in own.listeners.iter().filter(|listener| listener.place.steps == 0) {
                    let address = listener.place.address;
                    if address.port() != 0 && taken.contains(&address) {
                        let key = if listener.terminal.is_some() { "terminals" } else { &listener.name };
                        return Err(bad(BadSetting::new(key, format!("{address} is where another listener is"))));
                    }
                    taken.push(address);
                }
                behind::check(&own).map_err(bad)?;
                (terminals, lock_out) = (own.terminals, own.lock_out);
            }
            gates.push((gate, section));
        }
        let mut identity = written.identity(scopes, insecure_gates, origins)?;
        (identity.terminals, identity.throttle.terminals) = (terminals, lock_out);
        identity.rotating_gates = rotating_gates;
        crate::telemetry::filter(&written.log).map_err(|fault| origins.complain("log", &fault))?;
        if !(1..=1024).contains(&written.password.threads) {
            return Err(origins.complain("password.threads", "must be 1 to 1024"));
        }
        if !(1..=1_000_000).contains(&written.drain_rate) {
            return Err(origins.complain("drain_rate", "must be 1 to 1000000"));
        }
        Ok(Config {
            data,
            http: written.http,
            https: written.https(origins)?,
            proxies: written.proxies(origins)?,
            limits: written.limits.read(origins)?,
            password_threads: written.password.threads,
            log: written.log,
            log_format: written.log_format,
            management: written.management.map(Management::listen),
            drain_timeout: written.drain_timeout.0,
            drain_rate: written.drain_rate,
            told,
            identity,
            public_url,
            gates,
            warning: None,
        })
    }
}

impl Written {
    fn https(&self, origins: &Origins) -> Result<Option<(SocketAddr, Files)>, ConfigError> {
        let address = self.https.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8443)));
        match &self.tls {
            None if self.https.is_some() => Err(origins.complain("https", "needs a certificate and a key below [tls]")),
            None => Ok(None),
            Some(Tls { certificate, key }) => {
                let files = Files { certificate: certificate.clone(), key: key.clone() };
                // Read once to see whether they can be used, while the place to complain about is known.
                Certificates::open(files.clone()).map_err(|fault| {
                    let key = match fault.culprit {
                        Culprit::Certificate => "tls.certificate",
                        Culprit::Key => "tls.key",
                    };
                    origins.complain(key, &fault.to_string())
                })?;
                Ok(Some((address, files)))
            }
        }
    }

    fn proxies(&self, origins: &Origins) -> Result<Proxies, ConfigError> {
        let Proxy { trusted, protocol, fields } = &self.proxy;
        let fields = match fields {
            WrittenFields::None => Fields::None,
            WrittenFields::XForwarded => Fields::XForwarded,
            WrittenFields::Forwarded => Fields::Forwarded,
        };
        if trusted.is_empty() && (*protocol || fields != Fields::None) {
            return Err(origins.complain("proxy", "believes proxies, but `trusted` names none"));
        }
        Ok(Proxies { trusted: trusted.iter().map(|network| network.0).collect(), protocol: *protocol, fields })
    }

    fn identity(
        &self,
        scopes: Vec<ScopeDefinition>,
        insecure_gates: Vec<&'static str>,
        origins: &Origins,
    ) -> Result<gatepost_identity::Settings, ConfigError> {
        let passwords = self.password.settings();
        passwords.check().map_err(|fault| origins.complain("password", &fault))?;
        let (throttle, session) = (&self.throttle, &self.session);
        let throttle_spans = [
            ("throttle.first_wait", throttle.first_wait),
            ("throttle.longest_wait", throttle.longest_wait),
            ("throttle.forget_after", throttle.forget_after),
            ("throttle.source_forgives", throttle.source_forgives),
            ("throttle.token_forgives", throttle.token_forgives),
            ("session.connection_life", session.connection_life),
            ("session.token_life", session.token_life),
            ("session.session_life", session.session_life),
            ("session.cookie_life", session.cookie_life),
            ("session.remembered_life", session.remembered_life),
            ("session.access_life", session.access_life),
            ("session.refresh_life", session.refresh_life),
        ];
        if let Some((key, _)) = throttle_spans.iter().find(|(_, span)| span.0.is_zero()) {
            return Err(origins.complain(key, "must be longer than nothing"));
        }
        let counts = [
            ("throttle.name_free", throttle.name_free as usize),
            ("throttle.source_free", throttle.source_free as usize),
            ("throttle.token_free", throttle.token_free as usize),
            ("throttle.entries", throttle.entries),
            ("session.unpresented", session.unpresented),
            ("session.kept_in_memory", session.kept_in_memory),
            ("session.max_sessions", session.max_sessions.unwrap_or(1)),
            ("session.max_connections", session.max_connections.unwrap_or(1)),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0 || *count > 10_000_000) {
            return Err(origins.complain(key, "must be 1 to 10000000"));
        }
        let providers = providers::read(&self.provider, origins)?;
        Ok(gatepost_identity::Settings {
            passwords,
            throttle: ThrottleSettings {
                name_free: throttle.name_free,
                first_wait: throttle.first_wait.0,
                longest_wait: throttle.longest_wait.0,
                forget_after: throttle.forget_after.0,
                source_free: throttle.source_free,
                source_forgives: throttle.source_forgives.0,
                token_free: throttle.token_free,
                token_forgives: throttle.token_forgives.0,
                terminals: LockOut::default(),
                entries: throttle.entries,
            },
            sessions: SessionSettings {
                connection_life: session.connection_life.0,
                token_life: session.token_life.0,
                session_life: session.session_life.0,
                cookie_life: session.cookie_life.0,
                remembered_life: session.remembered_life.0,
                access_life: session.access_life.0,
                refresh_life: session.refresh_life.0,
                refresh_overlap: session.refresh_overlap.0,
                overlap: session.overlap.0,
                on_reuse: match session.on_reuse {
                    WrittenOnReuse::End => OnReuse::End,
                    WrittenOnReuse::Refuse => OnReuse::Refuse,
                },
                unpresented: session.unpresented,
                max_sessions: session.max_sessions,
                max_connections: session.max_connections,
                grace: session.grace.0,
                kept_in_memory: session.kept_in_memory,
            },
            retention: self.retention.read(origins)?,
            providers,
            scopes,
            insecure_gates,
            serves: true,
            rotating_gates: Vec::new(),
            terminals: ServedTerminals::default(),
            audience: AudienceSettings { audiences: self.token.audiences.clone(), required: self.token.require_audience },
            issuer: self.public_url.as_ref().map_or(gatepost_identity::Settings::default().issuer, |url| url.0.clone()),
        })
    }
}

/// A directory that holds hashes of passwords is its owner's alone.
fn closed_to_others(directory: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::metadata(directory) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => Err(format!(
            "the data directory {} is open to others (mode {:o}); close it with chmod 700",
            directory.display(),
            metadata.permissions().mode() & 0o777
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let origins = Origins::of(Path::new("gatepost.toml"), text)?;
        let mut table: toml::Table = text.parse().expect("TOML, or Origins would have said so");
        let mut origins = origins;
        for (variable, value) in environment {
            origins.overlay(&mut table, variable, value)?;
        }
        Config::of(table, &origins, None)
    }

    fn refused(text: &str, environment: &[(&str, &str)], beginning: &str) {
        let error = load(text, environment).expect_err(text);
        assert!(error.0.starts_with(beginning), "{text}: {error}");
    }

    #[test]
    fn an_empty_file_is_a_whole_configuration() {
        let config = load("", &[]).expect("defaults");
        assert_eq!(config.http.to_string(), "127.0.0.1:8000");
        assert!(config.identity.insecure_gates.is_empty());
        assert_eq!(config.identity.sessions, SessionSettings::default());
        assert_eq!(config.identity.throttle, ThrottleSettings::default());
    }

    #[test]
    fn what_cannot_be_used_is_named_with_file_and_line_or_variable() {
        refused("\nhttp = 'x'", &[], "gatepost.toml:2: http: ");
        refused("\n\nhtpp = '127.0.0.1:1'", &[], "gatepost.toml:3: htpp: there is no such setting");
        refused("[password]\nmax_wait = '2 weeks'", &[], "gatepost.toml:2: password.max_wait: ");
        refused("[password]\nmemory_kib = 4294967295", &[], "gatepost.toml:1: password: the cost ");
        refused("[password]\nimported_memory_kib = 4294967295", &[], "gatepost.toml:1: password: an imported hash ");
        refused("[password]\niterationz = 1", &[], "gatepost.toml:2: password.iterationz: there is no such setting");
        refused("[session]\non_reuse = 'end'\nunpresented = 0", &[], "gatepost.toml:3: session.unpresented: ");
        refused("[zenith]\nrequire_secure = 1", &[], "gatepost.toml:2: zenith.require_secure: ");
        refused("[zenith]\n\nno_such = 1", &[], "gatepost.toml:3: zenith.no_such: there is no such setting");
        refused("[oauth]\nrequire_secure = true\nissuer = 'x'", &[], "gatepost.toml:3: oauth.issuer: there is no such setting");
        refused("zenith = 3", &[], "gatepost.toml:1: zenith: is a section");
        refused("a = [", &[], "gatepost.toml:1: ");
        refused("[[provider]]\nname = 'a'\nkind = 'magic'", &[], "gatepost.toml:3: provider[0].kind: ");
        refused(
            "[[provider]]\nname = 'a'\nkind = 'local'\n[[provider]]\nname = 'b'\nkind = 'local'\ntypo = 1",
            &[],
            "gatepost.toml:7: ",
        );
        refused("log = 'gatepost=nonsense=x'", &[], "gatepost.toml:1: log: ");
        refused("\nlog_format = 'xml'", &[], "gatepost.toml:2: log_format: ");
        refused("[management]\nlisten = '9180'", &[], "gatepost.toml:2: management.listen: ");
        refused("[management]\nport = 9180", &[], "gatepost.toml:2: management.port: there is no such setting");
        refused("[retention]\n\naudit = '6d'", &[], "gatepost.toml:3: retention.audit: must be 7d");
        refused("[session]\nkeep_ended = '7d'", &[], "gatepost.toml:2: session.keep_ended: there is no such setting");
        refused("[limits]\nconnections_of_source = 0", &[], "gatepost.toml:2: limits.connections_of_source: must be 1 to ");
        refused("[limits]\nhead_within = '999ms'", &[], "gatepost.toml:2: limits.head_within: must be 1s to 1h");
        refused("", &[("GATEPOST_LIMITS_CONNECTIONS", "x")], "GATEPOST_LIMITS_CONNECTIONS: limits.connections: ");
        refused("[throttle]\nforget_after = '0s'", &[], "gatepost.toml:2: throttle.forget_after: ");
        refused(
            "[[provider]]\nname = 'a'\nkind = 'local'\n[[provider]]\nname = 'A'\nkind = 'local'",
            &[],
            "gatepost.toml:1: provider: ",
        );
        refused("[proxy]\n\ntrusted = ['127.0.0.1', 'proxy']", &[], "gatepost.toml:3: proxy.trusted[1]: \"proxy\" is neither");
        refused("[proxy]\nfields = 'forwarded'", &[], "gatepost.toml:1: proxy: ");
        refused("", &[("GATEPOST_HTTP", "nowhere")], "GATEPOST_HTTP: http: ");
        refused("", &[("GATEPOST_PASSWORD_MAX_WAIT", "x")], "GATEPOST_PASSWORD_MAX_WAIT: password.max_wait: ");
        refused("", &[("GATEPOST_HTPP", "x")], "GATEPOST_HTPP: htpp: there is no such setting");
        refused("", &[("GATEPOST_ZENITH_NO_SUCH", "x")], "GATEPOST_ZENITH_NO_SUCH: zenith.no_such: there is no such setting");
    }

    #[test]
    fn the_management_listener_is_off_and_on_loopback_where_it_is_on() {
        let listens = |text: &str, environment: &[(&str, &str)]| load(text, environment).expect(text).management;
        assert_eq!(listens("", &[]), None);
        assert_eq!(listens("[management]", &[]), Some(SocketAddr::from(([127, 0, 0, 1], 9180))));
        let elsewhere = Some(SocketAddr::from(([10, 0, 0, 1], 9999)));
        assert_eq!(listens("[management]\nlisten = '10.0.0.1:9999'", &[]), elsewhere);
        assert_eq!(listens("", &[("GATEPOST_MANAGEMENT_LISTEN", "10.0.0.1:9999")]), elsewhere);
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let environment = [("GATEPOST_HTTP", "127.0.0.1:9"), ("GATEPOST_ZENITH_REQUIRE_SECURE", "false"), ("OTHER", "x")];
        let config = load("http = '127.0.0.1:1'\nrequire_secure = true", &environment).expect("good settings");
        assert_eq!(config.http.port(), 9);
        assert_eq!(config.identity.insecure_gates, ["zenith"]);
        let config = load("require_secure = false", &[]).expect("good settings");
        assert_eq!(config.identity.insecure_gates, ["zenith", "servicestack"]);
        let config = load("require_secure = false\n[zenith]\nrequire_secure = true", &[]).expect("good settings");
        assert_eq!(config.identity.insecure_gates, ["servicestack"], "a gate may override");
    }

    #[test]
    fn the_public_url_is_an_origin_and_what_is_signed_names_it() {
        assert_eq!(load("", &[]).expect("defaults").identity.issuer, "gatepost");
        for url in ["https://auth.example.org", "http://127.0.0.1:8000", "https://[2001:db8::1]:8443"] {
            let config = load(&format!("public_url = '{url}'"), &[]).expect(url);
            assert_eq!(config.identity.issuer, url);
        }
        let config = load("", &[("GATEPOST_PUBLIC_URL", "https://auth.example.org")]).expect("good settings");
        assert_eq!(config.identity.issuer, "https://auth.example.org");
        for url in [
            "",
            "auth.example.org",
            "/",
            "//auth.example.org",
            "https://",
            "https://:8443",
            "https://auth.example.org/",
            "https://auth.example.org/auth",
            "https://auth.example.org?x",
            "https://auth.example.org#x",
            "https://ann:pw@auth.example.org",
            "https://Auth.example.org",
            "HTTPS://auth.example.org",
            "ftp://auth.example.org",
            " https://auth.example.org",
        ] {
            refused(&format!("\npublic_url = '{url}'"), &[], "gatepost.toml:2: public_url: ");
        }
        refused("public_url = 3", &[], "gatepost.toml:1: public_url: ");
    }

    #[test]
    fn a_proxy_is_named_by_its_address_or_its_network() {
        let config = load("[proxy]\ntrusted = ['192.0.2.1', '10.0.0.0/8', '2001:db8::1']", &[]).expect("good settings");
        let trusted: Vec<_> = config.proxies.trusted.iter().map(ToString::to_string).collect();
        assert_eq!(trusted, ["192.0.2.1/32", "10.0.0.0/8", "2001:db8::1/128"]);
    }
}
