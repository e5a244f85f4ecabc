//! TLS: the certificate and key that an operator set, and their exchange while connections live.
//!
//! Decides which versions and keys are spoken (rustls' safe defaults over aws-lc-rs; session tickets on) and when the files
//! are read anew. A connection keeps the certificate that it began with; the next one gets the new. Files that cannot be used
//! change nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

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

/// The certificate in use.
pub struct Certificates {
    files: Files,
    current: RwLock<Arc<ServerConfig>>,
    seen: Mutex<[Option<SystemTime>; 2]>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// One sentence for people.
    pub fn open(files: Files) -> Result<Certificates, String> {
        let seen = stamps(&files);
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Certificates { files, current, seen: Mutex::new(seen) })
    }

    /// What the next connection is served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files anew.
    ///
    /// # Errors
    /// One sentence for people; what was in use stays in use.
    pub fn reload(&self) -> Result<(), String> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps(&self.files);
        let config = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }

    /// Reads the files anew if they have changed. Certificate and key are replaced one after the other, so a pair that does not
    /// fit is tried again when the second file changes.
    pub fn reload_if_changed(&self) {
        let changed = *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != stamps(&self.files);
        if !changed {
            return;
        }
        match self.reload() {
            Ok(()) => tracing::info!("the certificate was read anew"),
            Err(error) => tracing::warn!(error, "the certificate on disk cannot be used, the one in use stays: {error}"),
        }
    }
}

fn stamps(files: &Files) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}

fn read(files: &Files) -> Result<ServerConfig, String> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(failed(&files.certificate, &"there is no certificate in it"));
    }
    closed_to_others(&files.key)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| failed(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| failed(&files.certificate, &error))?;
    config.ticketer = ticketer;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A private key is its owner's alone.
///
/// # Errors
/// One sentence for people.
pub fn closed_to_others(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(format!("{} is open to others (mode {mode:o}); close it with chmod 600", path.display()))
}
