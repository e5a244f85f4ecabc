//! The logins over the ServiceStack gate, as a client of that framework makes them: JSON and JSV, a session by cookie, a token.
//!
//! It decides what is shown and what is expected of each answer.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::cli::say;
use crate::demo::{HOST, expect, line};

/// What the published page of the service shows, line by line, with the values filled in.
const JSV: &str = "{\n\tprovider: credentials,\n\tUserName: Edward,\n\tPassword: Diego,\n\tRememberMe: False\n}";

/// Shows them.
pub(super) async fn log_in(https: SocketAddr, tls: &TlsConnector) -> Result<(), String> {
    let mut browser = Browser { address: https, tls: Some(tls), cookies: Vec::new() };
    let login = |password: &str, more: Value| {
        let mut body = json!({"UserName": "Shodan", "Password": password});
        body.as_object_mut().into_iter().for_each(|body| body.extend(more.as_object().cloned().unwrap_or_default()));
        body.to_string()
    };
    const JSON: &[(&str, &str)] = &[("Content-Type", "application/json"), ("Accept", "application/json")];

    say(&format!("ServiceStack: https://{HOST}:{}/auth. A wrong password is 401, in the framework's own words:", https.port()))?;
    let answer = browser.ask("POST /auth/credentials", JSON, &login("Inspect", json!({}))).await?;
    expect(answer.status == 401 && answer.body.contains("Invalid Username or Password"), "401")?;

    say("The right one is a session, held by cookies. This login wants no tokens:")?;
    let answer = browser.ask("POST /auth/credentials", JSON, &login("Insect", json!({"Meta": {"ignore": "jwt"}}))).await?;
    expect(answer.status == 200 && answer.json()["UserName"] == "Shodan", "Shodan")?;
    let answer = browser.ask("GET /auth", JSON, "").await?;
    expect(answer.status == 200 && answer.json()["UserName"] == "Shodan", "Shodan, by her cookies")?;

    say("Signed out, the same cookies open nothing:")?;
    let before = browser.cookies.clone();
    expect(browser.ask("POST /auth/logout", JSON, "").await?.body == "{}", "an empty answer")?;
    browser.cookies = before;
    let answer = browser.ask("GET /auth", JSON, "").await?;
    expect(answer.status == 401 && answer.body.contains("Not Authenticated"), "Not Authenticated")?;

    say("The same in JSV, with the request as the service's page shows it:")?;
    browser.cookies.clear();
    let answer = browser.ask("POST /auth", &[("Content-Type", "text/jsv"), ("Accept", "text/jsv")], JSV).await?;
    expect(answer.status == 200 && answer.body.starts_with("{UserId:Edward,"), "Edward, in JSV")?;

    say("A token in the answer instead of a cookie, and who it speaks for:")?;
    browser.cookies.clear();
    let answer = browser.ask("POST /auth/credentials", JSON, &login("Insect", json!({"UseTokenCookie": false}))).await?;
    let token = answer.json()["BearerToken"].as_str().unwrap_or_default().to_owned();
    expect(token.split('.').count() == 3, "a BearerToken")?;
    browser.cookies.clear();
    let answer = browser.ask("GET /auth", &[JSON[1], ("Authorization", &format!("Bearer {token}"))], "").await?;
    expect(answer.status == 200 && answer.json()["UserId"] == "Shodan", "Shodan, by her token")
}

/// Shows a service behind the gate, which is told who calls.
pub(super) async fn call_a_service(https: SocketAddr, tls: &TlsConnector) -> Result<(), String> {
    let mut browser = Browser { address: https, tls: Some(tls), cookies: Vec::new() };
    const JSON: (&str, &str) = ("Accept", "application/json");
    const TYPED: (&str, &str) = ("Content-Type", "application/json");

    say("Behind this gate is a service that shows what it is sent. Without a login nobody comes through:")?;
    let answer = browser.ask("GET /mirror/orders/5", &[JSON], "").await?;
    expect(answer.status == 401 && answer.body.is_empty(), "401, and nothing else")?;

    say("Shodan logs in. Her cookies open the way and stay behind; the service is told who she is, in a token of the gate's:")?;
    let login = json!({"UserName": "Shodan", "Password": "Insect"}).to_string();
    expect(browser.ask("POST /auth/credentials", &[JSON, TYPED], &login).await?.status == 200, "200")?;
    let answer = browser.ask("POST /mirror/orders", &[JSON, TYPED], "{\"Item\":\"tea\"}").await?;
    expect(answer.status == 200 && answer.body.contains("\nby Shodan\n"), "Shodan, verified by the service")?;
    expect(!answer.body.contains("ss-tok") && answer.body.ends_with("{\"Item\":\"tea\"}"), "her request, without her cookies")?;

    say("For a deletion it asks for a role that she does not have:")?;
    let answer = browser.ask("DELETE /mirror/orders/5", &[JSON], "").await?;
    expect(answer.status == 403 && answer.body == "Forbidden", "Forbidden")?;
    expect(browser.ask("POST /auth/logout", &[JSON, TYPED], "").await?.status == 200, "200")
}

/// Keeps cookies, and prints what it says and hears.
pub(super) struct Browser<'a> {
    address: SocketAddr,
    tls: Option<&'a TlsConnector>,
    cookies: Vec<(String, String)>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl Browser<'_> {
    /// Without TLS.
    pub(super) fn plain(address: SocketAddr) -> Browser<'static> {
        Browser { address, tls: None, cookies: Vec::new() }
    }

    /// One request on a connection of its own; `what` is its method and path.
    pub(super) async fn ask(&mut self, what: &str, fields: &[(&str, &str)], body: &str) -> Result<Answer, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{what}: {error}");
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = format!("{what} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        say(&format!("  > {what}"))?;
        for (name, value) in fields.iter().copied().chain([("Cookie", &*cookies.join("; "))]).filter(|(_, value)| !value.is_empty())
        {
            say(&format!("  > {name}: {value}"))?;
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        body.lines().try_for_each(|line| say(&format!("  > {line}")))?;
        let mut stream = line(self.address, self.tls).await.map_err(|error| failed(&error))?;
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.map_err(|error| failed(&error))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|error| failed(&error))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed(&"no answer"))?;
        let (first, rest) = head.split_once("\r\n").unwrap_or((head, ""));
        say(&format!("  < {first}"))?;
        for (name, value) in rest.lines().filter_map(|line| line.split_once(": ")) {
            if name.eq_ignore_ascii_case("set-cookie") {
                say(&format!("  < {name}: {value}"))?;
                self.keep(value);
            }
        }
        body.lines().try_for_each(|line| say(&format!("  < {line}")))?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| failed(&first))?;
        Ok(Answer { status, body: body.to_owned() })
    }

    fn keep(&mut self, cookie: &str) {
        let pair = cookie.split(';').next().unwrap_or_default();
        let Some((name, value)) = pair.split_once('=') else { return };
        self.cookies.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}
