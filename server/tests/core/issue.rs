//! Tokens that tell a service behind a gate who is there.

use gatepost_identity::reply::{Spelled, TokenKind};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use super::borrowed::Elsewhere;
use super::*;

impl Core {
    async fn issue_in(&self, context: &Context, kinds: Vec<TokenKind>) -> Result<Granted, Refusal> {
        let outcome = self
            .identity
            .handle(Command { presented: Vec::new(), verb: Verb::Issue { kinds, request: about_the_connection() } }, context)
            .await;
        assert!(outcome.attachment.is_none(), "what the connection holds stays as it is");
        outcome.held.release();
        outcome.reply.result.and_then(Answer::granted)
    }

    pub(super) async fn issue_on(&self, connection: ConnectionId) -> Result<Granted, Refusal> {
        self.issue_in(&self.context(connection, "192.0.2.1"), vec![upstream()]).await
    }

    /// What the one token claims, verified as anybody can.
    async fn claims(&self, granted: &Granted) -> Value {
        let [token] = granted.tokens.as_slice() else { panic!("{granted:?}") };
        assert_eq!(token.kind, upstream());
        let context = Context { connection: None, ..self.context(ConnectionId(0), "192.0.2.9") };
        let command = Command { presented: Vec::new(), verb: Verb::PublicKeys };
        let keys = self.identity.handle(command, &context).await.reply.result.and_then(Answer::public_keys).unwrap();
        let set: JwkSet = serde_json::from_str(&keys).unwrap();
        let text = token.secret.expose_text().unwrap();
        let header = decode_header(text).unwrap();
        assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::EdDSA, Some("JWT")));
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.set_audience(&["svc"]);
        rules.set_issuer(&["gatepost"]);
        // The clock here is turned; the moments are looked at below.
        rules.validate_exp = false;
        let key = DecodingKey::from_jwk(set.find(&header.kid.unwrap()).unwrap()).unwrap();
        let claims = decode::<Value>(text, &key, &rules).unwrap().claims;
        assert_eq!(claims["iat"], self.clock.now().millis() / 1000);
        assert_eq!(claims["exp"], token.expires_at.unwrap().millis() / 1000);
        assert_eq!(claims["sid"], granted.principal.session.unwrap().0.to_string());
        claims
    }

    pub(super) async fn add_bob(&self) {
        let password = Some(Secret::new("pw"));
        let bob = NewUser { name: "bob".to_owned(), scopes: vec!["m".to_owned()], password, ..NewUser::default() };
        self.admin().add_user(bob).await.unwrap();
    }
}

fn upstream() -> TokenKind {
    TokenKind::Upstream { audience: "svc".to_owned() }
}

