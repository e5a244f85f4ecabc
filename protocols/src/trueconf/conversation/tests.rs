//! One connection with a device behind it, and what only time does to it.

use std::time::Duration;

use gatepost_identity::terminal::Protection;

use super::*;
use crate::frame::{Outgoing, Upward};
use crate::section::Section;
use gatepost_identity::reply::Answer as Said;

const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_000);

fn after(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

struct Talk {
    connection: Connection,
    out: Outbox,
    now: Timestamp,
}

impl Talk {
    fn with(has_device: bool, settings: &str) -> Talk {
        let settings = Settings::read(&Section(settings.parse().expect("TOML"))).expect("settings");
        let device = has_device.then(|| ["call", "callAgain"].map(str::to_owned).into());
        let connection = Connection::new(Arc::new(settings), Terminal { http_port: 8766, device }, NOW);
        Talk { connection, out: Outbox::default(), now: NOW }
    }

    /// A connection that holds this role, with a device behind it.
    fn holding(role: TerminalRole) -> Talk {
        let mut talk = Talk::with(true, "");
        talk.authorise(role, None);
        talk
    }

    fn authorise(&mut self, role: TerminalRole, expires_at: Option<Timestamp>) {
        let asked = self.send(r#"{"method":"auth","type":"unsecured"}"#).expect("the core is asked");
        let granted = granted(role, expires_at, Vec::new());
        self.connection.answer(self.now, asked.pending, Reply::of(Ok(Said::Granted(granted))), &mut self.out);
        assert_eq!(self.told().len(), 1);
    }

    fn send(&mut self, text: &str) -> Option<Question<Pending>> {
        self.connection.receive(self.now, Frame::Text(text), &mut self.out)
    }

    /// A message that the core is not asked about, and what comes back.
    fn tell(&mut self, text: &str) -> Vec<String> {
        assert!(self.send(text).is_none(), "{text}");
        self.told()
    }

    fn device(&mut self, text: &str) -> Vec<String> {
        self.connection.relayed(self.now, Relayed::Frame(Frame::Text(text)), &mut self.out);
        self.told()
    }

    fn told(&mut self) -> Vec<String> {
        let text = |outgoing| match outgoing {
            Outgoing::Text(text) => text,
            Outgoing::Binary(bytes) => panic!("{bytes:?}"),
            Outgoing::Close(code, _) => format!("close {code}"),
        };
        self.out.drain().map(text).collect()
    }

    fn forwarded(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.out.pop_upward())
            .map(|upward| match upward {
                Upward::Forward(text) => text,
                Upward::Part => panic!("the device is everybody's"),
            })
            .collect()
    }
}

fn no(method: &str, id: &str, error: &str) -> String {
    format!(r#"{{"method":"{method}","requestId":{id},"result":false,"error":"{error}"}}"#)
}

#[test]
fn what_is_not_ours_goes_to_the_device_and_comes_back_under_the_peers_own_number() {
    let mut talk = Talk::holding(TerminalRole::User);
    assert!(talk.tell(r#"{"method":"call", "requestId":"q-1","peerId":"a@b"}"#).is_empty());
    assert!(talk.tell(r#"{"peerId":"c@d","method":"call"}"#).is_empty());
    let expected = [r#"{"requestId":"1","method":"call","peerId":"a@b"}"#, r#"{"requestId":"2","method":"call","peerId":"c@d"}"#];
    assert_eq!(talk.forwarded(), expected);
    assert!(talk.device(r#"{"method":"call","requestId":"2","result":false,"error":"busy"}"#).is_empty(), "the first is awaited");
    let told = talk.device(r#"{"method":"call","requestId":"1","result":true,"x":[1, 2]}"#);
    let expected = [
        r#"{"method":"call","requestId":"q-1","result":true,"x":[1, 2]}"#,
        r#"{"error":"busy","method":"call","requestId":"","result":false}"#,
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_readers_stumble_over_is_not_passed_on() {
    let mut talk = Talk::holding(TerminalRole::User);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for value in ["\"\\ud800\"", "1e400", &deep] {
        let told = talk.tell(&format!(r#"{{"method":"call","requestId":"q","x":{value}}}"#));
        assert_eq!(told, [no("call", "\"q\"", "malformed request")], "{value}");
    }
    assert!(talk.forwarded().is_empty());
    let mut talk = Talk::holding(TerminalRole::Administrator);
    assert!(talk.tell(r#"{"method":"event","event":"x"}"#)[0].contains("unknown method"));
    assert!(talk.forwarded().is_empty());
}

#[test]
fn the_method_that_was_judged_is_the_only_one_that_a_device_can_read() {
    let mut talk = Talk::holding(TerminalRole::User);
    let text = r#"{"method":"shutdown","Method":"shutdown","METHOD":"shutdown","RequestID":"9","x":1,"\u006dethod":"c\u0061ll"}"#;
    assert!(talk.tell(text).is_empty());
    assert_eq!(talk.forwarded(), [r#"{"requestId":"1","method":"c\u0061ll","x":1}"#]);
}

#[test]
fn what_the_device_says_and_nobody_asked_for_goes_nowhere() {
    let mut talk = Talk::holding(TerminalRole::User);
    assert!(talk.tell(r#"{"method":"call"}"#).is_empty());
    for text in [
        "junk",
        r#"{"method":"call","requestId":"1","result":true,"x":"\ud800"}"#,
        "[]",
        "{}",
        r#"{"method":"call","result":true}"#,
        r#"{"method":"call","requestId":"9","result":true}"#,
        r#"{"method":"call","requestId":1,"result":true}"#,
        r#"{"method":"call","requestId":"","result":true}"#,
    ] {
        assert!(talk.device(text).is_empty(), "{text}");
    }
    talk.connection.relayed(NOW, Relayed::Frame(Frame::Binary(b"x")), &mut talk.out);
    assert!(talk.told().is_empty());
    assert_eq!(talk.device(r#"{"method":"other","requestId":"1","result":true}"#), [no("call", "\"\"", "no answer")]);
}

#[test]
fn an_answer_of_the_device_has_a_boolean_result() {
    for result in ["", r#","result":"true""#, r#","result":null"#, r#","result":1"#] {
        let mut talk = Talk::holding(TerminalRole::User);
        assert!(talk.tell(r#"{"method":"call"}"#).is_empty());
        assert_eq!(talk.device(&format!(r#"{{"method":"call","requestId":"1"{result}}}"#)), [no("call", "\"\"", "no answer")]);
    }
}

#[test]
fn a_device_that_spells_a_method_otherwise_has_answered_it_all_the_same() {
    let mut talk = Talk::holding(TerminalRole::User);
    assert!(talk.tell(r#"{"method":"call"}"#).is_empty());
    let told = talk.device(r#"{"method":"Call","requestId":"1","result":true}"#);
    assert_eq!(told, [r#"{"method":"call","requestId":"","result":true}"#]);
}

#[test]
fn what_the_device_says_passes_whole_however_long_it_is() {
    let mut talk = Talk::holding(TerminalRole::User);
    let long = "x".repeat(1024 * 1024);
    assert!(talk.tell(r#"{"method":"call","requestId":"q"}"#).is_empty());
    let told = talk.device(&format!(r#"{{"method":"call","requestId":"1","result":true,"x":"{long}"}}"#));
    assert_eq!(told, [format!(r#"{{"method":"call","requestId":"q","result":true,"x":"{long}"}}"#)]);
    let event = format!(r#"{{"event":"x","method":"event","x":"{long}"}}"#);
    assert_eq!(talk.device(&event), [&*event]);
}

#[test]
fn the_devices_own_tokens_reach_nobody() {
    let mut talk = Talk::holding(TerminalRole::Administrator);
    assert!(talk.tell(r#"{"method":"login"}"#).is_empty());
    let tokens = r#""token":"1*a","tokenForHttpServer":"4*a","overlayHttpToken":"6*a""#;
    let told = talk.device(&format!(r#"{{"method":"login","requestId":"1","result":true,{tokens},"x":1}}"#));
    assert_eq!(told, [r#"{"method":"login","requestId":"","result":true,"x":1}"#]);
    let told = talk.device(&format!(r#"{{"method":"event","event":"x",{tokens}}}"#));
    assert_eq!(told, [r#"{"event":"x","method":"event"}"#]);
}

#[test]
fn an_authorisation_that_has_ended_hears_nothing_more_before_the_core_has_said_so() {
    let mut talk = Talk::with(true, "");
    talk.authorise(TerminalRole::User, Some(after(5)));
    assert!(talk.tell(r#"{"method":"call","requestId":"q"}"#).is_empty());
    talk.now = after(5);
    assert!(talk.device(r#"{"method":"event","event":"x"}"#).is_empty());
    let told = talk.device(r#"{"method":"call","requestId":"1","result":true,"secret":1}"#);
    assert_eq!(told, [no("call", "\"q\"", "not authorized")]);
}

/// A user's and an administrator's panel ask everything that there is; only what their role may reaches the device.
#[test]
fn what_reaches_the_device_is_what_the_role_may() {
    let users = ["getAppState", "getSettings", "getSystemInfo", "getMonitorsInfo", "call", "callAgain"];
    let administrators = [
        "setSettings",
        "login",
        "connectToServer",
        "connectToService",
        "activateLicense",
        "shutdown",
        "changeCurrentMonitor",
        "hangUp",
        "noSuch",
        "Call",
        "getLogs",
    ];
    let ours = [
        "setUsedApiVersion",
        "getHttpServerSettings",
        "getHttpServerState",
        "setHttpServerSettings",
        "startHttpServer",
        "stopHttpServer",
        "event",
    ];
    for role in [TerminalRole::User, TerminalRole::Administrator] {
        let may =
            |method: &&str| users.contains(method) || (role == TerminalRole::Administrator && administrators.contains(method));
        for method in users.iter().chain(&administrators).chain(&ours) {
            let mut talk = Talk::holding(role);
            let told = talk.tell(&format!(r#"{{"method":"{method}"}}"#));
            assert_eq!(talk.forwarded().len(), usize::from(may(method)), "{method} of {role:?}");
            assert_eq!(told.is_empty(), may(method), "{method} of {role:?}");
            if administrators.contains(method) && !may(method) {
                assert_eq!(told, [no(method, "\"\"", "access denied")], "{method} of {role:?}");
            }
        }
        // These ask the core, and the device is asked by none of them but the one, once the core has done its part.
        for method in
            ["auth", "getAuthInfo", "setAuthParams", "getTokenForHttpServer", "getOverlayHttpToken", "clearTokens", "logout"]
        {
            let mut talk = Talk::holding(role);
            talk.send(&format!(r#"{{"method":"{method}","type":"unsecured","userType":"user","authType":"pin"}}"#));
            assert!(talk.forwarded().is_empty(), "{method} of {role:?}");
        }
    }
}

#[test]
fn the_port_that_is_told_is_the_one_that_our_tokens_are_good_at() {
    let mut talk = Talk::holding(TerminalRole::User);
    assert!(talk.tell(r#"{"method":"getAppState"}"#).is_empty());
    let told = talk.device(r#"{"method":"getAppState","requestId":"1","appState":3,"embeddedHttpPort":9999,"result":true}"#);
    assert_eq!(told, [r#"{"appState":3,"embeddedHttpPort":8766,"method":"getAppState","requestId":"","result":true}"#]);
    let told = talk.device(r#"{"method":"event","event":"appStateChanged","appState":5,"embeddedHttpPort":9999}"#);
    assert_eq!(told, [r#"{"appState":5,"embeddedHttpPort":8766,"event":"appStateChanged","method":"event"}"#]);
}

#[test]
fn events_of_the_device_reach_whoever_is_authorised_but_for_those_that_are_ours() {
    let ring = r#"{"event":"incomingCall","method":"event","peerId":"a@b"}"#;
    let mut talk = Talk::holding(TerminalRole::User);
    assert_eq!(talk.device(ring), [ring]);
    for name in OURS {
        assert!(talk.device(&format!(r#"{{"method":"event","event":"{name}","cause":1}}"#)).is_empty(), "{name}");
    }
    talk.connection.notify(NOW, Event::Detached(Reason::Displaced), &mut talk.out);
    assert_eq!(talk.told(), [r#"{"method":"event","event":"authorizationNeeded","cause":1}"#]);
    assert!(talk.device(ring).is_empty());
    let mut stranger = Talk::with(true, "");
    assert!(stranger.device(ring).is_empty());
    assert_eq!(stranger.tell(r#"{"method":"call"}"#), [no("call", "\"\"", "not authorized")]);
    assert!(stranger.forwarded().is_empty());
}

#[test]
fn whoever_lost_the_authorisation_hears_no_answer_of_the_device() {
    let mut talk = Talk::holding(TerminalRole::Administrator);
    assert!(talk.tell(r#"{"method":"getSettings","requestId":"q"}"#).is_empty());
    talk.connection.notify(NOW, Event::Detached(Reason::Revoked), &mut talk.out);
    let event = r#"{"method":"event","event":"authorizationNeeded","cause":8}"#.to_owned();
    assert_eq!(talk.told(), [no("getSettings", "\"q\"", "not authorized"), event]);
    assert!(talk.device(r#"{"method":"getSettings","requestId":"1","settings":{"secret":1},"result":true}"#).is_empty());
}

#[test]
fn a_device_that_is_gone_or_slow_is_said_to_be() {
    let mut talk = Talk::holding(TerminalRole::User);
    assert!(talk.tell(r#"{"method":"call","requestId":"a"}"#).is_empty());
    talk.connection.relayed(NOW, Relayed::Lost, &mut talk.out);
    assert_eq!(talk.told(), [no("call", "\"a\"", "no device")]);
    assert_eq!(talk.tell(r#"{"method":"call","requestId":"b"}"#), [no("call", "\"b\"", "no device")]);
    talk.connection.relayed(NOW, Relayed::Restored, &mut talk.out);
    assert!(talk.tell(r#"{"method":"call","requestId":"c"}"#).is_empty());
    assert_eq!(talk.connection.limits().due, Some(after(30)));
    talk.connection.remind(after(29), &mut talk.out);
    assert!(talk.told().is_empty());
    talk.connection.remind(after(30), &mut talk.out);
    assert_eq!(talk.told(), [no("call", "\"c\"", "no answer")]);
    assert_eq!(talk.connection.limits().due, None);
}

#[test]
fn some_methods_of_a_device_are_the_administrators() {
    let mut talk = Talk::holding(TerminalRole::User);
    for method in [
        "setSettings",
        "login",
        "connectToServer",
        "connectToService",
        "activateLicense",
        "shutdown",
        "logout",
        "changeCurrentMonitor",
    ] {
        assert_eq!(talk.tell(&format!(r#"{{"method":"{method}"}}"#)), [no(method, "\"\"", "access denied")]);
    }
    assert!(talk.forwarded().is_empty());
    let mut talk = Talk::holding(TerminalRole::Administrator);
    for method in ["setSettings", "shutdown", "changeCurrentMonitor"] {
        assert!(talk.tell(&format!(r#"{{"method":"{method}"}}"#)).is_empty());
    }
    assert_eq!(talk.forwarded().len(), 3);
    // Our own server is the operator's, whatever device there is.
    let mut talk = Talk::holding(TerminalRole::Administrator);
    for method in ["startHttpServer", "stopHttpServer", "setHttpServerSettings"] {
        assert_eq!(talk.tell(&format!(r#"{{"method":"{method}"}}"#)), [no(method, "\"\"", "no device")]);
    }
    assert!(talk.forwarded().is_empty());
}

#[test]
fn leaving_an_account_is_the_devices_once_the_pictures_are_over() {
    let mut talk = Talk::holding(TerminalRole::Administrator);
    let asked = talk.send(r#"{"method":"logout","requestId":4}"#).expect("the core is asked");
    assert!(matches!(asked.command.verb, Verb::Revoke(Target::Pictures)), "{asked:?}");
    talk.connection.answer(NOW, asked.pending, Reply::of(Ok(Said::Done)), &mut talk.out);
    assert!(talk.told().is_empty());
    assert_eq!(talk.forwarded(), [r#"{"requestId":"1","method":"logout"}"#]);
    assert_eq!(
        talk.device(r#"{"method":"logout","requestId":"1","result":true}"#),
        [r#"{"method":"logout","requestId":4,"result":true}"#]
    );
    let asked = talk.send(r#"{"method":"logout","requestId":4}"#).expect("the core is asked");
    talk.connection.answer(NOW, asked.pending, Reply::of(Err(Refusal::Unavailable)), &mut talk.out);
    assert_eq!((talk.told(), talk.forwarded()), (vec![no("logout", "4", "internal error")], Vec::new()));
}

#[test]
fn a_stranger_has_five_minutes_and_thirty_seconds_after_each_attempt() {
    let mut talk = Talk::with(false, "");
    assert_eq!(talk.connection.limits().due, Some(after(300)));
    talk.now = after(290);
    let asked = talk.send(r#"{"method":"auth","type":"secured","credentials":"x"}"#).expect("the core is asked");
    assert_eq!(talk.connection.limits().due, None, "not while an attempt is under way");
    talk.connection.remind(after(301), &mut talk.out);
    assert!(talk.told().is_empty());
    talk.connection.answer(after(302), asked.pending, Reply::of(Err(Refusal::InvalidCredentials)), &mut talk.out);
    assert_eq!(talk.told().len(), 1);
    assert_eq!(talk.connection.limits().due, Some(after(332)));
    talk.now = after(331);
    assert_eq!(talk.tell(r#"{"method":"auth"}"#).len(), 1, "one that is wrong by itself is an attempt too");
    talk.connection.remind(after(360), &mut talk.out);
    assert!(talk.told().is_empty());
    talk.connection.remind(after(361), &mut talk.out);
    assert_eq!(talk.told(), ["close 1008"]);
}

#[test]
fn one_that_was_authorised_once_is_never_closed_for_not_being_it() {
    let mut talk = Talk::holding(TerminalRole::User);
    assert_eq!(talk.connection.limits().due, None);
    talk.connection.notify(NOW, Event::Detached(Reason::Displaced), &mut talk.out);
    assert_eq!(talk.told().len(), 1);
    assert_eq!(talk.connection.limits().due, None);
    talk.connection.remind(after(100_000), &mut talk.out);
    assert!(talk.told().is_empty());
}

#[test]
fn an_end_that_has_passed_counts_before_the_core_says_so() {
    let mut talk = Talk::with(false, "");
    talk.authorise(TerminalRole::User, Some(after(60)));
    talk.now = after(59);
    assert_eq!(
        talk.tell(r#"{"method":"getHttpServerState"}"#),
        [r#"{"method":"getHttpServerState","requestId":"","state":1,"result":true}"#]
    );
    talk.now = after(60);
    assert_eq!(talk.tell(r#"{"method":"getHttpServerState"}"#), [no("getHttpServerState", "\"\"", "not authorized")]);
}

#[test]
fn whoever_sets_their_own_protection_ends_with_the_new_token() {
    let mut talk = Talk::with(false, "");
    talk.authorise(TerminalRole::User, Some(after(60)));
    let asked = talk.send(r#"{"method":"setAuthParams","userType":"user","authType":"pin"}"#).expect("the core is asked");
    assert!(
        matches!(&asked.command.verb, Verb::SetProtection { of: TerminalRole::User, to } if to.protection() == Protection::Pin)
    );
    let token = |kind| IssuedToken { kind: TokenKind::Terminal(kind), secret: Secret::new("t"), expires_at: Some(after(100)) };
    let tokens = vec![token(TerminalToken::Overlay), token(TerminalToken::Connection)];
    let said = Said::ProtectionSet { new_pin: Some(Secret::new("K7M2QX")), tokens };
    talk.connection.answer(NOW, asked.pending, Reply::of(Ok(said)), &mut talk.out);
    let expected =
        r#"{"method":"setAuthParams","requestId":"","newPin":"K7M2QX","token":"t","overlayHttpToken":"t","result":true}"#;
    assert_eq!(talk.told(), [expected]);
    assert_eq!(talk.connection.role(after(99)), Some(TerminalRole::User));
    assert_eq!(talk.connection.role(after(100)), None);
}

#[test]
fn what_is_no_message_ten_times_in_a_row_closes() {
    let mut talk = Talk::with(false, "");
    for _ in 0..9 {
        assert_eq!(talk.tell("{").len(), 1);
    }
    assert_eq!(talk.tell(r#"{"method":"x"}"#).len(), 1);
    for _ in 0..9 {
        assert_eq!(talk.tell("{").len(), 1);
    }
    let told = talk.tell("{");
    assert_eq!((told.len(), &*told[1]), (2, "close 1008"));
    let mut talk = Talk::with(false, "");
    assert!(talk.connection.receive(NOW, Frame::Binary(b"{}"), &mut talk.out).is_none());
    assert_eq!(talk.told(), ["close 1003"]);
}

/// The methods that there are, and some that are a device's or nobody's.
const METHODS: [&str; 27] = [
    "auth",
    "setUsedApiVersion",
    "getAuthInfo",
    "getTokenForHttpServer",
    "getOverlayHttpToken",
    "getAppState",
    "getSettings",
    "getSystemInfo",
    "getMonitorsInfo",
    "getHttpServerSettings",
    "getHttpServerState",
    "setAuthParams",
    "clearTokens",
    "logout",
    "setHttpServerSettings",
    "startHttpServer",
    "stopHttpServer",
    "setSettings",
    "login",
    "connectToServer",
    "connectToService",
    "activateLicense",
    "shutdown",
    "changeCurrentMonitor",
    "call",
    "event",
    "noSuch",
];

#[test]
fn a_stranger_cannot_tell_one_method_from_another_nor_from_none() {
    let rests = ["", r#","userType":"user","authType":"pin""#, r#","settings":7,"password":null"#, r#","event":"x","result":true"#];
    for has_device in [false, true] {
        let mut lost = Talk::with(has_device, "");
        lost.authorise(TerminalRole::Administrator, None);
        lost.connection.notify(NOW, Event::Detached(Reason::Displaced), &mut lost.out);
        assert_eq!(lost.told().len(), 1);
        for mut talk in [Talk::with(has_device, ""), lost] {
            for method in METHODS.iter().skip(3) {
                for rest in rests {
                    let told = talk.tell(&format!(r#"{{"method":"{method}","requestId":"q"{rest}}}"#));
                    assert_eq!(told, [no(method, "\"q\"", "not authorized")], "{method} {rest}");
                }
            }
            assert!(talk.forwarded().is_empty());
        }
    }
}

#[test]
fn null_and_wrong_types_anywhere_are_answered_in_form_and_change_nothing() {
    let members = ["requestId", "type", "role", "credentials", "userType", "authType", "password", "newPin", "version", "settings"];
    let values = ["null", "true", "-1", "1e300", r#""""#, r#""\ud800""#, "[]", r#"[{"a":null}]"#, "{}", r#"{"toString":1}"#];
    let good = r#""type":"secured","role":"user","credentials":"s3cret-shown","userType":"user","authType":"password","password":"s3cret-shown""#;
    for held in [None, Some(TerminalRole::User), Some(TerminalRole::Administrator)] {
        for method in METHODS {
            for member in members {
                for value in values {
                    let mut talk = Talk::with(false, "");
                    if let Some(role) = held {
                        talk.authorise(role, None);
                    }
                    let text = format!(r#"{{"method":"{method}",{good},"{member}":{value}}}"#);
                    let asked = talk.send(&text);
                    let told = talk.told();
                    assert_eq!(told.len() + usize::from(asked.is_some()), 1, "{text}: {told:?}");
                    assert_eq!(talk.connection.role(NOW), held, "{text}");
                    let Some(answer) = told.first() else { continue };
                    let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
                    assert!(answer["method"] == method && answer["result"].is_boolean(), "{text}: {answer}");
                    assert!(!answer.to_string().contains("s3cret-shown"), "{text}: {answer}");
                }
            }
        }
    }
}

#[test]
fn an_answer_to_another_question_is_our_own_fault_and_told_as_one() {
    let questions = [
        r#"{"method":"auth","type":"unsecured"}"#,
        r#"{"method":"getAuthInfo"}"#,
        r#"{"method":"setAuthParams","userType":"user","authType":"unsecured"}"#,
        r#"{"method":"getTokenForHttpServer"}"#,
        r#"{"method":"clearTokens"}"#,
    ];
    let guard = || ShownGuard { protection: Protection::Unsecured, pin: None };
    let answers: [fn() -> Said; 3] = [
        || Said::Done,
        || Said::ProtectionSet { new_pin: None, tokens: Vec::new() },
        || Said::Granted(granted(TerminalRole::User, None, Vec::new())),
    ];
    let mut told = Vec::new();
    for question in questions {
        let mut talk = Talk::holding(TerminalRole::Administrator);
        for answer in answers
            .iter()
            .map(|answer| answer())
            .chain([Said::Protection(ShownProtection { administrator: guard(), user: guard() })])
        {
            let asked = talk.send(question).expect("the core is asked");
            talk.connection.answer(NOW, asked.pending, Reply::of(Ok(answer)), &mut talk.out);
            told.extend(talk.told());
        }
    }
    let failed = told.iter().filter(|text| text.contains(r#""error":"internal error""#)).count();
    // Of twenty, one answers each question; and a grant without the token that was asked for is no answer either.
    assert_eq!((told.len(), failed), (20, 16), "{told:#?}");
}

#[test]
fn a_connection_is_small() {
    let size = size_of::<Connection>() + size_of::<Pending>();
    assert!(size < 400, "{size} bytes");
}

#[test]
fn whoever_has_lost_the_role_commands_nothing_more_also_before_it_is_told() {
    let mut talk = Talk::holding(TerminalRole::Administrator);
    assert!(talk.tell(r#"{"method":"call","requestId":"q-1"}"#).is_empty());
    assert_eq!(talk.forwarded().len(), 1);
    let refused = |method: &str, id: &str| no(method, id, "not authorized");
    for _ in 0..2 {
        talk.connection.unseat(&mut talk.out);
    }
    assert_eq!(talk.told(), [refused("call", "\"q-1\"")], "nobody answers it any more");
    assert_eq!(talk.tell(r#"{"method":"shutdown","requestId":1}"#), [refused("shutdown", "1")]);
    assert!(talk.forwarded().is_empty());
    assert!(talk.device(r#"{"method":"call","requestId":"1","result":true}"#).is_empty());
    assert!(talk.device(r#"{"method":"event","event":"incomingCall"}"#).is_empty(), "nor does it hear anything");
    talk.connection.notify(talk.now, Event::Detached(Reason::Displaced), &mut talk.out);
    let told = talk.told();
    assert!(told.len() == 1 && told[0].contains("authorizationNeeded"), "{told:?}");
    talk.authorise(TerminalRole::User, None);
    assert!(talk.tell(r#"{"method":"call","requestId":"q-2"}"#).is_empty());
    assert_eq!(talk.forwarded().len(), 1, "and whoever comes back goes on");
}
