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
