//! How whoever finds no room is turned away: in one word that they can read where that costs next to nothing, and without a word
//! where it does not.
//!
//! Some are listened to for a moment, so that what they are told is not lost in a reset. Whoever comes when many of those are there
//! already, or when descriptors run out, is told and gone.

use std::io;
use std::time::Duration;

use gatepost_protocols::http::{Body, Response};
use http::StatusCode;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bounds::Lingering;

/// How long, and for how much, whoever is turned away unheard is still listened to.
const TURNING_AWAY: Duration = Duration::from_secs(1);
const MOST_UNHEARD: u64 = 64 * 1024;
/// A TLS record with nothing but an alert, `internal_error`, and that it is fatal (RFC 8446 section 6.2).
const TLS_ALERT: &[u8; 7] = &[21, 3, 3, 0, 2, 2, 80];

/// Tells a connection that there is no room for it, whatever it wants, and ends it.
pub(super) fn turn_away(stream: TcpStream, response: &Response, encrypted: bool, lingering: Option<Lingering>) {
    let word = word(response, encrypted);
    match lingering {
        Some(lingering) => drop(tokio::spawn(linger(stream, word, lingering))),
        // A new connection takes so little at once. If it does not, there is nobody to tell.
        None => drop(send(&stream, &word, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)),
    }
}

/// What somebody is told who would have taken a descriptor of the reserve.
pub(super) fn no_descriptor() -> Response {
    Response::text(StatusCode::SERVICE_UNAVAILABLE, "There are too many connections here.\n")
}

fn word(response: &Response, encrypted: bool) -> Vec<u8> {
    if encrypted {
        return TLS_ALERT.to_vec();
    }
    let body = match &response.body {
        Body::Bytes(bytes) => &bytes[..],
        Body::Upgrade(_) | Body::Forward(_) => b"",
    };
    let (status, length) = (response.status, body.len());
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

async fn linger(mut stream: TcpStream, word: Vec<u8>, _lingering: Lingering) -> io::Result<()> {
    let talking = async {
        stream.write_all(&word).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(MOST_UNHEARD), &mut tokio::io::sink()).await
    };
    // Whoever goes on talking past that hears a reset.
    tokio::time::timeout(TURNING_AWAY, talking).await.map_or(Ok(()), |talked| talked.map(|_| ()))
}
