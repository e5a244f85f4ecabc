//! The reference programs: the same work with nothing around it.
//!
//! Each is this binary again, in a process of its own, with the profile, the allocator and the crates of the server.

use std::io::BufRead;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, Utf8Bytes, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatepost_identity::clock::system_instant;
use gatepost_identity::password::PasswordSettings;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;

use crate::Outcome;
use crate::measure::{duration_at, say};

/// What the server reads from a socket at a time.
const READ_BUFFER: usize = 1024;

/// A bare loop of the hash, each thread keeping its block. For each line `THREADS COUNT` that it hears, it evaluates that
/// many, and says the microseconds of all of them and of the median one.
pub(crate) fn hash() -> Outcome<()> {
    let settings = PasswordSettings::default();
    let params = Params::new(settings.memory, settings.iterations, settings.lanes, Some(32)).map_err(|error| error.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let mut memories: Vec<Vec<Block>> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (threads, count) = line.split_once(' ').ok_or("a line is THREADS COUNT")?;
        let (threads, count): (usize, usize) = (threads.parse()?, count.parse()?);
        memories.resize_with(threads.max(memories.len()), || vec![Block::default(); params.block_count()]);
        let taken = AtomicUsize::new(0);
        let began = system_instant();
        let work = |memory: &mut Vec<Block>| {
            let mut took = Vec::new();
            while taken.fetch_add(1, Ordering::Relaxed) < count {
                let began = system_instant();
                let mut output = [0; 32];
                argon2.hash_password_into_with_memory(b"correct horse battery staple", &[7; 16], &mut output, &mut *memory)?;
                took.push(system_instant() - began);
            }
            Ok::<_, argon2::Error>(took)
        };
        let took = std::thread::scope(|scope| {
            let threads: Vec<_> = memories[..threads].iter_mut().map(|memory| scope.spawn(|| work(memory))).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())).collect::<Vec<_>>()
        });
        let all = system_instant() - began;
        let mut each: Vec<Duration> = Vec::new();
        for took in took {
            each.extend(took?.map_err(|error| error.to_string())?);
        }
        say(&format!("{} {}", all.as_micros(), duration_at(&mut each, 0.5).as_micros()))?;
    }
    Ok(())
}

/// A bare axum WebSocket that answers every text with one of as many bytes as the server's answer has, or without such a
/// length with that very text, as a service behind the gate would. It says its address.
pub(crate) fn echo(answer: Option<&str>) -> Outcome<()> {
    let answer: Option<usize> = answer.map(str::parse).transpose()?;
    let answer = answer.map(|length| Utf8Bytes::from("x".repeat(length)));
    // A gate's path, and a terminal's.
    serve(Router::new().route("/Zenith", get(open)).route("/", get(open)).with_state(answer))
}

/// Serves this on a port of the system's choosing, and says where.
fn serve(router: Router) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        say(&listener.local_addr()?.to_string())?;
        // As the server does.
        let listener = listener.tap_io(|stream| {
            stream.set_nodelay(true).ok();
        });
        Ok(axum::serve(listener, router).await?)
    })
}

async fn open(State(answer): State<Option<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> Response {
    // A gate insists on it.
    let upgrade = upgrade.protocols(["ZenithJson"]);
    upgrade.read_buffer_size(READ_BUFFER).write_buffer_size(READ_BUFFER * 4).on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message
                && socket.send(Message::Text(answer.clone().unwrap_or(text))).await.is_err()
            {
                return;
            }
        }
    })
}

/// What is told of a body of ours.
const JSON: [(axum::http::HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];
/// An answer's head, but for the digits of its length.
const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: \r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

/// A body with which an answer has this many bytes, head and all.
fn filling(answer: &str) -> Outcome<Bytes> {
    let answer: usize = answer.parse()?;
    let fills = |body: &usize| HEAD.len() + body.to_string().len() + body == answer;
    let body = (0..answer).find(fills).ok_or("there is no answer of that length")?;
    Ok("x".repeat(body).into())
}

/// A bare axum server that reads every request and looks at nothing, and answers with as many bytes as the server does; or without
/// such a number with the body that it was sent, as a service behind the gate would. It says its address.
pub(crate) fn http(answer: Option<&str>) -> Outcome<()> {
    let Some(answer) = answer else {
        return serve(Router::new().fallback(async |body: Bytes| (JSON, body)));
    };
    let answer = filling(answer)?;
    serve(Router::new().fallback(async move |_request: Bytes| (JSON, answer.clone())))
}

/// The same, for requests with a signed token, which it verifies each time. It first hears the key, in base64: the secret, or the
/// public half.
pub(crate) fn jwt(answer: &str, algorithm: &str) -> Outcome<()> {
    let answer = filling(answer)?;
    let mut key = String::new();
    std::io::stdin().read_line(&mut key)?;
    let key = STANDARD.decode(key.trim())?;
    let (algorithm, key) = match algorithm {
        "HS256" => (jsonwebtoken::Algorithm::HS256, DecodingKey::from_secret(&key)),
        "RS256" => (jsonwebtoken::Algorithm::RS256, DecodingKey::from_rsa_der(&key)),
        _ => return Err("there is no such algorithm here".into()),
    };
    let mut validation = Validation::new(algorithm);
    validation.validate_aud = false;
    let known = std::sync::Arc::new((key, validation, answer));
    serve(Router::new().fallback(async move |headers: HeaderMap, _request: Bytes| {
        let (key, validation, answer) = &*known;
        let field = headers.get(AUTHORIZATION).and_then(|field| field.to_str().ok());
        let token = field.and_then(|field| field.strip_prefix("Bearer "));
        match token.map(|token| jsonwebtoken::decode::<Value>(token, key, validation)) {
            Some(Ok(token)) if token.claims["sub"].is_string() => (JSON, answer.clone()).into_response(),
            _ => StatusCode::UNAUTHORIZED.into_response(),
        }
    }))
}

/// A bare proxy, of axum and of the library that the server reaches services with: every request goes on to this address as it is,
/// and so does its answer, body and all. It says its address.
pub(crate) fn proxy(to: &str) -> Outcome<()> {
    let to: Authority = to.parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Body> =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).set_host(false).build(connector);
    serve(Router::new().fallback(async move |mut request: Request| {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(to.clone()));
        let Ok(uri) = Uri::from_parts(parts) else { return StatusCode::BAD_REQUEST.into_response() };
        *request.uri_mut() = uri;
        client.request(request).await.map_or_else(|_| StatusCode::BAD_GATEWAY.into_response(), IntoResponse::into_response)
    }))
}
