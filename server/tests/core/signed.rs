//! Access and refresh tokens: how they are had, what they are good for, and what ends them.

use gatepost_identity::keyring::KeyAlgorithm;

use super::requests::{cookie, through, web};
use super::*;

pub(super) fn access(token: &str) -> Credential {
    Credential::Token { any_of: vec![Secret::new(token)], kind: TokenKind::Access }
}

pub(super) fn refresh(token: &str) -> Credential {
    Credential::Refresh(Secret::new(token))
}

pub(super) fn text(token: &IssuedToken) -> String {
    token.secret.expose_text().unwrap().to_owned()
}

pub(super) fn claims(token: &str) -> serde_json::Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

impl Core {
    async fn sign_in_for(&self, binding: Binding, old: Option<&str>) -> Granted {
        let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding, spelling: None };
        let verb = Verb::Authenticate { provider: None, credential: password("ann", "pw"), request };
        let mut presented = vec![through("app")];
        presented.extend(old.map(cookie));
        self.request(presented, verb).await.granted()
    }

    /// Ann's access token and her refresh token.
    pub(super) async fn pair(&self) -> (String, String) {
        let granted = self.sign_in_for(Binding::TokenCookies, None).await;
        let [one, other] = granted.tokens.as_slice() else { panic!("{granted:?}") };
        assert_eq!((&one.kind, &other.kind), (&TokenKind::Access, &TokenKind::Refresh));
        (text(one), text(other))
    }

    pub(super) async fn issue(
        &self,
        presented: Vec<Credential>,
        kinds: Vec<TokenKind>,
        binding: Binding,
    ) -> Result<Granted, Refusal> {
        let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding, spelling: None };
        self.request(presented, Verb::Issue { kinds, request }).await.result.and_then(Answer::granted)
    }

    pub(super) async fn is_good(&self, token: &str) -> Result<(), Refusal> {
        self.who(vec![access(token)]).await.result.map(|_| ())
    }
}

#[tokio::test]
async fn a_login_for_token_cookies_begins_no_session_and_ends_that_of_the_cookie() {
    let core = Core::with(|_| ()).await;
    let (_, old) = core.cookie_of_ann(false).await;
    let granted = core.sign_in_for(Binding::TokenCookies, Some(&old)).await;
    assert_eq!((granted.principal.session, granted.tokens.len(), core.sessions().await), (None, 2, 0));
    assert_eq!((core.audited("login").await, core.audited("replace").await), (2, 1));
    let (life, longer) = (granted.tokens[0].expires_at.unwrap(), granted.tokens[1].expires_at.unwrap());
    assert_eq!((life, longer), (core.clock.now().after(14 * DAY), core.clock.now().after(365 * DAY)));
    let granted = core.sign_in_for(Binding::Tokens { remember: true }, None).await;
    let kinds: Vec<_> = granted.tokens.iter().map(|token| token.kind.clone()).collect();
    assert_eq!(kinds, [TokenKind::Cookie { remember: true }, TokenKind::Access, TokenKind::Refresh]);
    assert_eq!(core.sessions().await, 1);
    core.who(vec![cookie(&text(&granted.tokens[0]))]).await.granted();
}

#[tokio::test]
async fn an_access_token_speaks_for_its_account_with_the_rights_of_now() {
    let core = Core::with(|_| ()).await;
    let (token, _) = core.pair().await;
    assert_eq!((&claims(&token)["sub"], &claims(&token)["roles"]), (&"ann".into(), &serde_json::json!([])));
    core.admin().set_user("ann", UserChange { roles: Some(vec!["Admin".to_owned()]), ..UserChange::default() }).await.unwrap();
    let answered = core.who(vec![access(&token)]).await;
    assert!(answered.caller.renewed.is_empty());
    let principal = answered.granted().principal;
    assert_eq!((principal.session, principal.client.as_ref(), principal.provider.as_ref()), (None, None, None));
    assert_eq!(principal.method, Method::Access);
    assert_eq!(principal.may(&Right::Role("Admin".to_owned())), Ok(()), "whatever the token says");
    let exp = claims(&token)["exp"].as_i64().unwrap();
    assert_eq!(principal.expires_at, Some(Timestamp::from_millis(exp * 1000)));
    core.clock.turn(14 * DAY);
    assert_eq!(core.is_good(&token).await, Err(Refusal::Expired));
}

