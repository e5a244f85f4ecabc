//! One request of the service: from the bytes to at most one question, and from the core's reply to the answer.
//!
//! ```text
//! path ─ routes ─► verb ─► body, query, path ─► what is asked
//!    provider given, or a name ───────► log in: a session begins, its cookie takes the old one's place
//!    a provider of every request ─────► who speaks? else: log in first
//!    neither provider nor name ───────► who speaks? else: nobody is logged in
//!    logout ──────────────────────────► whatever session was shown ends
//! ```
//!
//! It refuses to know who anybody is, and what a session is worth.

use std::ops::ControlFlow;
use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::command::{Binding, Command, GrantRequest, Verb};
use gatepost_identity::credential::Credential;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Granted, Principal, Reply, TokenKind};
use gatepost_identity::scope::ScopeRequest;
use gatepost_identity::secret::Secret;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, REFERER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::http::{Request, Response};
use crate::mount::Mount;
use crate::section::{BadSetting, Section};
use crate::servicestack::authorization::Basic;
use crate::servicestack::cookies::{Brought, Jar};
use crate::servicestack::envelope::{Browser, Envelope, login_page, page};
use crate::servicestack::failure::Failure;
use crate::servicestack::form;
use crate::servicestack::format::BodyFormat;
use crate::servicestack::message::{Authenticate, AuthenticateLogout, Operation, return_url};
use crate::servicestack::metadata;
use crate::servicestack::negotiate::{Chosen, Wishes, choose, choose_predefined};
use crate::servicestack::refusal::failure;
use crate::servicestack::response::AuthenticateResponse;
use crate::servicestack::return_url::{Elsewhere, Here, marked};
use crate::servicestack::routes::{self, Found, Page, Route};
use crate::servicestack::settings::{Provider, Settings};
use crate::servicestack::sharing::{Sharing, is_foreign};
use crate::servicestack::spelling::EmptyIds;
use crate::servicestack::style::{Style, wishes_debug};
use crate::servicestack::value::{self, Body, Fields, same};
use crate::{Exchange, Question, Seed, Step};

/// The longest body, in bytes.
const LONGEST_BODY: usize = 1024 * 1024;
/// The verb that counts in the place of the request's own, for those who can send only a few.
const OVERRIDE: &str = "X-Http-Method-Override";
/// The picture of whoever has none.
const NOBODYS_PICTURE: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Cpath \
                               fill='%23789' d='M16 6a6 6 0 1 1 0 12 6 6 0 0 1 0-12zM4 29a12 9 0 0 1 24 0z'/%3E%3C/svg%3E";

/// Attaches this gate to its paths.
pub(super) fn mounts(section: &Section, public_url: Option<&str>) -> Result<Vec<Mount>, BadSetting> {
    let settings = Settings::read(section, public_url)?.map(Arc::new);
    let mount = |settings: Arc<Settings>| Mount::below(settings.base_path.clone(), LONGEST_BODY, Service { settings });
    Ok(settings.map(mount).into_iter().collect())
}

/// Every path of the gate.
struct Service {
    settings: Arc<Settings>,
}

/// A request whose answer the core decides.
pub(super) struct Pending {
    asked: Asked,
    envelope: Envelope,
}

/// What was asked.
enum Asked {
    /// A login.
    Login {
        /// The name as it was typed.
        user_name: String,
        /// The provider as it was written.
        provider: String,
    },
    /// Who speaks.
    Session {
        /// What is said where nobody does.
        nobody: Nobody,
        /// The id of the session that the request has shown.
        shown: Option<String>,
        /// Whether a provider was named.
        named: bool,
    },
    /// A logout.
    Logout,
}

/// What is said where nobody speaks.
#[derive(Clone, Copy)]
enum Nobody {
    /// That nobody does: what was shown and is no good is as good as nothing.
    IsLoggedIn,
    /// To log in first, or what is wrong with the name and password in the header field, which have this place.
    MayPass(Option<usize>),
}

/// A request taken apart, before it is known what its members mean.
struct Call<'r> {
    fields: Fields<'r>,
    /// Where the browser is to go by query or form; not checked.
    target: Option<String>,
    /// Whether it may change nothing.
    reads: bool,
    brought: Brought,
    basic: Basic,
    /// What a "no" to its body says that it was read as.
    media_type: &'static str,
}

