//! Panels that try what they should not: to come up again, to guess from inside, to fill what is written down.

use gatepost_identity::command::Target;
use gatepost_identity::terminal::LockOut;

use super::*;

const COME_BACK: TerminalToken = TerminalToken::Connection;

impl Core {
    /// Somebody comes in on this connection, which is theirs already.
    async fn come_again(&self, connection: ConnectionId, text: &str) -> Peering {
        Peering::of(self.show(connection, "192.0.2.1", text.as_bytes(), false).await)
    }

    /// What a connection that stepped down was told.
    async fn step_down(&self, connection: ConnectionId) -> Granted {
        self.verb(connection, Verb::Narrow(User)).await.and_then(Answer::granted).unwrap()
    }

    /// How many lines the audit has of this action, and for how many attempts they stand.
    async fn lines(&self, action: &str) -> (usize, u32) {
        self.identity.flush().await;
        let lines = self.admin().audit_before(None, 1000).await.unwrap();
        let counts: Vec<u32> = lines.iter().filter(|line| line.action == action).map(|line| line.count).collect();
        (counts.len(), counts.iter().sum())
    }

    async fn leads_back(&self, token: &[u8]) -> Option<TerminalRole> {
        self.back(self.connection(), token).await.ok().and_then(|peer| peer.granted.principal.terminal)
    }
}

#[tokio::test]
async fn whoever_is_in_as_a_user_guesses_the_administrator_no_oftener_for_it() {
    let (core, pin) = Core::of_hall(Arc::new(Memory::default())).await;
    for _ in 0..4 {
        assert_eq!(core.try_from("192.0.2.1", "nope").await.err(), Some(Refusal::InvalidCredentials));
    }
    assert!(core.try_from("192.0.2.1", &pin).await.is_ok());
    assert_eq!(core.try_from("192.0.2.1", "nope").await.err(), Some(Refusal::InvalidCredentials), "the fifth");
    assert_eq!(attempts(&core.try_from("192.0.2.1", &pin).await), Some(30));
    core.clock.turn(30 * SECOND);
    for _ in 0..3 {
        assert!(core.try_from("192.0.2.1", &pin).await.is_ok(), "a right one costs nothing");
    }
    assert_eq!(core.try_from("192.0.2.1", "nope").await.err(), Some(Refusal::InvalidCredentials));
    assert_eq!(attempts(&core.try_from("192.0.2.1", "nope").await), Some(60), "and goes on where it was");
    core.clock.turn(60 * SECOND);
    assert!(core.try_from("192.0.2.1", "adm").await.is_ok());
    for _ in 0..5 {
        assert_eq!(core.try_from("192.0.2.1", "nope").await.err(), Some(Refusal::InvalidCredentials), "that makes it forgotten");
    }
}

#[tokio::test]
async fn what_can_be_repeated_for_ever_is_one_line_a_minute_for_each_source_and_hides_nobody() {
    let (core, pin) = Core::of_hall(Arc::new(Memory::default())).await;
    let stranger = core.connection();
    for _ in 0..12_000 {
        assert_eq!(core.verb(stranger, Verb::Narrow(User)).await.err(), Some(Refusal::LoginRequired));
    }
    for _ in 0..100 {
        assert!(core.back(stranger, b"stale").await.is_err());
    }
    // Others are seen all the same, and what the throttle counts is a line each.
    assert!(core.try_from("203.0.113.1", "nope").await.is_err() && core.try_from("203.0.113.1", "nope").await.is_err());
    assert!(core.try_from("203.0.113.1", &pin).await.is_ok());
    assert_eq!(core.lines("narrow").await, (2, 12_000), "at once, and how often it was repeated");
    assert_eq!(core.lines("restore").await, (2, 100));
    assert_eq!((core.lines("login").await, core.lines("audit_lost").await), ((3, 3), (0, 0)));
    // A loop of somebody who may.
    let (administrator, inside) = core.come("adm").await;
    for _ in 0..50 {
        core.verb(administrator, Verb::Revoke(Target::Everything)).await.unwrap();
    }
    assert_eq!(core.lines("revoke").await, (2, 50));
    core.clock.turn(61 * SECOND);
    core.verb(administrator, Verb::Revoke(Target::Everything)).await.unwrap();
    assert_eq!(core.lines("revoke").await, (3, 51), "and in the next minute it is a line again");
    drop(inside);
}

