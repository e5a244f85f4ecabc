//! An application on the framework's own crate: what it is told by the gate, as that client parses it, and what that client does
//! by itself when a token has ended. It knows the gate by its address alone; `scripts/clients` starts the server, and says in a
//! file where it is, which case it answers in, and who has an account.
//!
//! This client reads camelCase and nothing else. In PascalCase it is shown that it gets the right status, which is all it sees.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use servicestack::blocking::JsonServiceClient;
use servicestack::{AssignRoles, Authenticate, AuthenticateResponse, Error, IRequest, IReturn, Result as Told, UnAssignRoles};

/// How long a token of two seconds is over for certain.
const OVER: Duration = Duration::from_secs(3);
const NOBODY: (u16, &str, &str) = (401, "Unauthorized", "Not Authenticated");
const WRONG: (u16, &str, &str) = (401, "Unauthorized", "Invalid Username or Password");
const ENDED: (u16, &str, &str) = (401, "TokenException", "Token has expired");

/// What a check finds wrong.
type Found = Result<(), String>;
type Check = fn(&Stage) -> Found;

/// What `scripts/clients` says.
#[derive(Deserialize)]
struct Stage {
    label: String,
    case: String,
    url: String,
    admin: Account,
    user: Account,
}

#[derive(Deserialize)]
struct Account {
    name: String,
    password: String,
    #[serde(default)]
    display: String,
}

/// A login that says where its tokens are to go, which the crate's own request has no member for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Login<'a> {
    provider: &'a str,
    user_name: &'a str,
    password: &'a str,
    use_token_cookie: bool,
}

impl IRequest for Login<'_> {
    const NAME: &'static str = "Authenticate";
    const VERB: &'static str = "POST";
}

impl IReturn for Login<'_> {
    type Response = AuthenticateResponse;
}

fn main() -> ExitCode {
    let read = |path: String| std::fs::read(&path).map_err(|error| format!("{path}: {error}"));
    let stage = std::env::args().nth(1).ok_or_else(|| "no file was named".to_owned()).and_then(read);
    let stage = stage.and_then(|text| serde_json::from_slice::<Stage>(&text).map_err(|error| error.to_string()));
    match stage {
        Ok(stage) if run(&stage) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::from(2)
        }
    }
}

/// Makes every check and prints what became of it; whether all held.
fn run(stage: &Stage) -> bool {
    let checks: [(&str, Check); 15] = [
        ("wrong password", wrong_password),
        ("nobody without a session", nobody),
        ("login", login),
        ("login by a password with each request", with_each_request),
        ("session", session),
        ("a service behind the gate is not for everybody", behind_for_nobody),
        ("a service behind the gate knows who is logged in", behind),
        ("a service behind the gate asks for a role", behind_by_role),
        ("roles are not for everybody to assign", roles_refused),
        ("roles assigned and taken away, and seen in the session", roles),
        ("tokens in cookies, renewed by the gate on the way", token_cookies),
        ("an ended token alone opens nothing", ended_token),
        ("a refused client renews its token by refresh token, and asks again", refresh),
        ("a refused client without one asks its application, and asks again", asks_its_application),
        ("logout", logout),
    ];
    let mut held = true;
    for (name, check) in checks {
        match check(stage) {
            Ok(()) => println!("ok {}: {name}", stage.label),
            Err(found) => {
                held = false;
                println!("FAILED {}: {name}: {}", stage.label, found.replace('\n', " "));
            }
        }
    }
    held
}

fn wrong_password(stage: &Stage) -> Found {
    stage.refused(stage.client().authenticate(&stage.user.name, "Diego"), WRONG)
}

fn nobody(stage: &Stage) -> Found {
    stage.refused(stage.client().send(&Authenticate::default()), NOBODY)
}

fn login(stage: &Stage) -> Found {
    let answer = taken(stage.client().send(&stage.session_of(&stage.user)))?;
    same(&answer.user_name, stage.read(&stage.user.name))?;
    same(&answer.display_name, stage.read(&stage.user.display))?;
    same((answer.roles.len(), &*answer.bearer_token), (0, ""))
}

