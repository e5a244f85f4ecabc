//! Whoever started this process: listening sockets that it hands over, and what it is told in return.
//!
//! Both as systemd has them (`sd_listen_fds(3)`, `sd_notify(3)`), which others speak too. A socket that is handed over outlives
//! the process: peers wait in its queue while the next one starts. It refuses to know what a listener is for; whoever wants one
//! names it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use gatepost_protocols::listener::Place;
use listenfd::ListenFd;

/// The variable with the names of the sockets.
const NAMES: &str = "LISTEN_FDNAMES";
/// The variable with the socket on which the supervisor listens.
const NOTIFY: &str = "NOTIFY_SOCKET";

/// Listening sockets that were handed over, and that nobody has asked for yet.
#[derive(Debug, Default)]
pub struct Inherited(VecDeque<Handed>);

#[derive(Debug)]
struct Handed {
    name: String,
    address: SocketAddr,
    listener: TcpListener,
}

impl Inherited {
    /// Those that the environment speaks of. To be called once, before there are threads: what is taken is taken out of it, so
    /// that no child takes it for its own.
    ///
    /// # Errors
    /// Something that is no listening TCP socket. One sentence for people.
    pub fn take() -> Result<Inherited, String> {
        let names = std::env::var(NAMES).unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut taken = VecDeque::new();
        for index in 0..handed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let failed = |error: io::Error| format!("the socket {name:?} that was handed over cannot be used: {error}");
            let Some(listener) = handed.take_tcp_listener(index).map_err(failed)? else { continue };
            listener.set_nonblocking(true).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            taken.push_back(Handed { name, address, listener });
        }
        Ok(Inherited(taken))
    }

    /// The one for this listener: that of its name, or else that of its address.
    ///
    /// # Errors
    /// Two of its name. One sentence for people.
    pub fn for_listener(&mut self, name: &str, place: Place) -> Result<Option<TcpListener>, String> {
        let mut named = (0..self.0.len()).filter(|&index| self.0[index].name == name);
        let (found, second) = (named.next(), named.next());
        if second.is_some() {
            return Err(format!("two sockets that were handed over are named {name}"));
        }
        let found = found.or_else(|| self.0.iter().position(|handed| handed.address == place.address));
        Ok(found.and_then(|index| self.0.remove(index)).map(|handed| handed.listener))
    }

    /// Says that all listeners have theirs.
    ///
    /// # Errors
    /// One that is for none of them: peers would wait there for ever. One sentence for people.
    pub fn end(self) -> Result<(), String> {
        let Some(Handed { name, address, .. }) = self.0.front() else { return Ok(()) };
        Err(format!(
            "the socket {name:?} at {address} was handed over, and nothing listens there by the settings; name it as the ready line \
             names a listener, as in FileDescriptorName=http, or give that its address"
        ))
    }
}

/// Tells the supervisor how it goes, if one wants to know: `READY=1` and the like, one a line.
pub(crate) fn tell(state: &str) {
    let Some(socket) = std::env::var_os(NOTIFY).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = tell_at(&socket, state) {
        tracing::warn!(%error, "the supervisor could not be told {state:?}: {error}");
    }
}

/// The same, with the time that a supervisor compares a reload with.
pub(crate) fn tell_reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

fn tell_at(socket: &OsStr, state: &str) -> io::Result<()> {
    let from = UnixDatagram::unbound()?;
    // One that begins with an at sign has no file.
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => from.send_to_addr(state.as_bytes(), &std::os::unix::net::SocketAddr::from_abstract_name(name)?)?,
        None => from.send_to(state.as_bytes(), socket)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(name: &str) -> Handed {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Handed { name: name.to_owned(), address: listener.local_addr().expect("an address"), listener }
    }

    #[test]
    fn a_listener_gets_the_socket_of_its_name_or_else_of_its_address() {
        let (named, unnamed, other) = (handed("http"), handed("gatepost.socket"), handed("x"));
        let (at, nowhere) = (Place { address: unnamed.address, steps: 0 }, Place { address: ([127, 0, 0, 1], 1).into(), steps: 0 });
        let (first, second, left) = (named.address, unnamed.address, other.address);
        let mut inherited = Inherited(VecDeque::from([unnamed, named, other]));
        let mut ask = |name: &str, place| {
            let found = inherited.for_listener(name, place).expect("no two of a name");
            found.map(|listener| listener.local_addr().expect("an address"))
        };
        assert_eq!(ask("http", at), Some(first), "its name goes before its address");
        assert_eq!(ask("https", at), Some(second));
        assert_eq!(ask("https", at), None, "each goes once");
        assert_eq!(ask("trueconf.web", nowhere), None);
        let complaint = inherited.end().expect_err("one is left");
        assert!(complaint.contains(&left.to_string()), "{complaint}");
        let mut twice = Inherited(VecDeque::from([handed("http"), handed("http")]));
        assert!(twice.for_listener("http", nowhere).is_err());
    }

    #[test]
    fn a_supervisor_is_told_with_and_without_a_file() {
        let name = format!("gatepost-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
        let supervisor = UnixDatagram::bind_addr(&address).expect("a socket");
        let mut told = [0; 64];
        tell_at(OsStr::new(&format!("@{name}")), "READY=1").expect("it listens");
        let length = supervisor.recv(&mut told).expect("it was told");
        assert_eq!(&told[..length], b"READY=1");
        assert!(tell_at(OsStr::new("/nowhere/at/all"), "READY=1").is_err());
    }
}
