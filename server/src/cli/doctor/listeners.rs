//! What `doctor` asks of the listeners: of a server that runs, whether each is where the settings have it and answers; without
//! one, whether it could be there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gatepost_protocols::listener::Place;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Finding, Report, certificate, fault, warning};
use crate::config::Config;
use crate::listen::bind_at;

/// How long a listener may take.
const ANSWER: Duration = Duration::from_secs(5);
/// What every listener answers that speaks HTTP, with whatever status.
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: gatepost-doctor\r\nConnection: close\r\n\r\n";

/// Looks at each of them.
pub(super) async fn check(report: &mut Report, config: Option<&Config>, standing: Option<&Value>, occupied: bool) {
    match (standing, config) {
        (Some(standing), _) => {
            let mut findings = Vec::new();
            for (name, address) in named(&standing["addresses"]) {
                findings.extend(reach(&name, address, config).await);
            }
            findings.extend(config.into_iter().flat_map(|config| moved(config, &standing["addresses"])));
            report.made("listeners", findings);
        }
        (None, _) if occupied => report.left("listeners", "the server does not say where they are"),
        (None, None) => report.left("listeners", "the settings cannot be used"),
        (None, Some(config)) => report.made("listeners", free(config).await),
    }
}

/// The listeners of a ready line, by name.
fn named(addresses: &Value) -> Vec<(String, SocketAddr)> {
    let mut found = Vec::new();
    for (name, value) in addresses.as_object().into_iter().flatten() {
        match value {
            Value::Object(own) => {
                let own =
                    own.iter().filter_map(|(listener, value)| Some((format!("{name}.{listener}"), value.as_str()?.parse().ok()?)));
                found.extend(own);
            }
            value => found.extend(value.as_str().and_then(|text| text.parse().ok()).map(|address| (name.clone(), address))),
        }
    }
    found
}

/// Where a listener is reached from this machine.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

async fn reach(name: &str, address: SocketAddr, config: Option<&Config>) -> Option<Finding> {
    let remedy = "look at the server's log, at its load, and at the rules of the firewall for loopback";
    let here = from_here(address);
    let asked = async {
        let mut stream = TcpStream::connect(here).await.map_err(|error| error.to_string())?;
        // A proxy's word is expected first of whoever is trusted, and we have none to give.
        let Some(config) = config.filter(|config| !speaks_for_others(config, here.ip())) else { return Ok(None) };
        if is_encrypted(name, config) { serves_the_file(stream, config).await } else { answers(&mut stream).await.map(|()| None) }
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(finding)) => finding,
        Ok(Err(complaint)) => Some(fault(format!("{name} at {address} does not answer: {complaint}"), remedy)),
        Err(_) => Some(fault(format!("{name} at {address} does not answer within {} s", ANSWER.as_secs()), remedy)),
    }
}

/// Whether whoever comes from this address must first say for whom.
fn speaks_for_others(config: &Config, from: IpAddr) -> bool {
    config.proxies.protocol && config.proxies.trusted.iter().any(|network| network.contains(&from.to_canonical()))
}

/// Whether TLS is spoken at the listener of this name.
fn is_encrypted(name: &str, config: &Config) -> bool {
    name == "https"
        || config.gates.iter().any(|(gate, section)| {
            let own = (gate.own)(section).ok().flatten();
            own.iter().flat_map(|own| &own.listeners).any(|one| one.encrypted && name == format!("{}.{}", gate.name, one.name))
        })
}

async fn answers(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> Result<(), String> {
    let mut begin = [0; 5];
    stream.write_all(QUESTION).await.map_err(|error| error.to_string())?;
    stream.read_exact(&mut begin).await.map_err(|error| error.to_string())?;
    if &begin == b"HTTP/" { Ok(()) } else { Err("what it says is no HTTP".to_owned()) }
}

/// Whether the certificate that peers are shown is the one on disk.
async fn serves_the_file(stream: TcpStream, config: &Config) -> Result<Option<Finding>, String> {
    let Some((_, files)) = &config.https else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    let host = certificate::host(config).unwrap_or(ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()));
    let mut stream = TlsConnector::from(Arc::new(client)).connect(host, stream).await.map_err(|error| error.to_string())?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
    answers(&mut stream).await?;
    let on_disk = CertificateDer::pem_file_iter(&files.certificate).ok().and_then(|mut chain| chain.next()?.ok());
    let other = shown.is_some() && on_disk.is_some() && shown != on_disk;
    Ok(other.then(|| {
        let what = format!("peers are shown another certificate than the one in {}", files.certificate.display());
        warning(what, "look in the server's log why the files could not be used, put them right, and send it SIGHUP")
    }))
}