fn with_each_request(stage: &Stage) -> Found {
    let mut client = stage.client();
    client.set_credentials(&stage.user.name, &stage.user.password);
    same(taken(client.send(&Authenticate::default()))?.user_name, stage.read(&stage.user.name))
}

fn session(stage: &Stage) -> Found {
    let client = stage.client();
    let first = taken(client.send(&stage.session_of(&stage.user)))?;
    let seen = taken(client.send(&Authenticate::default()))?;
    same(seen.user_name, stage.read(&stage.user.name))?;
    same(seen.session_id, first.session_id)
}

fn behind_for_nobody(stage: &Stage) -> Found {
    stage.refused(stage.client().get_url_string(MIRROR), (401, "Unauthorized", "Unauthorized"))
}

fn behind(stage: &Stage) -> Found {
    let client = stage.client();
    taken(client.send(&stage.session_of(&stage.user)))?;
    shown(&client, stage)?;
    let client = stage.client();
    taken(client.send(&stage.tokens_of(&stage.user, true)))?;
    shown(&client, stage)
}

fn behind_by_role(stage: &Stage) -> Found {
    let client = stage.client();
    taken(client.send(&stage.session_of(&stage.user)))?;
    stage.refused(client.post_url::<Value, _>(MIRROR, &Value::Null), (403, "Forbidden", "Forbidden"))
}

fn roles_refused(stage: &Stage) -> Found {
    let client = stage.client();
    taken(client.send(&stage.session_of(&stage.user)))?;
    let asked = AssignRoles { user_name: stage.user.name.clone(), roles: vec!["Editor".to_owned()], ..AssignRoles::default() };
    stage.refused(client.send(&asked), (403, "Forbidden", "Invalid Role"))
}

fn roles(stage: &Stage) -> Found {
    let (master, client) = (stage.client(), stage.client());
    taken(master.send(&stage.session_of(&stage.admin)))?;
    taken(client.send(&stage.session_of(&stage.user)))?;
    let (user_name, roles, permissions) = (stage.user.name.clone(), vec!["Editor".to_owned()], vec!["publish".to_owned()]);
    let asked = AssignRoles { user_name, roles, permissions, ..AssignRoles::default() };
    let told = taken(master.send(&asked))?;
    let seen = taken(client.send(&Authenticate::default()))?;
    let [role, permission] = [stage.read("Editor"), stage.read("publish")];
    same((told.all_roles.concat(), told.all_permissions.concat()), (role.to_owned(), permission.to_owned()))?;
    same((seen.roles.concat(), seen.permissions.concat()), (role.to_owned(), permission.to_owned()))?;
    let AssignRoles { user_name, permissions, roles, meta } = asked;
    taken(master.send(&UnAssignRoles { user_name, permissions, roles, meta }))?;
    let seen = taken(client.send(&Authenticate::default()))?;
    same((seen.roles.len(), seen.permissions.len()), (0, 0))
}

fn token_cookies(stage: &Stage) -> Found {
    let client = stage.client();
    let answer = taken(client.send(&stage.tokens_of(&stage.user, true)))?;
    same(&*answer.bearer_token, "")?;
    // Its jar lets go of the access token when that has ended; there is no session.
    std::thread::sleep(OVER);
    same(taken(client.send(&Authenticate::default()))?.user_name, stage.read(&stage.user.name))?;
    shown(&client, stage)
}

/// A client that holds an access token which has ended, that token, and the refresh token it came with; no cookie.
fn ended(stage: &Stage) -> Result<(JsonServiceClient, String, String), String> {
    // Said in camelCase, so that there are tokens to hold where the host's case hides them.
    let login = "/api/Authenticate?jsconfig=eccn";
    let tokens: Value = taken(stage.client().post_url(login, &stage.tokens_of(&stage.user, false)))?;
    let token = |name: &str| tokens[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name}"));
    let (bearer, refresh) = (token("bearerToken")?, token("refreshToken")?);
    std::thread::sleep(OVER);
    let mut client = stage.client();
    client.set_bearer_token(&bearer);
    Ok((client, bearer, refresh))
}

fn ended_token(stage: &Stage) -> Found {
    let (client, ..) = ended(stage)?;
    stage.refused(client.get_url_string(MIRROR), ENDED)
}

