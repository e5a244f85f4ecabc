//! Grants that are redeemed once.

use super::*;

#[tokio::test]
async fn a_grant_lets_its_user_in_once_and_a_second_use_ends_that() {
    let core = Core::with(|_| ()).await;
    let bystander = core.log_in().await;
    let code = core.mint(&[]).await;
    let first = core.redeem(&code).await.expect("it is good");
    assert_eq!(first.granted.principal.account.as_ref().map(|account| account.name.as_str()), Some("ann"));
    assert_eq!(first.scopes(), "[m, t]");
    let restored = core.present(&first.token()).await.expect("its token restores it");
    for _ in 0..3 {
        assert_eq!(core.redeem(&code).await.err(), Some(Refusal::Revoked));
    }
    for peer in [&first, &restored] {
        assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)), "told to every connection");
        assert_eq!(core.present(&peer.token()).await.err(), Some(Refusal::InvalidCredentials));
    }
    assert_eq!(core.audited("reuse").await, 1, "it ends once");
    assert_eq!((bystander.event(), core.sessions().await), (None, 1), "her other session stands");
}

#[tokio::test]
async fn a_grant_is_good_for_its_time_and_its_second_use_is_known_long_after() {
    let core = Core::with(|_| ()).await;
    let (used, unused) = (core.mint(&[]).await, core.mint(&[]).await);
    core.clock.turn(LONGEST_GRANT - Duration::from_millis(1));
    let first = core.redeem(&used).await.expect("the last moment");
    core.clock.turn(Duration::from_millis(1));
    assert_eq!(core.redeem(&unused).await.err(), Some(Refusal::InvalidCredentials));
    for _ in 0..3 {
        core.clock.turn(DAY);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let restored = core.present(&first.token()).await.expect("it lives on");
    assert_eq!(core.redeem(&used).await.err(), Some(Refusal::Revoked));
    assert_eq!(restored.event(), Some(Event::Detached(Reason::Revoked)));
    assert_eq!(core.sessions().await, 0);
}

#[tokio::test]
async fn a_grant_is_worth_nothing_to_another_client_or_provider_and_is_not_spent_by_them() {
    let core = Core::with(|settings| {
        settings.providers.push(Provider { name: "other".to_owned(), kind: ProviderKind::Local, aliases: Vec::new() });
    })
    .await;
    let code = core.mint(&[]).await;
    let wrong = async |code: &str| {
        let refused = [
            core.redeem_as(code, |with| with.client = ("svc", Some("s3"))).await.err(),
            core.redeem_as(code, |with| with.provider = "other").await.err(),
            core.redeem(&code.to_uppercase()).await.err(),
        ];
        assert_eq!(refused, [const { Some(Refusal::InvalidCredentials) }; 3]);
        let unproved = [("svc", Some("x")), ("svc", None), ("app", Some("s3")), ("nobody", None)];
        for client in unproved {
            let refused = core.redeem_as(code, |with| with.client = client).await.err();
            assert_eq!(refused, Some(Refusal::InvalidClient), "{client:?}");
        }
        assert_eq!(core.redeem_as(code, |with| with.provider = "nobody").await.err(), Some(Refusal::UnknownProvider));
    };
    wrong(&code).await;
    let first = core.redeem(&code).await.expect("it is as good as before");
    wrong(&code).await;
    assert_eq!(first.event(), None, "nor do they end what it began");
    let new = NewGrant { client: "svc".to_owned(), provider: Some("OTHER".to_owned()), ..new_grant() };
    let (grant, code) = core.admin().mint_grant(new).await.unwrap();
    assert_eq!(grant.provider, "other");
    let at_other = |with: &mut Redeeming| (with.client, with.provider) = (("svc", Some("s3")), "other");
    core.redeem_as(code.expose_text().unwrap(), at_other).await.expect("a confidential client redeems with its secret");
}

#[tokio::test]
async fn a_narrowed_grant_stays_narrow_in_every_restore_and_change() {
    let core = Core::with(|_| ()).await;
    let code = core.mint(&["m"]).await;
    let refused = core.redeem_as(&code, |with| with.scope = named(&["t"])).await;
    assert_eq!(refused.err(), Some(Refusal::ScopeNotGranted));
    let peer = core.redeem(&code).await.expect("what could not be granted has not spent it");
    assert_eq!(peer.scopes(), "[m]", "all there is means all that the grant leaves");
    let restored = core.present(&peer.token()).await.unwrap();
    assert_eq!(restored.scopes(), "[m]");
    let change = UserChange { display_name: Some(Some("Ann".to_owned())), ..UserChange::default() };
    core.admin().set_user("ann", change).await.unwrap();
    let Some(Event::Changed(principal)) = restored.event() else { panic!("the connection is told") };
    assert_eq!(format!("{:?}", principal.scopes), "[m]");
    let narrower = core.redeem_as(&core.mint(&[]).await, |with| with.scope = named(&["t"])).await.unwrap();
    assert_eq!(narrower.scopes(), "[t]");
    let both = core.redeem_as(&core.mint(&["m"]).await, |with| with.scope = named(&["m", "t"])).await.unwrap();
    assert_eq!(both.scopes(), "[m]");
}

#[tokio::test]
async fn a_user_who_may_not_come_in_is_let_in_by_no_grant() {
    let core = Core::with(|_| ()).await;
    let code = core.mint(&[]).await;
    let ends = UserChange { expires_at: Some(Some(core.clock.now())), ..UserChange::default() };
    core.admin().set_user("ann", ends).await.unwrap();
    assert_eq!(core.redeem(&code).await.err(), Some(Refusal::AccountUnavailable));
    core.admin().set_user("ann", UserChange { expires_at: Some(None), ..UserChange::default() }).await.unwrap();
    core.redeem(&code).await.expect("nothing was spent");

    let secret = Secret::new("another");
    let codes = [core.mint(&[]).await, core.mint(&[]).await];
    core.admin().set_user_status("ann", Status::Disabled).await.unwrap();
    assert_eq!(core.redeem(&codes[0]).await.err(), Some(Refusal::InvalidCredentials));
    core.admin().set_user_status("ann", Status::Active).await.unwrap();
    assert_eq!(core.redeem(&codes[0]).await.err(), Some(Refusal::InvalidCredentials), "it went with the sessions");
    assert_eq!(core.redeem(&codes[1]).await.err(), Some(Refusal::InvalidCredentials));
    let code = core.mint(&[]).await;
    core.admin().set_password("ann", Some(&secret)).await.unwrap();
    assert_eq!(core.redeem(&code).await.err(), Some(Refusal::InvalidCredentials), "who knew the old password is out");
    let code = core.mint(&[]).await;
    core.admin().remove_user("ann").await.unwrap();
    assert_eq!(core.redeem(&code).await.err(), Some(Refusal::InvalidCredentials));
    assert_eq!(core.sessions().await, 0);
}

#[tokio::test]
async fn only_what_could_be_redeemed_is_minted() {
    let core = Core::with(|_| ()).await;
    let refused = async |new: NewGrant| core.admin().mint_grant(new).await.err();
    let nobody = || "nobody".to_owned();
    assert_eq!(refused(NewGrant { client: nobody(), ..new_grant() }).await, Some(Refusal::NotFound("client")));
    assert_eq!(refused(NewGrant { user: nobody(), ..new_grant() }).await, Some(Refusal::NotFound("user")));
    assert_eq!(refused(NewGrant { provider: Some(nobody()), ..new_grant() }).await, Some(Refusal::NotFound("provider")));
    for new in [
        NewGrant { scopes: vec![nobody()], ..new_grant() },
        NewGrant { life: Duration::ZERO, ..new_grant() },
        NewGrant { life: LONGEST_GRANT + Duration::from_millis(1), ..new_grant() },
    ] {
        let refused = refused(new).await;
        assert!(matches!(refused, Some(Refusal::Invalid(_))), "{refused:?}");
    }
    assert_eq!(core.audited("grant_mint").await, 0);
    let codes = [core.mint(&[]).await, core.mint(&[]).await];
    assert!(codes[0] != codes[1] && codes[0].len() == 64, "256 bits each");
    assert_eq!(core.audited("grant_mint").await, 2);
}

#[tokio::test]
async fn refused_codes_are_counted_as_what_nobody_guesses() {
    let core = Core::with(|_| ()).await;
    let code = core.mint(&[]).await;
    let from = |source: &'static str| {
        let context = core.context(core.connection(), source);
        move |with: &mut Redeeming| with.context = context
    };
    for _ in 0..100 {
        assert_eq!(core.redeem_as("nobody made it", from("192.0.2.1")).await.err(), Some(Refusal::InvalidCredentials));
    }
    let refused = core.redeem_as(&code, from("192.0.2.1")).await.err();
    assert!(matches!(refused, Some(Refusal::TooManyAttempts { .. })), "{refused:?}");
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Ok(()), "passwords have a budget of their own");
    core.redeem_as(&code, from("192.0.2.2")).await.expect("and so has every source");
    core.clock.turn(Duration::from_secs(1));
    assert_eq!(core.redeem_as(&code, from("192.0.2.1")).await.err(), Some(Refusal::Revoked), "one is forgiven a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_uses_at_once_one_succeeds_and_the_others_end_it() {
    let directory = Directory::new("hundred");
    let (store, writer, mut threads) = directory.open();
    threads.push(std::thread::spawn(|| writer.run()));
    let core = Arc::new(Core::on(store, |_| ()).await);
    core.populate().await;
    for round in 0..5 {
        let code = core.mint(&[]).await;
        let uses: Vec<_> = (0..100)
            .map(|_| {
                let (core, code) = (Arc::clone(&core), code.clone());
                tokio::spawn(async move { core.redeem(&code).await })
            })
            .collect();
        let mut granted = Vec::new();
        for used in uses {
            match used.await.unwrap() {
                Ok(peer) => granted.push(peer),
                Err(refusal) => assert_eq!(refusal, Refusal::Revoked, "round {round}"),
            }
        }
        assert_eq!(granted.len(), 1, "round {round}");
        assert_eq!(granted[0].event(), Some(Event::Detached(Reason::Revoked)));
        assert_eq!(core.sessions().await, 0);
        assert_eq!(core.audited("reuse").await, round + 1);
        // Ninety-nine were counted, and are forgiven one a second.
        core.clock.turn(2 * MINUTE);
    }
}
