//! A client's end of a WebSocket, as small as it can be, so that the loader is cheaper than what it measures.
//!
//! Frames are written by hand: always masked, by a mask that does not change, which a server cannot tell from chance. It
//! refuses to know what the messages mean, but for the three words of an answer to a login.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Outcome;
use crate::sockets::Connection;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A text frame.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    frame(TEXT, text.as_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The first frame of what a server sent: its opcode and where its payload lies. `None`: it is not all there yet.
fn first_frame(bytes: &[u8]) -> Option<(u8, Range<usize>)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (begin, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= begin + length).then_some((first & 0x0f, begin..begin + length))
}

/// What a socket is opened for: the path, and the fields that this wire adds.
#[derive(Clone, Copy)]
struct Opening(&'static str, &'static str);

const ZENITH: Opening = Opening("/Zenith?version=2.0", "Sec-WebSocket-Protocol: ZenithJson\r\n");
const TERMINAL: Opening = Opening("/", "");

fn opening(Opening(path, fields): Opening, to: SocketAddr) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// A connection from this address.
pub(crate) async fn dial(from: Ipv4Addr, to: SocketAddr) -> Outcome<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Bytes both ways.
pub(crate) trait Line: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Line for S {}

/// An open socket.
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    read: Vec<u8>,
}

/// What a login came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Login {
    /// It was granted, with this token.
    Granted(String),
    /// The server is busy: come again.
    Busy,
}

impl Client {
    /// Opens a socket from this address.
    pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> Outcome<Client> {
        Client::open(dial(from, to).await?, to, ZENITH).await
    }

    /// Opens the control socket of a terminal from this address.
    pub(crate) async fn connect_to_terminal(from: Ipv4Addr, to: SocketAddr) -> Outcome<Client> {
        Client::open(dial(from, to).await?, to, TERMINAL).await
    }

    /// The same socket for a thread that blocks on it.
    pub(crate) fn blocking(self) -> Outcome<Blocking> {
        let stream = self.stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(Blocking { stream, read: vec![0; 64 * 1024], begin: 0, end: 0 })
    }
}

impl Client<TlsStream<TcpStream>> {
    /// Opens a socket over TLS from this address to a server whose certificate is for `host`.
    pub(crate) async fn connect_secured(
        from: Ipv4Addr,
        to: SocketAddr,
        tls: &TlsConnector,
        host: ServerName<'static>,
    ) -> Outcome<Client<TlsStream<TcpStream>>> {
        Client::open(tls.connect(host, dial(from, to).await?).await?, to, ZENITH).await
    }
}

impl<S: Line + 'static> Client<S> {
    async fn open(mut stream: S, to: SocketAddr, what: Opening) -> Outcome<Client<S>> {
        stream.write_all(opening(what, to).as_bytes()).await?;
        stream.flush().await?;
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut read).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        if !read.starts_with(b"HTTP/1.1 101 ") {
            return Err(String::from_utf8_lossy(&read).into());
        }
        Ok(Client { stream, read: Vec::new() })
    }

    /// The same socket, whatever it runs over.
    pub(crate) fn boxed(self) -> Client<Box<dyn Line>> {
        Client { stream: Box::new(self.stream), read: self.read }
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &[u8]) -> Outcome<()> {
        self.stream.write_all(frame).await?;
        // TLS may keep a record that the socket did not take at once.
        Ok(self.stream.flush().await?)
    }

    /// The next text. Pings are answered on the way.
    pub(crate) async fn next(&mut self) -> Outcome<String> {
        loop {
            if let Some((opcode, payload)) = first_frame(&self.read) {
                let end = payload.end;
                let payload = self.read[payload].to_vec();
                self.read.drain(..end);
                match opcode {
                    TEXT => return Ok(String::from_utf8(payload)?),
                    PING => self.send(&frame(PONG, &payload)).await?,
                    _ => return Err(format!("a frame of type {opcode} came: {}", String::from_utf8_lossy(&payload)).into()),
                }
                continue;
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }

    /// Sends a login, and hears what came of it.
    pub(crate) async fn log_in(&mut self, frame: &[u8]) -> Outcome<Login> {
        self.send(frame).await?;
        let answer = self.next().await?;
        if answer.contains(r#""Data":"Limited""#) {
            return Ok(Login::Busy);
        }
        let token = answer.split_once(r#""AccessToken":""#).and_then(|(_, rest)| rest.split_once('"'));
        match token {
            Some((token, _)) if answer.contains(r#""Result":"Success""#) => Ok(Login::Granted(token.to_owned())),
            _ => Err(format!("a login was not granted: {answer}").into()),
        }
    }

    /// Sends a login that must be granted, and answers its token.
    pub(crate) async fn granted(&mut self, frame: &[u8]) -> Outcome<String> {
        match self.log_in(frame).await? {
            Login::Granted(token) => Ok(token),
            Login::Busy => Err("the server is busy, but nothing else is going on".into()),
        }
    }
}

/// An open socket, for a thread that blocks on it.
pub(crate) struct Blocking {
    stream: std::net::TcpStream,
    read: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Connection for Blocking {
    fn send(&mut self, frames: &[u8]) -> Outcome<()> {
        Ok(self.stream.write_all(frames)?)
    }

    fn answer(&mut self) -> Outcome<&[u8]> {
        loop {
            if let Some((opcode, payload)) = first_frame(&self.read[self.begin..self.end]) {
                let payload = self.begin + payload.start..self.begin + payload.end;
                self.begin = payload.end;
                match opcode {
                    TEXT => return Ok(&self.read[payload]),
                    // Whatever is sent counts as a sign of life, and there is much to send.
                    PING => continue,
                    _ => return Err(format!("a frame of type {opcode} came").into()),
                }
            }
            self.read.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            match self.stream.read(&mut self.read[self.end..])? {
                0 => return Err("the server closed the connection".into()),
                count => self.end += count,
            }
        }
    }
}
