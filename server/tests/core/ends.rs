//! What signed tokens end with beside their own time: the key they were had for, the client they came through, their account; and
//! what nobody is kept out for.

use super::api_keys::{api_key, with_keys};
use super::requests::{cookie, through};
use super::signed::{access, refresh, text};
use super::*;

#[tokio::test]
async fn an_access_token_ends_with_the_key_that_it_was_had_for() {
    let core = with_keys().await;
    let key = core.key_of_ann("live", None).await;
    let granted = core.issue(vec![api_key(&key)], vec![TokenKind::Access], Binding::Request).await.unwrap();
    let (known, unknown) = (text(&granted.tokens[0]), core.issue(vec![api_key(&key)], vec![TokenKind::Access], Binding::Request));
    let unknown = text(&unknown.await.unwrap().tokens[0]);
    // A token had for a token rests on the same.
    let again = text(&core.issue(vec![access(&known)], vec![TokenKind::Access], Binding::Request).await.unwrap().tokens[0]);
    assert_eq!((core.is_good(&known).await, core.is_good(&again).await), (Ok(()), Ok(())));
    core.admin().cancel_api_key("ann", &key[..8]).await.unwrap();
    for token in [&known, &unknown, &again] {
        assert_eq!(core.is_good(token).await, Err(Refusal::Revoked));
    }
    // What its owner renews ends, too; and one with an end of its own is no longer than that.
    let ends = core.key_of_ann("live", Some(DAY)).await;
    let granted = core.issue(vec![api_key(&ends)], vec![TokenKind::Access], Binding::Request).await.unwrap();
    let token = text(&granted.tokens[0]);
    assert_eq!((core.is_good(&token).await, granted.tokens[0].expires_at), (Ok(()), Some(core.clock.now().after(DAY))));
    core.own_keys(vec![through("app"), password("ann", "pw")], "live", true).await.unwrap();
    assert_eq!(core.is_good(&token).await, Err(Refusal::Revoked));
}

#[tokio::test]
async fn all_keys_of_an_account_are_cancelled_with_one_word() {
    let core = with_keys().await;
    let keys = [core.key_of_ann("live", None).await, core.key_of_ann("test", None).await];
    let token = text(&core.issue(vec![api_key(&keys[0])], vec![TokenKind::Access], Binding::Request).await.unwrap().tokens[0]);
    for key in &keys {
        core.who(vec![api_key(key)]).await.granted();
    }
    assert_eq!(core.admin().cancel_api_keys("ann").await, Ok(2));
    for key in &keys {
        assert_eq!(core.who(vec![api_key(key)]).await.refusal(), Refusal::Revoked);
    }
    assert_eq!(core.is_good(&token).await, Err(Refusal::Revoked));
    assert_eq!(core.admin().cancel_api_keys("ann").await, Ok(0));
    assert_eq!(core.admin().cancel_api_keys("nobody").await, Err(Refusal::NotFound("user")));
}

#[tokio::test]
async fn an_owner_who_renews_without_end_has_to_wait() {
    let core = with_keys().await;
    let (_, session) = core.cookie_of_ann(false).await;
    let shown = || vec![cookie(&session)];
    let renewals = futures_util::future::join_all((0..30).map(|_| core.own_keys(shown(), "live", true))).await;
    let refused: Vec<_> = renewals.iter().filter_map(|renewed| renewed.as_ref().err()).collect();
    assert_eq!(refused.len(), 10);
    for refusal in refused {
        let Refusal::TooManyAttempts { retry_after } = refusal else { panic!("{refusal:?}") };
        assert_eq!(*retry_after, 60 * MINUTE);
    }
    core.own_keys(shown(), "live", false).await.expect("they are told of them all the same");
    core.clock.turn(60 * MINUTE);
    core.own_keys(shown(), "live", true).await.expect("granted");
}

#[tokio::test]
async fn tokens_that_come_through_a_client_end_with_it() {
    let core = Core::with(|_| ()).await;
    let (token, refreshing) = core.pair().await;
    let shown = |token: &str| vec![through("app"), access(token)];
    core.who(shown(&token)).await.granted();
    core.admin().set_client_status("app", Status::Disabled).await.unwrap();
    assert_eq!(core.who(shown(&token)).await.refusal(), Refusal::InvalidClient);
    assert_eq!(core.who(vec![through("app"), refresh(&refreshing)]).await.refusal(), Refusal::InvalidClient);
    core.admin().set_client_status("app", Status::Active).await.unwrap();
    core.who(shown(&token)).await.granted();
    core.admin().remove_client("app").await.unwrap();
    assert_eq!(core.who(shown(&token)).await.refusal(), Refusal::InvalidClient);
}

