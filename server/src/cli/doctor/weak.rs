//! Which settings weaken something: each is allowed, and each lets others do what they could not do otherwise.

use gatepost_identity::session::OnReuse;
use gatepost_identity::throttle::ThrottleSettings;

use crate::config::Config;

/// How many times as many guesses as by default are too many.
const TIMES: u32 = 10;

/// A setting that weakens something.
pub(in crate::cli) struct Weak {
    /// The setting, and what others can do.
    pub(in crate::cli) what: String,
    /// What to do about it.
    pub(in crate::cli) remedy: String,
}

fn weak(key: &str, what: &str, remedy: impl Into<String>) -> Weak {
    Weak { what: format!("{key}: {what}"), remedy: remedy.into() }
}

/// All of them, in the order in which `docs/settings.md` has them.
pub(in crate::cli) fn weakened(config: &Config) -> Vec<Weak> {
    let identity = &config.identity;
    let mut found = Vec::new();
    for gate in &identity.insecure_gates {
        let what = "require_secure = false, so passwords and secure-only scopes travel where others can read them";
        found.push(weak(gate, what, "take require_secure = false away, and give peers TLS"));
    }
    for network in config.proxies.trusted.iter().filter(|network| network.prefix_len() == 0) {
        let what = format!("trusts {network}, so whoever comes says by itself where it comes from, and is never throttled");
        found.push(weak("proxy.trusted", &what, "name the addresses of your proxies only"));
    }
    let passwords = &identity.passwords;
    if passwords.memory < 19 * 1024 && passwords.iterations < 3 {
        let what = "weaker than 19 MiB and 2 passes, the least that OWASP recommends for Argon2id";
        found.push(weak(
            "password",
            what,
            "take memory_kib and iterations away; each password is hashed anew at its next good login",
        ));
    }
    let (throttle, usual) = (&identity.throttle, ThrottleSettings::default());
    let many = [
        ("throttle.name_free", throttle.name_free, usual.name_free),
        ("throttle.source_free", throttle.source_free, usual.source_free),
        ("throttle.token_free", throttle.token_free, usual.token_free),
    ];
    for (key, free, usual) in many {
        if free > usual.saturating_mul(TIMES) {
            found.push(weak(
                key,
                &format!("{free} guesses are free, where {usual} are by default"),
                format!("set it to {usual} or so"),
            ));
        }
    }
    if identity.sessions.on_reuse == OnReuse::Refuse {
        let what = "\"refuse\", so whoever stole a token keeps what grew from it when its owner comes back";
        found.push(weak("session.on_reuse", what, "set it to \"end\""));
    }
    if let Some(address) = config.management.filter(|address| !address.ip().is_loopback()) {
        let what =
            format!("open to others at {address}; whoever reaches it reads how busy the server is, and nothing is encrypted");
        let remedy = "listen on loopback, or on a network that only whoever watches the server reaches";
        found.push(weak("management.listen", &what, remedy));
    }
    for (gate, section) in &config.gates {
        // What cannot be read was refused before.
        for own in (gate.weakens)(section).unwrap_or_default() {
            found.push(weak(&format!("{}.{}", gate.name, own.key), &own.what, own.remedy));
        }
        let own = (gate.own)(section).ok().flatten();
        let plain = own.iter().flat_map(|own| &own.listeners);
        for listener in plain.filter(|listener| !listener.encrypted && !listener.place.address.ip().is_loopback()) {
            let what = format!("open to others at {}, and nothing is encrypted there", listener.place.address);
            let remedy = format!("set tls = true below [{}], or listen on loopback behind a tunnel", gate.name);
            found.push(weak(&format!("{}.{}", gate.name, listener.name), &what, remedy));
        }
    }
    found
}
