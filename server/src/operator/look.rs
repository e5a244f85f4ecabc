//! What an operator looks at, piece by piece: sessions and lines of the audit, as they are asked for and told.

use gatepost_identity::account::ClientId;
use gatepost_identity::admin::{Admin, AuditPage, SessionFilter, SessionPage, SessionView};
use gatepost_identity::audit::{AttemptId, AuditFilter};
use gatepost_identity::clock::Timestamp;
use gatepost_identity::refusal::Refusal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::facts::{self, moment};
use super::session_id;

/// Which lines of the audit, and where to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditAsk {
    /// Written at or after this moment, in milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Written before this moment, likewise.
    pub until: Option<i64>,
    /// About the user with this name, address or id.
    pub account: Option<String>,
    /// About the client with this id.
    pub client: Option<String>,
    /// About the session with this id.
    pub session: Option<String>,
    /// Of the attempt with this id.
    pub attempt: Option<String>,
    /// Of this gate.
    pub gate: Option<String>,
    /// With this action.
    pub action: Option<String>,
    /// With this outcome, or `refused`.
    pub outcome: Option<String>,
    /// Where this name was claimed.
    pub name: Option<String>,
    /// From this source.
    pub source: Option<String>,
    /// Whether to go on to newer lines, oldest first; otherwise to older ones, newest first.
    pub forwards: bool,
    /// The number of the line after or before which to go on; none: from the first or the last there is.
    pub from: Option<u64>,
    /// How many, 1 to 1000.
    pub limit: usize,
}

/// Which sessions, and where to go on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionAsk {
    /// Of the user with this name, address or id.
    pub user: Option<String>,
    /// That came through the client with this id.
    pub client: Option<String>,
    /// That came through this gate.
    pub gate: Option<String>,
    /// That began at this address.
    pub source: Option<String>,
    /// The session after which to go on to older ones.
    pub after: Option<String>,
    /// How many, 1 to 1000.
    pub limit: usize,
}

/// A piece of the audit: its lines, and where the next piece goes on.
pub(super) async fn audit(admin: &Admin<'_>, ask: AuditAsk) -> Result<Value, Refusal> {
    let filter = AuditFilter {
        since: ask.since.map(Timestamp::from_millis),
        until: ask.until.map(Timestamp::from_millis),
        account: match &ask.account {
            Some(text) => Some(admin.account_meant(text).await?),
            None => None,
        },
        client: ask.client.as_deref().map(client_id).transpose()?,
        session: ask.session.as_deref().map(session_id).transpose()?,
        attempt: ask.attempt.as_deref().map(attempt_id).transpose()?,
        gate: ask.gate,
        action: ask.action,
        outcome: ask.outcome,
        name: ask.name,
        source: ask.source,
    };
    let page = match ask.forwards {
        true => admin.audit_forwards(&filter, ask.from, ask.limit).await?,
        false => admin.audit_backwards(&filter, ask.from, ask.limit).await?,
    };
    let AuditPage { rows, first, last, last_at, seen, is_end } = page;
    let rows: Value = rows.iter().map(facts::audit).collect();
    Ok(json!({ "rows": rows, "first": first, "last": last, "last_at": last_at.map(moment), "seen": seen, "end": is_end }))
}

/// A piece of the sessions, and where the next piece goes on.
pub(super) async fn sessions(admin: &Admin<'_>, ask: SessionAsk) -> Result<Value, Refusal> {
    let filter = SessionFilter {
        account: match &ask.user {
            Some(text) => Some(admin.account_meant(text).await?),
            None => None,
        },
        client: ask.client.as_deref().map(client_id).transpose()?,
        gate: ask.gate,
        source: ask.source,
    };
    let after = ask.after.as_deref().map(session_id).transpose()?;
    let SessionPage { rows, next, seen } = admin.session_page(&filter, after, ask.limit).await?;
    let rows: Value = rows.iter().map(facts::session).collect();
    Ok(json!({ "rows": rows, "next": next.map(|id| id.0.to_string()), "seen": seen }))
}

/// One session with everything that is known of it.
pub(super) fn session(view: &SessionView) -> Value {
    use gatepost_identity::scope::ScopeRequest;
    let session = &view.session;
    let mut told = facts::session(view);
    told["account"] = json!(session.account.map(|id| id.0.to_string()));
    told["requested"] = match &session.requested {
        ScopeRequest::Maximum => json!("all that can be had"),
        ScopeRequest::Nothing => json!([]),
        ScopeRequest::AnyOf(scopes) => facts::names(scopes),
    };
    told["expires_at"] = json!(session.expires_at.map(moment));
    told["ended_at"] = json!(session.ended.map(|ended| moment(ended.at)));
    told["ended_for"] = json!(session.ended.map(|ended| ended.reason.word()));
    told
}

fn attempt_id(text: &str) -> Result<AttemptId, Refusal> {
    uuid::Uuid::parse_str(text).map(AttemptId).map_err(|_| Refusal::Invalid(vec![format!("{text:?} is no id of an attempt")]))
}

fn client_id(text: &str) -> Result<ClientId, Refusal> {
    ClientId::parse(text).map_err(|fault| Refusal::Invalid(vec![fault.to_string()]))
}
