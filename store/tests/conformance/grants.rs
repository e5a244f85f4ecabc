//! Grants: how they are kept, redeemed once, and forgotten; and what a second use ends.

use gatepost_identity::account::{Account, Client, Status};
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::reply::Reason;
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::session::{Ended, Session};
use gatepost_identity::store::{Change, Grant, NewSession, Redeemed, Redemption, Store, StoreError, Token, Which, Written};

use crate::setup::*;
use crate::{Held, actions, ann_and_the_app, begun, changes, tokens_with};

/// Ann's grant of this number, for the app.
async fn granted(store: &dyn Store, number: u8) -> Held {
    store.add_grant(grant(number), entry("grant_made")).await
}

/// Ann's session of this number with its first token, as a redemption begins it.
fn coming(number: u8) -> NewSession {
    new_session(session(number.into(), Some(1), "app"), Some(token(number, number.into(), None)))
}

async fn redeem(store: &dyn Store, grant: u8, new: NewSession) -> Result<Redeemed, StoreError> {
    let reuse = AuditEntry { at: at(40), source: Some("203.0.113.9".to_owned()), ..entry("reused") };
    store.redeem(hash(grant), new, reuse).await
}

fn redeemed(number: u8, session: u128) -> Grant {
    Grant { redeemed: Some(Redemption { at: at(10), session: session_id(session) }), ..grant(number) }
}

pub(super) async fn a_grant_reads_back_as_it_was_written(store: &dyn Store) -> Held {
    let bounds = [ScopeRequest::Maximum, ScopeRequest::Nothing, ScopeRequest::AnyOf(scopes("Zenith/News Zenith/Market"))];
    for (number, scopes) in (1..).zip(bounds) {
        let kept = Grant { scopes, issued_at: at(-1), ..grant(number) };
        store.add_grant(kept.clone(), AuditEntry { account: Some(kept.account), ..entry("grant_made") }).await?;
        assert_eq!(store.grant(&hash(number)).await?, Some(kept));
    }
    assert_eq!(store.grant(&hash(9)).await?, None);
    assert_eq!(actions(store).await?, ["grant_made"; 3]);
    let other = Grant { client: client_id("other"), ..grant(1) };
    assert!(store.add_grant(other, entry("grant_made")).await.is_err(), "there is such a grant already");
    assert_eq!(store.grant(&hash(1)).await?.map(|grant| grant.client), Some(client_id("app")));
    assert_eq!(actions(store).await?.len(), 3);
    Ok(())
}

pub(super) async fn a_grant_is_redeemed_with_session_token_and_audit(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    granted(store, 1).await?;
    granted(store, 2).await?;
    let new = NewSession {
        audit: AuditEntry { session: Some(session_id(5)), ..entry("login") },
        rehashed_secret: Some("newer".to_owned()),
        ..coming(5)
    };
    assert_eq!(redeem(store, 1, new).await?, Redeemed::Done);
    assert_eq!(store.grant(&hash(1)).await?, Some(redeemed(1, 5)));
    assert_eq!(store.grant(&hash(2)).await?, Some(grant(2)), "another grant is as it was");
    assert_eq!(store.session(session_id(5)).await?, Some(session(5, Some(1), "app")));
    assert_eq!(tokens_with(store, 5).await?, [token(5, 5, None)]);
    assert_eq!(store.client(&client_id("app")).await?.and_then(|client| client.secret).as_deref(), Some("newer"));
    let line = store.audit_before(None, 1).await?.remove(0);
    assert_eq!((line.action.as_str(), line.session), ("login", Some(session_id(5))));
    assert_eq!(changes(store).await?, [], "nothing was revoked");
    Ok(())
}

