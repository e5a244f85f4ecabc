//! Sessions and their tokens: how they begin, roll, end and are forgotten.

use gatepost_identity::account::{Account, Client, Status};
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::reply::Reason;
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::session::{Ended, Session};
use gatepost_identity::store::{Change, NewSession, Page, Rehashed, Roll, Store, StoreError, Token, Which, Written};

use crate::setup::*;
use crate::{Held, actions, ann_and_the_app, begun, changes, first, rolled, tokens_with};

pub(super) async fn a_session_begins_with_token_and_audit(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let audit = AuditEntry {
        session: Some(session_id(5)),
        account: Some(account_id(1)),
        client: Some(client_id("app")),
        ..entry("authenticate")
    };
    let new = NewSession { audit, ..new_session(session(5, Some(1), "app"), Some(token(5, 5, None))) };
    assert_eq!(store.start_session(new).await?, Written::Done);
    assert_eq!(store.session(session_id(5)).await?, Some(session(5, Some(1), "app")));
    let stored = store.session_by_token(&hash(5), at(0)).await?.expect("the token speaks for it");
    assert_eq!((stored.session, stored.tokens), (session(5, Some(1), "app"), vec![token(5, 5, None)]));
    let line = store.audit_before(None, 1).await?.remove(0);
    assert_eq!((line.session, line.account), (Some(session_id(5)), Some(account_id(1))));
    assert_eq!(line.client, Some(client_id("app")));
    assert_eq!(changes(store).await?, [], "nothing was revoked");
    assert_eq!(store.session_by_token(&hash(6), at(0)).await?, None);
    assert_eq!(store.session(session_id(6)).await?, None);
    Ok(())
}

pub(super) async fn a_session_reads_back_as_it_was_written(store: &dyn Store) -> Held {
    store.add_client(client("service"), entry("client_added")).await?;
    let requests = [ScopeRequest::Nothing, ScopeRequest::AnyOf(scopes("")), ScopeRequest::AnyOf(scopes("b a"))];
    for (number, requested) in (1..).zip(requests) {
        let session = Session {
            requested,
            spelling: 255,
            source: "2001:db8::1".parse().expect("an address"),
            started_at: at(-1),
            used_at: at(12),
            ..session(number, None, "service")
        };
        assert_eq!(store.start_session(new_session(session.clone(), None)).await?, Written::Done);
        assert_eq!(store.session(session.id).await?, Some(session));
    }
    Ok(())
}

pub(super) async fn a_session_does_not_begin_by_stale_facts(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let off = Account { status: Status::Disabled, ..account(2, "Off") };
    store.add_account(off, entry("account_added")).await?;
    store.add_client(Client { status: Status::Disabled, ..client("off") }, entry("client_added")).await?;
    let said = actions(store).await?;
    let new = |account: Option<u128>, client: &str| NewSession {
        rehashed: Some("new".to_owned()),
        rehashed_secret: Some("new".to_owned()),
        ..new_session(session(5, account, client), Some(token(5, 5, None)))
    };
    let cases = [
        ("the account has changed", NewSession { account_version: Some(2), ..new(Some(1), "app") }),
        ("the account was cut off", NewSession { account_cut_off: at(-1), ..new(Some(1), "app") }),
        ("the account is gone", new(Some(9), "app")),
        ("the account is disabled", new(Some(2), "app")),
        ("no version of the account is named", NewSession { account_version: None, ..new(Some(1), "app") }),
        ("a version of no account is named", NewSession { account_version: Some(1), ..new(None, "app") }),
        ("the client has changed", NewSession { client_version: 0, ..new(Some(1), "app") }),
        ("the client is gone", new(Some(1), "none")),
        ("the client is disabled", new(Some(1), "off")),
        ("the client is disabled and speaks for itself", new(None, "off")),
    ];
    for (why, new) in cases {
        assert_eq!(store.start_session(new).await?, Written::Stale, "{why}");
    }
    assert_eq!(store.session(session_id(5)).await?, None);
    assert_eq!(store.session_by_token(&hash(5), at(0)).await?, None);
    assert_eq!(store.account(account_id(1)).await?, Some(account(1, "Ann")));
    assert_eq!(store.client(&client_id("app")).await?, Some(client("app")));
    assert_eq!(actions(store).await?, said);
    Ok(())
}

