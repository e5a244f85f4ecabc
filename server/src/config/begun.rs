//! What the command line says of a terminal when the server is begun: which one is served, and its PIN until the server ends.
//!
//! It is said as if it stood in the settings, so that it is checked with them; a complaint about it names the key.

use toml::{Table, Value};

/// The terminal that is meant where none is named and the settings have none or several.
const DEFAULT: &str = "default";

/// What was typed.
#[derive(Clone, Default)]
pub struct Begun {
    /// The terminal.
    pub terminal: Option<String>,
    /// Its PIN.
    pub pin: Option<String>,
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Begun").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}

impl Begun {
    /// Adds it to the settings. What is no list of tables there is left for whoever reads it to complain about. Answers what is
    /// likely to be a slip: a terminal beside those that the settings name.
    pub(super) fn overlay(self, settings: &mut Table) -> Option<String> {
        let Begun { terminal, pin } = self;
        if terminal.is_none() && pin.is_none() {
            return None;
        }
        let gate = settings.entry("trueconf").or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(gate) = gate else { return None };
        let terminals = gate.entry("terminals").or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(terminals) = terminals else { return None };
        let others = terminals.len();
        let name = terminal.unwrap_or_else(|| match &**terminals {
            [only] => only.get("name").and_then(Value::as_str).unwrap_or(DEFAULT).to_owned(),
            _ => DEFAULT.to_owned(),
        });
        let place = terminals.iter().position(|one| one.get("name").and_then(Value::as_str) == Some(&name)).unwrap_or_else(|| {
            terminals.push(Value::Table(Table::from_iter([("name".to_owned(), Value::String(name.clone()))])));
            terminals.len() - 1
        });
        if let (Some(Value::Table(terminal)), Some(pin)) = (terminals.get_mut(place), pin) {
            terminal.insert("pin".to_owned(), Value::String(pin));
        }
        (others > 0 && place == others).then(|| {
            format!(
                "the settings do not name the terminal {name}; it is served beside those that they name, on a port of its own, and \
                 what was typed is said of it alone"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers whether it was warned of.
    fn check(before: &str, terminal: Option<&str>, pin: Option<&str>, expected: &str) -> bool {
        let mut settings: Table = before.parse().expect("TOML");
        let warning = Begun { terminal: terminal.map(str::to_owned), pin: pin.map(str::to_owned) }.overlay(&mut settings);
        assert_eq!(settings, expected.parse().expect("TOML"), "{before}");
        assert!(pin.is_none_or(|pin| warning.as_ref().is_none_or(|warning| !warning.contains(pin))));
        warning.is_some()
    }

    #[test]
    fn a_terminal_beside_those_that_the_settings_name_is_likely_to_be_a_slip() {
        let (hall, two) = ("{ name = 'hall' }", "{ name = 'hall' }, { name = 'room' }");
        let named = |terminals: &str| format!("trueconf.terminals = [{terminals}]");
        let pin = Some("pin123");
        assert!(check(&named(two), None, pin, &named(&format!("{two}, {{ name = 'default', pin = 'pin123' }}"))));
        assert!(check(&named(hall), Some("hal"), None, &named(&format!("{hall}, {{ name = 'hal' }}"))));
        assert!(!check(&named(two), Some("room"), pin, &named("{ name = 'hall' }, { name = 'room', pin = 'pin123' }")));
        assert!(!check("", None, pin, &named("{ name = 'default', pin = 'pin123' }")), "there are no others");
    }

    #[test]
    fn a_pin_is_the_one_terminals_or_the_named_ones_or_the_default_ones() {
        check("", None, None, "");
        check("", None, Some("x"), "trueconf.terminals = [{ name = 'default', pin = 'x' }]");
        check("", Some("hall"), None, "trueconf.terminals = [{ name = 'hall' }]");
        let one = "trueconf.terminals = [{ name = 'hall', control = '127.0.0.1:1' }]";
        check(one, None, Some("x"), "trueconf.terminals = [{ name = 'hall', control = '127.0.0.1:1', pin = 'x' }]");
        let two = "trueconf.terminals = [{ name = 'hall', control = '127.0.0.1:1' }, { name = 'a', pin = 'x' }]";
        check(one, Some("a"), Some("x"), two);
        check("trueconf = 3", None, Some("x"), "trueconf = 3");
    }
}
