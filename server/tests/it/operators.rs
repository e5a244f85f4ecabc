//! What operators do on the command line, and that it takes hold at once: on new logins, on connections that are open, and
//! on tokens that were told before.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::harness::{CHEAP, Home, Output, PASSWORD, Server};
use crate::held::{APP, Held, sign_in};
use crate::peer::{Answer, Peer, http, owner};
use crate::refresh::ask;
use crate::terminals::DEFAULT;

/// Logs `ann` in on a connection that is subscribed to Identify, and gives back the token.
fn subscribed(server: &Server) -> (Peer, String) {
    let mut peer = server.connect();
    peer.subscribe().rejected();
    let answer = peer.login("ann", PASSWORD);
    peer.told().granted();
    (peer, answer.token())
}

/// Sees that what `arguments` did has ended the session: the subscriber is told, the connection is nobody's, the token is
/// worth nothing.
fn ends(server: &Server, (mut peer, token): (Peer, String), arguments: &[&str], stdin: &str) {
    assert_eq!(server.sessions().len(), 1);
    server.operator(arguments, stdin).ok();
    peer.told().rejected();
    peer.query().rejected();
    server.connect().restore(&token).rejected();
    assert_eq!(server.sessions(), Vec::<Value>::new(), "{arguments:?}");
}

#[test]
fn a_user_added_while_the_server_runs_logs_in_at_once() {
    let server = Server::with_ann(CHEAP);
    server.connect().login("bob", PASSWORD).rejected();
    let added = server.operator(&["user", "add", "bob", "--scope", "Zenith/Market", "--id", "b-1", "--json"], PASSWORD).json();
    assert_eq!((&added["name"], &added["id"], &added["status"]), (&json!("bob"), &json!("b-1"), &json!("active")));
    let answer = server.connect().login("bob", PASSWORD);
    assert_eq!((answer.outcome(), &answer.0["Data"]["UserID"]), ("Success", &json!("b-1")));
}

#[test]
fn disabling_a_user_ends_everything_and_enabling_lets_the_password_in_again() {
    let server = Server::with_ann(CHEAP);
    let session = subscribed(&server);
    let token = session.1.clone();
    ends(&server, session, &["user", "disable", "ann"], "");
    server.connect().login("ann", PASSWORD).rejected();
    server.operator(&["user", "enable", "ann"], "").ok();
    server.connect().login("ann", PASSWORD).granted();
    server.connect().restore(&token).rejected();
}

#[test]
fn narrowed_scopes_reach_a_live_subscriber_and_its_token() {
    let server = Server::with_ann(CHEAP);
    let (mut peer, token) = subscribed(&server);
    server.operator(&["user", "set", "ann", "--scope", "Zenith/Market"], "").ok();
    let told = peer.told();
    assert_eq!((told.outcome(), told.scope()), ("Success", &json!(["Zenith/Market"])));
    assert_eq!(peer.query().scope(), &json!(["Zenith/Market"]));
    assert_eq!(server.connect().restore(&token).scope(), &json!(["Zenith/Market"]));
    server.operator(&["user", "set", "ann", "--no-scopes"], "").ok();
    assert_eq!(peer.told().scope(), &json!([]), "who asked for all there is has nothing now");
}

#[test]
fn narrowed_scopes_of_a_client_reach_a_live_subscriber() {
    let server = Server::with_ann(CHEAP);
    let (mut peer, _) = subscribed(&server);
    server.operator(&["client", "set", "app", "--scope", "Zenith/News"], "").ok();
    assert_eq!(peer.told().scope(), &json!(["Zenith/News"]));
}

#[test]
fn a_new_password_ends_the_sessions_of_the_old_one() {
    let server = Server::with_ann(CHEAP);
    ends(&server, subscribed(&server), &["user", "set-password", "ann"], "another one");
    server.connect().login("ann", PASSWORD).rejected();
    server.connect().login("ann", "another one").granted();
    server.operator(&["user", "set-password", "ann", "--none"], "").ok();
    server.connect().login("ann", "another one").rejected();
}

