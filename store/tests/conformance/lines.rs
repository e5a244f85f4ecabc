//! What is kept in numbered lines and slots: the feed, the audit and the throttle; and the secrets and keys of an installation.

use gatepost_identity::audit::{AttemptId, AuditEntry, AuditRow, chain};
use gatepost_identity::reply::Reason;
use gatepost_identity::store::{Change, Store, Which, Written};
use gatepost_identity::throttle::ThrottleRow;

use crate::setup::*;
use crate::{Held, ann_and_the_app, begun, rolled};

pub(super) async fn a_secret_is_made_once(store: &dyn Store) -> Held {
    assert_eq!(store.secret("one", [1; 32]).await?, [1; 32]);
    assert_eq!(store.secret("one", [2; 32]).await?, [1; 32]);
    assert_eq!(store.secret("other", [3; 32]).await?, [3; 32]);
    Ok(())
}

pub(super) async fn one_key_is_made_however_many_ask_for_it_at_once(store: &dyn Store) -> Held {
    let answers = together((1..=8).map(|number| store.signing_keys(signing_key(number))).collect()).await;
    let mut kept = Vec::new();
    for answer in answers {
        kept.push(answer?.iter().map(|key| (key.secret.expose().to_vec(), key.created_at)).collect::<Vec<_>>());
    }
    assert_eq!(kept[0].len(), 1);
    let among = |number| signing_key(number).secret.matches(&kept[0][0].0) && signing_key(number).created_at == kept[0][0].1;
    assert!((1..=8).any(among), "it is one of those offered");
    assert!(kept.iter().all(|keys| *keys == kept[0]), "everybody is told the same");
    let later: Vec<_> = store.signing_keys(signing_key(9)).await?;
    assert_eq!(later.len(), 1);
    assert!(later[0].secret.matches(&kept[0][0].0), "and so is whoever comes later");
    Ok(())
}

pub(super) async fn the_feed_keeps_its_newest_ten_thousand_lines(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let begun = (1..=10_007).map(|number| store.start_session(new_session(session(number, Some(1), "app"), None))).collect();
    assert!(together(begun).await.into_iter().all(|written| written == Ok(Written::Done)));
    store.end_sessions(Which::Client(client_id("app")), Reason::Revoked, at(30), entry("session_ended")).await?;
    assert_eq!(store.feed(0, 1).await?, [(1, Change::SessionEnded(session_id(1), Reason::Revoked))]);
    store.forget(past(0, 0), 1000).await?;
    assert_eq!(store.feed(0, 1).await?, [(8, Change::SessionEnded(session_id(8), Reason::Revoked))]);
    assert_eq!(store.feed(0, 20_000).await?.len(), 10_000);
    assert_eq!(store.feed_end().await?, 10_007);
    store.change_client(client("app"), None, entry("client_changed")).await?;
    assert_eq!(store.feed(10_007, 9).await?, [(10_008, Change::Client(client_id("app")))]);
    Ok(())
}

pub(super) async fn the_feed_is_read_in_pages(store: &dyn Store) -> Held {
    assert_eq!(store.feed_end().await?, 0);
    assert_eq!(store.feed(0, 10).await?, []);
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    store.roll(rolled(5, None, 51)).await?;
    store.end_descendants(hash(5), entry("token_reused")).await?;
    store.change_account(account(1, "Ann"), None, entry("account_changed")).await?;
    store.change_client(client("app"), Some(Reason::Displaced), entry("client_changed")).await?;
    let lines = [
        (1, Change::TokensEnded(session_id(5), vec![hash(51)])),
        (2, Change::Account(account_id(1))),
        (3, Change::SessionEnded(session_id(5), Reason::Displaced)),
        (4, Change::Client(client_id("app"))),
    ];
    assert_eq!(store.feed(0, 3).await?, lines[..3]);
    assert_eq!(store.feed(3, 3).await?, lines[3..]);
    assert_eq!(store.feed(4, 3).await?, []);
    assert_eq!(store.feed_end().await?, 4);
    Ok(())
}

