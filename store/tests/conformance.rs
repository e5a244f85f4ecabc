//! What every store must do: one suite, run on each implementation. A test takes the trait only, so that what it holds
//! one store to it holds all of them to.

mod setup;

use gatepost_identity::account::{Account, Client, NameKey, Status};
use gatepost_identity::audit::{AuditEntry, AuditRow, chain};
use gatepost_identity::reply::Reason;
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::session::{Ended, Session};
use gatepost_identity::store::{Change, NewSession, Page, Placed, Roll, Store, StoreError, Token, Which, Written};
use gatepost_identity::throttle::ThrottleRow;
use gatepost_store::Memory;

use crate::setup::*;

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
    an_account_is_found_by_id_name_and_address,
    spellings_of_one_name_find_one_account,
    a_taken_name_address_or_id_is_named_and_nothing_is_written,
    a_change_counts_and_lets_go_of_the_old_names,
    a_change_to_taken_names_writes_nothing,
    a_change_by_stale_facts_writes_nothing,
    a_change_ends_sessions_where_it_says_why,
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
    forgetting_takes_what_is_past_only,
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

async fn a_secret_is_made_once(store: &dyn Store) -> Held {
    assert_eq!(store.secret("one", [1; 32]).await?, [1; 32]);
    assert_eq!(store.secret("one", [2; 32]).await?, [1; 32]);
    assert_eq!(store.secret("other", [3; 32]).await?, [3; 32]);
    Ok(())
}

async fn an_account_is_found_by_id_name_and_address(store: &dyn Store) -> Held {
    let full = Account {
        subject: "41".to_owned(),
        email: email("Ann@Example.org"),
        display_name: Some("Ann of the Gate".to_owned()),
        status: Status::Disabled,
        expires_at: Some(at(900)),
        roles: vec!["A role, \"quoted\"".to_owned(), "admin".to_owned()],
        scopes: scopes("Zenith/Market a"),
        password: Some("$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA".to_owned()),
        version: 7,
        ..account(1, "Ann")
    };
    assert_eq!(store.add_account(full.clone(), entry("account_added")).await?, Placed::Done);
    assert_eq!(store.add_account(account(2, "Bob"), entry("account_added")).await?, Placed::Done);
    assert_eq!(store.account(account_id(1)).await?.as_ref(), Some(&full));
    assert_eq!(store.account_named(&NameKey::of("ANN")).await?.as_ref(), Some(&full));
    assert_eq!(store.account_named(&NameKey::of("ann@EXAMPLE.org")).await?.as_ref(), Some(&full));
    assert_eq!(store.account(account_id(2)).await?, Some(account(2, "Bob")));
    assert_eq!(store.account(account_id(3)).await?, None);
    assert_eq!(store.account_named(&NameKey::of("41")).await?, None, "the public id is no name");
    assert_eq!(actions(store).await?, ["account_added", "account_added"]);
    Ok(())
}

async fn spellings_of_one_name_find_one_account(store: &dyn Store) -> Held {
    let one = Account { email: email("straße@example.org"), ..account(1, "Ünal") };
    assert_eq!(store.add_account(one.clone(), entry("account_added")).await?, Placed::Done);
    for spelling in ["ünal", "U\u{308}NAL", "STRASSE@example.org"] {
        assert_eq!(store.account_named(&NameKey::of(spelling)).await?.as_ref(), Some(&one), "{spelling}");
    }
    let other = account(2, "u\u{308}nal");
    assert_eq!(
        store.add_account(Account { subject: "2".to_owned(), ..other }, entry("account_added")).await?,
        Placed::Taken("name")
    );
    Ok(())
}