pub(super) async fn a_new_hash_of_a_proved_secret_is_not_a_change(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let new = NewSession {
        rehashed: Some("newer".to_owned()),
        rehashed_secret: Some("newest".to_owned()),
        ..new_session(session(5, Some(1), "app"), None)
    };
    assert_eq!(store.start_session(new).await?, Written::Done);
    let expected = Account { password: Some("newer".to_owned()), ..account(1, "Ann") };
    assert_eq!(store.account(account_id(1)).await?, Some(expected));
    let expected = Client { secret: Some("newest".to_owned()), ..client("app") };
    assert_eq!(store.client(&client_id("app")).await?, Some(expected));
    assert_eq!(changes(store).await?, []);
    Ok(())
}

pub(super) async fn a_session_whose_token_is_taken_leaves_nothing(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    let said = actions(store).await?;
    let new = NewSession { rehashed: Some("new".to_owned()), ..new_session(session(6, Some(1), "app"), Some(token(5, 6, None))) };
    assert!(store.start_session(new).await.is_err());
    assert_eq!(store.session(session_id(6)).await?, None);
    assert_eq!(store.account(account_id(1)).await?, Some(account(1, "Ann")));
    assert_eq!(tokens_with(store, 5).await?, [token(5, 5, None)]);
    assert!(store.start_session(new_session(session(5, Some(1), "app"), None)).await.is_err(), "a session begins once");
    assert_eq!(actions(store).await?, said);
    begun(store, 7).await
}

pub(super) async fn a_roll_presents_supersedes_gives_up_and_succeeds(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    assert_eq!(store.roll(rolled(5, None, 51)).await?, Written::Done);
    let first_presented = Token { presented_at: Some(at(100)), ..token(5, 5, None) };
    let successor = Token { issued_at: at(100), ..token(51, 5, Some(5)) };
    assert_eq!(tokens_with(store, 5).await?, [first_presented.clone(), successor.clone()]);
    assert_eq!(store.session(session_id(5)).await?.map(|session| session.used_at), Some(at(100)));

    assert_eq!(store.roll(rolled(5, None, 52)).await?, Written::Done);
    let roll = Roll { at: at(200), given_up: vec![hash(52), hash(99)], ..rolled(51, Some(5), 53) };
    assert_eq!(store.roll(roll).await?, Written::Done);
    let superseded = Token { superseded_at: Some(at(200)), ..first_presented };
    let presented = Token { presented_at: Some(at(200)), ..successor };
    let newest = Token { issued_at: at(100), ..token(53, 5, Some(51)) };
    assert_eq!(tokens_with(store, 53).await?, [superseded, presented, newest]);
    assert_eq!(store.session_by_token(&hash(52), at(0)).await?, None);
    assert_eq!(store.session(session_id(5)).await?.map(|session| session.used_at), Some(at(200)));
    assert_eq!(changes(store).await?, []);
    Ok(())
}

pub(super) async fn a_second_presentation_keeps_the_first_moments(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    store.roll(rolled(5, None, 51)).await?;
    store.roll(rolled(51, Some(5), 52)).await?;
    store.roll(Roll { at: at(300), ..rolled(51, Some(5), 53) }).await?;
    let tokens = tokens_with(store, 51).await?;
    let moments: Vec<_> = tokens.iter().map(|token| (token.hash[0], token.presented_at, token.superseded_at)).collect();
    let expected = [(5, Some(at(100)), Some(at(100))), (51, Some(at(100)), None), (52, None, None), (53, None, None)];
    assert_eq!(moments, expected);
    Ok(())
}

