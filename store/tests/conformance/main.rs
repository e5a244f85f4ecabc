//! What every store must do: one suite, run on each implementation. A test takes the trait only, so that what it holds
//! one store to it holds all of them to.

mod accounts;
mod api_keys;
mod families;
mod grants;
mod keys;
mod lines;
mod past;
mod sessions;
#[path = "../setup/mod.rs"]
mod setup;
mod terminals;

use gatepost_identity::store::{Change, Page, Placed, Roll, Store, StoreError, Token, Written};
use gatepost_store::Memory;

use crate::accounts::*;
use crate::api_keys::*;
use crate::families::*;
use crate::grants::*;
use crate::keys::*;
use crate::lines::*;
use crate::past::*;
use crate::sessions::*;
use crate::setup::*;
use crate::terminals::*;

type Held = Result<(), StoreError>;

/// Makes each test twice. One that is written but not named here is dead code, which the build refuses.
macro_rules! held_by_both {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Memory::default()).await.expect("the store answers");
            })*
        }
        mod in_sqlite {
            $(#[tokio::test]
            async fn $name() {
                let scratch = super::Scratch::new();
                let running = super::Running::start(scratch.path());
                super::$name(&running.store).await.expect("the store answers");
                running.stop();
            })*
        }
    };
}

held_by_both! {
    a_secret_is_made_once,
    forgetting_takes_a_batch_and_says_that_there_is_more,
    sessions_whose_time_is_over_end_a_thousand_at_once,
    the_audit_forgets_its_oldest_lines_and_its_chain_goes_on,
    of_whoever_is_removed_the_audit_keeps_the_id_and_no_name,
    a_terminal_is_kept_changed_and_removed,
    a_terminal_written_by_stale_facts_stays_as_it_was,
    one_key_is_made_however_many_ask_for_it_at_once,
    an_account_is_found_by_id_name_and_address,
    spellings_of_one_name_find_one_account,
    a_taken_name_address_or_id_is_named_and_nothing_is_written,
    of_accounts_that_come_from_elsewhere_each_is_kept_whole_or_not_at_all,
    a_change_counts_and_lets_go_of_the_old_names,
    a_change_to_taken_names_writes_nothing,
    a_change_by_stale_facts_writes_nothing,
    a_change_ends_sessions_where_it_says_why,
    what_ends_all_sessions_of_an_account_moves_its_cut_off,
    a_removed_account_leaves_its_ended_sessions,
    accounts_are_listed_by_the_key_of_their_name,
    a_client_is_kept_changed_and_removed,
    a_client_written_by_stale_facts_stays_as_it_was,
    a_client_takes_its_sessions_along,
    clients_are_listed_by_id,
    a_session_begins_with_token_and_audit,
    a_session_reads_back_as_it_was_written,
    a_session_does_not_begin_by_stale_facts,
    a_new_hash_of_a_proved_secret_is_not_a_change,
    a_session_whose_token_is_taken_leaves_nothing,
    a_roll_presents_supersedes_gives_up_and_succeeds,
    a_second_presentation_keeps_the_first_moments,
    a_roll_by_stale_facts_writes_nothing,
    a_roll_that_fails_leaves_nothing,
    descendants_end_over_all_generations,
    descendants_are_found_after_their_parent_is_gone,
    a_token_brings_those_that_may_still_speak,
    sessions_are_listed_newest_first,
    sessions_end_once_each_with_feed_and_audit,
    sessions_unused_since_a_moment_end,
    sessions_whose_own_end_has_come_end,
    a_session_takes_the_place_of_another_in_one_write,
    a_hash_of_a_proof_without_a_session_is_kept,
    forgetting_takes_what_is_past_only,
    a_grant_reads_back_as_it_was_written,
    a_grant_is_redeemed_with_session_token_and_audit,
    a_grant_is_not_redeemed_by_stale_facts,
    a_redemption_that_fails_leaves_nothing,
    a_second_use_ends_what_the_first_began_once,
    a_second_use_of_what_was_ended_otherwise_ends_nothing,
    of_many_redemptions_at_once_the_first_begins_and_the_second_ends,
    what_ends_all_sessions_of_somebody_takes_the_grants_that_were_not_redeemed,
    grants_are_forgotten_with_their_time_or_with_their_session,
    a_token_of_somebody_elses_is_revoked_until_it_ends,
    an_api_key_reads_back_as_it_was_written,
    a_new_api_key_takes_the_place_of_those_of_its_environment,
    an_api_key_is_cancelled_once_and_goes_with_its_time,
    an_api_key_outlives_its_account_for_as_long_as_what_has_ended,
    keys_that_are_nobodys_are_taken_all_or_none_and_stay,
    no_api_key_in_force_is_out_of_sight,
    all_api_keys_of_an_account_are_cancelled_at_once,
    of_many_cancelled_api_keys_the_last_ones_are_kept,
    a_family_goes_on_by_the_facts_it_was_decided_by,
    a_family_ends_once_and_one_that_was_adopted_stays_ended,
    families_go_with_what_ends_all_of_an_account_or_with_their_time,
    of_too_many_families_those_used_longest_ago_end,
    one_key_is_made_for_each_purpose_that_none_signs_for,
    a_key_is_added_retired_and_forgotten_and_its_number_is_not_used_again,
    numbers_are_reserved_once,
    a_signed_token_is_revoked_until_the_latest_of_its_kind_has_ended,
    an_account_is_found_by_its_public_id_exactly,
    the_feed_keeps_its_newest_ten_thousand_lines,
    the_feed_is_read_in_pages,
    the_audit_is_a_chain,
    the_audit_is_read_both_ways,
    the_throttle_reads_back,
}

async fn actions(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    Ok(store.audit_after(0, 1000).await?.into_iter().map(|row| row.action).collect())
}

async fn changes(store: &dyn Store) -> Result<Vec<Change>, StoreError> {
    Ok(store.feed(0, 1000).await?.into_iter().map(|(_, change)| change).collect())
}

async fn tokens_with(store: &dyn Store, number: u8) -> Result<Vec<Token>, StoreError> {
    Ok(store.session_by_token(&hash(number), at(0)).await?.map_or_else(Vec::new, |stored| stored.tokens))
}

fn first<K>(limit: usize) -> Page<K> {
    Page { after: None, limit }
}

/// Ann, number 1, who came in through the app.
async fn ann_and_the_app(store: &dyn Store) -> Held {
    assert_eq!(store.add_account(account(1, "Ann"), entry("account_added")).await?, Placed::Done);
    assert_eq!(store.add_client(client("app"), entry("client_added")).await?, Placed::Done);
    Ok(())
}

/// Ann's session of this number, and its first token of the same number.
async fn begun(store: &dyn Store, number: u8) -> Held {
    let session = session(number.into(), Some(1), "app");
    let token = token(number, number.into(), None);
    assert_eq!(store.start_session(new_session(session, Some(token))).await?, Written::Done);
    Ok(())
}

/// Token `successor` grows from `presented`, at the moment 100.
fn rolled(presented: u8, supersedes: Option<u8>, successor: u8) -> Roll {
    Roll {
        session: session_id(5),
        presented: hash(presented),
        supersedes: supersedes.map(hash),
        successor: Token { issued_at: at(100), ..token(successor, 5, Some(presented)) },
        given_up: Vec::new(),
        at: at(100),
        account_version: Some(1),
        client_version: 1,
    }
}
