//! Keys that sign, numbers that are never used twice, and what is said of signed tokens.

use gatepost_identity::keyring::{KeyAlgorithm, Purpose, Retired, SigningKey};
use gatepost_identity::secret::Secret;
use gatepost_identity::store::{Change, Store, StoreError};

use crate::setup::*;
use crate::{Held, actions, ann_and_the_app, changes};

fn shared(number: u8) -> SigningKey {
    let secret = Secret::new([number; 48]);
    SigningKey { number: 0, purpose: Purpose::Tokens, algorithm: KeyAlgorithm::HS384, secret, created_at: at(5), retired: None }
}

/// What there is: number, first byte, algorithm, and how it ended.
async fn kept(store: &dyn Store) -> Result<Vec<(u64, u8, KeyAlgorithm, Option<Retired>)>, StoreError> {
    let told = |key: SigningKey| (key.number, key.secret.expose()[0], key.algorithm, key.retired);
    Ok(store.keys().await?.into_iter().map(told).collect())
}

pub(super) async fn one_key_is_made_for_each_purpose_that_none_signs_for(store: &dyn Store) -> Held {
    store.signing_keys(signing_key(1)).await?;
    assert_eq!(changes(store).await?, [Change::Keys]);
    assert_eq!(store.signing_keys(shared(2)).await?.len(), 2);
    assert_eq!(store.signing_keys(shared(3)).await?.len(), 2, "there is one that signs");
    let retired = Retired { at: at(10), until: at(90) };
    store.retire_key(2, retired, entry("key_retired")).await?;
    assert_eq!(store.signing_keys(shared(3)).await?.len(), 3);
    let (one, hs) = (KeyAlgorithm::EdDSA, KeyAlgorithm::HS384);
    assert_eq!(kept(store).await?, [(1, 1, one, None), (2, 2, hs, Some(retired)), (3, 3, hs, None)]);
    assert_eq!(changes(store).await?, [Change::Keys, Change::Keys, Change::Keys, Change::Keys]);
    assert_eq!(actions(store).await?, ["key_retired"]);
    Ok(())
}

pub(super) async fn a_key_is_added_retired_and_forgotten_and_its_number_is_not_used_again(store: &dyn Store) -> Held {
    assert_eq!(store.add_key(shared(1), entry("key_added")).await?, 1);
    assert_eq!(store.add_key(shared(2), entry("key_added")).await?, 2);
    store.retire_key(2, Retired { at: at(10), until: at(90) }, entry("key_retired")).await?;
    store.retire_key(2, Retired { at: at(20), until: at(99) }, entry("key_retired")).await?;
    assert_eq!(kept(store).await?[1].3, Some(Retired { at: at(10), until: at(90) }), "an end is never put off");
    store.retire_key(2, Retired { at: at(30), until: at(30) }, entry("key_retired")).await?;
    assert_eq!(kept(store).await?[1].3, Some(Retired { at: at(10), until: at(30) }));
    store.retire_key(9, Retired { at: at(30), until: at(30) }, entry("key_retired")).await?;
    store.forget(past(30, 0), 1000).await?;
    assert_eq!(kept(store).await?.len(), 2);
    store.forget(past(31, 0), 1000).await?;
    assert_eq!(kept(store).await?.iter().map(|key| key.0).collect::<Vec<_>>(), [1]);
    assert_eq!(store.add_key(shared(3), entry("key_added")).await?, 3);
    Ok(())
}

pub(super) async fn numbers_are_reserved_once(store: &dyn Store) -> Held {
    assert_eq!(store.reserve("tokens", 10).await?, 1);
    assert_eq!(store.reserve("tokens", 1).await?, 11);
    assert_eq!(store.reserve("others", 5).await?, 1);
    let asked = (0..50).map(|_| store.reserve("tokens", 2)).collect();
    let firsts: Vec<u64> = together(asked).await.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(firsts, (0..50).map(|number| 12 + 2 * number).collect::<Vec<u64>>());
    Ok(())
}

pub(super) async fn a_signed_token_is_revoked_until_the_latest_of_its_kind_has_ended(store: &dyn Store) -> Held {
    store.revoke_signed(hash(1), at(90), entry("token_revoked")).await?;
    store.revoke_signed(hash(1), at(80), entry("token_revoked")).await?;
    assert_eq!((store.is_revoked(&hash(1)).await?, store.is_revoked(&hash(2)).await?), (true, false));
    assert_eq!(changes(store).await?, [Change::Revoked(hash(1)), Change::Revoked(hash(1))]);
    store.forget(past(9_000, 90), 1000).await?;
    assert!(store.is_revoked(&hash(1)).await?, "whatever a clock says that may be ahead");
    store.forget(past(9_000, 91), 1000).await?;
    assert!(!store.is_revoked(&hash(1)).await?);
    Ok(())
}

pub(super) async fn an_account_is_found_by_its_public_id_exactly(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    assert_eq!(store.account_known_as("Ann").await?, Some(account(1, "Ann")));
    for other in ["ann", "Ann ", ""] {
        assert_eq!(store.account_known_as(other).await?, None, "{other:?}");
    }
    Ok(())
}
