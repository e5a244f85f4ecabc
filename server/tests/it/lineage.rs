//! What tokens of a terminal lead back to, and what no token leads back to any more: after a step down, a change, a crash.

use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, Server, until};
use crate::peer::Peer;
use crate::terminals::{DEFAULT, ask, code, fetch, panel, secured, secured_by, text};

/// The three tokens of an answer.
struct Tokens {
    connection: String,
    files: String,
    pictures: String,
}

impl Tokens {
    fn of(answer: &Value) -> Tokens {
        let [connection, files, pictures] =
            ["token", "tokenForHttpServer", "overlayHttpToken"].map(|name| text(answer, name).to_owned());
        Tokens { connection, files, pictures }
    }

    /// Which of the three are good, each where it belongs: `c`, `f`, `p`. Comes back by the first at last, and so displaces whoever
    /// holds that role.
    fn good(&self, server: &Server) -> String {
        let status = |path: &str, token: &str| fetch(server, "GET", &format!("{path}?token={token}")).status;
        let (files, pictures) = (status("/frames/", &self.files), status("/overlay", &self.pictures));
        let back = code(&secured_by(&mut panel(server), &self.connection));
        let one = |is_good: bool, is_bad: bool, letter: char| {
            assert!(is_good != is_bad, "{back} {files} {pictures}");
            is_good.then_some(letter)
        };
        let letters = [
            one(back.starts_with("0 "), back == "8", 'c'),
            one(files == 404, files == 401, 'f'),
            one(pictures == 404, pictures == 401, 'p'),
        ];
        letters.into_iter().flatten().collect()
    }
}

/// A terminal whose roles both have a password.
fn with_passwords() -> Server {
    let (home, _) = secured("");
    home.operator(&["terminal", "protect", "default", "user", "password"], "usr-42\n").ok();
    Server::of(home)
}

/// The role that a connection has, by what it may do.
fn role(peer: &mut Peer) -> &'static str {
    match ask(peer, json!({"method": "shutdown"}))["error"].as_str() {
        Some("no device") => "admin",
        Some("access denied") => "user",
        Some("not authorized") => "none",
        other => panic!("{other:?}"),
    }
}

#[test]
fn whoever_stepped_down_never_comes_up_by_what_they_were_told_before() {
    let server = with_passwords();
    let mut first = panel(&server);
    let before = Tokens::of(&secured_by(&mut first, "Adm1n-77"));
    let mut peer = panel(&server);
    let after = Tokens::of(&secured_by(&mut peer, &before.connection));
    let down = ask(&mut peer, json!({"method": "auth", "role": "user"}));
    assert_eq!(code(&down), "0 user");
    let down = Tokens::of(&down);
    for earlier in [&before, &after] {
        assert_eq!(code(&secured_by(&mut peer, &earlier.connection)), "8");
        let asked_for = json!({"method": "auth", "type": "secured", "role": "admin", "credentials": earlier.connection});
        assert_eq!(code(&ask(&mut peer, asked_for)), "8");
        assert_eq!(role(&mut peer), "user");
        assert_eq!(earlier.good(&server), "", "nor on a new connection, nor for files");
    }
    // What it was told then leads to the user, and never to more, however far it is followed.
    let mut token = down.connection.clone();
    for _ in 0..3 {
        let mut next = panel(&server);
        let asked_for = json!({"method": "auth", "type": "secured", "role": "admin", "credentials": token});
        assert_eq!(code(&ask(&mut next, asked_for)), "5");
        assert_eq!(role(&mut next), "none", "and nobody was let in by that");
        let back = secured_by(&mut next, &token);
        assert_eq!(code(&back), "0 user");
        assert_eq!(code(&ask(&mut next, json!({"method": "auth", "role": "admin"}))), "9");
        assert_eq!(code(&ask(&mut next, json!({"method": "auth", "role": "user"}))), "3");
        assert_eq!(role(&mut next), "user");
        token = text(&back, "token").to_owned();
    }
    assert_eq!(code(&secured_by(&mut panel(&server), "Adm1n-77")), "0 admin", "authenticated anew");
    assert_eq!([before, after].map(|earlier| earlier.good(&server)), ["", ""], "and the earlier ones stay what they are");
}

#[test]
fn a_protection_that_is_set_ends_older_tokens_at_once() {
    let server = with_passwords();
    let (mut administrator, mut user) = (panel(&server), panel(&server));
    let administrators = Tokens::of(&secured_by(&mut administrator, "Adm1n-77"));
    let users = Tokens::of(&secured_by(&mut user, "usr-42"));
    let set = ask(&mut administrator, json!({"method": "setAuthParams", "userType": "user", "authType": "pin"}));
    assert_eq!(set["result"], true);
    assert_eq!((user.next()["cause"].as_u64(), users.good(&server)), (Some(4), String::new()));
    assert_eq!(fetch(&server, "GET", &format!("/frames/?token={}", administrators.files)).status, 404);
    assert_eq!(fetch(&server, "GET", &format!("/overlay?token={}", administrators.pictures)).status, 401, "pictures begin anew");
    let change = json!({"method": "setAuthParams", "userType": "admin", "authType": "password", "password": "another"});
    let own = Tokens::of(&ask(&mut administrator, change));
    assert_eq!([administrators, own].map(|tokens| tokens.good(&server)), ["", "cfp"]);
}

