//! The operator's own secret: what it opens, what it does not, and what becomes of whoever guesses it.

use gatepost_identity::account::Rights;
use gatepost_identity::operator_secret::OperatorSecret;

use super::requests::{cookie, through};
use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn secret(text: &str) -> Credential {
    Credential::OperatorSecret(Secret::new(text))
}

fn admin_role() -> Right {
    Right::Role("Admin".to_owned())
}

async fn with_secret() -> Core {
    let rights = Rights::parse(vec!["Admin".to_owned()], Vec::new()).unwrap();
    let kind = ProviderKind::Secret(OperatorSecret::new(&Secret::new(SECRET), rights).unwrap());
    Core::with(|settings| settings.providers.push(Provider { name: "operator".to_owned(), kind, aliases: Vec::new() })).await
}

#[tokio::test]
async fn whoever_shows_it_holds_its_roles_for_one_request_and_is_nobody() {
    let core = with_secret().await;
    let Granted { principal, tokens } = core.who(vec![through("app"), secret(SECRET)]).await.granted();
    assert_eq!((principal.method, principal.session, tokens.len()), (Method::OperatorSecret, None, 0));
    assert!(principal.account.is_none() && principal.client.is_none());
    assert_eq!(principal.may(&admin_role()), Ok(()));
    let add = Rights::parse(vec!["Editor".to_owned()], Vec::new()).unwrap();
    let verb = Verb::ChangeRights { account: "ann".to_owned(), add: add.clone(), remove: Rights::default(), right: admin_role() };
    assert_eq!(core.request(vec![secret(SECRET)], verb).await.result.and_then(Answer::rights), Ok(add));
    assert_eq!((core.audited("operator_secret").await, core.sessions().await), (2, 0));
}

#[tokio::test]
async fn no_token_and_no_key_is_had_for_it() {
    let core = with_secret().await;
    let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding: Binding::Request, spelling: None };
    for kind in [TokenKind::Access, TokenKind::Refresh] {
        let verb = Verb::Issue { kinds: vec![kind], request: request.clone() };
        assert_eq!(core.request(vec![secret(SECRET)], verb).await.refusal(), Refusal::NotPermitted);
    }
    let verb = Verb::ApiKeys { environment: "live".to_owned(), renew: true };
    assert_eq!(core.request(vec![secret(SECRET)], verb).await.refusal(), Refusal::NotPermitted);
}

#[tokio::test]
async fn a_cookie_beside_it_counts_for_nothing_and_another_proof_makes_nobody_of_both() {
    let core = with_secret().await;
    let (_, session) = core.cookie_of_ann(false).await;
    let with_cookie = core.who(vec![secret(SECRET), cookie(&session)]).await.granted();
    assert_eq!(with_cookie.principal.method, Method::OperatorSecret);
    let both = core.who(vec![through("app"), secret(SECRET), password("ann", "pw")]).await;
    assert_eq!(both.refusal(), Refusal::InvalidCredentials);
}

#[tokio::test]
async fn through_a_client_that_is_disabled_it_opens_nothing() {
    let core = with_secret().await;
    core.admin().set_client_status("app", Status::Disabled).await.unwrap();
    assert_eq!(core.who(vec![through("app"), secret(SECRET)]).await.refusal(), Refusal::InvalidClient);
    core.who(vec![secret(SECRET)]).await.granted();
}

#[tokio::test]
async fn whoever_guesses_it_is_charged_and_waits() {
    let core = with_secret().await;
    let guesses = ["", "x", &SECRET[..31], &SECRET.to_uppercase(), &format!("{SECRET}0")].map(str::to_owned);
    for guess in guesses.iter().cycle().take(20) {
        assert_eq!(core.who(vec![secret(guess)]).await.refusal(), Refusal::InvalidCredentials, "{guess:?}");
    }
    // From now on the right one is not looked at either, so that nothing is learnt by it.
    for shown in [SECRET, "x"] {
        assert!(matches!(core.who(vec![secret(shown)]).await.refusal(), Refusal::TooManyAttempts { .. }), "{shown:?}");
    }
    core.clock.turn(Duration::from_secs(31));
    core.who(vec![secret(SECRET)]).await.granted();
}

#[tokio::test]
async fn where_none_is_set_it_says_nothing() {
    let core = Core::with(|_| ()).await;
    assert_eq!(core.who(vec![secret(SECRET)]).await.refusal(), Refusal::LoginRequired);
    let beside = core.who(vec![through("app"), secret(SECRET), password("ann", "pw")]).await.granted();
    assert_eq!(beside.principal.method, Method::Password);
}