impl Exchange for Service {
    type Pending = Pending;

    fn receive(&self, _now: Timestamp, seed: Seed, request: Request) -> Step<Pending> {
        let settings = &self.settings;
        let path = request.path.strip_prefix(&*settings.base_path).unwrap_or(&request.path);
        let (operation, name, route) = match routes::find(settings, path) {
            Found::Operation(operation, route) => (Some(operation), operation.name().to_owned(), route),
            Found::NoOperation(name, route) => (None, name, route),
            Found::Page(page) => return ControlFlow::Break(self.page(page, &request)),
            Found::Nothing => return ControlFlow::Break(nothing()),
        };
        let sharing = Sharing::of(settings, &request.headers);
        if request.method == Method::OPTIONS {
            return ControlFlow::Break(sharing.preflight().unwrap_or_else(nothing));
        }
        let query = form::query(request.query.as_deref().unwrap_or_default());
        let content_type = text(&request.headers, CONTENT_TYPE);
        let body_format = match route.predefined {
            None => BodyFormat::of(content_type.unwrap_or_default()),
            Some(own) => BodyFormat::of_predefined(own, content_type.unwrap_or_default()),
        };
        let body = match is_reading(&request.method) {
            true => Ok(Body::Object(Fields::default())),
            false => body_format.read(&request.body, &name),
        };
        let form = match &body {
            Ok(Body::Form(form)) => Some(form),
            Ok(Body::Object(_)) | Err(_) => None,
        };
        let method = verb(&request, &query, form);
        if !route.verbs.contains(&method) {
            return ControlFlow::Break(not_by_this_verb(route.verbs));
        }

        let foreign = is_foreign(settings, [&request.method, &method], &request.headers);
        let brought = Brought::read(&request.headers, !foreign);
        let nothing_said = Fields::default();
        let said = match &body {
            Ok(Body::Object(fields) | Body::Form(fields)) => fields,
            Err(_) => &nothing_said,
        };
        let style = Style::new(settings.text_case, settings.date_format, said);
        let envelope = Envelope {
            settings: Arc::clone(settings),
            operation,
            chosen: chosen(&route, &query, &request.headers),
            style: query.peek("jsconfig").map_or(style, |wishes| style.wished(wishes)),
            debug: wishes_debug(&query),
            jar: Jar::new(&brought, EmptyIds::of(seed), !foreign, request.secure),
            sharing,
            browser: self.browser(&request, &query, &method),
        };
        let Some(operation) = operation else {
            return ControlFlow::Break(envelope.refuse(&Failure::UnknownOperation(&name)));
        };
        let media_type = body_format.media_type();
        let target = return_url(&query).or_else(|| form.and_then(return_url)).map(str::to_owned);
        let body = match body {
            Ok(body) => body,
            Err(why) => {
                let bad = Failure::BadBody { media_type, request: operation.name(), why };
                return ControlFlow::Break(envelope.refuse(&bad));
            }
        };
        let variables = route.variables.into_iter().map(|(name, text)| (name.into(), value::Value::Text(text.into())));
        let fields = match route.predefined {
            Some(_) => Fields::of_predefined(body, query),
            None => Fields::of_route(body, query, Fields::new(variables)),
        };
        let reads = is_reading(&method);
        let call = Call { fields, target, reads, brought, basic: Basic::read(&request.headers), media_type };
        match operation {
            Operation::Authenticate => self.authenticate(call, envelope),
            Operation::AuthenticateLogout => match AuthenticateLogout::read(call.fields) {
                Ok(logout) => self.log_out(call.target.or(logout.return_url), &call.brought, envelope),
                Err(why) => {
                    let bad = Failure::BadBody { media_type, request: operation.name(), why };
                    ControlFlow::Break(envelope.refuse(&bad))
                }
            },
            // The core has nothing yet that could answer these.
            Operation::Register
            | Operation::AssignRoles
            | Operation::UnAssignRoles
            | Operation::ConvertSessionToToken
            | Operation::GetAccessToken
            | Operation::GetApiKeys
            | Operation::RegenerateApiKeys => ControlFlow::Break(envelope.refuse(&Failure::UnknownOperation(&name))),
        }
    }