#[tokio::test]
async fn an_open_terminal_lets_somebody_in_for_ever_and_writes_little() {
    let core = Core::on(Arc::new(Memory::default()), serving).await;
    for _ in 0..200 {
        let context = core.at_hall(core.connection(), "192.0.2.1");
        let outcome = core.identity.handle(command(Vec::new(), Credential::Unsecured, "x"), &context).await;
        assert!(outcome.reply.result.is_ok());
    }
    assert_eq!(core.lines("login").await, (2, 200));
}

#[tokio::test]
async fn whoever_steps_down_has_nothing_left_of_what_the_connection_was_told_before() {
    let (core, _) = Core::of_hall(Arc::new(Memory::default())).await;
    let (connection, first) = core.come("adm").await;
    let second = core.come_again(connection, "adm").await;
    core.step_down(connection).await;
    for (peer, which) in [(&second, "second"), (&first, "first")] {
        assert_eq!(core.leads_back(&token(peer, COME_BACK)).await, None, "the {which}");
        assert_eq!(core.back(connection, &token(peer, COME_BACK)).await.err(), Some(Refusal::InvalidCredentials));
        assert!(!core.is_good_for(&token(peer, TerminalToken::Http), FILES).await);
    }
}

#[tokio::test]
async fn nor_of_what_it_was_told_before_it_was_displaced() {
    let (core, pin) = Core::of_hall(Arc::new(Memory::default())).await;
    let (connection, first) = core.come("adm").await;
    let (other, _other) = core.come("adm").await;
    let user = core.come_again(connection, &pin).await;
    assert_eq!(core.leads_back(&token(&first, COME_BACK)).await, Some(Administrator), "displaced, it may come back");
    let second = core.come_again(connection, "adm").await;
    assert!(core.back(connection, &token(&user, COME_BACK)).await.is_err(), "what it held last it has given up");
    core.step_down(connection).await;
    assert_eq!(core.leads_back(&token(&second, COME_BACK)).await, None);
    assert_eq!(core.leads_back(&token(&first, COME_BACK)).await, None);
    // Another panel that came in by itself keeps what is its own.
    let theirs = core.come_again(other, "adm").await;
    let (third, _third) = core.come("adm").await;
    core.step_down(third).await;
    assert_eq!(core.leads_back(&token(&theirs, COME_BACK)).await, Some(Administrator));
}

#[tokio::test]
async fn whoever_is_displaced_has_no_files_left_of_any_time_before() {
    let (core, _) = Core::of_hall(Arc::new(Memory::default())).await;
    let (connection, first) = core.come("adm").await;
    let second = core.come_again(connection, "adm").await;
    let (_, _newcomer) = core.come("adm").await;
    assert_eq!(second.event(), Some(Event::Detached(Reason::Displaced)));
    for peer in [&first, &second] {
        assert!(!core.is_good_for(&token(peer, TerminalToken::Http), FILES).await);
        assert!(!core.is_good_for(&token(peer, TerminalToken::Overlay), &[TerminalToken::Overlay]).await);
    }
}

#[tokio::test]
async fn a_token_that_is_shown_again_and_again_stays_good_until_its_end() {
    let (core, _) = Core::of_hall(Arc::new(Memory::default())).await;
    let (connection, first) = core.come("adm").await;
    let kept = token(&first, COME_BACK);
    for number in 0..300 {
        assert!(core.back(connection, &kept).await.is_ok(), "number {number}");
    }
}

