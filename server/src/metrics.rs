//! The figures of the server, as Prometheus reads them.
//!
//! Everything is counted where it happens, in numbers that cost an addition; here they are only read and named, when somebody asks.
//! Labels are gates, listeners, methods and outcomes: what the server is built of and set to, never what a peer has made up.

use std::fmt;
use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use gatepost_identity::clock::Timestamp;
use gatepost_identity::counts::{Ending, Spread, Way};
use gatepost_store::Figures;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, getrlimit};

use crate::listen::bounds::{Bounds, Refused};
use crate::world::World;

/// What `Content-Type` says of it.
pub(crate) const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is known of the figures beside the places where they are counted.
pub(crate) struct Metrics {
    started: Timestamp,
    /// The gate of the terminals, whose sessions are in memory only; none where nothing serves them.
    terminals: Option<&'static str>,
    bounds: Arc<Bounds>,
    /// As they were counted last.
    sessions: Mutex<Vec<(String, u64)>>,
}

impl Metrics {
    pub(crate) fn new(started: Timestamp, terminals: Option<&'static str>, bounds: Arc<Bounds>) -> Metrics {
        Metrics { started, terminals, bounds, sessions: Mutex::default() }
    }

    pub(crate) fn keep_sessions(&self, sessions: Vec<(String, u64)>) {
        *self.sessions.lock().unwrap_or_else(PoisonError::into_inner) = sessions;
    }

    /// All of them.
    pub(crate) fn render(&self, world: &World, store: &Figures, ready: bool) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.look(world, store, ready)));
        let mut text = String::new();
        // Writing to a string does not fail.
        encode(&mut text, &registry).ok();
        text
    }

    fn look(&self, world: &World, store: &Figures, ready: bool) -> Seen {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let at_terminals = u64::try_from(world.identity.attached_to_terminals()).unwrap_or(u64::MAX);
        sessions.extend(self.terminals.map(|gate| (gate.to_owned(), at_terminals)));
        let size = |count: &std::sync::atomic::AtomicUsize| u64::try_from(count.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        Seen {
            tried: world.identity.counts().read().collect(),
            waited: world.identity.waited().read(),
            hashed: world.identity.hashed().read(),
            commits: store.commits().read(),
            failures: store.failures(),
            sockets: world.open.iter().map(|(gate, open)| (*gate, size(open))).collect(),
            attached: u64::try_from(world.identity.attached()).unwrap_or(u64::MAX),
            open: u64::try_from(self.bounds.connections()).unwrap_or(u64::MAX),
            refused: self.bounds.refused(),
            questions: size(&world.questions),
            sessions,
            started: self.started,
            ready,
        }
    }
}

