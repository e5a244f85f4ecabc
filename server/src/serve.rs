//! Builds the server from its settings, starts it, and lets it end in good order. `serve/reload.rs` goes over to other settings
//! while it runs.
//!
//! The only place that gives loops their threads and tasks. It decides the order of beginning and ending, and nothing else.

mod reload;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use gatepost_identity::Identity;
use gatepost_identity::clock::{Clock, SystemEntropy};
use gatepost_identity::current::Current;
use gatepost_identity::store::OneNode;
use gatepost_protocols::listener::{Listener, MostStrangers, Own, Place};
use gatepost_protocols::section::Section;
use gatepost_protocols::{GATES, Gate};
use gatepost_store::{OpenError, Sqlite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle as Task;

use crate::clock::RealClock;
use crate::config::{Config, Told};
use crate::farewell::{Farewell, Pace};
use crate::forward::Ways;
use crate::listen::bounds::Bounds;
use crate::listen::room::{Room, Whom};
use crate::listen::tls::Certificates;
use crate::listen::{Offer, Site, accept, bind_at};
use crate::management::{self, Watched};
use crate::metrics::Metrics;
use crate::operator::{self, Standing};
use crate::shared::Desk;
use crate::supervisor::{self, Inherited};
use crate::wheel::Wheel;
use crate::world::World;

/// How long to wait for threads that have nothing left to do.
const JOIN: Duration = Duration::from_secs(1);
/// What of the time for a stop is kept for writing what was put off and for the threads.
const WRITING: Duration = Duration::from_secs(3);
/// What of it is kept for whoever was told last: to answer the close, which sockets wait for no longer than 5 s.
const LAST_WORDS: Duration = Duration::from_secs(6);
/// How often it is looked whose turn it is.
const TURN: Duration = Duration::from_millis(20);

/// Why the core cannot be opened. Each holds a sentence for people.
#[derive(Debug)]
pub enum OpenCoreError {
    /// Another process holds the data directory.
    Held(String),
    /// Something is wrong with it.
    Other(String),
}

impl std::fmt::Display for OpenCoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (OpenCoreError::Held(complaint) | OpenCoreError::Other(complaint)) = self;
        f.write_str(complaint)
    }
}

impl std::error::Error for OpenCoreError {}

impl From<String> for OpenCoreError {
    fn from(complaint: String) -> OpenCoreError {
        OpenCoreError::Other(complaint)
    }
}

impl From<OpenCoreError> for String {
    fn from(error: OpenCoreError) -> String {
        error.to_string()
    }
}

/// The core with the threads that it needs; what both the server and a command without a server work with.
pub struct Core {
    /// The core.
    pub identity: Identity,
    /// What it remembers by.
    store: Sqlite,
    threads: Vec<JoinHandle<()>>,
}

impl Core {
    /// Takes the data directory and opens the core on it.
    ///
    /// # Errors
    /// Who holds the directory, or what is wrong with it.
    pub async fn open(data: &Path, settings: gatepost_identity::Settings, password_threads: usize) -> Result<Core, OpenCoreError> {
        let (store, workers) = Sqlite::open(data).map_err(|error| match error {
            OpenError::Held { .. } => OpenCoreError::Held(error.to_string()),
            other => OpenCoreError::Other(other.to_string()),
        })?;
        let mut threads = Vec::new();
        for worker in workers {
            threads.push(spawn(worker.name.to_owned(), || worker.run())?);
        }
        let world = gatepost_identity::World {
            store: Arc::new(store.clone()),
            shared: Arc::new(OneNode::default()),
            clock: Arc::new(RealClock),
            entropy: Arc::new(SystemEntropy),
        };
        let spellings = GATES.iter().filter_map(|gate| Some((gate.name, gate.spell?))).collect();
        let identity = Identity::open(world, settings, spellings).await.map_err(|error| OpenCoreError::Other(error.to_string()))?;
        for number in 0..password_threads {
            let identity = identity.clone();
            threads.push(spawn(format!("password-{number}"), move || {
                yield_to_others();
                identity.work_passwords();
            })?);
        }
        Ok(Core { identity, store, threads })
    }