fn refresh(stage: &Stage) -> Found {
    let (mut client, before, refresh) = ended(stage)?;
    client.set_refresh_token(&refresh);
    if stage.is_pascal() {
        // It cannot read the new token, and tells of the first refusal.
        return stage.refused(client.get_url_string(MIRROR), ENDED);
    }
    shown(&client, stage)?;
    if client.bearer_token().is_some_and(|token| token != before) { Ok(()) } else { Err("the token is the old one".to_owned()) }
}

fn asks_its_application(stage: &Stage) -> Found {
    let (mut client, ..) = ended(stage)?;
    let (name, password, cookie) = (stage.user.name.clone(), stage.user.password.clone(), stage.is_pascal());
    client.set_on_authentication_required(move |client| client.authenticate(&name, &password).map(drop));
    if cookie {
        // What it holds goes before what the login gave it, since it cannot read that.
        return stage.refused(client.get_url_string(MIRROR), ENDED);
    }
    shown(&client, stage)
}

fn logout(stage: &Stage) -> Found {
    let client = stage.client();
    taken(client.send(&stage.session_of(&stage.user)))?;
    shown(&client, stage)?;
    taken(client.send(&Authenticate { provider: Some("logout".to_owned()), ..Authenticate::default() }))?;
    stage.refused(client.send(&Authenticate::default()), NOBODY)
}

/// The application's own service, behind the gate. A "no" in front of it has no error of the framework in its body, so the client
/// makes one of the status alone.
const MIRROR: &str = "/api/Mirror";

/// It shows as text what has come through to it.
fn shown(client: &JsonServiceClient, stage: &Stage) -> Found {
    let text = taken(client.get_url_string(MIRROR))?;
    let (head, body) = text.split_once("\n\n").ok_or_else(|| format!("no head: {text}"))?;
    same((head.starts_with("GET /"), body), (true, ""))?;
    same(head.lines().last(), Some(&*format!("by {}", stage.user.name)))?;
    // What the client proved itself with is nothing for a service.
    same(["ss-id", "ss-pid", "ss-tok", "ss-reftok"].into_iter().find(|own| head.contains(own)), None::<&str>)
}

impl Stage {
    fn is_pascal(&self) -> bool {
        self.case == "pascal"
    }

    /// What the client can read of what is said.
    fn read<'a>(&self, said: &'a str) -> &'a str {
        if self.is_pascal() { "" } else { said }
    }

    fn client(&self) -> JsonServiceClient {
        JsonServiceClient::new(&self.url)
    }

    /// A login that wants a session and no token.
    fn session_of(&self, account: &Account) -> Authenticate {
        Authenticate {
            provider: Some("credentials".to_owned()),
            user_name: Some(account.name.clone()),
            password: Some(account.password.clone()),
            meta: Some(HashMap::from([("ignore".to_owned(), "jwt".to_owned())])),
            ..Authenticate::default()
        }
    }

    /// A login that wants tokens, in cookies or in the answer.
    fn tokens_of<'a>(&self, account: &'a Account, use_token_cookie: bool) -> Login<'a> {
        Login { provider: "credentials", user_name: &account.name, password: &account.password, use_token_cookie }
    }

    /// In PascalCase the client sees the status and calls everything by that.
    fn refused<T: std::fmt::Debug>(&self, told: Told<T>, expected: (u16, &str, &str)) -> Found {
        let error = match told {
            Ok(answer) => return Err(format!("let through: {answer:?}")),
            Err(error) => error,
        };
        same(error.status_code(), Some(expected.0))?;
        if self.is_pascal() {
            return Ok(());
        }
        same((error.error_code(), error.error_message()), (Some(expected.1), Some(expected.2)))
    }
}

fn taken<T>(told: Told<T>) -> Result<T, String> {
    told.map_err(|error: Error| error.to_string())
}

fn same<Seen: PartialEq<Expected> + std::fmt::Debug, Expected: std::fmt::Debug>(seen: Seen, expected: Expected) -> Found {
    if seen == expected { Ok(()) } else { Err(format!("{seen:?} instead of {expected:?}")) }
}
