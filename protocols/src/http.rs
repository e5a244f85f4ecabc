//! One HTTP request and its response, as a gate sees them.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::Conversation;
use crate::forward::Forward;
use crate::mount::Talk;

/// A request, parsed and bounded by the listener.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path as it was sent, without the query.
    pub path: String,
    /// The query without its `?`, where there is one.
    pub query: Option<String>,
    /// The header fields.
    pub headers: HeaderMap,
    /// Whether it is a well-formed WebSocket opening handshake (RFC 6455 section 4.2.1).
    pub upgrade: bool,
    /// Whether nobody on the way could read or change it.
    pub secure: bool,
    /// What came behind the header, whole; never longer than the mount takes. Nothing, where the exchange leaves the body to a service
    /// behind the gate.
    pub body: Bytes,
}

/// A response.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// What stands beside the status, where it is not the status's usual words.
    pub reason: Option<&'static str>,
    /// The header fields.
    pub headers: HeaderMap,
    /// What follows them.
    pub body: Body,
}

/// What follows the header fields.
pub enum Body {
    /// These bytes.
    Bytes(Bytes),
    /// A socket.
    Upgrade(Upgrade),
    /// Whatever a service behind the gate answers. The header fields of the response join those of its answer; its status counts.
    Forward(Box<Forward>),
}

/// A request that becomes a socket.
pub struct Upgrade {
    /// The sub-protocol chosen, to be echoed; none: the header is left out.
    pub subprotocol: Option<&'static str>,
    /// The longest message the peer may send, in bytes; more is closed with 1009.
    pub max_message: usize,
    /// What talks from now on.
    pub conversation: Box<dyn Talk>,
    /// The service behind the gate, where there is one.
    pub upstream: Option<Arc<Upstream>>,
}

/// A service behind a gate, as the driver must know it to open a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its address: `ws://host:port/path?query`.
    pub address: http::Uri,
    /// The sub-protocol to offer, which it must choose.
    pub subprotocol: &'static str,
    /// What `aud` says in the token that goes along.
    pub audience: String,
    /// The longest message it may send, in bytes; after a longer one the connection is given up.
    pub max_message: usize,
}

impl Response {
    /// An empty response.
    pub fn empty(status: StatusCode) -> Response {
        Response { status, reason: None, headers: HeaderMap::new(), body: Body::Bytes(Bytes::new()) }
    }

    /// A short text.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
        let mut response = Response::empty(status);
        response.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response.body = Body::Bytes(Bytes::from(text.into()));
        response
    }

    /// With one more header field, in the place of any of that name.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Response {
        self.headers.insert(name, value);
        self
    }

    /// The request becomes a socket on which `conversation` talks.
    pub fn upgrade(subprotocol: Option<&'static str>, max_message: usize, conversation: impl Conversation) -> Response {
        Response {
            status: StatusCode::SWITCHING_PROTOCOLS,
            reason: None,
            headers: HeaderMap::new(),
            body: Body::Upgrade(Upgrade {
                subprotocol,
                max_message,
                conversation: crate::mount::talk(conversation),
                upstream: None,
            }),
        }
    }

    /// The request goes on to a service, and what is in `headers` joins its answer.
    pub fn forward(forward: Forward, headers: HeaderMap) -> Response {
        Response { headers, body: Body::Forward(Box::new(forward)), ..Response::empty(StatusCode::OK) }
    }

    /// The conversation may pass messages on to this service. Without effect on a response that is no upgrade.
    #[must_use]
    pub fn before(mut self, service: Option<Arc<Upstream>>) -> Response {
        if let Body::Upgrade(upgrade) = &mut self.body {
            upgrade.upstream = service;
        }
        self
    }
}