    /// Writes what was put off, and gives the data directory back.
    pub async fn close(self) {
        self.close_within(JOIN).await;
    }

    async fn close_within(self, join: Duration) {
        self.identity.flush().await;
        self.identity.close_passwords();
        let Core { identity, store, threads } = self;
        drop((identity, store));
        if join.is_zero() {
            return;
        }
        // What was told is on disk already. A peer that would not go may still hold the core, and then the threads stay
        // until the process ends.
        let ended = tokio::task::spawn_blocking(move || threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count());
        if let Ok(Ok(1..)) = tokio::time::timeout(join, ended).await {
            tracing::error!("a thread ended in a panic");
        }
    }
}

/// Lets this thread wait where others want to run: a hash takes milliseconds, and whoever comes with a token should not wait
/// for them. Where the system does not let us, hashes and tokens share the processor evenly.
fn yield_to_others() {
    rustix::process::setpriority_process(None, 10).ok();
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    std::thread::Builder::new().name(name).spawn(run).map_err(|error| format!("cannot start a thread: {error}"))
}

/// A server that runs.
pub struct Server {
    /// Where HTTP is answered.
    pub http: SocketAddr,
    /// Where HTTP over TLS is answered, if it is.
    pub https: Option<SocketAddr>,
    /// Where the server is watched, if it is.
    management: Option<SocketAddr>,
    /// Where the listeners of gates are, by the gate's name and their own.
    own: Vec<(&'static str, String, SocketAddr)>,
    certificates: Option<Arc<Certificates>>,
    world: Arc<World>,
    core: Core,
    accepting: Vec<Task<()>>,
    tasks: Vec<Task<()>>,
    /// What is offered on the common listeners.
    common: Arc<Site>,
    /// What is offered on each gate's own.
    sites: Vec<Offered>,
    /// How many of the open sockets may be to services that connections share.
    shared_services: usize,
    /// What holds.
    in_force: InForce,
    /// What the settings said when it began.
    began: Told,
}

/// What a gate offers on listeners of its own, in its order.
struct Offered {
    gate: &'static str,
    sites: Vec<Arc<Site>>,
    ports: Vec<u16>,
}

/// What of the settings only the server itself goes by, as they were last read.
struct InForce {
    told: Told,
    public_url: Option<String>,
    gates: Vec<(&'static Gate, Section)>,
    drain_timeout: Duration,
    drain_rate: u32,
}

impl Server {
    /// Starts everything; when it answers, every listener accepts. A listener that was handed over is not bound.
    ///
    /// # Errors
    /// One sentence for people.
    pub async fn start(config: Config, mut inherited: Inherited) -> Result<Server, String> {
        let core = Core::open(&config.data, config.identity, config.password_threads).await?;
        let mut mounts = Vec::new();
        for (gate, section) in &config.gates {
            let these = (gate.mounts)(section, config.public_url.as_deref())
                .map_err(|bad| format!("{}.{}: {}", gate.name, bad.key, bad.what))?;
            mounts.extend(these.into_iter().map(|mount| (gate.name, mount)));
        }
        let clock = Arc::new(RealClock);
        let world = Arc::new(World {
            identity: core.identity.clone(),
            wheel: Wheel::new(clock.instant()),
            clock,
            entropy: Arc::new(SystemEntropy),
            last_connection: AtomicU64::new(0),
            farewell: Farewell::default(),
            connections: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            open: config.gates.iter().map(|(gate, _)| (gate.name, AtomicUsize::new(0))).collect(),
            questions: AtomicUsize::new(0),
            services: Mutex::default(),
            ways: Ways::default(),
        });
        let bounds = Bounds::new(config.limits);
        let (listener, http) = listen("http", fixed(config.http), &mut inherited).await?;
        let mut secure = None;
        if let Some((address, files)) = config.https {
            let certificates = Arc::new(Certificates::open(files).map_err(|fault| fault.to_string())?);
            let (listener, https) = listen("https", fixed(address), &mut inherited).await?;
            secure = Some((listener, https, certificates));
        }
        let watching = match config.management {
            Some(address) => {
                let listening = listen("management", fixed(address), &mut inherited).await;
                Some(listening.map_err(|fault| format!("management.listen: {fault}"))?)
            }
            None => None,
        };
        let management = watching.as_ref().map(|(_, address)| *address);
        let mut terminals = None;
        let (mut sites, mut listening) = (Vec::new(), Vec::new());
        let mut own = Vec::new();
        let mut shared = Vec::new();
        for (gate, section) in &config.gates {
            let wanted = (gate.own)(section).map_err(|bad| format!("{}.{}: {}", gate.name, bad.key, bad.what))?;
            let Some(Own { listeners, mounts, shared_services, .. }) = wanted else { continue };
            terminals = Some(gate.name);
            let mut these = Vec::new();
            let bound = listen_all(gate.name, &listeners, &mut inherited).await?;
            for (listener, (socket, address)) in listeners.into_iter().zip(bound) {
                let Listener { name, terminal, ports_below, encrypted, strangers, .. } = listener;
                let name_here = format!("{}.{name}", gate.name);
                let certificates = match &secure {
                    Some((_, _, certificates)) if encrypted => Some(Arc::clone(certificates)),
                    None if encrypted => return Err(format!("{name_here}: is encrypted, and there is no certificate")),
                    _ => None,
                };
                warn_of(gate.name, &name, address, ports_below, encrypted);
                let (world, strangers, bounds) = (Arc::clone(&world), strangers.map(room_for), Arc::clone(&bounds));
                let offer = Offer { proxies: config.proxies.clone(), mounts: Vec::new() };
                let here = Current::default();
                let site = (Site { world, offer: here, terminal, shared: None, name: name_here, strangers, bounds }, offer);
                these.push((socket, site, address.port(), certificates));
                own.push((gate.name, name, address));
            }
            let ports: Vec<u16> = these.iter().map(|(_, _, port, _)| *port).collect();
            for (index, mount) in mounts(&ports) {
                if let Some((_, (_, offer), ..)) = these.get_mut(index) {
                    offer.mounts.push((gate.name, mount));
                }
            }
            for service in shared_services {
                let Some((_, (site, _), ..)) = these.get_mut(service.listener) else { continue };
                let desk = Desk::new(service.max_message);
                site.shared = Some(Arc::clone(&desk));
                shared.push(crate::shared::serve(gate.name, desk, Arc::clone(&world), service));
            }
            let mut offered = Vec::new();
            for (socket, (site, offer), _, certificates) in these {
                site.offer.replace(offer);
                let site = Arc::new(site);
                offered.push(Arc::clone(&site));
                listening.push((socket, site, certificates));
            }
            sites.push(Offered { gate: gate.name, sites: offered, ports });
        }
        inherited.end()?;
        let shared_services = shared.len();
        let https = secure.as_ref().map(|(_, address, _)| *address);
        let standing = Standing::new(addresses(http, https, management, &own));
        let operators = operator::listen(&config.data, core.identity.clone(), standing)?;
        let (world_here, name) = (Arc::clone(&world), "http".to_owned());
        let offer = Current::new(Offer { mounts, proxies: config.proxies });
        let here = Arc::clone(&bounds);
        let site = Site { world: world_here, offer, terminal: None, shared: None, name, strangers: None, bounds: here };
        let site = Arc::new(site);
        let common = Arc::clone(&site);
        let mut names = vec!["http".to_owned()];
        let mut accepting = vec![tokio::spawn(accept(listener, Arc::clone(&site), None))];
        names.extend(listening.iter().map(|(_, site, _): &(_, Arc<Site>, _)| site.name.clone()));
        accepting.extend(listening.into_iter().map(|(listener, site, files)| tokio::spawn(accept(listener, site, files))));
        let (mut https, mut certificates) = (None, None);
        if let Some((listener, address, files)) = secure {
            accepting.push(tokio::spawn(accept(listener, site, Some(Arc::clone(&files)))));
            names.push("https".to_owned());
            (https, certificates) = (Some(address), Some(files));
        }
        let (unasked, ticking, watched) = (core.identity.clone(), Arc::clone(&world), certificates.clone());
        let mut tasks: Vec<Task<()>> = shared.into_iter().map(tokio::spawn).collect();
        tasks.extend([
            tokio::spawn(operators),
            tokio::spawn(async move {
                loop {
                    let unasked = unasked.clone();
                    let run = tokio::spawn(async move { unasked.run().await });
                    let ended = Ending(run.abort_handle());
                    let why = run.await;
                    drop(ended);
                    // It ends by a panic only. Without it nothing expires and nothing is followed, so it begins again.
                    tracing::error!(?why, "what the core does unasked broke off and begins again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }),
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    ticking.wheel.turn(ticking.clock.instant());
                    if let Some(certificates) = &watched {
                        certificates.reload_if_changed();
                    }
                }
            }),
        ]);
        if let Some((listener, address)) = watching {
            management::warn_of(address);
            let accepting = names.into_iter().zip(accepting.iter().map(Task::abort_handle)).collect();
            let (metrics, store) = (Metrics::new(world.clock.now(), terminals, bounds), core.store.clone());
            // Among what ends last, so that a server which drains can say so.
            tasks.push(tokio::spawn(management::serve(listener, Watched { world: Arc::clone(&world), store, accepting, metrics })));
        }
        supervisor::tell("READY=1");
        let began = config.told.clone();
        let in_force = InForce {
            told: config.told,
            public_url: config.public_url,
            gates: config.gates,
            drain_timeout: config.drain_timeout,
            drain_rate: config.drain_rate,
        };
        Ok(Server {
            http,
            https,
            management,
            own,
            certificates,
            world,
            core,
            accepting,
            tasks,
            common,
            sites,
            shared_services,
            in_force,
            began,
        })
    }

    /// The core.
    pub fn identity(&self) -> &Identity {
        &self.core.identity
    }

    /// What stands on the one line that says that the server is ready: listeners and their addresses.
    pub fn addresses(&self) -> serde_json::Value {
        addresses(self.http, self.https, self.management, &self.own)
    }

    /// Ends in good order: accepts no more, lets what is in flight be answered, tells every connection in its turn with its wire's
    /// own word, writes what was put off. Waits no longer than `drain_timeout`, and where somebody is in a `hurry`, for nobody.
    pub async fn stop(self, hurry: impl Future<Output = ()>) {
        supervisor::tell("STOPPING=1");
        let Server { world, core, accepting, tasks, in_force, common, sites, shared_services, .. } = self;
        accepting.iter().for_each(Task::abort);
        let timeout = in_force.drain_timeout;
        let pace = Pace { rate: in_force.drain_rate, within: timeout - (WRITING + LAST_WORDS).min(timeout / 2) };
        tracing::info!(open = open(&world), "no connection is accepted any more, and {} are told to go", open(&world));
        let join = tokio::select! {
            biased;
            () = hurry => {
                tracing::warn!(left = open(&world), "asked again to stop, with {} connections left", open(&world));
                Duration::ZERO
            }
            () = part(&world, pace, timeout - WRITING.min(timeout / 4), shared_services) => JOIN,
        };
        for task in accepting.into_iter().chain(tasks) {
            task.abort();
            // Aborted, or ended before; either way its hold on the core is gone.
            task.await.ok();
        }
        drop((world, common, sites));
        core.close_within(join).await;
    }
}

/// Connections that are open, and what the core has not answered yet.
fn open(world: &World) -> usize {
    [&world.connections, &world.sockets, &world.questions].into_iter().map(|count| count.load(Ordering::Acquire)).sum()
}

/// Tells everybody, and waits until they are gone. Services that connections share are kept for as long as somebody may use them.
async fn part(world: &World, pace: Pace, within: Duration, shared_services: usize) {
    let began = world.clock.instant();
    world.farewell.begin();
    world.wheel.wake_all();
    loop {
        let elapsed = world.clock.instant().saturating_duration_since(began);
        world.farewell.call(pace.due(elapsed, world.farewell.drawn()));
        if open(world) <= shared_services || elapsed >= within {
            // Once is enough, and more do no harm: a socket may have come in between.
            world.wheel.stop();
        }
        match open(world) {
            0 => return,
            left if elapsed >= within => return tracing::warn!(left, "{left} connections did not end in time"),
            _ => tokio::time::sleep(TURN).await,
        }
    }
}

/// Listeners and their addresses, by name; those of a gate below its name.
fn addresses(
    http: SocketAddr,
    https: Option<SocketAddr>,
    management: Option<SocketAddr>,
    own: &[(&'static str, String, SocketAddr)],
) -> serde_json::Value {
    let mut addresses = serde_json::json!({ "http": http.to_string() });
    if let Some(https) = https {
        addresses["https"] = https.to_string().into();
    }
    if let Some(management) = management {
        addresses["management"] = management.to_string().into();
    }
    for (gate, name, address) in own {
        addresses[gate][name] = address.to_string().into();
    }
    addresses
}

/// Ends a task when it is dropped.
struct Ending(tokio::task::AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is good to know of a listener of a gate's own.
fn warn_of(gate: &str, name: &str, address: SocketAddr, ports_below: Option<u16>, encrypted: bool) {
    if !encrypted && !address.ip().is_loopback() {
        tracing::warn!(gate, %address, "{gate}.{name} is open to others at {address}, and whoever is on the way reads passwords");
    }
    if ports_below.is_some_and(|end| address.port() >= end) {
        tracing::warn!(gate, %address, "{gate}.{name} got the port {}, which some clients cannot reach", address.port());
    }
}

/// A listener's room for strangers.
fn room_for(most: MostStrangers) -> Arc<Room> {
    Room::new(Whom::Strangers, most.into())
}

/// This address and no other.
fn fixed(address: SocketAddr) -> Place {
    Place { address, steps: 0 }
}

/// Binds what a gate wants, in its order. What was written down is bound first, so that nothing that could have walked upwards
/// takes its port.
async fn listen_all(
    gate: &str,
    listeners: &[Listener],
    inherited: &mut Inherited,
) -> Result<Vec<(TcpListener, SocketAddr)>, String> {
    let mut bound: Vec<Option<(TcpListener, SocketAddr)>> = listeners.iter().map(|_| None).collect();
    for walks in [false, true] {
        for (listener, bound) in listeners.iter().zip(&mut bound).filter(|(listener, _)| (listener.place.steps > 0) == walks) {
            let name = format!("{gate}.{}", listener.name);
            *bound = Some(listen(&name, listener.place, inherited).await.map_err(|fault| format!("{name}: {fault}"))?);
        }
    }
    Ok(bound.into_iter().flatten().collect())
}

async fn listen(name: &str, place: Place, inherited: &mut Inherited) -> Result<(TcpListener, SocketAddr), String> {
    let failed = |error: std::io::Error| format!("cannot listen on {}: {error}", place.address);
    let listener = match inherited.for_listener(name, place)? {
        Some(listener) => TcpListener::from_std(listener).map_err(failed)?,
        None => bind_at(place).await.map_err(failed)?,
    };
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str, port: u16, steps: u16) -> Listener {
        let place = Place { address: SocketAddr::from(([127, 0, 0, 1], port)), steps };
        Listener { name: name.to_owned(), place, terminal: None, ports_below: None, encrypted: false, strangers: None }
    }

    #[tokio::test]
    async fn a_port_that_was_written_down_goes_before_one_that_may_walk() {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its number").port();
        let wanted = [listener("web", free, 500), listener("control", free, 0), listener("http", free, 500)];
        let ports: Vec<u16> = listen_all("gate", &wanted, &mut Inherited::default())
            .await
            .expect("there is room")
            .iter()
            .map(|(_, address)| address.port())
            .collect();
        assert_eq!(ports[1], free);
        assert!(ports[0] > free && ports[2] > ports[0], "and the others walk, in their order: {ports:?}");
        let twice = [listener("a", free, 0), listener("b", free, 0)];
        let complaint = listen_all("gate", &twice, &mut Inherited::default()).await.expect_err("one has it");
        assert!(complaint.starts_with("gate.b: cannot listen on 127.0.0.1:"), "{complaint}");
    }
}