pub(super) async fn the_audit_is_a_chain(store: &dyn Store) -> Held {
    let full = AuditEntry {
        at: at(-3),
        outcome: "invalid_credentials",
        account: Some(account_id(1)),
        client: Some(client_id("app")),
        session: Some(session_id(5)),
        attempt: Some(AttemptId(uuid::Uuid::from_u128(7))),
        count: u32::MAX,
        name: Some("änn".to_owned()),
        source: Some("2001:db8::1".to_owned()),
        ..entry("authenticate")
    };
    let named = AuditEntry { name: Some("ann".to_owned()), ..entry("throttled") };
    let batches = [vec![full, entry("audit_lost")], vec![], vec![named]];
    for batch in &batches {
        store.audit(batch.clone()).await?;
    }
    let rows = store.audit_after(0, 100).await?;
    let entries: Vec<AuditEntry> = batches.concat();
    assert_eq!(rows.len(), entries.len());
    let mut previous = [0; 32];
    for ((number, entry), row) in (1..).zip(&entries).zip(&rows) {
        assert_eq!((row.number, row.node, row.previous), (number, 0, previous));
        assert_eq!(row.hash, chain(number, 0, entry, &previous));
        let told = (row.at, row.action.as_str(), row.outcome.as_str(), &row.gate, row.account, &row.client);
        assert_eq!(told, (entry.at, entry.action, entry.outcome, &entry.gate, entry.account, &entry.client));
        let told = (row.session, row.attempt, row.count, &row.name, &row.source);
        assert_eq!(told, (entry.session, entry.attempt, entry.count, &entry.name, &entry.source));
        previous = row.hash;
    }
    Ok(())
}

pub(super) async fn the_audit_is_read_both_ways(store: &dyn Store) -> Held {
    const NONE: [u64; 0] = [];
    assert_eq!(store.audit_before(None, 10).await?, []);
    store.audit(vec![entry("a"), entry("b"), entry("c"), entry("d")]).await?;
    let forward = store.audit_after(0, 10).await?;
    let numbers = |rows: Vec<AuditRow>| rows.iter().map(|row| row.number).collect::<Vec<_>>();
    let mut backward = store.audit_before(None, 10).await?;
    backward.reverse();
    assert_eq!(forward, backward);
    assert_eq!(numbers(store.audit_before(None, 2).await?), [4, 3]);
    assert_eq!(numbers(store.audit_before(Some(3), 9).await?), [2, 1]);
    assert_eq!(numbers(store.audit_before(Some(1), 9).await?), NONE);
    assert_eq!(numbers(store.audit_before(Some(u64::MAX), 1).await?), [4]);
    assert_eq!(numbers(store.audit_after(1, 2).await?), [2, 3]);
    assert_eq!(numbers(store.audit_after(4, 2).await?), NONE);
    assert_eq!(numbers(store.audit_after(u64::MAX, 2).await?), NONE);
    Ok(())
}

pub(super) async fn the_throttle_reads_back(store: &dyn Store) -> Held {
    let row = |slot, key: u8, failures| ThrottleRow { slot, key: [key; 16], rule: 2, failures, last: -7 };
    assert_eq!(store.throttle().await?, []);
    store.save_throttle(vec![row(u32::MAX, 1, u32::MAX), row(3, 2, 5), row(4, 3, 1)]).await?;
    store.save_throttle(vec![]).await?;
    assert_eq!(store.throttle().await?, [row(3, 2, 5), row(4, 3, 1), row(u32::MAX, 1, u32::MAX)]);
    store.save_throttle(vec![row(3, 9, 1), row(4, 0, 8), row(5, 0, 0)]).await?;
    assert_eq!(store.throttle().await?, [row(3, 9, 1), row(u32::MAX, 1, u32::MAX)]);
    Ok(())
}