async fn a_taken_name_address_or_id_is_named_and_nothing_is_written(store: &dyn Store) -> Held {
    store.add_account(Account { email: email("ann@example.org"), ..account(1, "Ann") }, entry("account_added")).await?;
    let free = || Account { email: email("bob@example.org"), ..account(2, "Bob") };
    let cases = [
        (account(2, "aNN"), "name"),
        (account(2, "Ann"), "name"),
        (Account { email: email("ANN@example.org"), ..free() }, "email"),
        (Account { subject: "Ann".to_owned(), ..free() }, "id"),
        (Account { id: account_id(1), ..free() }, "id"),
    ];
    for (account, field) in cases {
        let placed = store.add_account(account.clone(), entry("in_vain")).await?;
        assert_eq!(placed, Placed::Taken(field), "{account:?}");
        assert_eq!(store.account(account_id(2)).await?, None);
    }
    assert_eq!(actions(store).await?, ["account_added"]);
    assert_eq!(store.add_account(free(), entry("account_added")).await?, Placed::Done, "nobody holds what was refused");
    let ann = store.account(account_id(1)).await?;
    assert_eq!(ann.map(|ann| ann.name.as_str().to_owned()).as_deref(), Some("Ann"));
    Ok(())
}

async fn a_change_counts_and_lets_go_of_the_old_names(store: &dyn Store) -> Held {
    let before = Account { email: email("ann@example.org"), ..account(1, "Ann") };
    store.add_account(before.clone(), entry("account_added")).await?;
    let after = Account { email: None, status: Status::Disabled, subject: before.subject, ..account(1, "Anna") };
    assert_eq!(store.change_account(after.clone(), None, entry("account_changed")).await?, Placed::Done);
    let stored = Account { version: 2, ..after };
    assert_eq!(store.account_named(&NameKey::of("anna")).await?.as_ref(), Some(&stored));
    assert_eq!(store.account_named(&NameKey::of("ann")).await?, None);
    assert_eq!(store.account_named(&NameKey::of("ann@example.org")).await?, None);
    assert_eq!(changes(store).await?, [Change::Account(account_id(1))]);
    assert_eq!(actions(store).await?, ["account_added", "account_changed"]);
    let other = Account { subject: "2".to_owned(), email: email("ann@example.org"), ..account(2, "Ann") };
    assert_eq!(store.add_account(other, entry("account_added")).await?, Placed::Done, "the old names are free");
    let again = Account { display_name: Some("A".to_owned()), ..stored };
    assert_eq!(store.change_account(again, None, entry("account_changed")).await?, Placed::Done, "its own names are its own");
    Ok(())
}

async fn a_change_to_taken_names_writes_nothing(store: &dyn Store) -> Held {
    store.add_account(Account { email: email("ann@example.org"), ..account(1, "Ann") }, entry("account_added")).await?;
    store.add_account(account(2, "Bob"), entry("account_added")).await?;
    store.add_client(client("app"), entry("client_added")).await?;
    store.start_session(new_session(session(5, Some(2), "app"), None)).await?;
    let bob = || account(2, "Bob");
    let cases = [
        (Account { subject: "Bob".to_owned(), ..account(2, "ANN") }, "name"),
        (Account { email: email("ann@example.org"), ..bob() }, "email"),
        (Account { subject: "Ann".to_owned(), ..bob() }, "id"),
    ];
    for (account, field) in cases {
        let placed = store.change_account(account, Some(Reason::Revoked), entry("in_vain")).await?;
        assert_eq!(placed, Placed::Taken(field));
    }
    assert_eq!(store.account(account_id(2)).await?, Some(bob()));
    assert_eq!(store.session(session_id(5)).await?, Some(session(5, Some(2), "app")));
    assert_eq!(changes(store).await?, []);
    assert!(!actions(store).await?.contains(&"in_vain".to_owned()));
    Ok(())
}

async fn a_change_by_stale_facts_writes_nothing(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    let said = actions(store).await?;
    for version in [0, 2] {
        let changed = Account { version, status: Status::Disabled, ..account(1, "Ann") };
        let placed = store.change_account(changed, Some(Reason::Revoked), entry("in_vain")).await?;
        assert_eq!(placed, Placed::Stale);
        assert_eq!(store.remove_account(account_id(1), version, entry("in_vain")).await?, Written::Stale);
    }
    assert_eq!(store.change_account(account(9, "Nobody"), None, entry("in_vain")).await?, Placed::Stale);
    assert_eq!(store.remove_account(account_id(9), 1, entry("in_vain")).await?, Written::Stale);
    assert_eq!(store.account(account_id(1)).await?, Some(account(1, "Ann")));
    assert_eq!(store.account(account_id(9)).await?, None);
    assert_eq!(tokens_with(store, 5).await?.len(), 1);
    assert_eq!(changes(store).await?, []);
    assert_eq!(actions(store).await?, said);
    Ok(())
}

