//! The demonstration: a throw-away server with sample accounts, and a client that logs in over each gate through a real
//! socket, as a client of that wire would.
//!
//! It decides what is shown and what is expected of each answer. It is the real server: only its accounts and its certificate
//! are samples, its data directory is deleted at the end, and it listens on loopback alone.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gatepost_identity::account::Account;
use gatepost_identity::admin::{NewClient, NewUser, Operator};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::secret::Secret;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::cli::say;
use crate::config::{Config, Sources};
use crate::listen::tls::Files;
use crate::serve::Server;

/// Where the demonstration listens, if nobody else does: without TLS and with it.
const PREFERRED: [u16; 2] = [8000, 8443];
/// Whom its certificate is for.
const HOST: &str = "localhost";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The sample accounts: name, password, scopes.
const USERS: [(&str, &str, &[&str]); 2] =
    [("Shodan", "Insect", &["Zenith/Market", "Zenith/Trading"]), ("Edward", "Diego", &["Zenith/Market"])];
/// The sample client.
const CLIENT: &str = "TriOptimum";

/// Runs the demonstration; with `exit` it ends after the logins.
pub(crate) async fn run(exit: bool) -> Result<(), String> {
    let data = ThrowAway::new()?;
    let (files, tls) = certificate(&data.0)?;
    let server = start(&data.0, files.clone()).await?;
    let https = server.https.ok_or("there is no TLS")?;
    let shown = log_in(server.http, https, &tls).await;
    if shown.is_ok() && !exit {
        say(&format!("Serving wss://{HOST}:{}/Zenith and ws://{}/Zenith until Ctrl-C. The accounts:", https.port(), server.http))?;
        for (name, password, scopes) in USERS {
            say(&format!("  user {name}, password {password}, holds {}", scopes.join(", ")))?;
        }
        say(&format!("  client {CLIENT}, public; provider Paritech; certificate {}", files.certificate.display()))?;
        // Without a signal handler there is nothing to wait for; then the demonstration ends here.
        tokio::signal::ctrl_c().await.ok();
    }
    server.stop().await;
    shown
}

/// A data directory that goes with its value.
struct ThrowAway(PathBuf);

