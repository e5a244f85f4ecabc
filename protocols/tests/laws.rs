//! What holds on the Zenith gate whatever a peer sends, whatever the core says, and whatever the service behind it does.
//!
//! `PROPTEST_CASES` sets how many cases each law is tried on.

#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
mod scripted;
#[path = "scripted/tried.rs"]
#[expect(unreachable_pub, reason = "the module is shared with the fuzz targets, which include it whole")]
mod tried;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Event, Reason};
use gatepost_protocols::frame::{Frame, Outbox, Outgoing, Relayed, Upward};
use gatepost_protocols::mount::{Served, Talk};
use proptest::prelude::*;
use serde_json::{Value, json};
use tried::{Happening, Says, Tried, open, refusals};

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 512;
    }
    config
}

fn any_refusal() -> impl Strategy<Value = Refusal> {
    prop::sample::select(refusals())
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

/// A service behind the gate, with a controller for each kind of right.
const BEHIND: &str = r#"upstream.address = "ws://127.0.0.1:1/"
upstream.controllers = [{ name = "Market", right = "Zenith/Market" }, { name = "Trading", right = "Zenith/Trading" }, { name = "Chat" }]"#;

/// The right that a controller of the service needs; any login suffices where that is none. `None`: it is not the service's.
fn right_of(controller: &str) -> Option<Option<&'static str>> {
    match controller {
        "Market" => Some(Some("Zenith/Market")),
        "Trading" => Some(Some("Zenith/Trading")),
        "Chat" => Some(None),
        _ => None,
    }
}

type Names = &'static [&'static str];

