//! What holds of the ServiceStack gate whatever is sent to it and whatever the core says.

#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
mod scripted;
#[path = "scripted/tried.rs"]
#[expect(unreachable_pub, reason = "the module is shared by test programs, each of which includes it whole")]
#[expect(dead_code, reason = "of it only the list of refusals is needed here")]
mod tried;

use gatepost_identity::command::{Binding, Verb};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Caller, Granted, IssuedToken, Principal, Reply, TokenKind};
use gatepost_identity::secret::Secret;
use gatepost_protocols::http::{Body, Response};
use gatepost_protocols::mount::{Mount, Served};
use gatepost_protocols::servicestack::GATE;
use proptest::prelude::*;
use tried::refusals;

/// What nobody but the sender may see again.
const PASSWORD: &str = "hunter2";
/// What only a session that the core has drawn is called by.
const SESSION: &str = "TheSessionThatTheCoreHasDrawn";

/// Everything that can be switched on.
const JWT: &str = "providers = ['basic', 'jwt', 'apikey', 'credentials']\nregistration = true\nauthenticate_alias = true";

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    config.cases = config.cases.max(1024);
    config
}

fn mounts(settings: &str) -> Vec<Mount> {
    scripted::mounts_of(&GATE, &format!("client = 'app'\n{settings}"), Some("https://auth.example.org")).expect("good settings")
}