pub(super) async fn a_roll_by_stale_facts_writes_nothing(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    begun(store, 6).await?;
    let good = || Roll { given_up: vec![hash(6)], ..rolled(5, Some(6), 51) };
    let cases = [
        ("the account has changed", Roll { account_version: Some(2), ..good() }),
        ("no version of the account is named", Roll { account_version: None, ..good() }),
        ("the client has changed", Roll { client_version: 2, ..good() }),
        ("the token is gone", Roll { presented: hash(77), ..good() }),
        ("the token is another session's", Roll { presented: hash(6), ..good() }),
        ("there is no such session", Roll { session: session_id(77), ..good() }),
    ];
    for (why, roll) in cases {
        assert_eq!(store.roll(roll).await?, Written::Stale, "{why}");
    }
    assert_eq!(tokens_with(store, 5).await?, [token(5, 5, None)]);
    assert_eq!(tokens_with(store, 6).await?, [token(6, 6, None)]);
    assert_eq!(store.session(session_id(5)).await?, Some(session(5, Some(1), "app")));

    store.change_account(Account { status: Status::Disabled, ..account(1, "Ann") }, None, entry("account_changed")).await?;
    let roll = Roll { account_version: Some(2), ..good() };
    assert_eq!(store.roll(roll).await?, Written::Stale, "the account is disabled");
    store.change_account(Account { version: 2, ..account(1, "Ann") }, None, entry("account_changed")).await?;
    store.end_sessions(Which::Session(session_id(5)), Reason::Revoked, at(30), entry("session_ended")).await?;
    let roll = Roll { account_version: Some(3), ..good() };
    assert_eq!(store.roll(roll).await?, Written::Stale, "the session has ended");
    assert_eq!(store.session_by_token(&hash(51), at(0)).await?, None);
    Ok(())
}

pub(super) async fn a_roll_that_fails_leaves_nothing(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    begun(store, 6).await?;
    assert_eq!(store.roll(rolled(5, None, 51)).await?, Written::Done);
    let before = store.session_by_token(&hash(5), at(0)).await?;
    let roll = Roll { at: at(400), given_up: vec![hash(5)], ..rolled(51, Some(5), 6) };
    assert!(store.roll(roll).await.is_err(), "there is such a token already");
    assert_eq!(store.session_by_token(&hash(5), at(0)).await?, before);
    Ok(())
}

pub(super) async fn descendants_end_over_all_generations(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    begun(store, 6).await?;
    // 5 grew 51 and 52; 51 grew 53, which grew 54; 52 grew 55.
    for (parent, child) in [(5, 52), (5, 51), (51, 53), (53, 54), (52, 55)] {
        assert_eq!(store.roll(rolled(parent, None, child)).await?, Written::Done);
    }
    store.end_descendants(hash(51), entry("token_reused")).await?;
    let left: Vec<u8> = tokens_with(store, 5).await?.iter().map(|token| token.hash[0]).collect();
    assert_eq!(left, [5, 51, 52, 55]);
    store.end_descendants(hash(5), entry("token_reused")).await?;
    let left: Vec<u8> = tokens_with(store, 5).await?.iter().map(|token| token.hash[0]).collect();
    assert_eq!(left, [5]);
    store.end_descendants(hash(5), entry("token_reused")).await?;
    let expected = [
        Change::TokensEnded(session_id(5), vec![hash(53), hash(54)]),
        Change::TokensEnded(session_id(5), vec![hash(51), hash(52), hash(55)]),
    ];
    assert_eq!(changes(store).await?, expected, "where nothing went, nothing is told");
    let reused = actions(store).await?.iter().filter(|action| *action == "token_reused").count();
    assert_eq!(reused, 3, "the audit knows each time");
    assert_eq!(tokens_with(store, 6).await?.len(), 1);
    Ok(())
}

