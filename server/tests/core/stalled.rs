//! A store that cannot write, or writes too late.

use super::*;

/// A store with the sample accounts and one session, whose first token is returned.
async fn prepared(directory: &Directory) -> Vec<u8> {
    let (store, writer, mut threads) = directory.open();
    threads.push(std::thread::spawn(|| writer.run()));
    let core = Core::on(store, |_| ()).await;
    core.populate().await;
    let token = core.log_in().await.token();
    core.unasked.abort();
    while !core.unasked.is_finished() {
        tokio::task::yield_now().await;
    }
    drop(core);
    for thread in threads {
        thread.join().unwrap();
    }
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_came_too_late_is_refused_and_does_not_stand() {
    let directory = Directory::new("late");
    prepared(&directory).await;
    let (store, writer, mut threads) = directory.open();
    let core = Core::on(store, |_| ()).await;
    let context = core.context(core.connection(), "192.0.2.1");
    let (identity, asked) = (core.identity.clone(), core.clock.clone());
    let login = tokio::spawn(async move {
        let client = Credential::Client { id: Some(ClientId::parse("app").unwrap()), secret: None };
        identity.handle(command(vec![client], password("ann", "pw"), "local"), &context).await
    });
    // The password is compared; then the commit stands still, since nobody writes.
    while core.identity.evaluated() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    asked.turn(Duration::from_secs(36));
    let outcome = login.await.unwrap();
    assert_eq!(outcome.reply.result.err(), Some(Refusal::TimedOut));
    assert!(outcome.attachment.is_none());
    threads.push(std::thread::spawn(|| writer.run()));
    core.until("the late session is ended", || async {
        let lines = core.admin().audit_before(None, 100).await.unwrap();
        lines.iter().any(|line| line.action == "undo")
    })
    .await;
    assert_eq!(core.sessions().await, 1, "only the one from before");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_cannot_write_tokens_are_given_back_and_nobody_new_comes_in() {
    let directory = Directory::new("readonly");
    let token = prepared(&directory).await;
    let (store, writer, _threads) = directory.open();
    let core = Core::on(store, |_| ()).await;
    drop(writer);
    let peer = core.present(&token).await.expect("it is on disk already");
    assert_eq!(peer.token(), token, "given back as it is");
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Err(Refusal::Unavailable), "broken is not wrong");
    core.present(&token).await.expect("as often as need be");
}

/// A request at the gate of plain requests.
fn request(core: &Core) -> Context {
    Context { gate: "web", connection: None, ..core.context(ConnectionId(0), "192.0.2.1") }
}

fn sign_in(binding: Binding) -> Command {
    let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding, spelling: None };
    let client = Credential::Client { id: ClientId::parse("app").ok(), secret: None };
    let credential = password("ann", "pw");
    Command { presented: vec![client], verb: Verb::Authenticate { provider: None, credential, request } }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_came_too_late_is_refused_and_does_not_stand() {
    let directory = Directory::new("late-cookie");
    prepared(&directory).await;
    let (store, writer, mut threads) = directory.open();
    let core = Core::on(store, |_| ()).await;
    let (identity, context) = (core.identity.clone(), request(&core));
    let binding = Binding::Cookie { remember: true };
    let login = tokio::spawn(async move { identity.handle(sign_in(binding), &context).await });
    while core.identity.evaluated() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    core.clock.turn(Duration::from_secs(36));
    assert_eq!(login.await.unwrap().reply.result.err(), Some(Refusal::TimedOut));
    threads.push(std::thread::spawn(|| writer.run()));
    core.until("the late session is ended", || async { core.audited("undo").await == 1 }).await;
    assert_eq!(core.sessions().await, 1, "only the one from before");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_is_good_after_a_restart_also_while_the_store_cannot_write() {
    let directory = Directory::new("told");
    let apikey = || Provider { name: "apikey".to_owned(), kind: ProviderKind::ApiKey, aliases: Vec::new() };
    let (store, writer, mut threads) = directory.open();
    threads.push(std::thread::spawn(|| writer.run()));
    let core = Core::on(store, |settings| settings.providers.push(apikey())).await;
    core.populate().await;
    let context = request(&core);
    let outcome = core.identity.handle(sign_in(Binding::Tokens { remember: false }), &context).await;
    outcome.held.release();
    let granted = outcome.reply.result.and_then(Answer::granted).unwrap();
    let [cookie, access, refresh] = granted.tokens.as_slice() else { panic!("{granted:?}") };
    let (_, key) = core.admin().add_api_key("ann", "live", None).await.unwrap();
    core.unasked.abort();
    while !core.unasked.is_finished() {
        tokio::task::yield_now().await;
    }
    drop(core);
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    let (store, writer, _threads) = directory.open();
    let core = Core::on(store, |settings| settings.providers.push(apikey())).await;
    drop(writer);
    let token = || Credential::Token { any_of: vec![access.secret.clone()], kind: TokenKind::Access };
    for shown in [Credential::Cookie(cookie.secret.clone()), token(), Credential::ApiKey(key)] {
        let asked = Command { presented: vec![shown], verb: Verb::WhoAmI };
        core.identity.handle(asked, &request(&core)).await.reply.result.expect("known again");
    }
    let renewal = Command { presented: vec![Credential::Refresh(refresh.secret.clone())], verb: Verb::WhoAmI };
    let renewed = core.identity.handle(renewal, &request(&core)).await.reply.result;
    assert_eq!(renewed.err(), Some(Refusal::Unavailable), "no number can be reserved, and that is not told as a bad token");
    let logout = Command { presented: vec![token()], verb: Verb::Logout };
    let left = core.identity.handle(logout, &request(&core)).await.reply.result;
    assert_eq!(left.err(), Some(Refusal::Unavailable), "nobody is told that they are signed out who is not");
}
