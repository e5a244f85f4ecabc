//! One handler panics, and only what it was about fails (X2): whoever asked is told, what was held for them is given back, the log
//! has one line with the place, and everybody else is served as before. On the layer that serves the gates, with a mount that
//! panics where it is asked to.

use std::future::Future;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::panic::PanicHookInfo;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::time::{Duration, Instant};

use gatepost::clock::RealClock;
use gatepost::listen::Site;
use gatepost_identity::clock::{Clock, Timestamp};
use gatepost_identity::command::{Command, Verb};
use gatepost_identity::reply::{Event, Reply};
use gatepost_protocols::frame::{Frame, Outbox, Relayed};
use gatepost_protocols::http::{Request, Response};
use gatepost_protocols::mount::Mount;
use gatepost_protocols::{Conversation, Exchange, Limits, Question, Seed, Step};
use http::StatusCode;
use tracing_subscriber::fmt::MakeWriter;

use crate::echo::example;
use crate::harness::until;
use crate::peer::{Peer, handshake, http};

/// More of each than there would be places if one were lost with each.
const OFTEN: usize = 30;
/// How long a socket may be silent here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that panics when it is next asked for the time of day, once it was told to.
#[derive(Default)]
struct Spoilt(AtomicBool);

impl Clock for Spoilt {
    fn now(&self) -> Timestamp {
        assert!(!self.0.swap(false, Ordering::AcqRel), "the core panics, as it was asked to");
        RealClock.now()
    }

    fn instant(&self) -> Instant {
        RealClock.instant()
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        RealClock.sleep_until(deadline)
    }
}

/// Where something is to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nowhere,
    /// As the request or message is read. What was made up by a peer stands in the panic's text.
    Reading,
    /// As the core's answer to it is told.
    Answering,
    /// In the core.
    Core,
}

impl At {
    fn of(word: &str) -> At {
        match word.trim_start_matches('/') {
            "reading" | "reading hunter2" => At::Reading,
            "answering" => At::Answering,
            "core" => At::Core,
            _ => At::Nowhere,
        }
    }
}

/// A question that the core answers by its clock, whoever asks.
fn question(at: At, clock: &Spoilt) -> Question<At> {
    clock.0.store(at == At::Core, Ordering::Release);
    Question { command: Command { presented: Vec::new(), verb: Verb::PublicKeys }, pending: at }
}

/// Panics by the path of a request.
struct Door(Arc<Spoilt>);

impl Exchange for Door {
    type Pending = At;

    fn receive(&self, _now: Timestamp, _seed: Seed, request: Request) -> Step<At> {
        if request.upgrade {
            return ControlFlow::Break(Response::upgrade(None, 1024, Talk(Arc::clone(&self.0))));
        }
        let at = At::of(&request.path);
        assert!(at != At::Reading, "a request for {:?}", request.query);
        ControlFlow::Continue(question(at, &self.0))
    }

    fn answer(&self, _now: Timestamp, at: At, reply: Reply) -> Response {
        assert!(at != At::Answering, "an answer panics, as it was asked to");
        Response::empty(if reply.result.is_ok() { StatusCode::OK } else { StatusCode::IM_A_TEAPOT })
    }
}

/// Panics by the text of a message.
struct Talk(Arc<Spoilt>);

impl Conversation for Talk {
    type Pending = At;

    fn receive(&mut self, _now: Timestamp, frame: Frame<'_>, _out: &mut Outbox) -> Option<Question<At>> {
        let Frame::Text(text) = frame else { return None };
        let at = At::of(text);
        assert!(at != At::Reading, "a message of {text:?}");
        Some(question(at, &self.0))
    }

    fn answer(&mut self, _now: Timestamp, at: At, reply: Reply, out: &mut Outbox) {
        assert!(at != At::Answering, "an answer panics, as it was asked to");
        out.send(format!("{}", reply.result.is_ok()));
    }

    fn notify(&mut self, _now: Timestamp, _event: Event, _out: &mut Outbox) {}

    fn relayed(&mut self, _now: Timestamp, _from: Relayed<'_>, _out: &mut Outbox) {}

    fn remind(&mut self, _now: Timestamp, _out: &mut Outbox) {}

    fn limits(&self) -> Limits {
        Limits { ping_every: PATIENCE, silence: (2 * PATIENCE, 1008), answer_within: PATIENCE, unsent: (1024, PATIENCE), due: None }
    }

    fn stop(&mut self, out: &mut Outbox) {
        out.close(1012, "Restart");
    }
}

/// What the threads of a server here have logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Log;

    fn make_writer(&self) -> Log {
        self.clone()
    }
}

impl Log {
    /// The lines since it was last asked.
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().expect("nobody panics with it"));
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
    }
}

