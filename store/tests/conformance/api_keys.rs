//! API keys: how they are kept, take each other's place, are cancelled, outlive their account, and go.

use gatepost_identity::api_key::{ApiKey, MOST_API_KEYS, Owner};
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::store::{Change, KeysWritten, NewApiKeys, Placed, Store, StoreError};

use crate::setup::*;
use crate::{Held, actions, ann_and_the_app, changes};

fn key(number: u8, environment: &str, created: i64) -> ApiKey {
    ApiKey {
        hash: hash(number),
        prefix: format!("prefix-{number}"),
        owner: Owner::Account(account_id(1)),
        environment: environment.to_owned(),
        kind: "secret".to_owned(),
        created_at: at(created),
        expires_at: None,
        cancelled_at: None,
    }
}

fn new(keys: Vec<ApiKey>, in_place_of: Option<&str>) -> NewApiKeys {
    NewApiKeys { account: account_id(1), keys, in_place_of: in_place_of.map(str::to_owned), at: at(50) }
}

/// What the feed says but for what was made.
async fn ended(store: &dyn Store) -> Result<Vec<Change>, StoreError> {
    let made = |change: &Change| matches!(change, Change::ApiKeyMade(_));
    Ok(changes(store).await?.into_iter().filter(|change| !made(change)).collect())
}

pub(super) async fn an_api_key_reads_back_as_it_was_written(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let full = ApiKey { expires_at: Some(at(90)), cancelled_at: Some(at(80)), ..key(1, "live", 10) };
    let keys = vec![full.clone(), key(2, "test", 30), key(3, "live", 20)];
    assert_eq!(store.add_api_keys(new(keys, None), entry("made")).await?, KeysWritten::Done);
    assert_eq!(store.api_key(&hash(1)).await?, Some(full.clone()));
    assert_eq!(store.api_key(&hash(9)).await?, None);
    assert_eq!(store.api_keys(account_id(1)).await?, [key(2, "test", 30), key(3, "live", 20), full], "newest first");
    assert_eq!(store.api_keys(account_id(2)).await?, []);
    assert!(store.add_api_keys(new(vec![key(4, "live", 1), key(1, "live", 1)], Some("test")), entry("in_vain")).await.is_err());
    assert_eq!(store.api_key(&hash(4)).await?, None);
    let made = [1, 2, 3].map(|number| Change::ApiKeyMade(hash(number)));
    assert_eq!(changes(store).await?, made, "and nothing was cancelled");
    let mut marks = store.api_key_marks(10).await?;
    marks.sort_unstable();
    assert_eq!(marks, [[1; 4], [2; 4], [3; 4]]);
    assert_eq!(store.api_key_marks(2).await?.len(), 2);
    let nobody = NewApiKeys { account: account_id(9), ..new(Vec::new(), None) };
    assert_eq!(store.add_api_keys(nobody, entry("in_vain")).await?, KeysWritten::Stale);
    assert_eq!(actions(store).await?.last().map(String::as_str), Some("made"));
    Ok(())
}

pub(super) async fn of_many_cancelled_api_keys_the_last_ones_are_kept(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    for number in 0..=u8::try_from(MOST_API_KEYS).expect("few") {
        let renewed = NewApiKeys { at: at(i64::from(number)), ..new(vec![key(number, "live", number.into())], Some("live")) };
        store.add_api_keys(renewed, entry("renewed")).await?;
    }
    let all = MOST_API_KEYS + 1;
    assert_eq!((store.api_keys(account_id(1)).await?.len(), store.api_key(&hash(0)).await?.is_some()), (all, true));
    let last = NewApiKeys { at: at(200), ..new(vec![key(200, "live", 200)], Some("live")) };
    store.add_api_keys(last, entry("renewed")).await?;
    assert_eq!((store.api_keys(account_id(1)).await?.len(), store.api_key(&hash(0)).await?.is_some()), (all, false));
    assert!(store.api_key(&hash(1)).await?.is_some());
    Ok(())
}

