//! The demonstration: a throw-away server with sample accounts, and a client that logs in over each gate through a real
//! socket, as a client of that wire would.
//!
//! It decides what is shown and what is expected of each answer. It is the real server: only its accounts, its certificate, the
//! issuer whose tokens it takes, the feed and the terminal behind it are samples, its data directory is deleted at the end, and it listens on
//! loopback alone.

#[path = "../../examples/feed/service.rs"]
mod feed;
#[path = "../../examples/keys.rs"]
mod keys;
#[path = "../../examples/mirror/service.rs"]
mod mirror;
mod servicestack;
mod trueconf;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use gatepost_identity::account::Account;
use gatepost_identity::admin::{NewClient, NewUser, Operator};
use gatepost_identity::clock::{SystemEntropy, draw, system_now};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::secret::Secret;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::cli::say;
use crate::config::{Config, Sources};
use crate::listen::tls::Files;
use crate::serve::Server;
use crate::supervisor::Inherited;

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
/// The sample issuer, and whom its tokens are for.
const ISSUER: (&str, &str) = ("https://auth.example.org", "Zenith-API");
/// What the feed behind the gate calls itself.
const FEED: &str = "feed";
/// What the service behind the ServiceStack gate calls itself.
const MIRROR: &str = "mirror";
/// How often it has a new price.
const EVERY: Duration = Duration::from_millis(500);

/// Runs the demonstration; with `exit` it ends after the logins.
pub(crate) async fn run(exit: bool) -> Result<(), String> {
    let data = ThrowAway::new()?;
    let (files, tls) = certificate(&data.0)?;
    let issuer = Issuer::new();
    let behind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| format!("no port for the feed: {error}"))?;
    let reflecting =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| format!("no port for the mirror: {error}"))?;
    let device = trueconf::Device::begin().await?;
    let settings = settings(&data.0, &issuer, &behind, &reflecting, &device)?;
    let server = start(&data.0, settings, files.clone()).await?;
    let keys = server.http.to_string();
    let mirror = mirror::Mirror { keys: keys.clone(), audience: MIRROR.to_owned() };
    let feed = tokio::spawn(feed::serve(behind, feed::Feed { keys, audience: FEED.to_owned(), every: EVERY }));
    let mirror = tokio::spawn(mirror::serve(reflecting, mirror));
    let https = server.https.ok_or("there is no TLS")?;
    let shown = show(&server, https, &tls, &issuer, &device).await;
    if shown.is_ok() && !exit {
        let secure = format!("{HOST}:{}", https.port());
        say(&format!(
            "Serving wss://{secure}/Zenith, https://{secure}/auth and ws://{}/Zenith until Ctrl-C. The accounts:",
            server.http
        ))?;
        for (name, password, scopes) in USERS {
            say(&format!("  user {name}, password {password}, holds {}", scopes.join(", ")))?;
        }
        say(&format!("  client {CLIENT}, public; provider Paritech; certificate {}", files.certificate.display()))?;
        // Without a signal handler there is nothing to wait for; then the demonstration ends here.
        tokio::signal::ctrl_c().await.ok();
    }
    server.stop(std::future::pending()).await;
    feed.abort();
    mirror.abort();
    shown
}

/// What is shown, gate by gate.
async fn show(
    server: &Server,
    https: SocketAddr,
    tls: &TlsConnector,
    issuer: &Issuer,
    device: &trueconf::Device,
) -> Result<(), String> {
    log_in(server.http, https, tls).await?;
    subscribe(https, tls, issuer).await?;
    servicestack::log_in(https, tls).await?;
    servicestack::call_a_service(https, tls).await?;
    let addresses = server.addresses();
    let own = |name: &str| {
        let address = addresses["trueconf"][name].as_str().and_then(|address| address.parse().ok());
        address.ok_or_else(|| format!("there is no listener for {name}"))
    };
    trueconf::log_in([own("web")?, own("control.default")?, own("http")?], device).await?;
    say("All answers were as expected.\n")
}

/// Somebody else who vouches for people.
struct Issuer([u8; 32]);

impl Issuer {
    fn new() -> Issuer {
        Issuer(draw(&SystemEntropy))
    }