#[tokio::test]
async fn neither_use_of_a_token_is_the_other_and_neither_is_a_token_about_a_connection() {
    let core = Core::with(|_| ()).await;
    let (one, other) = core.pair().await;
    assert_eq!(core.is_good(&other).await, Err(Refusal::InvalidCredentials));
    assert_eq!(core.who(vec![refresh(&one)]).await.refusal(), Refusal::InvalidCredentials);
    for _ in 0..2 {
        assert_eq!(core.is_good(&one).await, Ok(()));
        core.who(vec![refresh(&other)]).await.granted();
        assert_eq!(core.is_good(&other).await, Err(Refusal::InvalidCredentials), "also once it is known");
        assert_eq!(core.who(vec![refresh(&one)]).await.refusal(), Refusal::InvalidCredentials);
    }
    let connection = core.connection();
    let _peer = core.log_in_on(connection).await;
    let upstream = core.issue_on(connection).await.unwrap();
    assert_eq!(core.is_good(&text(&upstream.tokens[0])).await, Err(signed_otherwise("EdDSA", "HS256")));
}

fn signed_otherwise(shown: &str, expected: &'static str) -> Refusal {
    Refusal::WrongAlgorithm { shown: shown.to_owned(), expected }
}

#[tokio::test]
async fn whoever_ends_all_sessions_of_an_account_ends_its_tokens_and_no_later_ones() {
    let core = Core::with(|_| ()).await;
    for ending in ["session end", "password", "disable"] {
        let (known, refreshing) = core.pair().await;
        let (unknown, _) = core.pair().await;
        assert_eq!(core.is_good(&known).await, Ok(()));
        match ending {
            "session end" => assert_eq!(core.admin().end_sessions_of("ann").await, Ok(0), "none had a session"),
            "password" => drop(core.admin().set_password("ann", Some(&Secret::new("pw"))).await.unwrap()),
            _ => {
                core.admin().set_user_status("ann", Status::Disabled).await.unwrap();
                core.admin().set_user_status("ann", Status::Active).await.unwrap();
            }
        }
        let good = (core.is_good(&known).await, core.is_good(&unknown).await);
        assert_eq!(good, (Err(Refusal::Revoked), Err(Refusal::Revoked)), "{ending}");
        assert_eq!(core.who(vec![refresh(&refreshing)]).await.refusal(), Refusal::Revoked);
        let (later, _) = core.pair().await;
        assert_eq!(core.is_good(&later).await, Ok(()), "although it was signed in the same second");
    }
}

#[tokio::test]
async fn a_token_goes_with_its_account_and_is_nothing_while_that_is_off() {
    let core = Core::with(|_| ()).await;
    let (token, _) = core.pair().await;
    assert_eq!(core.is_good(&token).await, Ok(()));
    let over = UserChange { expires_at: Some(Some(core.clock.now())), ..UserChange::default() };
    core.admin().set_user("ann", over).await.unwrap();
    assert_eq!(core.is_good(&token).await, Err(Refusal::AccountUnavailable));
    core.admin().remove_user("ann").await.unwrap();
    assert_eq!(core.is_good(&token).await, Err(Refusal::AccountUnavailable));
}

#[tokio::test]
async fn a_revoked_number_and_a_logout_are_exact() {
    let core = Core::with(|_| ()).await;
    let ((one, _), (other, refreshing)) = (core.pair().await, core.pair().await);
    for token in [&one, &other] {
        assert_eq!(core.is_good(token).await, Ok(()));
    }
    core.admin().revoke_token(&claims(&one)["jti"].to_string()).await.unwrap();
    assert_eq!((core.is_good(&one).await, core.is_good(&other).await), (Err(Refusal::Revoked), Ok(())));
    let presented = vec![access(&other), refresh(&refreshing), access("nobody's")];
    core.request(presented, Verb::Logout).await.result.and_then(Answer::done).expect("signed out");
    assert_eq!(core.is_good(&other).await, Err(Refusal::Revoked));
    assert_eq!(core.who(vec![refresh(&refreshing)]).await.refusal(), Refusal::Revoked);
    assert_eq!(core.audited("logout").await, 2);
}

