//! Who vouches, as the settings say it: the providers of the core, with the keys and secrets that their files hold.
//!
//! Decides what each kind of provider needs and may have. It refuses to know what any of them takes as proof.

use std::path::PathBuf;

use gatepost_identity::account::Rights;
use gatepost_identity::jwt::Issuer;
use gatepost_identity::operator_secret::OperatorSecret;
use gatepost_identity::provider::{Provider, ProviderKind, Providers};
use gatepost_identity::secret::Secret;
use serde::Deserialize;

use crate::config::ConfigError;
use crate::config::origins::Origins;
use crate::listen::tls::closed_to_others as closed_file;

/// The role that the operator's secret has where nothing else is said: that of those who change the roles of others.
const ADMIN: &str = "Admin";

/// A provider as it is written.
#[derive(Deserialize)]
pub(super) struct WrittenProvider {
    name: String,
    kind: Kind,
    #[serde(default)]
    aliases: Vec<String>,
    /// Of kind `token`: whose tokens are taken.
    #[serde(default)]
    issuers: Vec<WrittenIssuer>,
    /// Of kind `secret`: a file that holds it.
    file: Option<PathBuf>,
    /// Of kind `secret`: what whoever shows it may do.
    roles: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WrittenIssuer {
    issuer: String,
    audience: Vec<String>,
    /// A file with a JWK set.
    keys: PathBuf,
    #[serde(default = "usual_algorithms")]
    algorithms: Vec<String>,
}

/// Those with a key pair, so that whoever can verify cannot sign.
fn usual_algorithms() -> Vec<String> {
    ["RS256", "ES256", "EdDSA"].map(str::to_owned).into()
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Local,
    Token,
    ApiKey,
    Secret,
}

/// Those there are where none is written.
pub(super) fn usual() -> Vec<WrittenProvider> {
    let provider = |name: &str, kind, aliases: &[&str]| WrittenProvider {
        name: name.to_owned(),
        kind,
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        issuers: Vec::new(),
        file: None,
        roles: None,
    };
    vec![provider("local", Kind::Local, &["Paritech", "BasicAuth", "credentials"]), provider("apikey", Kind::ApiKey, &[])]
}

/// The providers of the core, with whatever stands in their files.
pub(super) fn read(written: &[WrittenProvider], origins: &Origins) -> Result<Vec<Provider>, ConfigError> {
    let mut providers = Vec::with_capacity(written.len());
    for (index, provider) in written.iter().enumerate() {
        let place = format!("provider[{index}]");
        provider.has_only_its_own(&place, origins)?;
        let kind = match provider.kind {
            Kind::ApiKey => ProviderKind::ApiKey,
            Kind::Local => ProviderKind::Local,
            Kind::Token => ProviderKind::Token(provider.issuers(&place, origins)?),
            Kind::Secret => ProviderKind::Secret(provider.secret(&place, origins)?),
        };
        providers.push(Provider { name: provider.name.clone(), kind, aliases: provider.aliases.clone() });
    }
    if providers.is_empty() {
        return Err(origins.complain("provider", "names no provider, so nobody could log in"));
    }
    Providers::new(providers.clone()).map_err(|fault| origins.complain("provider", &fault))?;
    Ok(providers)
}

impl WrittenProvider {
    /// Refuses what a provider of another kind would have.
    fn has_only_its_own(&self, place: &str, origins: &Origins) -> Result<(), ConfigError> {
        let kind = match self.kind {
            Kind::Local => "local",
            Kind::Token => "token",
            Kind::ApiKey => "apikey",
            Kind::Secret => "secret",
        };
        let rows = [
            ("issuers", !self.issuers.is_empty(), "token"),
            ("file", self.file.is_some(), "secret"),
            ("roles", self.roles.is_some(), "secret"),
        ];
        match rows.into_iter().find(|(_, is_there, whose)| *is_there && *whose != kind) {
            Some((key, ..)) => Err(origins.complain(&format!("{place}.{key}"), &format!("a provider of kind {kind} has none"))),
            None => Ok(()),
        }
    }

    fn secret(&self, place: &str, origins: &Origins) -> Result<OperatorSecret, ConfigError> {
        let Some(file) = &self.file else {
            return Err(origins.complain(place, "a provider of kind secret needs a `file`"));
        };
        let complain = |fault: String| origins.complain(&format!("{place}.file"), &fault);
        let text = std::fs::read(file).map_err(|error| complain(format!("{} cannot be read: {error}", file.display())))?;
        closed_file(file).map_err(complain)?;
        let text = Secret::new(text.trim_ascii_end());
        let roles = self.roles.clone().unwrap_or_else(|| vec![ADMIN.to_owned()]);
        let rights = Rights::parse(roles, Vec::new());
        let rights = rights.map_err(|what| origins.complain(&format!("{place}.roles"), &what.to_string()))?;
        OperatorSecret::new(&text, rights).map_err(|fault| complain(format!("{} {fault}", file.display())))
    }

    fn issuers(&self, place: &str, origins: &Origins) -> Result<Vec<Issuer>, ConfigError> {
        if self.issuers.is_empty() {
            return Err(origins.complain(place, "a provider of kind token needs `issuers`"));
        }
        let read = |(index, written): (usize, &WrittenIssuer)| {
            let place = format!("{place}.issuers[{index}]");
            let file = written.keys.display();
            let keys = std::fs::read_to_string(&written.keys)
                .map_err(|error| origins.complain(&format!("{place}.keys"), &format!("{file} cannot be read: {error}")))?;
            let issuer = Issuer::new(&written.issuer, written.audience.clone(), &keys, &written.algorithms);
            let issuer = issuer.map_err(|fault| origins.complain(&place, &fault))?;
            if issuer.has_shared_secret() {
                closed_file(&written.keys).map_err(|fault| origins.complain(&format!("{place}.keys"), &fault))?;
            }
            Ok(issuer)
        };
        self.issuers.iter().enumerate().map(read).collect()
    }
}
