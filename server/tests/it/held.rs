//! What somebody holds at the gates, and whether it still stands. Decides nothing about when it should.

use std::net::SocketAddr;

use serde_json::json;

use crate::peer::Peer;
use crate::refresh::ask;

/// The settings of a ServiceStack gate that tells sessions, signed tokens and knows API keys.
pub(crate) const APP: &str = "[servicestack]\nclient = \"app\"\nproviders = [\"credentials\", \"basic\", \"apikey\", \"jwt\"]\n";

/// A proof of who somebody is.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    /// A token of the Zenith gate.
    Token(String),
    /// The cookie of a session at the ServiceStack gate.
    Cookie(String),
    /// A signed token, or an API key.
    Bearer(String),
}

impl Held {
    /// Whether it still leads back in.
    pub(crate) fn stands(&self, http: SocketAddr) -> bool {
        match self {
            Held::Token(token) => match Peer::connect(http, 0).restore(token).outcome() {
                "Success" => true,
                "Reject" => false,
                other => panic!("{self:?}: {other}"),
            },
            Held::Cookie(cookie) => answers(http, &format!("Cookie: ss-id={cookie}\r\n")),
            Held::Bearer(token) => answers(http, &format!("Authorization: Bearer {token}\r\n")),
        }
    }
}

fn answers(http: SocketAddr, fields: &str) -> bool {
    let answer = ask(http, "GET /auth.json", fields, None).expect("an answer");
    match answer.status {
        200 => true,
        401 => false,
        status => panic!("{fields}: {status}"),
    }
}

/// Logs in at the ServiceStack gate: a session's cookie and a signed token, or the status. `None`: the server was gone before.
pub(crate) fn sign_in(http: SocketAddr, name: &str, password: &str) -> Option<Result<[Held; 2], u16>> {
    let login = json!({ "UserName": name, "Password": password, "UseTokenCookie": false });
    let answer = ask(http, "POST /auth/credentials.json", "", Some(&login))?;
    if answer.status != 200 {
        return Some(Err(answer.status));
    }
    let told = answer.ok();
    let bearer = told["BearerToken"].as_str().expect("a signed token").to_owned();
    let cookie = told["SessionId"].as_str().expect("a session").to_owned();
    assert_eq!(answer.cookie("ss-id"), Some(cookie.as_str()));
    Some(Ok([Held::Cookie(cookie), Held::Bearer(bearer)]))
}