async fn a_change_ends_sessions_where_it_says_why(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_account(account(2, "Bob"), entry("account_added")).await?;
    begun(store, 5).await?;
    begun(store, 6).await?;
    store.start_session(new_session(session(7, Some(2), "app"), Some(token(7, 7, None)))).await?;
    let said = actions(store).await?.len();

    store.change_account(account(1, "Ann"), Some(Reason::Displaced), entry("account_changed")).await?;
    let ended = Some(Ended { at: at(20), reason: Reason::Displaced });
    for number in [5, 6] {
        assert_eq!(store.session(session_id(number)).await?, Some(Session { ended, ..session(number, Some(1), "app") }));
    }
    assert_eq!(tokens_with(store, 5).await?, []);
    assert_eq!(tokens_with(store, 7).await?.len(), 1, "another's session goes on");
    let expected = [
        Change::SessionEnded(session_id(5), Reason::Displaced),
        Change::SessionEnded(session_id(6), Reason::Displaced),
        Change::Account(account_id(1)),
    ];
    assert_eq!(changes(store).await?, expected);
    assert_eq!(actions(store).await?[said..], ["account_changed"]);
    Ok(())
}

async fn a_removed_account_leaves_its_ended_sessions(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    assert_eq!(store.remove_account(account_id(1), 1, entry("account_removed")).await?, Written::Done);
    assert_eq!(store.account(account_id(1)).await?, None);
    assert_eq!(store.account_named(&NameKey::of("ann")).await?, None);
    assert_eq!(store.accounts(first(10)).await?, []);
    let ended = Some(Ended { at: at(20), reason: Reason::Revoked });
    assert_eq!(store.session(session_id(5)).await?, Some(Session { ended, ..session(5, Some(1), "app") }));
    assert_eq!(tokens_with(store, 5).await?, []);
    let expected = [Change::SessionEnded(session_id(5), Reason::Revoked), Change::Account(account_id(1))];
    assert_eq!(changes(store).await?, expected);
    assert_eq!(actions(store).await?.last().map(String::as_str), Some("account_removed"));
    assert_eq!(store.add_account(account(2, "Ann"), entry("account_added")).await?, Placed::Done, "the name is free");
    Ok(())
}

async fn accounts_are_listed_by_the_key_of_their_name(store: &dyn Store) -> Held {
    for (number, name) in (1..).zip(["ünal", "Bob", "ann", "Zoe", "a"]) {
        let address = format!("{number}@example.org");
        store.add_account(Account { email: email(&address), ..account(number, name) }, entry("account_added")).await?;
    }
    let mut after = None;
    let mut pages = Vec::new();
    loop {
        let page = store.accounts(Page { after, limit: 2 }).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.key());
        pages.push(page.iter().map(|account| account.name.as_str().to_owned()).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec!["a", "ann"], vec!["Bob", "Zoe"], vec!["ünal"]]);
    Ok(())
}

async fn a_client_is_kept_changed_and_removed(store: &dyn Store) -> Held {
    let full = Client {
        display_name: Some("The app".to_owned()),
        secret: Some("$argon2id$".to_owned()),
        status: Status::Disabled,
        expires_at: Some(at(5)),
        scopes: scopes("a b"),
        receives_token: false,
        version: 3,
        ..client("App")
    };
    assert_eq!(store.add_client(full.clone(), entry("client_added")).await?, Placed::Done);
    assert_eq!(store.client(&full.id).await?.as_ref(), Some(&full));
    assert_eq!(store.client(&client_id("app")).await?, None, "ids are compared exactly");
    assert_eq!(store.add_client(client("App"), entry("in_vain")).await?, Placed::Taken("id"));
    assert_eq!(store.client(&full.id).await?.as_ref(), Some(&full));

    let changed = Client { version: 3, ..client("App") };
    assert_eq!(store.change_client(changed.clone(), None, entry("client_changed")).await?, Written::Done);
    assert_eq!(store.client(&full.id).await?, Some(Client { version: 4, ..changed }));
    assert_eq!(store.remove_client(full.id.clone(), 4, entry("client_removed")).await?, Written::Done);
    assert_eq!(store.client(&full.id).await?, None);
    assert_eq!(changes(store).await?, [Change::Client(full.id.clone()), Change::Client(full.id)]);
    assert_eq!(actions(store).await?, ["client_added", "client_changed", "client_removed"]);
    Ok(())
}