#[tokio::test]
async fn that_an_account_is_gone_is_told_to_whoever_holds_a_refresh_token_of_it_only() {
    let core = Core::with(|_| ()).await;
    let (token, refreshing) = core.pair().await;
    core.who(vec![refresh(&refreshing)]).await.granted();
    core.admin().remove_user("ann").await.unwrap();
    assert_eq!(core.who(vec![refresh(&refreshing)]).await.refusal(), Refusal::AccountGone);
    assert_eq!(core.is_good(&token).await, Err(Refusal::AccountUnavailable));
    assert_eq!(core.who(vec![refresh(&token)]).await.refusal(), Refusal::InvalidCredentials);
    let spoiled = format!("{}x", &refreshing[..refreshing.len() - 1]);
    assert_eq!(core.who(vec![refresh(&spoiled)]).await.refusal(), Refusal::InvalidCredentials);
}

#[tokio::test]
async fn what_browsers_keep_counts_against_nobody() {
    let core = Core::with(|_| ()).await;
    let kept = |kind: TokenKind| vec![Credential::Kept { token: Secret::new("a.b.c"), kind }];
    for _ in 0..150 {
        for kind in [TokenKind::Access, TokenKind::Refresh] {
            assert_eq!(core.who(kept(kind)).await.refusal(), Refusal::InvalidCredentials);
        }
    }
    assert_eq!(core.who(vec![access("a.b.c")]).await.refusal(), Refusal::InvalidCredentials);
    let (token, refreshing) = core.pair().await;
    let keeps = |token: &str, kind| vec![Credential::Kept { token: Secret::new(token), kind }];
    assert_eq!(core.who(keeps(&token, TokenKind::Access)).await.granted().principal.method, Method::Access);
    assert_eq!(core.who(keeps(&refreshing, TokenKind::Refresh)).await.granted().principal.method, Method::Refresh);
    assert_eq!(core.who(keeps(&refreshing, TokenKind::Access)).await.refusal(), Refusal::InvalidCredentials);
}

#[tokio::test]
async fn what_nobody_counts_is_one_line_of_the_audit_however_often_it_is_shown() {
    let core = Core::with(|_| ()).await;
    let (token, _) = core.pair().await;
    core.admin().end_sessions_of("ann").await.unwrap();
    let kept = || Credential::Kept { token: Secret::new("a.b.c"), kind: TokenKind::Access };
    let kept_refresh = || Credential::Kept { token: Secret::new("x"), kind: TokenKind::Refresh };
    for _ in 0..50 {
        assert_eq!(core.who(vec![kept(), kept_refresh()]).await.refusal(), Refusal::InvalidCredentials);
        assert_eq!(core.who(vec![access(&token)]).await.refusal(), Refusal::Revoked);
    }
    for _ in 0..3 {
        assert_eq!(core.who(vec![access("a.b.c")]).await.refusal(), Refusal::InvalidCredentials);
    }
    // One of each kind, and each of those that the throttle counts.
    core.until("the refusals are written", || async { core.audited("recognise").await == 2 + 3 }).await;
    core.clock.turn(Duration::from_secs(61));
    core.until("how often they came is written", || async { core.audited("recognise").await == 2 + 3 + 2 }).await;
    let lines = core.admin().audit_before(None, 1000).await.unwrap();
    let counts: u32 = lines.iter().filter(|line| line.action == "recognise").map(|line| line.count).sum();
    assert_eq!(counts, 100 + 50 + 3);
}

#[tokio::test]
async fn a_refresh_token_does_not_renew_itself() {
    let core = Core::with(|_| ()).await;
    let (_, refreshing) = core.pair().await;
    let kinds = vec![TokenKind::Access, TokenKind::Refresh];
    let granted = core.issue(vec![refresh(&refreshing)], kinds, Binding::TokenCookies).await.unwrap();
    let kinds: Vec<_> = granted.tokens.iter().map(|token| token.kind.clone()).collect();
    assert_eq!(kinds, [TokenKind::Access]);
}
