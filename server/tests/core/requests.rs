//! Who speaks with a request: cookies and what they end with, proofs for one request, and what becomes of several at once.

use gatepost_identity::reply::Principal;
use serde_json::{Value, json};

use super::*;

/// How a gate of plain requests writes its tokens here.
pub(super) fn web(token: &NewToken<'_>) -> Spelled {
    match token {
        NewToken::Restore { random } | NewToken::Cookie { random } => {
            Spelled::Text(Secret::new(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        }
        NewToken::Access { principal, audience, number, issued_at, expires_at, basis } => {
            let rights = json!({ "roles": principal.rights.roles, "grant_id": basis });
            Spelled::Signed { typ: "JWT", claims: claims(principal, audience, *number, (*issued_at, *expires_at), rights) }
        }
        NewToken::Refresh { principal, audience, number, issued_at, expires_at, basis } => {
            let basis = json!({ "grant_id": basis });
            Spelled::Signed { typ: "JWTR", claims: claims(principal, audience, *number, (*issued_at, *expires_at), basis) }
        }
        NewToken::Upstream { .. } | NewToken::Terminal(_) => Spelled::Never,
    }
}

fn claims(who: &Principal, audience: &[String], number: i64, life: (Timestamp, Timestamp), mut more: Value) -> Vec<u8> {
    more["sub"] = json!(who.account.as_ref().unwrap().subject);
    more["jti"] = json!(number);
    (more["iat"], more["exp"]) = (json!(life.0.millis() / 1000), json!(life.1.millis() / 1000));
    if !audience.is_empty() {
        more["aud"] = json!(audience);
    }
    more.to_string().into_bytes()
}

pub(super) fn through(client: &str) -> Credential {
    Credential::Client { id: ClientId::parse(client).ok(), secret: None }
}

pub(super) fn cookie(text: &str) -> Credential {
    Credential::Cookie(Secret::new(text))
}

/// What came of a request.
pub(super) struct Answered {
    pub(super) caller: Caller,
    pub(super) result: Result<Answer, Refusal>,
}

impl Answered {
    pub(super) fn granted(self) -> Granted {
        self.result.and_then(Answer::granted).expect("granted")
    }

    pub(super) fn refusal(self) -> Refusal {
        self.result.expect_err("refused")
    }

    pub(super) fn failed(&self) -> Vec<(usize, Refusal)> {
        self.caller.failed.clone()
    }
}

impl Core {
    pub(super) async fn request(&self, presented: Vec<Credential>, verb: Verb) -> Answered {
        let context = Context { gate: "web", connection: None, ..self.context(ConnectionId(0), "192.0.2.1") };
        let Outcome { reply, attachment, held } = self.identity.handle(Command { presented, verb }, &context).await;
        assert!(attachment.is_none(), "there is no connection to attach");
        held.release();
        Answered { caller: reply.caller, result: reply.result }
    }

    pub(super) async fn who(&self, presented: Vec<Credential>) -> Answered {
        self.request(presented, Verb::WhoAmI).await
    }

    async fn sign_in(&self, word: &str, old: Option<&str>, binding: Binding) -> Result<Granted, Refusal> {
        let mut presented = vec![through("app")];
        presented.extend(old.map(cookie));
        let request = GrantRequest { scope: ScopeRequest::Nothing, role: None, binding, spelling: None };
        let verb = Verb::Authenticate { provider: None, credential: password("ann", word), request };
        self.request(presented, verb).await.result.and_then(Answer::granted)
    }

    /// Ann's new session, and its cookie.
    pub(super) async fn cookie_of_ann(&self, remember: bool) -> (Granted, String) {
        let granted = self.sign_in("pw", None, Binding::Cookie { remember }).await.expect("granted");
        let [token] = granted.tokens.as_slice() else { panic!("{granted:?}") };
        assert_eq!((&token.kind, token.expires_at), (&TokenKind::Cookie { remember }, granted.principal.expires_at));
        let text = token.secret.expose_text().expect("text").to_owned();
        (granted, text)
    }

    async fn is_signed_in(&self, text: &str) -> bool {
        self.who(vec![cookie(text)]).await.result.is_ok()
    }
}

#[tokio::test]
async fn a_cookie_says_who_speaks_until_its_own_end_however_it_is_used() {
    for (remember, life) in [(false, 14 * DAY), (true, 28 * DAY)] {
        let core = Core::with(|_| ()).await;
        let (granted, text) = core.cookie_of_ann(remember).await;
        let end = core.clock.now().after(life);
        assert_eq!(granted.principal.expires_at, Some(end));
        core.clock.turn(life - Duration::from_secs(1));
        let answered = core.who(vec![through("app"), cookie(&text)]).await;
        assert_eq!(answered.caller.principal.as_ref().map(|principal| principal.session), Some(granted.principal.session));
        let told = answered.granted();
        assert_eq!(told.tokens.len(), 0);
        assert_eq!((told.principal.method, told.principal.expires_at), (Method::Cookie, Some(end)));
        assert_eq!(told.principal.account.as_ref().map(|ann| ann.name.clone()).as_deref(), Some("ann"));
        assert_eq!(told.principal.client, ClientId::parse("app").ok());
        assert_eq!(told.principal.provider, granted.principal.provider);
        core.clock.turn(Duration::from_secs(1));
        assert_eq!(core.who(vec![cookie(&text)]).await.refusal(), Refusal::LoginRequired);
        core.until("its record is ended", || async {
            core.clock.turn(MINUTE);
            core.sessions().await == 0
        })
        .await;
        assert_eq!(core.audited("expire").await, 1);
    }
}

#[tokio::test]
async fn a_cookie_is_read_from_the_store_after_a_restart() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let first = Core::on(Arc::clone(&store), |_| ()).await;
    first.populate().await;
    let (_, text) = first.cookie_of_ann(false).await;
    let second = Core::on(store, |_| ()).await;
    assert!(second.is_signed_in(&text).await);
}

#[tokio::test]
async fn a_cookie_is_nothing_at_another_gate_and_restores_no_session() {
    let core = Core::with(|_| ()).await;
    let (_, text) = core.cookie_of_ann(false).await;
    let context = core.context(core.connection(), "192.0.2.1");
    let asked = Command { presented: vec![cookie(&text)], verb: Verb::WhoAmI };
    assert_eq!(core.identity.handle(asked, &context).await.reply.result.err(), Some(Refusal::LoginRequired));
    let request = GrantRequest { scope: ScopeRequest::Maximum, role: None, binding: Binding::Connection, spelling: None };
    let restored = Credential::Token { any_of: vec![Secret::new(text.as_str())], kind: TokenKind::Restore };
    let verb = Verb::Authenticate { provider: None, credential: restored, request };
    assert_eq!(core.request(Vec::new(), verb).await.refusal(), Refusal::InvalidCredentials);
    let peer = core.log_in().await;
    let token = String::from_utf8_lossy(&peer.token()).into_owned();
    assert!(!core.is_signed_in(&token).await, "and a token that restores is no cookie");
    assert!(core.is_signed_in(&text).await);
}

#[tokio::test]
async fn a_login_takes_the_place_of_the_session_whose_cookie_it_shows_and_a_failed_one_of_none() {
    let core = Core::with(|_| ()).await;
    let (_, first) = core.cookie_of_ann(false).await;
    let binding = Binding::Cookie { remember: false };
    assert_eq!(core.sign_in("wrong", Some(&first), binding).await.err(), Some(Refusal::InvalidCredentials));
    assert!(core.is_signed_in(&first).await, "a failed login ends nothing");
    let granted = core.sign_in("pw", Some(&first), binding).await.expect("granted");
    let second = granted.tokens[0].secret.expose_text().expect("text").to_owned();
    assert_ne!(first, second);
    assert!(!core.is_signed_in(&first).await);
    assert!(core.is_signed_in(&second).await);
    assert_eq!((core.sessions().await, core.audited("replace").await), (1, 1));
    core.sign_in("pw", Some("left by somebody"), binding).await.expect("a cookie that is nobody's is in nobody's way");
    assert_eq!(core.sessions().await, 2);
}

#[tokio::test]
async fn logging_out_ends_what_is_presented_and_nothing_else() {
    let core = Core::with(|_| ()).await;
    let ((_, one), (_, other)) = (core.cookie_of_ann(false).await, core.cookie_of_ann(false).await);
    for presented in [vec![cookie(&one)], vec![cookie(&one)], vec![cookie("nobody's")], vec![]] {
        core.request(presented, Verb::Logout).await.result.and_then(Answer::done).expect("signed out");
    }
    assert!(!core.is_signed_in(&one).await);
    assert!(core.is_signed_in(&other).await);
    assert_eq!(core.audited("logout").await, 1);
    let connection = core.connection();
    let peer = core.log_in_on(connection).await;
    let context = core.context(connection, "192.0.2.1");
    let outcome = core.identity.handle(Command { presented: Vec::new(), verb: Verb::Logout }, &context).await;
    outcome.reply.result.and_then(Answer::done).expect("signed out");
    assert_eq!(peer.event(), Some(Event::Detached(Reason::Revoked)));
}

#[tokio::test]
async fn what_an_operator_takes_is_gone_with_the_next_request() {
    let core = Core::with(|_| ()).await;
    let cookie_of_ann = async || core.cookie_of_ann(true).await.1;
    let text = cookie_of_ann().await;
    let rights = UserChange { roles: Some(vec!["Admin".to_owned()]), ..UserChange::default() };
    core.admin().set_user("ann", rights).await.unwrap();
    let principal = core.who(vec![cookie(&text)]).await.granted().principal;
    assert_eq!(principal.may(&Right::Role("Admin".to_owned())), Ok(()), "rights are those of now");
    core.admin().end_session(principal.session.unwrap()).await.unwrap();
    assert!(!core.is_signed_in(&text).await);
    let text = cookie_of_ann().await;
    core.admin().end_sessions_of("ann").await.unwrap();
    assert!(!core.is_signed_in(&text).await);
    let text = cookie_of_ann().await;
    core.admin().set_user_status("ann", Status::Disabled).await.unwrap();
    core.admin().set_user_status("ann", Status::Active).await.unwrap();
    assert!(!core.is_signed_in(&text).await, "enabling brings nothing back");
    let text = cookie_of_ann().await;
    let over = UserChange { expires_at: Some(Some(core.clock.now())), ..UserChange::default() };
    core.admin().set_user("ann", over).await.unwrap();
    let answered = core.who(vec![cookie(&text)]).await;
    assert_eq!(answered.failed(), [(0, Refusal::AccountUnavailable)]);
    assert_eq!(answered.refusal(), Refusal::LoginRequired);
}

#[tokio::test]
async fn a_password_for_one_request_begins_nothing() {
    let core = Core::with(|_| ()).await;
    let told = core.who(vec![through("app"), password("ann", "pw")]).await.granted();
    assert_eq!((told.principal.session, told.principal.method, told.tokens.len()), (None, Method::Password, 0));
    assert_eq!(told.principal.account.as_ref().map(|ann| ann.name.clone()).as_deref(), Some("ann"));
    let granted = core.sign_in("pw", None, Binding::Request).await.expect("granted");
    assert_eq!((granted.principal.session, granted.tokens.len()), (None, 0));
    assert_eq!(core.sessions().await, 0);
    assert_eq!(core.audited("request").await, 2);
    let answered = core.who(vec![through("app"), password("ann", "wrong")]).await;
    assert_eq!(answered.failed(), [(1, Refusal::InvalidCredentials)]);
    assert_eq!(answered.refusal(), Refusal::InvalidCredentials);
    assert_eq!(core.who(vec![through("nobody"), password("ann", "pw")]).await.refusal(), Refusal::InvalidClient);
    for _ in 0..4 {
        core.who(vec![through("app"), password("ann", "wrong")]).await;
    }
    let refusal = core.who(vec![through("app"), password("ann", "wrong")]).await.refusal();
    assert!(matches!(refusal, Refusal::TooManyAttempts { .. }), "guesses are counted here as well: {refusal:?}");
}

#[tokio::test]
async fn a_password_for_one_request_is_hashed_anew_under_new_settings() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    Core::on(Arc::clone(&store), |_| ()).await.populate().await;
    let core = Core::on(Arc::clone(&store), |settings| settings.passwords.memory = 128).await;
    let kept = async || store.account_named(&NameKey::of("ann")).await.unwrap().unwrap().password.unwrap();
    let before = kept().await;
    core.who(vec![through("app"), password("ann", "pw")]).await.granted();
    let after = kept().await;
    assert_ne!(before, after);
    core.who(vec![through("app"), password("ann", "pw")]).await.granted();
    assert_eq!(kept().await, after);
}

