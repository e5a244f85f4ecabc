//! Tokens that roll, how long connections and sessions live, and what changes behind them.

use super::*;

#[tokio::test]
async fn a_client_that_keeps_its_first_token_goes_on_working() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    for day in 0..29 {
        let again = core.present(&first).await.unwrap_or_else(|refusal| panic!("day {day}: {refusal:?}"));
        assert_ne!(again.token(), first);
        core.clock.turn(DAY);
    }
    core.clock.turn(DAY);
    assert_eq!(core.present(&first).await.err(), Some(Refusal::Expired), "thirty days after it was issued");
}

#[tokio::test]
async fn a_token_stays_good_for_the_overlap_after_its_successor_was_presented_and_siblings_do_not_matter() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let (one, other) = (core.present(&first).await.unwrap().token(), core.present(&first).await.unwrap().token());
    core.clock.turn(DAY);
    let grown = core.present(&one).await.unwrap().token();
    core.clock.turn(MINUTE);
    core.present(&first).await.expect("within the overlap");
    core.clock.turn(Duration::from_millis(1));
    core.present(&other).await.expect("a sibling of the one presented stands");
    core.present(&grown).await.expect("the branch goes on");
}

#[tokio::test]
async fn a_superseded_token_that_comes_back_ends_what_grew_from_it() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let second = core.present(&first).await.unwrap().token();
    let third = core.present(&second).await.unwrap();
    core.clock.turn(MINUTE + Duration::from_millis(1));
    assert_eq!(core.present(&first).await.err(), Some(Refusal::Revoked));
    assert_eq!(third.event(), Some(Event::Detached(Reason::Revoked)), "the connection that holds such a token is told");
    for token in [&second, &third.token()] {
        assert_eq!(core.present(token).await.err(), Some(Refusal::InvalidCredentials), "gone");
    }
    assert_eq!(core.present(&first).await.err(), Some(Refusal::Revoked), "and it stays refused");
}

#[tokio::test]
async fn where_reuse_is_only_refused_the_branch_goes_on() {
    let core = Core::with(|settings| settings.sessions.on_reuse = gatepost_identity::session::OnReuse::Refuse).await;
    let first = core.log_in().await.token();
    let second = core.present(&first).await.unwrap().token();
    let third = core.present(&second).await.unwrap();
    core.clock.turn(MINUTE + Duration::from_millis(1));
    assert_eq!(core.present(&first).await.err(), Some(Refusal::Revoked));
    assert_eq!(third.event(), None);
    core.present(&third.token()).await.expect("its branch stands");
}

#[tokio::test]
async fn a_connection_that_is_told_a_new_token_gives_up_the_one_it_never_presented() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let connection = core.connection();
    let told = core.present_on(&first, connection).await.unwrap();
    let told_again = core.present_on(&first, connection).await.unwrap();
    assert_eq!(core.present(&told.token()).await.err(), Some(Refusal::InvalidCredentials));
    core.present(&told_again.token()).await.expect("the newer one stands");
}

#[tokio::test]
async fn past_sixty_four_unpresented_tokens_the_oldest_whose_connection_is_gone_goes() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let held = core.present(&first).await.unwrap();
    let mut dropped = Vec::new();
    for _ in 0..64 {
        core.clock.turn(Duration::from_millis(1));
        dropped.push(core.present(&first).await.unwrap().token());
    }
    assert_eq!(core.present(&dropped[0]).await.err(), Some(Refusal::InvalidCredentials), "the oldest is gone");
    core.present(&dropped[63]).await.expect("the newest stands");
    core.present(&held.token()).await.expect("what a connection holds stands, old as it is");
}

#[tokio::test]
async fn a_connection_ends_half_an_hour_after_it_last_proved_itself() {
    let core = Core::with(|_| ()).await;
    let connection = core.connection();
    let peer = core.log_in_on(connection).await;
    core.clock.turn(29 * MINUTE);
    let again = core.present_on(&peer.token(), connection).await.unwrap();
    core.clock.turn(2 * MINUTE);
    core.until("time passes", || async {
        core.clock.now() > again.granted.principal.expires_at.unwrap().after(MINUTE) || again.event().is_none()
    })
    .await;
    assert_eq!(again.event(), None, "the second proof counts");
    core.clock.turn(28 * MINUTE);
    core.until("the end is told", || async { again.event() == Some(Event::Detached(Reason::Expired)) }).await;
    core.present_on(&again.token(), connection).await.expect("the session lives on");
}

#[tokio::test]
async fn a_connection_ends_at_its_date_also_when_somebody_has_set_the_clock() {
    const HOUR: i64 = 3_600_000;
    let core = Core::with(|_| ()).await;
    let ended = |peer: &Peering| peer.event() == Some(Event::Detached(Reason::Expired));
    let peer = core.log_in().await;
    core.clock.set(HOUR);
    core.until("what is past by the clock set ahead is over", || async { ended(&peer) }).await;
    core.present(&peer.token()).await.expect("the session lives on");

    // Set back, the date that was told lies further off, and one told afterwards comes first.
    let before = core.log_in().await;
    core.clock.set(-HOUR);
    let after = core.log_in().await;
    core.clock.turn(31 * MINUTE);
    core.until("the end is told", || async { ended(&after) }).await;
    assert_eq!(before.event(), None, "its date has not come");
    core.clock.turn(60 * MINUTE);
    core.until("the end is told", || async { ended(&before) }).await;
}