/// The figures at one moment.
#[derive(Debug)]
struct Seen {
    tried: Vec<(&'static str, Way, Ending, u64)>,
    waited: Spread,
    hashed: Spread,
    commits: Spread,
    failures: u64,
    sockets: Vec<(&'static str, u64)>,
    attached: u64,
    open: u64,
    refused: Refused,
    questions: u64,
    sessions: Vec<(String, u64)>,
    started: Timestamp,
    ready: bool,
}

impl Collector for Seen {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let tried = |attempts: bool| {
            let of_kind = self.tried.iter().filter(move |(_, way, ..)| way.is_attempt() == attempts);
            of_kind.map(|(gate, way, ending, count)| {
                (Some([("gate", *gate), ("method", way.word()), ("outcome", ending.word())]), *count)
            })
        };
        let of_gate = |(gate, count): &(&'static str, u64)| (Some([("gate", *gate)]), *count);
        counters(&mut to, "gatepost_attempts", "Attempts to come in, by their outcome", tried(true))?;
        counters(
            &mut to,
            "gatepost_recognitions",
            "Tokens, cookies and keys shown with a request, by their outcome",
            tried(false),
        )?;
        counters(&mut to, "gatepost_refused_early", "Attempts refused by a rule and not for what was shown", self.early())?;
        let Refused { full, of_source, descriptors, malformed, slow } = self.refused;
        let refused =
            [("full", full), ("of_source", of_source), ("descriptors", descriptors), ("malformed", malformed), ("slow", slow)];
        let refused = refused.map(|(why, count)| (Some([("reason", why)]), count));
        counters(&mut to, "gatepost_connections_refused", "Connections that were turned away or ended against abuse", refused)?;
        histogram(&mut to, "gatepost_password_wait_seconds", "How long secrets waited for a thread that hashes", &self.waited)?;
        histogram(&mut to, "gatepost_password_hash_seconds", "How long such a thread then had one", &self.hashed)?;
        histogram(&mut to, "gatepost_store_commit_seconds", "How long commits took until they were on disk", &self.commits)?;
        counters(&mut to, "gatepost_store_failures", "Transactions of which nothing was written", alone(self.failures))?;
        gauges(&mut to, "gatepost_connections_open", "Connections to all listeners, whatever is spoken on them", alone(self.open))?;
        gauges(&mut to, "gatepost_connections", "Open sockets of a gate", self.sockets.iter().map(of_gate))?;
        gauges(&mut to, "gatepost_connections_attached", "Open sockets that hold a session or a role", alone(self.attached))?;
        let sessions = self.sessions.iter().map(|(gate, count)| (Some([("gate", gate.as_str())]), *count));
        gauges(&mut to, "gatepost_sessions", "Sessions in force, counted once a minute", sessions)?;
        gauges(&mut to, "gatepost_questions", "Questions that are not answered yet", alone(self.questions))?;
        gauges(&mut to, "gatepost_ready", "Whether peers should be sent here", alone(u64::from(self.ready)))?;
        let version = [(Some([("version", env!("CARGO_PKG_VERSION"))]), 1)];
        gauges(&mut to, "gatepost_build_info", "Which version this is", version)?;
        self.process(&mut to)
    }
}

impl Seen {
    /// By gate and outcome, whatever was shown.
    fn early(&self) -> impl Iterator<Item = (Option<[(&'static str, &'static str); 2]>, u64)> {
        let mut gates: Vec<&'static str> = self.tried.iter().map(|(gate, ..)| *gate).collect();
        gates.dedup();
        let early = || Ending::ALL.into_iter().filter(|ending| ending.is_early());
        let places = gates.into_iter().flat_map(move |gate| early().map(move |ending| (gate, ending)));
        places.map(|(here, why)| {
            let these = self.tried.iter().filter(|(gate, _, ending, _)| (*gate, *ending) == (here, why));
            (Some([("gate", here), ("reason", why.word())]), these.map(|(.., count)| count).sum())
        })
    }

    /// What every process tells under these names. What the system does not tell is left out.
    fn process(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let started = self.started.millis().unsigned_abs() / 1000;
        gauges(to, "process_start_time_seconds", "When it began, in seconds since the Unix epoch", alone(started))?;
        gauges(to, "process_resident_memory_bytes", "Memory that it holds", resident().into_iter().flat_map(alone))?;
        gauges(to, "process_open_fds", "Descriptors that it holds", open_descriptors().into_iter().flat_map(alone))?;
        let most = getrlimit(Resource::Nofile).current;
        gauges(to, "process_max_fds", "Descriptors that it may hold", most.into_iter().flat_map(alone))
    }
}

/// Labels of what has none.
type NoLabels = [(&'static str, &'static str); 0];

/// A value that has no labels.
fn alone(value: u64) -> [(Option<NoLabels>, u64); 1] {
    [(None, value)]
}

fn counters<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Option<L>, u64)>,
) -> Result<(), fmt::Error> {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        match labels {
            Some(labels) => metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?,
            None => metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)?,
        }
    }
    Ok(())
}

fn gauges<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Option<L>, u64)>,
) -> Result<(), fmt::Error> {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        match labels {
            Some(labels) => metric.encode_family(&labels)?.encode_gauge(&value)?,
            None => metric.encode_gauge(&value)?,
        }
    }
    Ok(())
}

fn histogram(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, spread: &Spread) -> Result<(), fmt::Error> {
    let mut metric = to.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(spread.seconds, spread.count(), &spread.buckets, None)
}

fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn open_descriptors() -> Option<u64> {
    u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}
