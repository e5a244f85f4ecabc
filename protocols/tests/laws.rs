//! What holds on the Zenith gate whatever a peer sends and whatever the core says.
//!
//! `PROPTEST_CASES` sets how many cases each law is tried on.

#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
mod scripted;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Event, Reason, Reply};
use gatepost_protocols::frame::{Frame, Outbox, Outgoing};
use gatepost_protocols::http::{Body, Response};
use gatepost_protocols::mount::{Served, Talk};
use proptest::prelude::*;
use serde_json::{Value, json};

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 512;
    }
    config
}

fn upgraded(response: Response) -> Box<dyn Talk> {
    match response.body {
        Body::Upgrade(upgrade) => upgrade.conversation,
        Body::Bytes(_) => panic!("the handshake was answered {}", response.status),
    }
}

fn open() -> Box<dyn Talk> {
    let mounts = scripted::mounts("").expect("defaults");
    match scripted::request(&mounts, scripted::START, "/Zenith", true, &[]).expect("a request") {
        Served::Response(response) => upgraded(response),
        Served::Question(..) => panic!("nothing was presented"),
    }
}

/// What the core says when it is asked.
#[derive(Clone, Debug)]
enum Says {
    Grants(&'static str),
    Refuses(Refusal),
}

impl Says {
    fn reply(&self) -> Reply {
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

fn any_refusal() -> impl Strategy<Value = Refusal> {
    let retry_after = std::time::Duration::from_secs(1);
    prop::sample::select(vec![
        Refusal::InvalidCredentials,
        Refusal::InvalidClient,
        Refusal::AccountUnavailable,
        Refusal::Expired,
        Refusal::Revoked,
        Refusal::NotYetValid,
        Refusal::WrongAudience,
        Refusal::UnknownProvider,
        Refusal::ScopeNotGranted,
        Refusal::InsecureTransport,
        Refusal::TooManySessions,
        Refusal::LoginRequired,
        Refusal::NotPermitted,
        Refusal::TooManyAttempts { retry_after },
        Refusal::Busy { retry_after },
        Refusal::TimedOut,
        Refusal::Unavailable,
    ])
}

fn any_says() -> impl Strategy<Value = Says> {
    prop_oneof![prop::sample::select(vec!["ann", "bob", "svc"]).prop_map(Says::Grants), any_refusal().prop_map(Says::Refuses)]
}

/// Members and values that mean something on this wire, so that arbitrary JSON often does, too.
const WORDS: [&str; 31] = [
    "Controller",
    "Topic",
    "Action",
    "Data",
    "TransactionID",
    "Confirm",
    "Provider",
    "ClientID",
    "ClientSecret",
    "UserName",
    "Username",
    "Password",
    "Scope",
    "AccessToken",
    "AuthGrant",
    "ActionTimeout",
    "Auth",
    "Zenith",
    "AuthOwner",
    "AuthCode",
    "AuthToken",
    "QueryIdentify",
    "Identify",
    "Configure",
    "QueryConfigure",
    "ServerInfo",
    "Feeds",
    "Sub",
    "Unsub",
    "Publish",
    "Zenith/Market",
];

fn any_word() -> impl Strategy<Value = String> {
    prop_oneof![3 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any_word(), inner), 0..8).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_topic() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("Auth", "AuthOwner"),
        ("Auth", "AuthCode"),
        ("Auth", "AuthToken"),
        ("Auth", "QueryIdentify"),
        ("Auth", "Configure"),
        ("Auth", "QueryConfigure"),
        ("Zenith", "Configure"),
        ("Zenith", "QueryConfigure"),
    ])
}

/// A message that is a packet, most often a sensible one.
fn any_packet() -> impl Strategy<Value = Value> {
    let login = json!({"Provider": "Paritech", "ClientID": "app", "UserName": "ann", "Password": "pw", "AccessToken": "abcd", "AuthGrant": "g"});
    let topic = prop_oneof![4 => any_topic(), 1 => Just(("Auth", "Identify")), 1 => Just(("Zenith", "Feeds"))];
    let action =
        prop::sample::select(vec![Value::Null, json!("Publish"), json!("Sub"), json!("Unsub"), json!("Cancel"), json!("Bogus")]);
    let data = prop_oneof![3 => Just(login), 1 => any_json()];
    (topic, action, data, prop::option::of(any::<i64>()), any::<bool>()).prop_map(|((controller, topic), action, data, id, confirm)| {
        json!({"Controller": controller, "Topic": topic, "Action": action, "TransactionID": id, "Data": data, "Confirm": confirm})
    })
}

