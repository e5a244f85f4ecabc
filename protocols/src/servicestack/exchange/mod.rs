//! One request of the service: from the bytes to at most one question, and from the core's reply to the answer.
//!
//! ```text
//! path ─ routes ─► verb ─► body, query, path ─► what is asked
//!    provider given, or a name ───────► log in: a session begins, its cookie takes the old one's place
//!    a provider of every request ─────► who speaks? else: log in first
//!    neither provider nor name ───────► who speaks? else: nobody is logged in
//!    logout ──────────────────────────► whatever session was shown ends
//!    a service's path ────────────────► who speaks, and the request goes on to it
//! ```
//!
//! It refuses to know who anybody is, and what a session is worth.

mod asking;
mod guarded;
mod passing;

use std::ops::ControlFlow;
use std::sync::Arc;

use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::reply::{Answer, Reply};
use gatepost_identity::secret::Secret;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HOST, REFERER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::http::{Request, Response};
use crate::mount::{Mount, Parts};
use crate::section::{BadSetting, Section};
use crate::servicestack::answers::{self, Login, Speaks, began, converted, ended, refreshed, registered};
use crate::servicestack::authorization::Authorization;
use crate::servicestack::batch;
use crate::servicestack::caller::{Shown, earns_tokens, is_shown};
use crate::servicestack::cookies::{Brought, Jar, Lid};
use crate::servicestack::envelope::{Browser, Envelope, login_page, page};
use crate::servicestack::exchange::asking::ADMIN;
use crate::servicestack::exchange::guarded::Guarded;
use crate::servicestack::exchange::passing::Passing;
use crate::servicestack::failure::Failure;
use crate::servicestack::form;
use crate::servicestack::format::BodyFormat;
use crate::servicestack::message::{
    ApiKeys, Authenticate, AuthenticateLogout, Carried, ChangeRoles, ConvertSessionToToken, GetAccessToken, Operation, Register,
    return_url,
};
use crate::servicestack::metadata;
use crate::servicestack::negotiate::{Chosen, Wishes, choose, choose_predefined};
use crate::servicestack::refusal::failure;
use crate::servicestack::response::RolesResponse;
use crate::servicestack::return_url::Here;
use crate::servicestack::routes::{self, Found, Page, Route};
use crate::servicestack::services::Place;
use crate::servicestack::settings::Settings;
use crate::servicestack::sharing::{Sharing, is_clicked, is_from_elsewhere};
use crate::servicestack::spelling::EmptyIds;
use crate::servicestack::style::{Style, wishes_debug};
use crate::servicestack::value::{self, Body, Fields, same};
use crate::{Exchange, Seed, Step};

/// The longest body, in bytes.
const LONGEST_BODY: usize = 1024 * 1024;
/// The verb that counts in the place of the request's own, for those who can send only a few.
const OVERRIDE: &str = "X-Http-Method-Override";

/// The operator's own secret, in the framework's name for it; taken from nowhere else, since addresses are written down.
const OPERATOR_SECRET: &str = "authsecret";

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
    Login(Login),
    /// Who speaks.
    Session(Speaks, Guarded),
    /// A logout.
    Logout,
    /// An account, and a login with it.
    Register(Login),
    /// Roles for somebody, or away from them.
    Roles {
        /// Whose.
        user_name: String,
        /// Whether they are taken away.
        unassigned: bool,
    },
    /// An access token for a refresh token.
    AccessToken {
        /// Whether it goes into a cookie.
        in_cookie: bool,
        /// Whether the refresh token came in one.
        from_cookie: bool,
        /// Whether the browser keeps another, or none.
        of_another: bool,
    },
    /// Tokens for a session, or for the token that came.
    Tokens(Guarded, Option<Secret>),
    /// The caller's keys.
    Keys {
        /// Whether they are new.
        renew: bool,
        guarded: Guarded,
    },
    /// Who asks for what cannot be done as it was asked for: only whoever may ask is told why.
    Lacking {
        why: Failure<'static>,
        /// Whether only an administrator may.
        of_roles: bool,
        guarded: Guarded,
    },
    /// Whether a request may go on to a service behind the gate, and in whose name.
    Passing(Guarded, Box<Passing>),
}

/// A request taken apart, before it is known what its members mean.
struct Call {
    /// Where the browser is to go by query or form; not checked.
    target: Option<String>,
    /// Whether it may change nothing.
    reads: bool,
    /// Whether a page of somebody else's has sent it without anybody's click.
    unbidden: bool,
    brought: Brought,
    authorization: Authorization,
    carried: Carried,
}

impl Exchange for Service {
    type Pending = Pending;

    fn parts(&self, request: Request) -> Parts {
        let path = request.path.strip_prefix(&*self.settings.base_path).unwrap_or(&request.path);
        // Only where the name could end so, since every request passes here.
        if !path.contains("[]") && !path.contains("%5") {
            return Parts::One(request);
        }
        match routes::find(&self.settings, path) {
            Found::Operation(operation, route) if route.many => batch::parts(&self.settings, operation, &route, request),
            _ => Parts::One(request),
        }
    }

