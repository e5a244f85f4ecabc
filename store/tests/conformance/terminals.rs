//! Terminals: how they are kept, changed and removed, each with its line in the audit.

use gatepost_identity::secret::Secret;
use gatepost_identity::store::StoredTerminal;
use gatepost_identity::terminal::{Guard, Plan, TerminalName};

use super::*;

fn name(text: &str) -> TerminalName {
    TerminalName::parse(text).expect("a name")
}

fn fresh(text: &str) -> StoredTerminal {
    StoredTerminal { name: name(text), plan: Plan::Pro, administrator: Guard::Unsecured, user: Guard::Unsecured, version: 1 }
}

/// A guard in full; its secret is compared here and printed nowhere else.
fn guard(guard: &Guard) -> String {
    match guard {
        Guard::Unsecured => "unsecured".to_owned(),
        Guard::Password(hash) => format!("password {hash}"),
        Guard::Pin(pin) => format!("pin {}", pin.expose_text().expect("text")),
    }
}

async fn kept(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let shown = |terminal: &StoredTerminal| {
        let StoredTerminal { name, plan, administrator, user, version } = terminal;
        format!("{} {} / {} / {} / {version}", name.as_str(), plan.word(), guard(administrator), guard(user))
    };
    Ok(store.terminals().await?.iter().map(shown).collect())
}

pub(super) async fn a_terminal_is_kept_changed_and_removed(store: &dyn Store) -> Held {
    assert_eq!(kept(store).await?, [""; 0]);
    assert_eq!(store.add_terminal(fresh("room"), entry("terminal_add")).await?, Placed::Done);
    assert_eq!(store.add_terminal(fresh("Hall"), entry("terminal_add")).await?, Placed::Done);
    let changed = StoredTerminal {
        plan: Plan::Free,
        administrator: Guard::Password("$argon2id$x".to_owned()),
        user: Guard::Pin(Secret::new("K7M2QX")),
        ..fresh("room")
    };
    assert_eq!(store.change_terminal(changed, entry("terminal_protect")).await?, Written::Done);
    let expected = ["Hall pro / unsecured / unsecured / 1", "room free / password $argon2id$x / pin K7M2QX / 2"];
    assert_eq!(kept(store).await?, expected, "by name");
    assert_eq!(store.remove_terminal(name("room"), 2, entry("terminal_remove")).await?, Written::Done);
    assert_eq!(kept(store).await?, expected[..1]);
    assert_eq!(actions(store).await?, ["terminal_add", "terminal_add", "terminal_protect", "terminal_remove"]);
    Ok(())
}

pub(super) async fn a_terminal_written_by_stale_facts_stays_as_it_was(store: &dyn Store) -> Held {
    store.add_terminal(fresh("hall"), entry("terminal_add")).await?;
    assert_eq!(store.add_terminal(fresh("hall"), entry("in_vain")).await?, Placed::Taken("name"));
    let stale = StoredTerminal { version: 2, plan: Plan::Free, ..fresh("hall") };
    assert_eq!(store.change_terminal(stale, entry("in_vain")).await?, Written::Stale);
    assert_eq!(store.change_terminal(fresh("room"), entry("in_vain")).await?, Written::Stale);
    assert_eq!(store.remove_terminal(name("hall"), 2, entry("in_vain")).await?, Written::Stale);
    assert_eq!(store.remove_terminal(name("room"), 1, entry("in_vain")).await?, Written::Stale);
    assert_eq!(kept(store).await?, ["hall pro / unsecured / unsecured / 1"]);
    assert_eq!(actions(store).await?, ["terminal_add"], "and nothing of it is written down");
    Ok(())
}