/// What the threads are called on which a panic is logged as the server does; any other is a test's own.
const OURS: &str = "contained";

/// A server on a runtime of its own, until it is dropped.
struct Served {
    address: SocketAddr,
    site: Arc<Site>,
    log: Log,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    fn start() -> Served {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let tests = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| match std::thread::current().name() {
                Some(OURS) => gatepost::telemetry::panicked(info),
                _ => tests(info),
            }));
        });
        let log = Log::default();
        let kept = log.clone();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().thread_name(OURS).on_thread_start(move || {
            let logs = tracing_subscriber::fmt().with_ansi(false).with_writer(kept.clone()).finish();
            // For as long as the thread lives.
            std::mem::forget(tracing::subscriber::set_default(logs));
        });
        let runtime = runtime.build().expect("a runtime");
        let (begun, begins) = mpsc::channel();
        runtime.spawn(async move {
            let listener = gatepost::listen::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
            let clock = Arc::new(Spoilt::default());
            let mount = Mount::below("", 1024, Door(Arc::clone(&clock)));
            let site = example::site(mount, clock).await.expect("a core");
            let address = listener.local_addr().expect("its address");
            begun.send((address, Arc::clone(&site))).expect("the test waits");
            example::serve(listener, site).await;
        });
        let (address, site) = begins.recv().expect("it listens");
        Served { address, site, log, _runtime: runtime }
    }

    fn connect(&self) -> Peer {
        Peer::request(self.address, 0, &handshake("/socket", "")).expect("101").0
    }

    /// The status of a request on a connection that is not used again.
    fn status(&self, word: &str) -> u16 {
        let request = format!("GET /{word}?hunter2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        http(self.address, 0, &request).status
    }

    /// What is open and held.
    fn held(&self) -> [usize; 4] {
        let world = &self.site.world;
        let counts = [&world.connections, &world.sockets, &world.questions].map(|count| count.load(Ordering::Acquire));
        [counts[0], counts[1], counts[2], self.site.bounds.connections()]
    }

    /// What was logged must be so many panics in this file, without what a peer sent.
    fn logged(&self, panics: usize) {
        let lines = self.log.take();
        assert_eq!(lines.len(), panics, "{lines:#?}");
        for line in lines {
            assert!(line.contains("ERROR") && line.contains(file!()), "it says where: {line}");
            assert!(!line.contains("hunter2"), "it does not say what was sent: {line}");
        }
    }
}

#[test]
fn x2_a_request_whose_handler_panics_is_answered_500_and_costs_nobody_else_anything() {
    let served = Served::start();
    let mut bystander = served.connect();
    until("the bystander is there", || served.held() == [0, 1, 0, 1]);
    for (word, status) in [("reading", 500), ("answering", 500), ("core", 503)] {
        for _ in 0..OFTEN {
            assert_eq!(served.status(word), status, "{word}");
            assert_eq!(served.status("fine"), 200, "after {word}");
        }
        until("what was held is given back", || served.held() == [0, 1, 0, 1]);
        served.logged(OFTEN);
    }
    // On a connection that would go on, what comes behind is not read: nobody knows where the request ended for whoever panicked.
    let kept = "GET /reading HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = http(served.address, 0, kept);
    assert_eq!((answer.status, answer.header("connection")), (500, Some("close")), "{answer:?}");
    served.logged(1);
    bystander.send_text("fine");
    assert_eq!(bystander.next_text(), "true");
}

#[test]
fn x2_a_conversation_that_panics_is_closed_and_costs_nobody_else_anything() {
    let served = Served::start();
    let mut bystander = served.connect();
    for word in ["reading hunter2", "answering", "core"] {
        for _ in 0..OFTEN {
            let mut peer = served.connect();
            peer.send_text("fine");
            assert_eq!(peer.next_text(), "true");
            // What comes behind it is not answered.
            peer.send_text(word);
            peer.send_text("fine");
            assert_eq!(peer.closed(), (1011, "fault".to_owned()), "{word}");
            bystander.send_text("fine");
            assert_eq!(bystander.next_text(), "true", "after {word}");
        }
        until("what was held is given back", || served.held() == [0, 1, 0, 1]);
        served.logged(OFTEN);
    }
    assert_eq!(served.status("fine"), 200);
}

#[test]
fn x2_a_peer_that_does_not_take_the_close_of_a_broken_conversation_keeps_its_place_for_a_moment_only() {
    let served = Served::start();
    let mut peer = served.connect();
    peer.send_text("reading");
    until("it is told nothing more than that", || served.log.take().len() == 1);
    // Nothing is read and nothing is answered.
    until("its place is given back", || served.held() == [0, 0, 0, 0]);
    assert_eq!(peer.told_to_close(), (1011, "fault".to_owned()));
}