#[tokio::test]
async fn of_several_proofs_the_first_counts_and_two_people_are_nobody() {
    let core = Core::with(|_| ()).await;
    core.add_bob().await;
    let (granted, text) = core.cookie_of_ann(false).await;
    let both = core.who(vec![through("app"), password("ann", "pw"), cookie(&text)]).await.granted();
    assert_eq!(both.principal.session, None, "the first one that is shown");
    let other = core.who(vec![through("app"), cookie(&text), password("ann", "wrong")]).await;
    assert_eq!(other.failed(), [(2, Refusal::InvalidCredentials)]);
    assert_eq!(other.granted().principal.session, granted.principal.session);
    let bob = core.who(vec![through("app"), password("bob", "pw"), cookie(&text)]).await.granted().principal;
    assert_eq!(bob.account.as_ref().map(|bob| bob.name.clone()).as_deref(), Some("bob"), "a cookie may be left from somebody else");
    let parted = core.who(vec![through("app"), cookie(&text), password("bob", "pw")]).await;
    assert_eq!(parted.caller.principal, None);
    assert_eq!(parted.failed(), [(2, Refusal::InvalidCredentials)]);
    assert_eq!(parted.refusal(), Refusal::InvalidCredentials);
    let parted = core.who(vec![through("app"), password("ann", "pw"), password("bob", "pw")]).await;
    assert_eq!(parted.refusal(), Refusal::InvalidCredentials);
}

