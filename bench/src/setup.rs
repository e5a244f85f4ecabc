//! An installation to measure: a directory of its own with settings and accounts, gone when its value is.
//!
//! The accounts are made through the operators' door, by the core itself, before the server starts on them.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use futures_util::StreamExt;
use futures_util::stream::iter;
use gatepost::config::{Config, Sources};
use gatepost::serve::Core;
use gatepost_identity::account::Rights;
use gatepost_identity::admin::{Admin, NewClient, NewUser, Operator};
use gatepost_identity::keyring::KeyAlgorithm;
use gatepost_identity::refusal::Refusal;
use gatepost_identity::secret::Secret;
use gatepost_identity::terminal::{NewPassword, NewProtection, TerminalRole};

use crate::Outcome;
use crate::http::request;
use crate::requests::JSON;

/// The password of every account.
const PASSWORD: &str = "correct horse battery staple";
/// The client that everybody comes through.
const CLIENT: &str = "bench";
/// What every account holds.
const SCOPES: [&str; 2] = ["Zenith/Market", "Zenith/Trading"];
/// A role, where one is needed.
pub(crate) const ROLE: &str = "Clerk";
/// How many accounts are made at a time, so that their writes share a commit.
const AT_ONCE: usize = 64;

/// Hashing that costs nothing, for measurements in which nobody's password is what is measured.
pub(crate) const CHEAP_PASSWORDS: &str = "[password]\nmemory_kib = 8\niterations = 1\n";

/// The ServiceStack gate, opened. What it vouches by is what it vouches by unless told otherwise.
pub(crate) const SERVICESTACK: &str = "[servicestack]\nclient = 'bench'\n";
/// The same with signed tokens, which go into answers.
pub(crate) const SERVICESTACK_TOKENS: &str =
    "[servicestack]\nclient = 'bench'\nproviders = ['credentials', 'jwt']\nuse_token_cookie = false\n";

/// A directory with settings and data.
pub(crate) struct Installation {
    /// Where it is.
    pub(crate) directory: PathBuf,
}

impl Installation {
    /// Makes one with these settings, added to what every measurement sets, and this many accounts.
    pub(crate) async fn new(settings: &str, accounts: usize) -> Outcome<Installation> {
        let installation = Installation::empty()?;
        installation.furnish(settings, accounts).await?;
        Ok(installation)
    }

    /// Makes the directory alone, for settings that name files in it.
    pub(crate) fn empty() -> Outcome<Installation> {
        let directory = std::env::temp_dir().join(format!("gatepost-bench-{}", std::process::id()));
        std::fs::remove_dir_all(&directory).ok();
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Installation { directory })
    }

    /// Writes a file that nobody else may read, and answers where it is.
    pub(crate) fn file(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.directory.join(name);
        std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?.write_all(text.as_bytes())?;
        Ok(path)
    }

    /// Makes settings and accounts, as [`Installation::new`] does.
    pub(crate) async fn furnish(&self, settings: &str, accounts: usize) -> Outcome<()> {
        // Most measurements have no TLS on loopback.
        let settings = format!("http = '127.0.0.1:0'\nrequire_secure = false\n{settings}");
        std::fs::write(self.config(), settings)?;
        let core = self.core().await?;
        let admin = admin(&core);
        let scopes = || SCOPES.map(str::to_owned).to_vec();
        let client = NewClient { id: CLIENT.to_owned(), scopes: scopes(), ..NewClient::default() };
        admin.add_client(client).await.map_err(|refusal| format!("the client: {}", refusal.word()))?;
        let mut added = iter(0..accounts)
            .map(|number| {
                let password = Some(Secret::new(PASSWORD));
                admin.add_user(NewUser { name: name(number), password, scopes: scopes(), ..NewUser::default() })
            })
            .buffer_unordered(AT_ONCE);
        while let Some(added) = added.next().await {
            added.map_err(|refusal| format!("an account: {}", refusal.word()))?;
        }
        drop(added);
        core.close().await;
        Ok(())
    }

    /// The core, as the server opens it, until it is closed. The server is not started yet.
    async fn core(&self) -> Outcome<Core> {
        let file = Some(self.config());
        let config = Config::load(Sources { file, data: Some(self.data()), ..Sources::default() })?;
        Ok(Core::open(&config.data, config.identity, config.password_threads).await?)
    }

    /// Gives [`ROLE`] to so many accounts.
    pub(crate) async fn roles(&self, accounts: usize) -> Outcome<()> {
        let core = self.core().await?;
        let role = Rights::parse(vec![ROLE.to_owned()], Vec::new()).map_err(|fault| fault.to_string())?;
        for number in 0..accounts {
            let given = admin(&core).change_rights(&name(number), &role, &Rights::default()).await;
            given.map_err(|refusal| format!("a role: {}", refusal.word()))?;
        }
        core.close().await;
        Ok(())
    }

    /// Makes an API key for each of so many accounts.
    pub(crate) async fn keys(&self, accounts: usize) -> Outcome<Vec<String>> {
        let core = self.core().await?;
        let mut keys = Vec::new();
        for number in 0..accounts {
            let added = admin(&core).add_api_key(&name(number), "live", None).await;
            let (_, key) = added.map_err(|refusal| format!("a key: {}", refusal.word()))?;
            keys.push(key.expose_text().ok_or("a key is no text")?.to_owned());
        }
        core.close().await;
        Ok(keys)
    }

    /// Takes over the key with which tokens are signed.
    pub(crate) async fn signed_by(&self, algorithm: KeyAlgorithm, key: &str) -> Outcome<()> {
        let core = self.core().await?;
        let imported = admin(&core).import_key(algorithm, &Secret::new(key)).await;
        imported.map_err(|refusal| format!("the key: {}", refusal.word()))?;
        core.close().await;
        Ok(())
    }

    /// Has each of so many terminals, which the settings name, want a password of its administrator and of its user.
    pub(crate) async fn terminals(&self, terminals: usize) -> Outcome<()> {
        let core = self.core().await?;
        let admin = admin(&core);
        let mut added = iter(0..terminals)
            .map(async |number| {
                let complaint = |refusal: Refusal| format!("a terminal: {}", refusal.word());
                for (role, _) in ROLES {
                    let password = NewPassword::parse(Secret::new(PASSWORD))?;
                    let protected = admin.protect_terminal(&terminal(number), role, NewProtection::Password(password)).await;
                    protected.map_err(complaint)?;
                }
                Outcome::Ok(())
            })
            .buffer_unordered(AT_ONCE);
        while let Some(added) = added.next().await {
            added?;
        }
        drop(added);
        core.close().await;
        Ok(())
    }

    /// The settings.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("gatepost.toml")
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // What is left behind is in the system's own place for such things.
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn admin(core: &Core) -> Admin<'_> {
    core.identity.admin(Operator::Local { uid: rustix::process::getuid().as_raw() })
}

