//! API keys: whom they speak for, what cancels them, and what their owners are told.

use super::requests::{through, web};
use super::*;

pub(super) fn api_key(text: &str) -> Credential {
    Credential::ApiKey(Secret::new(text))
}

pub(super) async fn with_keys() -> Core {
    let apikey = Provider { name: "apikey".to_owned(), kind: ProviderKind::ApiKey, aliases: Vec::new() };
    let core = Core::with(|settings| settings.providers.push(apikey)).await;
    let rights = UserChange { roles: Some(vec!["Manager".to_owned()]), ..UserChange::default() };
    core.admin().set_user("ann", rights).await.unwrap();
    core
}

impl Core {
    pub(super) async fn key_of_ann(&self, environment: &str, life: Option<Duration>) -> String {
        let expires_at = life.map(|life| self.clock.now().after(life));
        let (_, text) = self.admin().add_api_key("ann", environment, expires_at).await.unwrap();
        text.expose_text().unwrap().to_owned()
    }

    pub(super) async fn own_keys(
        &self,
        presented: Vec<Credential>,
        environment: &str,
        renew: bool,
    ) -> Result<Vec<ToldApiKey>, Refusal> {
        let verb = Verb::ApiKeys { environment: environment.to_owned(), renew };
        self.request(presented, verb).await.result.and_then(Answer::api_keys)
    }
}

#[tokio::test]
async fn a_key_speaks_for_its_account_with_all_it_has_and_begins_nothing() {
    let core = with_keys().await;
    let text = core.key_of_ann("live", Some(DAY)).await;
    let Granted { principal, tokens } = core.who(vec![through("app"), api_key(&text)]).await.granted();
    assert_eq!((principal.session, principal.client.as_ref(), tokens.len()), (None, None, 0));
    assert_eq!((principal.method, principal.expires_at), (Method::ApiKey, Some(core.clock.now().after(DAY))));
    assert_eq!(principal.provider, Some(ProviderName("apikey".to_owned())));
    assert_eq!(principal.may(&Right::Role("Manager".to_owned())), Ok(()));
    assert_eq!(format!("{:?}", principal.scopes), "[m, t]");
    assert_eq!(core.sessions().await, 0);
    assert_eq!(core.audited("recognise").await, 0);
}

#[tokio::test]
async fn what_became_of_a_key_is_told_to_whoever_holds_it_only() {
    let core = with_keys().await;
    let (ends, cancelled) = (core.key_of_ann("live", Some(DAY)).await, core.key_of_ann("live", None).await);
    for text in [&ends, &cancelled] {
        core.who(vec![api_key(text)]).await.granted();
    }
    core.clock.turn(DAY);
    core.admin().cancel_api_key("ann", &cancelled[..6]).await.unwrap();
    assert_eq!(core.who(vec![api_key(&ends)]).await.refusal(), Refusal::Expired);
    assert_eq!(core.who(vec![api_key(&cancelled)]).await.refusal(), Refusal::Revoked);
    for text in ["", "x", &cancelled[..31], &cancelled.to_lowercase(), &cancelled.replace(&cancelled[..1], "=")] {
        assert_eq!(core.who(vec![api_key(text)]).await.refusal(), Refusal::InvalidCredentials, "{text:?}");
    }
    let mut refusal = Refusal::InvalidCredentials;
    for number in 0..100 {
        refusal = core.who(vec![api_key(&format!("guess {number}"))]).await.refusal();
    }
    assert!(matches!(refusal, Refusal::TooManyAttempts { .. }), "guesses are counted: {refusal:?}");
}

#[tokio::test]
async fn a_key_is_worth_what_its_account_is_worth_now() {
    let core = with_keys().await;
    let text = core.key_of_ann("live", None).await;
    core.who(vec![api_key(&text)]).await.granted();
    core.admin().set_user("ann", UserChange { roles: Some(Vec::new()), ..UserChange::default() }).await.unwrap();
    let principal = core.who(vec![api_key(&text)]).await.granted().principal;
    assert_eq!(principal.may(&Right::Role("Manager".to_owned())), Err(Refusal::NotPermitted));
    core.admin().set_user_status("ann", Status::Disabled).await.unwrap();
    assert_eq!(core.who(vec![api_key(&text)]).await.refusal(), Refusal::AccountUnavailable);
    core.admin().set_user_status("ann", Status::Active).await.unwrap();
    core.who(vec![api_key(&text)]).await.granted();
    core.admin().remove_user("ann").await.unwrap();
    assert_eq!(core.who(vec![api_key(&text)]).await.refusal(), Refusal::AccountGone);
}