pub(super) async fn descendants_are_found_after_their_parent_is_gone(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    store.roll(rolled(5, None, 51)).await?;
    store.roll(Roll { given_up: vec![hash(5)], ..rolled(51, None, 52) }).await?;
    assert_eq!(tokens_with(store, 51).await?.first().and_then(|token| token.parent), Some(hash(5)));
    store.end_descendants(hash(5), entry("token_reused")).await?;
    assert_eq!(changes(store).await?, [Change::TokensEnded(session_id(5), vec![hash(51), hash(52)])]);
    assert_eq!(store.session_by_token(&hash(52), at(0)).await?, None);
    Ok(())
}

pub(super) async fn a_token_brings_those_that_may_still_speak(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    begun(store, 6).await?;
    store.roll(rolled(5, None, 51)).await?;
    store.roll(rolled(51, Some(5), 52)).await?;
    store.roll(Roll { at: at(200), ..rolled(52, Some(51), 53) }).await?;
    let spoken = async |number: u8, since: i64| -> Result<Vec<u8>, StoreError> {
        let stored = store.session_by_token(&hash(number), at(since)).await?;
        Ok(stored.map_or_else(Vec::new, |stored| stored.tokens.iter().map(|token| token.hash[0]).collect()))
    };
    assert_eq!(spoken(53, 100).await?, [5, 51, 52, 53], "at the moment itself it still speaks");
    assert_eq!(spoken(53, 101).await?, [51, 52, 53]);
    assert_eq!(spoken(53, 201).await?, [52, 53]);
    assert_eq!(spoken(5, 201).await?, [5, 52, 53], "the one asked for is always there");
    Ok(())
}

pub(super) async fn sessions_are_listed_newest_first(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_account(account(2, "Bob"), entry("account_added")).await?;
    for (number, account) in [(2, Some(1)), (1, Some(2)), (4, Some(1)), (3, None), (5, Some(1))] {
        store.start_session(new_session(session(number, account, "app"), None)).await?;
    }
    store.end_sessions(Which::Session(session_id(4)), Reason::Expired, at(30), entry("session_ended")).await?;
    let numbers = |sessions: Vec<Session>| sessions.iter().map(|session| session.id.0.as_u128()).collect::<Vec<_>>();
    assert_eq!(numbers(store.sessions(None, first(3)).await?), [5, 3, 2]);
    assert_eq!(numbers(store.sessions(None, Page { after: Some(session_id(2)), limit: 3 }).await?), [1]);
    assert_eq!(numbers(store.sessions(Some(account_id(1)), first(1)).await?), [5]);
    let next = Page { after: Some(session_id(5)), limit: 9 };
    assert_eq!(numbers(store.sessions(Some(account_id(1)), next).await?), [2]);
    assert_eq!(numbers(store.sessions(Some(account_id(9)), first(9)).await?), []);
    Ok(())
}