#[tokio::test]
async fn a_service_is_told_who_is_there_for_a_minute_and_nothing_else_changes() {
    let core = Core::with(|_| ()).await;
    let change = UserChange { display_name: Some(Some("Ann Example".to_owned())), ..UserChange::default() };
    core.admin().set_user("ann", change).await.unwrap();
    let connection = core.connection();
    let peer = core.log_in_on(connection).await;
    core.identity.flush().await;
    let lines = core.admin().audit_before(None, 1000).await.unwrap().len();
    core.clock.turn(MINUTE);
    let granted = core.issue_on(connection).await.unwrap();
    assert_eq!(granted.principal, peer.granted.principal, "as it was: a token prolongs nothing");
    assert_eq!(granted.tokens[0].expires_at, Some(core.clock.now().after(MINUTE)));
    let claims = core.claims(&granted).await;
    let person = peer.granted.principal.account.clone().unwrap();
    assert_eq!(claims["sub"], person.subject);
    assert_eq!(claims["name"], "Ann Example");
    assert_eq!((&claims["client_id"], &claims["scope"]), (&json!("app"), &json!("m t")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    core.identity.flush().await;
    assert_eq!(core.admin().audit_before(None, 1000).await.unwrap().len(), lines, "it is no event of its own");
    let session = core.admin().sessions(None, None, 10).await.unwrap()[0].session.clone();
    assert_eq!(session.used_at, session.started_at);
    assert_eq!(peer.event(), None);
    core.present(&peer.token()).await.expect("its own token stands as well");
}

#[tokio::test]
async fn nobody_gets_no_token() {
    let core = Core::with(|_| ()).await;
    let held = core.connection();
    let peer = core.log_in_on(held).await;
    assert_eq!(core.issue_on(core.connection()).await.err(), Some(Refusal::LoginRequired), "another connection");
    let request = Context { connection: None, ..core.context(held, "192.0.2.1") };
    assert_eq!(core.issue_in(&request, vec![upstream()]).await.err(), Some(Refusal::LoginRequired), "no connection");
    assert_eq!(core.issue_in(&request, Vec::new()).await.err(), Some(Refusal::LoginRequired), "nor is it told who is there");
    core.issue_on(held).await.expect("somebody");
    drop(peer);
    assert_eq!(core.issue_on(held).await.err(), Some(Refusal::LoginRequired), "a connection that is gone");
    core.identity.flush().await;
    assert_eq!(core.admin().audit_before(None, 1000).await.unwrap()[0].action, "login", "nobody tried anything");
}

#[tokio::test]
async fn a_token_never_outlives_the_authentication_and_there_is_none_after_it() {
    let core = Core::with(|_| ()).await;
    // What would detach it comes around later; its time is over all the same.
    core.unasked.abort();
    let connection = core.connection();
    let peer = core.log_in_on(connection).await;
    let end = peer.granted.principal.expires_at.unwrap();
    core.clock.turn(29 * MINUTE + Duration::from_secs(50));
    let last = core.issue_on(connection).await.unwrap();
    assert_eq!(last.tokens[0].expires_at, Some(end), "ten seconds, not sixty");
    core.claims(&last).await;
    core.clock.turn(Duration::from_secs(10) - Duration::from_millis(1));
    core.issue_on(connection).await.expect("until the very end");
    core.clock.turn(Duration::from_millis(1));
    assert_eq!(core.issue_on(connection).await.err(), Some(Refusal::LoginRequired));
    assert_eq!(peer.event(), None, "it has not been detached yet");
    let again = core.present_on(&peer.token(), connection).await.unwrap();
    core.issue_on(connection).await.expect("whoever proves himself anew is there again");
    drop(again);
}

#[tokio::test]
async fn there_is_no_token_for_what_was_ended() {
    let core = Core::with(|_| ()).await;
    let (one, other) = (core.connection(), core.connection());
    let (first, second) = (core.log_in_on(one).await, core.log_in_on(other).await);
    core.admin().end_session(first.granted.principal.session.unwrap()).await.unwrap();
    assert_eq!(core.issue_on(one).await.err(), Some(Refusal::LoginRequired));
    core.issue_on(other).await.expect("the other session stands");
    core.admin().set_user_status("ann", Status::Disabled).await.unwrap();
    assert_eq!(core.issue_on(other).await.err(), Some(Refusal::LoginRequired));
    drop((first, second));
}

#[tokio::test]
async fn a_token_tells_of_whoever_the_connection_holds_by_then_with_the_rights_of_then() {
    let core = Core::with(|_| ()).await;
    core.add_bob().await;
    let connection = core.connection();
    let ann = core.log_in_on(connection).await;
    let before = core.claims(&core.issue_on(connection).await.unwrap()).await;
    let only = UserChange { scopes: Some(vec!["t".to_owned()]), ..UserChange::default() };
    core.admin().set_user("ann", only).await.unwrap();
    let after = core.claims(&core.issue_on(connection).await.unwrap()).await;
    assert_eq!((&before["scope"], &after["scope"], &before["sid"]), (&json!("m t"), &json!("t"), &after["sid"]));
    let bob = Peering::of(core.ask(password("bob", "pw"), &core.context(connection, "192.0.2.1")).await);
    let claims = core.claims(&core.issue_on(connection).await.unwrap()).await;
    assert_eq!(claims["sub"], bob.granted.principal.account.clone().unwrap().subject);
    assert_ne!(claims["sub"], before["sub"]);
    assert_ne!(claims["sid"], before["sid"]);
    assert_eq!((&claims["scope"], claims.get("name")), (&json!("m"), None));
    drop(ann);
    core.issue_on(connection).await.expect("the attachment that was replaced takes nothing along");
}

#[tokio::test]
async fn a_client_that_spoke_for_itself_is_its_own_subject() {
    let core = Core::with(|_| ()).await;
    let connection = core.connection();
    let service = Credential::Client { id: Some(ClientId::parse("svc").unwrap()), secret: Some(Secret::new("s3")) };
    let peer = Peering::of(core.ask(service, &core.context(connection, "192.0.2.1")).await);
    let claims = core.claims(&core.issue_on(connection).await.unwrap()).await;
    assert_eq!((&claims["sub"], &claims["client_id"], claims.get("name")), (&json!("svc"), &json!("svc"), None));
    assert_eq!(peer.event(), None);
}

#[tokio::test]
async fn a_borrowed_session_is_told_of_in_our_name_and_no_longer_than_it_lasts() {
    let core = Core::with(|settings| settings.providers.push(Elsewhere::provider())).await;
    let connection = core.connection();
    let token = Elsewhere::new().token(&core, "u-9", "m", Duration::from_secs(30));
    let peer = core.bear_on(&token, connection).await.unwrap();
    let granted = core.issue_on(connection).await.unwrap();
    assert_eq!(granted.tokens[0].expires_at, peer.granted.principal.expires_at);
    let claims = core.claims(&granted).await;
    let told = ["iss", "idp", "sub", "name", "client_id", "scope"].map(|name| claims[name].as_str().unwrap());
    assert_eq!(told, ["gatepost", "https://auth.example.org", "u-9", "Ann Elsewhere", "app", "m"]);
    core.admin().end_session(peer.granted.principal.session.unwrap()).await.unwrap();
    assert_eq!(core.issue_on(connection).await.err(), Some(Refusal::LoginRequired));
}

#[tokio::test]
async fn the_keys_stay_the_same_on_one_store_and_differ_between_stores() {
    async fn keys(core: &Core) -> String {
        let context = Context { connection: None, ..core.context(ConnectionId(0), "192.0.2.1") };
        let command = Command { presented: Vec::new(), verb: Verb::PublicKeys };
        core.identity.handle(command, &context).await.reply.result.and_then(Answer::public_keys).unwrap()
    }
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let (first, second) = tokio::join!(Core::on(Arc::clone(&store), |_| ()), Core::on(Arc::clone(&store), |_| ()));
    assert_eq!(keys(&first).await, keys(&second).await);
    let other = Core::on(Arc::new(Memory::default()), |_| ()).await;
    assert_ne!(keys(&first).await, keys(&other).await);
}

#[tokio::test]
async fn what_we_ask_wrongly_is_our_own_fault_and_gives_nothing() {
    let core = Core::with(|_| ()).await;
    let connection = core.connection();
    let peer = core.log_in_on(connection).await;
    let context = core.context(connection, "192.0.2.1");
    let both = vec![upstream(), TokenKind::Restore];
    assert_eq!(core.issue_in(&context, both).await.err(), Some(Refusal::Unavailable), "without a proof nothing rolls");
    let elsewhere = Context { gate: "oauth", ..context };
    assert_eq!(core.issue_in(&elsewhere, vec![upstream()]).await.err(), Some(Refusal::Unavailable), "it cannot spell one");
    assert_eq!(peer.event(), None);
}

#[tokio::test]
async fn a_gate_that_spells_a_token_in_the_wrong_shape_lets_nobody_have_it() {
    let text: Spell = |_| Spelled::Text(Secret::new("a text"));
    let core = Core::spelled(Arc::new(Memory::default()), text, |_| ()).await;
    core.populate().await;
    let connection = core.connection();
    let peer = core.log_in_on(connection).await;
    assert_eq!(core.issue_on(connection).await.err(), Some(Refusal::Unavailable));
    assert_eq!(peer.event(), None);

    let claims: Spell = |_| Spelled::Signed { typ: "JWT", claims: b"{}".to_vec() };
    let core = Core::spelled(Arc::new(Memory::default()), claims, |_| ()).await;
    core.populate().await;
    assert_eq!(core.guess("ann", "pw", "192.0.2.1").await, Err(Refusal::Unavailable));
    assert_eq!(core.sessions().await, 0, "nothing was begun");
}

/// As a driver asks about whoever a connection holds: nothing is begun.
fn about_the_connection() -> GrantRequest {
    GrantRequest { scope: ScopeRequest::Maximum, role: None, binding: Binding::Connection, spelling: None }
}
