//! A client's end of an HTTP connection that is kept, as small as it can be.
//!
//! Requests are written by hand, and the same bytes go to the server and to whatever stands beside it. It refuses to know what they
//! ask; an answer that does not begin with 200, or does not say how long it is, ends the measurement.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;
use crate::client::dial;
use crate::sockets::Connection;

/// How every answer begins.
const GOOD: &[u8] = b"HTTP/1.1 200 ";
/// And how one to somebody who is not known, or is no longer.
const UNKNOWN: &[u8] = b"HTTP/1.1 401 ";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const LENGTH: &str = "content-length";
/// What is read at a time.
const READ: usize = 64 * 1024;

/// A request: its first line without the version, fields, each with its line end, and its body.
pub(crate) fn request(what: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut request =
        format!("{what} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: gatepost-bench\r\n{fields}{length}\r\n").into_bytes();
    request.extend(body);
    request
}

/// How long the first answer is, if its head is there: what it is, and with its body.
fn lengths(bytes: &[u8]) -> Outcome<Option<(usize, usize)>> {
    let Some(head) = bytes.windows(END_OF_HEAD.len()).position(|part| part == END_OF_HEAD) else { return Ok(None) };
    if !bytes.starts_with(GOOD) {
        return Err(format!("an answer is not 200: {}", String::from_utf8_lossy(bytes)).into());
    }
    let text = std::str::from_utf8(&bytes[..head])?;
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let length = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(LENGTH));
    let (_, length) = length.ok_or_else(|| format!("an answer does not say how long it is: {text}"))?;
    let head = head + END_OF_HEAD.len();
    Ok(Some((head, head + length.trim().parse::<usize>()?)))
}

/// A connection.
pub(crate) struct Http {
    stream: TcpStream,
}

/// An answer.
pub(crate) struct Answer {
    head: String,
    /// Its body.
    pub(crate) body: String,
}

impl Answer {
    /// How many bytes it had altogether.
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The answer, if this stands in its body.
    pub(crate) fn holding(self, expected: &str) -> Outcome<Answer> {
        match self.body.contains(expected) {
            true => Ok(self),
            false => Err(format!("an answer is not what was expected: {}{}", self.head, self.body).into()),
        }
    }

    /// The text of a member in JSON, at whatever depth.
    pub(crate) fn text(&self, member: &str) -> Outcome<String> {
        let found = self.body.split_once(&format!("\"{member}\":\"")).and_then(|(_, rest)| rest.split_once('"'));
        let (text, _) = found.ok_or_else(|| format!("an answer has no {member}: {}", self.body))?;
        Ok(text.to_owned())
    }

    /// The field with which a browser comes back that keeps the cookies of this answer.
    pub(crate) fn cookies(&self) -> String {
        let set =
            self.head.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        let pairs: Vec<&str> = set.filter_map(|(_, cookie)| cookie.split(';').next()).filter(|pair| !pair.ends_with('=')).collect();
        format!("Cookie: {}\r\n", pairs.join("; "))
    }
}

impl Http {
    /// Connects from this address.
    pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> Outcome<Http> {
        Ok(Http { stream: dial(from, to).await? })
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Outcome<Answer> {
        self.known(request).await?.ok_or_else(|| "an answer is 401".into())
    }

    /// Whether whoever sends this is still known. When not, this connection is not used again.
    pub(crate) async fn accepted(&mut self, request: &[u8]) -> Outcome<bool> {
        Ok(self.known(request).await?.is_some())
    }

    async fn known(&mut self, request: &[u8]) -> Outcome<Option<Answer>> {
        self.stream.write_all(request).await?;
        let mut read = Vec::new();
        loop {
            if read.starts_with(UNKNOWN) {
                return Ok(None);
            }
            if let Some((head, all)) = lengths(&read)?
                && read.len() >= all
            {
                let text = String::from_utf8(read)?;
                let (head, body) = text.split_at(head);
                return Ok(Some(Answer { head: head.to_owned(), body: body.to_owned() }));
            }
            if self.stream.read_buf(&mut read).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
    }

    /// The same connection for a thread that blocks on it.
    pub(crate) fn blocking(self) -> Outcome<Blocking> {
        let stream = self.stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(Blocking { stream, read: vec![0; READ], end: 0, told: 0 })
    }
}

/// A connection, for a thread that blocks on it.
pub(crate) struct Blocking {
    stream: std::net::TcpStream,
    read: Vec<u8>,
    end: usize,
    /// How much of what was read is the answer that was told last.
    told: usize,
}

impl Connection for Blocking {
    fn send(&mut self, requests: &[u8]) -> Outcome<()> {
        Ok(self.stream.write_all(requests)?)
    }

    fn answer(&mut self) -> Outcome<&[u8]> {
        self.read.copy_within(self.told..self.end, 0);
        self.end -= self.told;
        loop {
            if let Some((_, all)) = lengths(&self.read[..self.end])? {
                if self.end >= all {
                    self.told = all;
                    return Ok(&self.read[..all]);
                }
                self.read.resize(self.read.len().max(all), 0);
            }
            match self.stream.read(&mut self.read[self.end..])? {
                0 => return Err("the server closed the connection".into()),
                count => self.end += count,
            }
        }
    }
}