/// One thing that happens to a connection.
#[derive(Clone, Debug)]
enum Happening {
    Text(String, Says),
    Binary(Vec<u8>),
    Detached(Reason),
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let mangled =
        (any_packet(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), ".{0,3}").prop_map(|(packet, from, to, by)| {
            let mut characters: Vec<char> = packet.to_string().chars().collect();
            let (one, other) = (from.index(characters.len()), to.index(characters.len()));
            let end = one.max(other).min(one.min(other) + 4);
            characters.splice(one.min(other)..end, by.chars());
            characters.into_iter().collect::<String>()
        });
    let text = prop_oneof![
        6 => any_packet().prop_map(|packet| packet.to_string()),
        2 => mangled,
        1 => any_json().prop_map(|value| value.to_string()),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ];
    prop_oneof![
        12 => (text, any_says()).prop_map(|(text, says)| Happening::Text(text, says)),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Happening::Binary),
        1 => prop::sample::select(vec![Reason::Expired, Reason::Revoked, Reason::Displaced]).prop_map(Happening::Detached),
    ]
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A connection under test, and who it must be.
struct Tried {
    talk: Box<dyn Talk>,
    now: Timestamp,
    identified: bool,
}

impl Tried {
    fn new() -> Tried {
        Tried { talk: open(), now: scripted::START, identified: false }
    }

