//! TLS: the certificate and key that an operator set, and their exchange while connections live.
//!
//! Decides which versions and keys are spoken (rustls' safe defaults over aws-lc-rs; session tickets on) and when the files
//! are read anew. A connection keeps the certificate that it began with; the next one gets the new. Files that cannot be used
//! change nothing.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Where certificate and key stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate and those that vouch for it, in PEM, the server's own first.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// What an operator may have to change where a pair cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The certificate.
    Certificate,
    /// The key.
    Key,
}

/// A pair that cannot be used, and why, in one sentence for people.
#[derive(Debug)]
pub struct Unusable {
    /// Which file is at fault; the certificate where the two do not fit.
    pub culprit: Culprit,
    what: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The certificate in use.
pub struct Certificates {
    current: RwLock<Arc<ServerConfig>>,
    /// Where they stand, and what they were when they were last read with success.
    files: Mutex<(Files, [Option<Stamp>; 2])>,
    /// What was last said against the files.
    complained: Mutex<Option<String>>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file is at fault, and why.
    pub fn open(files: Files) -> Result<Certificates, Unusable> {
        let seen = files.stamps();
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Certificates { current, files: Mutex::new((files, seen)), complained: Mutex::default() })
    }

    /// What the next connection is served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes over to those of another, which may stand elsewhere.
    pub fn follow(&self, other: Certificates) {
        let current = other.current.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        *self.files() = other.files.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.complained.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn files(&self) -> MutexGuard<'_, (Files, [Option<Stamp>; 2])> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files anew if they have changed since they were last read with success. Certificate and key are replaced one after
    /// the other, so a pair that does not fit is tried again; each complaint is said once.
    pub fn reload_if_changed(&self) {
        let (files, seen) = self.files().clone();
        if seen == files.stamps() {
            return;
        }
        match Certificates::open(files) {
            Ok(read) => {
                self.follow(read);
                tracing::info!("the certificate was read anew");
            }
            Err(error) => {
                let said = Some(error.to_string());
                let before = std::mem::replace(&mut *self.complained.lock().unwrap_or_else(PoisonError::into_inner), said.clone());
                if before != said {
                    tracing::warn!(%error, "the certificate on disk cannot be used, the one in use stays: {error}");
                }
            }
        }
    }
}

/// What tells a file from the one before: its number, its size, and when it was last changed in content or in mode. Its own
/// time of writing may be any, where files are unpacked or copied with their times.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    number: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Files {
    fn stamps(&self) -> [Option<Stamp>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some(Stamp {
                number: (metadata.dev(), metadata.ino()),
                size: metadata.size(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            })
        })
    }
}

fn read(files: &Files) -> Result<ServerConfig, Unusable> {
    let bad_certificate = |error: &dyn fmt::Display| unusable(Culprit::Certificate, &files.certificate, error);
    let bad_key = |error: &dyn fmt::Display| unusable(Culprit::Key, &files.key, error);
    closed_to_others(&files.key).map_err(|what| Unusable { culprit: Culprit::Key, what })?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad_key(&error))?;
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad_certificate(&error))?;
    if chain.is_empty() {
        return Err(bad_certificate(&"there is no certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| bad_key(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad_key(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => bad_certificate(&format_args!("it does not fit the key {}", files.key.display())),
            rustls::Error::General(_) => bad_key(&error),
            error => bad_certificate(&error),
        })?;
    config.ticketer = ticketer;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn unusable(culprit: Culprit, path: &Path, error: &dyn fmt::Display) -> Unusable {
    Unusable { culprit, what: format!("{}: {error}", path.display()) }
}

/// A secret file is its owner's alone.
///
/// # Errors
/// One sentence for people.
pub(crate) fn closed_to_others(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!("{} is open to others (mode {mode:o}); close it with chmod 600", path.display()))
}