#[test]
fn a_session_is_ended_by_its_id_and_the_others_stay() {
    let server = Server::with_ann(CHEAP);
    let mut stays = server.connect();
    let staying = stays.login("ann", PASSWORD).token();
    let before = server.sessions();
    let (mut ended, token) = subscribed(&server);
    let id = server.sessions().iter().find(|row| !before.contains(row)).expect("the new one")["id"].clone();
    let answer = server.operator(&["session", "end", id.as_str().unwrap(), "--json"], "").json();
    assert_eq!(answer, json!({"ended": 1}));
    ended.told().rejected();
    ended.query().rejected();
    stays.query().granted();
    server.connect().restore(&token).rejected();
    server.connect().restore(&staying).granted();
}

#[test]
fn all_sessions_of_a_user_are_ended_at_once() {
    let server = Server::with_ann(CHEAP);
    let mut peers: Vec<_> = (0..3).map(|_| subscribed(&server)).collect();
    let answer = server.operator(&["session", "end", "--user", "ANN", "--json"], "").json();
    assert_eq!(answer, json!({"ended": 3}));
    for (peer, token) in &mut peers {
        peer.told().rejected();
        server.connect().restore(token).rejected();
    }
}

#[test]
fn a_disabled_or_removed_client_takes_its_sessions_along() {
    let server = Server::with_ann(CHEAP);
    ends(&server, subscribed(&server), &["client", "disable", "app"], "");
    server.connect().login("ann", PASSWORD).rejected();
    server.operator(&["client", "enable", "app"], "").ok();
    ends(&server, subscribed(&server), &["client", "remove", "app"], "");
    server.connect().login("ann", PASSWORD).rejected();
}

#[test]
fn a_new_secret_of_a_client_ends_what_came_through_the_old_one() {
    let server = Server::with_ann(CHEAP);
    let added = server.operator(&["client", "add", "svc", "--confidential", "--scope", "Zenith/Market", "--json"], "").json();
    let old = added["secret"].as_str().unwrap();
    let service = |secret: &str| {
        server.connect().ask("AuthOwner", json!({"Provider": "Paritech", "ClientID": "svc", "ClientSecret": secret}))
    };
    let mut peer = server.connect();
    peer.subscribe().rejected();
    let through = json!({"Provider": "Paritech", "ClientID": "svc", "ClientSecret": old, "UserName": "ann", "Password": PASSWORD});
    let answer = peer.ask("AuthOwner", through);
    peer.told().granted();
    service(old).granted();
    let changed = server.operator(&["client", "new-secret", "svc", "--json"], "").json();
    let new = changed["secret"].as_str().unwrap();
    assert_ne!(new, old);
    peer.told().rejected();
    server.connect().restore(&answer.token()).rejected();
    service(old).rejected();
    service(new).granted();
    server.operator(&["client", "new-secret", "svc", "--secret-stdin"], "typed by hand\n").ok();
    service(new).rejected();
    service("typed by hand").granted();
}

#[test]
fn a_removed_user_is_as_one_that_never_was() {
    let server = Server::with_ann(CHEAP);
    ends(&server, subscribed(&server), &["user", "remove", "ann"], "");
    server.connect().login("ann", PASSWORD).rejected();
    server.add_user("ann", &[]);
    server.connect().login("ann", PASSWORD).granted();
}

#[test]
fn unlocking_lets_a_user_in_who_was_guessed_at() {
    let server = Server::with_ann(&format!("{CHEAP}[throttle]\nfirst_wait = \"1h\"\nlongest_wait = \"1h\"\n"));
    for _ in 0..5 {
        server.connect().login("ann", "a guess").rejected();
    }
    server.connect().login("ann", PASSWORD).failed("Limited");
    server.operator(&["user", "unlock", "ann"], "").ok();
    server.connect().login("ann", PASSWORD).granted();
}