#[tokio::test]
async fn a_pin_that_nobody_looks_at_counts_against_nobody() {
    let (core, pin) = Core::of_hall(Arc::new(Memory::default())).await;
    core.admin().protect_terminal("hall", Administrator, NewProtection::Pin).await.unwrap();
    for number in 0..50 {
        assert!(core.try_from(&format!("198.51.100.{number}"), "nope").await.is_err());
    }
    for _ in 0..20 {
        core.clock.turn(10 * SECOND);
        assert!(attempts(&core.try_from("203.0.113.1", &pin).await).is_some_and(|seconds| seconds > 300), "that of everybody");
    }
    core.clock.turn(400 * SECOND);
    assert!(core.try_from("203.0.113.1", &pin).await.is_ok(), "and it has no wait of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_compared_in_time_is_no_failure() {
    let slow = |settings: &mut Settings| {
        serving(settings);
        settings.passwords.memory = 96 * 1024;
        settings.passwords.iterations = 6;
        settings.throttle.terminals = LockOut { free: 1, first_wait: 600 * SECOND, ..LockOut::default() };
    };
    let core = Core::on(Arc::new(Memory::default()), slow).await;
    let password = NewProtection::Password(NewPassword::parse(Secret::new("adm")).unwrap());
    core.admin().protect_terminal("hall", Administrator, password).await.unwrap();
    let (identity, context) = (core.identity.clone(), core.at_hall(core.connection(), "192.0.2.1"));
    let credential = Credential::Terminal { text: Secret::new("adm"), token_shaped: false };
    let asked = tokio::spawn(async move { identity.handle(command(Vec::new(), credential, "x"), &context).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    core.clock.turn(36 * SECOND);
    assert_eq!(asked.await.unwrap().reply.result.err(), Some(Refusal::TimedOut));
    assert!(core.try_from("192.0.2.1", "adm").await.is_ok(), "it need not wait");
}

#[tokio::test]
async fn a_right_pin_moves_no_window() {
    let pins = |settings: &mut Settings| {
        serving(settings);
        settings.throttle.terminals = LockOut { pins_free: 3, pins_within: 4 * SECOND, ..LockOut::default() };
    };
    let core = Core::on(Arc::new(Memory::default()), pins).await;
    core.admin().protect_terminal("hall", Administrator, NewProtection::Pin).await.unwrap();
    let (_, pin) = core.admin().protect_terminal("hall", User, NewProtection::Pin).await.unwrap();
    let pin = pin.unwrap().expose_text().unwrap().to_owned();
    assert!(core.try_from("192.0.2.1", "nope").await.is_err() && core.try_from("192.0.2.2", "nope").await.is_err());
    core.clock.turn(Duration::from_millis(3500));
    assert!(core.try_from("192.0.2.3", &pin).await.is_ok());
    core.clock.turn(3 * SECOND);
    assert_eq!(core.try_from("192.0.2.4", "nope").await.err(), Some(Refusal::InvalidCredentials));
    assert!(core.try_from("192.0.2.5", &pin).await.is_ok(), "two of the three are longer ago than the window");
}

#[tokio::test]
async fn a_crowd_of_networks_keeps_out_nobody_who_came_in_before_nor_changes_when_pins_are_looked_at() {
    let (core, _) = Core::of_hall(Arc::new(Memory::default())).await;
    core.admin().protect_terminal("hall", User, NewProtection::Unsecured).await.unwrap();
    assert!(core.try_from("192.0.2.1", "adm").await.is_ok());
    for number in 0..9_000 {
        let source = format!("2001:db8:{:x}:{:x}::1", number / 256, number % 256);
        assert_eq!(core.try_from(&source, "nope").await.err(), Some(Refusal::InvalidCredentials), "{source}");
    }
    for number in 0..200 {
        assert!(core.try_from(&format!("2001:db8:ffff:{number:x}::1"), "adm").await.is_ok(), "a newcomer");
    }
    assert!(core.try_from("192.0.2.1", "adm").await.is_ok());
}

#[tokio::test]
async fn where_every_place_is_taken_whoever_came_in_before_has_one_of_their_own() {
    let few = |settings: &mut Settings| {
        serving(settings);
        settings.throttle.entries = 8;
    };
    let core = Core::on(Arc::new(Memory::default()), few).await;
    let password = NewProtection::Password(NewPassword::parse(Secret::new("adm")).unwrap());
    core.admin().protect_terminal("hall", Administrator, password).await.unwrap();
    assert!(core.try_from("192.0.2.1", "adm").await.is_ok());
    let mut compared = 0;
    for number in 0..100 {
        compared += u32::from(attempts(&core.try_from(&format!("198.51.100.{number}"), "nope").await).is_none());
    }
    assert_eq!(compared, 8 + 5);
    assert!(attempts(&core.try_from("203.0.113.1", "adm").await).is_some(), "newcomers share what is left");
    for _ in 0..5 {
        assert_eq!(core.try_from("192.0.2.1", "nope").await.err(), Some(Refusal::InvalidCredentials));
    }
    assert!(attempts(&core.try_from("192.0.2.1", "adm").await).is_some(), "five are free, and not one more");
    core.clock.turn(30 * SECOND);
    assert!(core.try_from("192.0.2.1", "adm").await.is_ok());
}
