//! The gate's section of the settings, read once and checked.
//!
//! Where something listens is said here as a [`Place`]; to bind it is the server's business.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::chain::TerminalLives;
use gatepost_identity::terminal::{LockOut, TerminalName};
use http::Uri;
use serde::Deserialize;

use crate::listener::{MostStrangers, Place};
use crate::section::{BadSetting, Section, secret_text};
use crate::trueconf::message::LONGEST_QUOTED;
use crate::trueconf::methods;
use crate::trueconf::spelling::is_token;

/// The section as it is written. Spans are in seconds.
#[derive(Deserialize)]
#[serde(default)]
struct Written {
    tls: bool,
    lenient_empty: bool,
    administrators_pin: bool,
    origins: Vec<String>,
    max_message: usize,
    ping_every: u64,
    silence: u64,
    max_unsent: usize,
    unsent_for: u64,
    answer_within: u64,
    unauthorized_for: u64,
    after_attempt: u64,
    max_unauthorized: usize,
    max_unauthorized_of_source: usize,
    device_answers_within: u64,
    connection_life: u64,
    pin_set_life: u64,
    http_life: u64,
    lock_out: WrittenLockOut,
    web: Option<SocketAddr>,
    http: Option<SocketAddr>,
    terminals: Vec<WrittenTerminal>,
}

