//! Who is the peer, really, and could anybody read what it says?
//!
//! Decides by the socket, and by what a trusted proxy in front of us says: a PROXY header before the first byte, or forwarded
//! fields in a request. From anybody else such words are not believed: the header is a broken request, the fields are
//! ignored. A trusted proxy that speaks oddly is refused rather than guessed at. It refuses to know what the address is
//! used for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gatepost_identity::command::Peer;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest PROXY header of version 1, its line break included (the protocol's section 2.1).
const LONGEST_V1: usize = 107;
/// The longest PROXY header of version 2 that is taken: addresses and what proxies add about TLS.
const LONGEST_V2: usize = 16 + 2048;
const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FORWARDED: HeaderName = http::header::FORWARDED;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whom to believe, and what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Proxies in front of us.
    pub trusted: Vec<IpNet>,
    /// Whether each connection of theirs begins with a PROXY header.
    pub protocol: bool,
    /// Which fields of their requests say where they come from.
    pub fields: Fields,
}

/// Fields of a request that a proxy writes. Only one family is believed, since a proxy passes the other on unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fields {
    /// None.
    #[default]
    None,
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A proxy that speaks oddly.
#[derive(Debug, PartialEq, Eq)]
pub struct Odd(pub &'static str);

impl Proxies {
    /// Whether a proxy of ours is there.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whether requests of a connection from here say whose they are.
    pub fn speaks_for(&self, address: IpAddr) -> bool {
        self.fields != Fields::None && self.trusts(address)
    }

    /// Whether a connection from here must begin with a PROXY header.
    pub fn introduces(&self, address: IpAddr) -> bool {
        self.protocol && self.trusts(address)
    }

    /// The peer behind one request of a connection from `peer`.
    ///
    /// # Errors
    /// A trusted proxy that says something other than one clear thing.
    pub fn behind(&self, peer: Peer, headers: &HeaderMap) -> Result<Peer, Odd> {
        if !self.trusts(peer.address) {
            return Ok(peer);
        }
        let (hops, schemes) = match self.fields {
            Fields::None => return Ok(peer),
            Fields::XForwarded => x_forwarded(headers)?,
            Fields::Forwarded => forwarded(headers)?,
        };
        // The last hop that is not ours is the one that the outermost trusted proxy saw; what stands before it, anybody may
        // have written.
        let seen = hops.iter().rposition(|hop| !self.trusts(*hop)).unwrap_or(0);
        let address = hops.get(seen).copied().unwrap_or(peer.address);
        // The way is as secure as its least secure part from there on. Where a hop is named and no scheme, how that hop came is
        // not known; TLS between the proxy and us says nothing of it.
        let secure = match schemes {
            Schemes::OfEach(schemes) if !schemes.is_empty() => schemes[seen..].iter().all(|scheme| *scheme == Some(true)),
            Schemes::OfAll(schemes) if !schemes.is_empty() => schemes.iter().all(|scheme| *scheme),
            Schemes::OfEach(_) | Schemes::OfAll(_) => peer.secure && hops.is_empty(),
        };
        Ok(Peer { address, secure })
    }
}

/// What proxies say of how something came to them: https or not.
enum Schemes {
    /// Beside each hop, where it is said.
    OfEach(Vec<Option<bool>>),
    /// In a list of its own, whose entries belong to no hop for certain.
    OfAll(Vec<bool>),
}

/// All values of a field, split at commas, in order.
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Vec<&'h str>, Odd> {
    let mut values = Vec::new();
    for value in headers.get_all(name) {
        values.extend(value.to_str().map_err(|_| Odd("a forwarded field is not ASCII"))?.split(',').map(str::trim));
    }
    Ok(values)
}

fn x_forwarded(headers: &HeaderMap) -> Result<(Vec<IpAddr>, Schemes), Odd> {
    let hops = list(headers, &X_FORWARDED_FOR)?.into_iter().map(address).collect::<Result<_, _>>()?;
    let schemes = list(headers, &X_FORWARDED_PROTO)?.into_iter().map(scheme).collect::<Result<_, _>>()?;
    Ok((hops, Schemes::OfAll(schemes)))
}

fn scheme(text: &str) -> Result<bool, Odd> {
    match text {
        "https" | "wss" => Ok(true),
        "http" | "ws" => Ok(false),
        _ => Err(Odd("the forwarded scheme is none")),
    }
}