#[test]
fn unlocking_lets_a_user_in_who_mistyped_where_she_has_logged_in_before() {
    let server = Server::with_ann(&format!("{CHEAP}[throttle]\nfirst_wait = \"1h\"\nlongest_wait = \"1h\"\n"));
    server.connect().login("ann", PASSWORD).granted();
    for _ in 0..5 {
        server.connect().login("ann", "a slip").rejected();
    }
    server.connect().login("ann", PASSWORD).failed("Limited");
    server.operator(&["user", "unlock", "ann"], "").ok();
    server.connect().login("ann", PASSWORD).granted();
}

#[test]
fn strangers_cannot_lock_a_user_out_where_she_has_logged_in_before() {
    let server = Server::with_ann(&format!("{CHEAP}[throttle]\nfirst_wait = \"1h\"\nlongest_wait = \"1h\"\n"));
    server.connect().login("ann", PASSWORD).granted();
    for source in 1..=5 {
        server.connect_from(source).login("ann", "a guess").rejected();
    }
    server.connect_from(6).login("ann", PASSWORD).failed("Limited");
    server.connect().login("ann", PASSWORD).granted();
}

#[test]
fn what_is_not_there_or_cannot_be_is_said_clearly() {
    let check = |home: &Home| {
        let complain = |arguments: &[&str], what: &str| {
            let complaint = home.operator(arguments, PASSWORD).complaint();
            assert!(complaint.contains(what), "{arguments:?} -> {complaint}");
        };
        for arguments in [
            &["user", "show", "nobody"][..],
            &["user", "set", "nobody", "--display-name", "N"],
            &["user", "disable", "nobody"],
            &["user", "enable", "nobody"],
            &["user", "unlock", "nobody"],
            &["user", "set-password", "nobody"],
            &["user", "remove", "nobody"],
            &["session", "list", "--user", "nobody"],
            &["session", "end", "--user", "nobody"],
        ] {
            complain(arguments, "there is no such user");
        }
        for arguments in [
            &["client", "show", "nothing"][..],
            &["client", "set", "nothing", "--token", "false"],
            &["client", "new-secret", "nothing"],
            &["client", "disable", "nothing"],
            &["client", "enable", "nothing"],
            &["client", "remove", "nothing"],
        ] {
            complain(arguments, "there is no such client");
        }
        complain(&["session", "end", "01890000-0000-7000-8000-000000000000"], "there is no such session");
        complain(&["session", "end", "x"], "not the id of a session");
        complain(&["user", "add", "ANN"], "somebody has this name already");
        complain(&["user", "add", "bob", "--email", "nowhere"], "is not an e-mail address");
        complain(&["user", "add", "bob", "--scope", "Zenith/Nothing"], "there is no scope \"Zenith/Nothing\"");
        complain(&["user", "add", "a@b"], "must not hold an `@`");
        complain(&["client", "add", "app"], "somebody has this id already");
        let nothing = home.operator(&["user", "add", "bob"], "").complaint();
        assert!(nothing.contains("password is expected on standard input"), "{nothing}");
        assert_eq!(home.operator(&["user", "list", "--json"], "").json().as_array().map(Vec::len), Some(1));
    };
    let server = Server::with_ann(CHEAP);
    check(&server);
    check(&Home::with_ann(CHEAP));
    assert_eq!(server.operator(&["user", "frobnicate"], "").code, Some(2), "what is no command is not even tried");
}

