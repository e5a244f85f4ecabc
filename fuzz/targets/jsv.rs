//! Any bytes in JSV, as the body of a login at the gate that speaks it.
//!
//! The first byte chooses what is done with the rest:
//!
//! * the rest is the body. It is asked about or refused with a reason, whatever it holds, and is not quoted;
//! * the rest is a name and a password, parted by a zero byte, which are written in JSV by the format's rules. What is asked is
//!   exactly those, as it is where they come in JSON; and the answer tells the name so that those rules find it again;
//! * the same, written in lines for people, everything in quotes.

#![no_main]

use std::sync::LazyLock;

use gatepost_fuzz::scripted::{self, Sent};
use gatepost_identity::command::{Command, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::reply::{Answer, Granted, IssuedToken, Reply, TokenKind};
use gatepost_identity::secret::Secret;
use gatepost_protocols::http::{Body, Response};
use gatepost_protocols::mount::{Answering, Mount, Served};
use gatepost_protocols::servicestack;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// What no body of a fuzzer's is, so that it is seen if it comes back.
const SESSION: &str = "3ixCUkVDCLG1nNRPaXVLn8gcWxNU0MIGBaYGXbJ1qPh";

static MOUNTS: LazyLock<Vec<Mount>> =
    LazyLock::new(|| scripted::mounts_of(&servicestack::GATE, "client = 'app'", None).expect("good settings"));

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    if choice % 3 == 0 {
        return any_body(rest);
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let (name, password) = text.split_once('\0').unwrap_or((text, "pw"));
    // Blanks are as good as nothing, and nobody is asked about them.
    if name.trim().is_empty() || password.trim().is_empty() {
        return;
    }
    let in_json = json!({"provider": "credentials", "UserName": name, "Password": password}).to_string();
    let _answer = asked("json", in_json.as_bytes(), name, password);
    let body = match choice % 3 {
        1 => format!("{{provider:credentials,UserName:{},Password:{}}}", written(name), written(password)),
        _ => format!(
            "{{\r\n\tprovider: credentials,\r\n\tUserName: {},\r\n\tPassword: {},\r\n\tMeta: \r\n\t{{\r\n\t\ta: b\r\n\t}}\r\n}}",
            quoted(name),
            quoted(password)
        ),
    };
    let answer = asked("jsv", body.as_bytes(), name, password);
    let response = answer(scripted::START, granted());
    assert_eq!(response.status, 200);
    is_told(&text_of(&response), name);
});

/// Whatever it is, it is understood or refused in words of ours.
fn any_body(body: &[u8]) {
    match send("jsv", body) {
        Served::Question(_, answer) => {
            let response = answer(scripted::START, Reply::of(Err(gatepost_identity::refusal::Refusal::InvalidCredentials)));
            assert_eq!(response.status, 401, "a wrong password is nothing else");
        }
        Served::Response(response) => {
            let told = text_of(&response);
            assert!([400, 401, 404].contains(&response.status.as_u16()), "{} {told}", response.status);
            assert!(told.starts_with("{ResponseStatus:{ErrorCode:") && told.len() < 1000, "{told}");
        }
    }
}

/// What is asked about a body: exactly this name and this password.
fn asked(format: &str, body: &[u8], name: &str, password: &str) -> Answering {
    match send(format, body) {
        Served::Question(Command { verb: Verb::Authenticate { credential, .. }, .. }, answer) => {
            let Credential::Password { name: shown, password: secret } = credential else { panic!("{credential:?}") };
            assert_eq!((shown.as_str(), secret.expose_text()), (name, Some(password)), "{format}");
            answer
        }
        Served::Question(command, _) => panic!("{command:?} is asked about {}", String::from_utf8_lossy(body)),
        Served::Response(response) => panic!("{} for {}", text_of(&response), String::from_utf8_lossy(body)),
    }
}

fn send(format: &str, body: &[u8]) -> Served {
    let target = format!("/{format}/reply/Authenticate");
    let sent = Sent { method: "POST", target: &target, upgrade: false, headers: &[], body, seed: [7; 16] };
    scripted::send(&MOUNTS, scripted::START, sent).expect("a request")
}

fn granted() -> Reply {
    let principal = scripted::principal("ann", &[], 0, None).expect("of the cast");
    let kind = TokenKind::Cookie { remember: false };
    let tokens = vec![IssuedToken { kind, secret: Secret::new(SESSION), expires_at: None }];
    Reply::of(Ok(Answer::Granted(Granted { principal: principal.into(), tokens })))
}

fn text_of(response: &Response) -> String {
    match &response.body {
        Body::Bytes(bytes) => String::from_utf8(bytes.to_vec()).expect("an answer is UTF-8"),
        _ => panic!("an answer is bytes"),
    }
}

/// A text as the format's rules have it.
fn written(text: &str) -> String {
    let marks = ['"', ':', ',', '{', '}', '[', ']', '\r', '\n'];
    if text.is_empty() || text.contains(marks) { quoted(text) } else { text.to_owned() }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Looks for the name where it must stand, by the same rules.
fn is_told(told: &str, name: &str) {
    let start = format!("{{UserId:u-ann,SessionId:{SESSION},UserName:{},DisplayName:Ann Example,", written(name));
    assert!(told.starts_with(&start), "{told}\nis not what begins with\n{start}");
}