/// An address as proxies write it: bare, or with a port, an IPv6 address then in brackets.
fn address(text: &str) -> Result<IpAddr, Odd> {
    let odd = Odd("a forwarded address is none");
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical());
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']').ok_or(Odd("a forwarded address is none"))?;
        let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        return address.parse::<Ipv6Addr>().ok().filter(|_| port_is_good).map(|a| IpAddr::V6(a).to_canonical()).ok_or(odd);
    }
    let (address, port) = text.split_once(':').ok_or(Odd("a forwarded address is none"))?;
    let address = address.parse::<Ipv4Addr>().ok().filter(|_| port.parse::<u16>().is_ok());
    address.map(IpAddr::V4).ok_or(odd)
}

/// `Forwarded: for=192.0.2.1;proto=https, for="[2001:db8::1]:4711"` (RFC 7239 section 4).
fn forwarded(headers: &HeaderMap) -> Result<(Vec<IpAddr>, Schemes), Odd> {
    let (mut hops, mut schemes) = (Vec::new(), Vec::new());
    for element in list(headers, &FORWARDED)? {
        let (mut hop, mut proto) = (None, None);
        for pair in element.split(';').map(str::trim) {
            let (name, value) = pair.split_once('=').ok_or(Odd("a forwarded pair has no value"))?;
            let value = match value.strip_prefix('"') {
                Some(quoted) => {
                    quoted.strip_suffix('"').filter(|value| !value.contains(['"', '\\'])).ok_or(Odd("a quote is odd"))?
                }
                None => value,
            };
            let slot_was_taken = match name.to_ascii_lowercase().as_str() {
                "for" => hop.replace(address(value)?).is_some(),
                "proto" => proto.replace(scheme(&value.to_ascii_lowercase())?).is_some(),
                _ => false,
            };
            if slot_was_taken {
                return Err(Odd("a forwarded pair stands twice"));
            }
        }
        hops.push(hop.ok_or(Odd("a forwarded element does not say for whom"))?);
        schemes.push(proto);
    }
    Ok((hops, Schemes::OfEach(schemes)))
}

/// Reads the PROXY header that a trusted connection begins with, and nothing behind it.
///
/// # Errors
/// What the system says, and `InvalidData` for anything that is no PROXY header.
pub async fn introduced(stream: &mut TcpStream, socket: Peer) -> io::Result<Peer> {
    let mut start = [0; 16];
    peek_exactly(stream, &mut start).await?;
    if start.starts_with(SIGNATURE_V2) { version_2(stream, socket, start).await } else { version_1(stream, socket).await }
}

