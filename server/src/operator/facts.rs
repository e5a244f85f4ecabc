//! What operators are told: accounts, clients, grants, keys, sessions and lines of the audit as JSON, and a refusal as a sentence.

use gatepost_identity::account::{Account, Client};
use gatepost_identity::admin::SessionView;
use gatepost_identity::api_key::ApiKey;
use gatepost_identity::audit::AuditRow;
use gatepost_identity::clock::Timestamp;
use gatepost_identity::keyring::SigningKey;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::scope::{ScopeRequest, Scopes};
use gatepost_identity::secret::Secret;
use gatepost_identity::store::Grant;
use serde_json::{Value, json};

/// A moment as operators read it: RFC 3339 in UTC.
pub(super) fn moment(at: Timestamp) -> Value {
    match jiff::Timestamp::from_millisecond(at.millis()) {
        Ok(moment) => json!(moment.to_string()),
        Err(_) => Value::Null,
    }
}

pub(super) fn user(account: &Account) -> Value {
    json!({
        "name": account.name.as_str(),
        "id": account.subject,
        "email": account.email.as_ref().map(|email| email.as_str()),
        "display_name": account.display_name,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "profile_url": account.profile_url,
        "status": account.status.word(),
        "roles": account.rights.roles,
        "permissions": account.rights.permissions,
        "scopes": names(&account.scopes),
        "expires_at": account.expires_at.map(moment),
        "has_password": account.password.is_some(),
        "created_at": moment(account.created_at),
        "account": account.id.0.to_string(),
    })
}

pub(super) fn client(client: &Client) -> Value {
    json!({
        "id": client.id.as_str(),
        "display_name": client.display_name,
        "kind": if client.secret.is_some() { "confidential" } else { "public" },
        "status": client.status.word(),
        "scopes": names(&client.scopes),
        "receives_token": client.receives_token,
        "expires_at": client.expires_at.map(moment),
        "created_at": moment(client.created_at),
    })
}

/// With the secret that was drawn; it is told this once.
pub(super) fn client_with(changed: &Client, drawn: Option<Secret>) -> Value {
    let mut facts = client(changed);
    if let Some(secret) = drawn {
        facts["secret"] = json!(secret.expose_text());
    }
    facts
}

/// With the code; it is told this once.
pub(super) fn minted(grant: &Grant, user: &str, code: &Secret) -> Value {
    let scopes = match &grant.scopes {
        ScopeRequest::Maximum => Value::Null,
        ScopeRequest::Nothing => json!([]),
        ScopeRequest::AnyOf(scopes) => names(scopes),
    };
    json!({
        "code": code.expose_text(),
        "client": grant.client.as_str(),
        "user": user,
        "provider": grant.provider,
        "scopes": scopes,
        "expires_at": moment(grant.expires_at),
    })
}

pub(super) fn names(scopes: &Scopes) -> Value {
    scopes.iter().map(|scope| scope.as_str()).collect()
}

pub(super) fn session(view: &SessionView) -> Value {
    let session = &view.session;
    json!({
        "id": session.id.0.to_string(),
        "user": view.user,
        "client": session.client.as_str(),
        "gate": session.gate,
        "provider": session.provider,
        "source": session.source.to_string(),
        "started_at": moment(session.started_at),
        "used_at": moment(session.used_at),
        "connections": view.connections,
    })
}

pub(super) fn audit(row: &AuditRow) -> Value {
    json!({
        "number": row.number,
        "at": moment(row.at),
        "action": row.action,
        "outcome": row.outcome,
        "gate": row.gate,
        "name": row.name,
        "source": row.source,
        "account": row.account.map(|id| id.0.to_string()),
        "client": row.client.as_ref().map(|id| id.as_str()),
        "session": row.session.map(|id| id.0.to_string()),
        "attempt": row.attempt.map(|id| id.0.to_string()),
        "count": row.count,
        "hash": row.hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    })
}

/// A refusal as a sentence for operators.
pub(super) fn explain(refusal: &Refusal) -> String {
    match refusal {
        Refusal::AlreadyExists("id") => "somebody has this id already".to_owned(),
        Refusal::AlreadyExists("terminal") => "there is a terminal of that name already".to_owned(),
        Refusal::AlreadyExists(field) => format!("somebody has this {field} already, as name or as e-mail address"),
        Refusal::NotFound(what) => format!("there is no such {what}"),
        Refusal::Invalid(faults) => faults.join("; "),
        Refusal::PlanRequired => "that needs the plan pro".to_owned(),
        Refusal::Unavailable => "the store or a thread failed; the log says more".to_owned(),
        other => format!("refused: {}", other.word()),
    }
}

/// Without its text.
pub(super) fn api_key(key: &ApiKey) -> Value {
    json!({
        "prefix": key.prefix,
        "environment": key.environment,
        "kind": key.kind,
        "created_at": moment(key.created_at),
        "expires_at": key.expires_at.map(moment),
        "cancelled_at": key.cancelled_at.map(moment),
    })
}

/// With the text; it is told this once.
pub(super) fn made_api_key(key: &ApiKey, text: &Secret) -> Value {
    let mut facts = api_key(key);
    facts["key"] = json!(text.expose_text());
    facts
}

/// Without its secret.
pub(super) fn key(key: &SigningKey) -> Value {
    json!({
        "number": key.number,
        "purpose": key.purpose.word(),
        "algorithm": key.algorithm.word(),
        "created_at": moment(key.created_at),
        "retired_at": key.retired.map(|retired| moment(retired.at)),
        "verifies_until": key.retired.map(|retired| moment(retired.until)),
    })
}
