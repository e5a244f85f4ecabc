//! Signing up, and rights that peers give and take.

use gatepost_identity::account::Rights;
use gatepost_identity::register::Profile;

use super::requests::{cookie, through};
use super::*;

fn profile(name: Option<&str>, email: Option<&str>) -> Profile {
    Profile {
        name: name.map(str::to_owned),
        email: email.map(str::to_owned),
        display_name: None,
        first_name: Some("Zoe".to_owned()),
        last_name: None,
        password: Secret::new("pw"),
        environments: Vec::new(),
    }
}

fn admin_role() -> Right {
    Right::Role("Admin".to_owned())
}

fn rights(roles: &[&str], permissions: &[&str]) -> Rights {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Rights::parse(owned(roles), owned(permissions)).unwrap()
}

impl Core {
    async fn register(&self, presented: Vec<Credential>, profile: Profile, binding: Option<Binding>) -> requests::Answered {
        let request = binding.map(|binding| GrantRequest { scope: ScopeRequest::Nothing, role: None, binding, spelling: None });
        self.request(presented, Verb::Register { profile: Box::new(profile), request }).await
    }

    async fn change_rights(&self, word: &str, account: &str, add: Rights, remove: Rights) -> Result<Rights, Refusal> {
        let verb = Verb::ChangeRights { account: account.to_owned(), add, remove, right: admin_role() };
        self.request(vec![through("app"), password("ann", word)], verb).await.result.and_then(Answer::rights)
    }
}

#[tokio::test]
async fn whoever_signs_up_has_an_account_and_is_logged_in_where_they_ask() {
    let core = Core::with(|_| ()).await;
    let answered = core.register(vec![through("app")], profile(Some("zoe"), Some("zoe@example.org")), None).await;
    let (account, granted) = answered.result.and_then(Answer::registered).unwrap();
    assert_eq!((account.name.as_str(), account.first_name.as_deref(), granted.is_none()), ("zoe", Some("Zoe"), true));
    assert_ne!(account.subject, "zoe", "the id is one that nobody had before");
    core.who(vec![through("app"), password("zoe@example.org", "pw")]).await.granted();
    let by_address = profile(None, Some("yan@example.org"));
    let asked = Some(Binding::Cookie { remember: false });
    let answered = core.register(vec![through("app"), cookie("anonymous")], by_address, asked).await;
    let (account, granted) = answered.result.and_then(Answer::registered).unwrap();
    let granted = granted.expect("logged in");
    assert_eq!(granted.principal.account.as_ref().map(|account| account.subject.clone()), Some(account.subject.clone()));
    core.who(vec![cookie(granted.tokens[0].secret.expose_text().unwrap())]).await.granted();
    assert_eq!(core.sessions().await, 1);
    let lines = core.admin().audit_before(None, 100).await.unwrap();
    let line = lines.iter().find(|line| line.action == "register").expect("a line");
    assert_eq!((line.gate.as_str(), line.source.as_deref()), ("web", Some("192.0.2.1")));
}

#[tokio::test]
async fn a_login_that_fails_after_signing_up_leaves_the_account() {
    let core = Core::with(|_| ()).await;
    let asked = Some(Binding::Cookie { remember: false });
    let answered = core.register(vec![through("svc")], profile(Some("zoe"), None), asked).await;
    assert!(matches!(answered.result.and_then(Answer::registered), Ok((_, None))));
    core.who(vec![through("app"), password("zoe", "pw")]).await.granted();
}

#[tokio::test]
async fn nobody_signs_up_twice_under_a_taken_name_or_oddly() {
    let core = Core::with(|_| ()).await;
    let (_, text) = core.cookie_of_ann(false).await;
    let refused = async |presented, profile| core.register(presented, profile, None).await.refusal();
    assert_eq!(refused(vec![cookie(&text)], profile(Some("zoe"), None)).await, Refusal::AlreadySignedIn);
    assert_eq!(refused(vec![], profile(Some("ANN"), None)).await, Refusal::AlreadyExists("name"));
    assert_eq!(refused(vec![], profile(Some("zoe"), Some("ann@example.org"))).await, Refusal::AlreadyExists("email"));
    let odd = Profile { email: Some("no address".to_owned()), ..profile(Some("z@e"), None) };
    let Refusal::Invalid(faults) = refused(vec![], odd).await else { panic!("invalid") };
    assert_eq!(faults.len(), 2, "{faults:?}");
    let empty = Profile { password: Secret::new(""), ..profile(Some("zoe"), None) };
    assert!(matches!(refused(vec![], empty).await, Refusal::Invalid(_)));
    for _ in 0..100 {
        refused(vec![], profile(Some("ann"), None)).await;
    }
    let refusal = refused(vec![], profile(Some("zoe"), None)).await;
    assert!(matches!(refusal, Refusal::TooManyAttempts { .. }), "names are not listed by asking: {refusal:?}");
    assert_eq!(core.admin().user("zoe").await.err(), Some(Refusal::NotFound("user")));
}

