//! Families of refresh tokens: how they go on, end, and are bounded.

use gatepost_identity::family::{Family, MOST_FAMILIES};
use gatepost_identity::reply::Reason;
use gatepost_identity::store::{Change, Store, Which, Written};

use crate::setup::*;
use crate::{Held, actions, ann_and_the_app, changes};

fn family(number: u8) -> Family {
    Family {
        id: hash(number),
        account: account_id(1),
        adopted: false,
        current: -1,
        issued_at: at(10),
        previous: None,
        expires_at: at(900),
    }
}

fn second(number: u8) -> Family {
    Family { current: -2, issued_at: at(20), previous: Some((-1, at(21))), ..family(number) }
}

pub(super) async fn a_family_goes_on_by_the_facts_it_was_decided_by(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    assert_eq!(store.family(&hash(1)).await?, None);
    assert_eq!(store.put_family(family(1), Some(-1), at(0)).await?, Written::Stale, "there is none to go on");
    assert_eq!(store.put_family(family(1), None, at(5)).await?, Written::Stale, "another cut-off");
    let nobodys = Family { account: account_id(9), ..family(1) };
    assert_eq!(store.put_family(nobodys, None, at(0)).await?, Written::Stale);
    assert_eq!(store.put_family(family(1), None, at(0)).await?, Written::Done);
    assert_eq!(store.family(&hash(1)).await?, Some(family(1)));
    assert_eq!(store.put_family(second(1), None, at(0)).await?, Written::Stale, "it began already");
    assert_eq!(store.put_family(second(1), Some(-7), at(0)).await?, Written::Stale);
    assert_eq!(store.put_family(second(1), Some(-1), at(5)).await?, Written::Stale);
    assert_eq!(store.family(&hash(1)).await?, Some(family(1)));
    assert_eq!(store.put_family(second(1), Some(-1), at(0)).await?, Written::Done);
    assert_eq!(store.family(&hash(1)).await?, Some(second(1)));
    assert_eq!(store.put_family(second(1), Some(-1), at(0)).await?, Written::Stale, "of two at once one goes on");
    assert_eq!(changes(store).await?, []);
    Ok(())
}

pub(super) async fn a_family_ends_once_and_one_that_was_adopted_stays_ended(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.put_family(family(1), None, at(0)).await?;
    store.put_family(Family { adopted: true, ..family(2) }, None, at(0)).await?;
    for number in [1, 2, 1, 2, 3] {
        store.end_family(hash(number), entry("reuse")).await?;
        assert_eq!(store.family(&hash(number)).await?, None);
    }
    assert_eq!((store.is_revoked(&hash(1)).await?, store.is_revoked(&hash(2)).await?), (false, true));
    assert_eq!(changes(store).await?, [Change::Revoked(hash(1)), Change::Revoked(hash(2))]);
    assert_eq!(actions(store).await?[2..], ["reuse", "reuse"]);
    store.forget(past(9_000, 900), 1000).await?;
    assert!(store.is_revoked(&hash(2)).await?, "for as long as the first token lives, by whatever clock");
    store.forget(past(9_000, 901), 1000).await?;
    assert!(!store.is_revoked(&hash(2)).await?);
    Ok(())
}

pub(super) async fn families_go_with_what_ends_all_of_an_account_or_with_their_time(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.put_family(family(1), None, at(0)).await?;
    store.put_family(Family { expires_at: at(901), ..family(2) }, None, at(0)).await?;
    store.put_family(Family { adopted: true, ..family(4) }, None, at(0)).await?;
    store.forget(past(901, 900), 1000).await?;
    assert_eq!((store.family(&hash(1)).await?.is_some(), store.family(&hash(2)).await?.is_some()), (false, true));
    assert!(store.family(&hash(4)).await?.is_some(), "of an adopted one its use is remembered: the clock may be ahead");
    store.forget(past(901, 901), 1000).await?;
    assert_eq!((store.family(&hash(4)).await?.is_some(), store.family(&hash(2)).await?.is_some()), (false, true));
    store.end_sessions(Which::Client(client_id("app")), Reason::Revoked, at(1), entry("session_ended")).await?;
    assert!(store.family(&hash(2)).await?.is_some());
    store.end_sessions(Which::Account(account_id(1)), Reason::Revoked, at(1), entry("session_ended")).await?;
    assert_eq!(store.family(&hash(2)).await?, None);
    store.add_account(account(2, "Bob"), entry("account_added")).await?;
    store.put_family(Family { account: account_id(2), ..family(3) }, None, at(0)).await?;
    store.remove_account(account_id(2), 1, entry("account_removed")).await?;
    assert_eq!(store.family(&hash(3)).await?, None);
    Ok(())
}

pub(super) async fn of_too_many_families_those_used_longest_ago_end(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let numbered = |number: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&u64::try_from(number).expect("a small number").to_be_bytes());
        Family { id, issued_at: at(i64::try_from(number).expect("a small number")), ..family(0) }
    };
    for number in 0..MOST_FAMILIES {
        store.put_family(numbered(number), None, at(0)).await?;
    }
    let used = Family { current: -2, issued_at: at(99_999), previous: Some((-1, at(99_999))), ..numbered(0) };
    store.put_family(used.clone(), Some(-1), at(0)).await?;
    assert_eq!(changes(store).await?, []);
    store.put_family(numbered(MOST_FAMILIES), None, at(0)).await?;
    assert_eq!(store.family(&used.id).await?, Some(used));
    assert_eq!(store.family(&numbered(1).id).await?, None);
    assert_eq!(changes(store).await?, [Change::Revoked(numbered(1).id)]);
    assert!(store.family(&numbered(2).id).await?.is_some());
    Ok(())
}
