//! One connection of the gate, handed frames as the driver hands them in, and what must be true of whatever comes out.
//!
//! The laws feed it what they draw, the fuzz targets what they find. It knows what the core said and holds the conversation
//! to that; it refuses to know what a frame meant.

use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Event, Reason, Reply};
use gatepost_protocols::frame::{Frame, Outbox, Outgoing};
use gatepost_protocols::http::{Body, Response};
use gatepost_protocols::mount::{Served, Talk};
use serde_json::{Value, json};

use crate::scripted;

/// A conversation under these settings, which nobody has presented anything to.
pub fn open(settings: &str) -> Box<dyn Talk> {
    let mounts = scripted::mounts(settings).expect("good settings");
    match scripted::request(&mounts, scripted::START, "/Zenith", true, &[]).expect("a request") {
        Served::Response(response) => upgraded(response),
        Served::Question(..) => panic!("nothing was presented"),
    }
}

fn upgraded(response: Response) -> Box<dyn Talk> {
    match response.body {
        Body::Upgrade(upgrade) => upgrade.conversation,
        Body::Bytes(_) | Body::Forward(_) => panic!("the handshake was answered {}", response.status),
    }
}

/// What the core says when it is asked.
#[derive(Clone, Debug)]
pub enum Says {
    /// Yes, to one of the cast.
    Grants(&'static str),
    /// No.
    Refuses(Refusal),
}

impl Says {
    /// As a reply.
    pub fn reply(&self) -> Reply {
        match self {
            Says::Grants(who) => {
                let end = Some(scripted::START.after(scripted::LIFE));
                let principal = scripted::principal(who, &["Zenith/Market"], 0, end).expect("of the cast");
                scripted::granted(principal, Some(&[7; 32]))
            }
            Says::Refuses(refusal) => scripted::refused(refusal.clone()),
        }
    }
}

/// Every "no" that a login can get.
pub fn refusals() -> Vec<Refusal> {
    let retry_after = std::time::Duration::from_secs(1);
    vec![
        Refusal::InvalidCredentials,
        Refusal::InvalidClient,
        Refusal::AccountUnavailable,
        Refusal::AccountGone,
        Refusal::BelongsToNobody,
        Refusal::Expired,
        Refusal::Revoked,
        Refusal::NotYetValid,
        Refusal::WrongAudience,
        Refusal::WrongAlgorithm { shown: "none".to_owned(), expected: "HS256" },
        Refusal::NoMoment("exp"),
        Refusal::UnknownProvider,
        Refusal::ScopeNotGranted,
        Refusal::InsecureTransport,
        Refusal::TooManySessions,
        Refusal::LoginRequired,
        Refusal::NotPermitted,
        Refusal::MethodNotAllowed,
        Refusal::PlanRequired,
        Refusal::RoleMismatch,
        Refusal::TooManyAttempts { retry_after },
        Refusal::Busy { retry_after },
        Refusal::TimedOut,
        Refusal::Unavailable,
    ]
}

/// One thing that happens to a connection.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A text arrives, and should it ask, the core says this.
    Text(String, Says),
    /// Bytes arrive.
    Binary(Vec<u8>),
    /// The session is gone.
    Detached(Reason),
}

/// A connection under test, and who it must be.
pub struct Tried {
    talk: Box<dyn Talk>,
    now: Timestamp,
    identified: bool,
}

impl Tried {
    /// One that has presented nothing, under the default settings.
    pub fn open() -> Tried {
        Tried { talk: open(""), now: scripted::START, identified: false }
    }

    /// The one that this response has made.
    pub fn upgraded(response: Response, identified: bool) -> Tried {
        Tried { talk: upgraded(response), now: scripted::START, identified }
    }

    /// Hands a frame in as the driver does, and holds what comes out against what must be true of it.
    pub fn hand_in(&mut self, frame: Frame<'_>, says: &Says) -> Vec<Outgoing> {
        let mut out = Outbox::default();
        let mut asked = false;
        if let Some(command) = self.talk.receive(self.now, frame, &mut out) {
            asked = true;
            assert!(out.is_empty(), "nothing is said before the core has answered {command:?}");
            self.talk.answer(self.now, says.reply(), &mut out);
        }
        let granted = asked && matches!(says, Says::Grants(_));
        self.identified |= granted;
        let sent: Vec<Outgoing> = out.drain().collect();
        self.check(&sent, asked && !granted);
        sent
    }

    /// Lets one thing happen. A connection is closed for what is no packet and for losing its place, and answered otherwise;
    /// what it then says of itself is what the core last said. `false`: it is closed.
    pub fn go_through(&mut self, happening: &Happening) -> bool {
        let sent = match happening {
            Happening::Text(text, says) => self.hand_in(Frame::Text(text), says),
            Happening::Binary(bytes) => self.hand_in(Frame::Binary(bytes), &Says::Grants("ann")),
            Happening::Detached(reason) => {
                let mut out = Outbox::default();
                self.identified = false;
                self.talk.notify(self.now, Event::Detached(*reason), &mut out);
                let sent: Vec<Outgoing> = out.drain().collect();
                self.check(&sent, false);
                sent
            }
        };
        if let Some(Outgoing::Close(code, _)) = sent.last() {
            let displaced = matches!(happening, Happening::Detached(Reason::Displaced));
            assert_eq!(*code, if displaced { 4000 } else { 1007 });
            assert_eq!(sent.len(), 1, "{sent:?}");
            return false;
        }
        let identified = self.identified;
        assert_eq!(self.is_identified(), identified, "after {happening:?}");
        true
    }

    /// Who the connection says it is.
    pub fn is_identified(&mut self) -> bool {
        let question = r#"{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":1}"#;
        let sent = self.hand_in(Frame::Text(question), &Says::Refuses(Refusal::Unavailable));
        matches!(&sent[..], [Outgoing::Text(text)] if text.contains(r#""Result":"Success""#))
    }

    fn check(&self, sent: &[Outgoing], may_reject: bool) {
        for outgoing in sent {
            let Outgoing::Text(text) = outgoing else { continue };
            let value: Value = serde_json::from_str(text).expect("what is sent is JSON");
            assert!(value["Controller"].is_string(), "every frame names its controller: {text}");
            assert!(!has_null(&value), "nothing is null: {text}");
            assert!(value["Action"] != "Publish" && value["Action"] != "Cancel", "{text}");
            assert!(value["Action"].is_null() || value["Action"] == "Error" || value["TransactionID"].is_null(), "{text}");
            match value["Data"]["Result"].as_str() {
                Some("Success") => assert!(self.identified && !may_reject, "only the core grants: {text}"),
                Some("Reject") => {
                    assert_eq!(value["Data"], json!({"Result": "Reject"}));
                    let login = ["AuthOwner", "AuthCode", "AuthToken"].contains(&value["Topic"].as_str().unwrap_or(""));
                    let told_to_somebody = login || !value["TransactionID"].is_null() && value["Topic"] == "Identify";
                    assert!(!self.identified || told_to_somebody, "whoever is here is not told otherwise: {text}");
                }
                _ => {}
            }
        }
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
