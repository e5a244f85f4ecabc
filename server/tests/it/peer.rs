//! The other end of a WebSocket, by hand: it can say what no library would, and takes nothing that RFC 6455 forbids.
//!
//! It shares no code with the server, whose own library could otherwise be wrong on both sides. It knows how a Zenith
//! request looks; what an answer should be, the tests know.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::harness::LIMIT;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The sample nonce of RFC 6455 section 1.3, and what must be answered to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One frame, its bits checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// A header's value; names are in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The other end of one connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: Line,
    received: Vec<u8>,
    last_transaction: i64,
}

/// What the bytes go over.
#[derive(Debug)]
enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Line::Plain(stream) => stream.read(into),
            Line::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Line::Plain(stream) => stream.write(bytes),
            Line::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Line::Plain(stream) => stream.flush(),
            Line::Tls(stream) => stream.flush(),
        }
    }
}

/// A loopback address of its own for each number but 0, which is 127.0.0.1.
fn loopback(source: u16) -> Ipv4Addr {
    match source.to_be_bytes() {
        [0, 0] => Ipv4Addr::LOCALHOST,
        [high, low] => Ipv4Addr::new(127, 7, high, low),
    }
}

fn dial(http: SocketAddr, source: u16) -> std::io::Result<Line> {
    dial_plain(http, source).map(Line::Plain)
}

/// A connection with nothing around it.
pub(crate) fn dial_plain(http: SocketAddr, source: u16) -> std::io::Result<TcpStream> {
    let SocketAddr::V4(http) = http else { panic!("{http} is not where tests listen") };
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(loopback(source), 0))?;
    rustix::net::connect(&socket, &http)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The request of an opening handshake, with further header lines.
pub(crate) fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

/// Any HTTP request on a connection of its own.
pub(crate) fn http(http: SocketAddr, source: u16, request: &str) -> Response {
    match Peer::request(http, source, request) {
        Ok(_) => panic!("an upgrade was not expected: {request}"),
        Err(response) => response,
    }
}

impl Peer {
    /// A WebSocket that speaks ZenithJson.
    pub(crate) fn connect(http: SocketAddr, source: u16) -> Peer {
        Peer::upgrade(http, source, "/Zenith?version=2.0", "").expect("the handshake is good")
    }

    /// A WebSocket that speaks ZenithJson, or why not.
    pub(crate) fn upgrade(http: SocketAddr, source: u16, path: &str, more: &str) -> Result<Peer, Response> {
        Peer::dial(http, source).become_zenith(path, more)
    }

    /// As [`Peer::upgrade`], on a connection that is there.
    pub(crate) fn become_zenith(self, path: &str, more: &str) -> Result<Peer, Response> {
        let more = format!("Sec-WebSocket-Protocol: ZenithJson\r\n{more}");
        let (peer, response) = self.exchange(&handshake(path, &more))?;
        assert_eq!(response.header("sec-websocket-protocol"), Some("ZenithJson"), "{response:?}");
        Ok(peer)
    }

    /// A bare connection.
    pub(crate) fn dial(http: SocketAddr, source: u16) -> Peer {
        Peer { stream: dial(http, source).expect("the server accepts"), received: Vec::new(), last_transaction: 0 }
    }

