//! Accounts and clients: what is kept of them, who else has the name, and what a change takes along.

use gatepost_identity::account::{Account, Client, NameKey, Rights, Status, cut_off_after};
use gatepost_identity::api_key::{ApiKey, Owner};
use gatepost_identity::audit::AuditEntry;
use gatepost_identity::clock::system_now;
use gatepost_identity::reply::Reason;
use gatepost_identity::session::{Ended, Session};
use gatepost_identity::store::{Change, NewAccount, Page, Placed, Store, Which, Written};

use crate::setup::*;
use crate::{Held, actions, ann_and_the_app, begun, changes, first, tokens_with};

pub(super) async fn an_account_is_found_by_id_name_and_address(store: &dyn Store) -> Held {
    let full = Account {
        subject: "41".to_owned(),
        email: email("Ann@Example.org"),
        display_name: Some("Ann of the Gate".to_owned()),
        status: Status::Disabled,
        expires_at: Some(at(900)),
        first_name: Some("Ann".to_owned()),
        last_name: Some("Example".to_owned()),
        profile_url: Some("https://example.org/ann.png".to_owned()),
        rights: Rights { roles: vec!["A role, \"quoted\"".to_owned(), "admin".to_owned()], permissions: vec!["[]".to_owned()] },
        cut_off: at(3),
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

pub(super) async fn spellings_of_one_name_find_one_account(store: &dyn Store) -> Held {
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

pub(super) async fn of_accounts_that_come_from_elsewhere_each_is_kept_whole_or_not_at_all(store: &dyn Store) -> Held {
    store.add_account(account(1, "Ann"), entry("account_added")).await?;
    let key = |number: u8, of: u128| ApiKey {
        hash: hash(number),
        prefix: "prefix".to_owned(),
        owner: Owner::Account(account_id(of)),
        environment: "live".to_owned(),
        kind: "secret".to_owned(),
        created_at: at(1),
        expires_at: None,
        cancelled_at: None,
    };
    let new = |number: u128, name: &str, keys: &[u8]| NewAccount {
        account: account(number, name),
        api_keys: keys.iter().map(|&key_number| key(key_number, number)).collect(),
    };
    let known_as = Account { subject: "Bob".to_owned(), ..account(8, "Hal") };
    let rows = vec![
        new(2, "Bob", &[1, 2]),
        new(3, "ANN", &[3]),
        new(4, "Cid", &[4, 2]),
        new(5, "Dan", &[5, 5]),
        new(6, "bob", &[2]),
        NewAccount { account: known_as, api_keys: Vec::new() },
        new(7, "Eve", &[]),
        new(1, "Fay", &[6]),
    ];
    let placed = store.add_accounts(rows, entry("imported")).await?;
    let taken = Placed::Taken;
    let expected = [Placed::Done, taken("name"), taken("key"), taken("key"), taken("name"), taken("id"), Placed::Done, taken("id")];
    assert_eq!(placed, expected);
    assert_eq!(store.account(account_id(2)).await?, Some(account(2, "Bob")));
    assert_eq!(store.account_named(&NameKey::of("eve")).await?, Some(account(7, "Eve")));
    for gone in ["Cid", "Dan", "Fay", "Hal"] {
        assert_eq!(store.account_named(&NameKey::of(gone)).await?, None, "{gone}");
    }
    assert_eq!(store.api_keys(account_id(2)).await?.len(), 2);
    for number in [3, 4, 5, 6] {
        assert_eq!(store.api_key(&hash(number)).await?, None, "{number}");
    }
    let lines = store.audit_after(0, 10).await?;
    assert_eq!(
        lines.iter().map(|line| (line.action.as_str(), line.count)).collect::<Vec<_>>(),
        [("account_added", 1), ("imported", 2)]
    );
    let none = store.add_accounts(vec![new(9, "ann", &[])], entry("imported")).await?;
    assert_eq!((none, actions(store).await?.len()), (vec![taken("name")], 2), "nothing happened, and nothing is said of it");
    Ok(())
}

pub(super) async fn a_taken_name_address_or_id_is_named_and_nothing_is_written(store: &dyn Store) -> Held {
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

pub(super) async fn a_change_counts_and_lets_go_of_the_old_names(store: &dyn Store) -> Held {
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

pub(super) async fn a_change_to_taken_names_writes_nothing(store: &dyn Store) -> Held {
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

pub(super) async fn a_change_by_stale_facts_writes_nothing(store: &dyn Store) -> Held {
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

pub(super) async fn a_change_ends_sessions_where_it_says_why(store: &dyn Store) -> Held {
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

pub(super) async fn what_ends_all_sessions_of_an_account_moves_its_cut_off(store: &dyn Store) -> Held {
    ann_and_the_app(store).await?;
    begun(store, 5).await?;
    let cut_off = async || store.account(account_id(1)).await.map(|ann| ann.map(|ann| ann.cut_off));
    store.end_sessions(Which::Session(session_id(5)), Reason::Revoked, at(30), entry("session_ended")).await?;
    store.end_sessions(Which::Client(client_id("app")), Reason::Revoked, at(30), entry("session_ended")).await?;
    store.end_sessions(Which::UsedBefore(at(99)), Reason::Expired, at(30), entry("session_ended")).await?;
    assert_eq!(cut_off().await?, Some(at(0)), "she may have others");
    let said = changes(store).await?.len();
    // Also where no session is left.
    assert_eq!(store.end_sessions(Which::Account(account_id(1)), Reason::Revoked, at(30), entry("session_ended")).await?, 0);
    // The moments of these tests are long past: what counts is when it was written.
    let first = cut_off().await?.expect("she is there");
    assert!(first > system_now(), "what was signed between the question and the write is cut off, too");
    assert_eq!(changes(store).await?[said..], [Change::Account(account_id(1))]);
    store.end_sessions(Which::Account(account_id(1)), Reason::Revoked, at(30), entry("session_ended")).await?;
    let second = cut_off().await?.expect("she is there");
    assert!(second > first, "it lies behind what was signed since the first");
    assert_eq!(store.end_sessions(Which::Account(account_id(9)), Reason::Revoked, at(30), entry("session_ended")).await?, 0);

    let stale = Account { version: 1, ..account(1, "Ann") };
    assert_eq!(store.change_account(stale, None, entry("account_changed")).await?, Placed::Done);
    assert_eq!(cut_off().await?, Some(second), "a change that was made from older facts moves nothing back");
    let changed = Account { version: 2, ..account(1, "Ann") };
    let later = system_now().after(std::time::Duration::from_secs(1000));
    store.change_account(changed, Some(Reason::Revoked), AuditEntry { at: later, ..entry("account_changed") }).await?;
    assert_eq!(cut_off().await?, Some(cut_off_after(later, second)), "by the later of two clocks");
    Ok(())
}

pub(super) async fn a_removed_account_leaves_its_ended_sessions(store: &dyn Store) -> Held {
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

pub(super) async fn accounts_are_listed_by_the_key_of_their_name(store: &dyn Store) -> Held {
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

pub(super) async fn a_client_is_kept_changed_and_removed(store: &dyn Store) -> Held {
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

pub(super) async fn a_client_written_by_stale_facts_stays_as_it_was(store: &dyn Store) -> Held {
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

pub(super) async fn a_client_takes_its_sessions_along(store: &dyn Store) -> Held {
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

pub(super) async fn clients_are_listed_by_id(store: &dyn Store) -> Held {
    for id in ["b", "é", "B", "a"] {
        store.add_client(client(id), entry("client_added")).await?;
    }
    let ids = |clients: Vec<Client>| clients.iter().map(|client| client.id.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(store.clients(first(3)).await?), ["B", "a", "b"]);
    assert_eq!(ids(store.clients(Page { after: Some(client_id("b")), limit: 3 }).await?), ["é"]);
    assert_eq!(ids(store.clients(Page { after: Some(client_id("é")), limit: 3 }).await?), Vec::<String>::new());
    Ok(())
}
