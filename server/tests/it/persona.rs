//! A client that behaves as the one maintained client of this wire does, and gives up on everything on which that one was
//! seen to throw, to drop a frame, or to stop for good.

use serde_json::{Map, Value, json};

use crate::harness::{CHEAP, PASSWORD, Server};
use crate::peer::{CLOSE, PING, PONG, Peer, TEXT, frame};

/// The client. Its TransactionIDs count up across all its requests, and never begin again on a new connection.
struct Persona<'s> {
    server: &'s Server,
    peer: Peer,
    last_transaction: u64,
    /// Topics that it is subscribed to, as `Controller:Topic`.
    subscribed: Vec<&'static str>,
}

impl<'s> Persona<'s> {
    fn open(server: &'s Server) -> Persona<'s> {
        Persona { server, peer: server.connect(), last_transaction: 0, subscribed: Vec::new() }
    }

    fn reconnect(&mut self) {
        self.peer = self.server.connect();
        self.subscribed.clear();
    }

    /// One frame of the server's, or a panic where the client would have thrown.
    fn hear(&mut self) -> Map<String, Value> {
        loop {
            let heard = self.peer.frame().expect("a message, but the connection ended");
            match heard.opcode {
                TEXT => return self.accept(&heard.payload),
                // A browser answers by itself.
                PING => self.peer.write(&frame(PONG, &heard.payload)),
                CLOSE => panic!("closed: {:?}; any code from 4000 up is final", heard.payload),
                _ => panic!("a frame that is not text throws: {heard:?}"),
            }
        }
    }

    fn accept(&self, payload: &[u8]) -> Map<String, Value> {
        let text = std::str::from_utf8(payload).expect("UTF-8");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("malformed JSON throws: {error}: {text}"));
        no_nulls(&value, text);
        let Value::Object(message) = value else { panic!("what is not one container is ignored: {text}") };
        assert!(message.get("Controller").is_some_and(Value::is_string), "without Controller it is dropped: {text}");
        assert!(message.get("Topic").is_some_and(Value::is_string), "without Topic it is ignored: {text}");
        match message.get("Action").map(|action| action.as_str().unwrap_or_default()) {
            None => {}
            Some("Sub" | "Unsub") => assert!(!message.contains_key("TransactionID"), "it cannot be routed: {text}"),
            Some(action) => panic!("Action {action:?} throws or is an error: {text}"),
        }
        if message.get("Action").is_none() && !message.contains_key("TransactionID") {
            let name = ["Controller", "Topic"].map(|member| message[member].as_str().expect("text")).join(":");
            assert!(self.subscribed.contains(&name.as_str()), "data of a topic it is not subscribed to: {text}");
            assert!(message.contains_key("Data"), "data without Data: {text}");
        }
        message
    }