#[tokio::test]
async fn who_signs_up_gets_keys_for_the_environments_there_are() {
    let core = Core::with(|_| ()).await;
    let environments = vec!["live".to_owned(), "test".to_owned()];
    let new = Profile { environments, ..profile(Some("zoe"), None) };
    core.register(vec![], new, None).await.result.and_then(Answer::registered).unwrap();
    let mut keys: Vec<_> = core.admin().api_keys("zoe").await.unwrap().into_iter().map(|key| key.environment).collect();
    keys.sort();
    assert_eq!(keys, ["live", "test"]);
}

#[tokio::test]
async fn tokens_of_somebody_who_has_gone_are_nothing_for_whoever_has_the_name_next() {
    let core = Core::with(|_| ()).await;
    let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding: Binding::TokenCookies, spelling: None };
    let verb = Verb::Authenticate { provider: None, credential: password("ann", "pw"), request };
    let granted = core.request(vec![through("app")], verb).await.granted();
    let token = || Credential::Token { any_of: vec![granted.tokens[0].secret.clone()], kind: TokenKind::Access };
    core.who(vec![token()]).await.granted();
    core.admin().remove_user("ann").await.unwrap();
    core.clock.turn(Duration::from_secs(1));
    let again = |signed_since| NewUser { name: "ann".to_owned(), signed_since, ..NewUser::default() };
    core.admin().add_user(again(None)).await.unwrap();
    assert_eq!(core.who(vec![token()]).await.refusal(), Refusal::Revoked);
    core.admin().remove_user("ann").await.unwrap();
    core.admin().add_user(again(Some(Timestamp::default()))).await.unwrap();
    core.who(vec![token()]).await.granted();
}

#[tokio::test]
async fn rights_are_given_and_taken_by_who_may() {
    let core = Core::with(|_| ()).await;
    core.add_bob().await;
    let none = || Rights::default();
    let give = || rights(&["Manager"], &["CanPrint"]);
    assert_eq!(core.change_rights("wrong", "bob", give(), none()).await.err(), Some(Refusal::InvalidCredentials));
    assert_eq!(core.change_rights("pw", "bob", give(), none()).await.err(), Some(Refusal::NotPermitted));
    let verb = Verb::ChangeRights { account: "bob".to_owned(), add: give(), remove: none(), right: admin_role() };
    assert_eq!(core.request(vec![], verb).await.refusal(), Refusal::LoginRequired);
    assert_eq!(core.admin().user("bob").await.unwrap().rights, none());
    core.admin().change_rights("ann", &rights(&["Admin"], &[]), &none()).await.unwrap();
    assert_eq!(core.change_rights("pw", "bob", give(), none()).await, Ok(give()));
    assert_eq!(core.change_rights("pw", "bob", rights(&["A"], &[]), none()).await, Ok(rights(&["A", "Manager"], &["CanPrint"])));
    assert_eq!(core.change_rights("pw", "bob", none(), rights(&["A", "B"], &["CanPrint"])).await, Ok(rights(&["Manager"], &[])));
    assert_eq!(core.change_rights("pw", "carl", give(), none()).await.err(), Some(Refusal::NotFound("user")));
    let lines = core.admin().audit_before(None, 100).await.unwrap();
    let line = lines.iter().find(|line| line.action == "user_rights").expect("a line");
    assert_eq!((line.gate.as_str(), line.name.as_deref()), ("web", Some("ann")));
}

#[tokio::test]
async fn nobody_signs_up_through_a_client_that_is_disabled() {
    let core = Core::with(|_| ()).await;
    core.admin().set_client_status("app", Status::Disabled).await.unwrap();
    let refusal = core.register(vec![through("app")], profile(Some("zoe"), None), None).await.refusal();
    assert_eq!(refusal, Refusal::InvalidClient);
    assert_eq!(core.admin().user("zoe").await.unwrap_err(), Refusal::NotFound("user"));
    core.admin().set_client_status("app", Status::Active).await.unwrap();
    core.register(vec![through("app")], profile(Some("zoe"), None), None).await.result.unwrap();
}
