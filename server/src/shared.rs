//! One connection to a service that all connections of a listener share: opens it, tries again, and moves texts between the peers'
//! lanes and the gate's owner of it, who logs in there and knows what is whose. Decides nothing.
//!
//! ```text
//! peer ─ Lane::forward ─► errands ─► owner.forward ─► socket ─► service
//! peer ◄─ Lane::poll ◄── its inbox ◄── owner.heard ◄── socket ◄──┘
//!
//!           dial                owner is let in
//! waiting ────────► asking ───────────────────────► admitted
//!    ▲                 │ turned away, late, lost        │
//!    └─────────────────┴────────────────────────────────┘ every lane hears of the loss
//! ```
//!
//! It is opened when the server starts, and kept: what the service tells by itself is for whoever is there, also for those who ask
//! nothing. What was passed on under one admission never goes up under the next, since whoever asked has been told that it was lost.
//!
//! A peer that does not read delays nobody: its inbox is bounded, and what does not fit is left out. A peer that asks faster than the
//! service takes is not read from.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Waking, Poll, Waker};
use std::time::{Duration, Instant};

use gatepost_identity::clock::draw;
use gatepost_identity::command::ConnectionId;
use gatepost_identity::secret::Secret;
use gatepost_protocols::frame::CloseCode;
use gatepost_protocols::shared::{Again, Heard, SharedService};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::drive::Open;
use crate::listen::tls::closed_to_others;
use crate::relay::{Broken, Came, Line, NotOpened, SOUND, dial, farewell, handshake, pause_after, with_chance};
use crate::world::World;

/// How many bytes of what is for everybody may wait in an inbox.
const INBOX: usize = 256 * 1024;
/// How many of the service's longest messages may wait in one beside that, where they are answers.
const ANSWERS: usize = 4;
/// How many bytes of everybody's may wait to go up. What comes beyond is answered by nobody, which its conversation tells.
const MOST_UPWARD: usize = 8 * 1024 * 1024;
/// What a text costs in a queue beside its bytes.
const EACH: usize = 64;
/// The longest secret, in bytes.
const LONGEST_SECRET: usize = 1024;
/// How often a pause is interrupted to see whether it still holds.
const LOOK: Duration = Duration::from_secs(1);

/// Where peers leave what goes up and find what came down.
pub struct Desk {
    max_message: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The admission that stands; none: nothing can be passed on.
    admission: Option<u64>,
    /// How many there were.
    admissions: u64,
    errands: VecDeque<Errand>,
    /// How many bytes those have.
    upward: usize,
    lanes: HashMap<ConnectionId, Inbox>,
    /// Whoever looks after the connection.
    owner: Option<Waker>,
}

enum Errand {
    /// Pass this on.
    Text(ConnectionId, String),
    /// This one is gone.
    Gone(ConnectionId),
}

/// What a conversation has yet to hear.
enum Word {
    Text(Utf8Bytes),
    Lost,
    /// By which admission.
    Restored(u64),
}

impl Word {
    fn size(&self) -> usize {
        EACH + match self {
            Word::Text(text) => text.len(),
            Word::Lost | Word::Restored(_) => 0,
        }
    }
}

#[derive(Default)]
struct Inbox {
    words: VecDeque<Word>,
    bytes: usize,
    /// How many bytes of this peer's wait to go up, and whether it is not listened to until there are less.
    upward: usize,
    held_back: bool,
    peer: Option<Waker>,
}

impl Inbox {
    fn put(&mut self, word: Word) {
        self.bytes += word.size();
        self.words.push_back(word);
        self.wake();
    }

    fn take(&mut self) -> Option<Word> {
        let word = self.words.pop_front()?;
        self.bytes -= word.size();
        Some(word)
    }

    /// The connection is over. Whoever has not heard that it stood need not hear of its end; so one who does not read has one word
    /// of it waiting, however often it comes and goes.
    fn lose(&mut self) {
        if let Some(Word::Restored(_)) = self.words.back() {
            self.bytes -= EACH;
            self.words.pop_back();
        }
        if !matches!(self.words.back(), Some(Word::Lost)) {
            self.put(Word::Lost);
        }
        self.upward = 0;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.wake();
        }
    }

    fn has_room(&self, text: &Utf8Bytes, most: usize) -> bool {
        self.bytes == 0 || self.bytes + text.len() + EACH <= most
    }
}