#[tokio::test]
async fn a_logout_ends_no_token_of_anybody_else_that_bears_the_same_number() {
    // An application that counted anew for each account.
    let counted_anew: Spell = |token| match web(token) {
        Spelled::Signed { typ, claims } => {
            let mut claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            claims["jti"] = if typ == "JWT" { 1.into() } else { (-1).into() };
            Spelled::Signed { typ, claims: claims.to_string().into_bytes() }
        }
        other => other,
    };
    let core = Core::spelled_at_both(Arc::new(Memory::default()), counted_anew, |_| ()).await;
    core.populate().await;
    core.add_bob().await;
    let (anns, _) = core.pair().await;
    let presented = vec![through("app"), password("bob", "pw")];
    let bobs = text(&core.issue(presented, vec![TokenKind::Access], Binding::Request).await.unwrap().tokens[0]);
    // Of one that is known from memory, and of one that is read.
    assert_eq!(core.is_good(&bobs).await, Ok(()));
    core.request(vec![access(&anns)], Verb::Logout).await.result.and_then(Answer::done).expect("signed out");
    assert_eq!((core.is_good(&anns).await, core.is_good(&bobs).await), (Err(Refusal::Revoked), Ok(())));
    core.admin().revoke_token("1").await.unwrap();
    assert_eq!(core.is_good(&bobs).await, Err(Refusal::Revoked), "an operator means the number");
}

#[tokio::test]
async fn a_refresh_token_says_who_speaks_where_nothing_else_does_and_brings_an_access_token() {
    let core = Core::with(|_| ()).await;
    let (token, refreshing) = core.pair().await;
    let fresh = core.who(vec![access(&token), refresh(&refreshing)]).await;
    assert!(fresh.caller.renewed.is_empty() && fresh.failed().is_empty());
    assert_eq!(fresh.granted().principal.method, Method::Access);
    core.clock.turn(15 * DAY);
    let answered = core.who(vec![access(&token), refresh(&refreshing)]).await;
    assert_eq!(answered.failed(), [(0, Refusal::Expired)]);
    let [renewed] = answered.caller.renewed.as_slice() else { panic!("{:?}", answered.caller) };
    assert_eq!((&renewed.kind, core.is_good(&text(renewed)).await), (&TokenKind::Access, Ok(())));
    assert_eq!(answered.granted().principal.method, Method::Refresh);
    core.clock.turn(365 * DAY);
    let answered = core.who(vec![access(&token), refresh(&refreshing)]).await;
    assert_eq!(answered.failed(), [(0, Refusal::Expired), (1, Refusal::Expired)]);
    assert_eq!(answered.refusal(), Refusal::Expired);
}

#[tokio::test]
async fn a_hundred_refreshes_at_once_are_a_hundred_tokens_of_different_numbers() {
    let core = Core::with(|_| ()).await;
    let (_, refreshing) = core.pair().await;
    let issue = |_| core.issue(vec![refresh(&refreshing)], vec![TokenKind::Access], Binding::Request);
    let answers = futures_util::future::join_all((0..100).map(issue)).await;
    let mut numbers = std::collections::BTreeSet::new();
    for answer in answers {
        let token = text(&answer.expect("granted").tokens[0]);
        assert_eq!(core.is_good(&token).await, Ok(()));
        numbers.insert(claims(&token)["jti"].as_i64().unwrap());
    }
    assert_eq!(numbers.len(), 100);
    assert!(claims(&refreshing)["jti"].as_i64().unwrap() < 0);
}

#[tokio::test]
async fn tokens_are_had_for_a_session_a_password_and_a_key_and_for_nobody() {
    let core = Core::with(|settings| {
        settings.providers.push(Provider { name: "apikey".to_owned(), kind: ProviderKind::ApiKey, aliases: Vec::new() });
    })
    .await;
    let both = || vec![TokenKind::Access, TokenKind::Refresh];
    let (_, key) = core.admin().add_api_key("ann", "live", None).await.unwrap();
    let (_, session) = core.cookie_of_ann(false).await;
    for presented in [vec![cookie(&session)], vec![through("app"), password("ann", "pw")], vec![Credential::ApiKey(key)]] {
        let granted = core.issue(presented, both(), Binding::Request).await.expect("granted");
        assert_eq!(core.is_good(&text(&granted.tokens[0])).await, Ok(()));
    }
    core.who(vec![cookie(&session)]).await.granted();
    core.issue(vec![cookie(&session)], vec![TokenKind::Access], Binding::TokenCookies).await.expect("granted");
    assert_eq!(core.who(vec![cookie(&session)]).await.refusal(), Refusal::LoginRequired, "the token took its place");
    assert_eq!(core.issue(vec![cookie("x")], both(), Binding::Request).await.err(), Some(Refusal::LoginRequired));
    assert_eq!(core.issue(vec![refresh("x")], both(), Binding::Request).await.err(), Some(Refusal::InvalidCredentials));
    let unsigned = core.issue(vec![through("app"), password("ann", "pw")], vec![TokenKind::Restore], Binding::Request).await;
    assert_eq!(unsigned.err(), Some(Refusal::Unavailable), "only what is signed can be had this way");
}