/// One thing that happens to a connection with a service behind it.
#[derive(Clone, Debug)]
enum Turn {
    /// The peer sends an action of a controller and a topic, with an id of its own or without one.
    Peer(&'static str, &'static str, &'static str, bool),
    /// The peer no longer wants a request.
    Cancel(prop::sample::Index),
    /// The peer sends something else.
    Packet(String),
    /// The peer logs in, something happens while the core thinks, and the core says who it is, if anybody.
    Login(Option<(&'static str, Names)>, Box<Turn>),
    /// The service sends an action of a controller and a topic, about a request or not, with Confirm or not.
    Service(&'static str, &'static str, &'static str, Option<prop::sample::Index>, bool),
    /// The service sends something else.
    Foreign(String),
    Lost,
    Restored,
    Detached(Reason),
    Changed(&'static str, Names),
    Passes(u64),
}

fn any_holder() -> impl Strategy<Value = (&'static str, Names)> {
    const SETS: [Names; 5] =
        [&[], &["Zenith/Market"], &["Zenith/Market"], &["Zenith/Market", "Zenith/Trading"], &["Zenith/Trading"]];
    (prop::sample::select(vec!["ann", "ann", "bob", "svc"]), prop::sample::select(SETS.to_vec()))
}

fn any_turn_of_the_service() -> impl Strategy<Value = Turn> {
    let controller =
        prop::sample::select(vec!["Market", "Market", "Market", "Market", "Market", "Trading", "Chat", "Auth", "Zenith", "Nope"]);
    let topic = prop::sample::select(vec!["A", "A", "A", "B", "Configure", ""]);
    let action = prop::sample::select(vec!["", "", "", "Sub", "Sub", "Unsub", "Error", "Publish", "Cancel", "Bogus"]);
    let spoken = (action, controller, topic, prop::option::weighted(0.3, any::<prop::sample::Index>()), any::<bool>());
    prop_oneof![
        8 => spoken.prop_map(|(action, controller, topic, about, confirm)| Turn::Service(action, controller, topic, about, confirm)),
        1 => any_packet().prop_map(|packet| Turn::Foreign(packet.to_string())),
        1 => Just(Turn::Lost),
        2 => Just(Turn::Restored),
        1 => prop::sample::select(vec![1, 36, 1801, 1801]).prop_map(Turn::Passes),
    ]
}

fn any_turn() -> impl Strategy<Value = Turn> {
    let controller = prop::sample::select(vec!["Market", "Market", "Market", "Trading", "Chat"]);
    let topic = prop::sample::select(vec!["A", "A", "B", "QueryConfigure"]);
    let action = prop::sample::select(vec!["", "Publish", "Sub", "Sub", "Sub", "Unsub"]);
    let asked = (action, controller, topic, any::<bool>());
    prop_oneof![
        8 => asked.prop_map(|(action, controller, topic, with_id)| Turn::Peer(action, controller, topic, with_id)),
        1 => any::<prop::sample::Index>().prop_map(Turn::Cancel),
        1 => any_packet().prop_map(|packet| Turn::Packet(packet.to_string())),
        3 => (prop::option::weighted(0.8, any_holder()), any_turn_of_the_service())
            .prop_map(|(who, meanwhile)| Turn::Login(who, Box::new(meanwhile))),
        8 => any_turn_of_the_service(),
        1 => prop::sample::select(vec![Reason::Expired, Reason::Revoked]).prop_map(Turn::Detached),
        1 => any_holder().prop_map(|(who, scopes)| Turn::Changed(who, scopes)),
    ]
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// The service has told an error of it.
    Erred,
    Over,
}

/// A connection with a service behind it, and what must be true of it.
struct Between {
    talk: Box<dyn Talk>,
    now: Timestamp,
    /// What the peer may do, and until when.
    holds: Option<(Names, Timestamp)>,
    /// By id, from [`FIRST`] on.
    requests: Vec<Fate>,
    /// How many references the peer can count by what it was told.
    references: BTreeMap<String, usize>,
    /// What the service has been asked for and not been told to end.
    asked: BTreeSet<String>,
}

/// The id of the first request.
const FIRST: usize = 100;

impl Between {
    fn new() -> Between {
        let (references, asked) = (BTreeMap::new(), BTreeSet::new());
        Between { talk: open(BEHIND), now: scripted::START, holds: None, requests: Vec::new(), references, asked }
    }

    /// Whether the peer is here and may use a controller.
    fn may(&self, controller: &str) -> bool {
        let held = self.holds.filter(|(_, end)| self.now < *end);
        held.zip(right_of(controller)).is_some_and(|((names, _), right)| right.is_none_or(|right| names.contains(&right)))
    }

    fn hold(&mut self, who: &str, names: Names) -> gatepost_identity::reply::Principal {
        let end = self.now.after(scripted::LIFE);
        self.holds = Some((names, end));
        scripted::principal(who, names, 0, Some(end)).expect("of the cast")
    }

    fn turn(&mut self, turn: &Turn) {
        let mut out = Outbox::default();
        match turn {
            Turn::Peer(action, controller, topic, with_id) => {
                let request = *with_id && !matches!(*action, "Sub" | "Unsub") && *topic != "QueryConfigure";
                let id = request.then(|| {
                    self.requests.push(Fate::Open);
                    FIRST + self.requests.len() - 1
                });
                let action = Some(action).filter(|action| !action.is_empty());
                let text = json!({"Controller": controller, "Topic": topic, "Action": action, "TransactionID": id,
                    "Data": {"x": 1}, "Confirm": true, "Extra": 1});
                return self.peer(&text.to_string(), None);
            }
            Turn::Cancel(which) if !self.requests.is_empty() => {
                let id = FIRST + which.index(self.requests.len());
                let text = json!({"Controller": "Market", "Action": "Cancel", "TransactionID": id});
                return self.peer(&text.to_string(), None);
            }
            Turn::Cancel(_) => {}
            Turn::Packet(text) => return self.peer(text, None),
            Turn::Login(who, meanwhile) => {
                let data = json!({"Provider": "P", "AccessToken": "abcd"});
                let text = json!({"Controller": "Auth", "Topic": "AuthToken", "TransactionID": 1, "Data": data});
                return self.peer(&text.to_string(), Some((*who, meanwhile)));
            }
            Turn::Service(action, controller, topic, about, confirm) => {
                let about = about.filter(|_| !self.requests.is_empty());
                let mut text =
                    serde_json::Map::from_iter([("Controller".to_owned(), json!(controller)), ("Data".to_owned(), json!("S"))]);
                text.extend(Some(("Topic".to_owned(), json!(topic))).filter(|_| !topic.is_empty()));
                text.extend(Some(("Action".to_owned(), json!(action))).filter(|_| !action.is_empty()));
                text.extend(Some(("Confirm".to_owned(), json!(true))).filter(|_| *confirm));
                text.extend(about.map(|about| ("TransactionID".to_owned(), json!(FIRST + about.index(self.requests.len())))));
                self.hear(&Value::Object(text).to_string());
                if (*action == "Unsub" && *confirm) || (*action == "Sub" && !*confirm) {
                    self.asked.remove(&format!("{controller}:{topic}"));
                }
            }
            Turn::Foreign(text) => self.hear(text),
            Turn::Lost => self.talk.relayed(self.now, Relayed::Lost, &mut out),
            Turn::Restored => {
                self.talk.relayed(self.now, Relayed::Restored, &mut out);
                return self.look(out, None, true);
            }
            Turn::Detached(reason) => {
                self.holds = None;
                self.talk.notify(self.now, Event::Detached(*reason), &mut out);
            }
            Turn::Changed(who, names) => {
                let principal = self.hold(who, names);
                self.talk.notify(self.now, Event::Changed(principal.into()), &mut out);
            }
            Turn::Passes(seconds) => {
                self.now = self.now.after(Duration::from_secs(*seconds));
                if self.talk.limits().due.is_some_and(|due| due <= self.now) {
                    self.talk.remind(self.now, &mut out);
                }
                assert!(self.talk.limits().due.is_none_or(|due| self.now < due), "what was due is done");
            }
        }
        self.look(out, None, false);
    }

    fn peer(&mut self, text: &str, login: Option<(Option<(&'static str, Names)>, &Turn)>) {
        let mut out = Outbox::default();
        if self.talk.receive(self.now, Frame::Text(text), &mut out).is_some() {
            self.look(std::mem::take(&mut out), None, false);
            let (who, meanwhile) = login.unzip();
            if let Some(meanwhile) = meanwhile {
                self.turn(meanwhile);
            }
            let reply = match who.flatten() {
                Some((who, names)) => scripted::granted(self.hold(who, names), None),
                None => scripted::refused(Refusal::InvalidCredentials),
            };
            self.talk.answer(self.now, reply, &mut out);
        }
        self.look(out, None, false);
    }

    fn hear(&mut self, text: &str) {
        let mut out = Outbox::default();
        self.talk.relayed(self.now, Relayed::Frame(Frame::Text(text)), &mut out);
        self.look(out, Some(text), false);
    }

    /// Holds what was sent against what must be true of it. `heard`: what the service has just said. `again`: the service may
    /// be asked again for what it has been asked for.
    fn look(&mut self, mut out: Outbox, heard: Option<&str>, again: bool) {
        let upward: Vec<Upward> = std::iter::from_fn(|| out.pop_upward()).collect();
        if again && !upward.is_empty() {
            self.asked.clear();
        }
        upward.iter().for_each(|upward| self.went_up(upward, heard));
        for outgoing in out.drain() {
            let Outgoing::Text(text) = outgoing else { panic!("nothing here ends the connection: {outgoing:?}") };
            self.was_told(&text, heard == Some(&*text));
        }
    }

    fn went_up(&mut self, upward: &Upward, heard: Option<&str>) {
        let Upward::Forward(text) = upward else { return self.asked.clear() };
        let value: Value = serde_json::from_str(text).expect("what goes up is JSON");
        let members = value.as_object().expect("an envelope");
        let known = ["Controller", "Topic", "Action", "TransactionID", "Data", "Confirm"];
        assert!(members.keys().all(|name| known.contains(&name.as_str())), "nothing unknown goes up: {text}");
        let controller = value["Controller"].as_str().expect("a controller");
        assert!(right_of(controller).is_some(), "only what is the service's goes up: {text}");
        assert!(!["Configure", "QueryConfigure"].contains(&value["Topic"].as_str().unwrap_or("")), "{text}");
        assert!(self.may("Chat"), "nothing goes up for nobody: {text}");
        let place = format!("{controller}:{}", value["Topic"].as_str().unwrap_or(""));
        match value["Action"].as_str() {
            Some("Sub") => {
                assert!(self.may(controller) && value["Confirm"] == true, "{text}");
                assert!(self.asked.insert(place), "the service sees one Sub: {text}");
            }
            Some("Unsub") => {
                // What the service confirms and nobody wants any more is given back, too.
                let heard: Value = heard.and_then(|heard| serde_json::from_str(heard).ok()).unwrap_or_default();
                let same = ["Controller", "Topic"].iter().all(|name| heard[name] == value[name]);
                let confirmed = same && heard["Action"] == "Sub" && heard["Confirm"] == true;
                assert!(self.asked.remove(&place) || confirmed, "and one Unsub for it: {text}");
                assert!(value["Confirm"].is_null(), "{text}");
            }
            Some("Cancel") => {
                let id = value["TransactionID"].as_u64().expect("an id") as usize;
                self.requests[id - FIRST] = Fate::Over;
            }
            Some("Publish") | None => assert!(self.may(controller), "{text}"),
            Some(_) => panic!("nothing else goes up: {text}"),
        }
    }

    fn was_told(&mut self, text: &str, verbatim: bool) {
        let value: Value = serde_json::from_str(text).expect("what is sent is JSON");
        let (controller, topic) = (value["Controller"].as_str().expect("a controller"), value["Topic"].as_str());
        let action = value["Action"].as_str().unwrap_or("");
        if verbatim {
            let whole = action == "Error" && topic.is_none();
            assert!(right_of(controller).is_some() && self.may(if whole { "Chat" } else { controller }), "{text} without a right");
            assert!(["", "Publish", "Error"].contains(&action), "subscriptions are counted here: {text}");
        } else if right_of(controller).is_some() {
            assert!(!action.is_empty() || topic == Some("QueryConfigure"), "nobody speaks for the service: {text}");
        }
        let count = self.references.entry(format!("{controller}:{}", topic.unwrap_or(""))).or_default();
        match (action, value["Confirm"] == true) {
            ("Sub", true) => *count += 1,
            ("Unsub", false) => *count = count.saturating_sub(1),
            ("Unsub", true) => *count = count.checked_sub(1).expect("an end is told of what there is"),
            _ => {}
        }
        let Some(id) = value["TransactionID"].as_u64().map(|id| id as usize).filter(|id| *id >= FIRST) else { return };
        let Some(fate) = self.requests.get_mut(id - FIRST) else { return };
        *fate = match (action, verbatim, *fate) {
            ("Error", true, Fate::Open | Fate::Erred) => Fate::Erred,
            ("Error", false, Fate::Open) => Fate::Over,
            ("" | "Publish", true, Fate::Open | Fate::Erred) => Fate::Over,
            (_, _, fate) => panic!("a request has one end, and this one was {fate:?}: {text}"),
        };
    }
}

/// Logs `who` in, and says what the connection said to it.
fn logged_in(talk: &mut dyn Talk, who: &str, names: Names) -> Outbox {
    let mut out = Outbox::default();
    let text = r#"{"Controller":"Auth","Topic":"AuthToken","TransactionID":1,"Data":{"Provider":"P","AccessToken":"abcd"}}"#;
    talk.receive(scripted::START, Frame::Text(text), &mut out).expect("a login is a question");
    let principal = scripted::principal(who, names, 0, Some(scripted::START.after(scripted::LIFE))).expect("of the cast");
    talk.answer(scripted::START, scripted::granted(principal, None), &mut out);
    out
}

#[test]
fn what_is_kept_and_what_is_told_when_it_ends_are_bounded() {
    let mut talk = open(&format!("{BEHIND}\nupstream.max_subscriptions = 100000\nupstream.max_in_flight = 10000"));
    logged_in(&mut *talk, "ann", &["Zenith/Market"]);
    let (mut topics, mut told) = (0, 0);
    for number in 0..2_000 {
        let topic = format!("{number}{}", "x".repeat(1000));
        for (action, id) in [("Sub", None), ("Sub", None), ("Publish", Some(number))] {
            let text = json!({"Controller": "Market", "Topic": topic, "Action": action, "TransactionID": id, "Confirm": true, "Data": topic});
            let mut out = Outbox::default();
            talk.receive(scripted::START, Frame::Text(&text.to_string()), &mut out);
            topics += std::iter::from_fn(|| out.pop_upward()).count();
            told += out.drain().filter(|outgoing| matches!(outgoing, Outgoing::Text(text) if text.contains("\"Limited\""))).count();
        }
    }
    assert!((60..400).contains(&topics), "{topics} messages of 1000 bytes went up");
    assert!(told > 5_000, "{told} were refused");
    let size: usize = logged_in(&mut *talk, "bob", &[]).drain().map(|outgoing| format!("{outgoing:?}").len()).sum();
    assert!((100_000..1_000_000).contains(&size), "{size} bytes are told when all of it ends");
}

proptest! {
    #![proptest_config(config())]

    /// Nothing panics; nothing is authenticated but by the core; a connection is closed for what is no packet and answered
    /// otherwise, and what it then says of itself is what the core last said.
    #[test]
    fn any_bytes_and_any_json_are_answered_in_order_or_closed(happenings in prop::collection::vec(any_happening(), 1..12)) {
        let mut tried = Tried::open();
        for happening in &happenings {
            if !tried.go_through(happening) {
                return Ok(());
            }
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
        let sent = Tried::open().hand_in(Frame::Text(&text), &says);
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
        let mut tried = Tried::open();
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
        let sent = Tried::open().hand_in(Frame::Text(&text.to_string()), &Says::Refuses(refusal));
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
            let mut tried = Tried::upgraded(response, granted);
            prop_assert_eq!(tried.is_identified(), granted);
            prop_assert!(granted || authorization.is_none());
        } else {
            prop_assert!(!granted);
        }
    }

    /// With a service behind the gate, in whatever order things happen: nothing of a controller is told without somebody who is
    /// here and may have it; what goes up is a message of the service's own controllers, with one Sub and one Unsub of a topic;
    /// a request has at most one end; no reference ends that there was not; what is due is done; nothing panics.
    #[test]
    fn what_passes_between_a_peer_and_the_service_passes_by_right(turns in prop::collection::vec(any_turn(), 1..48)) {
        let mut between = Between::new();
        between.turn(&Turn::Login(Some(("ann", &["Zenith/Market"])), Box::new(Turn::Restored)));
        for turn in &turns {
            between.turn(turn);
        }
    }
}
