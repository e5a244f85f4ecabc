//! Grants on the real binary: made on the command line, redeemed over the wire once, worth nothing to anybody else, and the
//! end of what they began where they are used again: one after the other, all at once, and across a crash.

use std::time::Duration;

use gatepost_identity::clock::system_instant;
use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, Server, until};
use crate::peer::{Answer, Peer, TEXT, frame};
use crate::stall::Stall;
use crate::tls::secured;

/// A grant for `ann` through `app`.
fn mint(home: &Home, more: &[&str]) -> String {
    let minted = home.operator(&[&["grant", "mint", "--client", "app", "--user", "ann", "--json"], more].concat(), "").json();
    minted["code"].as_str().expect("a code").to_owned()
}

/// The Data of its redemption.
fn redemption(code: &str) -> Value {
    json!({"Provider": "Paritech", "ClientID": "app", "AuthGrant": code})
}

fn redeem(peer: &mut Peer, code: &str) -> Answer {
    peer.ask("AuthCode", redemption(code))
}

/// Redeems it on `count` connections, each from a source of its own, and all of them before any answer is looked at.
fn redeem_at_once(server: &Server, code: &str, count: u16) -> Vec<Peer> {
    let mut peers: Vec<Peer> = (1..=count).map(|source| server.connect_from(source)).collect();
    let request = json!({"Controller": "Auth", "Topic": "AuthCode", "TransactionID": 1, "Data": redemption(code)});
    for peer in &mut peers {
        peer.send(&request);
    }
    peers
}

/// Sees the connection lose its identity, soon.
fn turns_reject(peer: &mut Peer) {
    let end = system_instant() + Duration::from_secs(1);
    while peer.query().outcome() == "Success" {
        assert!(system_instant() < end, "it is still there a second later");
    }
    peer.query().rejected();
}

fn reuses(home: &Home) -> Vec<Value> {
    home.audit().into_iter().filter(|row| row["action"] == "reuse").collect()
}

/// The published sample of AuthCode: what is sent, with its `authGrant`, and what comes back. Line breaks and blanks are layout.
const SAMPLE_REQUEST: &str = r#"
{
 "Controller":"Auth",
 "Topic":"AuthCode",
 "TransactionID":1,
 "Data":
 {
  "Provider": "Paritech",
  "ClientID": "TriOptimum",
  "AuthGrant": "authGrant",
  "Scope": ["Paritech.Zenith"]
 }
}"#;
const SAMPLE_RESPONSE: &str = r#"
{
 "Controller":"Auth",
 "Topic":"Identify",
 "TransactionID":1,
 "Data":
 {
  "Result":"Success",
  "Scope":["Paritech.Zenith.Market", "Paritech.Zenith.Trading"]
 }
}"#;

