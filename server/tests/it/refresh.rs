//! Signed tokens over HTTP: a hundred refreshes at once, a server that is killed among them, refresh tokens that rotate, and
//! whatever is taken from an account being gone within a second.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use gatepost_identity::clock::system_instant;
use serde_json::{Value, json};

use crate::harness::{CHEAP, PASSWORD, Server, until};

const CLIENTS: usize = 100;

/// An answer, or a part of one where the server went away.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}{}", self.head, self.body);
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let set = self.head.lines().filter_map(|line| line.to_ascii_lowercase().starts_with("set-cookie:").then_some(&line[11..]));
        set.filter_map(|cookie| cookie.trim().split(';').next()?.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, text)| text)
    }
}

/// Asks on a connection of its own. `None`: the server was gone before it had answered.
pub(crate) fn ask(http: SocketAddr, line: &str, fields: &str, body: Option<&Value>) -> Option<Answer> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let request =
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{kind}{fields}\r\n{body}");
    let mut stream = TcpStream::connect(http).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    // Of an answer that was cut off nothing was received.
    length.and_then(|length| length.trim().parse().ok()).filter(|length: &usize| body.len() == *length)?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

fn served(more: &str) -> Server {
    let gate = "[servicestack]\nclient = \"app\"\nproviders = [\"credentials\", \"basic\", \"apikey\", \"jwt\"]\n";
    Server::with_ann(&format!("{CHEAP}{gate}{more}"))
}

impl Server {
    fn get(&self, fields: &str) -> Answer {
        ask(self.http(), "GET /auth.json", fields, None).expect("an answer")
    }

    /// Ann's access token and her refresh token.
    fn pair(&self) -> (String, String) {
        let login = json!({"UserName": "ann", "Password": PASSWORD, "UseTokenCookie": false});
        let told = ask(self.http(), "POST /auth/credentials.json", "", Some(&login)).expect("an answer").ok();
        ["BearerToken", "RefreshToken"].map(|name| told[name].as_str().expect("a token").to_owned()).into()
    }

    fn is_good(&self, token: &str) -> bool {
        self.get(&format!("Authorization: Bearer {token}\r\n")).status == 200
    }
}

fn refresh(http: SocketAddr, token: &str) -> Option<Answer> {
    ask(http, "POST /access-token.json", "", Some(&json!({"RefreshToken": token, "UseTokenCookie": false})))
}

/// The access token that an answer carries, and its refresh token where there is one.
fn told(answer: &Answer) -> (String, Option<String>) {
    let told = answer.ok();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    (text(&told["AccessToken"]).expect("an access token"), text(&told["Meta"]["RefreshToken"]))
}