    /// Hands a frame in as the driver does, and holds what comes out against what must be true of it.
    fn hand_in(&mut self, frame: Frame<'_>, says: &Says) -> Vec<Outgoing> {
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

    /// Who the connection says it is.
    fn is_identified(&mut self) -> bool {
        let question = r#"{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":1}"#;
        let sent = self.hand_in(Frame::Text(question), &Says::Refuses(Refusal::Unavailable));
        matches!(&sent[..], [Outgoing::Text(text)] if text.contains(r#""Result":"Success""#))
    }
}

proptest! {
    #![proptest_config(config())]

    /// Nothing panics; nothing is authenticated but by the core; a connection is closed for what is no packet and answered
    /// otherwise, and what it then says of itself is what the core last said.
    #[test]
    fn any_bytes_and_any_json_are_answered_in_order_or_closed(happenings in prop::collection::vec(any_happening(), 1..12)) {
        let mut tried = Tried::new();
        for happening in &happenings {
            let sent = match happening {
                Happening::Text(text, says) => tried.hand_in(Frame::Text(text), says),
                Happening::Binary(bytes) => tried.hand_in(Frame::Binary(bytes), &Says::Grants("ann")),
                Happening::Detached(reason) => {
                    let mut out = Outbox::default();
                    tried.identified = false;
                    tried.talk.notify(tried.now, Event::Detached(*reason), &mut out);
                    let sent: Vec<Outgoing> = out.drain().collect();
                    tried.check(&sent, false);
                    sent
                }
            };
            if let Some(Outgoing::Close(code, _)) = sent.last() {
                let displaced = matches!(happening, Happening::Detached(Reason::Displaced));
                prop_assert_eq!(*code, if displaced { 4000 } else { 1007 });
                prop_assert_eq!(sent.len(), 1);
                return Ok(());
            }
            prop_assert_eq!(tried.is_identified(), tried.identified);
        }
    }

    /// A request for something that exists, with an id, has exactly one reply, with that id to the digit.
    #[test]
    fn a_request_with_an_id_has_exactly_one_reply(
        (controller, topic) in any_topic(),
        spelled_out in any::<bool>(),
        id in "-?(0|[1-9][0-9]{0,24})",
        data in prop::option::of(any_json()),
        says in any_says(),
    ) {
        let action = if spelled_out { r#","Action":"Publish""# } else { "" };
        let data = data.map(|data| format!(r#","Data":{data}"#)).unwrap_or_default();
        let text = format!(r#"{{"Controller":"{controller}","Topic":"{topic}"{action},"TransactionID":{id}{data}}}"#);
        let sent = Tried::new().hand_in(Frame::Text(&text), &says);
        prop_assert_eq!(sent.len(), 1, "{:?}", sent);
        let Outgoing::Text(reply) = &sent[0] else { return Err(TestCaseError::fail(format!("{text} was closed: {sent:?}"))) };
        let quoted = reply.contains(&format!(r#","TransactionID":{id},"#)) || reply.ends_with(&format!(r#","TransactionID":{id}}}"#));
        prop_assert!(quoted, "{}", reply);
        let head = format!(r#"{{"Controller":"{controller}","Topic":"{topic}""#);
        let own_topic = reply.starts_with(&head);
        let identify = reply.starts_with(r#"{"Controller":"Auth","Topic":"Identify","TransactionID""#) && topic.starts_with("Auth") && !spelled_out;
        prop_assert!(own_topic || identify, "{}", reply);
    }

    /// What was sent as a secret does not come back, well-formed request or not, granted or not.
    #[test]
    fn no_secret_that_was_sent_comes_back(
        secrets in prop::collection::vec("[a-zA-Z0-9+/]{12,40}", 4),
        topic in prop::sample::select(vec!["AuthOwner", "AuthCode", "AuthToken", "QueryIdentify", "Configure", "Nope"]),
        broken in prop::sample::select(vec![json!({}), json!({"Provider": 1}), json!({"Scope": "x"}), json!({"ClientID": null})]),
        action in prop::sample::select(vec!["Publish", "Sub", "Unsub", "Bogus"]),
        says in any_says(),
    ) {
        let mut data = json!({"Provider": "Paritech", "ClientID": "app", "UserName": "ann", "Scope": ["Zenith"],
            "Password": secrets[0], "ClientSecret": secrets[1], "AuthGrant": secrets[2], "AccessToken": secrets[3]});
        if let (Some(data), Some(broken)) = (data.as_object_mut(), broken.as_object()) {
            data.extend(broken.clone());
        }
        let text = json!({"Controller": "Auth", "Topic": topic, "Action": action, "TransactionID": 1, "Confirm": true, "Data": data});
        let mut tried = Tried::new();
        let mut sent = tried.hand_in(Frame::Text(&text.to_string()), &says);
        sent.extend(tried.hand_in(Frame::Text(r#"{"Controller":"Auth","Topic":"Identify","Action":"Sub"}"#), &says));
        for outgoing in &sent {
            let told = format!("{outgoing:?}");
            for secret in &secrets {
                prop_assert!(!told.contains(secret.as_str()), "{} is in {}", secret, told);
            }
        }
    }

    /// Whoever is named and whatever the cause, a refusal of credentials has the same bytes.
    #[test]
    fn a_refusal_has_the_same_bytes_for_whoever_was_named(
        name in ".{0,20}",
        client in ".{0,20}",
        provider in ".{0,20}",
        refusal in prop::sample::select(vec![
            Refusal::InvalidCredentials, Refusal::InvalidClient, Refusal::AccountUnavailable, Refusal::Expired, Refusal::Revoked,
            Refusal::UnknownProvider, Refusal::ScopeNotGranted, Refusal::InsecureTransport,
        ]),
    ) {
        let text = json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1,
            "Data": {"Provider": provider, "ClientID": client, "UserName": name, "Password": "x"}});
        let sent = Tried::new().hand_in(Frame::Text(&text.to_string()), &Says::Refuses(refusal));
        let expected = r#"{"Controller":"Auth","Topic":"Identify","TransactionID":1,"Data":{"Result":"Reject"}}"#;
        prop_assert_eq!(sent, vec![Outgoing::Text(expected.to_owned())]);
    }

    /// An upgrade with credentials becomes an authenticated socket if and only if the core granted; no query does that.
    #[test]
    fn an_upgrade_is_authenticated_only_by_the_core(
        query in prop_oneof![Just("version=2.0".to_owned()), "[a-zA-Z0-9&=_.%-]{0,24}", "(access_token|token)=[a-zA-Z0-9]{1,9}"],
        authorization in prop::option::of("[ -~]{0,32}"),
        says in any_says(),
    ) {
        let mounts = scripted::mounts("").expect("defaults");
        let headers: Vec<(String, String)> = authorization.iter().map(|value| ("Authorization".to_owned(), value.clone())).collect();
        let served = scripted::request(&mounts, scripted::START, &format!("/Zenith?{query}"), true, &headers).expect("a request");
        let (response, granted) = match served {
            Served::Response(response) => (response, false),
            Served::Question(_, answer) => (answer(scripted::START, says.reply()), matches!(says, Says::Grants(_))),
        };
        prop_assert!([101, 400, 403, 429, 503].contains(&response.status.as_u16()), "{}", response.status);
        if response.status == 101 {
            let mut tried = Tried { talk: upgraded(response), now: scripted::START, identified: granted };
            prop_assert_eq!(tried.is_identified(), granted);
            prop_assert!(granted || authorization.is_none());
        } else {
            prop_assert!(!granted);
        }
    }
}