pub(super) async fn sessions_end_once_each_with_feed_and_audit(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_client(client("service"), entry("client_added")).await?;
    for number in [5, 6, 7] {
        begun(store, number).await?;
    }
    for number in [8, 9] {
        store.start_session(new_session(session(number, None, "service"), None)).await?;
    }
    let said = actions(store).await?.len();
    let end = async |which: Which, reason, seconds| {
        let audit = AuditEntry { name: Some("root".to_owned()), ..entry("session_ended") };
        store.end_sessions(which, reason, at(seconds), audit).await
    };
    assert_eq!(end(Which::Session(session_id(6)), Reason::Displaced, 31).await?, 1);
    assert_eq!(end(Which::Session(session_id(6)), Reason::Revoked, 32).await?, 0, "it has ended");
    assert_eq!(end(Which::Account(account_id(1)), Reason::Revoked, 33).await?, 2);
    assert_eq!(end(Which::Account(account_id(1)), Reason::Revoked, 34).await?, 0);
    assert_eq!(end(Which::Client(client_id("service")), Reason::Expired, 35).await?, 2);
    assert_eq!(end(Which::Session(session_id(77)), Reason::Expired, 36).await?, 0);

    let order = [
        (6, Some(1), "app", Reason::Displaced, 31),
        (5, Some(1), "app", Reason::Revoked, 33),
        (7, Some(1), "app", Reason::Revoked, 33),
        (8, None, "service", Reason::Expired, 35),
        (9, None, "service", Reason::Expired, 35),
    ];
    let lines = store.audit_after(said as u64, 100).await?;
    assert_eq!(lines.len(), order.len());
    for ((number, account, client, reason, seconds), line) in order.into_iter().zip(lines) {
        let ended = Some(Ended { at: at(seconds), reason });
        assert_eq!(store.session(session_id(number)).await?, Some(Session { ended, ..session(number, account, client) }));
        assert_eq!((line.session, line.account), (Some(session_id(number)), account.map(account_id)));
        assert_eq!((line.client, line.action), (Some(client_id(client)), "session_ended".to_owned()));
        assert_eq!((line.at, line.name.as_deref()), (at(20), Some("root")));
    }
    let mut expected = order.map(|(number, _, _, reason, _)| Change::SessionEnded(session_id(number), reason)).to_vec();
    // Each time that all of hers were ended, her cut-off moved.
    expected.splice(3..3, [Change::Account(account_id(1)), Change::Account(account_id(1))]);
    assert_eq!(changes(store).await?, expected);
    for number in [5, 6, 7] {
        assert_eq!(store.session_by_token(&hash(number), at(0)).await?, None);
    }
    Ok(())
}

pub(super) async fn sessions_unused_since_a_moment_end(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    for (number, used) in [(1, 40), (2, 50), (3, 51)] {
        let session = Session { used_at: at(used), ..session(number, Some(1), "app") };
        store.start_session(new_session(session, None)).await?;
    }
    let ended = store.end_sessions(Which::UsedBefore(at(50)), Reason::Expired, at(60), entry("session_ended")).await?;
    assert_eq!(ended, 2);
    let left: Vec<_> = store.sessions(None, first(9)).await?.iter().map(|session| session.id).collect();
    assert_eq!(left, [session_id(3)]);
    Ok(())
}

pub(super) async fn forgetting_takes_what_is_past_only(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    for (number, expires) in [(5, 99), (6, 100)] {
        let token = Token { expires_at: at(expires), ..token(number, number.into(), None) };
        store.start_session(new_session(session(number.into(), Some(1), "app"), Some(token))).await?;
    }
    for (number, ended) in [(7, 49), (8, 50)] {
        begun(store, number).await?;
        let which = Which::Session(session_id(number.into()));
        store.end_sessions(which, Reason::Expired, at(ended), entry("session_ended")).await?;
    }
    store.forget(past(100, 50), 1000).await?;
    assert_eq!(store.session_by_token(&hash(5), at(0)).await?, None);
    assert!(store.session_by_token(&hash(6), at(0)).await?.is_some());
    assert!(store.session(session_id(5)).await?.is_some(), "a session outlives its tokens");
    assert_eq!(store.session(session_id(7)).await?, None);
    assert!(store.session(session_id(8)).await?.is_some());
    assert_eq!(store.feed_end().await?, 2);
    Ok(())
}

pub(super) async fn a_token_of_somebody_elses_is_revoked_until_it_ends(store: &dyn Store) -> Held {
    assert!(!store.is_revoked(&hash(1)).await?);
    store.revoke(hash(1), at(100), session_id(7), entry("ended")).await?;
    store.revoke(hash(1), at(200), session_id(8), entry("ended")).await?;
    store.revoke(hash(2), at(50), session_id(9), entry("ended")).await?;
    let told = |(token, number)| [Change::Revoked(hash(token)), Change::SessionEnded(session_id(number), Reason::Revoked)];
    assert_eq!(changes(store).await?, [(1, 7), (1, 8), (2, 9)].map(told).concat());
    let mut marks = store.revoked_marks(10).await?;
    marks.sort_unstable();
    assert_eq!((marks, store.revoked_marks(1).await?.len()), (vec![[1; 4], [2; 4]], 1));
    assert_eq!(actions(store).await?, ["ended"; 3]);
    store.forget(past(9_000, 51), 1000).await?;
    assert!(store.is_revoked(&hash(1)).await? && !store.is_revoked(&hash(2)).await?);
    store.forget(past(9_000, 101), 1000).await?;
    assert!(!store.is_revoked(&hash(1)).await?, "it has ended by itself");
    assert_eq!(store.revoked_marks(10).await?, [[0; 4]; 0]);
    Ok(())
}

