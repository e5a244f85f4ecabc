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
use gatepost_identity::admin::{NewClient, NewUser, Operator};
use gatepost_identity::secret::Secret;

use crate::Outcome;

/// The password of every account.
const PASSWORD: &str = "correct horse battery staple";
/// The client that everybody comes through.
const CLIENT: &str = "bench";
/// What every account holds.
const SCOPES: [&str; 2] = ["Zenith/Market", "Zenith/Trading"];
/// How many accounts are made at a time, so that their writes share a commit.
const AT_ONCE: usize = 64;

/// Hashing that costs nothing, for measurements in which nobody's password is what is measured.
pub(crate) const CHEAP_PASSWORDS: &str = "[password]\nmemory_kib = 8\niterations = 1\n";

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
        let file = Some(self.config());
        let config = Config::load(Sources { file, data: Some(self.data()), ..Sources::default() })?;
        let core = Core::open(&config.data, config.identity, config.password_threads).await?;
        let admin = core.identity.admin(Operator::Local { uid: rustix::process::getuid().as_raw() });
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

fn name(number: usize) -> String {
    format!("user-{number}")
}

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

/// The question who one is.
pub(crate) const QUERY_IDENTIFY: &str = r#"{"Controller":"Auth","Topic":"QueryIdentify","TransactionID":1}"#;
