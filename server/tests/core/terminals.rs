//! Terminals with a clock that is turned: how long things live, who has to wait, and what others learn when.

mod panels;

use gatepost_identity::ServedTerminals;
use gatepost_identity::terminal::{NewPassword, NewProtection, Plan, TerminalName, TerminalRole, TerminalToken};

use super::*;
use TerminalRole::{Administrator, User};

const SECOND: Duration = Duration::from_secs(1);

fn hall() -> TerminalName {
    TerminalName::parse("hall").unwrap()
}

impl Core {
    /// A core that serves the terminal `hall`: its administrator has the password `adm`, its user the PIN that is told.
    async fn of_hall(store: Arc<dyn Store>) -> (Core, String) {
        let core = Core::on(store, serving).await;
        let password = NewProtection::Password(NewPassword::parse(Secret::new("adm")).unwrap());
        core.admin().protect_terminal("hall", Administrator, password).await.unwrap();
        let (_, pin) = core.admin().protect_terminal("hall", User, NewProtection::Pin).await.unwrap();
        (core, pin.unwrap().expose_text().unwrap().to_owned())
    }

    fn at_hall(&self, connection: ConnectionId, source: &str) -> Context {
        Context { gate: "trueconf", terminal: Some(hall()), ..self.context(connection, source) }
    }

    async fn show(&self, connection: ConnectionId, source: &str, text: &[u8], token_shaped: bool) -> Outcome {
        let credential = Credential::Terminal { text: Secret::new(text), token_shaped };
        self.identity.handle(command(Vec::new(), credential, "x"), &self.at_hall(connection, source)).await
    }

    /// Somebody comes in, on a connection of their own.
    async fn come(&self, text: &str) -> (ConnectionId, Peering) {
        let connection = self.connection();
        (connection, Peering::of(self.show(connection, "192.0.2.1", text.as_bytes(), false).await))
    }