async fn a_client_written_by_stale_facts_stays_as_it_was(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    let said = actions(store).await?;
    for (id, version) in [("app", 0), ("app", 2), ("none", 1)] {
        let changed = Client { version, status: Status::Disabled, ..client(id) };
        let end = Some(Reason::Revoked);
        assert_eq!(store.change_client(changed, end, entry("in_vain")).await?, Written::Stale, "{id} {version}");
        assert_eq!(store.remove_client(client_id(id), version, entry("in_vain")).await?, Written::Stale, "{id} {version}");
    }
    assert_eq!(store.client(&client_id("app")).await?, Some(client("app")));
    assert_eq!(store.client(&client_id("none")).await?, None);
    assert_eq!(tokens_with(store, 5).await?.len(), 1);
    assert_eq!(changes(store).await?, []);
    assert_eq!(actions(store).await?, said);
    Ok(())
}

async fn a_client_takes_its_sessions_along(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    store.add_client(client("other"), entry("client_added")).await?;
    begun(store, 5).await?;
    store.start_session(new_session(session(6, Some(1), "other"), Some(token(6, 6, None)))).await?;
    store.change_client(client("app"), Some(Reason::Expired), entry("client_changed")).await?;
    let ended = Some(Ended { at: at(20), reason: Reason::Expired });
    assert_eq!(store.session(session_id(5)).await?.and_then(|session| session.ended), ended);
    assert_eq!(tokens_with(store, 5).await?, []);
    assert_eq!(tokens_with(store, 6).await?.len(), 1);
    store.remove_client(client_id("other"), 1, entry("client_removed")).await?;
    assert_eq!(tokens_with(store, 6).await?, []);
    let expected = [
        Change::SessionEnded(session_id(5), Reason::Expired),
        Change::Client(client_id("app")),
        Change::SessionEnded(session_id(6), Reason::Revoked),
        Change::Client(client_id("other")),
    ];
    assert_eq!(changes(store).await?, expected);
    Ok(())
}

async fn clients_are_listed_by_id(store: &dyn Store) -> Held {
    for id in ["b", "é", "B", "a"] {
        store.add_client(client(id), entry("client_added")).await?;
    }
    let ids = |clients: Vec<Client>| clients.iter().map(|client| client.id.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(store.clients(first(3)).await?), ["B", "a", "b"]);
    assert_eq!(ids(store.clients(Page { after: Some(client_id("b")), limit: 3 }).await?), ["é"]);
    assert_eq!(ids(store.clients(Page { after: Some(client_id("é")), limit: 3 }).await?), Vec::<String>::new());
    Ok(())
}

