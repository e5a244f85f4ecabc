//! The service behind the gate as a transcript plays it: what it sees and says is in the script, the sockets are here.
//!
//! Behind the Zenith gate each of the peer's connections has one of its own. Behind a terminal they share one, on which the gate logs
//! in first; that is done here, so that a script begins where panels do.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept, accept_hdr};

use crate::transcripts::script::{Service, Upward};

/// How long the gate may take for what the script waits for; longer than its pause before another attempt.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must come for it to be nothing.
const QUIET: Duration = Duration::from_millis(200);

/// How often a connection is looked for.
const STEP: Duration = Duration::from_millis(5);

/// A service, and its connections by the number of the peer's that the script says they are for.
pub(crate) struct Played {
    address: SocketAddr,
    /// None while it is gone.
    listener: Option<TcpListener>,
    sockets: BTreeMap<u32, WebSocket<TcpStream>>,
    /// Whether all connections share the first one.
    shared: bool,
}

/// What stands in a script for the address of the device behind a terminal.
const DEVICE: &str = "ws://127.0.0.1:1/";
/// What it says to our login.
const LET_IN: &str = r#"{"method":"auth","requestId":"0","previleges":2,"result":true,"resultCode":0}"#;

struct Agreed;

impl Callback for Agreed {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        assert!(request.headers().contains_key("authorization"), "the service is told who is there: {request:?}");
        response.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static("ZenithJson"));
        Ok(response)
    }
}

impl Played {
    /// The service that settings name, at an address of its own, which takes the place of theirs.
    pub(crate) fn of(settings: &mut [String]) -> Option<Played> {
        let is_zeniths = |line: &str| line.starts_with("zenith.upstream.address");
        let line = settings.iter_mut().find(|line| is_zeniths(line) || line.contains(DEVICE))?;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        // The address of a service begins as that of a device does.
        let shared = !is_zeniths(line);
        *line = match shared {
            true => line.replace(DEVICE, &format!("ws://{address}/")),
            false => format!("zenith.upstream.address = \"ws://{address}/Feed\""),
        };
        Some(Played { address, listener: Some(listener), sockets: BTreeMap::new(), shared })
    }

    /// Lets the gate in, where it comes by itself.
    pub(crate) fn begin(&mut self) -> Result<(), String> {
        if self.shared { self.act(1, &Service::Restored) } else { Ok(()) }
    }

    fn number(&self, connection: u32) -> u32 {
        if self.shared { 1 } else { connection }
    }

    /// Does what the script says. What is said where there is no connection is heard by nobody.
    pub(crate) fn act(&mut self, connection: u32, what: &Service) -> Result<(), String> {
        let connection = self.number(connection);
        match what {
            Service::Says(text) => match self.sockets.get_mut(&connection) {
                Some(socket) => socket.send(Message::text(text.as_str())).map_err(|error| error.to_string()),
                None => Ok(()),
            },
            Service::Lost => {
                // What goes up unseen before it is gone would be seen by nobody.
                let left = self.within(connection, QUIET)?;
                self.listener = None;
                self.sockets.remove(&connection);
                if left == Upward::Nothing { Ok(()) } else { Err(format!("went up before the service was gone: {left:?}")) }
            }
            Service::Restored => {
                if self.listener.is_none() {
                    self.listener = Some(TcpListener::bind(self.address).map_err(|error| error.to_string())?);
                }
                self.socket(connection, PATIENCE)?.map(drop).ok_or("the gate does not come".to_owned())
            }
        }
    }

    /// The next thing that comes of a connection.
    pub(crate) fn next(&mut self, connection: u32) -> Result<Upward, String> {
        self.within(self.number(connection), PATIENCE)
    }

    /// Nothing more has come.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        let all: Vec<u32> = self.sockets.keys().copied().collect();
        for connection in all {
            match self.within(connection, QUIET)? {
                Upward::Nothing => {}
                more => return Err(format!("of connection {connection} something more went up: {more:?}")),
            }
        }
        if self.accept(Duration::ZERO)?.is_some() { Err("one connection more was opened".to_owned()) } else { Ok(()) }
    }

    fn within(&mut self, connection: u32, patience: Duration) -> Result<Upward, String> {
        let Some(socket) = self.socket(connection, patience)? else { return Ok(Upward::Nothing) };
        socket.get_ref().set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => return Ok(Upward::Text(text.as_str().to_owned())),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Err(tokio_tungstenite::tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Ok(Upward::Nothing);
                }
                Ok(Message::Close(_)) | Err(_) => {
                    self.sockets.remove(&connection);
                    return Ok(Upward::Part);
                }
                Ok(other) => return Err(format!("{other:?} has no place on this wire")),
            }
        }
    }

    fn socket(&mut self, connection: u32, patience: Duration) -> Result<Option<&mut WebSocket<TcpStream>>, String> {
        if !self.sockets.contains_key(&connection)
            && let Some(stream) = self.accept(patience)?
        {
            stream.set_nonblocking(false).map_err(|error| error.to_string())?;
            let socket =
                if self.shared { let_in(stream)? } else { accept_hdr(stream, Agreed).map_err(|error| error.to_string())? };
            self.sockets.insert(connection, socket);
        }
        Ok(self.sockets.get_mut(&connection))
    }

    fn accept(&mut self, patience: Duration) -> Result<Option<TcpStream>, String> {
        let Some(listener) = &self.listener else { return Ok(None) };
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        let mut left = patience;
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                Err(_) if left.is_zero() => return Ok(None),
                Err(_) => {
                    std::thread::sleep(STEP);
                    left = left.saturating_sub(STEP);
                }
            }
        }
    }
}

/// Accepts the gate at a device, answers its login, and sees that it has taken note.
fn let_in(stream: TcpStream) -> Result<WebSocket<TcpStream>, String> {
    let failed = |error: tokio_tungstenite::tungstenite::Error| error.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let mut socket = accept(stream).map_err(|error| error.to_string())?;
    match socket.read().map_err(failed)? {
        Message::Text(text) if text.contains("\"method\":\"auth\"") => socket.send(Message::text(LET_IN)).map_err(failed)?,
        other => return Err(format!("the gate should have logged in, and said {other:?}")),
    }
    // It answers in order, so that with this it has read the other.
    socket.send(Message::Ping(Vec::new().into())).map_err(failed)?;
    match socket.read().map_err(failed)? {
        Message::Pong(_) => Ok(socket),
        other => Err(format!("the gate should have answered a ping, and said {other:?}")),
    }
}