#[test]
fn cleared_tokens_are_refused_and_one_for_files_commands_nothing() {
    let server = with_passwords();
    let mut peer = panel(&server);
    let tokens = Tokens::of(&secured_by(&mut peer, "Adm1n-77"));
    for other in [&tokens.files, &tokens.pictures] {
        assert_eq!(code(&secured_by(&mut panel(&server), other)), "8");
        assert_eq!(code(&secured_by(&mut peer, other)), "8");
    }
    assert_eq!(ask(&mut peer, json!({"method": "clearTokens"}))["result"], true);
    assert_eq!(tokens.good(&server), "");
    assert_eq!(role(&mut peer), "admin", "whoever is there stays");
    assert_eq!(code(&secured_by(&mut panel(&server), &tokens.files)), "8");
}

#[test]
fn what_was_good_until_the_application_closes_is_over_after_a_crash() {
    let (home, pin) = secured("");
    let mut server = Server::with_environment(home, &[("GATEPOST_PIN", "pin123")]);
    let mut told = Vec::new();
    let nobody_is_here = || {
        let shown = server.operator(&["terminal", "show", "default", "--json"], "").json();
        shown["connections"] == 0
    };
    let mut further = None;
    for (string, expected) in [("pin123", "0 admin"), ("Adm1n-77", "0 admin"), (&pin, "0 user"), ("pin123", "0 admin")] {
        let mut peer = panel(&server);
        let answer = secured_by(&mut peer, string);
        assert_eq!(code(&answer), expected);
        told.push(Tokens::of(&answer));
        if further.is_none() {
            // The first asks for more, and steps down.
            further = Some(ask(&mut peer, json!({"method": "getTokenForHttpServer"})));
            told.push(Tokens::of(&ask(&mut peer, json!({"method": "auth", "role": "user"}))));
        }
        drop(peer);
        until("whoever hung up is gone", nobody_is_here);
    }
    let mut good = Vec::new();
    for tokens in &told {
        good.push(tokens.good(&server));
        until("whoever hung up is gone", nobody_is_here);
    }
    assert_eq!(good, ["", "cfp", "cfp", "cfp", "cfp"], "but for those from before the step down");
    let further = further.expect("it was told one");
    server.kill9();
    server.restart();
    for tokens in &told {
        assert_eq!(tokens.good(&server), "");
    }
    assert_eq!(fetch(&server, "GET", &format!("/frames/?token={}", text(&further, "token"))).status, 401);
    // None of these was a guess, and the strings themselves are as good as before.
    assert_eq!(code(&secured_by(&mut panel(&server), "pin123")), "0 admin");
    assert_eq!(code(&secured_by(&mut panel(&server), &pin)), "0 user");
}

/// A token with one of its letters altered, of the same form as before; none where that letter is not looked at.
fn altered(token: &str, at: usize) -> Option<String> {
    let mut bytes = token.as_bytes().to_vec();
    let (before, last) = (bytes[at.checked_sub(1)?], token.rfind('*')?);
    let is_second_of_two = at > last && (at - last).is_multiple_of(2);
    bytes[at] = match bytes[at] {
        b'*' => return None,
        digit @ b'0'..=b'9' if at < last => b'0' + (digit - b'0' + 1) % 10,
        b'Z' => b'Y',
        b'z' => b'y',
        letter if at < last => letter + 1,
        _ if !is_second_of_two => return None,
        digit if before == b'3' => b'0' + (digit - b'0' + 1) % 10,
        digit => b'1' + (digit - b'1' + 1) % 6,
    };
    Some(String::from_utf8(bytes).expect("ASCII"))
}

#[test]
fn a_token_that_was_altered_is_nobodys_and_costs_nobody_a_guess() {
    let server = with_passwords();
    let mut peer = panel(&server);
    let token = text(&secured_by(&mut peer, "Adm1n-77"), "token").to_owned();
    let mut stranger = panel(&server);
    let all: Vec<String> = (1..token.len()).filter_map(|at| altered(&token, at)).collect();
    assert!(all.len() > 16 + 10 + 31, "{}", all.len());
    for altered in all.iter().chain(["4", "5", "6"].map(|kind| format!("{kind}{}", &token[1..])).iter()) {
        assert_eq!(code(&secured_by(&mut stranger, altered)), "8", "{altered}");
    }
    // Cut short or longer, it has lost the form as well, and is a string like any other, which may be wrong five times.
    let (short, long, bare) = (&token[..token.len() - 2], format!("{token}30"), token.replace('*', ""));
    for other in [short, &long, &bare] {
        assert_eq!(code(&secured_by(&mut stranger, other)), "8", "{other}");
    }
    assert_eq!(code(&secured_by(&mut stranger, "usr-42")), "0 user", "nobody waits for any of it");
    assert_eq!(code(&secured_by(&mut stranger, &token)), "0 admin");
}

#[test]
fn an_administrator_without_a_secret_is_one_again_by_nothing_once_a_pin_of_the_command_line_is_gone() {
    let mut server = Server::with_environment(Home::new(&format!("{CHEAP}{DEFAULT}")), &[("GATEPOST_PIN", "pin123")]);
    let tokens = Tokens::of(&secured_by(&mut panel(&server), "pin123"));
    assert!(tokens.files.starts_with("5*"), "{}", tokens.files);
    server.kill9();
    server.forget_environment();
    server.restart();
    assert_eq!(tokens.good(&server), "");
    assert_eq!(code(&ask(&mut panel(&server), json!({"method": "auth", "type": "unsecured"}))), "0 admin");
}
