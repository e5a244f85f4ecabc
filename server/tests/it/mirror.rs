//! The mirror of the examples as a test has it: at a port of its own, behind a server that is started later.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::published as keys;

#[path = "../../../examples/mirror/service.rs"]
mod service;

/// The service, and what it runs on.
pub(crate) struct Mirror {
    address: SocketAddr,
    /// None, once it serves.
    listener: Option<TcpListener>,
    running: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Mirror {
    /// One that has a port, where nobody answers yet.
    pub(crate) fn new() -> Mirror {
        let runtime = Runtime::new().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("its address");
        Mirror { address, listener: Some(listener), running: None, runtime }
    }

    /// The one that settings call `http://mirror`, at an address of its own, which takes the place of theirs.
    pub(crate) fn of(settings: &mut [String]) -> Option<Mirror> {
        let line = settings.iter_mut().find(|line| line.contains("http://mirror"))?;
        let mirror = Mirror::new();
        *line = line.replace("http://mirror", &format!("http://{}", mirror.address));
        Some(mirror)
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer, with the keys of this server.
    pub(crate) fn serve(&mut self, keys: SocketAddr) {
        let listener = self.listener.take().expect("it does not serve yet");
        let mirror = service::Mirror { keys: keys.to_string(), audience: "mirror".to_owned() };
        self.running = Some(self.runtime.spawn(service::serve(listener, mirror)));
    }

    /// Ends it and whatever it serves.
    pub(crate) fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.abort();
        self.runtime.block_on(running).expect_err("it serves until it is ended");
    }
}
