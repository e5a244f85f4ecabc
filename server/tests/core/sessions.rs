//! How many sessions and connections there may be, and grants that nobody was told.

use super::*;

#[tokio::test]
async fn a_grant_that_nobody_was_told_is_taken_back() {
    let core = Core::with(|_| ()).await;
    let context = core.context(core.connection(), "192.0.2.1");
    let outcome = core.ask(password("ann", "pw"), &context).await;
    assert!(outcome.reply.result.is_ok());
    assert_eq!(core.sessions().await, 1);
    drop(outcome);
    core.until("the session is gone", || async { core.sessions().await == 0 }).await;
    let peer = core.log_in().await;
    core.clock.turn(MINUTE);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(core.sessions().await, 1, "what was told stays");
    drop(peer);
}

#[tokio::test]
async fn a_second_login_on_one_connection_takes_the_place_of_the_first() {
    let core = Core::with(|_| ()).await;
    let connection = core.connection();
    let first = core.log_in_on(connection).await;
    let second = core.log_in_on(connection).await;
    core.until("the first session is gone", || async { core.sessions().await == 1 }).await;
    assert_eq!(core.present(&first.token()).await.err(), Some(Refusal::InvalidCredentials));
    assert_eq!(second.event(), None);
    core.present(&second.token()).await.expect("the second stands");
}

#[tokio::test]
async fn past_the_limit_the_oldest_session_is_displaced_after_the_grace() {
    let core = Core::with(|settings| settings.sessions.max_sessions = Some(1)).await;
    let first = core.log_in().await;
    core.clock.turn(Duration::from_millis(1));
    let second = core.log_in().await;
    assert_eq!(first.event(), None, "not before the grace");
    core.clock.turn(Duration::from_secs(4));
    core.until("the first is displaced", || async { first.event() == Some(Event::Detached(Reason::Displaced)) }).await;
    assert_eq!(second.event(), None);
    assert_eq!(core.sessions().await, 1);
}

#[tokio::test]
async fn a_session_holds_no_more_connections_than_it_may() {
    let core = Core::with(|settings| settings.sessions.max_connections = Some(2)).await;
    let first = core.log_in().await;
    let second = core.present(&first.token()).await.unwrap();
    assert_eq!(core.present(&first.token()).await.err(), Some(Refusal::TooManySessions));
    drop(second);
    core.present(&first.token()).await.expect("a connection that is gone does not count");
}