/// Takes any certificate: what it is worth, others check; here it is only looked at, and nothing secret is sent.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether the server listens where the settings have it by now; where they leave the port open, any is right.
fn moved(config: &Config, addresses: &Value) -> Option<Finding> {
    let there = |name: &str| addresses[name].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
    let https = config.https.as_ref().map(|(address, _)| *address);
    let wanted = [("http", Some(config.http)), ("https", https), ("management", config.management)];
    let differs = |set: SocketAddr, is: Option<SocketAddr>| {
        is.is_none_or(|is| set.ip() != is.ip() || (set.port() != 0 && set.port() != is.port()))
    };
    let (name, set) =
        wanted.into_iter().find_map(|(name, set)| set.filter(|set| differs(*set, there(name))).map(|set| (name, set)))?;
    let what = format!("the settings have {name} at {set}, and the server that runs does not listen there");
    Some(warning(what, "start the server anew, so that it goes by the settings"))
}

/// Whether what the settings name could be listened on.
async fn free(config: &Config) -> Vec<Finding> {
    let mut places = vec![("http".to_owned(), Place { address: config.http, steps: 0 })];
    places.extend(config.https.iter().map(|(address, _)| ("https".to_owned(), Place { address: *address, steps: 0 })));
    places.extend(config.management.map(|address| ("management".to_owned(), Place { address, steps: 0 })));
    for (gate, section) in &config.gates {
        let own = (gate.own)(section).ok().flatten();
        let listeners = own.into_iter().flat_map(|own| own.listeners);
        places.extend(listeners.map(|listener| (format!("{}.{}", gate.name, listener.name), listener.place)));
    }
    // All are held until the last was tried, so that two at one address are found.
    let (mut held, mut findings) = (Vec::new(), Vec::new());
    for (name, place) in places {
        let address = place.address;
        match bind_at(place).await {
            Ok(listener) => held.push(listener),
            Err(error) => {
                let remedy = match error.kind() {
                    std::io::ErrorKind::AddrInUse => format!("end what listens there (`ss -ltnp sport = :{}` names it), or set another address", address.port()),
                    std::io::ErrorKind::PermissionDenied => "set a port from 1024 on, or let the server have the ones below (AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit)".to_owned(),
                    _ => "set an address that this machine has".to_owned(),
                };
                findings.push(fault(format!("{name} cannot listen at {address}: {error}"), remedy));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn the_listeners_of_a_ready_line_are_read_by_name() {
        let told =
            serde_json::json!({"http": "127.0.0.1:1", "trueconf": {"web": "[::1]:2", "hall": "0.0.0.0:3"}, "odd": "nowhere"});
        let mut found: Vec<String> = named(&told).into_iter().map(|(name, address)| format!("{name} {address}")).collect();
        found.sort_unstable();
        assert_eq!(found, ["http 127.0.0.1:1", "trueconf.hall 0.0.0.0:3", "trueconf.web [::1]:2"]);
    }

    #[test]
    fn what_listens_everywhere_is_reached_over_loopback() {
        let check = |address: &str, here: &str| assert_eq!(from_here(address.parse().expect("an address")).to_string(), here);
        check("0.0.0.0:80", "127.0.0.1:80");
        check("[::]:80", "[::1]:80");
        check("192.0.2.1:80", "192.0.2.1:80");
    }

    #[tokio::test]
    async fn a_listener_that_is_gone_hangs_up_or_speaks_no_http_is_told_from_one_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let asked = async |text: &'static [u8]| {
            let answer = async {
                let (mut stream, _) = listener.accept().await.expect("a peer");
                // What was asked is read, so that closing does not throw the answer away.
                stream.read_exact(&mut [0; QUESTION.len()]).await.expect("a question");
                stream.write_all(text).await.expect("it is there");
            };
            let mut stream = TcpStream::connect(address).await.expect("it listens");
            tokio::join!(answers(&mut stream), answer).0
        };
        assert_eq!(asked(b"HTTP/1.1 404 Not Found\r\n\r\n").await, Ok(()));
        assert!(asked(b"").await.is_err());
        assert!(asked(b"SSH-2.0-x\r\n").await.is_err());
        drop(listener);
        let found = reach("http", address, None).await.expect("a finding");
        assert!(found.what.contains("does not answer"), "{found:?}");
    }
}