pub(super) async fn all_api_keys_of_an_account_are_cancelled_at_once(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_account(account(2, "Bob"), entry("account_added")).await?;
    let bobs = ApiKey { owner: Owner::Account(account_id(2)), ..key(9, "live", 1) };
    store.add_api_keys(NewApiKeys { account: account_id(2), ..new(vec![bobs.clone()], None) }, entry("made")).await?;
    let before = ApiKey { cancelled_at: Some(at(5)), ..key(3, "live", 3) };
    store.add_api_keys(new(vec![key(1, "live", 1), key(2, "test", 2), before.clone()], None), entry("made")).await?;
    assert_eq!(store.cancel_api_keys(account_id(1), at(60), entry("cancelled")).await?, 2);
    let cancelled = |number, environment, created| ApiKey { cancelled_at: Some(at(60)), ..key(number, environment, created) };
    assert_eq!(store.api_keys(account_id(1)).await?, [before, cancelled(2, "test", 2), cancelled(1, "live", 1)]);
    assert_eq!(store.api_keys(account_id(2)).await?, [bobs]);
    assert_eq!(ended(store).await?, [Change::Revoked(hash(1)), Change::Revoked(hash(2))]);
    assert_eq!(store.cancel_api_keys(account_id(1), at(61), entry("cancelled")).await?, 0);
    assert_eq!(actions(store).await?.iter().filter(|action| *action == "cancelled").count(), 2);
    Ok(())
}

pub(super) async fn a_new_api_key_takes_the_place_of_those_of_its_environment(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_account(account(2, "Bob"), entry("account_added")).await?;
    let bobs = ApiKey { owner: Owner::Account(account_id(2)), ..key(9, "live", 1) };
    store.add_api_keys(NewApiKeys { account: account_id(2), ..new(vec![bobs.clone()], None) }, entry("made")).await?;
    let before = ApiKey { cancelled_at: Some(at(5)), ..key(4, "live", 1) };
    let keys = vec![key(1, "live", 1), key(2, "live", 2), key(3, "test", 3), before.clone()];
    store.add_api_keys(new(keys, None), entry("made")).await?;
    store.add_api_keys(new(vec![key(5, "live", 50)], Some("live")), entry("renewed")).await?;
    let cancelled = |number, created| ApiKey { cancelled_at: Some(at(50)), ..key(number, "live", created) };
    let expected = [key(5, "live", 50), key(3, "test", 3), cancelled(2, 2), cancelled(1, 1), before];
    assert_eq!(store.api_keys(account_id(1)).await?, expected);
    assert_eq!(store.api_keys(account_id(2)).await?, [bobs]);
    assert_eq!(ended(store).await?, [Change::Revoked(hash(1)), Change::Revoked(hash(2))]);
    Ok(())
}

pub(super) async fn an_api_key_is_cancelled_once_and_goes_with_its_time(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let ends = |number, end| ApiKey { expires_at: Some(at(end)), ..key(number, "live", 1) };
    store.add_api_keys(new(vec![key(1, "live", 1), ends(2, 60), ends(3, 61), key(4, "live", 1)], None), entry("made")).await?;
    store.cancel_api_key(hash(1), at(60), entry("cancelled")).await?;
    store.cancel_api_key(hash(1), at(70), entry("cancelled")).await?;
    assert_eq!(store.api_key(&hash(1)).await?.and_then(|key| key.cancelled_at), Some(at(60)), "the first time stands");
    assert_eq!(ended(store).await?[0], Change::Revoked(hash(1)));
    store.cancel_api_key(hash(4), at(61), entry("cancelled")).await?;
    store.forget(past(999, 61), 1000).await?;
    let left: Vec<_> = store.api_keys(account_id(1)).await?.iter().map(|key| key.hash[0]).collect();
    assert_eq!(left, [3, 4]);
    Ok(())
}