/// The name of an account.
pub(crate) fn name(number: usize) -> String {
    format!("user-{number}")
}

/// The name of a terminal.
pub(crate) fn terminal(number: usize) -> String {
    format!("terminal-{number}")
}

/// The roles of a terminal, the administrator's first: without that one there is no other.
pub(crate) const ROLES: [(TerminalRole, &str); 2] = [(TerminalRole::Administrator, "admin"), (TerminalRole::User, "user")];

/// The section that serves so many terminals, each on a port of the system's choosing.
pub(crate) fn terminals(terminals: usize) -> String {
    let mut section = "[trueconf]\nweb = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\n".to_owned();
    for number in 0..terminals {
        section += &format!("[[trueconf.terminals]]\nname = '{}'\ncontrol = '127.0.0.1:0'\n", terminal(number));
    }
    section
}

/// An authorisation at a terminal by a string: a password or a token.
pub(crate) fn auth(role: &str, credentials: &str) -> String {
    format!(r#"{{"method":"auth","requestId":"1","type":"secured","role":"{role}","credentials":"{credentials}"}}"#)
}

/// The same by the password of the role.
pub(crate) fn auth_by_password(role: &str) -> String {
    auth(role, PASSWORD)
}

/// What stands in an answer that authorises.
pub(crate) const AUTHORISED: &str = r#""resultCode":0"#;

/// The loopback address of a client: each account of a few thousand comes from its own, since failures are counted by it.
pub(crate) fn source(number: usize) -> Ipv4Addr {
    let number = u32::try_from(number % 60_000).unwrap_or(0);
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number)
}

/// The login of an account.
pub(crate) fn auth_owner(number: usize) -> String {
    let name = name(number);
    format!(
        r#"{{"Controller":"Auth","Topic":"AuthOwner","TransactionID":1,"Data":{{"Provider":"local","ClientID":"{CLIENT}","UserName":"{name}","Password":"{PASSWORD}"}}}}"#
    )
}

/// The same login over the ServiceStack gate.
pub(crate) fn credentials(number: usize) -> Vec<u8> {
    let body = format!(r#"{{"UserName":"{}","Password":"{PASSWORD}"}}"#, name(number));
    request("POST /auth/credentials", JSON, body.as_bytes())
}

/// Coming back with a token of this server's.
pub(crate) fn auth_token(token: &str) -> String {
    auth_token_of("local", token)
}

/// Coming with a token that a provider knows.
pub(crate) fn auth_token_of(provider: &str, token: &str) -> String {
    format!(
        r#"{{"Controller":"Auth","Topic":"AuthToken","TransactionID":1,"Data":{{"Provider":"{provider}","AccessToken":"{token}"}}}}"#
    )
}

/// What stands in an answer that grants something.
pub(crate) const SUCCESS: &str = r#""Result":"Success""#;

/// The question who one is.
pub(crate) const QUERY_IDENTIFY: &str = r#"{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":1}"#;