impl Default for Written {
    fn default() -> Written {
        let lives = TerminalLives::default();
        Written {
            tls: false,
            lenient_empty: false,
            administrators_pin: true,
            origins: Vec::new(),
            max_message: 64 * 1024,
            ping_every: 30,
            silence: 65,
            max_unsent: 64 * 1024,
            unsent_for: 10,
            answer_within: 10,
            unauthorized_for: 300,
            after_attempt: 30,
            max_unauthorized: 1024,
            max_unauthorized_of_source: 64,
            device_answers_within: 30,
            connection_life: lives.connection.as_secs(),
            pin_set_life: lives.pin_set.as_secs(),
            http_life: lives.http.as_secs(),
            lock_out: WrittenLockOut::default(),
            web: None,
            http: None,
            terminals: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct WrittenLockOut {
    free: u32,
    within: u64,
    first_wait: u64,
    longest_wait: u64,
    forget_after: u64,
    pins_free: u32,
    pins_within: u64,
    pins_suspended: u64,
}

impl Default for WrittenLockOut {
    fn default() -> WrittenLockOut {
        let lock_out = LockOut::default();
        WrittenLockOut {
            free: lock_out.free,
            within: lock_out.within.as_secs(),
            first_wait: lock_out.first_wait.as_secs(),
            longest_wait: lock_out.longest_wait.as_secs(),
            forget_after: lock_out.forget_after.as_secs(),
            pins_free: lock_out.pins_free,
            pins_within: lock_out.pins_within.as_secs(),
            pins_suspended: lock_out.pins_suspended.as_secs(),
        }
    }
}

#[derive(Deserialize)]
struct WrittenTerminal {
    name: String,
    control: Option<SocketAddr>,
    #[serde(default, deserialize_with = "secret_text")]
    pin: Option<String>,
    upstream: Option<WrittenDevice>,
}

#[derive(Deserialize)]
struct WrittenDevice {
    address: String,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    user_methods: Vec<String>,
    #[serde(default = "a_mebibyte")]
    max_message: usize,
}

fn a_mebibyte() -> usize {
    1024 * 1024
}

/// How far a port may walk. All stay below 10000, beyond which a client seen gives up.
const STEPS: u16 = 32;
/// The ports of a control socket, of the server for files, and of the one that tells of both.
const CONTROL: u16 = 8765;
const HTTP: u16 = 8766;
const WEB: u16 = 8080;

fn place(written: Option<SocketAddr>, port: u16) -> Place {
    match written {
        Some(address) => Place { address, steps: 0 },
        None => Place { address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), steps: STEPS },
    }
}

/// A terminal, as an operator has set it up.
#[derive(Clone, Debug)]
pub(super) struct TerminalSettings {
    /// Its name, which is also what its `config.json` is asked for by.
    pub name: TerminalName,
    /// Where its control socket is.
    pub control: Place,
    /// A PIN that is good for its administrator for as long as the program runs.
    pub pin: Option<Secret>,
    /// The device behind it.
    pub device: Option<DeviceSettings>,
}

/// The control socket of a real terminal.
#[derive(Clone, Debug)]
pub(super) struct DeviceSettings {
    /// Where it is: `ws://host:port/`.
    pub address: Uri,
    /// The file with the secret of its administrator; none, where it wants none.
    pub secret_file: Option<PathBuf>,
    /// Which of its methods a user may use, beside those of the table.
    pub user_methods: Arc<[String]>,
    /// Its longest message, in bytes: 1 KiB to 16 MiB.
    pub max_message: usize,
}

/// The settings in force, shared by every connection.
#[derive(Debug)]
pub(super) struct Settings {
    /// Whether TLS is spoken on all listeners of the gate.
    pub tls: bool,
    /// Whether an empty `role` or `type` is as good as none.
    pub lenient_empty: bool,
    /// Whether an administrator may be secured by a PIN.
    pub administrators_pin: bool,
    /// The origins that a web page may come from beside the terminal's own.
    pub origins: Vec<String>,
    /// The longest message of a peer, in bytes: 1 KiB to 1 MiB.
    pub max_message: usize,
    /// How often a connection is pinged: 1 second to 1 hour.
    pub ping_every: Duration,
    /// How long a peer may be silent: longer than `ping_every`, at most 2 hours.
    pub silence: Duration,
    /// How many bytes may wait for a peer before nothing more is read from it, 4 KiB to 16 MiB, and for how long anything may
    /// wait before the peer is given up: 1 second to 1 hour.
    pub unsent: (usize, Duration),
    /// How long the core may take: 1 second to 5 minutes.
    pub answer_within: Duration,
    /// How long a connection may live that was never authorised: 1 second to 1 hour.
    pub unauthorized_for: Duration,
    /// How long it lives at least after its last attempt: 1 second to 1 hour.
    pub after_attempt: Duration,
    /// How many connections of a terminal may be there that were never authorised, and how many of them one source's: 1 to 100,000.
    pub strangers: MostStrangers,
    /// How long a device may take: 1 second to 5 minutes.
    pub device_answers_within: Duration,
    /// How long what is issued lives, each a second to ten years.
    pub lives: TerminalLives,
    /// How many guesses are too many.
    pub lock_out: LockOut,
    /// Where every terminal's `config.json` is.
    pub web: Place,
    /// Where the server for files is, which all terminals share.
    pub http: Place,
    /// The terminals.
    pub terminals: Vec<TerminalSettings>,
}

impl Settings {
    /// Reads and checks the section.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of its range, two terminals of one name, one address for two things.
    pub(super) fn read(section: &Section) -> Result<Settings, BadSetting> {
        let written: Written = section.read()?;
        let spans = [
            ("ping_every", written.ping_every, 1, 3600),
            ("silence", written.silence, written.ping_every + 1, 7200),
            ("unsent_for", written.unsent_for, 1, 3600),
            ("answer_within", written.answer_within, 1, 300),
            ("unauthorized_for", written.unauthorized_for, 1, 3600),
            ("after_attempt", written.after_attempt, 1, 3600),
            ("device_answers_within", written.device_answers_within, 1, 300),
            ("connection_life", written.connection_life, 1, TEN_YEARS),
            ("pin_set_life", written.pin_set_life, 1, TEN_YEARS),
            ("http_life", written.http_life, 1, TEN_YEARS),
        ];
        for (key, value, least, most) in spans {
            within(key, value, least, most, "seconds")?;
        }
        within("max_message", written.max_message as u64, 1024, 1024 * 1024, "bytes")?;
        within("max_unsent", written.max_unsent as u64, 4096, 16 * 1024 * 1024, "bytes")?;
        let (here, of_source) = (written.max_unauthorized, written.max_unauthorized_of_source);
        within("max_unauthorized", here as u64, 1, 100_000, "connections")?;
        within("max_unauthorized_of_source", of_source as u64, 1, 100_000, "connections")?;
        let settings = Settings {
            tls: written.tls,
            strangers: MostStrangers { here, of_source },
            lock_out: lock_out(&written.lock_out)?,
            lenient_empty: written.lenient_empty,
            administrators_pin: written.administrators_pin,
            origins: written.origins,
            max_message: written.max_message,
            ping_every: Duration::from_secs(written.ping_every),
            silence: Duration::from_secs(written.silence),
            unsent: (written.max_unsent, Duration::from_secs(written.unsent_for)),
            answer_within: Duration::from_secs(written.answer_within),
            unauthorized_for: Duration::from_secs(written.unauthorized_for),
            after_attempt: Duration::from_secs(written.after_attempt),
            device_answers_within: Duration::from_secs(written.device_answers_within),
            lives: TerminalLives {
                connection: Duration::from_secs(written.connection_life),
                pin_set: Duration::from_secs(written.pin_set_life),
                http: Duration::from_secs(written.http_life),
            },
            web: place(written.web, WEB),
            http: place(written.http, HTTP),
            terminals: terminals(written.terminals)?,
        };
        settings.places_differ()?;
        Ok(settings)
    }

    /// Two things cannot be at one written address.
    fn places_differ(&self) -> Result<(), BadSetting> {
        let controls = self.terminals.iter().enumerate();
        let controls = controls.map(|(number, terminal)| (format!("terminals[{number}].control"), terminal.control));
        let all = [("web".to_owned(), self.web), ("http".to_owned(), self.http)].into_iter().chain(controls);
        let mut seen: Vec<SocketAddr> = Vec::new();
        for (key, place) in all.filter(|(_, place)| place.steps == 0 && place.address.port() != 0) {
            if seen.contains(&place.address) {
                return Err(BadSetting::new(key, "is the address of something else"));
            }
            seen.push(place.address);
        }
        Ok(())
    }
}

const TEN_YEARS: u64 = 10 * 365 * 24 * 60 * 60;

fn within(key: &str, value: u64, least: u64, most: u64, unit: &str) -> Result<(), BadSetting> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(BadSetting::new(key, format!("must be from {least} to {most} {unit}")))
}

fn lock_out(written: &WrittenLockOut) -> Result<LockOut, BadSetting> {
    within("lock_out.free", written.free.into(), 1, 1000, "failures")?;
    within("lock_out.pins_free", written.pins_free.into(), 1, 100_000, "failures")?;
    within("lock_out.longest_wait", written.longest_wait, written.first_wait, 24 * 60 * 60, "seconds")?;
    // Else a wait would be over as soon as what led to it is forgotten.
    within("lock_out.forget_after", written.forget_after, written.longest_wait + 1, 7 * 24 * 60 * 60, "seconds")?;
    for (key, value) in [
        ("lock_out.within", written.within),
        ("lock_out.first_wait", written.first_wait),
        ("lock_out.pins_within", written.pins_within),
        ("lock_out.pins_suspended", written.pins_suspended),
    ] {
        within(key, value, 1, 24 * 60 * 60, "seconds")?;
    }
    Ok(LockOut {
        free: written.free,
        within: Duration::from_secs(written.within),
        first_wait: Duration::from_secs(written.first_wait),
        longest_wait: Duration::from_secs(written.longest_wait),
        forget_after: Duration::from_secs(written.forget_after),
        pins_free: written.pins_free,
        pins_within: Duration::from_secs(written.pins_within),
        pins_suspended: Duration::from_secs(written.pins_suspended),
    })
}

fn terminals(written: Vec<WrittenTerminal>) -> Result<Vec<TerminalSettings>, BadSetting> {
    let mut terminals: Vec<TerminalSettings> = Vec::new();
    for (number, WrittenTerminal { name, control, pin, upstream }) in written.into_iter().enumerate() {
        let bad = |key: &str, what: String| BadSetting::new(format!("terminals[{number}].{key}"), what);
        let name = TerminalName::parse(&name).map_err(|what| bad("name", what.to_string()))?;
        if terminals.iter().any(|other| other.name == name) {
            return Err(bad("name", "stands there twice".to_owned()));
        }
        if pin.as_ref().is_some_and(|pin| !(1..=256).contains(&pin.len())) {
            return Err(bad("pin", "must be 1 to 256 bytes long".to_owned()));
        }
        if pin.as_ref().is_some_and(|pin| is_token(pin)) {
            return Err(bad("pin", "must not look like a token, which is never taken for a PIN".to_owned()));
        }
        let device = upstream.map(|upstream| device(upstream).map_err(|(key, what)| bad(&format!("upstream.{key}"), what)));
        terminals.push(TerminalSettings {
            name,
            control: place(control, CONTROL),
            pin: pin.map(Secret::new),
            device: device.transpose()?,
        });
    }
    Ok(terminals)
}

/// A device, or which key of it is wrong, and how.
fn device(written: WrittenDevice) -> Result<DeviceSettings, (String, String)> {
    let WrittenDevice { address, secret_file, user_methods, max_message } = written;
    let at = |key: &str, what: &str| Err((key.to_owned(), what.to_owned()));
    let uri = address.parse::<Uri>().ok().filter(|uri| {
        let authority = uri.authority().filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        uri.scheme_str() == Some("ws") && authority.is_some()
    });
    // Nothing of what is written is said again: some put a secret there.
    let Some(address) = uri else { return at("address", "must be a ws:// address, as in \"ws://127.0.0.1:8765/\"") };
    if secret_file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
        return at("secret_file", "must name a file; leave it out where the device wants no secret");
    }
    for (number, name) in user_methods.iter().enumerate() {
        let key = format!("user_methods[{number}]");
        if name.is_empty() || name.len() > LONGEST_QUOTED || name == "event" {
            return at(&key, "is no name of a method");
        }
        if methods::find(name).is_some() {
            return at(&key, "needs what it needs for everybody; only what is not in the table of methods stands here");
        }
        if user_methods[..number].contains(name) {
            return at(&key, "stands there twice");
        }
    }
    if !(1024..=16 * 1024 * 1024).contains(&max_message) {
        return at("max_message", "must be from 1024 to 16777216 bytes");
    }
    Ok(DeviceSettings { address, secret_file, user_methods: user_methods.into(), max_message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, BadSetting> {
        Settings::read(&Section(text.parse().expect("TOML")))
    }

    #[test]
    fn nothing_listens_until_a_terminal_is_named_and_then_on_loopback() {
        assert!(read("").expect("no setting is required").terminals.is_empty());
        let settings = read("terminals = [{ name = 'default' }, { name = 'hall', control = '0.0.0.0:9000' }]").expect("good");
        let place = |address: &str, steps| Place { address: address.parse().expect("an address"), steps };
        assert_eq!(settings.web, place("127.0.0.1:8080", STEPS));
        assert_eq!(settings.http, place("127.0.0.1:8766", STEPS));
        assert_eq!(settings.terminals[0].control, place("127.0.0.1:8765", STEPS));
        assert_eq!(settings.terminals[1].control, place("0.0.0.0:9000", 0), "what was written does not walk");
    }

    #[test]
    fn defaults_are_what_the_core_has_and_can_be_set() {
        let settings = read("").expect("defaults");
        assert_eq!((settings.lives, settings.lock_out), (TerminalLives::default(), LockOut::default()));
        assert_eq!((settings.tls, settings.strangers), (false, MostStrangers { here: 1024, of_source: 64 }));
        assert_eq!((settings.max_message, settings.lenient_empty, settings.administrators_pin), (65536, false, true));
        let settings = read(
            "http_life = 60\nlock_out = { free = 3, first_wait = 10 }\nterminals = [{ name = 'a', pin = 'pin123', \
             upstream = { address = 'ws://127.0.0.1:9001/', user_methods = ['call'] } }]",
        );
        let settings = settings.expect("good");
        assert_eq!(settings.lives.http.as_secs(), 60);
        assert_eq!(settings.lock_out, LockOut { free: 3, first_wait: Duration::from_secs(10), ..LockOut::default() });
        assert!(settings.terminals[0].pin.as_ref().is_some_and(|pin| pin.matches(b"pin123")));
        let device = settings.terminals[0].device.as_ref().expect("there is one");
        assert_eq!(
            (&device.secret_file, &*device.user_methods, device.max_message),
            (&None, &["call".to_owned()][..], 1024 * 1024)
        );
    }

    #[test]
    fn a_pin_is_in_no_complaint_whatever_it_was_written_as() {
        for pin in ["918273", "-918273", "918273.5", "true", "['918273']", "{ x = '918273' }", "918273.0e3"] {
            let complaint = read(&format!("terminals = [{{ name = 'a', pin = {pin} }}]")).expect_err(pin);
            assert_eq!((&*complaint.key, complaint.what.contains("text")), ("terminals[0].pin", true), "{complaint:?}");
            assert!(!complaint.what.contains("918273") && !complaint.what.contains("true"), "{complaint:?}");
        }
    }

    #[test]
    fn bad_settings_are_named() {
        let token_shaped = format!("4*aB3dE5gH7jK9mN1p*1999999999*{}", "3046".repeat(16));
        let token_shaped = format!("terminals = [{{ name = 'a', pin = '{token_shaped}' }}]");
        let rows = [
            ("max_message = 1023", "max_message"),
            ("silence = 30", "silence"),
            ("answer_within = 0", "answer_within"),
            ("unauthorized_for = 3601", "unauthorized_for"),
            ("http_life = 0", "http_life"),
            ("tls = 'yes'", "tls"),
            ("max_unauthorized = 0", "max_unauthorized"),
            ("max_unauthorized_of_source = 100001", "max_unauthorized_of_source"),
            ("web = '127.0.0.1'", "web"),
            ("web = '127.0.0.1:9'\nhttp = '127.0.0.1:9'", "http"),
            ("http = '127.0.0.1:9'\nterminals = [{ name = 'a', control = '127.0.0.1:9' }]", "terminals[0].control"),
            ("terminals = [{ name = 'a/b' }]", "terminals[0].name"),
            ("terminals = [{ name = 'a' }, { name = 'a' }]", "terminals[1].name"),
            ("terminals = [{ name = 'a', pin = '' }]", "terminals[0].pin"),
            (&token_shaped, "terminals[0].pin"),
            ("lock_out.forget_after = 900", "lock_out.forget_after"),
            ("lock_out = { longest_wait = 86400 }", "lock_out.forget_after"),
            ("lock_out = { first_wait = 30, longest_wait = 30, forget_after = 3 }", "lock_out.forget_after"),
            ("terminals = [{ name = 'a', upstream = 'ws://x/' }]", "terminals[0].upstream"),
            ("terminals = [{ name = 'a', upstream = { user_methods = [] } }]", "terminals[0].upstream"),
            ("terminals = [{ name = 'a', upstream = { address = 'ws://x/', pin = 'x' } }]", "terminals[0].upstream.pin"),
            ("terminals = [{ name = 'a', plan = 'pro' }]", "terminals[0].plan"),
            ("lock_out.free = 0", "lock_out.free"),
            ("lock_out.first_wait = 901", "lock_out.longest_wait"),
            ("lock_out.pins_suspended = 0", "lock_out.pins_suspended"),
            ("lenient = true", "lenient"),
        ];
        for (text, key) in rows {
            assert_eq!(read(text).expect_err(text).key, key, "{text}");
        }
        assert!(read("lock_out = { longest_wait = 86400, forget_after = 86401 }").is_ok());
        for address in ["http://x/", "wss://x/", "ws:", "x:8765", "ws://admin:secret@x/", "ws://:8765/", ""] {
            let bad = read(&format!("terminals = [{{ name = 'a', upstream = {{ address = '{address}' }} }}]")).expect_err(address);
            assert_eq!(bad.key, "terminals[0].upstream.address", "{address}");
            assert!(!bad.what.contains("secret"), "{bad:?}");
        }
        for (more, key) in [
            ("secret_file = ''", "secret_file"),
            ("user_methods = ['']", "user_methods[0]"),
            ("user_methods = ['call', 'event']", "user_methods[1]"),
            ("user_methods = ['call', 'call']", "user_methods[1]"),
            ("user_methods = ['setSettings']", "user_methods[0]"),
            ("user_methods = ['auth']", "user_methods[0]"),
            ("max_message = 1023", "max_message"),
            ("max_message = 16777217", "max_message"),
        ] {
            let text = format!("terminals = [{{ name = 'a', upstream = {{ address = 'ws://x/', {more} }} }}]");
            assert_eq!(read(&text).expect_err(more).key, format!("terminals[0].upstream.{key}"), "{more}");
        }
        let free = "web = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nterminals = [{ name = 'a', control = '127.0.0.1:0' }]";
        assert!(read(free).is_ok(), "any free port is as many as are wanted");
    }
}