    /// Its key as it publishes it. One that both sides know keeps the sample short; a real issuer has a pair.
    fn keys(&self) -> String {
        json!({"keys": [{"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(self.0)}]}).to_string()
    }

    /// A token for Edward, good for so many seconds.
    fn token(&self, scope: &str, seconds: i64) -> Result<String, String> {
        let claims = json!({
            "iss": ISSUER.0, "aud": ISSUER.1, "sub": "Edward", "client_id": CLIENT, "scope": scope,
            "exp": system_now().millis() / 1000 + seconds,
        });
        let key = jsonwebtoken::EncodingKey::from_secret(&self.0);
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).map_err(|error| error.to_string())
    }
}

/// Writes the settings: whose tokens are taken, and what is behind the gate.
fn settings(
    data: &Path,
    issuer: &Issuer,
    behind: &TcpListener,
    reflecting: &TcpListener,
    device: &trueconf::Device,
) -> Result<PathBuf, String> {
    let failed = |error: std::io::Error| format!("the sample settings could not be written: {error}");
    let (keys, pin, file) = (data.join("issuer.json"), data.join("terminal-pin"), data.join("gatepost.toml"));
    let (feed, mirror) = (behind.local_addr().map_err(failed)?, reflecting.local_addr().map_err(failed)?);
    let (name, audience) = ISSUER;
    let terminal = device.address;
    let settings = format!(
        r#"
[[provider]]
name = "local"
kind = "local"
aliases = ["Paritech"]

[[provider]]
name = "Bearer"
kind = "token"
issuers = [{{ issuer = "{name}", audience = ["{audience}"], keys = {keys:?}, algorithms = ["HS256"] }}]

[zenith.upstream]
address = "ws://{feed}/"
audience = "{FEED}"
controllers = [{{ name = "Market", right = "Zenith/Market" }}, {{ name = "Trading", right = "Zenith/Trading" }}]

[servicestack]
client = "{CLIENT}"
providers = ["credentials", "basic", "apikey", "jwt"]

[[servicestack.service]]
path = "/mirror"
upstream = "http://{mirror}"
audience = "{MIRROR}"
asks = [{{ verbs = ["DELETE"], roles = ["Manager"] }}]

[trueconf]
web = "127.0.0.1:0"
http = "127.0.0.1:0"

[[trueconf.terminals]]
name = "default"
control = "127.0.0.1:0"
upstream = {{ address = "ws://{terminal}/", secret_file = {pin:?}, user_methods = ["call", "hangUp"] }}
"#
    );
    for (path, text) in [(&keys, issuer.keys()), (&pin, trueconf::PIN.to_owned()), (&file, settings)] {
        let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
    }
    Ok(file)
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

async fn start(data: &Path, settings: PathBuf, files: Files) -> Result<Server, String> {
    let sources = Sources { file: Some(settings), environment: Vec::new(), data: Some(data.to_owned()), ..Sources::default() };
    let mut config = Config::load(sources).map_err(|error| error.to_string())?;
    config.drain_timeout = Duration::from_secs(2);
    let [http, https] = PREFERRED.map(|port| {
        let preferred = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let free = std::net::TcpListener::bind(preferred).is_ok();
        if free { preferred } else { SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
    });
    config.http = http;
    config.https = Some((https, files));
    let server = Server::start(config, Inherited::default()).await?;
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
    expect(second.next().await?["Data"] == json!({"Result": "Reject"}), "Reject")
}

/// What a client came for: a feed behind the gate, on one socket, while its rights come and go.
async fn subscribe(https: SocketAddr, tls: &TlsConnector, issuer: &Issuer) -> Result<(), String> {
    let sub = |controller: &str, topic: &str| json!({"Controller": controller, "Topic": topic, "Action": "Sub", "Confirm": true});
    let bearer = |transaction: u32, token: String| {
        let data = json!({"Provider": "Bearer", "AccessToken": token});
        json!({"Controller": "Auth", "Topic": "AuthToken", "TransactionID": transaction, "Data": data})
    };
    let is_price = |message: &Value| message["Topic"] == "Quotes" && message["Action"].is_null();
    let is_identify = |message: &Value| message["Topic"] == "Identify" && message["Action"].is_null();
    let both = "Zenith/Market Zenith/Trading";

    say("Behind the gate is a feed. Nobody is logged in, so it is not asked:")?;
    let mut peer = Client::connect("3", https, Some(tls)).await?;
    peer.send(&sub("Market", "Quotes")).await?;
    expect(peer.next().await?["Data"] == "Authority" && peer.next().await?["Data"] == "Authority", "Authority")?;

    say("Edward comes with a token of another issuer, good for three seconds, and subscribes to prices and, twice, to orders:")?;
    peer.send(&bearer(1, issuer.token(both, 3)?)).await?;
    expect(peer.next().await?["Data"]["Result"] == "Success", "Success")?;
    for message in [
        json!({"Controller": "Auth", "Topic": "Identify", "Action": "Sub"}),
        sub("Market", "Quotes"),
        sub("Trading", "Orders"),
        sub("Trading", "Orders"),
    ] {
        peer.send(&message).await?;
    }
    let mut confirmed = 0;
    peer.until("three confirmations", |message| {
        confirmed += u8::from(message["Confirm"] == true);
        confirmed == 3
    })
    .await?;

    say("Prices come until his token ends. Then the connection stays, and nothing is delivered any more:")?;
    let mut prices = 0;
    peer.until("Reject", |message| {
        prices += u32::from(is_price(message));
        is_identify(message) && message["Data"]["Result"] == "Reject"
    })
    .await?;
    expect(prices > 0, "at least one price before the end")?;
    tokio::time::sleep(3 * EVERY).await;
    peer.send(&json!({"Controller": "Auth", "Topic": "QueryIdentify", "TransactionID": 2})).await?;
    let answer = peer.next().await?;
    expect(answer["TransactionID"] == 2 && answer["Data"]["Result"] == "Reject", "Reject, and no price before it")?;

    say("He sends a new one. Deliveries resume without a new subscription:")?;
    peer.send(&bearer(3, issuer.token(both, 600)?)).await?;
    let answer = peer.next().await?;
    expect(answer["TransactionID"] == 3 && answer["Data"]["Result"] == "Success", "Success")?;
    peer.until("a price", is_price).await?;

    say("A token with fewer rights: an error for what they no longer allow, and one Unsub for each of the two subscriptions:")?;
    peer.send(&bearer(4, issuer.token("Zenith/Market", 600)?)).await?;
    peer.until("Success", |message| message["TransactionID"] == 4 && message["Data"]["Result"] == "Success").await?;
    let lost = |message: &Value| message["Controller"] == "Trading";
    let error = peer.until("an error", lost).await?;
    expect(error["Action"] == "Error" && error["Data"] == "Authority", "Authority")?;
    for _ in 0..2 {
        let ended = peer.until("an Unsub", lost).await?;
        expect(ended["Action"] == "Unsub" && ended["Confirm"] == true, "an Unsub")?;
    }
    peer.until("a price", is_price).await.map(drop)
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

/// A connection, over TLS where that is given.
async fn line(address: SocketAddr, tls: Option<&TlsConnector>) -> std::io::Result<Box<dyn Line>> {
    let stream = TcpStream::connect(address).await?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let host = ServerName::try_from(HOST).map_err(std::io::Error::other)?;
    Ok(Box::new(tls.connect(host, stream).await?))
}

/// A client that prints what it says and hears.
struct Client {
    name: &'static str,
    stream: WebSocketStream<Box<dyn Line>>,
}

impl Client {
    /// A client of the Zenith gate.
    async fn connect(name: &'static str, address: SocketAddr, tls: Option<&TlsConnector>) -> Result<Client, String> {
        let stream = line(address, tls).await.map_err(|error| format!("connection {name}: {error}"))?;
        Client::open(name, stream, "/Zenith?version=2.0", Some("ZenithJson")).await
    }

    async fn open(
        name: &'static str,
        stream: Box<dyn Line>,
        path: &str,
        subprotocol: Option<&'static str>,
    ) -> Result<Client, String> {
        let failed = |error: &dyn std::fmt::Display| format!("connection {name}: {error}");
        let mut request = format!("ws://{HOST}{path}").into_client_request().map_err(|error| failed(&error))?;
        if let Some(subprotocol) = subprotocol {
            request.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static(subprotocol));
        }
        let (stream, _) = client_async(request, stream).await.map_err(|error| failed(&error))?;
        Ok(Client { name, stream })
    }

    async fn send(&mut self, message: &Value) -> Result<(), String> {
        say(&format!("  {} > {message}", self.name))?;
        let sent = self.stream.send(Message::text(message.to_string())).await;
        sent.map_err(|error| format!("connection {}: {error}", self.name))
    }

    /// The first message that `is_it`.
    async fn until(&mut self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Result<Value, String> {
        for _ in 0..100 {
            let message = self.next().await?;
            if is_it(&message) {
                return Ok(message);
            }
        }
        Err(format!("among a hundred answers should have been: {what}"))
    }

    async fn next(&mut self) -> Result<Value, String> {
        let next = tokio::time::timeout(PATIENCE, self.stream.next()).await.map_err(|_| "no answer came".to_owned())?;
        let message = next.ok_or("the server closed the connection")?.map_err(|error| error.to_string())?;
        let text = message.to_text().map_err(|error| error.to_string())?;
        say(&format!("  {} < {text}", self.name))?;
        serde_json::from_str(text).map_err(|error| format!("the answer is not JSON: {error}"))
    }
}