#[tokio::test]
async fn owners_are_told_of_their_keys_and_of_a_new_ones_text_once() {
    let core = with_keys().await;
    let (live, test) = (core.key_of_ann("live", None).await, core.key_of_ann("test", None).await);
    let basic = || vec![through("app"), password("ann", "pw")];
    let listed = core.own_keys(basic(), "live", false).await.unwrap();
    let told: Vec<_> = listed.iter().map(|key| (key.key.is_some(), &*key.prefix, &*key.kind, &*key.environment)).collect();
    assert_eq!(told, [(false, &live[..8], "secret", "live")]);
    let renewed = core.own_keys(vec![api_key(&test)], "live", true).await.unwrap();
    let [new] = renewed.as_slice() else { panic!("{renewed:?}") };
    let text = new.key.as_ref().and_then(Secret::expose_text).expect("its text").to_owned();
    assert_eq!(core.who(vec![api_key(&live)]).await.refusal(), Refusal::Revoked);
    core.who(vec![api_key(&text)]).await.granted();
    core.who(vec![api_key(&test)]).await.granted();
    let listed = core.own_keys(vec![api_key(&text)], "live", false).await.unwrap();
    assert_eq!(listed.iter().map(|key| (key.key.is_some(), &*key.prefix)).collect::<Vec<_>>(), [(false, &text[..8])]);
    assert_eq!(core.own_keys(basic(), "staging", false).await.unwrap().len(), 0);
    assert_eq!(core.own_keys(Vec::new(), "live", true).await.err(), Some(Refusal::LoginRequired));
    assert!(matches!(core.own_keys(basic(), "", true).await, Err(Refusal::Invalid(_))));
    let lines = core.admin().audit_before(None, 100).await.unwrap();
    let line = lines.iter().find(|line| line.action == "apikey_renew").expect("a line");
    assert_eq!((line.gate.as_str(), line.name.as_deref(), line.source.as_deref()), ("web", Some("ann"), Some("192.0.2.1")));
}

#[tokio::test]
async fn without_a_provider_for_them_or_on_a_plain_way_keys_are_not_looked_at() {
    let core = Core::with(|_| ()).await;
    let text = core.key_of_ann("live", None).await;
    assert_eq!(core.who(vec![api_key(&text)]).await.refusal(), Refusal::UnknownProvider);
    let core = with_keys().await;
    let text = core.key_of_ann("live", None).await;
    let mut context = Context { gate: "web", connection: None, ..core.context(ConnectionId(0), "192.0.2.1") };
    context.peer.secure = false;
    let asked = Command { presented: vec![api_key(&text)], verb: Verb::WhoAmI };
    let outcome = core.identity.handle(asked, &context).await;
    assert_eq!(outcome.reply.result.err(), Some(Refusal::InsecureTransport));
    assert_eq!(outcome.reply.caller.failed, [(0, Refusal::InsecureTransport)]);
}

#[tokio::test]
async fn memory_holds_as_many_keys_as_it_may_and_reads_the_others_again() {
    let apikey = Provider { name: "apikey".to_owned(), kind: ProviderKind::ApiKey, aliases: Vec::new() };
    let change = |settings: &mut Settings| {
        settings.providers.push(apikey);
        settings.sessions.kept_in_memory = 2;
    };
    let core = Core::spelled(Arc::new(Memory::default()), web, change).await;
    core.populate().await;
    let mut keys = Vec::new();
    for _ in 0..4 {
        keys.push(core.key_of_ann("live", None).await);
    }
    for text in keys.iter().chain(&keys).chain(keys.iter().rev()) {
        core.who(vec![api_key(text)]).await.granted();
    }
    assert!(core.admin().cancel_api_key("ann", &keys[0]).await.is_err(), "it is named by its first letters only");
    for text in &keys {
        core.admin().cancel_api_key("ann", &text[..8]).await.unwrap();
        assert_eq!(core.who(vec![api_key(text)]).await.refusal(), Refusal::Revoked);
    }
}

#[tokio::test]
async fn a_key_through_a_client_that_is_disabled_opens_nothing() {
    let core = with_keys().await;
    let text = core.key_of_ann("live", None).await;
    core.who(vec![through("app"), api_key(&text)]).await.granted();
    core.admin().set_client_status("app", Status::Disabled).await.unwrap();
    assert_eq!(core.who(vec![through("app"), api_key(&text)]).await.refusal(), Refusal::InvalidClient);
    let renewed = core.own_keys(vec![through("app"), api_key(&text)], "live", true).await;
    assert_eq!(renewed.err(), Some(Refusal::InvalidClient));
    core.admin().set_client_status("app", Status::Active).await.unwrap();
    core.who(vec![through("app"), api_key(&text)]).await.granted();
}