/// Every command, in an order in which each has something to do.
const SCRIPT: &[(&[&str], &str)] = &[
    (&["client", "add", "app", "--scope", "Zenith/Market", "--scope", "Zenith/News", "--display-name", "Äpp"], ""),
    (&["client", "add", "svc", "--confidential", "--without-token", "--expires", "2099-01-31"], ""),
    (&["client", "add", "own", "--secret-stdin"], "first-Secret-9\n"),
    (&["client", "list"], ""),
    (&["client", "show", "svc"], ""),
    (
        &["client", "set", "svc", "--display-name", "Service", "--scope", "Zenith/Market", "--token", "true", "--expires", "never"],
        "",
    ),
    (&["client", "new-secret", "svc"], ""),
    (&["client", "new-secret", "own", "--secret-stdin"], "second-Secret-9\n"),
    (&["client", "disable", "svc"], ""),
    (&["client", "enable", "svc"], ""),
    (&["client", "remove", "own"], ""),
    (&["client", "remove", "own"], ""),
    (
        &[
            "user",
            "add",
            "Zoë",
            "--id",
            "z-1",
            "--email",
            "zoe@example.com",
            "--display-name",
            "Zoë Z",
            "--role",
            "trader",
            "--scope",
            "Zenith/Market",
            "--expires",
            "2099-01-31T12:00:00Z",
        ],
        "first-Pass-word-9\n",
    ),
    (&["user", "add", "nopass", "--no-password"], ""),
    (&["user", "add", "zoË", "--no-password"], ""),
    (&["user", "list"], ""),
    (&["user", "show", "ZOE@example.com"], ""),
    (&["user", "set", "zoë", "--rename", "Zora", "--email", "", "--display-name", "Z", "--no-roles", "--expires", "never"], ""),
    (&["user", "set", "zora", "--scope", "Zenith/News", "--role", "a", "--role", "b"], ""),
    (&["user", "disable", "zora"], ""),
    (&["user", "enable", "zora"], ""),
    (&["user", "unlock", "zora"], ""),
    (&["user", "set-password", "zora"], "second-Pass-word-9\n"),
    (&["user", "set-password", "zora", "--none"], ""),
    (&["user", "remove", "zora"], ""),
    (&["user", "show", "zora"], ""),
    (&["user", "list"], ""),
    (&["session", "list"], ""),
    (&["session", "list", "--user", "nopass"], ""),
    (&["session", "end", "--user", "nopass"], ""),
];