/// Sees that `answer` is the sample's response to the letter, but for members that are documented and not in the sample: they
/// stand before its Scope. Gives them back.
fn as_the_sample_has_it(answer: &str) -> Value {
    let sample: String = SAMPLE_RESPONSE.split_ascii_whitespace().collect();
    let (before, after) = sample.split_at(sample.find(r#","Scope""#).expect("the sample has a Scope"));
    let more = answer.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    let more = more.unwrap_or_else(|| panic!("{answer} is not {sample}"));
    serde_json::from_str(&format!("{{{}}}", more.strip_prefix(',').unwrap_or(more))).expect("members")
}

/// Logs in with a grant for the sample's client, which its server's operator has made meanwhile; gives back the token told and the request.
fn log_in_as_the_sample_has_it(server: &Server, mut peer: Peer) -> (String, String) {
    let rights = ["--scope", "Zenith/Market", "--scope", "Zenith/Trading"];
    server.operator(&[&["client", "add", "TriOptimum"], &rights[..]].concat(), "").ok();
    server.operator(&[&["user", "add", "shodan", "--no-password"], &rights[..]].concat(), "").ok();
    let mint = ["grant", "mint", "--client", "TriOptimum", "--user", "shodan", "--json"];
    let minted = server.operator(&mint, "").json();
    let request = SAMPLE_REQUEST.replace("authGrant", minted["code"].as_str().expect("a code"));
    peer.send_text(&request);
    let more = as_the_sample_has_it(&peer.next_text());
    let mut members: Vec<&str> = more.as_object().expect("members").keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["AccessToken", "ExpiresIn", "ExpiryDate", "UserID"]);
    assert_eq!(more["UserID"], "shodan");
    (more["AccessToken"].as_str().expect("text").to_owned(), request)
}

#[test]
fn a_grant_minted_while_serving_logs_in_over_tls_as_the_published_sample_has_it() {
    let (server, pair) = secured("");
    let (token, request) = log_in_as_the_sample_has_it(&server, pair.connect(&server));
    let restored = pair.connect(&server).restore(&token);
    assert_eq!(restored.scope(), &json!(["Paritech.Zenith.Market", "Paritech.Zenith.Trading"]));
    // Trading is for secured connections.
    assert_eq!(server.connect().restore(&restored.token()).scope(), &json!(["Paritech.Zenith.Market"]));
    // The same grant again.
    let mut second = pair.connect(&server);
    second.send_text(&request);
    let rejected = json!({"Controller": "Auth", "Topic": "Identify", "TransactionID": 1, "Data": {"Result": "Reject"}});
    assert_eq!(second.next(), rejected);
    pair.connect(&server).restore(&restored.token()).rejected();
    assert_eq!(server.sessions(), Vec::<Value>::new());
}

#[test]
fn a_grant_minted_while_serving_logs_in_on_a_plain_connection_where_that_is_allowed() {
    let server = Server::start(&format!("require_secure = false\n{CHEAP}"));
    let (token, _) = log_in_as_the_sample_has_it(&server, server.connect());
    let restored = server.connect().restore(&token);
    assert_eq!(restored.scope(), &json!(["Paritech.Zenith.Market", "Paritech.Zenith.Trading"]));
}

#[test]
fn a_second_use_is_rejected_and_ends_what_the_first_began_within_a_second() {
    let server = Server::with_ann(CHEAP);
    let code = mint(&server, &[]);
    let (mut first, mut listening, mut second) = (server.connect(), server.connect(), server.connect());
    let token = redeem(&mut first, &code).token();
    listening.restore(&token).granted();
    listening.subscribe().granted();
    redeem(&mut second, &code).rejected();
    turns_reject(&mut first);
    listening.told().rejected();
    second.query().rejected();
    server.connect().restore(&token).rejected();
    redeem(&mut first, &code).rejected();
    assert_eq!(server.sessions(), Vec::<Value>::new());
    let lines = reuses(&server);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["client"], &lines[0]["gate"]), (&json!("app"), &json!("zenith")));
    assert!(lines[0]["session"].is_string() && lines[0]["account"].is_string(), "{lines:?}");
}

#[test]
fn what_is_not_to_be_redeemed_is_refused_with_the_same_bytes() {
    let server = Server::with_ann(CHEAP);
    server.operator(&["client", "add", "other", "--scope", "Zenith/Market"], "").ok();
    let (code, expired) = (mint(&server, &[]), mint(&server, &["--expires", "1ms"]));
    let mut peer = server.connect();
    let mut refused = |data: Value| {
        peer.send(&json!({"Controller": "Auth", "Topic": "AuthCode", "TransactionID": 1, "Data": data}));
        peer.next_text()
    };
    let expected = r#"{"Controller":"Auth","Topic":"Identify","TransactionID":1,"Data":{"Result":"Reject"}}"#;
    let others = [
        ("an expired one", redemption(&expired)),
        ("one that nobody made", redemption("0000")),
        ("none", redemption("")),
        ("another client's", json!({"Provider": "Paritech", "ClientID": "other", "AuthGrant": code})),
        ("a client's that is not there", json!({"Provider": "Paritech", "ClientID": "nobody", "AuthGrant": code})),
        (
            "with a secret that there is not",
            json!({"Provider": "Paritech", "ClientID": "app", "ClientSecret": "x", "AuthGrant": code}),
        ),
        ("another provider's", json!({"Provider": "Bearer", "ClientID": "app", "AuthGrant": code})),
        (
            "of rights that are not had",
            json!({"Provider": "Paritech", "ClientID": "app", "AuthGrant": code, "Scope": ["Zenith/Admin"]}),
        ),
    ];
    for (what, data) in others {
        assert_eq!(refused(data), expected, "{what}");
    }
    redeem(&mut server.connect(), &code).granted();
    assert_eq!(refused(redemption(&code)), expected, "a second use");
}