    /// An authentication: its own topic must come back, with its own TransactionID, and nothing before it.
    fn authenticate(&mut self, topic: &str, data: Value) -> Map<String, Value> {
        self.last_transaction += 1;
        let transaction = self.last_transaction;
        self.peer.send(&json!({
            "Controller": "Auth", "Topic": topic, "Action": "Publish", "TransactionID": transaction, "Data": data,
        }));
        let mut answer = self.hear();
        assert_eq!(answer["Controller"], "Auth");
        assert_eq!(answer["Topic"], topic, "another topic is fatal: {answer:?}");
        assert_eq!(answer["TransactionID"], transaction, "another TransactionID is never matched: {answer:?}");
        let Some(Value::Object(body)) = answer.remove("Data") else { panic!("without Data it throws: {answer:?}") };
        if let Some(scope) = body.get("Scope") {
            let names = scope.as_array().unwrap_or_else(|| panic!("Scope is joined, so a list: {body:?}"));
            assert!(names.iter().all(Value::is_string), "{body:?}");
        }
        if let Some(left) = body.get("ExpiresIn") {
            let text = left.as_str().unwrap_or_else(|| panic!("ExpiresIn is text: {body:?}"));
            let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert!(
                shape.strip_prefix("00:00:00.").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b == b'0')),
                "{text}"
            );
        }
        if let Some(date) = body.get("ExpiryDate").and_then(Value::as_str) {
            assert!(date.parse::<jiff::Timestamp>().is_ok(), "a date that Date.parse refuses: {date}");
        }
        body
    }

    /// It is online when a token came along, whatever the result says.
    fn online(&mut self, topic: &str, data: Value) -> String {
        let body = self.authenticate(topic, data);
        assert_eq!(body["Result"], "Success", "{body:?}");
        let token = body.get("AccessToken").and_then(Value::as_str);
        token.unwrap_or_else(|| panic!("a Success without AccessToken is refused: {body:?}")).to_owned()
    }

    fn refused(&mut self, topic: &str, data: Value) {
        let body = self.authenticate(topic, data);
        assert_eq!(Value::Object(body), json!({"Result": "Reject"}), "a token would count as success");
    }

    /// Subscribes with a confirmation, and gives back the first data; the two may come in either order.
    fn subscribe(&mut self, controller: &'static str, topic: &'static str, name: &'static str) -> Value {
        // The real one puts a TransactionID on some of its subscriptions.
        self.last_transaction += 1;
        self.subscribed.push(name);
        self.peer.send(&json!({
            "Controller": controller, "Topic": topic, "Action": "Sub", "Confirm": true, "TransactionID": self.last_transaction,
        }));
        let (mut confirmed, mut data) = (false, None);
        while !confirmed || data.is_none() {
            let mut message = self.hear();
            assert_eq!((&message["Controller"], &message["Topic"]), (&json!(controller), &json!(topic)));
            match message.get("Action") {
                Some(action) => {
                    assert_eq!((action, message.get("Confirm")), (&json!("Sub"), Some(&json!(true))), "{message:?}");
                    assert!(!std::mem::replace(&mut confirmed, true), "confirmed twice");
                }
                None => assert!(data.replace(message.remove("Data")).is_none(), "told twice"),
            }
        }
        data.flatten().expect("data")
    }

    fn unsubscribe(&mut self, controller: &'static str, topic: &'static str, name: &'static str) {
        self.subscribed.retain(|one| *one != name);
        self.peer.send(&json!({"Controller": controller, "Topic": topic, "Action": "Unsub", "Confirm": false}));
    }

    /// What Identify publishes: it is read and ignored.
    fn published(&mut self, result: &str) {
        let message = self.hear();
        assert_eq!((&message["Topic"], &message["Data"]["Result"]), (&json!("Identify"), &json!(result)), "{message:?}");
        assert!(result == "Success" || message["Data"] == json!({"Result": "Reject"}), "{message:?}");
    }
}

fn no_nulls(value: &Value, text: &str) {
    match value {
        Value::Null => panic!("null throws: {text}"),
        Value::Array(values) => values.iter().for_each(|value| no_nulls(value, text)),
        Value::Object(members) => members.values().for_each(|value| no_nulls(value, text)),
        _ => {}
    }
}

/// As its converter writes it: `Username`, no secret, no scope, the provider it knows.
fn owner(password: &str) -> Value {
    json!({"Provider": "BasicAuth", "ClientID": "app", "Username": "ann", "Password": password})
}

fn token(token: &str) -> Value {
    json!({"Provider": "BasicAuth", "AccessToken": token})
}

