//! An echo over the WebSocket layer that the server itself runs on: what comes in as text or bytes at `/` goes back as it came.
//!
//! For conformance suites such as Autobahn's, which hold this layer to RFC 6455 and know nothing of any gate. It asks the core
//! nothing, so the core that it carries has nobody in it and forgets everything.
//!
//! ```text
//! cargo run --release -p gatepost --example echo -- --listen 127.0.0.1:9001 --max-message 16777216
//! ```

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use gatepost::clock::RealClock;
use gatepost::farewell::Farewell;
use gatepost::forward::Ways;
use gatepost::listen::bounds::{self, Bounds};
use gatepost::listen::peer::Proxies;
use gatepost::listen::{Offer, Site, accept, bind};
use gatepost::wheel::Wheel;
use gatepost::world::World;
use gatepost_identity::clock::{Clock, SystemEntropy, Timestamp};
use gatepost_identity::current::Current;
use gatepost_identity::reply::{Event, Reply};
use gatepost_identity::store::OneNode;
use gatepost_identity::{CannotBegin, Identity, Settings};
use gatepost_protocols::frame::{Frame, Outbox, Relayed};
use gatepost_protocols::http::{Request, Response};
use gatepost_protocols::mount::Mount;
use gatepost_protocols::{Conversation, Exchange, Limits, Question, Seed, Step};
use gatepost_store::Memory;
use http::StatusCode;
use tokio::net::TcpListener;

/// Longer than any suite is silent, or takes to read what it is sent.
const PATIENCE: Duration = Duration::from_secs(600);

/// Echoes WebSocket messages, for conformance suites.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The longest message, in bytes; a longer one is closed with 1009.
    #[arg(long, default_value_t = 16 * 1024 * 1024)]
    max_message: usize,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { listen, max_message } = Arguments::parse();
    let listener = bind(listen).await?;
    let site = site(Mount::new("/", Door { max_message }), Arc::new(RealClock)).await?;
    serve(listener, site).await;
    Ok(())
}

/// One mount, on a core that has nobody in it and goes by this clock.
pub(crate) async fn site(mount: Mount, core_clock: Arc<dyn Clock>) -> Result<Arc<Site>, CannotBegin> {
    let clock = Arc::new(RealClock);
    let (store, shared, entropy) = (Arc::new(Memory::default()), Arc::new(OneNode::default()), Arc::new(SystemEntropy));
    let core = gatepost_identity::World { store, shared, clock: core_clock, entropy: entropy.clone() };
    let world = Arc::new(World {
        identity: Identity::open(core, Settings::default(), Vec::new()).await?,
        wheel: Wheel::new(clock.instant()),
        clock,
        entropy,
        last_connection: AtomicU64::new(0),
        farewell: Farewell::default(),
        connections: AtomicUsize::new(0),
        sockets: AtomicUsize::new(0),
        open: Vec::new(),
        questions: AtomicUsize::new(0),
        services: Mutex::default(),
        ways: Ways::default(),
    });
    let offer = Current::new(Offer { mounts: vec![("echo", mount)], proxies: Proxies::default() });
    let (name, bounds) = ("echo".to_owned(), Bounds::new(bounds::Limits::default()));
    Ok(Arc::new(Site { world, offer, terminal: None, shared: None, name, strangers: None, bounds }))
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, site: Arc<Site>) {
    let world = Arc::clone(&site.world);
    let turning = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.wheel.turn(world.clock.instant());
        }
    };
    tokio::select! {
        () = accept(listener, site, None) => {}
        () = turning => {}
    }
}

/// Lets every handshake in.
pub(crate) struct Door {
    /// The longest message, in bytes.
    pub(crate) max_message: usize,
}

impl Exchange for Door {
    type Pending = ();

    fn receive(&self, _now: Timestamp, _seed: Seed, request: Request) -> Step<()> {
        ControlFlow::Break(if request.upgrade {
            Response::upgrade(None, self.max_message, Echo { max_message: self.max_message })
        } else {
            Response::text(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket.\n")
        })
    }

    fn answer(&self, _now: Timestamp, (): (), _reply: Reply) -> Response {
        // It never asks.
        Response::empty(StatusCode::SERVICE_UNAVAILABLE)
    }
}

struct Echo {
    max_message: usize,
}

impl Conversation for Echo {
    type Pending = ();

    fn receive(&mut self, _now: Timestamp, frame: Frame<'_>, out: &mut Outbox) -> Option<Question<()>> {
        match frame {
            Frame::Text(text) => out.send(text.to_owned()),
            Frame::Binary(bytes) => out.send_binary(bytes.to_owned()),
        }
        None
    }

    fn answer(&mut self, _now: Timestamp, (): (), _reply: Reply, _out: &mut Outbox) {}

    fn notify(&mut self, _now: Timestamp, _event: Event, _out: &mut Outbox) {}

    fn relayed(&mut self, _now: Timestamp, _from: Relayed<'_>, _out: &mut Outbox) {}

    fn remind(&mut self, _now: Timestamp, _out: &mut Outbox) {}

    fn limits(&self) -> Limits {
        Limits {
            ping_every: PATIENCE,
            silence: (2 * PATIENCE, 1008),
            answer_within: PATIENCE,
            unsent: (self.max_message, PATIENCE),
            due: None,
        }
    }

    fn stop(&mut self, out: &mut Outbox) {
        out.close(1012, "Restart");
    }
}