    fn answer(&self, _now: Timestamp, pending: Pending, reply: Reply) -> Response {
        let Pending { asked, envelope } = pending;
        match asked {
            Asked::Login { user_name, provider } => match reply.result.and_then(Answer::granted) {
                Ok(granted) => began(granted, user_name, envelope),
                Err(refusal) => envelope.refuse(&failure(&refusal, &provider)),
            },
            Asked::Session { nobody, shown, named } => {
                let failed = |place: usize| reply.caller.failed.iter().find(|(at, _)| *at == place).map(|(_, why)| why.clone());
                if let Nobody::MayPass(Some(place)) = nobody
                    && let Some(refusal) = failed(place)
                {
                    return envelope.refuse(&failure(&refusal, ""));
                }
                match (reply.result.and_then(Answer::granted), nobody) {
                    (Ok(granted), _) => speaks(&granted.principal, shown, named, envelope),
                    (Err(Refusal::LoginRequired), Nobody::MayPass(_)) => envelope.challenge(),
                    (Err(refusal), Nobody::IsLoggedIn) if refusal.is_about_the_proof() => {
                        envelope.refuse(&Failure::NotAuthenticated)
                    }
                    (Err(refusal), _) => envelope.refuse(&failure(&refusal, "")),
                }
            }
            Asked::Logout => match reply.result.and_then(Answer::done) {
                Ok(()) => ended(envelope),
                Err(refusal) => envelope.refuse(&failure(&refusal, "")),
            },
        }
    }
}

impl Service {
    fn authenticate(&self, call: Call<'_>, mut envelope: Envelope) -> Step<Pending> {
        let login = match Authenticate::read(call.fields) {
            Ok(login) => login,
            Err(why) => {
                let bad = Failure::BadBody { media_type: call.media_type, request: Operation::Authenticate.name(), why };
                return ControlFlow::Break(envelope.refuse(&bad));
            }
        };
        let named = login.provider.as_deref();
        if named.is_some_and(|name| same(name, "logout")) {
            return self.log_out(call.target.or(login.return_url), &call.brought, envelope);
        }
        let provider = match named.map(|name| self.settings.provider(name).ok_or(name)).transpose() {
            Ok(provider) => provider,
            Err(name) => return ControlFlow::Break(envelope.refuse(&Failure::UnknownProvider(name))),
        };
        if call.reads && (provider.is_some() || login.user_name.is_some() || login.password.is_some()) {
            return ControlFlow::Break(envelope.refuse(&Failure::LoginByGet));
        }
        if self.aim(&mut envelope, call.target.as_deref().or(login.return_url.as_deref())).is_err() {
            return ControlFlow::Break(envelope.refuse(&Failure::ExternalRedirect));
        }
        let is_question = provider.is_none() && login.user_name.is_none();
        match provider.unwrap_or(self.settings.first()) {
            Provider::Basic => self.who_speaks(call.basic, &call.brought, true, provider.is_some(), envelope),
            Provider::Credentials if is_question => self.who_speaks(call.basic, &call.brought, false, false, envelope),
            Provider::Credentials => self.log_in(login, &call.brought, envelope),
        }
    }

    fn log_in(&self, login: Authenticate, brought: &Brought, envelope: Envelope) -> Step<Pending> {
        if let Some(lack) = login.lacks() {
            return ControlFlow::Break(envelope.refuse(&lack));
        }
        let (Some(user_name), Some(password)) = (login.user_name, login.password) else {
            return ControlFlow::Break(envelope.refuse(&Failure::NoCredentials { user_name: true, password: true }));
        };
        let mut presented = vec![self.client()];
        presented.extend(brought.session().map(|session| Credential::Cookie(Secret::new(session))));
        let verb = Verb::Authenticate {
            provider: None,
            credential: Credential::Password { name: user_name.clone(), password },
            request: GrantRequest {
                scope: ScopeRequest::Nothing,
                binding: Binding::Cookie { remember: login.remember_me == Some(true) },
                spelling: None,
            },
        };
        let asked = Asked::Login { user_name, provider: login.provider.unwrap_or_default() };
        ask(Command { presented, verb }, asked, envelope)
    }