#[test]
fn the_maintained_client_finds_nothing_to_refuse() {
    let server = Server::with_ann(&format!(
        "{CHEAP}[zenith]\nfeeds = [{{ name = \"Login\", class = \"Authority\", status = \"Active\" }}]\n"
    ));
    let mut client = Persona::open(&server);

    client.refused("AuthOwner", owner("wrong"));
    let mut newest = client.online("AuthOwner", owner(PASSWORD));
    let info = client.subscribe("Zenith", "ServerInfo", "Zenith:ServerInfo");
    for member in ["Name", "Class", "Version", "Protocol"] {
        assert!(info[member].is_string(), "{member} is shown: {info}");
    }
    assert_eq!(info["Protocol"], "2.0");
    let feeds = client.subscribe("Zenith", "Feeds", "Zenith:Feeds");
    assert_eq!(feeds, json!([{"Name": "Login", "Class": "Authority", "Status": "Active"}]));
    let state = client.subscribe("Auth", "Identify", "Auth:Identify");
    assert_eq!(state["Result"], "Success");

    for _ in 0..3 {
        newest = client.online("AuthToken", token(&newest));
        client.published("Success");
    }
    client.refused("AuthToken", token("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    newest = client.online("AuthToken", token(&newest));
    client.published("Success");

    // An unasked confirmation of this would throw; the next message must be the next answer.
    client.unsubscribe("Auth", "Identify", "Auth:Identify");
    newest = client.online("AuthToken", token(&newest));

    for _ in 0..3 {
        client.reconnect();
        newest = client.online("AuthToken", token(&newest));
        let state = client.subscribe("Auth", "Identify", "Auth:Identify");
        assert_eq!(state["Result"], "Success");
        newest = client.online("AuthToken", token(&newest));
        client.published("Success");
    }

    server.operator(&["user", "set", "ann", "--scope", "Zenith/News"], "").ok();
    client.published("Success");
    server.operator(&["user", "disable", "ann"], "").ok();
    client.published("Reject");
    client.refused("AuthToken", token(&newest));
    client.refused("AuthOwner", owner(PASSWORD));
    // A refused client ends with this reason, and the server takes its code.
    client.peer.write(&frame(CLOSE, b"\x03\xE8NoReconnect"));
    let answer = client.peer.frame().expect("the close is answered");
    assert_eq!((answer.opcode, &answer.payload[..2]), (CLOSE, &[0x03, 0xE8][..]));
}

#[test]
fn the_maintained_client_comes_back_after_a_stop() {
    let mut server = Server::with_ann(CHEAP);
    let newest = {
        let mut client = Persona::open(&server);
        let newest = client.online("AuthOwner", owner(PASSWORD));
        server.signal_term();
        let (code, _) = client.peer.closed();
        assert!(code < 4000, "{code} is final for it");
        newest
    };
    server.wait();
    server.restart();
    Persona::open(&server).online("AuthToken", token(&newest));
}

#[test]
fn a_transient_refusal_is_an_error_on_its_own_topic_so_that_the_client_tries_again() {
    let server = Server::with_ann(&format!("{CHEAP}[throttle]\nfirst_wait = \"60s\"\n"));
    let mut client = Persona::open(&server);
    for _ in 0..5 {
        client.refused("AuthOwner", owner("wrong"));
    }
    client.peer.send(&json!({
        "Controller": "Auth", "Topic": "AuthOwner", "Action": "Publish", "TransactionID": 9, "Data": owner(PASSWORD),
    }));
    let expected = json!({"Controller": "Auth", "Topic": "AuthOwner", "Action": "Error", "TransactionID": 9, "Data": "Limited"});
    assert_eq!(client.peer.next(), expected);
}

#[test]
fn a_failed_subscription_is_an_error_and_an_unconfirmed_sub_with_the_reason() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    peer.send(&json!({"Controller": "Auth", "Topic": "Nope", "Action": "Sub", "Confirm": true, "TransactionID": 1}));
    let expected = [
        json!({"Controller": "Auth", "Topic": "Nope", "Action": "Error", "Data": "Operation.Unknown"}),
        json!({"Controller": "Auth", "Topic": "Nope", "Action": "Sub", "Data": "Operation.Unknown"}),
    ];
    assert_eq!([peer.next(), peer.next()], expected);
}

#[test]
fn the_documented_client_without_action_is_told_identify() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    let answer = peer.login("ann", PASSWORD);
    assert_eq!(answer.0["Topic"], "Identify");
    assert_eq!(peer.restore(&answer.token()).0["Topic"], "Identify");
    assert_eq!(peer.query().0["Topic"], "QueryIdentify");
}
