//! Logs: where they go, how much of them, and as what. What is logged is decided where it happens; secrets print as `Secret(..)`.
//!
//! A line is one event and an event is one line, whatever stands in it: what peers make up, such as a name, may hold line breaks and
//! the codes by which terminals are steered, and none of them goes out as it came in.

use std::fmt::{self, Write as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use gatepost_identity::clock::{Timestamp, system_now};

/// As what a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one object of JSON.
    Json,
}

/// Exchanges the filter of the logs that were started.
static EXCHANGE: OnceLock<Exchange> = OnceLock::new();

type Exchange = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Sends logs to standard error, so that standard output stays for what was asked. A panic is logged too.
///
/// # Errors
/// A filter that is none; one sentence for people.
pub(crate) fn start(filter: &str, format: Format) -> Result<(), String> {
    let filter = self::filter(filter)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).event_format(Lines(format));
    let logs = logs.with_filter_reloading();
    let handle = logs.reload_handle();
    // Only a test could have started them before.
    logs.try_init().map_err(|error| error.to_string())?;
    EXCHANGE.get_or_init(|| Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())));
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// Logs a panic where it happens, once: whoever contains it only tells its peer. Of its text only what stands in the source is said,
/// since what was put together may quote what a peer sent, a password among it.
pub fn panicked(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let what = info.payload().downcast_ref::<&'static str>().copied().unwrap_or("a fault of ours");
    tracing::error!(place, "something broke off in a panic at {place}: {what}");
}

/// Logs by another filter from now on.
///
/// # Errors
/// A filter that is none; one sentence for people.
pub(crate) fn exchange(filter: &str) -> Result<(), String> {
    let filter = self::filter(filter)?;
    EXCHANGE.get().map_or(Ok(()), |exchange| exchange(filter))
}

/// Reads a filter.
///
/// # Errors
/// One sentence for people.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|error| format!("{text:?} is no filter: {error}"))
}

/// Writes each event as a line.
struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let line = match self.0 {
            Format::Text => said.text(system_now(), level.as_str(), target),
            Format::Json => said.json(system_now(), level.as_str(), target),
        };
        writer.write_str(&line)?;
        writer.write_char('\n')
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }

    fn text(&self, at: Timestamp, level: &str, target: &str) -> String {
        let mut line = format!("{} {level:>5} {target}: ", moment(at));
        escape(&self.message, &mut line);
        for (name, value) in &self.fields {
            line.push(' ');
            line.push_str(name);
            line.push('=');
            match value {
                // Quoted where it would not be one word otherwise, so that nobody can make up a field.
                Value::String(text) if !text.is_empty() && text.bytes().all(is_plain) => line.push_str(text),
                value => escape(&value.to_string(), &mut line),
            }
        }
        line
    }

    fn json(self, at: Timestamp, level: &str, target: &str) -> String {
        let mut object = Map::new();
        object.insert("at".to_owned(), moment(at).into());
        object.insert("level".to_owned(), level.to_lowercase().into());
        object.insert("target".to_owned(), target.into());
        object.insert("message".to_owned(), self.message.into());
        // No event has a field of these names.
        object.extend(self.fields);
        let mut line = String::new();
        // JSON escapes what is below a blank by itself, and allows the rest to stand escaped in its strings, where alone it can be.
        for character in Value::Object(object).to_string().chars() {
            match character {
                '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    // Writing to a string does not fail.
                    write!(line, "\\u{:04x}", u32::from(character)).ok();
                }
                character => line.push(character),
            }
        }
        line
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map(|moment| format!("{moment:.3}")).unwrap_or_default()
}

/// Whether a text of such bytes is one word and nothing else.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:/@+*".contains(&byte)
}

/// Writes a text without anything in it that could end the line, or steer a terminal.
fn escape(text: &str, line: &mut String) {
    for character in text.chars() {
        match character {
            '\u{2028}' | '\u{2029}' => line.extend(character.escape_unicode()),
            // Directions of writing can make one name look like another one.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => line.extend(character.escape_unicode()),
            character if character.is_control() => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = "ann\r\n2026-01-01T00:00:00Z  INFO x: \u{1b}[2J\u{9b}31m\u{7f}\u{2028}\u{0}\" level=info";

    fn said() -> Said {
        let fields = [("name", Value::from(BAD)), ("gate", "zenith".into()), ("took_ms", 3.into()), ("empty", "".into())];
        Said {
            message: format!("it says {BAD}"),
            fields: fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        }
    }

    #[test]
    fn whatever_stands_in_a_line_of_text_it_is_one_line_without_codes() {
        let line = said().text(Timestamp::from_millis(1_700_000_000_120), "INFO", "gatepost::attempt");
        assert!(line.starts_with("2023-11-14T22:13:20.120Z  INFO gatepost::attempt: it says ann\\r\\n2026"), "{line}");
        assert!(!line.chars().any(|character| character.is_control() || character == '\u{2028}'), "{line:?}");
        let fields = line.split(" empty=").nth(1).expect("the fields");
        assert!(fields.starts_with("\"\" gate=zenith name=\"ann\\r\\n"), "{line}");
        assert!(line.ends_with("\\\" level=info\" took_ms=3"), "a quote ends nothing: {line}");
    }

    #[test]
    fn whatever_stands_in_a_line_of_json_it_is_one_object_that_reads_back() {
        let line = said().json(Timestamp::from_millis(1_700_000_000_120), "INFO", "gatepost::attempt");
        assert!(!line.chars().any(|character| character.is_control() || character == '\u{2028}'), "{line:?}");
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&read["name"], &read["gate"], &read["took_ms"]), (&BAD.into(), &"zenith".into(), &3.into()));
        assert_eq!((&read["at"], &read["level"]), (&"2023-11-14T22:13:20.120Z".into(), &"info".into()));
        assert_eq!(read["message"], format!("it says {BAD}"));
    }
}