#[tokio::test]
async fn whoever_shows_what_is_no_good_keeps_nobody_at_the_same_address_out() {
    let core = Core::with(|settings| {
        settings.providers.push(Provider { name: "apikey".to_owned(), kind: ProviderKind::ApiKey, aliases: Vec::new() });
    })
    .await;
    let (_, key) = core.admin().add_api_key("ann", "live", None).await.unwrap();
    let ((known, _), (unknown, _)) = (core.pair().await, core.pair().await);
    assert_eq!(core.is_good(&known).await, Ok(()));
    let mut refusal = Ok(());
    for number in 0..110 {
        refusal = core.is_good(&format!("guess {number}")).await;
    }
    assert!(matches!(refusal, Err(Refusal::TooManyAttempts { .. })), "{refusal:?}");
    assert_eq!((core.is_good(&known).await, core.is_good(&unknown).await), (Ok(()), Ok(())));
    core.who(vec![Credential::ApiKey(key)]).await.granted();
    let guessed = core.who(vec![Credential::ApiKey(Secret::new("guess"))]).await.refusal();
    assert!(matches!(guessed, Refusal::TooManyAttempts { .. }), "{guessed:?}");
}

#[tokio::test]
async fn a_token_that_outlives_what_we_sign_is_nothing_without_its_key_and_stays_revoked() {
    let for_long: Spell = |token| match web(token) {
        Spelled::Signed { typ, claims } => {
            let mut claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            claims["exp"] = 9_999_999_999_u64.into();
            Spelled::Signed { typ, claims: claims.to_string().into_bytes() }
        }
        other => other,
    };
    let core = Core::spelled_at_both(Arc::new(Memory::default()), for_long, |_| ()).await;
    core.populate().await;
    let ((one, _), (other, _)) = (core.pair().await, core.pair().await);
    core.admin().revoke_token(&claims(&one)["jti"].to_string()).await.unwrap();
    core.clock.turn(366 * DAY);
    for _ in 0..25 {
        // What forgets what is over does so every minute.
        core.clock.turn(MINUTE);
        tokio::task::yield_now().await;
    }
    assert_eq!(core.is_good(&one).await, Err(Refusal::Revoked));
    let key = core.admin().keys().await.unwrap().iter().find(|key| key.algorithm == KeyAlgorithm::HS256).unwrap().number;
    core.admin().retire_key(key, false).await.unwrap();
    assert_eq!(core.is_good(&other).await, Ok(()), "and is known from now on");
    core.clock.turn(365 * DAY);
    assert_eq!(core.is_good(&other).await, Err(Refusal::InvalidCredentials));
}

#[tokio::test]
async fn a_token_ends_with_what_it_was_had_for() {
    let core = Core::with(|settings| {
        settings.providers.push(Provider { name: "apikey".to_owned(), kind: ProviderKind::ApiKey, aliases: Vec::new() });
    })
    .await;
    let in_a_day = core.clock.now().after(DAY);
    let whole = |at: Timestamp| at.millis() / 1000;
    let ends = |granted: &Granted| -> Vec<(TokenKind, i64)> {
        granted.tokens.iter().map(|token| (token.kind.clone(), whole(token.expires_at.unwrap()))).collect()
    };
    let both = || vec![TokenKind::Access, TokenKind::Refresh];
    let (_, key) = core.admin().add_api_key("ann", "live", Some(in_a_day)).await.unwrap();
    let by_key = core.issue(vec![Credential::ApiKey(key)], both(), Binding::Request).await.expect("granted");
    let expected: Vec<(TokenKind, i64)> = vec![(TokenKind::Access, whole(in_a_day))];
    assert_eq!(ends(&by_key), expected, "and there is no token that renews it");
    core.clock.turn(DAY / 2);
    let by_token = core.issue(vec![access(&text(&by_key.tokens[0]))], both(), Binding::Request).await.expect("granted");
    assert_eq!(ends(&by_token), expected);
    let (session, shown) = core.cookie_of_ann(false).await;
    core.clock.turn(DAY);
    let by_cookie = core.issue(vec![cookie(&shown)], both(), Binding::Request).await.expect("granted");
    let end = whole(session.principal.expires_at.unwrap());
    assert_eq!(ends(&by_cookie), [(TokenKind::Access, end), (TokenKind::Refresh, end)]);
    let renewed = core.issue(vec![refresh(&text(&by_cookie.tokens[1]))], both(), Binding::Request).await.expect("granted");
    assert_eq!(ends(&renewed), [(TokenKind::Access, end)], "and a refresh token does not renew itself");
    let login = core.sign_in_for(Binding::Tokens { remember: false }, None).await;
    assert_eq!(whole(login.tokens[2].expires_at.unwrap()), whole(core.clock.now().after(365 * DAY)), "a password does not end");
}

