//! What one peer says is in no answer to another (X3): many at once, each with words of its own, refused in every way there is.

use serde_json::json;

use crate::harness::{CHEAP, Server};
use crate::held::APP;
use crate::peer::Peer;
use crate::refresh::ask;

const PEERS: usize = 12;
const ROUNDS: usize = 25;
/// How a word of one's own begins.
const WORD: &str = "wort-";

/// Sees that of all such words only its own is in an answer; answers how often that is.
fn own_words_only(own: &str, answer: &str, what: &str) -> usize {
    let words: Vec<&str> = answer
        .match_indices(WORD)
        .map(|(at, _)| {
            answer[at..].split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-').next().unwrap_or_default()
        })
        .collect();
    assert!(words.iter().all(|word| *word == own), "{what}: {own} was answered {answer}");
    words.len()
}

#[test]
fn no_answer_holds_what_another_peer_has_said() {
    let server =
        Server::with_ann(&format!("{CHEAP}{APP}[throttle]\nname_free = 100000\nsource_free = 100000\ntoken_free = 100000\n"));
    let http = server.http();
    let echoed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PEERS)
            .map(|number| {
                scope.spawn(move || {
                    let mut echoed = 0;
                    let mut peer = Peer::connect(http, 0);
                    for round in 0..ROUNDS {
                        let own = format!("{WORD}{number}-{round}");
                        let bodies = [
                            json!({ "UserName": own, "Password": own, "State": own, "ErrorView": own }),
                            json!({ "UserName": [own], "Password": own }),
                            json!({ "provider": own, "UserName": own }),
                        ];
                        let lines = [
                            "POST /auth/credentials.json".to_owned(),
                            format!("POST /auth/{own}.json"),
                            format!("GET /auth/credentials.xml?UserName={own}"),
                            format!("POST /auth.json?provider={own}"),
                            format!("GET /{own}"),
                            format!("POST /json/reply/{own}"),
                        ];
                        for line in &lines {
                            for body in &bodies {
                                let fields = format!("Cookie: ss-id={own}\r\nX-Own: {own}\r\nUser-Agent: {own}\r\n");
                                let body = if line.starts_with("GET") { None } else { Some(body) };
                                let answer = ask(http, line, &fields, body).expect("an answer");
                                echoed += own_words_only(&own, &format!("{}{}", answer.head, answer.body), line);
                            }
                        }
                        for message in [
                            json!({ "Controller": own, "Topic": own, "TransactionID": 1 }),
                            json!({ "Controller": "Auth", "Topic": own, "TransactionID": 2 }),
                            json!({ "Controller": "Auth", "Topic": "AuthOwner", "Action": own, "TransactionID": 3, "Data": own }),
                            json!({ "Controller": "Auth", "Topic": "AuthToken", "TransactionID": 4,
                                "Data": { "Provider": own, "AccessToken": own } }),
                        ] {
                            peer.send(&message);
                            echoed += own_words_only(&own, &peer.next_text(), &message.to_string());
                        }
                    }
                    echoed
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("each has its own")).sum()
    });
    assert!(echoed > PEERS * ROUNDS, "too little of what was said is said again to show anything: {echoed}");
}