async fn a_session_begins_with_token_and_audit(store: &dyn Store) -> Held {
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

async fn a_session_reads_back_as_it_was_written(store: &dyn Store) -> Held {
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

async fn a_session_does_not_begin_by_stale_facts(store: &dyn Store) -> Held {
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

async fn a_new_hash_of_a_proved_secret_is_not_a_change(store: &dyn Store) -> Held {
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

async fn a_session_whose_token_is_taken_leaves_nothing(store: &dyn Store) -> Held {
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

async fn a_roll_presents_supersedes_gives_up_and_succeeds(store: &dyn Store) -> Held {
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

async fn a_second_presentation_keeps_the_first_moments(store: &dyn Store) -> Held {
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

async fn a_roll_by_stale_facts_writes_nothing(store: &dyn Store) -> Held {
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

async fn a_roll_that_fails_leaves_nothing(store: &dyn Store) -> Held {
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

async fn descendants_end_over_all_generations(store: &dyn Store) -> Held {
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

async fn descendants_are_found_after_their_parent_is_gone(store: &dyn Store) -> Held {
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

async fn a_token_brings_those_that_may_still_speak(store: &dyn Store) -> Held {
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

async fn sessions_are_listed_newest_first(store: &dyn Store) -> Held {
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

async fn sessions_end_once_each_with_feed_and_audit(store: &dyn Store) -> Held {
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
    let expected = order.map(|(number, _, _, reason, _)| Change::SessionEnded(session_id(number), reason));
    assert_eq!(changes(store).await?, expected);
    for number in [5, 6, 7] {
        assert_eq!(store.session_by_token(&hash(number), at(0)).await?, None);
    }
    Ok(())
}

async fn sessions_unused_since_a_moment_end(store: &dyn Store) -> Held {
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

async fn forgetting_takes_what_is_past_only(store: &dyn Store) -> Held {
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
    store.forget(at(100), at(50)).await?;
    assert_eq!(store.session_by_token(&hash(5), at(0)).await?, None);
    assert!(store.session_by_token(&hash(6), at(0)).await?.is_some());
    assert!(store.session(session_id(5)).await?.is_some(), "a session outlives its tokens");
    assert_eq!(store.session(session_id(7)).await?, None);
    assert!(store.session(session_id(8)).await?.is_some());
    assert_eq!(store.feed_end().await?, 2);
    Ok(())
}

async fn the_feed_keeps_its_newest_ten_thousand_lines(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    let begun = (1..=10_007).map(|number| store.start_session(new_session(session(number, Some(1), "app"), None))).collect();
    assert!(together(begun).await.into_iter().all(|written| written == Ok(Written::Done)));
    store.end_sessions(Which::Client(client_id("app")), Reason::Revoked, at(30), entry("session_ended")).await?;
    assert_eq!(store.feed(0, 1).await?, [(1, Change::SessionEnded(session_id(1), Reason::Revoked))]);
    store.forget(at(0), at(0)).await?;
    assert_eq!(store.feed(0, 1).await?, [(8, Change::SessionEnded(session_id(8), Reason::Revoked))]);
    assert_eq!(store.feed(0, 20_000).await?.len(), 10_000);
    assert_eq!(store.feed_end().await?, 10_007);
    store.change_client(client("app"), None, entry("client_changed")).await?;
    assert_eq!(store.feed(10_007, 9).await?, [(10_008, Change::Client(client_id("app")))]);
    Ok(())
}

async fn the_feed_is_read_in_pages(store: &dyn Store) -> Held {
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

async fn the_audit_is_a_chain(store: &dyn Store) -> Held {
    let full = AuditEntry {
        at: at(-3),
        outcome: "invalid_credentials",
        account: Some(account_id(1)),
        client: Some(client_id("app")),
        session: Some(session_id(5)),
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
        let told = (row.session, row.count, &row.name, &row.source);
        assert_eq!(told, (entry.session, entry.count, &entry.name, &entry.source));
        previous = row.hash;
    }
    Ok(())
}

async fn the_audit_is_read_both_ways(store: &dyn Store) -> Held {
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

async fn the_throttle_reads_back(store: &dyn Store) -> Held {
    let row = |slot, key: u8, failures| ThrottleRow { slot, key: [key; 16], rule: 2, failures, last: -7 };
    assert_eq!(store.throttle().await?, []);
    store.save_throttle(vec![row(u32::MAX, 1, u32::MAX), row(3, 2, 5), row(4, 3, 1)]).await?;
    store.save_throttle(vec![]).await?;
    assert_eq!(store.throttle().await?, [row(3, 2, 5), row(4, 3, 1), row(u32::MAX, 1, u32::MAX)]);
    store.save_throttle(vec![row(3, 9, 1), row(4, 0, 8), row(5, 0, 0)]).await?;
    assert_eq!(store.throttle().await?, [row(3, 9, 1), row(u32::MAX, 1, u32::MAX)]);
    Ok(())
}