    /// `must`: whoever speaks is let through, and nobody else is.
    fn who_speaks(&self, basic: Basic, brought: &Brought, must: bool, named: bool, envelope: Envelope) -> Step<Pending> {
        let mut presented = vec![self.client()];
        let mut place = None;
        match basic {
            Basic::Shown(credential) if self.settings.has(Provider::Basic) => {
                place = Some(presented.len());
                presented.push(credential);
            }
            Basic::Broken if must => return ControlFlow::Break(envelope.refuse(&Failure::WrongPassword)),
            Basic::Shown(_) | Basic::Broken | Basic::Nothing => {}
        }
        presented.extend(brought.session().map(|session| Credential::Cookie(Secret::new(session))));
        let nobody = if must { Nobody::MayPass(place) } else { Nobody::IsLoggedIn };
        let asked = Asked::Session { nobody, shown: brought.session().map(str::to_owned), named };
        ask(Command { presented, verb: Verb::WhoAmI }, asked, envelope)
    }

    fn log_out(&self, target: Option<String>, brought: &Brought, mut envelope: Envelope) -> Step<Pending> {
        if self.aim(&mut envelope, target.as_deref()).is_err() {
            return ControlFlow::Break(envelope.refuse(&Failure::ExternalRedirect));
        }
        // Both ids, whichever of them counts: nothing that this browser holds opens anything afterwards.
        let presented = brought.all().map(|id| Credential::Cookie(Secret::new(id))).collect();
        ask(Command { presented, verb: Verb::Logout }, Asked::Logout, envelope)
    }

    /// The client that every login comes through. It has no secret.
    fn client(&self) -> Credential {
        Credential::Client { id: Some(self.settings.client.clone()), secret: None }
    }

    fn here(&self) -> Here<'_> {
        Here { public_url: self.settings.public_url.as_deref(), base_path: &self.settings.base_path }
    }

    /// Notes where the browser goes afterwards, if that is here.
    fn aim(&self, envelope: &mut Envelope, target: Option<&str>) -> Result<(), Elsewhere> {
        envelope.browser.target = target.map(|target| self.here().check(target)).transpose()?.filter(|target| !target.is_empty());
        Ok(())
    }

    fn browser(&self, request: &Request, query: &Fields<'_>, method: &Method) -> Browser {
        let here = || {
            let origin = self.settings.public_url.as_deref().unwrap_or_default();
            let query = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
            format!("{origin}{}{query}", request.path)
        };
        let referer = text(&request.headers, REFERER);
        Browser {
            target: None,
            referer: referer.and_then(|referer| self.here().referer(referer, text(&request.headers, HOST))),
            stays: query.names().any(|name| same(name, "noredirect")),
            here: is_reading(method).then(here),
        }
    }

    /// Answers with a page that is the same for everybody.
    fn page(&self, which: Page, request: &Request) -> Response {
        const ONLY_READ: &[Method] = &[Method::GET, Method::HEAD];
        const HTML: &str = "text/html; charset=utf-8";
        if !ONLY_READ.contains(&request.method) {
            return not_by_this_verb(ONLY_READ);
        }
        let query = form::query(request.query.as_deref().unwrap_or_default());
        match which {
            Page::Login => page(login_page(&self.settings.base_path, query.peek("redirect")), HTML),
            Page::Index => page(metadata::index(&self.settings), HTML),
            Page::Operation(format) => match metadata::operation(&self.settings, format, query.peek("op").unwrap_or_default()) {
                Some(text) => page(text, HTML),
                None => nothing(),
            },
            Page::Types => page(metadata::types(), "text/javascript; charset=utf-8"),
        }
    }
}

fn ask(command: Command, asked: Asked, envelope: Envelope) -> Step<Pending> {
    ControlFlow::Continue(Question { command, pending: Pending { asked, envelope } })
}

/// A session has begun.
fn began(granted: Granted, user_name: String, mut envelope: Envelope) -> Response {
    let Granted { principal, tokens } = granted;
    let session = tokens.into_iter().find_map(|token| match token.kind {
        TokenKind::Cookie { remember } => Some((token.secret, remember)),
        TokenKind::Restore | TokenKind::Access | TokenKind::Refresh | TokenKind::Upstream { .. } => None,
    });
    let Some((session, remember)) = session else {
        // A grant without the token that was asked for would be our own bug.
        return envelope.refuse(&failure(&Refusal::Unavailable, ""));
    };
    let mut dto = described(&principal);
    if let Some(session) = session.expose_text() {
        envelope.jar.begin(session, remember, dto.user_id.as_deref().unwrap_or_default());
    }
    dto.session_id = Some(session);
    dto.user_name = Some(user_name);
    dto.referrer_url.clone_from(&envelope.browser.target);
    let target = envelope.browser.target.clone();
    envelope.answer_or_go(target, &dto.dto())
}