/// What differs from run to run is blanked.
fn comparable(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(comparable),
        Value::Object(members) => {
            for (key, value) in members {
                match key.as_str() {
                    "account" | "created_at" | "secret" | "at" | "hash" if !value.is_null() => *value = json!("differs"),
                    _ => comparable(value),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_command_answers_alike_with_and_without_a_server() {
    let (server, home) = (Server::start(CHEAP), Home::new(CHEAP));
    for (arguments, stdin) in SCRIPT {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let asked = |home: &Home| -> (Option<i32>, Value, String) {
            let Output { code, out, err } = home.operator(&arguments, stdin);
            let mut told = match code {
                Some(0) => serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out:?}")),
                _ => json!(out),
            };
            comparable(&mut told);
            (code, told, err)
        };
        assert_eq!(asked(&server), asked(&home), "{arguments:?}");
    }
    let audits = [server.audit(), home.audit()].map(|mut rows| {
        rows.iter_mut().for_each(comparable);
        rows
    });
    assert!(audits[0].len() > 15, "{:?}", audits[0]);
    assert_eq!(audits[0], audits[1]);
}

#[test]
fn text_for_people_is_printed_where_json_is_not_asked_for() {
    let server = Server::with_ann(CHEAP);
    server.connect().login("ann", PASSWORD).granted();
    for (arguments, word) in [
        (&["user", "list"][..], "ann"),
        (&["user", "show", "ann"], "Zenith/Market, Zenith/News"),
        (&["client", "list"], "app"),
        (&["session", "list"], "ann"),
        (&["audit", "tail"], "login"),
        (&["check"], "argon2id m=64 KiB, t=1"),
    ] {
        let printed = server.operator(arguments, "").ok();
        assert!(printed.contains(word), "{arguments:?} -> {printed}");
        assert!(serde_json::from_str::<Value>(&printed).is_err(), "{arguments:?} -> {printed}");
    }
    server.operator(&["check", "--json"], "").json();
}

#[test]
fn no_secret_is_in_any_output_log_audit_or_file() {
    let mut server = Server::start(&format!("log = \"trace\"\n{CHEAP}"));
    let mut printed = String::new();
    for (arguments, stdin) in SCRIPT {
        let Output { out, err, .. } = server.operator(arguments, stdin);
        let drawn = out.lines().filter(|line| !line.starts_with("secret "));
        printed.extend(drawn.chain(err.lines()).map(|line| format!("{line}\n")));
    }
    server.add_user("ann", &[]);
    let mut peer = server.connect();
    peer.login("ann", "wrong-Pass-word-9").rejected();
    let first = peer.login("ann", PASSWORD).token();
    let second = server.connect().restore(&first).token();
    let mut wrong = owner("ann", PASSWORD);
    wrong["ClientSecret"] = json!("third-Secret-9");
    peer.ask("AuthOwner", wrong).rejected();
    printed += &server.operator(&["session", "list"], "").ok();
    server.terminate();
    server.restart();
    printed += &server.operator(&["audit", "tail", "-n", "1000"], "").ok();
    printed += &server.operator(&["audit", "tail", "-n", "1000", "--json"], "").ok();
    let log = server.log();
    server.terminate();
    let secrets = ["-Pass-word-9", "-Secret-9", PASSWORD, &first, &second];
    for secret in secrets {
        assert!(!printed.contains(secret), "{secret} was printed:\n{printed}");
        assert!(!log.contains(secret), "{secret} was logged:\n{log}");
        for (path, bytes) in server.files() {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
}

#[test]
fn the_audit_says_who_tried_what_and_what_became_of_it() {
    let server = Server::with_ann(CHEAP);
    server.connect_from(9).login("ann", "a guess").rejected();
    server.connect_from(9).login("ann", PASSWORD).granted();
    let rows = server.audit();
    let find = |action: &str, outcome: &str| {
        let row = rows.iter().find(|row| row["action"] == action && row["outcome"] == outcome);
        row.unwrap_or_else(|| panic!("no {action} {outcome} in {rows:#?}"))
    };
    let (refused, granted) = (find("login", "invalid_credentials"), find("login", "ok"));
    for row in [refused, granted] {
        let told = (&row["name"], &row["client"], &row["source"], &row["gate"]);
        assert_eq!(told, (&json!("ann"), &json!("app"), &json!("127.7.0.9"), &json!("zenith")));
    }
    assert_eq!(granted["session"], server.sessions()[0]["id"]);
    assert_eq!(find("user_add", "ok")["gate"], "operator");
    let numbers: Vec<u64> = rows.iter().filter_map(|row| row["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=rows.len() as u64).collect::<Vec<_>>());
}

#[test]
fn the_audit_is_followed_as_it_grows() {
    let server = Server::with_ann(CHEAP);
    let mut command = server.command();
    let spawned = command.args(["audit", "tail", "--follow", "--json", "-n", "1"]).stdout(Stdio::piped()).spawn();
    let mut following = Followed(spawned.expect("the binary runs"));
    let mut lines = BufReader::new(following.0.stdout.take().expect("it is piped")).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON") };
    assert_eq!(next()["action"], "user_add");
    for action in ["user_disable", "user_enable"] {
        server.operator(&["user", action.trim_start_matches("user_"), "ann"], "").ok();
        assert_eq!(next()["action"], action);
    }
    assert_eq!(following.0.try_wait().expect("its status"), None, "it goes on");
}

/// A command that never ends by itself.
struct Followed(Child);

impl Drop for Followed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn commands_at_once_on_a_free_data_directory_wait_for_each_other() {
    let home = Home::new(CHEAP);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    std::thread::scope(|scope| {
        let home = &home;
        let add = |name: &'static str| scope.spawn(move || home.operator(&["user", "add", name, "--no-password"], ""));
        for thread in names.map(add) {
            thread.join().expect("its output").ok();
        }
    });
    let users = home.operator(&["user", "list", "--json"], "").json();
    assert_eq!(users.as_array().map(Vec::len), Some(names.len()));
}

#[test]
fn a_listing_longer_than_a_page_is_whole_and_in_order() {
    let home = Home::with_ann(CHEAP);
    home.add_copies("ann", (0..1100).map(|number| format!("user-{number:04}")));
    let server = Server::of(home);
    for number in 0..510 {
        server.connect().login(&format!("user-{number:04}"), PASSWORD).granted();
    }
    let names = |arguments: &[&str], member: &str| -> Vec<String> {
        let rows = server.operator(arguments, "").json();
        rows.as_array().expect("rows").iter().map(|row| row[member].as_str().expect("text").to_owned()).collect()
    };
    let users = names(&["user", "list", "--json"], "name");
    assert_eq!(users.len(), 1101);
    assert!(users.is_sorted_by(|one, next| one < next), "each once, by name");
    let sessions = names(&["session", "list", "--json"], "id");
    assert_eq!(sessions.len(), 510);
    assert!(sessions.is_sorted_by(|one, next| one > next), "each once, newest first");
    let printed = server.operator(&["user", "list"], "").ok();
    assert_eq!(printed.lines().filter(|line| line.contains("user-")).count(), 1100);
}

#[test]
fn nonsense_at_the_operators_door_is_refused_and_not_repeated() {
    let server = Server::with_ann(CHEAP);
    let ask = |line: &[u8]| -> Option<String> {
        let mut door = UnixStream::connect(server.data().join("gatepost.sock")).expect("the door");
        door.set_read_timeout(Some(crate::harness::LIMIT)).expect("a limit");
        // A line that is too long is not read to its end.
        door.write_all(line).ok();
        let mut answer = String::new();
        BufReader::new(door).read_line(&mut answer).ok().filter(|&read| read > 0).map(|_| answer)
    };
    for line in [&b"{\"operation\":\"nope\",\"password\":\"sesame\"}\n"[..], b"sesame\n", b"\n", b"[]\n", b"{}\n"] {
        let answer = ask(line).expect("an answer");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["error"]["word"], "invalid", "{answer}");
        assert!(!answer.to_string().contains("sesame"), "{answer}");
    }
    let endless = ask(&[b'x'; 1100 * 1024]).expect("an answer before the end of the line");
    assert!(endless.contains("invalid"), "{endless}");
    let good = ask(b"{\"operation\":\"user_show\",\"of\":{\"name\":\"ann\"}}\n").expect("an answer");
    assert!(good.contains("\"ok\""), "{good}");
    assert!(!server.log().contains("sesame"));
}

#[test]
fn a_client_without_tokens_and_one_with_them_are_told_apart_while_they_are_in_use() {
    let server = Server::with_ann(CHEAP);
    let mut peer = server.connect();
    let token = peer.login("ann", PASSWORD).token();
    server.operator(&["client", "set", "app", "--token", "false"], "").ok();
    let told: Answer = server.connect().login("ann", PASSWORD);
    assert_eq!((told.outcome(), told.0["Data"].get("AccessToken")), ("Success", None));
    // What was told before goes on restoring, and is not rolled.
    let told = server.connect().restore(&token);
    assert_eq!((told.outcome(), told.0["Data"].get("AccessToken")), ("Success", None));
}

#[test]
fn a_users_names_and_rights_are_set_shown_and_taken_away() {
    let home = Home::new(CHEAP);
    let rights = ["--role", "Manager", "--role", "Admin", "--role", "Admin", "--permission", "CanPrint"];
    let names = ["--first-name", "Ann", "--last-name", "Example", "--profile-url", "https://example.org/ann.png"];
    home.operator(&[&["user", "add", "ann"], &rights[..], &names[..]].concat(), PASSWORD).ok();
    let shown = |fields: [&str; 5]| {
        let user = home.operator(&["user", "show", "ann", "--json"], "").json();
        fields.map(|field| user[field].clone())
    };
    let fields = ["first_name", "last_name", "profile_url", "roles", "permissions"];
    let picture = "https://example.org/ann.png";
    let expected = [json!("Ann"), json!("Example"), json!(picture), json!(["Admin", "Manager"]), json!(["CanPrint"])];
    assert_eq!(shown(fields), expected);
    let changed = ["user", "set", "ann", "--first-name", "", "--no-roles", "--permission", "CanSign", "--permission", "CanPrint"];
    home.operator(&changed, "").ok();
    let expected = [json!(null), json!("Example"), json!(picture), json!([]), json!(["CanPrint", "CanSign"])];
    assert_eq!(shown(fields), expected);
    let complaint =
        home.operator(&["user", "set", "ann", "--role", " x", "--profile-url", "ftp://x", "--display-name", "\u{7}"], "");
    let complaint = complaint.complaint();
    for part in ["a display name must not", "the address of a picture", "a role must not"] {
        assert!(complaint.contains(part), "every fault at once: {complaint}");
    }
    assert_eq!(shown(fields), expected, "and nothing is changed");
}

#[test]
fn an_api_key_is_shown_once_listed_by_its_first_letters_and_revoked() {
    let home = Home::with_ann(CHEAP);
    let made = home.operator(&["apikey", "add", "ann", "--environment", "test", "--expires", "2099-01-31", "--json"], "").json();
    let text = made["key"].as_str().expect("its text").to_owned();
    assert_eq!((text.len(), &made["environment"], &made["kind"]), (32, &json!("test"), &json!("secret")));
    let listed = || home.operator(&["apikey", "list", "ann", "--json"], "").json();
    let key = listed()[0].clone();
    assert_eq!((key["prefix"].as_str(), &key["expires_at"]), (Some(&text[..8]), &json!("2099-01-31T00:00:00Z")));
    assert!(!listed().to_string().contains(&text) && key["cancelled_at"].is_null());
    for (_, bytes) in home.files() {
        assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "only its hash is kept");
    }
    for nonsense in ["nonsense", "-onsense"] {
        assert_eq!(home.operator(&["apikey", "revoke", "ann", nonsense], "").complaint(), "there is no such API key");
    }
    home.operator(&["apikey", "revoke", "ann", &text[..8]], "").ok();
    assert!(listed()[0]["cancelled_at"].is_string());
    assert_eq!(home.operator(&["apikey", "add", "bob"], "").complaint(), "there is no such user");
}

#[test]
fn keys_are_made_taken_over_listed_and_retired_and_never_shown() {
    let home = Home::new(CHEAP);
    let shared = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let taken = home.operator(&["key", "import", "--algorithm", "HS256", "--json"], &format!("{shared}\n")).ok();
    let made = home.operator(&["key", "add", "--algorithm", "EdDSA", "--json"], "").json();
    assert_eq!((&made["purpose"], &made["retired_at"]), (&json!("own"), &json!(null)));
    let listed = || home.operator(&["key", "list", "--json"], "").json();
    let keys: Vec<_> = listed().as_array().unwrap().iter().map(|key| (key["purpose"].clone(), key["algorithm"].clone())).collect();
    let own = (json!("own"), json!("EdDSA"));
    assert_eq!(keys, [own.clone(), (json!("tokens"), json!("HS256")), own]);
    assert!(!taken.contains("BwcH") && !listed().to_string().contains("BwcH"));
    let retired = home.operator(&["key", "retire", "1", "--json"], "").json();
    assert!(retired["retired_at"].is_string() && retired["verifies_until"].is_string());
    let complaint = home.operator(&["key", "retire", &made["number"].to_string()], "").complaint();
    assert!(complaint.starts_with("it is the last key"), "{complaint}");
    let complaint = home.operator(&["key", "import", "--algorithm", "HS256"], "c2hvcnQ=").complaint();
    assert_eq!(complaint, "a shared secret must have 32 bytes (RFC 7518 section 3.2)");
    let complaint = home.operator(&["key", "add", "--algorithm", "none"], "").complaint();
    assert!(complaint.starts_with("\"none\" is no algorithm"), "{complaint}");
    assert_eq!(home.operator(&["token", "revoke", "-3", "--json"], "").json(), json!({ "revoked": "-3" }));
}

/// X5: nothing that was refused before is remembered when it has become right.
#[test]
fn whoever_was_refused_is_let_in_as_soon_as_it_is_right() {
    let server = Server::with_ann(&format!("{CHEAP}{APP}[throttle]\nname_free = 1000\nsource_free = 1000\n"));
    let both = |name: &str| {
        let zenith = server.connect().login(name, PASSWORD).outcome() == "Success";
        let application = sign_in(server.http(), name, PASSWORD).expect("an answer").is_ok();
        assert_eq!(zenith, application, "{name}: the gates differ");
        zenith
    };
    for round in 0..5 {
        let name = format!("newcomer-{round}");
        assert!(!both(&name) && !both(&name));
        server.add_user(&name, &[]);
        assert!(both(&name));
        server.operator(&["user", "disable", &name], "").ok();
        assert!(!both(&name));
        server.operator(&["user", "enable", &name], "").ok();
        assert!(both(&name));
        server.operator(&["client", "disable", "app"], "").ok();
        assert!(!both("ann"));
        server.operator(&["client", "enable", "app"], "").ok();
        assert!(both("ann"));
        // A role, seen by whoever is here already.
        let [cookie, _] = sign_in(server.http(), &name, PASSWORD).expect("an answer").expect("the password is right");
        let Held::Cookie(cookie) = cookie else { panic!("{cookie:?}") };
        let roles = || {
            ask(server.http(), "GET /auth.json", &format!("Cookie: ss-id={cookie}\r\n"), None).expect("an answer").ok()["Roles"]
                .clone()
        };
        assert_eq!(roles(), json!([]));
        server.operator(&["user", "set", &name, "--role", "Editor"], "").ok();
        assert_eq!(roles(), json!(["Editor"]));
    }
}

/// X7: nothing that listens answers operators but the socket in the data directory.
#[test]
fn there_is_no_way_to_administer_a_server_but_its_own_socket() {
    let home = Home::with_ann(&format!("{CHEAP}{APP}{DEFAULT}"));
    let server = Server::of(home);
    let binds =
        [server.http(), server.own("trueconf", "web"), server.own("trueconf", "http"), server.own("trueconf", "control.default")];
    let paths = [
        "/admin",
        "/admin/users",
        "/api/users",
        "/users",
        "/user/ann",
        "/sessions",
        "/session/end",
        "/metrics",
        "/debug",
        "/debug/pprof",
        "/status",
        "/backup",
        "/restore",
        "/shutdown",
        "/config",
        "/operator",
        "/gatepost.sock",
        "/data/gatepost.db",
        "/requestlogs",
        "/admin-users",
        "/ui",
        "/assignroles",
        "/unassignroles",
        "/api/AssignRoles",
    ];
    for address in binds {
        for path in paths {
            for method in ["GET", "POST", "DELETE"] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let response = http(address, 0, &request);
                assert!((400..500).contains(&response.status), "{address}: {method} {path}: {response:?}");
            }
        }
    }
    let socket = server.data().join("gatepost.sock");
    let mode = std::fs::metadata(&socket).expect("the door").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    server.connect().login("ann", PASSWORD).granted();
}
