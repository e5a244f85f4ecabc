//! What is let go of: rows whose time is over, a batch at a time, lines of the audit from the oldest on, names of whoever is removed.

use gatepost_identity::audit::AuditEntry;
use gatepost_identity::reply::Reason;
use gatepost_identity::store::{MOST_OVER, Past, Placed, Store, Which};

use crate::setup::*;
use crate::{Held, ann_and_the_app};

pub(super) async fn forgetting_takes_a_batch_and_says_that_there_is_more(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    for number in 1..=5 {
        store.start_session(new_session(session(number, Some(1), "app"), None)).await?;
    }
    store.end_sessions(Which::Client(client_id("app")), Reason::Revoked, at(30), entry("session_ended")).await?;
    assert!(store.forget(past(0, 31), 2).await?);
    assert!(store.forget(past(0, 31), 2).await?);
    assert!(store.session(session_id(5)).await?.is_some());
    assert!(!store.forget(past(0, 31), 2).await?);
    assert_eq!(store.session(session_id(5)).await?, None);
    Ok(())
}

pub(super) async fn sessions_whose_time_is_over_end_a_thousand_at_once(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let count = MOST_OVER as u128 + 1;
    let begun = (1..=count).map(|number| store.start_session(new_session(session(number, Some(1), "app"), None))).collect();
    assert!(together(begun).await.into_iter().all(|written| written.is_ok()));
    let end = || store.end_sessions(Which::UsedBefore(at(50)), Reason::Expired, at(60), entry("expire"));
    assert_eq!((end().await?, end().await?, end().await?), (MOST_OVER, 1, 0));
    Ok(())
}

pub(super) async fn the_audit_forgets_its_oldest_lines_and_its_chain_goes_on(store: &dyn Store) -> Held {
    // The fourth is younger than the fifth: the clock had stepped.
    let moments = [10, 20, 30, 60, 40, 70];
    let lines = moments.map(|moment| AuditEntry { at: at(moment), name: Some("ann".to_owned()), ..entry("login") });
    store.audit(lines.to_vec()).await?;
    let all = store.audit_after(0, 100).await?;
    let before = |moment| Past { audit: at(moment), ..past(0, 0) };
    assert!(!store.forget(before(10), 100).await?);
    assert_eq!(store.audit_after(0, 100).await?, all);
    assert!(store.forget(before(50), 2).await?, "a batch at a time");
    assert!(!store.forget(before(50), 2).await?);
    assert_eq!(store.audit_after(0, 100).await?, all[3..], "up to the first one that is not old enough, and with what it says");
    store.forget(before(1000), 100).await?;
    assert_eq!(store.audit_after(0, 100).await?, all[5..], "the newest line stays");
    store.audit(vec![entry("login")]).await?;
    let newest = store.audit_before(None, 1).await?.remove(0);
    assert_eq!((newest.number, newest.previous), (7, all[5].hash));
    Ok(())
}

pub(super) async fn of_whoever_is_removed_the_audit_keeps_the_id_and_no_name(store: &dyn Store) -> Held {
    let ann = gatepost_identity::account::Account { email: email("ann@example.org"), ..account(1, "Ann") };
    assert_eq!(store.add_account(ann.clone(), entry("user_add")).await?, Placed::Done);
    let line = |name: &str, of: Option<u128>| AuditEntry {
        name: Some(name.to_owned()),
        account: of.map(account_id),
        source: Some("192.0.2.1".to_owned()),
        ..entry("login")
    };
    let lines = [
        ("ann", Some(1)),
        ("ANN@example.org", None),
        ("annie", None),
        ("an old name", Some(1)),
        ("bob", Some(2)),
        ("\u{ff41}nn", None),
    ];
    store.audit(lines.map(|(name, of)| line(name, of)).to_vec()).await?;
    let hashes: Vec<_> = store.audit_after(0, 100).await?.iter().map(|row| row.hash).collect();
    let mut position = Some(0);
    let mut asked = 0;
    while let Some(after) = position {
        position = store.erase_names(account_id(1), ann.names(), after, 4).await?;
        asked += 1;
    }
    assert_eq!(asked, 2);
    let names = |rows: Vec<gatepost_identity::audit::AuditRow>| rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    let expected = [None, None, None, Some("annie"), None, Some("bob"), Some("\u{ff41}nn")].map(|name| name.map(str::to_owned));
    let rows = store.audit_after(0, 100).await?;
    assert!(rows[1..].iter().all(|row| row.source.as_deref() == Some("192.0.2.1")), "where it came from stays");
    assert_eq!(rows[1].account, Some(account_id(1)));
    assert_eq!(rows.iter().map(|row| row.hash).collect::<Vec<_>>(), hashes, "and so does the chain");
    assert_eq!(names(rows), expected);

    store.audit(vec![line("ann", Some(1))]).await?;
    store.remove_account(account_id(1), 1, entry("user_remove")).await?;
    assert_eq!(names(store.audit_after(7, 100).await?), [None, None], "what came in between goes with the account");
    Ok(())
}
