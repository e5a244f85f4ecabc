//! Refresh tokens that rotate: who is answered with which successor, and what the use of an old one ends.

use futures_util::future::join_all;

use super::requests::through;
use super::signed::{access, claims, refresh, text};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn both() -> Vec<TokenKind> {
    vec![TokenKind::Access, TokenKind::Refresh]
}

async fn rotating() -> Core {
    Core::with(|settings| settings.rotating_gates.push("web")).await
}

impl Core {
    /// What somebody with this refresh token is told: an access token, which is good, and a refresh token.
    async fn renew(&self, refreshing: &str) -> Result<(String, String), Refusal> {
        let granted = self.issue(vec![refresh(refreshing)], both(), Binding::Request).await?;
        let [one, other] = granted.tokens.as_slice() else { panic!("{granted:?}") };
        assert_eq!((&one.kind, &other.kind), (&TokenKind::Access, &TokenKind::Refresh));
        assert_eq!(self.is_good(&text(one)).await, Ok(()));
        Ok((text(one), text(other)))
    }
}

#[tokio::test]
async fn a_hundred_refreshes_at_once_are_told_one_successor() {
    let core = rotating().await;
    let (_, first) = core.pair().await;
    let answers = join_all((0..100).map(|_| core.renew(&first))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("granted")).collect();
    let second = &answers[0].1;
    assert_ne!(*second, first);
    assert!(answers.iter().all(|(_, told)| told == second), "{answers:?}");
    let mut tokens: Vec<_> = answers.iter().map(|(token, _)| token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 100);
    // A young one has no successor yet, so that a client that uses it at once grows no record.
    assert_eq!(core.renew(second).await.expect("granted").1, *second);
    core.clock.turn(10 * SECOND);
    assert_eq!(core.renew(&first).await.expect("still within the overlap").1, *second);
    assert_eq!(core.audited("reuse").await, 0);
}

#[tokio::test]
async fn an_old_refresh_token_that_comes_back_ends_all_that_grew_from_its_login() {
    let core = rotating().await;
    let (at_login, first) = core.pair().await;
    let others = core.pair().await;
    let (token, second) = core.renew(&first).await.unwrap();
    core.clock.turn(10 * SECOND + Duration::from_millis(1));
    let (last, third) = core.renew(&second).await.unwrap();
    assert_ne!(third, second);
    for good in [&at_login, &token, &last] {
        assert_eq!(core.is_good(good).await, Ok(()));
    }
    assert_eq!(core.renew(&first).await.err(), Some(Refusal::Revoked));
    assert_eq!(core.audited("reuse").await, 1);
    let lines = core.admin().audit_before(None, 1000).await.unwrap();
    assert!(lines.iter().all(|line| line.action != "reuse" || line.attempt.is_some()), "the line names its attempt");
    for old in [&first, &second, &third] {
        assert_eq!(core.renew(old).await.err(), Some(Refusal::Revoked));
        assert_eq!(core.who(vec![refresh(old)]).await.refusal(), Refusal::Revoked);
    }
    for ended in [&at_login, &token, &last] {
        assert_eq!(core.is_good(ended).await, Err(Refusal::Revoked));
    }
    assert_eq!(core.audited("reuse").await, 1, "it ends once");
    assert_eq!(core.is_good(&others.0).await, Ok(()), "another login is another family");
    core.renew(&others.1).await.expect("granted");
}

#[tokio::test]
async fn an_old_refresh_token_is_nothing_to_whatever_else_is_asked_either() {
    let core = rotating().await;
    let (_, first) = core.pair().await;
    let (_, second) = core.renew(&first).await.unwrap();
    core.clock.turn(11 * SECOND);
    let verb = Verb::ApiKeys { environment: "live".to_owned(), renew: true };
    assert_eq!(core.request(vec![refresh(&first)], verb).await.refusal(), Refusal::Revoked);
    assert_eq!(core.renew(&second).await.err(), Some(Refusal::Revoked));
}