/// So many at once, each with the token that it holds.
fn refresh_each(server: &Server, held: &[String]) -> Vec<(String, Option<String>)> {
    let (http, gate) = (server.http(), std::sync::Barrier::new(held.len()));
    std::thread::scope(|scope| {
        let each = held.iter().map(|token| {
            let gate = &gate;
            scope.spawn(move || {
                gate.wait();
                told(&refresh(http, token).expect("an answer"))
            })
        });
        let threads: Vec<_> = each.collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

#[test]
fn a_hundred_refreshes_at_once_are_a_hundred_working_tokens() {
    for rotates in [false, true] {
        let server = served(&format!("rotate_refresh_tokens = {rotates}\n"));
        let (_, first) = server.pair();
        let answers = refresh_each(&server, &vec![first.clone(); CLIENTS]);
        for (token, _) in &answers {
            assert!(server.is_good(token));
        }
        let successors: Vec<_> = answers.iter().map(|(_, successor)| successor.clone()).collect();
        let same = successors.iter().all(|successor| *successor == successors[0] && *successor != Some(first.clone()));
        assert!(same && successors[0].is_some() == rotates, "{successors:?}");
    }
}

#[test]
fn a_kill_among_a_hundred_refreshes_takes_nobodys_token_along() {
    for rotates in [false, true] {
        let server = &mut served(&format!("rotate_refresh_tokens = {rotates}\n[session]\nrefresh_overlap = \"60s\"\n"));
        for round in 0..3 {
            let (_, first) = server.pair();
            let held = Mutex::new(vec![first.clone(); CLIENTS]);
            let received = Mutex::new(Vec::new());
            let http = server.http();
            std::thread::scope(|scope| {
                for client in 0..CLIENTS {
                    let (held, received) = (&held, &received);
                    scope.spawn(move || {
                        let mine = || held.lock().unwrap()[client].clone();
                        while let Some(answer) = refresh(http, &mine()) {
                            let (token, successor) = told(&answer);
                            received.lock().unwrap().push(token);
                            if let Some(successor) = successor {
                                held.lock().unwrap()[client] = successor;
                            }
                        }
                    });
                }
                // Later in each round, so that it strikes before the first write, at it, and long after.
                until("answers come in", || received.lock().unwrap().len() > round * CLIENTS);
                server.kill9();
            });
            server.restart();
            for token in received.into_inner().unwrap() {
                assert!(server.is_good(&token), "round {round}, rotation {rotates}: a token that was told is no good");
            }
            let answers = refresh_each(server, &held.into_inner().unwrap());
            for (token, _) in &answers {
                assert!(server.is_good(token), "round {round}, rotation {rotates}");
            }
            let (_, successor) = &answers[0];
            assert!(answers.iter().all(|(_, other)| other == successor), "round {round}: {answers:?}");
            assert_eq!(successor.is_some(), rotates);
        }
    }
}

#[test]
fn the_use_of_a_refresh_token_that_rotated_long_ago_ends_what_grew_from_its_login() {
    let server = served("rotate_refresh_tokens = true\n[session]\nrefresh_overlap = \"1s\"\n");
    let (at_login, first) = server.pair();
    let (token, second) = told(&refresh(server.http(), &first).expect("an answer"));
    let second = second.expect("a successor");
    std::thread::sleep(Duration::from_millis(1100));
    let old = refresh(server.http(), &first).expect("an answer");
    assert!(old.status == 401 && old.body.contains("Token has been invalidated"), "{}{}", old.head, old.body);
    assert_eq!(refresh(server.http(), &second).expect("an answer").status, 401);
    assert!(!server.is_good(&at_login) && !server.is_good(&token));
    assert!(server.audit().iter().any(|row| row["action"] == "reuse"), "{:?}", server.audit());
    let (later, _) = server.pair();
    assert!(server.is_good(&later));
}

#[test]
fn a_browser_with_a_refresh_token_alone_goes_with_its_successor() {
    let server = served("rotate_refresh_tokens = true\n");
    let (_, first) = server.pair();
    let answers = [(); 2].map(|()| server.get(&format!("Cookie: ss-reftok={first}\r\n")));
    let cookie = |answer: &Answer, name| answer.cookie(name).map(str::to_owned).expect("a cookie");
    for answer in &answers {
        answer.ok();
        assert!(server.is_good(&cookie(answer, "ss-tok")));
    }
    let second = cookie(&answers[0], "ss-reftok");
    assert!(second != first && second == cookie(&answers[1], "ss-reftok"));
}

#[test]
fn a_disabled_account_is_out_within_a_second_however_it_came_in() {
    let server = served("");
    let login = json!({"UserName": "ann", "Password": PASSWORD, "Meta": {"ignore": "jwt"}});
    let session = ask(server.http(), "POST /auth/credentials.json", "", Some(&login)).expect("an answer");
    let session = session.cookie("ss-id").expect("a session").to_owned();
    let (bearer, refreshing) = server.pair();
    let key = server.operator(&["apikey", "add", "ann", "--json"], "").json()["key"].as_str().expect("a key").to_owned();
    let ways = [
        format!("Cookie: ss-id={session}; ss-pid=x\r\n"),
        format!("Authorization: Bearer {bearer}\r\n"),
        format!("Cookie: ss-reftok={refreshing}\r\n"),
        format!("Authorization: Bearer {key}\r\n"),
    ];
    let comes_in = || ways.iter().map(|fields| server.get(fields).status).collect::<Vec<_>>();
    assert_eq!(comes_in(), [200; 4]);
    server.operator(&["user", "disable", "ann"], "").ok();
    let began = system_instant();
    assert_eq!(comes_in(), [401; 4]);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let told = refresh(server.http(), &refreshing).expect("an answer");
    assert!(told.status == 401 && told.body.contains("This account has been locked"), "{}", told.body);
    server.operator(&["user", "enable", "ann"], "").ok();
    assert_eq!(comes_in(), [401, 401, 401, 200], "what was signed before stays cut off; a key is its owner's again");
}

#[test]
fn what_came_through_a_disabled_client_is_out_within_a_second() {
    let server = served("");
    let (bearer, refreshing) = server.pair();
    assert!(server.is_good(&bearer));
    server.operator(&["client", "disable", "app"], "").ok();
    let began = system_instant();
    assert!(!server.is_good(&bearer));
    assert_eq!(refresh(server.http(), &refreshing).expect("an answer").status, 503, "it is no fault of the token's");
    let kept = server.get(&format!("Cookie: ss-tok={bearer}; ss-reftok={refreshing}; ss-id=x; ss-pid=x\r\n"));
    assert_eq!(
        (kept.status, kept.cookie("ss-tok"), kept.cookie("ss-reftok")),
        (503, None, None),
        "a browser keeps its tokens for when it is back"
    );
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    server.operator(&["client", "enable", "app"], "").ok();
    assert!(server.is_good(&bearer));
}

#[test]
fn all_keys_of_a_user_are_cancelled_with_one_command() {
    let server = served("");
    let add = |environment: &str| {
        let made = server.operator(&["apikey", "add", "ann", "--environment", environment, "--json"], "").json();
        made["key"].as_str().expect("a key").to_owned()
    };
    let keys = [add("live"), add("test")];
    assert!(keys.iter().all(|key| server.is_good(key)));
    assert!(server.operator(&["apikey", "revoke", "ann"], "").err.contains("PREFIX"));
    let told = server.operator(&["apikey", "revoke", "--all", "ann", "--json"], "").json();
    assert_eq!(told, json!({"cancelled": 2}));
    assert!(keys.iter().all(|key| !server.is_good(key)));
}
