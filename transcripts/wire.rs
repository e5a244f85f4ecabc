//! What differs from wire to wire in a transcript: how a connection opens by itself, and what it is asked at the end.

use serde_json::Value;

/// A wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The Zenith WebSocket API.
    Zenith,
    /// The Authenticate service, which has no sockets.
    ServiceStack,
    /// The control socket of a terminal.
    TrueConf,
}

impl Wire {
    /// The wire whose transcripts are in a folder of this name.
    pub fn of(folder: &str) -> Option<Wire> {
        match folder {
            "zenith" => Some(Wire::Zenith),
            "servicestack" => Some(Wire::ServiceStack),
            "trueconf" => Some(Wire::TrueConf),
            _ => None,
        }
    }

    /// What a connection opens with that no line has opened, and the sub-protocol that it then gets.
    pub fn opening(self) -> (&'static str, Option<&'static str>) {
        match self {
            Wire::Zenith | Wire::ServiceStack => ("/Zenith?version=2.0 offering ZenithJson", Some("ZenithJson")),
            Wire::TrueConf => ("/", None),
        }
    }

    /// A question that every connection answers at once, whoever holds it.
    pub fn closing_question(self, number: u64) -> String {
        match self {
            Wire::Zenith | Wire::ServiceStack => {
                format!(r#"{{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":{number}}}"#)
            }
            Wire::TrueConf => format!(r#"{{"method":"setUsedApiVersion","version":"1","requestId":{number}}}"#),
        }
    }

    /// Whether this answers that question.
    pub fn is_closing_answer(self, answer: &Value, number: u64) -> bool {
        match self {
            Wire::Zenith | Wire::ServiceStack => answer["TransactionID"] == number && answer["Topic"] == "QueryIdentify",
            Wire::TrueConf => answer["requestId"] == number && answer["method"] == "setUsedApiVersion",
        }
    }
}