pub(super) async fn a_grant_is_not_redeemed_by_stale_facts(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_account(Account { status: Status::Disabled, ..account(2, "Off") }, entry("account_added")).await?;
    store.add_client(Client { status: Status::Disabled, ..client("off") }, entry("client_added")).await?;
    granted(store, 1).await?;
    let said = actions(store).await?;
    let of = |account: Option<u128>, client: &str| NewSession { session: session(5, account, client), ..coming(5) };
    let cases = [
        ("the grant is not there", 9, coming(5)),
        ("the account has changed", 1, NewSession { account_version: Some(2), ..coming(5) }),
        ("the account is gone", 1, of(Some(9), "app")),
        ("the account is disabled", 1, of(Some(2), "app")),
        ("the client has changed", 1, NewSession { client_version: 2, ..coming(5) }),
        ("the client is gone", 1, of(Some(1), "none")),
        ("the client is disabled", 1, of(Some(1), "off")),
    ];
    for (why, number, new) in cases {
        assert_eq!(redeem(store, number, new).await?, Redeemed::Stale, "{why}");
    }
    assert_eq!(store.grant(&hash(1)).await?, Some(grant(1)));
    assert_eq!(store.session(session_id(5)).await?, None);
    assert_eq!(actions(store).await?, said);
    assert_eq!(redeem(store, 1, coming(5)).await?, Redeemed::Done, "it is as good as before");
    Ok(())
}

pub(super) async fn a_redemption_that_fails_leaves_nothing(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    granted(store, 1).await?;
    let said = actions(store).await?;
    let new = NewSession { token: Some(token(5, 6, None)), ..coming(6) };
    assert!(redeem(store, 1, new).await.is_err(), "there is such a token already");
    assert_eq!(store.grant(&hash(1)).await?, Some(grant(1)));
    assert_eq!(store.session(session_id(6)).await?, None);
    assert_eq!(actions(store).await?, said);
    assert_eq!(redeem(store, 1, coming(7)).await?, Redeemed::Done);
    Ok(())
}

pub(super) async fn a_second_use_ends_what_the_first_began_once(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 4).await?;
    granted(store, 1).await?;
    assert_eq!(redeem(store, 1, coming(5)).await?, Redeemed::Done);
    let said = actions(store).await?.len();
    // Also where the second use was decided by facts that no longer hold.
    let uses = [coming(6), NewSession { account_version: Some(9), ..coming(7) }, coming(8)];
    for new in uses {
        let id = new.session.id;
        assert_eq!(redeem(store, 1, new).await?, Redeemed::Spent);
        assert_eq!(store.session(id).await?, None, "it begins nothing");
    }
    let ended = Some(Ended { at: at(40), reason: Reason::Revoked });
    assert_eq!(store.session(session_id(5)).await?, Some(Session { ended, ..session(5, Some(1), "app") }));
    assert_eq!(tokens_with(store, 5).await?, []);
    assert_eq!(changes(store).await?, [Change::SessionEnded(session_id(5), Reason::Revoked)]);
    let lines = store.audit_after(said as u64, 100).await?;
    assert_eq!(lines.len(), 1, "what has ended does not end again: {lines:?}");
    let line = &lines[0];
    assert_eq!((line.action.as_str(), line.session, line.account), ("reused", Some(session_id(5)), Some(account_id(1))));
    assert_eq!((line.client.clone(), line.source.as_deref()), (Some(client_id("app")), Some("203.0.113.9")));
    assert_eq!(store.grant(&hash(1)).await?, Some(redeemed(1, 5)));
    assert_eq!(tokens_with(store, 4).await?, [token(4, 4, None)], "her other session stands");
    Ok(())
}

pub(super) async fn a_second_use_of_what_was_ended_otherwise_ends_nothing(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    granted(store, 1).await?;
    assert_eq!(redeem(store, 1, coming(5)).await?, Redeemed::Done);
    store.end_sessions(Which::Session(session_id(5)), Reason::Displaced, at(30), entry("session_ended")).await?;
    let said = actions(store).await?;
    assert_eq!(redeem(store, 1, coming(6)).await?, Redeemed::Spent);
    let ended = Some(Ended { at: at(30), reason: Reason::Displaced });
    assert_eq!(store.session(session_id(5)).await?.and_then(|session| session.ended), ended);
    assert_eq!(changes(store).await?, [Change::SessionEnded(session_id(5), Reason::Displaced)]);
    assert_eq!(actions(store).await?, said);
    Ok(())
}

pub(super) async fn of_many_redemptions_at_once_the_first_begins_and_the_second_ends(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    granted(store, 1).await?;
    let asked = (10..110).map(|number| store.redeem(hash(1), coming(number), entry("reused"))).collect();
    let answers: Vec<Redeemed> = together(asked).await.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(answers[0], Redeemed::Done);
    assert!(answers[1..].iter().all(|answer| *answer == Redeemed::Spent), "{answers:?}");
    assert_eq!(changes(store).await?, [Change::SessionEnded(session_id(10), Reason::Revoked)]);
    assert_eq!(actions(store).await?.iter().filter(|action| *action == "reused").count(), 1);
    Ok(())
}