    fn leaves_body(&self, path: &str) -> bool {
        let path = path.strip_prefix(&*self.settings.base_path).unwrap_or(path);
        self.place(path).is_some()
    }

    fn receive(&self, _now: Timestamp, seed: Seed, request: Request) -> Step<Pending> {
        let settings = &self.settings;
        let path = request.path.strip_prefix(&*settings.base_path).unwrap_or(&request.path);
        if let Some(place) = self.place(path) {
            return self.pass_on(place, &request, seed);
        }
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
            // Whatever is in it was taken apart before, or cannot be.
            false if route.many => Ok(Body::Object(Fields::default())),
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

        let elsewhere = is_from_elsewhere(settings, &request.headers);
        let only_reads = is_reading(&request.method) && is_reading(&method) && !operation.is_some_and(Operation::hands_out_tokens);
        let foreign = elsewhere && !only_reads;
        let mut brought = Brought::read(&request.headers, !foreign);
        if elsewhere && settings.rotate_refresh_tokens {
            // The jar is closed to tokens, so the successor would be lost, and the next use of this one would end them all.
            brought.forget_refresh();
        }
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
            jar: Jar::new(&brought, EmptyIds(seed), Lid::of(elsewhere, only_reads), request.secure),
            sharing,
            browser: self.browser(&request, &query, &method),
        };
        let Some(operation) = operation else {
            return ControlFlow::Break(envelope.refuse(&Failure::UnknownOperation(&name)));
        };
        let media_type = body_format.media_type();
        if route.many {
            return ControlFlow::Break(no_batch(&route, &request, operation, media_type, envelope));
        }
        let target = return_url(&query).or_else(|| form.and_then(return_url)).map(str::to_owned);
        let body = match body {
            Ok(body) => body,
            Err(why) => {
                let bad = Failure::BadBody { media_type, request: operation.name(), why };
                return ControlFlow::Break(envelope.refuse(&bad));
            }
        };
        let variables = route.variables.into_iter().map(|(name, text)| (name.into(), value::Value::Text(text.into())));
        let form = match &body {
            Body::Form(form) => Some(form),
            Body::Object(_) => None,
        };
        let mut carried = Carried::read(&body);
        // What a page of somebody else's has written into its link is nobody's proof.
        if settings.tokens_in_fields && !elsewhere {
            carried = carried.map(|carried| carried.with_fields(form, &query));
        }
        let fields = match route.predefined {
            Some(_) => Fields::of_predefined(body, query),
            None => Fields::of_route(body, query, Fields::new(variables)),
        };
        let reads = is_reading(&method);
        let bad = |why| Failure::BadBody { media_type, request: operation.name(), why };
        let secret = request.headers.get(OPERATOR_SECRET).map(|secret| Secret::new(secret.as_bytes()));
        let carried = match carried {
            Ok(carried) => Carried { operator_secret: secret, ..carried },
            Err(why) => return ControlFlow::Break(envelope.refuse(&bad(why))),
        };
        let authorization = Authorization::read(&request.headers);
        let unbidden = elsewhere && !is_clicked(&request.headers);
        let call = Call { target, reads, unbidden, brought, authorization, carried };
        let why = match operation {
            Operation::Authenticate => match Authenticate::read(fields) {
                Ok(login) => return self.authenticate(login, call, envelope),
                Err(why) => why,
            },
            Operation::AuthenticateLogout => match AuthenticateLogout::read(fields) {
                Ok(logout) => return self.log_out(logout.return_url, call, envelope),
                Err(why) => why,
            },
            Operation::GetAccessToken => match GetAccessToken::read(fields) {
                Ok(get) => return self.refresh(&get, call, envelope),
                Err(why) => why,
            },
            Operation::ConvertSessionToToken => match ConvertSessionToToken::read(fields) {
                Ok(convert) => return self.convert(&convert, call, envelope),
                Err(why) => why,
            },
            Operation::GetApiKeys | Operation::RegenerateApiKeys => match ApiKeys::read(fields) {
                Ok(keys) => return self.keys(keys, operation == Operation::RegenerateApiKeys, call, envelope),
                Err(why) => why,
            },
            Operation::Register => match Register::read(fields) {
                Ok(register) => return self.register(register, call, envelope),
                Err(why) => why,
            },
            Operation::AssignRoles | Operation::UnAssignRoles => match ChangeRoles::read(fields) {
                Ok(change) => return self.change_roles(change, operation == Operation::UnAssignRoles, call, envelope),
                Err(why) => why,
            },
        };
        ControlFlow::Break(envelope.refuse(&bad(why)))
    }

    fn answer(&self, now: Timestamp, pending: Pending, reply: Reply) -> Response {
        let Pending { asked, mut envelope } = pending;
        match asked {
            Asked::Login(login) => match reply.result.and_then(Answer::granted) {
                Ok(granted) => began(now, granted, login, envelope),
                Err(refusal) => envelope.refuse(&failure(&refusal, &login.provider)),
            },
            Asked::Session(speaks, guarded) => {
                let earns = earns_tokens(&guarded.proofs, &reply.caller);
                match guarded.passed(now, reply, Answer::granted, &mut envelope) {
                    Ok(_) if speaks.of_tokens_alone => envelope.refuse(&Failure::TokenProviderAlone),
                    Ok(granted) => answers::speaks(now, granted, Speaks { earns, ..speaks }, envelope),
                    Err(no) => no.told(envelope),
                }
            }
            Asked::Tokens(guarded, came) => match guarded.passed(now, reply, Answer::granted, &mut envelope) {
                Ok(granted) => {
                    if is_shown(&guarded.proofs) {
                        envelope.jar.part_from_tokens();
                    }
                    converted(now, granted, came, envelope)
                }
                Err(no) => no.told(envelope),
            },
            Asked::Keys { renew, guarded } => match guarded.passed(now, reply, Answer::api_keys, &mut envelope) {
                Ok(keys) => answers::keys(keys, renew, envelope),
                Err(no) => no.told(envelope),
            },
            Asked::Lacking { why, of_roles, guarded } => match guarded.passed(now, reply, Answer::granted, &mut envelope) {
                Ok(granted) if of_roles && !granted.principal.rights.roles.iter().any(|role| role == ADMIN) => {
                    envelope.refuse(&Failure::MissingRole)
                }
                Ok(_) => envelope.refuse(&why),
                Err(_) if of_roles => envelope.refuse(&Failure::NotAuthenticated),
                Err(no) => no.told(envelope),
            },
            Asked::Passing(guarded, passing) => passing.decided(now, &guarded, reply, envelope),
            Asked::Register(login) => match reply.result.and_then(Answer::registered) {
                Ok((account, granted)) => registered(now, &account, granted, login, envelope),
                Err(refusal) => envelope.refuse(&failure(&refusal, "")),
            },
            Asked::Roles { user_name, unassigned } => match reply.result.and_then(Answer::rights) {
                Ok(rights) => {
                    let dto = RolesResponse {
                        unassigned,
                        all_roles: Some(rights.roles),
                        all_permissions: Some(rights.permissions),
                        status: None,
                    };
                    envelope.answer(&dto.dto())
                }
                Err(refusal) if refusal.is_about_the_proof() => envelope.refuse(&Failure::NotAuthenticated),
                Err(refusal) => envelope.refuse(&failure(&refusal, &user_name)),
            },
            Asked::Logout => match reply.result.and_then(Answer::done) {
                Ok(()) => ended(envelope),
                Err(refusal) => envelope.refuse(&failure(&refusal, "")),
            },
            Asked::AccessToken { in_cookie, from_cookie, of_another } => match reply.result.and_then(Answer::granted) {
                Ok(granted) => refreshed(now, granted.tokens, (in_cookie, of_another), envelope),
                Err(refusal) => {
                    if from_cookie && refusal.is_about_the_proof() {
                        envelope.jar.drop_refresh();
                    }
                    match refusal {
                        Refusal::InvalidCredentials | Refusal::LoginRequired | Refusal::WrongAlgorithm { .. } => {
                            envelope.refuse(&Failure::BadRefreshToken)
                        }
                        Refusal::InsecureTransport => envelope.refuse(&Failure::InsecureToken),
                        refusal => envelope.refuse(&failure(&refusal, "")),
                    }
                }
            },
        }
    }
}