    /// Speaks TLS on a connection that is there, if the server's certificate is one that is believed.
    pub(crate) fn over_tls(self, believed: &Arc<ClientConfig>) -> std::io::Result<Peer> {
        let Line::Plain(mut socket) = self.stream else { panic!("it speaks TLS already") };
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(believed), name).expect("a good configuration");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(Peer { stream: Line::Tls(Box::new(StreamOwned::new(tls, socket))), ..self })
    }

    /// Sends a request; on 101 goes on as a WebSocket.
    pub(crate) fn request(http: SocketAddr, source: u16, request: &str) -> Result<(Peer, Response), Response> {
        Peer::dial(http, source).exchange(request)
    }

    /// As [`Peer::request`], on a connection that is there.
    pub(crate) fn exchange(mut self, request: &str) -> Result<(Peer, Response), Response> {
        self.write(request.as_bytes());
        self.answered(request)
    }

    /// The rest of [`Peer::exchange`], where the request is written already.
    pub(crate) fn answered(self, request: &str) -> Result<(Peer, Response), Response> {
        let mut peer = self;
        let end = loop {
            if let Some(end) = peer.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(peer.fill(), "the connection ended within a header: {:?}", String::from_utf8_lossy(&peer.received));
        };
        let head = String::from_utf8(peer.received.drain(..end).collect()).expect("a header in UTF-8");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let mut response = Response { status, head, body: String::new() };
        if status == 101 {
            assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT), "{response:?}");
            return Ok((peer, response));
        }
        let said = response.header("content-length").filter(|_| !request.starts_with("HEAD "));
        let length = said.map_or(0, |length| length.parse().expect("a length"));
        while peer.received.len() < length {
            assert!(peer.fill(), "the connection ended within a body: {response:?}");
        }
        response.body = String::from_utf8_lossy(&peer.received[..length]).into_owned();
        Err(response)
    }

    /// A WebSocket, unless the server was gone before it had answered.
    pub(crate) fn connect_unless_gone(http: SocketAddr) -> Option<Peer> {
        let mut peer = Peer { stream: dial(http, 0).ok()?, received: Vec::new(), last_transaction: 0 };
        peer.stream.write_all(handshake("/Zenith", "").as_bytes()).ok()?;
        let end = loop {
            if let Some(end) = peer.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            peer.fill().then_some(())?;
        };
        let head: Vec<u8> = peer.received.drain(..end).collect();
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&head));
        Some(peer)
    }

    /// Logs in on a connection of its own, which ends with it. `None`: the server was gone before the answer was.
    pub(crate) fn login_unless_gone(http: SocketAddr, name: &str, password: &str) -> Option<Answer> {
        let mut peer = Peer::connect_unless_gone(http)?;
        let login = json!({"Controller": "Auth", "Topic": "AuthOwner", "TransactionID": 1, "Data": owner(name, password)});
        peer.stream.write_all(&frame(TEXT, login.to_string().as_bytes())).ok()?;
        loop {
            if let Some(frame) = peer.parse() {
                let answer = serde_json::from_slice(&frame.payload);
                return Some(Answer(answer.unwrap_or_else(|error| panic!("{error}: {frame:?}"))));
            }
            peer.fill().then_some(())?;
        }
    }

    /// Bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// As [`Peer::write`], where the server may have turned away already.
    pub(crate) fn write_if_read(&mut self, bytes: &[u8]) {
        self.try_write(bytes);
    }

    /// Whether the bytes could be written before the server hung up.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
            Err(error) => panic!("the server neither read nor hung up within {LIMIT:?}: {error}"),
        }
    }

    /// Writes the same again and again and reads nothing until the server hangs up. Tells after each write how many bytes it
    /// took. The system holds as little as it may for a peer that does not read.
    pub(crate) fn write_until_hung_up(mut self, bytes: &[u8], mut took: impl FnMut(usize)) {
        let socket = match &self.stream {
            Line::Plain(stream) => stream,
            Line::Tls(stream) => &stream.sock,
        };
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, 4096).expect("the smallest there is");
        let mut rest = bytes;
        loop {
            match self.stream.write(rest) {
                Ok(taken) => {
                    took(taken);
                    rest = if taken < rest.len() { &rest[taken..] } else { bytes };
                }
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return,
                Err(error) => panic!("the server neither read nor hung up within {LIMIT:?}: {error}"),
            }
        }
    }

    /// A second hold on the connection that can only write, so that one thread writes while another reads.
    pub(crate) fn writer(&self) -> impl FnOnce(&[u8]) + Send + 'static {
        let Line::Plain(stream) = &self.stream else { panic!("TLS has one writer") };
        let mut stream = stream.try_clone().expect("a second descriptor");
        move |bytes| stream.write_all(bytes).expect("the server reads")
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.write(&frame(TEXT, text.as_bytes()));
    }

    /// The next frame, whatever it is. `None`: the connection ended.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            if !self.fill() {
                assert!(self.received.is_empty(), "the connection ended within a frame");
                return None;
            }
        }
    }

    /// As [`Peer::frame`], where the server may have died within one.
    pub(crate) fn frame_unless_gone(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            self.fill().then_some(())?;
        }
    }

    /// The next message, as it stands; pings are answered on the way.
    pub(crate) fn next_text(&mut self) -> String {
        loop {
            let frame = self.frame().expect("a message, but the connection ended");
            match frame.opcode {
                TEXT => return String::from_utf8(frame.payload).expect("UTF-8"),
                PING => self.write(&crate::peer::frame(PONG, &frame.payload)),
                _ => panic!("a message was expected, and not {frame:?}"),
            }
        }
    }

    pub(crate) fn next(&mut self) -> Value {
        let text = self.next_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The close that must come next, and its reason. Answers it, and sees the connection end.
    pub(crate) fn closed(&mut self) -> (u16, String) {
        let told = self.told_to_close();
        self.ended();
        told
    }

    /// As [`Peer::closed`], without waiting for the end.
    pub(crate) fn told_to_close(&mut self) -> (u16, String) {
        loop {
            let frame = self.frame().expect("a close, but the connection ended");
            match frame.opcode {
                CLOSE => {
                    self.write_if_read(&crate::peer::frame(CLOSE, &frame.payload));
                    let (code, reason) = frame.payload.split_at(2);
                    return (u16::from_be_bytes([code[0], code[1]]), String::from_utf8(reason.to_vec()).expect("UTF-8"));
                }
                PING => {}
                _ => panic!("a close was expected, and not {frame:?}"),
            }
        }
    }

    /// Sees the connection end without another frame.
    pub(crate) fn ended(&mut self) {
        assert_eq!(self.frame(), None, "nothing comes after a close");
    }

    /// Sees the connection end, and gives back what came before that, whatever it is.
    pub(crate) fn hung_up(mut self) -> Vec<u8> {
        while self.fill() {}
        self.received
    }

    /// Waits until the server hangs up, in whichever way.
    pub(crate) fn hung_up_or_reset(mut self) {
        let mut scratch = [0; 512];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return,
                Err(error) => panic!("the server did not hang up within {LIMIT:?}: {error}"),
            }
        }
    }

    /// Sends this and says that there will be no more; waits until the server hangs up, too.
    pub(crate) fn half_closed(mut self, bytes: &[u8]) {
        self.write(bytes);
        let Line::Plain(stream) = &self.stream else { panic!("TLS has an end of its own") };
        stream.shutdown(std::net::Shutdown::Write).expect("it is open");
        self.hung_up_or_reset();
    }

    /// As [`Peer::writer`], again and again until the server has hung up.
    pub(crate) fn writer_unless_gone(&self) -> impl FnMut(&[u8]) -> bool + Send + 'static {
        let Line::Plain(stream) = &self.stream else { panic!("TLS has one writer") };
        let mut stream = stream.try_clone().expect("a second descriptor");
        move |bytes| stream.write_all(bytes).is_ok()
    }

    /// Sends a request without Action, and gives back its answer, which must come next.
    pub(crate) fn ask(&mut self, topic: &str, data: Value) -> Answer {
        self.put(topic, data);
        self.heard()
    }

    /// Sends a request without Action, and waits for nothing.
    pub(crate) fn put(&mut self, topic: &str, data: Value) {
        self.last_transaction += 1;
        self.send(&json!({"Controller": "Auth", "Topic": topic, "TransactionID": self.last_transaction, "Data": data}));
    }

    /// The answer to what was last put, which must come next.
    pub(crate) fn heard(&mut self) -> Answer {
        let answer = self.next();
        assert_eq!(answer["TransactionID"], self.last_transaction, "{answer}");
        Answer(answer)
    }

    /// Logs in through `app`.
    pub(crate) fn login(&mut self, name: &str, password: &str) -> Answer {
        self.ask("AuthOwner", owner(name, password))
    }

    /// Comes back with a token.
    pub(crate) fn restore(&mut self, token: &str) -> Answer {
        self.restore_at("Paritech", token)
    }

    pub(crate) fn restore_at(&mut self, provider: &str, token: &str) -> Answer {
        self.ask("AuthToken", bearer(provider, token))
    }

    pub(crate) fn query(&mut self) -> Answer {
        self.ask("QueryIdentify", Value::Null)
    }

    /// Subscribes to Identify, and gives back the state that is told at once.
    pub(crate) fn subscribe(&mut self) -> Answer {
        self.send(&json!({"Controller": "Auth", "Topic": "Identify", "Action": "Sub"}));
        self.told()
    }

    /// What Identify publishes next.
    pub(crate) fn told(&mut self) -> Answer {
        let told = self.next();
        let is_published = told["Topic"] == "Identify" && told.get("TransactionID").is_none() && told.get("Action").is_none();
        assert!(is_published, "{told}");
        Answer(told)
    }

    /// A whole frame from the front of what was received.
    fn parse(&mut self) -> Option<Frame> {
        let &[first, second, ..] = self.received.as_slice() else { return None };
        assert_eq!(first & 0x70, 0, "reserved bits: {first:#x}");
        assert_eq!(first & 0x80, 0x80, "this server has no reason to fragment");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (length, begin) = match second {
            126 => (usize::from(u16::from_be_bytes(self.received.get(2..4)?.try_into().ok()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(self.received.get(2..10)?.try_into().ok()?)).ok()?, 10),
            short => (usize::from(short), 2),
        };
        let payload = self.received.get(begin..begin + length)?.to_vec();
        self.received.drain(..begin + length);
        Some(Frame { opcode: first & 0x0F, payload })
    }

    /// Reads more. `false`: there is no more.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(read) => {
                self.received.extend_from_slice(&chunk[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came within {LIMIT:?}: {error}"),
        }
    }
}