/// One request, owned.
#[derive(Clone, Debug)]
struct Drawn {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn any_request() -> impl Strategy<Value = Drawn> {
    let methods = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];
    let paths = [
        "/auth",
        "/auth/credentials",
        "/auth/basic",
        "/auth/logout",
        "/auth/login",
        "/auth/x",
        "/api/Authenticate",
        "/login",
        "/json/reply/Authenticate",
        "/xml/oneway/authenticate",
        "/csv/reply/Authenticate",
        "/html/reply/Authenticate",
        "/api/AuthenticateLogout",
        "/api/X",
        "/metadata",
        "/json/metadata",
        "/types/mjs",
        "//auth//",
        "/%",
        "/register",
        "/assignroles",
        "/apikeys/live",
        "/apikeys/regenerate/live",
        "/access-token",
        "/session-to-token",
        "/api/GetAccessToken",
        "/json/reply/AssignRoles",
        "/auth/%00",
    ];
    let suffixes = ["", ".json", ".jsv", ".xml", ".csv", ".html", ".", ".json;x"];
    let pairs = [
        ("UserName", "ann"),
        ("Password", PASSWORD),
        ("provider", "credentials"),
        ("provider", "basic"),
        ("provider", "logout"),
        ("format", "jsv"),
        ("format", "xml"),
        ("debug", ""),
        ("noredirect", ""),
        ("continue", "/home"),
        ("ReturnUrl", "//evil.test"),
        ("jsconfig", "eccn,inv,pp"),
        ("RememberMe", "true"),
        ("X-Http-Method-Override", "GET"),
        ("callback", "f"),
        ("op", "Authenticate"),
    ];
    let fields = [
        ("accept", "application/json"),
        ("accept", "text/html"),
        ("accept", "*/*"),
        ("accept", "text/jsv, application/xml"),
        ("content-type", "application/json"),
        ("content-type", "application/xml"),
        ("content-type", "text/jsv"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "multipart/form-data; boundary=b"),
        ("cookie", "ss-id=chosen; ss-pid=other"),
        ("cookie", "ss-opt=perm; =; é; x"),
        ("x-ss-id", "mine"),
        ("authorization", "Basic YW5uOmh1bnRlcjI="),
        ("authorization", "Basic !"),
        ("authorization", "Bearer x"),
        ("origin", "https://evil.test"),
        ("sec-fetch-site", "cross-site"),
        ("referer", "https://auth.example.org/login"),
        ("referer", "https://evil.test/"),
        ("x-http-method-override", "POST"),
        ("x-forwarded-proto", "https"),
    ];
    let bodies = prop_oneof![
        Just(format!(r#"{{"UserName":"ann","Password":"{PASSWORD}","provider":"credentials"}}"#)),
        Just(format!(r#"{{"userName":"ann","password":["{PASSWORD}"]}}"#)),
        Just(format!("{{UserName:ann,Password:{PASSWORD},RememberMe:True}}")),
        Just(format!("UserName=ann&Password={PASSWORD}")),
        Just(format!("<Authenticate><UserName>ann</UserName><Password>{PASSWORD}</Password></Authenticate>")),
        Just(format!("UserName,Password\nann,{PASSWORD}")),
        Just(String::new()),
        "[{}\\[\\]:,\"<>=&a-zA-Z0-9\\s%]{0,60}",
    ];
    let query = prop::collection::vec(prop::sample::select(pairs.to_vec()), 0..4);
    let headers = prop::collection::vec(prop::sample::select(fields.to_vec()), 0..6);
    let path = (prop::sample::select(paths.to_vec()), prop::sample::select(suffixes.to_vec()));
    (prop::sample::select(methods.to_vec()), path, query, headers, bodies).prop_map(
        |(method, (path, suffix), query, headers, body)| {
            let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            Drawn {
                method,
                target: format!("{path}{suffix}?{}", query.join("&")),
                headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
                body,
            }
        },
    )
}

/// What the core says.
#[derive(Clone, Debug)]
enum Says {
    Yes { once: bool },
    No(Refusal),
}

fn any_says() -> impl Strategy<Value = Says> {
    prop_oneof![any::<bool>().prop_map(|once| Says::Yes { once }), prop::sample::select(refusals()).prop_map(Says::No)]
}

/// The answer, and whether a session was begun and whether somebody was recognised.
struct Came {
    response: Response,
    began: bool,
    recognised: bool,
}

fn send(mounts: &[Mount], drawn: &Drawn, says: &Says) -> Came {
    let sent = scripted::Sent {
        method: drawn.method,
        target: &drawn.target,
        upgrade: false,
        headers: &drawn.headers,
        body: drawn.body.as_bytes(),
        seed: [3; 16],
    };
    let (command, answer) = match scripted::send(mounts, scripted::START, sent).expect("a request") {
        Served::Response(response) => return Came { response, began: false, recognised: false },
        Served::Question(command, answer) => (command, answer),
    };
    let principal = |once: bool| {
        let who = scripted::principal("ann", &[], 0, None).expect("of the cast");
        Principal { session: who.session.filter(|_| !once), ..who }
    };
    let (mut began, mut recognised) = (false, false);
    let result = match (says, command.verb) {
        (Says::No(refusal), _) => Err(refusal.clone()),
        (Says::Yes { .. }, Verb::Logout) => Ok(Answer::Done),
        (Says::Yes { .. }, Verb::Authenticate { request, .. }) => {
            let kinds = match request.binding {
                Binding::Cookie { remember } => vec![TokenKind::Cookie { remember }],
                Binding::Tokens { remember } => vec![TokenKind::Cookie { remember }, TokenKind::Access, TokenKind::Refresh],
                Binding::TokenCookies => vec![TokenKind::Access, TokenKind::Refresh],
                Binding::Connection | Binding::Request => panic!("nothing would hold this login"),
            };
            (began, recognised) = (true, true);
            let issue = |kind| IssuedToken { kind, secret: Secret::new(SESSION), expires_at: None };
            let tokens = kinds.into_iter().map(issue).collect();
            Ok(Answer::Granted(Granted { principal: principal(false).into(), tokens }))
        }
        (Says::Yes { once }, Verb::Issue { kinds, .. }) => {
            recognised = true;
            let issue = |kind| IssuedToken { kind, secret: Secret::new(SESSION), expires_at: None };
            began = true;
            let tokens = kinds.into_iter().map(issue).collect();
            Ok(Answer::Granted(Granted { principal: principal(*once).into(), tokens }))
        }
        (Says::Yes { .. }, Verb::ApiKeys { .. }) => Ok(Answer::ApiKeys(Vec::new())),
        (Says::Yes { .. }, Verb::ChangeRights { add, .. }) => Ok(Answer::Rights(add)),
        (Says::Yes { .. }, Verb::Register { .. }) => {
            recognised = true;
            Ok(Answer::Registered { account: principal(false).account.expect("a person"), granted: None })
        }
        (Says::Yes { once }, Verb::WhoAmI) => {
            recognised = true;
            Ok(Answer::Granted(Granted { principal: principal(*once).into(), tokens: Vec::new() }))
        }
        (_, verb) => panic!("the core is not asked this: {verb:?}"),
    };
    let failed = match &result {
        Err(refusal) => vec![(1, refusal.clone())],
        Ok(_) => Vec::new(),
    };
    let response = answer(scripted::START, Reply { caller: Caller { failed, ..Caller::default() }, result });
    Came { response, began, recognised }
}

/// Everything that travels, as text.
fn all_of(response: &Response) -> String {
    let fields = response.headers.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    let Body::Bytes(body) = &response.body else { panic!("nothing here becomes a socket") };
    format!("{}\n{}\n{}", response.status, fields.collect::<String>(), String::from_utf8_lossy(body))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn somebody_is_authenticated_if_and_only_if_the_core_says_so(
        drawn in any_request(),
        says in any_says(),
        settings in prop::sample::select(vec!["", JWT]),
    ) {
        let Came { response, began, recognised } = send(&mounts(settings), &drawn, &says);
        let all = all_of(&response);
        let status = response.status.as_u16();
        prop_assert!(
            [200, 302, 400, 401, 403, 404, 405, 409, 429, 503].contains(&status), "{status} is no status of this gate: {all}"
        );
        // The id of the user, which nobody has sent.
        prop_assert!(recognised || !all.contains("u-ann"), "nobody was recognised: {all}");
        prop_assert!(began || !all.contains(SESSION), "no session was begun: {all}");
        if recognised {
            // Who speaks is asked before a wish that lacks something is told so.
            let path = drawn.target.to_ascii_lowercase();
            let lacks = [400, 403].contains(&status) && ["roles", "apikeys"].iter().any(|wish| path.contains(wish));
            prop_assert!(status == 200 || status == 302 || lacks, "whoever is recognised is told: {all}");
        }
        let cookies: Vec<&str> = response.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()).collect();
        let names: Vec<&str> = cookies.iter().map(|cookie| cookie.split('=').next().unwrap_or_default()).collect();
        for (at, name) in names.iter().enumerate() {
            prop_assert!(!names[..at].contains(name), "{name} is set twice: {all}");
        }
        let foreign = drawn.headers.iter().any(|(name, _)| name == "origin" || name == "sec-fetch-site");
        let changes = !["GET", "HEAD"].contains(&drawn.method);
        prop_assert!(!(foreign && changes) || cookies.is_empty(), "a page of somebody else's is given nothing: {all}");
    }

    #[test]
    fn no_reply_holds_a_password(drawn in any_request(), says in any_says()) {
        let response = send(&mounts(JWT), &drawn, &says).response;
        let all = all_of(&response);
        prop_assert!(!all.contains(PASSWORD), "{all}");
        if let Some(target) = response.headers.get("location").and_then(|target| target.to_str().ok()) {
            let here = target.starts_with("https://auth.example.org/") || (target.starts_with('/') && !target.starts_with("//"));
            prop_assert!(here, "nobody is sent elsewhere: {all}");
        }
    }

    #[test]
    fn whoever_it_was_a_wrong_secret_is_one_answer(name in "[a-z@. é]{1,40}", other in "[a-z@. é]{1,40}", format in 0..4_usize) {
        prop_assume!(!name.trim().is_empty() && !other.trim().is_empty());
        let told = |name: &str| {
            let drawn = Drawn {
                method: "POST",
                target: format!("/auth/credentials.{}", ["json", "jsv", "xml", "html"][format]),
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: serde_json::json!({"UserName": name, "Password": PASSWORD}).to_string(),
            };
            all_of(&send(&mounts(""), &drawn, &Says::No(Refusal::InvalidCredentials)).response)
        };
        prop_assert_eq!(told(&name), told(&other));
    }
}