/// Waits until this much has come in, without taking it.
async fn peek_exactly(stream: &TcpStream, start: &mut [u8; 16]) -> io::Result<()> {
    loop {
        let seen = stream.peek(start).await?;
        if seen == start.len() {
            return Ok(());
        }
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // More is on its way, or the caller's deadline ends this.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn version_1(stream: &mut TcpStream, socket: Peer) -> io::Result<Peer> {
    let mut line = Vec::with_capacity(LONGEST_V1);
    while !line.ends_with(b"\r\n") {
        if line.len() == LONGEST_V1 {
            return Err(invalid("the PROXY line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| invalid("the PROXY line is not ASCII"))?;
    let parts: Vec<&str> = line.split(' ').collect();
    let address = match parts.as_slice() {
        ["PROXY", "UNKNOWN", ..] => socket.address,
        ["PROXY", "TCP4", source, target, from, to] if [from, to].iter().all(|port| is_port(port)) => {
            let source: Ipv4Addr = source.parse().map_err(|_| invalid("the PROXY source is no address"))?;
            target.parse::<Ipv4Addr>().map_err(|_| invalid("the PROXY target is no address"))?;
            IpAddr::V4(source)
        }
        ["PROXY", "TCP6", source, target, from, to] if [from, to].iter().all(|port| is_port(port)) => {
            let source: Ipv6Addr = source.parse().map_err(|_| invalid("the PROXY source is no address"))?;
            target.parse::<Ipv6Addr>().map_err(|_| invalid("the PROXY target is no address"))?;
            IpAddr::V6(source).to_canonical()
        }
        _ => return Err(invalid("the connection does not begin with a PROXY header")),
    };
    Ok(Peer { address, secure: socket.secure })
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port.to_string() == text)
}

async fn version_2(stream: &mut TcpStream, socket: Peer, start: [u8; 16]) -> io::Result<Peer> {
    let length = usize::from(u16::from_be_bytes([start[14], start[15]]));
    if 16 + length > LONGEST_V2 {
        return Err(invalid("the PROXY header is too long"));
    }
    let mut header = vec![0; 16 + length];
    stream.read_exact(&mut header).await?;
    let body = &header[16..];
    let address = match (start[12], start[13]) {
        // LOCAL: the proxy speaks for itself, to see whether we live.
        (0x20, _) => return Ok(socket),
        (0x21, 0x11) => body.first_chunk::<4>().filter(|_| body.len() >= 12).map(|octets| IpAddr::from(*octets)),
        (0x21, 0x21) => body.first_chunk::<16>().filter(|_| body.len() >= 36).map(|octets| IpAddr::from(*octets).to_canonical()),
        // Unspecified: the addresses are to be ignored (section 2.2).
        (0x21, 0x00) => return Ok(socket),
        _ => None,
    };
    let address = address.ok_or(invalid("the PROXY header names no addresses that we know"))?;
    let rest = &body[if start[13] == 0x11 { 12 } else { 36 }..];
    Ok(Peer { address, secure: socket.secure || came_by_tls(rest)? })
}

/// Whether the header says that the client came by TLS: the first bit of `PP2_TYPE_SSL`.
fn came_by_tls(mut rest: &[u8]) -> io::Result<bool> {
    let mut tls = false;
    while !rest.is_empty() {
        let [kind, high, low, body @ ..] = rest else { return Err(invalid("the PROXY header is cut off")) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, next) = body.split_at_checked(length).ok_or(invalid("the PROXY header is cut off"))?;
        tls |= *kind == 0x20 && value.first().is_some_and(|client| client & 1 == 1);
        rest = next;
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn with(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, http::HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn proxies(fields: Fields) -> Proxies {
        Proxies { trusted: vec!["10.0.0.0/8".parse().expect("a network")], protocol: true, fields }
    }

    fn check(family: Fields, from: &str, fields: &[(&'static str, &str)], expected: Result<(&str, bool), ()>) {
        let peer = Peer { address: from.parse().expect("an address"), secure: false };
        let found = proxies(family).behind(peer, &with(fields));
        let expected = expected.map(|(address, secure)| Peer { address: address.parse().expect("an address"), secure });
        assert_eq!(found.map_err(|_| ()), expected, "{from} {fields:?}");
    }

    #[test]
    fn forwarded_fields_are_believed_of_trusted_proxies_only() {
        use Fields::{Forwarded, None, XForwarded};
        let fields = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")];
        check(XForwarded, "10.0.0.1", &fields, Ok(("192.0.2.7", true)));
        check(XForwarded, "192.0.2.1", &fields, Ok(("192.0.2.1", false)));
        check(None, "10.0.0.1", &fields, Ok(("10.0.0.1", false)));
        check(Forwarded, "10.0.0.1", &fields, Ok(("10.0.0.1", false)));
        check(XForwarded, "::ffff:10.0.0.1", &fields, Ok(("192.0.2.7", true)));
        let forwarded = [("forwarded", "for=192.0.2.7;proto=https")];
        check(Forwarded, "10.0.0.1", &forwarded, Ok(("192.0.2.7", true)));
        check(XForwarded, "10.0.0.1", &forwarded, Ok(("10.0.0.1", false)));
    }

    #[test]
    fn of_many_hops_the_last_that_is_not_ours_counts() {
        use Fields::{Forwarded, XForwarded};
        check(XForwarded, "10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.2")], Ok(("192.0.2.7", false)));
        check(
            XForwarded,
            "10.0.0.1",
            &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7")],
            Ok(("192.0.2.7", false)),
        );
        check(XForwarded, "10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], Ok(("10.0.0.3", false)));
        check(
            Forwarded,
            "10.0.0.1",
            &[("forwarded", "for=6.6.6.6;proto=https, for=192.0.2.7;proto=http")],
            Ok(("192.0.2.7", false)),
        );
        check(
            Forwarded,
            "10.0.0.1",
            &[("forwarded", "For=\"[2001:db8::1]:4711\";Proto=HTTPS;by=10.0.0.1")],
            Ok(("2001:db8::1", true)),
        );
    }

    #[test]
    fn a_way_is_as_secure_as_its_least_secure_part() {
        use Fields::{Forwarded, XForwarded};
        let forwarded = |text, secure| check(Forwarded, "10.0.0.1", &[("forwarded", text)], Ok(("192.0.2.7", secure)));
        forwarded("for=192.0.2.7;proto=http, for=10.0.0.2;proto=https", false);
        forwarded("for=192.0.2.7, for=10.0.0.2;proto=https", false);
        forwarded("for=192.0.2.7;proto=https, for=10.0.0.2;proto=http", false);
        forwarded("for=192.0.2.7;proto=https, for=10.0.0.2", false);
        forwarded("for=192.0.2.7;proto=https, for=10.0.0.2;proto=https", true);
        forwarded("for=6.6.6.6;proto=http, for=192.0.2.7;proto=https, for=10.0.0.2;proto=https", true);
        let both = |proto, secure| {
            let fields = [("x-forwarded-for", "192.0.2.7, 10.0.0.2"), ("x-forwarded-proto", proto)];
            check(XForwarded, "10.0.0.1", &fields, Ok(("192.0.2.7", secure)));
        };
        both("http, https", false);
        both("https, http", false);
        both("https, https", true);
        both("https", true);
    }

    #[test]
    fn an_odd_spelling_of_a_trusted_proxy_is_refused() {
        use Fields::{Forwarded, XForwarded};
        for text in [
            "",
            "unknown",
            "192.0.2",
            "192.0.2.1, ",
            "2001:db8::1]:1",
            "[2001:db8::1",
            "192.0.2.1:99999",
            "0300.0.2.1",
            "1.2.3.4:x",
        ] {
            check(XForwarded, "10.0.0.1", &[("x-forwarded-for", text)], Err(()));
        }
        for text in ["", "HTTPS", "https, ftp", "ftp, https", "on"] {
            check(XForwarded, "10.0.0.1", &[("x-forwarded-proto", text)], Err(()));
        }
        for text in ["", "for", "proto=https", "for=unknown", "for=1.2.3.4;for=1.2.3.4", "for=\"1.2.3.4", "for=_hidden"] {
            check(Forwarded, "10.0.0.1", &[("forwarded", text)], Err(()));
        }
    }

    async fn introduce(bytes: &[u8]) -> io::Result<(Peer, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        client.write_all(bytes).await?;
        client.shutdown().await?;
        let socket = Peer { address: "10.0.0.1".parse().expect("an address"), secure: false };
        let peer = introduced(&mut server, socket).await?;
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await?;
        Ok((peer, rest))
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE_V2.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        bytes.extend(body);
        bytes.extend(b"GET / HTTP/1.1\r\n\r\n");
        bytes
    }

    #[tokio::test]
    async fn a_proxy_header_is_read_and_nothing_behind_it() {
        let rest = b"GET / HTTP/1.1\r\n\r\n";
        let v1 = |line: &str| [line.as_bytes(), b"\r\n", rest].concat();
        let tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
        let plain = [0x20, 0, 5, 0, 0, 0, 0, 0];
        let four = [&[192, 0, 2, 7, 10, 0, 0, 9, 1, 2, 3, 4][..]].concat();
        let six = [&"2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets()[..], &[0; 20]].concat();
        let cases: Vec<(Vec<u8>, &str, bool)> = vec![
            (v1("PROXY TCP4 192.0.2.7 10.0.0.9 4711 443"), "192.0.2.7", false),
            (v1("PROXY TCP6 2001:db8::7 2001:db8::9 4711 443"), "2001:db8::7", false),
            (v1("PROXY UNKNOWN"), "10.0.0.1", false),
            (v1("PROXY UNKNOWN whatever it says"), "10.0.0.1", false),
            (v2(0x21, 0x11, &four), "192.0.2.7", false),
            (v2(0x21, 0x21, &six), "2001:db8::7", false),
            (v2(0x21, 0x11, &[&four[..], &tls].concat()), "192.0.2.7", true),
            (v2(0x21, 0x11, &[&four[..], &plain].concat()), "192.0.2.7", false),
            (v2(0x20, 0x00, &[]), "10.0.0.1", false),
        ];
        for (bytes, address, secure) in cases {
            let (peer, behind) = introduce(&bytes).await.expect("a good header");
            assert_eq!((peer.address.to_string().as_str(), peer.secure), (address, secure), "{bytes:?}");
            assert_eq!(behind, rest);
        }
    }

    #[tokio::test]
    async fn what_is_no_proxy_header_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
        let cases: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.9 4711\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.9 04711 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 10.0.0.9 4711 443\r\n".to_vec(),
            b"PROXY TCP4  192.0.2.7 10.0.0.9 4711 443\r\n".to_vec(),
            b"proxy TCP4 192.0.2.7 10.0.0.9 4711 443\r\n".to_vec(),
            long.into_bytes(),
            v2(0x21, 0x11, &[1, 2, 3]),
            v2(0x21, 0x31, &[0; 216]),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 14]),
            v2(0x21, 0x11, &[0; 4096]),
        ];
        for bytes in cases {
            assert!(introduce(&bytes).await.is_err(), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