impl Desk {
    /// One with nobody at it.
    pub(crate) fn new(max_message: usize) -> Arc<Desk> {
        Arc::new(Desk { max_message, state: Mutex::default() })
    }

    /// A new connection's lane. The first thing that it hears is how things are.
    pub(crate) fn join(self: &Arc<Desk>, connection: ConnectionId) -> Lane {
        let mut state = self.state();
        let mut inbox = Inbox::default();
        inbox.put(state.admission.map_or(Word::Lost, Word::Restored));
        state.lanes.insert(connection, inbox);
        Lane { desk: Arc::clone(self), connection, admission: None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, waking: &Waking<'_>) {
        self.state().owner = Some(waking.waker().clone());
    }

    /// The next thing to do for a peer, whose room it gives back.
    fn errand(&self) -> Option<Errand> {
        let mut state = self.state();
        let errand = state.errands.pop_front()?;
        if let Errand::Text(from, text) = &errand {
            let size = text.len() + EACH;
            state.upward -= size;
            if let Some(inbox) = state.lanes.get_mut(from) {
                inbox.upward -= size;
                if std::mem::take(&mut inbox.held_back) {
                    inbox.wake();
                }
            }
        }
        Some(errand)
    }

    fn admit(&self) {
        let mut state = self.state();
        state.admissions += 1;
        let admission = state.admissions;
        state.admission = Some(admission);
        state.lanes.values_mut().for_each(|inbox| inbox.put(Word::Restored(admission)));
    }

    /// The connection is over, and with it all that waited to go up.
    fn lose(&self) {
        let mut state = self.state();
        (state.errands, state.upward) = (VecDeque::new(), 0);
        if state.admission.take().is_some() {
            state.lanes.values_mut().for_each(Inbox::lose);
        }
    }

    /// An answer, for one. Whoever has let so many wait is told by their own conversation that there was none.
    fn deliver(&self, to: ConnectionId, text: Utf8Bytes) {
        if let Some(inbox) =
            self.state().lanes.get_mut(&to).filter(|inbox| inbox.has_room(&text, INBOX + ANSWERS * self.max_message))
        {
            inbox.put(Word::Text(text));
        }
    }

    /// What is for everybody. Whoever does not read misses it.
    fn spread(&self, text: &Utf8Bytes) {
        for inbox in self.state().lanes.values_mut().filter(|inbox| inbox.has_room(text, INBOX)) {
            inbox.put(Word::Text(text.clone()));
        }
    }
}

/// A peer's end.
pub struct Lane {
    desk: Arc<Desk>,
    connection: ConnectionId,
    /// The admission that the conversation knows of.
    admission: Option<u64>,
}

impl Lane {
    /// Passes a text on, if the connection that the conversation means still stands. If it does not, the conversation is about to
    /// hear so.
    pub(crate) fn forward(&mut self, text: String) {
        let mut state = self.desk.state();
        let size = text.len() + EACH;
        if state.admission.is_none() || state.admission != self.admission || state.upward + size > MOST_UPWARD {
            return;
        }
        let Some(inbox) = state.lanes.get_mut(&self.connection) else { return };
        inbox.upward += size;
        state.upward += size;
        state.errands.push_back(Errand::Text(self.connection, text));
        if let Some(owner) = state.owner.take() {
            owner.wake();
        }
    }