#[tokio::test]
async fn a_family_goes_on_until_its_first_token_would_have_ended() {
    let core = rotating().await;
    let granted = core.issue(vec![through("app"), password("ann", "pw")], both(), Binding::Request).await.unwrap();
    let (mut token, end) = (text(&granted.tokens[1]), granted.tokens[1].expires_at);
    for day in 0..36 {
        core.clock.turn(10 * DAY);
        let next = core.issue(vec![refresh(&token)], both(), Binding::Request).await.unwrap_or_else(|why| panic!("{day}: {why:?}"));
        assert_eq!(next.tokens[1].expires_at, end);
        assert_ne!(text(&next.tokens[1]), token);
        token = text(&next.tokens[1]);
    }
    core.clock.turn(5 * DAY);
    assert_eq!(core.renew(&token).await.err(), Some(Refusal::Expired));
}

#[tokio::test]
async fn whoever_is_known_by_a_refresh_token_alone_goes_with_its_successor() {
    let core = rotating().await;
    let (_, first) = core.pair().await;
    let renewed = core
        .who(vec![through("app"), Credential::Kept { token: Secret::new(&*first), kind: TokenKind::Refresh }])
        .await
        .caller
        .renewed;
    let [one, other] = renewed.as_slice() else { panic!("{renewed:?}") };
    assert_eq!((&one.kind, &other.kind), (&TokenKind::Access, &TokenKind::Refresh));
    assert_eq!(core.renew(&first).await.expect("granted").1, text(other));
}

#[tokio::test]
async fn a_refresh_token_from_before_they_rotated_begins_a_family_and_stays_ended_with_it() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let before = Core::spelled(Arc::clone(&store), requests::web, |_| ()).await;
    before.populate().await;
    let (_, old) = before.pair().await;
    assert_eq!(claims(&old).get("grant_id"), Some(&serde_json::Value::Null));
    let core = Core::spelled(Arc::clone(&store), requests::web, |settings| settings.rotating_gates.push("web")).await;
    let (_, first) = core.renew(&old).await.expect("granted");
    assert_eq!(core.renew(&old).await.expect("granted").1, first);
    core.clock.turn(11 * SECOND);
    let (token, second) = core.renew(&first).await.unwrap();
    assert_eq!(core.renew(&old).await.err(), Some(Refusal::Revoked));
    assert_eq!((core.renew(&old).await.err(), core.renew(&second).await.err()), (Some(Refusal::Revoked), Some(Refusal::Revoked)));
    assert_eq!(core.is_good(&token).await, Err(Refusal::Revoked));
    // Also for a core that knows nothing from memory, and one that has them rotate no more.
    for gates in [vec!["web"], Vec::new()] {
        let other = Core::spelled(Arc::clone(&store), requests::web, |settings| settings.rotating_gates = gates).await;
        assert_eq!(other.who(vec![refresh(&old)]).await.refusal(), Refusal::Revoked);
        assert_eq!(other.who(vec![refresh(&second)]).await.refusal(), Refusal::Revoked);
        assert_eq!(other.is_good(&token).await, Err(Refusal::Revoked));
    }
}

#[tokio::test]
async fn whoever_signs_out_and_whatever_cuts_the_account_off_ends_the_family() {
    let core = rotating().await;
    let (token, first) = core.pair().await;
    let (other, second) = core.renew(&first).await.unwrap();
    core.request(vec![access(&other)], Verb::Logout).await.result.and_then(Answer::done).expect("signed out");
    assert_eq!((core.is_good(&token).await, core.is_good(&other).await), (Err(Refusal::Revoked), Err(Refusal::Revoked)));
    assert_eq!((core.renew(&first).await.err(), core.renew(&second).await.err()), (Some(Refusal::Revoked), Some(Refusal::Revoked)));
    let (token, first) = core.pair().await;
    core.admin().set_password("ann", Some(&Secret::new("pw"))).await.unwrap();
    assert_eq!((core.is_good(&token).await, core.renew(&first).await.err()), (Err(Refusal::Revoked), Some(Refusal::Revoked)));
    core.renew(&core.pair().await.1).await.expect("a later login stands");
}