pub(super) async fn sessions_whose_own_end_has_come_end(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    for (number, expires_at) in [(1, Some(50)), (2, Some(51)), (3, None)] {
        let session = Session { expires_at: expires_at.map(at), ..session(number, Some(1), "app") };
        store.start_session(new_session(session.clone(), None)).await?;
        assert_eq!(store.session(session.id).await?, Some(session));
    }
    let ended = store.end_sessions(Which::ExpiredBefore(at(50)), Reason::Expired, at(60), entry("session_ended")).await?;
    assert_eq!(ended, 1);
    assert_eq!(changes(store).await?, [Change::SessionEnded(session_id(1), Reason::Expired)]);
    Ok(())
}

pub(super) async fn a_session_takes_the_place_of_another_in_one_write(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    begun(store, 6).await?;
    let said = actions(store).await?.len();
    let replacing = |number: u8| NewSession {
        replaces: Some((session_id(5), entry("replaced"))),
        ..new_session(session(number.into(), Some(1), "app"), Some(token(number, number.into(), None)))
    };
    let stale = NewSession { client_version: 9, ..replacing(7) };
    assert_eq!(store.start_session(stale).await?, Written::Stale);
    let doubled = NewSession { token: Some(token(6, 7, None)), ..replacing(7) };
    assert!(store.start_session(doubled).await.is_err(), "there is such a token already");
    assert_eq!(tokens_with(store, 5).await?.len(), 1, "what did not begin ends nothing");
    assert_eq!(store.start_session(replacing(7)).await?, Written::Done);
    assert_eq!(
        store.session(session_id(5)).await?.and_then(|session| session.ended),
        Some(Ended { at: at(10), reason: Reason::Displaced })
    );
    assert_eq!(
        (tokens_with(store, 5).await?.len(), tokens_with(store, 6).await?.len(), tokens_with(store, 7).await?.len()),
        (0, 1, 1)
    );
    assert_eq!(changes(store).await?, [Change::SessionEnded(session_id(5), Reason::Displaced)]);
    assert_eq!(actions(store).await?[said..], ["replaced", "authenticate"]);
    assert_eq!(store.start_session(replacing(8)).await?, Written::Done, "one that has ended already is in nobody's way");
    assert_eq!(actions(store).await?.len(), said + 3);
    Ok(())
}

pub(super) async fn a_hash_of_a_proof_without_a_session_is_kept(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let kept = async || -> Result<_, StoreError> {
        let password = store.account(account_id(1)).await?.and_then(|ann| ann.password);
        Ok((password, store.client(&client_id("app")).await?.and_then(|app| app.secret)))
    };
    let of = |version: u64| Rehashed {
        account: Some((account_id(1), version, format!("password {version}"))),
        client: Some((client_id("app"), version, format!("secret {version}"))),
    };
    store.rehash(of(2)).await?;
    store.rehash(Rehashed::default()).await?;
    assert_eq!(kept().await?, (None, None), "they have changed since");
    store.rehash(of(1)).await?;
    assert_eq!(kept().await?, (Some("password 1".to_owned()), Some("secret 1".to_owned())));
    assert_eq!(store.account(account_id(1)).await?.map(|ann| ann.version), Some(1));
    assert_eq!(changes(store).await?, []);
    Ok(())
}
