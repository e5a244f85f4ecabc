//! Who may try how often, and what a proof is worth by which way.

use super::*;

#[tokio::test]
async fn names_addresses_and_spellings_of_one_account_share_its_budget() {
    let core = Core::with(|_| ()).await;
    for (n, name) in ["ann", "ANN", "Ann", "ann@example.org", "ANN@example.ORG"].into_iter().enumerate() {
        assert_eq!(core.guess(name, "no", &format!("198.51.100.{n}")).await, Err(Refusal::InvalidCredentials), "{name}");
    }
    for name in ["ann", "aNN", "ann@example.org"] {
        let refused = core.guess(name, "pw", "198.51.100.9").await;
        assert!(matches!(refused, Err(Refusal::TooManyAttempts { .. })), "{name}: {refused:?}");
    }
    let evaluated = core.identity.evaluated();
    let _ = core.guess("ann", "pw", "198.51.100.9").await;
    assert_eq!(core.identity.evaluated(), evaluated, "nothing is compared while it is too soon");
    core.admin().unlock_user("ann").await.unwrap();
    assert_eq!(core.guess("ann", "pw", "198.51.100.9").await, Ok(()));
}

#[tokio::test]
async fn strangers_cannot_lock_out_the_owner_of_an_account() {
    let core = Core::with(|_| ()).await;
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Ok(()));
    for n in 0..20 {
        let _ = core.guess("ann", "no", &format!("198.51.100.{n}")).await;
    }
    assert!(matches!(core.guess("ann", "pw", "203.0.113.1").await, Err(Refusal::TooManyAttempts { .. })));
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Ok(()), "she has logged in from here before");
    for _ in 0..5 {
        assert_eq!(core.guess("ann", "no", "192.0.2.1").await, Err(Refusal::InvalidCredentials));
    }
    assert!(matches!(core.guess("ann", "pw", "192.0.2.1").await, Err(Refusal::TooManyAttempts { .. })), "with a budget of her own");
}

#[tokio::test]
async fn unknown_and_known_names_are_refused_alike_and_cost_one_evaluation() {
    let core = Core::with(|_| ()).await;
    core.admin().add_user(NewUser { name: "nopassword".to_owned(), ..NewUser::default() }).await.unwrap();
    for name in ["ann", "nobody", "nopassword"] {
        let before = core.identity.evaluated();
        let mut seen = Vec::new();
        for n in 0..7 {
            seen.push(core.guess(name, "no", &format!("203.0.113.{n}")).await.unwrap_err());
        }
        assert!(seen[..5].iter().all(|refusal| *refusal == Refusal::InvalidCredentials), "{name}: {seen:?}");
        assert!(seen[5..].iter().all(|refusal| matches!(refusal, Refusal::TooManyAttempts { .. })), "{name}: {seen:?}");
        assert_eq!(core.identity.evaluated(), before + 5, "{name}");
    }
}

#[tokio::test]
async fn thirty_good_logins_in_a_row_from_one_source_are_not_slowed() {
    let core = Core::with(|_| ()).await;
    for _ in 0..30 {
        assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Ok(()));
    }
}

#[tokio::test]
async fn a_client_is_charged_for_its_own_secret_only() {
    let core = Core::with(|_| ()).await;
    let attempt = |secret: Option<&'static str>, word: &'static str, source: &'static str| {
        let client = Credential::Client { id: Some(ClientId::parse("svc").unwrap()), secret: secret.map(Secret::new) };
        let context = core.context(core.connection(), source);
        let identity = core.identity.clone();
        async move {
            let Outcome { reply, held, .. } =
                identity.handle(command(vec![client], password("ann", word), "local"), &context).await;
            held.release();
            reply.result.map(|_| ())
        }
    };
    assert_eq!(attempt(Some("s3"), "pw", "192.0.2.1").await, Ok(()));
    assert_eq!(attempt(None, "pw", "192.0.2.2").await, Err(Refusal::InvalidClient));
    for source in ["192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"] {
        assert_eq!(attempt(Some("s3"), "no", source).await, Err(Refusal::InvalidCredentials), "the password is not the client's");
    }
    for source in ["192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10", "192.0.2.11"] {
        assert_eq!(attempt(Some("x"), "pw", source).await, Err(Refusal::InvalidClient));
    }
    assert!(matches!(attempt(Some("s3"), "pw", "192.0.2.12").await, Err(Refusal::TooManyAttempts { .. })));
}

#[tokio::test]
async fn a_service_speaks_for_itself_with_its_secret_and_a_public_client_cannot() {
    let core = Core::with(|_| ()).await;
    let attempt = |id: &str, secret: Option<&str>| {
        let credential = Credential::Client { id: Some(ClientId::parse(id).unwrap()), secret: secret.map(Secret::new) };
        let context = core.context(core.connection(), "192.0.2.1");
        let identity = core.identity.clone();
        async move { identity.handle(command(Vec::new(), credential, "local"), &context).await.reply.result }
    };
    let Ok(Answer::Granted(granted)) = attempt("svc", Some("s3")).await else { panic!("granted") };
    assert_eq!((&granted.principal.account, &granted.principal.client), (&None, &ClientId::parse("svc").ok()));
    for (id, secret) in [("svc", Some("x")), ("svc", None), ("app", None), ("app", Some("s3")), ("nobody", Some("s3"))] {
        assert_eq!(attempt(id, secret).await.err(), Some(Refusal::InvalidClient), "{id} {secret:?}");
    }
}

#[tokio::test]
async fn secure_scopes_and_passwords_keep_off_plain_connections() {
    let core = Core::with(|_| ()).await;
    let plain = |address: &str| Context {
        peer: Peer { address: address.parse().unwrap(), secure: false },
        ..core.context(core.connection(), "192.0.2.1")
    };
    let outcome = core.ask(password("ann", "pw"), &plain("192.0.2.1")).await;
    assert_eq!(outcome.reply.result.err(), Some(Refusal::InsecureTransport));
    let Ok(Answer::Granted(granted)) = core.ask(password("ann", "pw"), &plain("127.0.0.1")).await.reply.result else {
        panic!("nobody listens on loopback")
    };
    assert_eq!(format!("{:?}", granted.principal.scopes), "[m]");
}

#[tokio::test]
async fn whoever_sets_the_wall_clock_lifts_no_lock_and_makes_none_longer() {
    for hour in [60 * 60 * 1000, -60 * 60 * 1000] {
        let core = Core::with(|_| ()).await;
        for n in 0..5 {
            assert_eq!(core.guess("ann", "no", &format!("198.51.100.{n}")).await, Err(Refusal::InvalidCredentials));
        }
        core.clock.set(hour);
        let refused = core.guess("ann", "pw", "198.51.100.9").await;
        assert!(matches!(refused, Err(Refusal::TooManyAttempts { .. })), "{refused:?}");
        core.clock.turn(Duration::from_secs(1));
        assert_eq!(core.guess("ann", "pw", "198.51.100.9").await, Ok(()));
    }
}