pub(super) async fn an_api_key_outlives_its_account_for_as_long_as_what_has_ended(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_account(account(2, "bob"), entry("account_added")).await?;
    let ends = ApiKey { expires_at: Some(at(70)), ..key(2, "live", 1) };
    let bobs = ApiKey { owner: Owner::Account(account_id(2)), ..key(9, "live", 1) };
    store.add_api_keys(new(vec![key(1, "live", 1), ends.clone(), key(3, "live", 1)], None), entry("made")).await?;
    store.add_api_keys(NewApiKeys { account: account_id(2), ..new(vec![bobs.clone()], None) }, entry("made")).await?;
    store.cancel_api_key(hash(3), at(75), entry("cancelled")).await?;
    let removal = AuditEntry { at: at(80), ..entry("account_removed") };
    store.remove_account(account_id(1), 1, removal).await?;
    let gone = |key: ApiKey| Some(ApiKey { owner: Owner::Removed(at(80)), ..key });
    assert_eq!(store.api_key(&hash(1)).await?, gone(key(1, "live", 1)));
    assert_eq!(store.api_key(&hash(2)).await?, gone(ends));
    assert_eq!(store.api_key(&hash(3)).await?, gone(ApiKey { cancelled_at: Some(at(75)), ..key(3, "live", 1) }));
    assert_eq!((store.api_keys(account_id(1)).await?, store.api_key(&hash(9)).await?), (vec![], Some(bobs)));
    assert_eq!(store.api_key_marks(10).await?.len(), 4, "whoever holds one is still told");
    store.forget(past(999, 80), 1000).await?;
    let there = [store.api_key(&hash(1)).await?, store.api_key(&hash(2)).await?, store.api_key(&hash(3)).await?];
    assert_eq!(there.map(|key| key.is_some()), [true, false, false], "what ended before goes as before");
    store.forget(past(999, 81), 1000).await?;
    assert_eq!((store.api_key(&hash(1)).await?, store.api_key_marks(10).await?.len()), (None, 1));
    Ok(())
}

pub(super) async fn keys_that_are_nobodys_are_taken_all_or_none_and_stay(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let nobodys = |number| ApiKey { owner: Owner::Nobody, ..key(number, "live", 1) };
    store.add_api_keys(new(vec![key(1, "live", 1)], None), entry("made")).await?;
    assert_eq!(store.add_nobodys_keys(vec![nobodys(2), nobodys(3)], entry("import")).await?, Placed::Done);
    for keys in [vec![nobodys(4), nobodys(1)], vec![nobodys(3), nobodys(4)], vec![nobodys(4), nobodys(4)]] {
        assert_eq!(store.add_nobodys_keys(keys, entry("in_vain")).await?, Placed::Taken("key"));
    }
    assert_eq!(store.api_key(&hash(1)).await?, Some(key(1, "live", 1)));
    assert_eq!(store.api_key(&hash(4)).await?, None);
    store.forget(past(999, 999), 1000).await?;
    assert_eq!(store.api_key(&hash(2)).await?, Some(nobodys(2)), "nothing of it has ended");
    let made = changes(store).await?.into_iter().filter(|change| matches!(change, Change::ApiKeyMade(_))).count();
    assert_eq!((made, store.api_key_marks(10).await?.len()), (3, 3));
    assert!(actions(store).await?.ends_with(&["made".to_owned(), "import".to_owned()]));
    Ok(())
}

pub(super) async fn no_api_key_in_force_is_out_of_sight(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let hidden = key(1, "hidden", 1);
    store.add_api_keys(new(vec![hidden.clone()], None), entry("made")).await?;
    let numbered = |number: u16| {
        let mut key = ApiKey { cancelled_at: Some(at(9)), ..key(2, "live", 5) };
        key.hash[..2].copy_from_slice(&number.to_be_bytes());
        key
    };
    let cancelled = |number| NewApiKeys { in_place_of: Some("live".to_owned()), ..new(vec![numbered(number)], None) };
    for number in 3000..4001 {
        store.add_api_keys(cancelled(number), entry("renewed")).await?;
    }
    let listed = store.api_keys(account_id(1)).await?;
    assert_eq!((listed.len(), &listed[0]), (MOST_API_KEYS + 1, &hidden), "however many were made and cancelled since");
    let over = |number, end| ApiKey { expires_at: end, cancelled_at: None, ..numbered(number) };
    let most = u16::try_from(MOST_API_KEYS).expect("a few");
    store.add_api_keys(new((1..most).map(|number| over(5000 + number, Some(at(51)))).collect(), None), entry("made")).await?;
    assert_eq!(store.add_api_keys(new(vec![over(6000, None)], None), entry("in_vain")).await?, KeysWritten::Full);
    assert_eq!(store.add_api_keys(new(vec![over(6000, None)], Some("other")), entry("in_vain")).await?, KeysWritten::Full);
    assert_eq!(store.add_api_keys(new(vec![over(6001, None)], Some("hidden")), entry("renewed")).await?, KeysWritten::Done);
    let later = NewApiKeys { at: at(51), ..new(vec![over(6002, None)], None) };
    assert_eq!(store.add_api_keys(later, entry("made")).await?, KeysWritten::Done, "what is over is not in force");
    Ok(())
}
