//! What the settings say, key by key: which of it may change under a running server, and what has changed.
//!
//! A key that nobody has marked needs a restart, so that none is said to hold that does not. It refuses to know what a setting
//! is good for.

use std::fmt;

use gatepost_protocols::GATES;
use toml::{Table, Value};

/// Keys and sections that hold from the next SIGHUP on. So do those of the gates.
const RELOADED: [&str; 13] = [
    "drain_rate",
    "drain_timeout",
    "log",
    "password",
    "provider",
    "proxy",
    "public_url",
    "require_secure",
    "retention",
    "session",
    "throttle",
    "tls",
    "token",
];
/// Of these sections, keys that do not: threads are started once, and a table that counts is laid out once.
const STARTED: [&str; 2] = ["password.threads", "throttle.entries"];
/// A server that began without a certificate has no listener for one, and one that began with it needs one.
const TLS: &str = "tls";

/// Everything that the settings say, by file, environment and command line.
#[derive(Clone, Default)]
pub struct Told(Table);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets stand in it.
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

/// What has changed between two readings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that hold from now on.
    pub holds: Vec<String>,
    /// Keys that wait for a restart.
    pub waits: Vec<String>,
}

impl Told {
    pub(super) fn new(settings: Table) -> Told {
        Told(settings)
    }

    /// A key of the first or, in a section, of the second level.
    fn at(&self, key: &str) -> Option<&Value> {
        match key.split_once('.') {
            None => self.0.get(key).filter(|value| !value.is_table()),
            Some((section, key)) => self.0.get(section)?.get(key),
        }
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|(key, value)| match value {
            Value::Table(section) => section.keys().map(|inner| format!("{key}.{inner}")).collect(),
            _ => vec![key.clone()],
        })
    }

    /// What has changed since the last reading, where this is how the server `began`.
    pub(super) fn changes(&self, began: &Told, last: &Told) -> Changes {
        let mut changes = Changes::default();
        let mut keys: Vec<String> = self.keys().chain(began.keys()).chain(last.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            if self.waits(&key, began) {
                if self.at(&key) != began.at(&key) {
                    changes.waits.push(key);
                }
            } else if self.at(&key) != last.at(&key) {
                changes.holds.push(key);
            }
        }
        changes
    }

    /// The same settings, with whatever waits for a restart as it was when the server began.
    pub(super) fn under(&self, began: &Told, changes: &Changes) -> Table {
        let mut settings = self.0.clone();
        for key in &changes.waits {
            let before = began.at(key).cloned();
            let (table, key) = match key.split_once('.') {
                None => (&mut settings, &**key),
                Some((section, key)) => {
                    let section = settings.entry(section).or_insert_with(|| Value::Table(Table::new()));
                    let Value::Table(section) = section else { continue };
                    (section, key)
                }
            };
            match before {
                Some(value) => drop(table.insert(key.to_owned(), value)),
                None => drop(table.remove(key)),
            }
        }
        // An empty section says that there is one.
        if !began.0.contains_key(TLS) {
            settings.remove(TLS);
        }
        settings
    }

    fn waits(&self, key: &str, began: &Told) -> bool {
        let section = key.split('.').next().unwrap_or_default();
        needs_restart(key) || (section == TLS && self.0.contains_key(TLS) != began.0.contains_key(TLS))
    }
}

/// Whether a key only holds from the next start on.
fn needs_restart(key: &str) -> bool {
    let (section, inner) = key.split_once('.').unwrap_or((key, ""));
    match GATES.iter().find(|gate| gate.name == section) {
        Some(gate) => gate.restarts.contains(&inner),
        None => STARTED.contains(&key) || !RELOADED.contains(&section),
    }
}

/// What operators are told: the keys and sections that hold from the next SIGHUP on, and those keys that need a restart, which go
/// before a section.
pub fn marked() -> (Vec<&'static str>, Vec<String>) {
    let reloaded = RELOADED.into_iter().chain(GATES.iter().map(|gate| gate.name)).collect();
    let of_gates = GATES.iter().flat_map(|gate| gate.restarts.iter().map(|key| format!("{}.{key}", gate.name)));
    let once = ["data", "http", "https", "limits", "log_format", "management"]
        .into_iter()
        .chain(STARTED)
        .map(str::to_owned)
        .chain(of_gates)
        .collect();
    (reloaded, once)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Told {
        Told(text.parse().expect("TOML"))
    }

    fn check(began: &str, last: &str, next: &str, holds: &[&str], waits: &[&str]) -> Table {
        let (began, next) = (told(began), told(next));
        let changes = next.changes(&began, &told(last));
        assert_eq!((changes.holds.join(" "), changes.waits.join(" ")), (holds.join(" "), waits.join(" ")), "{last} -> {next:?}");
        next.under(&began, &changes)
    }

    #[test]
    fn what_waits_is_said_until_the_restart_and_what_holds_once() {
        let began = "http = 'a'\nlog = 'info'";
        let next = "http = 'b'\nlog = 'warn'\n[throttle]\nentries = 9\nname_free = 3";
        let kept = check(began, began, next, &["log", "throttle.name_free"], &["http", "throttle.entries"]);
        assert_eq!(kept, told("http = 'a'\nlog = 'warn'\n[throttle]\nname_free = 3").0);
        check(began, next, next, &[], &["http", "throttle.entries"]);
        check(began, next, began, &["log", "throttle.name_free"], &[]);
    }

    #[test]
    fn a_gate_says_which_of_its_keys_wait() {
        let next = "[trueconf]\nsilence = 70\nterminals = [{ name = 'hall' }]\n[zenith]\nname = 'x'";
        let kept = check("", "", next, &["trueconf.silence", "zenith.name"], &["trueconf.terminals"]);
        assert_eq!(kept, told("[trueconf]\nsilence = 70\n[zenith]\nname = 'x'").0);
    }

    #[test]
    fn certificates_may_change_and_neither_come_nor_go() {
        let (a, b) = ("[tls]\ncertificate = 'a'\nkey = 'k'", "[tls]\ncertificate = 'b'\nkey = 'k'");
        assert_eq!(check(a, a, b, &["tls.certificate"], &[]), told(b).0);
        assert_eq!(check("", "", a, &[], &["tls.certificate", "tls.key"]), told("").0);
        assert_eq!(check(a, a, "", &[], &["tls.certificate", "tls.key"]), told(a).0);
    }

    #[test]
    fn a_key_that_nobody_marked_needs_a_restart() {
        assert!(needs_restart("something_new") && needs_restart("something.new"));
        assert!(marked().1.iter().all(|key| needs_restart(key)) && marked().0.iter().all(|key| !needs_restart(key)));
    }
}