/// The Data of a login through `app`.
pub(crate) fn owner(name: &str, password: &str) -> Value {
    json!({"Provider": "Paritech", "ClientID": "app", "UserName": name, "Password": password})
}

/// The Data of a return with a token.
pub(crate) fn bearer(provider: &str, token: &str) -> Value {
    json!({"Provider": provider, "AccessToken": token})
}

/// A whole masked frame.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    raw_frame(0x80 | opcode, true, payload)
}

/// A frame with this first byte, masked or not.
pub(crate) fn raw_frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let flag = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(flag | length as u8),
        length @ 126..65536 => {
            bytes.push(flag | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(flag | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// A message of the server's.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer(pub(crate) Value);

impl Answer {
    /// `Success`, `Reject`, or the code of an error.
    pub(crate) fn outcome(&self) -> &str {
        let word = if self.0["Action"] == "Error" { &self.0["Data"] } else { &self.0["Data"]["Result"] };
        word.as_str().unwrap_or_else(|| panic!("no outcome in {}", self.0))
    }

    /// The token of a Success.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.outcome(), "Success", "{}", self.0);
        self.0["Data"]["AccessToken"].as_str().unwrap_or_else(|| panic!("no token in {}", self.0)).to_owned()
    }

    /// Sees that it is the bare refusal, with no reason and no token.
    #[track_caller]
    pub(crate) fn rejected(&self) {
        assert_eq!(self.0["Data"], json!({"Result": "Reject"}), "{}", self.0);
    }

    /// Sees that it is a Success.
    #[track_caller]
    pub(crate) fn granted(&self) {
        assert_eq!(self.outcome(), "Success", "{}", self.0);
    }

    /// Sees that it is this error.
    #[track_caller]
    pub(crate) fn failed(&self, code: &str) {
        assert_eq!((&self.0["Action"], &self.0["Data"]), (&json!("Error"), &json!(code)), "{}", self.0);
    }

    pub(crate) fn scope(&self) -> &Value {
        &self.0["Data"]["Scope"]
    }
}