pub(super) async fn what_ends_all_sessions_of_somebody_takes_the_grants_that_were_not_redeemed(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_account(account(2, "Bob"), entry("account_added")).await?;
    store.add_client(client("other"), entry("client_added")).await?;
    let fresh = async || -> Held {
        for (account, client, numbers) in [(1, "app", [11, 12, 13]), (2, "other", [21, 22, 23])] {
            for number in numbers {
                let made = Grant { account: account_id(account), client: client_id(client), ..grant(number) };
                if store.grant(&hash(number)).await?.is_none() {
                    store.add_grant(made, entry("grant_made")).await?;
                }
            }
        }
        Ok(())
    };
    let left = async || -> Result<Vec<u8>, StoreError> {
        let mut left = Vec::new();
        for number in [11, 12, 13, 21, 22, 23] {
            left.extend(store.grant(&hash(number)).await?.map(|grant| grant.hash[0]));
        }
        Ok(left)
    };
    fresh().await?;
    assert_eq!(redeem(store, 11, coming(5)).await?, Redeemed::Done);
    store.end_sessions(Which::Session(session_id(5)), Reason::Revoked, at(30), entry("session_ended")).await?;
    store.end_sessions(Which::UsedBefore(at(99)), Reason::Expired, at(30), entry("session_ended")).await?;
    store.change_account(account(1, "Ann"), None, entry("account_changed")).await?;
    store.change_client(client("app"), None, entry("client_changed")).await?;
    assert_eq!(left().await?, [11, 12, 13, 21, 22, 23], "none of these ends all of an account or client");

    store.end_sessions(Which::Account(account_id(1)), Reason::Revoked, at(30), entry("session_ended")).await?;
    assert_eq!(left().await?, [11, 21, 22, 23], "the one redeemed stays, as its session's record does");
    fresh().await?;
    store.change_account(Account { version: 2, ..account(1, "Ann") }, Some(Reason::Revoked), entry("account_changed")).await?;
    assert_eq!(left().await?, [11, 21, 22, 23]);
    store.change_client(client("other"), Some(Reason::Revoked), entry("client_changed")).await?;
    assert_eq!(left().await?, [11]);
    fresh().await?;
    store.remove_account(account_id(2), 1, entry("account_removed")).await?;
    assert_eq!(left().await?, [11, 12, 13]);
    store.remove_client(client_id("app"), 2, entry("client_removed")).await?;
    assert_eq!(left().await?, [11]);
    Ok(())
}

pub(super) async fn grants_are_forgotten_with_their_time_or_with_their_session(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    for (number, expires) in [(1, 99), (2, 100), (3, 99), (4, 99)] {
        store.add_grant(Grant { expires_at: at(expires), ..grant(number) }, entry("grant_made")).await?;
    }
    for number in [3, 4] {
        let new = NewSession { token: Some(Token { expires_at: at(9), ..token(number, number.into(), None) }), ..coming(number) };
        assert_eq!(redeem(store, number, new).await?, Redeemed::Done);
    }
    store.end_sessions(Which::Session(session_id(4)), Reason::Expired, at(50), entry("session_ended")).await?;
    let left = async || -> Result<Vec<u8>, StoreError> {
        let mut left = Vec::new();
        for number in 1..=4 {
            left.extend(store.grant(&hash(number)).await?.map(|grant| grant.hash[0]));
        }
        Ok(left)
    };
    store.forget(past(100, 50), 1000).await?;
    assert_eq!(left().await?, [2, 3, 4], "what was redeemed is known as long as its session's record");
    store.forget(past(1_000_000, 51), 1000).await?;
    assert_eq!(left().await?, [3]);
    assert_eq!(redeem(store, 3, coming(6)).await?, Redeemed::Spent, "so that a use long after still ends it");
    assert_eq!(store.session(session_id(3)).await?.and_then(|session| session.ended).map(|ended| ended.at), Some(at(40)));
    assert_eq!(store.start_session(coming(7)).await?, Written::Done);
    Ok(())
}