impl Service {
    /// The service behind the gate that a path belongs to. What the gate answers itself goes before.
    fn place(&self, path: &str) -> Option<Place> {
        let place = self.settings.services.find(&self.settings.base_path, path)?;
        matches!(routes::find(&self.settings, path), Found::NoOperation(..) | Found::Nothing).then_some(place)
    }

    fn here(&self) -> Here<'_> {
        Here { public_url: self.settings.public_url.as_deref(), base_path: &self.settings.base_path }
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
            // What holds a secret is not written into another address.
            here: (is_reading(method) && !query.names().any(is_secret)).then(here),
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

impl Call {
    fn shown(&self, settings: &Settings) -> (Shown, bool) {
        Shown::of(settings, &self.authorization, &self.carried, &self.brought)
    }
}

/// A request for several that holds none, or cannot be taken apart.
fn no_batch(route: &Route, request: &Request, operation: Operation, media_type: &'static str, mut envelope: Envelope) -> Response {
    let format = batch::answers_in(route, request.query.as_deref());
    envelope.chosen = format.into();
    let content_type = text(&request.headers, CONTENT_TYPE).unwrap_or_default();
    match batch::entries(route, content_type, &request.body, operation.name()) {
        Ok(entries) if entries.is_empty() => envelope.answer_written(batch::written(format, operation.name(), &[])),
        Ok(_) => envelope.refuse(&Failure::BadBody { media_type, request: operation.name(), why: value::Unreadable::Shape }),
        Err(why) => envelope.refuse(&Failure::BadBody { media_type, request: operation.name(), why }),
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

/// Whether a member of that name is nobody else's to see.
fn is_secret(name: &str) -> bool {
    ["Password", "ConfirmPassword", "BearerToken", "RefreshToken", "ss-tok", "ss-reftok", "apikey", "authsecret"]
        .iter()
        .any(|secret| same(name, secret))
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