    /// The next thing that the conversation must hear.
    pub(crate) fn poll(&mut self, hungry: bool, waking: &mut Waking<'_>) -> Poll<Came> {
        let mut state = self.desk.state();
        let Some(inbox) = state.lanes.get_mut(&self.connection) else { return Poll::Pending };
        if !hungry {
            // Whoever can take more looks again.
            return Poll::Pending;
        }
        let Some(word) = inbox.take() else {
            inbox.words = VecDeque::new();
            inbox.peer = Some(waking.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(match word {
            Word::Text(text) => Came::Text(text),
            Word::Lost => {
                self.admission = None;
                Came::Lost
            }
            Word::Restored(admission) => {
                self.admission = Some(admission);
                Came::Restored
            }
        })
    }

    /// Whether so much of this peer's waits to go up that it should not be listened to. It is woken when there is less.
    pub(crate) fn is_full(&mut self, most: usize, waking: &mut Waking<'_>) -> bool {
        let mut state = self.desk.state();
        let Some(inbox) = state.lanes.get_mut(&self.connection).filter(|inbox| inbox.upward > most) else { return false };
        inbox.held_back = true;
        inbox.peer = Some(waking.waker().clone());
        true
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        state.lanes.remove(&self.connection);
        if state.admission.is_some() {
            // Behind what it has asked, which is still done.
            state.errands.push_back(Errand::Gone(self.connection));
            if let Some(owner) = state.owner.take() {
                owner.wake();
            }
        }
    }
}

/// What a file holds that a service wants to be shown: its first line.
///
/// # Errors
/// One sentence for people, without what stands in it.
pub(crate) fn read_secret(file: &Path) -> Result<Secret, String> {
    closed_to_others(file)?;
    let bad = |what: &str| format!("{}: {what}", file.display());
    let text = Secret::new(std::fs::read(file).map_err(|error| bad(&error.to_string()))?);
    let text = text.expose_text().ok_or_else(|| bad("it is no UTF-8"))?;
    let secret = text.strip_suffix('\n').unwrap_or(text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() || secret.len() > LONGEST_SECRET || secret.contains(['\n', '\r']) {
        return Err(bad("must hold a secret of 1 to 1024 bytes on one line"));
    }
    Ok(Secret::new(secret))
}

/// How a connection ended.
struct End {
    code: CloseCode,
    why: String,
    again: Again,
}

impl End {
    fn soon(code: CloseCode, why: &str) -> End {
        End { code, why: why.to_owned(), again: Again::Soon }
    }
}

/// Looks after a shared connection for as long as the server runs.
pub(crate) async fn serve(gate: &'static str, desk: Arc<Desk>, world: Arc<World>, mut service: SharedService) {
    let setting = format!("{gate}.{}", service.setting);
    let host = service.address.host().unwrap_or_default();
    if !is_here(host) {
        tracing::warn!(setting, host, "{setting} is at {host}, and whoever is on the way reads its secret");
    }
    let _looked_after = LookedAfter(Arc::clone(&desk));
    let mut failures: u32 = 0;
    let mut said = String::new();
    while !world.wheel.is_stopping() {
        let secret = service.secret_file.as_deref().map(read_secret).transpose();
        let (end, lived) = match &secret {
            Ok(secret) => once(&desk, &world, &mut service, secret.as_ref(), &setting).await,
            Err(why) => (End::soon(1000, why), None),
        };
        desk.lose();
        service.owner.lost();
        if world.wheel.is_stopping() {
            return;
        }
        // Once for each reason, since it is tried again and again.
        if said == end.why && lived.is_none() {
            tracing::debug!(setting, why = end.why, "what {setting} names is not to be had: {}", end.why);
        } else {
            tracing::warn!(setting, why = end.why, "what {setting} names is not to be had: {}", end.why);
        }
        said = end.why;
        if lived.is_some_and(|lived| lived >= SOUND) {
            failures = 0;
        }
        let pause = match end.again {
            Again::Soon => pause_after(failures),
            Again::After(span) => span,
        };
        failures = failures.saturating_add(1);
        let until = world.clock.instant() + with_chance(pause, draw(&*world.entropy));
        let turned_away = matches!(end.again, Again::After(_));
        while world.clock.instant() < until && !world.wheel.is_stopping() {
            tokio::time::sleep(LOOK.min(until.saturating_duration_since(world.clock.instant()))).await;
            let shown = secret.as_ref().ok().and_then(Option::as_ref).filter(|_| turned_away);
            if let (Some(shown), Some(file)) = (shown, &service.secret_file)
                && is_changed(shown, read_secret(file))
            {
                failures = 0;
                break;
            }
        }
    }
}

/// While this lives, somebody looks after a connection.
struct LookedAfter(Arc<Desk>);

impl Drop for LookedAfter {
    fn drop(&mut self) {
        // Broken off by a fault of ours, it is not begun again; peers are told that there is nothing, and do not wait.
        if std::thread::panicking() {
            tracing::error!("whoever looks after a shared connection broke off; it is over until the server is begun again");
        }
        self.0.lose();
    }
}

/// Whether a host is this machine.
fn is_here(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// Whether another secret is to be had than the one that was turned away.
fn is_changed(shown: &Secret, now: Result<Secret, String>) -> bool {
    now.is_ok_and(|now| !now.matches(shown.expose()))
}

/// One connection, from its opening to its end; and how long it lived, if it was of any use.
async fn once(
    desk: &Arc<Desk>,
    world: &Arc<World>,
    service: &mut SharedService,
    secret: Option<&Secret>,
    setting: &str,
) -> (End, Option<Duration>) {
    let request = match handshake(&service.address) {
        Ok(request) => request,
        Err(error) => return (End::soon(1000, &error.to_string()), None),
    };
    let stream = match dial(request, service.max_message).await {
        Ok(stream) => stream,
        Err(NotOpened::Lost(why)) => return (End::soon(1000, &why), None),
        Err(NotOpened::Refused(status)) => return (End::soon(1000, &format!("it answers the handshake with {status}")), None),
    };
    let counted = Open::count(world);
    let opened_at = world.clock.instant();
    let login = service.owner.opened(secret);
    let late = Some(opened_at + service.limits.answer_within);
    let (queued_bytes, queue) = (login.len(), VecDeque::from([login]));
    let line = Line::new(stream, opened_at);
    let mut talk = Talk { desk, world, service, setting, line, queue, queued_bytes, late, wake_at: None };
    let end = poll_fn(|waking| talk.turn(waking)).await;
    let lived = talk.late.is_none().then(|| world.clock.instant().duration_since(opened_at));
    tokio::spawn(farewell(talk.line.stream, end.code, counted));
    (end, lived)
}

/// An open connection.
struct Talk<'a> {
    desk: &'a Arc<Desk>,
    world: &'a Arc<World>,
    service: &'a mut SharedService,
    setting: &'a str,
    line: Line,
    queue: VecDeque<String>,
    queued_bytes: usize,
    /// When it is too late to be let in; none, once we are.
    late: Option<Instant>,
    wake_at: Option<Instant>,
}

impl Talk<'_> {
    /// Goes on until nothing is ready.
    fn turn(&mut self, waking: &mut Waking<'_>) -> Poll<End> {
        self.desk.watch(waking);
        loop {
            let instant = self.world.clock.instant();
            if self.world.wheel.is_stopping() {
                return Poll::Ready(End::soon(1001, "we stop"));
            }
            if self.late.is_some_and(|late| instant >= late) {
                return Poll::Ready(End::soon(1000, "it does not answer our login"));
            }
            match self.go_on(instant, waking) {
                Ok(Some(Came::Text(text))) => {
                    if let Some(end) = self.hear(&text) {
                        return Poll::Ready(end);
                    }
                }
                // Nothing of that kind has a meaning here.
                Ok(Some(Came::Binary(_) | Came::Lost | Came::Restored)) => {}
                Ok(None) => {
                    self.line.flush(instant, waking);
                    if !self.queue.is_empty() && self.line.is_sent() {
                        continue;
                    }
                    self.wake_in_time(instant, waking);
                    return Poll::Pending;
                }
                Err(Broken { code, why }) => return Poll::Ready(End::soon(code, &why)),
            }
        }
    }

    /// Hands over what waits, and reads one message.
    fn go_on(&mut self, instant: Instant, waking: &mut Waking<'_>) -> Result<Option<Came>, Broken> {
        self.line.keep_time(&self.service.limits, instant, waking)?;
        loop {
            if self.queue.is_empty() {
                match self.desk.errand() {
                    None => break,
                    Some(Errand::Gone(who)) => {
                        self.service.owner.gone(who);
                        continue;
                    }
                    Some(Errand::Text(from, text)) => {
                        let Some(text) = self.service.owner.forward(from, &text) else { continue };
                        self.queued_bytes += text.len();
                        self.queue.push_back(text);
                    }
                }
            }
            self.line.hand_over(&mut self.queue, &mut self.queued_bytes, instant, waking)?;
            if !self.queue.is_empty() {
                break;
            }
        }
        self.line.read(self.service.limits.unsent.0, instant, waking)
    }

    fn hear(&mut self, text: &Utf8Bytes) -> Option<End> {
        match self.service.owner.heard(text) {
            Heard::Nothing => {}
            Heard::Admitted => {
                tracing::info!(setting = self.setting, "what {} names has let us in", self.setting);
                self.late = None;
                self.desk.admit();
            }
            Heard::One(connection, text) => self.desk.deliver(connection, text.into()),
            Heard::Everybody => self.desk.spread(text),
            Heard::TurnedAway { why, again } => return Some(End { code: 1000, why, again }),
        }
        None
    }

    fn wake_in_time(&mut self, instant: Instant, waking: &mut Waking<'_>) {
        let due = self.line.due(&self.service.limits);
        let due = self.late.map_or(due, |late| late.min(due));
        let registered = self.wake_at.filter(|&at| at > instant);
        if registered.is_none_or(|at| at > due + Duration::from_secs(1)) {
            self.wake_at = Some(self.world.wheel.wake_at(due, waking.waker()));
        }
        if self.world.wheel.is_stopping() {
            // It began to stop after this turn had looked, and perhaps before the wheel knew of us.
            waking.waker().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What a lane hears, in words.
    fn heard(lane: &mut Lane) -> Vec<String> {
        let mut words = Vec::new();
        while let Poll::Ready(came) = lane.poll(true, &mut Waking::from_waker(Waker::noop())) {
            words.push(match came {
                Came::Text(text) => text.to_string(),
                Came::Binary(_) => panic!("there are none"),
                Came::Lost => "lost".to_owned(),
                Came::Restored => "restored".to_owned(),
            });
        }
        words
    }

    fn errands(desk: &Desk) -> Vec<String> {
        let words = |errand| match errand {
            Errand::Text(ConnectionId(from), text) => format!("{from} {text}"),
            Errand::Gone(ConnectionId(who)) => format!("{who} gone"),
        };
        std::iter::from_fn(|| desk.errand()).map(words).collect()
    }

    #[test]
    fn whoever_joins_hears_how_things_are_and_whoever_leaves_is_told_of_behind_what_they_asked() {
        let desk = Desk::new(1024);
        let mut early = desk.join(ConnectionId(1));
        assert_eq!(heard(&mut early), ["lost"]);
        early.forward("too early".to_owned());
        desk.admit();
        let mut late = desk.join(ConnectionId(2));
        assert_eq!((heard(&mut early), heard(&mut late)), (vec!["restored".to_owned()], vec!["restored".to_owned()]));
        early.forward("a".to_owned());
        late.forward("b".to_owned());
        drop(late);
        assert_eq!(errands(&desk), ["1 a", "2 b", "2 gone"]);
        desk.deliver(ConnectionId(2), "nobody's".into());
        desk.deliver(ConnectionId(1), "an answer".into());
        desk.spread(&"an event".into());
        assert_eq!(heard(&mut early), ["an answer", "an event"]);
        desk.lose();
        drop(early);
        assert!(errands(&desk).is_empty(), "nobody is there to be told of it");
    }

    #[test]
    fn what_was_meant_for_one_connection_never_goes_up_on_the_next() {
        let desk = Desk::new(1024);
        desk.admit();
        let mut lane = desk.join(ConnectionId(1));
        assert_eq!(heard(&mut lane), ["restored"]);
        lane.forward("waits".to_owned());
        desk.lose();
        desk.admit();
        lane.forward("does not know yet".to_owned());
        assert!(errands(&desk).is_empty());
        assert_eq!(heard(&mut lane), ["lost", "restored"]);
        lane.forward("knows".to_owned());
        assert_eq!(errands(&desk), ["1 knows"]);
    }

    #[test]
    fn one_word_of_a_loss_waits_however_often_it_comes_and_goes() {
        let desk = Desk::new(1024);
        let mut lane = desk.join(ConnectionId(1));
        for _ in 0..100 {
            desk.admit();
            desk.lose();
        }
        assert_eq!(heard(&mut lane), ["lost"]);
        desk.admit();
        desk.spread(&"x".into());
        desk.lose();
        desk.lose();
        assert_eq!(heard(&mut lane), ["restored", "x", "lost"]);
        assert_eq!(desk.state().lanes[&ConnectionId(1)].bytes, 0);
    }

    #[test]
    fn an_inbox_holds_so_many_events_and_some_answers_more() {
        let desk = Desk::new(1024 * 1024);
        desk.admit();
        let mut lane = desk.join(ConnectionId(1));
        let event = Utf8Bytes::from("x".repeat(1000));
        (0..1000).for_each(|_| desk.spread(&event));
        let full = desk.state().lanes[&ConnectionId(1)].bytes;
        assert!(full <= INBOX && full > INBOX - 2000, "{full}");
        let answer = Utf8Bytes::from("y".repeat(1024 * 1024 - EACH));
        (0..10).for_each(|_| desk.deliver(ConnectionId(1), answer.clone()));
        assert_eq!(heard(&mut lane).iter().filter(|word| word.starts_with('y')).count(), ANSWERS);
        // One that is longer than all of that is heard where nothing else waits.
        let longest = Utf8Bytes::from("z".repeat(8 * 1024 * 1024));
        desk.deliver(ConnectionId(1), longest.clone());
        desk.spread(&longest);
        assert_eq!(heard(&mut lane).len(), 1);
    }

    #[test]
    fn whoever_asks_too_fast_is_held_back_alone_and_woken_when_there_is_room() {
        let desk = Desk::new(1024);
        desk.admit();
        let (mut fast, mut slow) = (desk.join(ConnectionId(1)), desk.join(ConnectionId(2)));
        assert_eq!((heard(&mut fast).len(), heard(&mut slow).len()), (1, 1));
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut waking = Waking::from_waker(&waker);
        fast.forward("x".repeat(4096));
        assert!(fast.is_full(4096, &mut waking) && !slow.is_full(4096, &mut waking));
        assert!(!fast.is_full(4096 + EACH, &mut waking), "to the last byte");
        assert!(desk.errand().is_some());
        assert!(!fast.is_full(4096, &mut waking));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        for _ in 0..3000 {
            fast.forward("x".repeat(4096));
        }
        assert_eq!(errands(&desk).len(), MOST_UPWARD / (4096 + EACH));
        assert_eq!(desk.state().upward, 0);
    }

    #[test]
    fn a_pause_doubles_to_half_a_minute_and_chance_adds_up_to_half_as_much() {
        let seconds = [1, 2, 4, 8, 16, 30, 30, 30].map(Duration::from_secs);
        assert_eq!((0..8).map(pause_after).collect::<Vec<_>>(), seconds);
        assert_eq!(pause_after(u32::MAX), Duration::from_secs(30));
        let second = Duration::from_secs(1);
        assert_eq!(with_chance(second, [0; 4]), second);
        assert_eq!(with_chance(second, [255; 4]), Duration::from_millis(1500));
    }

    #[test]
    fn a_secret_that_was_changed_is_another_one() {
        let shown = Secret::new("a");
        assert!(is_changed(&shown, Ok(Secret::new("b"))));
        assert!(!is_changed(&shown, Ok(Secret::new("a"))));
        assert!(!is_changed(&shown, Err("it is gone".to_owned())));
    }

    #[test]
    fn this_machine_is_here_and_nothing_else_is() {
        for (host, expected) in [("127.0.0.1", true), ("[::1]", true), ("localhost", true), ("192.0.2.1", false), ("room", false)] {
            assert_eq!(is_here(host), expected, "{host}");
        }
    }
}
