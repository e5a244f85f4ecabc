//! What an operator asks about terminals, done; and terminals as operators are told of them.

use gatepost_identity::admin::{Admin, TerminalView};
use gatepost_identity::refusal::Refusal;
use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::{Guard, NewPassword, NewProtection, Plan, Protection, TerminalRole};
use gatepost_protocols::looks_like_a_terminals_token;
use serde_json::{Value, json};

use super::Told;

/// Protects a role; tells the PIN, where one was drawn.
pub(super) async fn protect(admin: &Admin<'_>, name: &str, role: &str, by: &str, password: Option<Told>) -> Result<Value, Refusal> {
    let to = match (by, password.map(Told::secret)) {
        ("unsecured", None) => NewProtection::Unsecured,
        ("pin", None) => NewProtection::Pin,
        ("password", Some(password)) => {
            if password.expose_text().is_some_and(looks_like_a_terminals_token) {
                return Err(wrong(&"it looks like a token, which is never taken for a password"));
            }
            NewProtection::Password(NewPassword::parse(password).map_err(|what| wrong(&what))?)
        }
        _ => return Err(wrong(&format!("{by:?} with or without a password is no protection"))),
    };
    let (view, pin) = admin.protect_terminal(name, role_named(role)?, to).await?;
    let mut facts = facts(&view);
    if let Some(pin) = pin.as_ref().and_then(Secret::expose_text) {
        facts["pin"] = json!(pin);
    }
    Ok(facts)
}

/// A role's PIN.
pub(super) async fn pin(admin: &Admin<'_>, name: &str, role: &str) -> Result<Value, Refusal> {
    let TerminalView { terminal, .. } = admin.terminal(name).await?;
    let guard = match role_named(role)? {
        TerminalRole::Administrator => &terminal.administrator,
        TerminalRole::User => &terminal.user,
    };
    match guard {
        Guard::Pin(pin) => Ok(json!({ "name": terminal.name.as_str(), "role": role, "pin": pin.expose_text() })),
        Guard::Unsecured | Guard::Password(_) => Err(Refusal::NotFound("PIN: the role is not protected by one")),
    }
}

/// A plan by its word.
pub(super) fn plan(word: &str) -> Result<Plan, Refusal> {
    Plan::parse(word).ok_or_else(|| wrong(&format!("{word:?} is no plan")))
}

/// Without any secret.
pub(super) fn facts(view: &TerminalView) -> Value {
    let TerminalView { terminal, is_served, connections } = view;
    json!({
        "name": terminal.name.as_str(),
        "plan": terminal.plan.word(),
        "administrator": protection(&terminal.administrator),
        "user": protection(&terminal.user),
        "served": is_served,
        "connections": connections,
    })
}

fn protection(guard: &Guard) -> &'static str {
    match guard.protection() {
        Protection::Unsecured => "unsecured",
        Protection::Password => "password",
        Protection::Pin => "pin",
    }
}

fn role_named(word: &str) -> Result<TerminalRole, Refusal> {
    TerminalRole::BOTH.into_iter().find(|role| role.word() == word).ok_or_else(|| wrong(&format!("{word:?} is no role")))
}

fn wrong(what: &dyn std::fmt::Display) -> Refusal {
    Refusal::Invalid(vec![what.to_string()])
}