#[tokio::test]
async fn keys_are_exchanged_without_a_token_less_until_one_is_retired_at_once() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let core = Core::on(Arc::clone(&store), |_| ()).await;
    core.populate().await;
    let (first, _) = core.pair().await;
    assert_eq!(core.is_good(&first).await, Ok(()));
    let made = core.admin().add_key(KeyAlgorithm::RS256).await.unwrap();
    let (second, _) = core.pair().await;
    let header = |token: &str| token.split('.').next().unwrap().to_owned();
    assert_ne!(header(&first), header(&second));
    assert_eq!((core.is_good(&first).await, core.is_good(&second).await), (Ok(()), Ok(())));
    let old = core.admin().keys().await.unwrap().iter().find(|key| key.algorithm == KeyAlgorithm::HS256).unwrap().number;
    let retired = core.admin().retire_key(old, false).await.unwrap().retired.unwrap();
    assert_eq!(retired.until, core.clock.now().after(365 * DAY));
    assert_eq!((core.is_good(&first).await, core.is_good(&second).await), (Ok(()), Ok(())));
    core.admin().retire_key(old, true).await.unwrap();
    assert_eq!(core.is_good(&first).await, Err(signed_otherwise("HS256", "RS256")), "although it was known");
    core.admin().retire_key(made.number, true).await.unwrap();
    assert_eq!(core.is_good(&second).await, Err(Refusal::InvalidCredentials));
    let (third, _) = core.pair().await;
    let other = Core::on(store, |_| ()).await;
    assert_eq!(other.is_good(&third).await, Ok(()), "the key that was made in their place is the store's");
    let own = core.admin().keys().await.unwrap().iter().find(|key| key.algorithm == KeyAlgorithm::EdDSA).unwrap().number;
    assert!(matches!(core.admin().retire_key(own, false).await, Err(Refusal::Invalid(_))), "the last of our own stays");
    assert_eq!(core.admin().retire_key(99, false).await.err(), Some(Refusal::NotFound("key")));
}

#[tokio::test]
async fn numbers_are_not_used_again_after_a_restart() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let mut numbers = Vec::new();
    for round in 0..3 {
        let core = Core::on(Arc::clone(&store), |_| ()).await;
        if round == 0 {
            core.populate().await;
        }
        for token in [core.pair().await.0, core.pair().await.0] {
            numbers.push(claims(&token)["jti"].as_i64().unwrap());
        }
    }
    assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
}

#[tokio::test]
async fn a_gate_that_spells_another_type_lets_nobody_have_it_and_takes_the_session_back() {
    let odd: Spell = |token| match web(token) {
        Spelled::Signed { claims, .. } => Spelled::Signed { typ: "at+jwt", claims },
        other => other,
    };
    let core = Core::spelled_at_both(Arc::new(Memory::default()), odd, |_| ()).await;
    core.populate().await;
    let request =
        GrantRequest { scope: ScopeRequest::Nothing, role: None, binding: Binding::Tokens { remember: false }, spelling: None };
    let verb = Verb::Authenticate { provider: None, credential: password("ann", "pw"), request };
    assert_eq!(core.request(vec![through("app")], verb).await.refusal(), Refusal::Unavailable);
    core.until("the session is gone", || async { core.sessions().await == 0 }).await;
}