#[test]
fn a_narrowed_grant_is_no_wider_after_a_restore_and_a_restart() {
    let mut server = Server::with_ann(CHEAP);
    let code = mint(&server, &["--scope", "Zenith/News"]);
    let answer = redeem(&mut server.connect(), &code);
    assert_eq!(answer.scope(), &json!(["Zenith/News"]));
    server.kill9();
    server.restart();
    assert_eq!(server.connect().restore(&answer.token()).scope(), &json!(["Zenith/News"]));
}

#[test]
fn of_a_hundred_uses_at_once_one_is_a_success_and_the_others_end_its_session() {
    let server = Server::with_ann(CHEAP);
    let code = mint(&server, &[]);
    let mut peers = redeem_at_once(&server, &code, 100);
    let answers: Vec<Answer> = peers.iter_mut().map(|peer| Answer(peer.next())).collect();
    let (granted, refused): (Vec<&Answer>, Vec<&Answer>) = answers.iter().partition(|answer| answer.outcome() == "Success");
    assert_eq!(granted.len(), 1, "{granted:?}");
    refused.iter().for_each(|answer| answer.rejected());
    peers.iter_mut().for_each(turns_reject);
    server.connect().restore(&granted[0].token()).rejected();
    assert_eq!(server.sessions(), Vec::<Value>::new());
    assert_eq!(reuses(&server).len(), 1, "it ends once");
}

#[test]
fn a_kill_among_a_hundred_uses_leaves_at_most_one_and_the_grant_is_spent_for_ever() {
    for _ in 0..5 {
        let mut server = Server::with_ann(CHEAP);
        let code = mint(&server, &[]);
        let mut peers = redeem_at_once(&server, &code, 100);
        // Whatever the first answer is, it was given after the grant had been spent.
        let mut answers = vec![peers[0].frame().expect("an answer")];
        server.kill9();
        answers.extend(peers[1..].iter_mut().filter_map(Peer::frame));
        let answers: Vec<Answer> =
            answers.iter().map(|heard| Answer(serde_json::from_slice(&heard.payload).expect("JSON"))).collect();
        let tokens: Vec<String> = answers.iter().filter(|answer| answer.outcome() == "Success").map(Answer::token).collect();
        assert!(tokens.len() <= 1, "{answers:?}");

        server.restart();
        assert!(server.sessions().len() <= 1, "{:?}", server.sessions());
        for _ in 0..2 {
            redeem(&mut server.connect(), &code).rejected();
        }
        assert_eq!(server.sessions(), Vec::<Value>::new(), "the use after the restart ends what there was");
        for token in tokens {
            server.connect().restore(&token).rejected();
        }
        assert_eq!(reuses(&server).len(), 1, "once, before or after");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_grant_that_works_once_or_not_at_all() {
    for delay in 0..12 {
        let mut server = Server::with_ann(CHEAP);
        let code = mint(&server, &[]);
        let mut peers = redeem_at_once(&server, &code, 20);
        std::thread::sleep(Duration::from_micros(delay * 500));
        server.kill9();
        let answers = peers.iter_mut().filter_map(|peer| peer.frame_unless_gone());
        let told: Vec<Answer> = answers
            .map(|heard| Answer(serde_json::from_slice(&heard.payload).expect("JSON")))
            .filter(|answer| answer.outcome() == "Success")
            .collect();
        assert!(told.len() <= 1, "{told:?}");

        server.restart();
        let before = server.sessions().len();
        assert!(before <= 1, "{:?}", server.sessions());
        let first = redeem(&mut server.connect(), &code);
        // It is spent where its session is on disk or was told, and good where there is nothing of it.
        let spent = before == 1 || !told.is_empty() || !reuses(&server).is_empty();
        assert_eq!(first.outcome(), if spent { "Reject" } else { "Success" }, "after {delay} half milliseconds: {told:?}");
        redeem(&mut server.connect(), &code).rejected();
        assert_eq!(server.sessions(), Vec::<Value>::new(), "whichever use was the second, it ends the session");
    }
}

#[test]
fn a_redemption_that_came_too_late_is_taken_back_and_has_spent_the_grant() {
    let server = Server::with_ann(CHEAP);
    let code = mint(&server, &[]);
    let mut peer = server.connect();
    peer.ask("Configure", json!({"ActionTimeout": "00:00:01"}));
    let stall = Stall::of(&server);
    redeem(&mut peer, &code).failed("Operation.Timeout");
    peer.query().rejected();
    stall.end();
    until("it is taken back", || server.audit().iter().any(|row| row["action"] == "undo"));
    assert_eq!(server.sessions(), Vec::<Value>::new());
    redeem(&mut server.connect(), &code).rejected();
    redeem(&mut peer, &mint(&server, &[])).granted();
}

#[test]
fn the_code_is_told_once_and_stands_in_no_file() {
    let home = Home::with_ann(CHEAP);
    let printed = home.operator(&["grant", "mint", "--client", "app", "--user", "ann", "--scope", "Zenith/News"], "").ok();
    let line = |key: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key} in {printed}")).trim().to_owned()
    };
    let code = line("code ");
    assert_eq!((line("client "), line("user "), line("scopes ")), ("app".to_owned(), "ann".to_owned(), "Zenith/News".to_owned()));
    assert!(code.len() == 64 && code.bytes().all(|byte| byte.is_ascii_hexdigit()), "{code}");
    let minted = home.operator(&["grant", "mint", "--client", "app", "--user", "ann", "--expires", "90s", "--json"], "").json();
    assert_eq!((&minted["scopes"], &minted["provider"]), (&Value::Null, &json!("local")));
    assert_eq!(home.audit().iter().filter(|row| row["action"] == "grant_mint").count(), 2);

    // What was made while nobody served is redeemed once somebody does.
    let server = Server::of(home);
    redeem(&mut server.connect(), &code).granted();
    redeem(&mut server.connect(), minted["code"].as_str().expect("a code")).granted();
    for (path, bytes) in server.files() {
        assert!(!bytes.windows(code.len()).any(|window| window == code.as_bytes()), "{}", path.display());
    }
    assert!(!server.log().contains(&code), "nor in the log");
}