#[tokio::test]
async fn an_account_that_ends_takes_its_connections_along() {
    let core = Core::with(|_| ()).await;
    let ends = core.clock.now().after(MINUTE);
    core.admin().set_user("ann", UserChange { expires_at: Some(Some(ends)), ..UserChange::default() }).await.unwrap();
    let peer = core.log_in().await;
    assert_eq!(peer.granted.principal.expires_at, Some(ends));
    core.clock.turn(MINUTE);
    assert_eq!(core.present(&peer.token()).await.err(), Some(Refusal::AccountUnavailable));
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Err(Refusal::AccountUnavailable));
    assert_eq!(
        core.guess("ann", "no", "192.0.2.1").await,
        Err(Refusal::InvalidCredentials),
        "only the right secret is told the cause"
    );
}

#[tokio::test]
async fn a_session_that_nobody_used_for_ninety_days_is_over() {
    let core = Core::with(|settings| settings.sessions.token_life = 365 * DAY).await;
    let first = core.log_in().await.token();
    core.clock.turn(89 * DAY);
    let second = core.present(&first).await.unwrap().token();
    core.clock.turn(89 * DAY);
    let third = core.present(&second).await.expect("its last use counts").token();
    core.clock.turn(90 * DAY);
    let refused = core.present(&third).await.err();
    assert!(matches!(refused, Some(Refusal::Expired | Refusal::InvalidCredentials)), "{refused:?}");
    core.until("the session is ended", || async { core.sessions().await == 0 }).await;
}

#[tokio::test]
async fn tokens_are_good_at_their_own_gate_and_provider_only() {
    let core = Core::with(|settings| {
        settings.providers.push(Provider { name: "other".to_owned(), kind: ProviderKind::Local, aliases: Vec::new() });
    })
    .await;
    let token = core.log_in().await.token();
    let context = core.context(core.connection(), "192.0.2.1");
    let shown = |provider: &'static str, gate: &'static str| {
        let command =
            command(Vec::new(), Credential::Token { any_of: vec![Secret::new(token.clone())], kind: TokenKind::Restore }, provider);
        let context = Context { gate, ..context.clone() };
        let identity = core.identity.clone();
        async move { identity.handle(command, &context).await.reply.result.map(|_| ()) }
    };
    assert_eq!(shown("LOCAL", "zenith").await, Ok(()));
    assert_eq!(shown("other", "zenith").await, Err(Refusal::InvalidCredentials));
    assert_eq!(shown("Bearer", "zenith").await, Err(Refusal::UnknownProvider));
    assert_eq!(shown("local", "elsewhere").await, Err(Refusal::InvalidCredentials));
}

#[tokio::test]
async fn what_is_taken_from_an_account_is_taken_from_its_connections() {
    let core = Core::with(|_| ()).await;
    let peer = core.log_in().await;
    let change =
        |scopes: &[&str]| UserChange { scopes: Some(scopes.iter().map(|&s| s.to_owned()).collect()), ..UserChange::default() };
    core.admin().set_user("ann", change(&["m"])).await.unwrap();
    let Some(Event::Changed(principal)) = peer.event() else { panic!("the connection is told") };
    assert_eq!(format!("{:?}", principal.scopes), "[m]");
    core.admin().set_user("ann", change(&["t"])).await.unwrap();
    core.admin().set_user("ann", change(&[])).await.unwrap();
    let Some(Event::Changed(principal)) = peer.event() else { panic!("the connection is told the last word") };
    assert!(principal.scopes.is_empty());
    core.admin().set_user_status("ann", Status::Disabled).await.unwrap();
    assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)));
    core.admin().set_user_status("ann", Status::Active).await.unwrap();
    assert_eq!(core.present(&peer.token()).await.err(), Some(Refusal::InvalidCredentials), "its sessions are ended for good");
}

#[tokio::test]
async fn a_session_may_hold_sixty_four_unpresented_tokens_and_presenting_one_costs_no_other() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let mut loose = Vec::new();
    for _ in 0..64 {
        core.clock.turn(Duration::from_millis(1));
        loose.push(core.present(&first).await.unwrap().token());
    }
    core.present(&loose[63]).await.expect("the newest stands");
    core.present(&loose[0]).await.expect("and the oldest of sixty-four was not given up for its successor");
}

#[tokio::test]
async fn the_token_of_a_connection_that_has_expired_and_lives_is_not_given_up() {
    let core = Core::with(|_| ()).await;
    let first = core.log_in().await.token();
    let mut peers = Vec::new();
    for _ in 0..70 {
        peers.push(core.present(&first).await.unwrap());
    }
    core.clock.turn(31 * MINUTE);
    core.until("all have expired", || async { core.identity.attached() == 0 }).await;
    core.present(&first).await.expect("nobody has presented a successor");
    for (number, peer) in peers.iter().enumerate() {
        core.present(&peer.token()).await.unwrap_or_else(|refusal| panic!("{number}: {refusal:?}"));
    }
}