/// Somebody speaks who is logged in already.
fn speaks(principal: &Principal, shown: Option<String>, named: bool, envelope: Envelope) -> Response {
    let mut dto = described(principal);
    // What is good for one request is told an id that opens nothing.
    let session = shown.filter(|_| principal.session.is_some()).unwrap_or_else(|| envelope.jar.empty_session().to_owned());
    dto.session_id = Some(Secret::new(session));
    dto.referrer_url = envelope.browser.target.clone().or_else(|| envelope.browser.referer.clone());
    let target = dto.referrer_url.as_deref().filter(|_| named).map(|target| marked(target, "s", "0"));
    envelope.answer_or_go(target, &dto.dto())
}

/// Whatever session there was has ended.
fn ended(mut envelope: Envelope) -> Response {
    envelope.jar.end();
    let referer = envelope.browser.referer.clone().filter(|page| !page.ends_with("/auth/logout"));
    let target = envelope.browser.target.clone().or(referer);
    envelope.answer_or_go(target, &AuthenticateResponse::default().dto())
}

/// What an answer says of somebody.
fn described(principal: &Principal) -> AuthenticateResponse {
    let account = principal.account.as_deref();
    let full_name = |first: &Option<String>, last: &Option<String>| {
        let parts: Vec<&str> = [first, last].into_iter().filter_map(|part| part.as_deref()).collect();
        Some(parts.join(" ")).filter(|name| !name.is_empty())
    };
    AuthenticateResponse {
        user_id: account.map(|account| account.subject.clone()),
        user_name: account.map(|account| account.name.clone()),
        display_name: account.and_then(|account| {
            let name = || Some(account.name.clone()).filter(|name| !name.is_empty());
            account.display_name.clone().or_else(name).or_else(|| full_name(&account.first_name, &account.last_name))
        }),
        profile_url: Some(account.and_then(|account| account.profile_url.clone()).unwrap_or_else(|| NOBODYS_PICTURE.to_owned())),
        roles: Some(principal.rights.roles.clone()),
        permissions: Some(principal.rights.permissions.clone()),
        ..AuthenticateResponse::default()
    }
}

/// The verb that counts: a header field's, or, of a request that is sent by POST, a field's in its query or form.
fn verb(request: &Request, query: &Fields<'_>, form: Option<&Fields<'_>>) -> Method {
    let named = text(&request.headers, http::HeaderName::from_static("x-http-method-override"));
    let field = || query.peek(OVERRIDE).or_else(|| form.and_then(|form| form.peek(OVERRIDE)));
    let named = named.or_else(|| field().filter(|_| request.method == Method::POST));
    let verb = named.map(str::to_ascii_uppercase).and_then(|named| Method::from_bytes(named.as_bytes()).ok());
    verb.unwrap_or_else(|| request.method.clone())
}

fn is_reading(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

fn chosen(route: &Route, query: &Fields<'_>, headers: &HeaderMap) -> Chosen {
    let format = query.peek("format");
    if let Some(own) = route.predefined {
        return choose_predefined(own, route.suffix, format);
    }
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    choose(&Wishes {
        suffix: route.suffix,
        query: format,
        first_part: &route.first_part,
        accept: &accept,
        content_type: text(headers, CONTENT_TYPE),
    })
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn nothing() -> Response {
    Response::text(StatusCode::NOT_FOUND, "There is nothing here.\n")
}

fn not_by_this_verb(verbs: &[Method]) -> Response {
    let verbs: Vec<&str> = verbs.iter().map(Method::as_str).collect();
    let response = Response::empty(StatusCode::METHOD_NOT_ALLOWED);
    match HeaderValue::try_from(verbs.join(", ")) {
        Ok(verbs) => response.with(ALLOW, verbs),
        Err(_) => response,
    }
}