#[tokio::test]
async fn cookies_that_are_nobodys_keep_nobody_out() {
    let core = Core::with(|_| ()).await;
    for number in 0..200 {
        assert_eq!(core.who(vec![cookie(&format!("anonymous {number}"))]).await.refusal(), Refusal::LoginRequired);
    }
    assert_eq!(core.audited("recognise").await, 0);
    assert_eq!(core.who(Vec::new()).await.refusal(), Refusal::LoginRequired);
    let (_, text) = core.cookie_of_ann(false).await;
    assert!(core.is_signed_in(&text).await);
    let peer = core.log_in().await;
    core.present(&peer.token()).await.expect("and tokens are looked at");
}

#[tokio::test]
async fn a_connection_says_who_speaks_where_nothing_is_shown() {
    let core = Core::with(|_| ()).await;
    let connection = core.connection();
    let peer = core.log_in_on(connection).await;
    let context = core.context(connection, "192.0.2.1");
    let asked = Command { presented: Vec::new(), verb: Verb::WhoAmI };
    let granted = core.identity.handle(asked, &context).await.reply.result.and_then(Answer::granted).unwrap();
    assert_eq!(granted.principal, peer.granted.principal);
}

#[tokio::test]
async fn a_cookie_that_was_never_told_is_taken_back() {
    let core = Core::with(|_| ()).await;
    let request =
        GrantRequest { scope: ScopeRequest::Nothing, role: None, binding: Binding::Cookie { remember: true }, spelling: None };
    let verb = Verb::Authenticate { provider: None, credential: password("ann", "pw"), request };
    let context = Context { gate: "web", connection: None, ..core.context(ConnectionId(0), "192.0.2.1") };
    let outcome = core.identity.handle(Command { presented: vec![through("app")], verb }, &context).await;
    assert!(outcome.reply.result.is_ok());
    assert_eq!(core.sessions().await, 1);
    drop(outcome);
    core.until("the session is gone", || async { core.sessions().await == 0 }).await;
}