impl ThrowAway {
    fn new() -> Result<ThrowAway, String> {
        let path = std::env::temp_dir().join(format!("gatepost-demo-{}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(ThrowAway(path))
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        // What is left behind is in the system's own place for such things.
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Makes a certificate for this run, and a client's side of TLS that believes it and no other.
fn certificate(data: &Path) -> Result<(Files, TlsConnector), String> {
    let failed = |error: &dyn std::fmt::Display| format!("the sample certificate could not be made: {error}");
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).map_err(|error| failed(&error))?;
    let files = Files { certificate: data.join("certificate.pem"), key: data.join("key.pem") };
    for (path, text) in [(&files.certificate, made.cert.pem()), (&files.key, made.signing_key.serialize_pem())] {
        let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| failed(&error))?;
    }
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).map_err(|error| failed(&error))?;
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((files, Arc::new(tls).into()))
}

async fn start(data: &Path, files: Files) -> Result<Server, String> {
    let mut config = Config::load(Sources { file: Some("/dev/null".into()), environment: Vec::new(), data: Some(data.to_owned()) })
        .map_err(|error| error.to_string())?;
    config.drain_timeout = Duration::from_secs(2);
    let [http, https] = PREFERRED.map(|port| {
        let preferred = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let free = std::net::TcpListener::bind(preferred).is_ok();
        if free { preferred } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
    });
    config.http = http;
    config.https = Some((https, files));
    let server = Server::start(config).await?;
    let admin = server.identity().admin(Operator::Local { uid: rustix::process::getuid().as_raw() });
    let refused = |refusal: Refusal| format!("the sample accounts could not be made: {}", refusal.word());
    let scopes = USERS[0].2.iter().map(|&scope| scope.to_owned()).collect();
    admin.add_client(NewClient { id: CLIENT.to_owned(), scopes, ..NewClient::default() }).await.map_err(refused)?;
    for (name, password, scopes) in USERS {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let user = NewUser { name: name.to_owned(), scopes, password: Some(Secret::new(password)), ..NewUser::default() };
        let _: Account = admin.add_user(user).await.map_err(refused)?;
    }
    Ok(server)
}

/// The logins over the Zenith gate.
async fn log_in(http: SocketAddr, https: SocketAddr, tls: &TlsConnector) -> Result<(), String> {
    say(&format!("Zenith without TLS: ws://{http}/Zenith. Trading is for secured connections only, so it is withheld:"))?;
    let mut plain = Client::connect("0", http, None).await?;
    plain.send(&owner(1, "Shodan", "Insect")).await?;
    let answer = plain.next().await?;
    expect(answer["Data"]["Result"] == "Success", "Success")?;
    expect(answer["Data"]["Scope"] == json!(["Paritech.Zenith.Market"]), "Market alone")?;

    say(&format!("Over TLS: a client opens wss://{HOST}:{}/Zenith and subscribes to Identify.", https.port()))?;
    let mut first = Client::connect("1", https, Some(tls)).await?;
    first.send(&json!({"Controller": "Auth", "Topic": "Identify", "Action": "Sub", "Confirm": true})).await?;
    let answers = [first.next().await?, first.next().await?];
    expect(answers.iter().any(|answer| answer["Action"] == "Sub" && answer["Confirm"] == true), "a confirmation")?;
    expect(answers.iter().any(|answer| answer["Data"] == json!({"Result": "Reject"})), "nobody is logged in yet")?;

    say("A wrong password is rejected, in the same words as an unknown name:")?;
    first.send(&owner(1, "Shodan", "Inspect")).await?;
    let answer = first.next().await?;
    expect(
        answer == json!({"Controller": "Auth", "Topic": "Identify", "TransactionID": 1, "Data": {"Result": "Reject"}}),
        "Reject",
    )?;

    say("The right one is accepted, now with all that she holds, and Identify is pushed to the subscriber:")?;
    first.send(&owner(2, "Shodan", "Insect")).await?;
    let answer = first.next().await?;
    expect(answer["TransactionID"] == 2 && answer["Data"]["Result"] == "Success", "Success")?;
    expect(answer["Data"]["Scope"] == json!(["Paritech.Zenith.Market", "Paritech.Zenith.Trading"]), "the scopes that she holds")?;
    let token = answer["Data"]["AccessToken"].as_str().unwrap_or_default().to_owned();
    let pushed = first.next().await?;
    expect(pushed["TransactionID"].is_null() && pushed["Data"]["Result"] == "Success", "an Identify message")?;

    say("QueryIdentify says who the connection is:")?;
    first.send(&json!({"Controller": "Auth", "Topic": "QueryIdentify", "TransactionID": 3})).await?;
    let answer = first.next().await?;
    expect(answer["Data"]["Result"] == "Success" && answer["Data"]["UserID"] == "Shodan", "Success for Shodan")?;

    say("Another connection comes back with the token, and is given its successor:")?;
    let mut second = Client::connect("2", https, Some(tls)).await?;
    let restore = json!({"Provider": "Paritech", "AccessToken": token});
    second.send(&json!({"Controller": "Auth", "Topic": "AuthToken", "TransactionID": 1, "Data": restore})).await?;
    let answer = second.next().await?;
    expect(answer["Data"]["Result"] == "Success" && answer["Data"]["UserID"] == "Shodan", "Success for Shodan")?;
    expect(answer["Data"]["AccessToken"] != json!(token), "another token")?;

    say("A token that nobody issued is rejected:")?;
    let guess = json!({"Provider": "Paritech", "AccessToken": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="});
    second.send(&json!({"Controller": "Auth", "Topic": "AuthToken", "TransactionID": 2, "Data": guess})).await?;
    expect(second.next().await?["Data"] == json!({"Result": "Reject"}), "Reject")?;
    say("All answers were as expected.\n")
}

fn owner(transaction: u32, name: &str, password: &str) -> Value {
    let data = json!({
        "Provider": "Paritech", "ClientID": CLIENT, "UserName": name, "Password": password, "Scope": ["Paritech.Zenith"],
    });
    json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": transaction, "Data": data})
}

fn expect(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("the last answer should have been: {what}")) }
}

/// Bytes both ways.
trait Line: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Line for S {}

/// A client that prints what it says and hears.
struct Client {
    name: &'static str,
    stream: WebSocketStream<Box<dyn Line>>,
}

impl Client {
    async fn connect(name: &'static str, address: SocketAddr, tls: Option<&TlsConnector>) -> Result<Client, String> {
        let failed = |error: &dyn std::fmt::Display| format!("connection {name}: {error}");
        let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
        let stream: Box<dyn Line> = match tls {
            None => Box::new(stream),
            Some(tls) => {
                let host = ServerName::try_from(HOST).map_err(|error| failed(&error))?;
                Box::new(tls.connect(host, stream).await.map_err(|error| failed(&error))?)
            }
        };
        let mut request = format!("ws://{HOST}/Zenith?version=2.0").into_client_request().map_err(|error| failed(&error))?;
        request.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static("ZenithJson"));
        let (stream, _) = client_async(request, stream).await.map_err(|error| failed(&error))?;
        Ok(Client { name, stream })
    }

    async fn send(&mut self, message: &Value) -> Result<(), String> {
        say(&format!("  {} > {message}", self.name))?;
        let sent = self.stream.send(Message::text(message.to_string())).await;
        sent.map_err(|error| format!("connection {}: {error}", self.name))
    }

    async fn next(&mut self) -> Result<Value, String> {
        let next = tokio::time::timeout(PATIENCE, self.stream.next()).await.map_err(|_| "no answer came".to_owned())?;
        let message = next.ok_or("the server closed the connection")?.map_err(|error| error.to_string())?;
        let text = message.to_text().map_err(|error| error.to_string())?;
        say(&format!("  {} < {text}", self.name))?;
        serde_json::from_str(text).map_err(|error| format!("the answer is not JSON: {error}"))
    }
}