#[test]
fn a_grant_that_could_never_be_redeemed_is_not_made() {
    let home = Home::with_ann(CHEAP);
    let complaint = |client: &str, user: &str, more: &[&str]| {
        home.operator(&[&["grant", "mint", "--client", client, "--user", user], more].concat(), "").complaint()
    };
    assert_eq!(complaint("nobody", "ann", &[]), "there is no such client");
    assert_eq!(complaint("app", "nobody", &[]), "there is no such user");
    assert_eq!(complaint("app", "ann", &["--provider", "nobody"]), "there is no such provider");
    let scopes = complaint("app", "ann", &["--scope", "Zenith/Nothing", "--expires", "11m"]);
    assert!(scopes.starts_with("there is no scope \"Zenith/Nothing\"") && scopes.contains("10 minutes at most"), "{scopes}");
    for expires in ["0s", "600001ms", "1d"] {
        let said = complaint("app", "ann", &["--expires", expires]);
        assert_eq!(said, "a grant is good for more than no time and for 10 minutes at most", "{expires}");
    }
}

#[test]
fn a_frame_that_holds_a_code_is_not_logged_when_it_is_refused() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    let request = json!({"Controller": "Auth", "Topic": "AuthCode", "TransactionID": 1, "Data": redemption("made-up-code")});
    peer.write(&frame(TEXT, request.to_string().as_bytes()));
    Answer(peer.next()).rejected();
    until("the refusal is in the audit", || {
        server.audit().iter().any(|row| row["action"] == "login" && row["outcome"] == "invalid_credentials")
    });
    assert!(!server.log().contains("made-up-code"));
    assert!(server.files().iter().all(|(_, bytes)| !bytes.windows(12).any(|window| window == b"made-up-code")));
}