    async fn back(&self, connection: ConnectionId, token: &[u8]) -> Result<Peering, Refusal> {
        let outcome = self.show(connection, "192.0.2.1", token, true).await;
        match &outcome.reply.result {
            Ok(_) => Ok(Peering::of(outcome)),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    async fn try_from(&self, source: &str, text: &str) -> Result<Granted, Refusal> {
        let Outcome { reply, held, .. } = self.show(self.connection(), source, text.as_bytes(), false).await;
        held.release();
        reply.result.and_then(Answer::granted)
    }

    async fn verb(&self, connection: ConnectionId, verb: Verb) -> Result<Answer, Refusal> {
        let command = Command { presented: Vec::new(), verb };
        let Outcome { reply, held, .. } = self.identity.handle(command, &self.at_hall(connection, "192.0.2.1")).await;
        held.release();
        reply.result
    }

    /// Whether a token is good for this.
    async fn is_good_for(&self, token: &[u8], any_of: &'static [TerminalToken]) -> bool {
        let presented = vec![Credential::TerminalToken { token: Secret::new(token), any_of }];
        let context = Context { connection: None, terminal: None, ..self.at_hall(ConnectionId(0), "192.0.2.1") };
        self.identity.handle(Command { presented, verb: Verb::WhoAmI }, &context).await.reply.result.is_ok()
    }
}

fn serving(settings: &mut Settings) {
    settings.terminals = ServedTerminals { terminals: vec![(hall(), None)], ..ServedTerminals::default() };
}

fn token(peer: &Peering, kind: TerminalToken) -> Vec<u8> {
    let token = peer.granted.tokens.iter().find(|token| token.kind == TokenKind::Terminal(kind)).unwrap();
    token.secret.expose().to_vec()
}

const FILES: &[TerminalToken] = &[TerminalToken::Http];

fn attempts(result: &Result<Granted, Refusal>) -> Option<u64> {
    match result {
        Err(Refusal::TooManyAttempts { retry_after }) => Some(retry_after.as_secs()),
        _ => None,
    }
}

#[tokio::test]
async fn a_month_after_the_first_time_it_is_over_however_often_somebody_came_back() {
    let (core, pin) = Core::of_hall(Arc::new(Memory::default())).await;
    let (connection, first) = core.come("adm").await;
    let end = core.clock.now().after(30 * DAY);
    assert_eq!(first.granted.principal.expires_at, Some(end));
    core.clock.turn(299 * SECOND);
    assert!(core.is_good_for(&token(&first, TerminalToken::Http), FILES).await);
    core.clock.turn(SECOND);
    assert!(!core.is_good_for(&token(&first, TerminalToken::Http), FILES).await, "five minutes");
    let (_, user) = core.come(&pin).await;
    core.clock.turn(29 * DAY);
    assert!(core.is_good_for(&token(&user, TerminalToken::Http), FILES).await, "by a PIN it lasts");
    let second = core.back(connection, &token(&first, TerminalToken::Connection)).await.unwrap();
    assert_eq!(second.granted.principal.expires_at, Some(end), "no use prolongs it");
    assert_eq!(first.event(), None, "the same connection has displaced nobody");
    core.clock.turn(DAY);
    core.until("the end is told", || async { second.event() == Some(Event::Detached(Reason::Expired)) }).await;
    let gone = core.back(connection, &token(&second, TerminalToken::Connection)).await.err();
    assert_eq!(gone, Some(Refusal::InvalidCredentials));
}

#[tokio::test]
async fn five_guesses_are_free_and_then_each_waits_twice_as_long_until_one_is_right() {
    let (core, pin) = Core::of_hall(Arc::new(Memory::default())).await;
    let (connection, inside) = core.come("adm").await;
    for _ in 0..5 {
        assert_eq!(core.try_from("192.0.2.1", "nope").await.err(), Some(Refusal::InvalidCredentials));
    }
    for wait in [30, 60, 120] {
        assert_eq!(attempts(&core.try_from("192.0.2.1", "adm").await), Some(wait), "the right one waits too, and is not counted");
        let back = core.back(connection, &token(&inside, TerminalToken::Connection)).await;
        assert!(back.is_ok(), "nobody guesses a token");
        core.clock.turn(Duration::from_secs(wait));
        assert_eq!(core.try_from("192.0.2.1", "nope").await.err(), Some(Refusal::InvalidCredentials));
    }
    assert!(core.try_from("2001:db8::1", &pin).await.is_ok(), "elsewhere nobody has guessed");
    core.clock.turn(240 * SECOND);
    assert!(core.try_from("192.0.2.1", "adm").await.is_ok());
    for _ in 0..5 {
        assert_eq!(core.try_from("192.0.2.1", "nope").await.err(), Some(Refusal::InvalidCredentials), "forgotten");
    }
    // What looks like a token is not counted, whatever it is.
    for _ in 0..50 {
        assert_eq!(core.back(core.connection(), b"junk").await.err(), Some(Refusal::InvalidCredentials));
    }
}

#[tokio::test]
async fn many_sources_together_suspend_pins_and_passwords_go_on() {
    let (core, pin) = Core::of_hall(Arc::new(Memory::default())).await;
    for number in 0..50 {
        let source = format!("198.51.100.{number}");
        assert_eq!(core.try_from(&source, "nope").await.err(), Some(Refusal::InvalidCredentials));
    }
    assert_eq!(attempts(&core.try_from("203.0.113.1", &pin).await), Some(600), "the right PIN as a wrong one");
    assert!(core.try_from("203.0.113.2", "adm").await.is_ok());
    core.clock.turn(600 * SECOND);
    assert!(core.try_from("203.0.113.3", &pin).await.is_ok());
}

#[tokio::test]
async fn what_counts_against_a_source_is_on_disk() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let (core, _) = Core::of_hall(Arc::clone(&store)).await;
    for _ in 0..5 {
        assert!(core.try_from("192.0.2.1", "nope").await.is_err());
    }
    core.identity.flush().await;
    drop(core);
    let core = Core::on(store, serving).await;
    assert!(attempts(&core.try_from("192.0.2.1", "adm").await).is_some());
    assert!(core.try_from("192.0.2.9", "adm").await.is_ok(), "and what was set is too");
}

#[tokio::test]
async fn others_learn_after_the_answer_or_when_nobody_was_there_to_be_told() {
    let (core, _) = Core::of_hall(Arc::new(Memory::default())).await;
    let (first_connection, first) = core.come("adm").await;
    let outcome = core.show(core.connection(), "192.0.2.1", b"adm", false).await;
    assert_eq!(first.event(), None, "the newcomer has not been answered yet");
    let refused =
        core.verb(first_connection, Verb::Issue { kinds: vec![TokenKind::Terminal(TerminalToken::Http)], request: none() });
    assert_eq!(refused.await.err(), Some(Refusal::LoginRequired), "and has the role already");
    let second = Peering::of(outcome);
    assert_eq!(first.event(), Some(Event::Detached(Reason::Displaced)));
    // A third is gone before it is told.
    let Outcome { reply, attachment, held } = core.show(core.connection(), "192.0.2.1", b"adm", false).await;
    let untold = reply.result.and_then(Answer::granted).unwrap();
    drop((attachment, held));
    assert_eq!(second.event(), Some(Event::Detached(Reason::Displaced)), "it has lost the role all the same");
    for issued in &untold.tokens {
        assert!(core.back(core.connection(), issued.secret.expose()).await.is_err(), "nobody was told it");
    }
    assert_eq!(core.identity.attached(), 0);
}

fn none() -> GrantRequest {
    GrantRequest { scope: ScopeRequest::Nothing, role: None, binding: Binding::Connection, spelling: None }
}

#[tokio::test]
async fn rights_are_looked_at_in_the_core_too() {
    let (core, pin) = Core::of_hall(Arc::new(Memory::default())).await;
    let (user, inside) = core.come(&pin).await;
    let set = |of| Verb::SetProtection { of, to: NewProtection::Unsecured };
    assert_eq!(core.verb(user, set(Administrator)).await.err(), Some(Refusal::NotPermitted));
    assert_eq!(
        core.verb(user, Verb::Revoke(gatepost_identity::command::Target::Everything)).await.err(),
        Some(Refusal::NotPermitted)
    );
    assert_eq!(core.verb(user, Verb::Narrow(User)).await.err(), Some(Refusal::NotPermitted));
    let stranger = core.connection();
    assert_eq!(core.verb(stranger, set(User)).await.err(), Some(Refusal::LoginRequired));
    assert_eq!(core.verb(stranger, Verb::Narrow(User)).await.err(), Some(Refusal::LoginRequired));
    core.admin().set_terminal_plan("hall", Plan::Free).await.unwrap();
    assert_eq!(inside.event(), Some(Event::Detached(Reason::PlanLost)));
    assert_eq!(core.try_from("192.0.2.1", &pin).await.err(), Some(Refusal::PlanRequired));
    // A terminal that is not served here has nobody to ask.
    let context = Context { terminal: None, ..core.at_hall(core.connection(), "192.0.2.1") };
    let outcome = core.identity.handle(command(Vec::new(), Credential::Unsecured, "x"), &context).await;
    assert_eq!(outcome.reply.result.err(), Some(Refusal::Unavailable));
    core.identity.flush().await;
    assert_eq!((core.audited("narrow").await, core.audited("terminal_plan").await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protection_that_is_on_disk_too_late_counts_all_the_same() {
    let directory = Directory::new("terminal");
    let (store, writer, mut threads) = directory.open();
    threads.push(std::thread::spawn(|| writer.run()));
    let (core, pin) = Core::of_hall(store).await;
    core.unasked.abort();
    while !core.unasked.is_finished() {
        tokio::task::yield_now().await;
    }
    drop(core);
    threads.drain(..).for_each(|thread| thread.join().unwrap());
    let (store, writer, mut threads) = directory.open();
    let core = Core::on(store, serving).await;
    let (administrator, _inside) = core.come("adm").await;
    let (_, user) = core.come(&pin).await;
    let context = core.at_hall(administrator, "192.0.2.1");
    let identity = core.identity.clone();
    let setting = tokio::spawn(async move {
        let verb = Verb::SetProtection { of: User, to: NewProtection::Unsecured };
        identity.handle(Command { presented: Vec::new(), verb }, &context).await
    });
    // Nobody writes, so it stands still.
    tokio::time::sleep(Duration::from_millis(50)).await;
    core.clock.turn(36 * SECOND);
    assert_eq!(setting.await.unwrap().reply.result.err(), Some(Refusal::TimedOut));
    assert_eq!(user.event(), None);
    threads.push(std::thread::spawn(|| writer.run()));
    let changed = Some(Event::Detached(Reason::ProtectionChanged { of: User, by: Administrator }));
    core.until("it is on disk, and told", || async { user.event() == changed }).await;
    assert_eq!(core.try_from("192.0.2.1", &pin).await.err(), Some(Refusal::InvalidCredentials), "and no longer the user's");
}
